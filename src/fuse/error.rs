//! Why a volume cannot be mounted: one line each, with what to do about it.
//!
//! Must not know: command lines, exit codes. Invariant: the text of every variant names the path it is about.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a volume cannot be mounted. The text is one line: what is wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The mount point is not there.
    #[error("mount point {} does not exist: create it with `mkdir -p {}`", .0.display(), .0.display())]
    MountpointMissing(PathBuf),
    /// The mount point is a file.
    #[error("mount point {} is not a directory: give an empty directory", .0.display())]
    MountpointNotDirectory(PathBuf),
    /// Something is mounted there.
    #[error("mount point {} is busy: {source_name} ({fstype}) is mounted there; unmount it (umount {}) or use another directory",
        .mountpoint.display(), .mountpoint.display())]
    Busy {
        /// The mount point.
        mountpoint: PathBuf,
        /// Type of what is mounted.
        fstype: String,
        /// Name of what is mounted.
        source_name: String,
    },
    /// A dead mount of an earlier crash cannot be cleaned away.
    #[error("mount point {} holds the dead mount of an earlier crash that cannot be unmounted ({cause}): \
        run `sudo umount -l {}`", .mountpoint.display(), .mountpoint.display())]
    DeadMount {
        /// The mount point.
        mountpoint: PathBuf,
        /// What the kernel or `fusermount3` said.
        cause: io::Error,
    },
    /// The backing is not there.
    #[error("backing {} does not exist: give the directory that holds (or is to hold) the data", .0.display())]
    BackingMissing(PathBuf),
    /// The backing is a file.
    #[error("backing {} is not a directory: give the directory that holds the data", .0.display())]
    BackingNotDirectory(PathBuf),
    /// One is below the other, or they are the same.
    #[error("mount point {} and backing {} lie inside each other: use two directories side by side",
        .mountpoint.display(), .backing.display())]
    Nested {
        /// The mount point.
        mountpoint: PathBuf,
        /// The backing directory.
        backing: PathBuf,
    },
    /// Another volume's backing overlaps.
    #[error("backing {} overlaps with {}, the backing of the volume at {}: two volumes would provision the same space; \
        unmount that one or use another directory", .backing.display(), .other.display(), .mountpoint.display())]
    Overlap {
        /// The backing of the volume that is to be mounted.
        backing: PathBuf,
        /// The backing of the mounted volume.
        other: PathBuf,
        /// Where theirs is mounted.
        mountpoint: PathBuf,
    },
    /// A path that cannot be looked at.
    #[error("{}: {cause}", .path.display())]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// The error of the system.
        cause: io::Error,
    },
    /// No FUSE on this machine.
    #[error("/dev/fuse is missing ({0}): run `sudo modprobe fuse`; in a container add `--device /dev/fuse`")]
    NoDevice(io::Error),
    /// No right to use it.
    #[error("no right to open /dev/fuse ({0}): run with sudo, or `sudo chmod 666 /dev/fuse`")]
    DeviceDenied(io::Error),
    /// No mount helper for a user other than root.
    #[error(
        "fusermount3 is missing, which users other than root need to mount: \
        run `sudo apt-get install fuse3`, or run with sudo"
    )]
    NoFusermount,
    /// `--allow-other` is not permitted.
    #[error(
        "allow-other is not permitted to users other than root: \
        run `echo user_allow_other | sudo tee -a /etc/fuse.conf`, or mount without it"
    )]
    AllowOtherDenied,
    /// The kernel does not let this process mount.
    #[error("no right to mount on {} ({cause}): run with sudo; in a container add `--cap-add SYS_ADMIN \
        --security-opt apparmor=unconfined`", .mountpoint.display())]
    MountDenied {
        /// The mount point.
        mountpoint: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
    /// The site's request timeout is shorter than the longest hold.
    #[error("the kernel aborts a FUSE mount with a request older than {} s (fs.fuse.default_request_timeout, \
        fs.fuse.max_request_timeout), but operations may be held for {} s: use a shorter --max-hold, or run \
        `sudo sysctl -w fs.fuse.default_request_timeout=0 fs.fuse.max_request_timeout=0`",
        .timeout.as_secs(), .max_hold.as_secs())]
    RequestTimeout {
        /// The kernel's limit.
        timeout: Duration,
        /// The longest hold that the options allow.
        max_hold: Duration,
    },
    /// Anything else that the kernel or `fusermount3` refuses.
    #[error("cannot mount on {}: {step}: {cause}", .mountpoint.display())]
    Failed {
        /// The mount point.
        mountpoint: PathBuf,
        /// At which step.
        step: &'static str,
        /// The error of the system.
        cause: io::Error,
    },
}

/// Why a volume's end is not complete.
#[derive(Debug, thiserror::Error)]
pub enum UnmountError {
    /// The kernel or `fusermount3` does not let it go.
    #[error("{} cannot be unmounted ({cause}); it is dead now: run `sudo umount -l {}`",
        .mountpoint.display(), .mountpoint.display())]
    StillMounted {
        /// The mount point.
        mountpoint: PathBuf,
        /// What the kernel or `fusermount3` said.
        cause: io::Error,
    },
    /// Threads wait for the backing and cannot be woken.
    #[error("{} is unmounted, but its threads do not end: {cause}", .mountpoint.display())]
    ThreadsHang {
        /// Where it was.
        mountpoint: PathBuf,
        /// The error of the system.
        cause: io::Error,
    },
}
