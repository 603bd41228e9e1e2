//! The file system on the device: made, mounted, taken away again from the processes that use it.
//!
//! Must not know: volumes, images. Invariant: no call outlasts the time that it is given, whatever the device does.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::loopdev;
use super::spec::{DiskSpec, FsKind};
use super::system::{find_program, in_time};
use crate::sys::mountinfo::{self, Mount};
use crate::time::{Deadline, wait_until};
use crate::volume::{ErrorKind, VolumeError};

/// No `mkfs` takes longer on a device without injection.
const MKFS_LIMIT: Duration = Duration::from_secs(300);
/// `FS_IOC_SHUTDOWN`, as XFS and ext4 know it.
const SHUTDOWN: Opcode = opcode::read::<u32>(b'X', 125);
/// Its argument: first write what is dirty and the log; or nothing.
const FLUSH: u32 = 0;
const NOTHING: u32 = 2;

/// Where `mkfs` for `kind` lies.
pub(super) fn mkfs_program(kind: FsKind) -> Result<PathBuf, VolumeError> {
    let (name, package) = (format!("mkfs.{kind}"), if kind == FsKind::Xfs { "xfsprogs" } else { "e2fsprogs" });
    find_program(&name).ok_or_else(|| {
        VolumeError::new(ErrorKind::Unavailable, format!("{name} is not installed; install the package {package}"))
    })
}

/// Makes the file system.
pub(super) fn make(spec: &DiskSpec, device: &Path) -> Result<(), VolumeError> {
    let force = if spec.fs == FsKind::Xfs { "-f" } else { "-F" };
    let mut command = Command::new(mkfs_program(spec.fs)?);
    command.arg("-q").arg(force).args(words(&spec.mkfs_options)).arg(device);
    command.stdin(Stdio::null());
    let output = in_time(MKFS_LIMIT, "mkfs", move || {
        if let Err(error) = look_away() {
            tracing::warn!("mkfs sees all mounts, and waits if one of them is stunned: {error}");
        }
        command.output()
    });
    let failed = |text: String| {
        VolumeError::new(ErrorKind::Unavailable, format!("mkfs.{} failed on {}: {text}", spec.fs, device.display()))
    };
    match output {
        None => Err(failed(format!("it takes longer than {} s", MKFS_LIMIT.as_secs()))),
        Some(Err(error)) => Err(failed(error.to_string())),
        Some(Ok(output)) if output.status.success() => Ok(()),
        Some(Ok(output)) => Err(failed(first_line(&output.stderr, &output.status.to_string()))),
    }
}

/// Takes volumes, and what stands on loop devices, out of sight of this thread and what it starts: `mkfs.xfs` asks every
/// mount of the machine whether it has the device, and would wait as long as one of them is stunned.
fn look_away() -> io::Result<()> {
    let mounts = mountinfo::read()?;
    // SAFETY: no descriptors stop being shared; the mounts, root and working directory are this thread's alone.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    for mount in mounts.iter().filter(|mount| mount.is_stunfs() || mount.device.0 == loopdev::MAJOR) {
        // It may have gone with one above it.
        let _ = unmount(&mount.mountpoint, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    }
    Ok(())
}

fn words(options: &[String]) -> impl Iterator<Item = &str> {
    options.iter().flat_map(|text| text.split_whitespace())
}

fn first_line(text: &[u8], otherwise: &str) -> String {
    let text = String::from_utf8_lossy(text);
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or(otherwise).to_owned()
}

/// Mounts the file system of `device`.
pub(super) fn mount_at(spec: &DiskSpec, device: &Path, place: &Path) -> Result<(), VolumeError> {
    let options = spec.mount_options.clone().unwrap_or_default();
    let options = CString::new(options).map_err(|_| VolumeError::usage("--mount-opts: holds a zero byte"))?;
    let (kind, from, to) = (spec.fs, device.to_owned(), place.to_owned());
    let mounted = in_time(Duration::from_secs(60), "mount", move || {
        mount(&from, &to, kind.name(), MountFlags::empty(), Some(options.as_c_str()))
    });
    let text = match mounted {
        Some(Ok(())) => return Ok(()),
        Some(Err(Errno::NODEV)) => format!("this kernel has no {kind}; modprobe {kind}"),
        Some(Err(Errno::INVAL)) => "not accepted; the kernel's log (dmesg) says why".to_owned(),
        Some(Err(error)) => io::Error::from(error).to_string(),
        None => "it takes longer than a minute".to_owned(),
    };
    let (device, place) = (device.display(), place.display());
    Err(VolumeError::new(ErrorKind::Unavailable, format!("{device} cannot be mounted on {place}: {text}")))
}

/// What is mounted from loop device `number`, the last mount first.
pub(super) fn mounts_of(number: u32) -> Vec<Mount> {
    let mut mounts = mountinfo::read().unwrap_or_default();
    mounts.retain(|mount| mount.device == (loopdev::MAJOR, number));
    mounts.reverse();
    mounts
}

/// What came of an unmount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnmountResult {
    /// No process used it.
    Clean,
    /// It was used; it is gone from the tree, and its users get errors.
    CutOff,
    /// The kernel did not come back in time.
    Hangs,
}

/// Unmounts `mount`; waits up to `grace` for its users to be done, then cuts them off. A call that does not come back
/// within `within` is left behind.
pub(super) fn unmount_from(mount: &Mount, grace: Duration, within: Duration) -> UnmountResult {
    let deadline = Deadline::after(within);
    let mut hangs = false;
    let gone = wait_until(grace, Duration::from_millis(20), || {
        match try_unmount(&mount.mountpoint, UnmountFlags::empty(), deadline.left()) {
            None => hangs = true,
            Some(gone) => return gone,
        }
        true
    });
    if hangs {
        return UnmountResult::Hangs;
    }
    if gone {
        return UnmountResult::Clean;
    }
    shut_down(mount, deadline.left() / 2);
    detach(&mount.mountpoint);
    UnmountResult::CutOff
}

/// Takes a mount out of the tree at once; processes that use it keep it.
pub(super) fn detach(place: &Path) {
    // It may be gone already.
    let _ = unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
}

/// Whether nothing is mounted there any more; `None` if the kernel does not come back.
fn try_unmount(place: &Path, flags: UnmountFlags, within: Duration) -> Option<bool> {
    let place = place.to_owned();
    let result = in_time(within, "umount", move || unmount(&place, flags | UnmountFlags::NOFOLLOW))?;
    Some(!matches!(result, Err(Errno::BUSY | Errno::AGAIN)))
}

/// Ends the file system under its users: what is dirty goes to the device first, if it takes it; then all get errors.
fn shut_down(mount: &Mount, within: Duration) {
    let place = mount.mountpoint.clone();
    let ask = move |how: u32| {
        let place = place.clone();
        in_time(within / 2, "shutdown", move || {
            let root = File::open(&place)?;
            // SAFETY: FS_IOC_SHUTDOWN reads one u32.
            unsafe { ioctl(&root, Setter::<SHUTDOWN, u32>::new(how)) }?;
            io::Result::Ok(())
        })
    };
    if !matches!(ask(FLUSH), Some(Ok(()))) {
        // The detach and the end of the volume cut its users off as well, only later.
        let _ = ask(NOTHING);
    }
}

/// Checks that a file system can be mounted at `place`, and whether that has to be made first.
pub(super) fn check_mount_point(place: &Path) -> Result<(PathBuf, bool), VolumeError> {
    let refused = |kind, text: &str| Err(VolumeError::new(kind, format!("--mount {}: {text}", place.display())));
    let taken = "something is mounted there already; unmount it or choose another place";
    let absolute = std::path::absolute(place).unwrap_or_else(|_| place.to_owned());
    if mountinfo::is_mounted(&absolute) {
        return refused(ErrorKind::Unavailable, taken);
    }
    let found = match absolute.canonicalize() {
        Ok(found) if found.is_dir() => found,
        Ok(_) => return refused(ErrorKind::Usage, "is not a directory"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return missing_mount_point(place, &absolute),
        Err(error) => return refused(ErrorKind::Io, &error.to_string()),
    };
    if mountinfo::is_mounted(&found) {
        return refused(ErrorKind::Unavailable, taken);
    }
    match std::fs::read_dir(&found).map(|mut entries| entries.next().is_some()) {
        Ok(false) => Ok((found, false)),
        Ok(true) => refused(ErrorKind::Unavailable, "is not empty; choose an empty or a new directory"),
        Err(error) => refused(ErrorKind::Io, &error.to_string()),
    }
}

/// Where a mount point will be that is not there yet.
fn missing_mount_point(place: &Path, absolute: &Path) -> Result<(PathBuf, bool), VolumeError> {
    let parent = absolute.parent().unwrap_or(Path::new("/")).canonicalize();
    let parent = parent.map_err(|error| cannot_make(place, &error))?;
    Ok((parent.join(absolute.file_name().unwrap_or_default()), true))
}

/// Makes a mount point; whether it was this call that made it.
pub(super) fn make_mount_point(place: &Path) -> Result<bool, VolumeError> {
    match std::fs::create_dir(place) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(cannot_make(place, &error)),
    }
}

fn cannot_make(place: &Path, error: &io::Error) -> VolumeError {
    let (kind, text) = match error.kind() {
        io::ErrorKind::PermissionDenied => (ErrorKind::NoPermission, "may not be made".to_owned()),
        _ => (ErrorKind::CantCreate, format!("cannot be made: {error}")),
    };
    VolumeError::new(kind, format!("--mount {}: {text}", place.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_empty_directories() {
        let dir = tempfile::tempdir().unwrap();
        let (place, is_missing) = check_mount_point(&dir.path().join("new")).unwrap();
        assert!(is_missing && place.ends_with("new") && !place.exists());
        assert!(make_mount_point(&place).unwrap() && !make_mount_point(&place).unwrap());
        assert!(!check_mount_point(&place).unwrap().1);
        for (wrong, part) in [(dir.path().to_owned(), "not empty"), ("/proc".into(), "mounted there already")] {
            let error = check_mount_point(&wrong).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(check_mount_point(&dir.path().join("file")).is_err());
    }

    #[test]
    fn the_shutdown_call_has_its_number() {
        assert_eq!(SHUTDOWN, 0x8004_587d);
        assert_eq!(words(&["-m crc=0".into(), "-K".into()]).collect::<Vec<_>>(), ["-m", "crc=0", "-K"]);
    }
}
