//! How a FUSE file system gets into the mount table, and out of it.
//!
//! Must not know: what is mounted. Invariant: an [`Unattached`] that is dropped leaves nothing mounted.
//!
//! As root, the mount is made first and put in its place last (`fsopen` .. `move_mount`): no process can see it before it
//! serves. Other users need the setuid helper `fusermount3`, which mounts in place at once.

use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{getgid, getuid};

use super::error::MountError;
use super::kernel::{MountIdentity, identity_of};

/// The device through which the kernel talks to a FUSE daemon.
pub(crate) const DEVICE: &str = "/dev/fuse";

/// What the mount table says about a mount.
#[derive(Debug, Clone)]
pub(crate) struct MountTableOptions {
    pub(crate) fsname: String,
    pub(crate) allow_other: bool,
    pub(crate) read_only: bool,
}

/// A mount whose daemon is not running yet.
#[derive(Debug)]
pub(crate) struct Unattached {
    mountpoint: PathBuf,
    identity: MountIdentity,
    device: OwnedFd,
    /// The mount's root, through which it can be reached before others see it.
    root: OwnedFd,
    /// It is in the mount table already, and goes out of it again unless [`Unattached::attach`] says it may stay.
    in_place: bool,
}

impl Unattached {
    /// Makes the mount; `mountpoint` must be canonical.
    pub(crate) fn new(mountpoint: &Path, options: &MountTableOptions) -> Result<Self, MountError> {
        if getuid().is_root() { Self::as_root(mountpoint, options) } else { Self::as_user(mountpoint, options) }
    }

    fn as_root(mountpoint: &Path, options: &MountTableOptions) -> Result<Self, MountError> {
        let failed = |step| move |cause: rustix::io::Errno| refused(mountpoint, step, cause.into());
        let device = open_device()?;
        let context = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed("fsopen (needs Linux 5.5)"))?;
        configure(context.as_fd(), device.as_fd(), options).map_err(failed("mount options"))?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        let root = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(failed("fsmount"))?;
        let identity = identity_of(root.as_fd()).map_err(|cause| refused(mountpoint, "stat", cause))?;
        Ok(Self { mountpoint: mountpoint.to_owned(), identity, device, root, in_place: false })
    }

    fn as_user(mountpoint: &Path, options: &MountTableOptions) -> Result<Self, MountError> {
        let failed = |step| move |cause: io::Error| refused(mountpoint, step, cause);
        let device = fusermount_mount(mountpoint, options).map_err(failed("fusermount3"))?;
        let undo = |cause: io::Error| {
            let _gone = detach(mountpoint, Detach::Lazily);
            refused(mountpoint, "stat", cause)
        };
        let root =
            open(mountpoint, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|cause| undo(cause.into()))?;
        let identity = identity_of(root.as_fd()).map_err(undo)?;
        Ok(Self { mountpoint: mountpoint.to_owned(), identity, device, root, in_place: true })
    }

    /// Which mount it is.
    pub(crate) const fn identity(&self) -> MountIdentity {
        self.identity
    }

    /// The daemon's end of the connection.
    pub(crate) fn device(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }

    /// The mount's root directory.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Puts it in its place, where all processes see it. The daemon must be running.
    pub(crate) fn attach(mut self) -> Result<(), MountError> {
        if self.in_place {
            self.in_place = false;
            return Ok(());
        }
        move_mount(&self.root, c"", CWD, &self.mountpoint, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(|cause| refused(&self.mountpoint, "move_mount", cause.into()))
    }
}

impl Drop for Unattached {
    fn drop(&mut self) {
        if self.in_place {
            let _gone = detach(&self.mountpoint, Detach::Lazily);
        }
    }
}

/// How to unmount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detach {
    /// Only if no process uses it.
    IfUnused,
    /// At once for processes that come later; those that use it keep it.
    Lazily,
}

/// Unmounts what is mounted at `mountpoint`.
pub(crate) fn detach(mountpoint: &Path, how: Detach) -> io::Result<()> {
    let lazily = if how == Detach::Lazily { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    match unmount(mountpoint, lazily | UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::PERM) => fusermount_unmount(mountpoint, how),
        Err(cause) => Err(cause.into()),
    }
}

/// Opens `/dev/fuse`, or says what is missing.
pub(crate) fn open_device() -> Result<OwnedFd, MountError> {
    open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(|cause| match cause {
        rustix::io::Errno::ACCESS | rustix::io::Errno::PERM => MountError::DeviceDenied(cause.into()),
        _ => MountError::NoDevice(cause.into()),
    })
}

/// `fusermount3`, the mount helper for users other than root, wherever it is.
pub fn find_fusermount() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(usual).map(|dir| dir.join("fusermount3")).find(|file| file.is_file())
}

fn configure(context: BorrowedFd<'_>, device: BorrowedFd<'_>, options: &MountTableOptions) -> rustix::io::Result<()> {
    use std::os::fd::AsRawFd;

    fsconfig_set_string(context, "source", &options.fsname)?;
    fsconfig_set_string(context, "subtype", "stunfs")?;
    fsconfig_set_string(context, "fd", device.as_raw_fd().to_string())?;
    fsconfig_set_string(context, "rootmode", "40000")?;
    fsconfig_set_string(context, "user_id", getuid().as_raw().to_string())?;
    fsconfig_set_string(context, "group_id", getgid().as_raw().to_string())?;
    fsconfig_set_flag(context, "default_permissions")?;
    if options.allow_other {
        fsconfig_set_flag(context, "allow_other")?;
    }
    if options.read_only {
        fsconfig_set_flag(context, "ro")?;
    }
    fsconfig_create(context)
}

fn refused(mountpoint: &Path, step: &'static str, cause: io::Error) -> MountError {
    let mountpoint = mountpoint.to_owned();
    if cause.raw_os_error() == Some(rustix::io::Errno::PERM.raw_os_error()) {
        return MountError::MountDenied { mountpoint, cause };
    }
    MountError::Failed { mountpoint, step, cause }
}

/// Mounts through the setuid helper, which hands the device over on the socket that is its standard input.
fn fusermount_mount(mountpoint: &Path, options: &MountTableOptions) -> io::Result<OwnedFd> {
    let helper = find_fusermount().ok_or_else(|| io::Error::other("not found"))?;
    let (ours, theirs) = UnixStream::pair()?;
    let child = Command::new(helper)
        .args(["-o", &fusermount_options(options), "--"])
        .arg(mountpoint)
        .env("_FUSE_COMMFD", "0")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let device = receive_descriptor(ours.as_fd());
    drop(ours);
    let (_, words) = finish(child)?;
    device?.ok_or_else(|| io::Error::other(words))
}

/// `fusermount3` splits options at commas that no backslash precedes.
fn fusermount_options(options: &MountTableOptions) -> String {
    let fsname = options.fsname.replace('\\', "\\\\").replace(',', "\\,");
    let mut text = format!("fsname={fsname},subtype=stunfs,nosuid,nodev,default_permissions");
    if options.allow_other {
        text.push_str(",allow_other");
    }
    if options.read_only {
        text.push_str(",ro");
    }
    text
}

/// The descriptor that comes over `socket`; `None` if it is closed without one.
fn receive_descriptor(socket: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0; 1];
    let mut buffers = [io::IoSliceMut::new(&mut byte)];
    rustix::io::retry_on_intr(|| recvmsg(socket, &mut buffers, &mut ancillary, RecvFlags::CMSG_CLOEXEC))?;
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(descriptor)
}

fn fusermount_unmount(mountpoint: &Path, how: Detach) -> io::Result<()> {
    let helper = find_fusermount().ok_or_else(|| io::Error::other("fusermount3 not found"))?;
    let how = if how == Detach::Lazily { ["-u", "-z"].as_slice() } else { ["-u"].as_slice() };
    let mut command = Command::new(helper);
    command.args(how).arg("--").arg(mountpoint).env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null());
    let (status, words) = finish(command.stderr(Stdio::piped()).spawn()?)?;
    if status.map_or(words.is_empty(), |status| status.success()) {
        return Ok(());
    }
    Err(unmount_refusal(&words, status))
}

/// What `fusermount3` meant, in its own words if it had any.
fn unmount_refusal(words: &str, status: Option<ExitStatus>) -> io::Error {
    if words.contains("resource busy") {
        return io::Error::new(io::ErrorKind::ResourceBusy, words);
    }
    match (words, status) {
        ("", Some(status)) => io::Error::other(format!("fusermount3 ended with {status} and no word why")),
        (words, _) => io::Error::other(words),
    }
}

/// How a helper ended and what it said, on one line. Where SIGCHLD is ignored the kernel keeps its status to itself.
fn finish(mut child: Child) -> io::Result<(Option<ExitStatus>, String)> {
    let mut words = Vec::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_end(&mut words)?;
    }
    let status = match child.wait() {
        Err(cause) if cause.raw_os_error() == Some(rustix::io::Errno::CHILD.raw_os_error()) => None,
        status => Some(status?),
    };
    let words = String::from_utf8_lossy(&words);
    Ok((status, words.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every failure was called busy.
    #[test]
    fn regression_the_words_of_fusermount_were_lost() {
        let said = |script: &str| {
            let child = Command::new("sh").args(["-c", script]).stderr(Stdio::piped()).spawn().unwrap();
            let (status, words) = finish(child).unwrap();
            unmount_refusal(&words, status)
        };
        let busy = said("echo 'fusermount3: failed to unmount /x: Device or resource busy' >&2; exit 1");
        assert_eq!(busy.kind(), io::ErrorKind::ResourceBusy);
        let other = said("printf 'fusermount3: entry for /x not found\nin /etc/mtab\n' >&2; exit 1");
        assert_eq!(other.kind(), io::ErrorKind::Other);
        assert_eq!(other.to_string(), "fusermount3: entry for /x not found; in /etc/mtab");
        assert!(said("exit 3").to_string().contains("exit status: 3"));
    }

    #[test]
    fn commas_in_a_name_do_not_end_the_option() {
        let options = MountTableOptions { fsname: "/a,suid\\b".into(), allow_other: true, read_only: false };
        assert_eq!(
            fusermount_options(&options),
            "fsname=/a\\,suid\\\\b,subtype=stunfs,nosuid,nodev,default_permissions,allow_other"
        );
    }
}
