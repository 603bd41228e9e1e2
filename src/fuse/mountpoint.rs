//! What is looked at before anything is mounted: the two directories, the machine, other volumes.
//!
//! Must not know: options that do not concern the mount. Invariant: a refused mount has changed nothing, and no check
//! waits for a file system that stands still.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::attach::{Detach, detach, find_fusermount, open_device};
use super::error::MountError;
use super::kernel::{identity_at, system_request_timeout};
use crate::sys::mountinfo::{self, Mount};

/// How long a mount that is in the way may take to say that it is alive.
const ALIVE_LIMIT: Duration = Duration::from_secs(1);

/// Two directories that a volume can be mounted with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The backing, canonical.
    pub backing: PathBuf,
    /// The mount point, canonical.
    pub mountpoint: PathBuf,
    /// What the user should know, one line each.
    pub notices: Vec<String>,
}

/// Checks both directories, that they do not overlap with each other or with another volume, and that this machine and
/// user can mount. A dead mount of an earlier crash at the mount point is cleaned away, with a notice.
pub fn check(backing: &Path, mountpoint: &Path, allow_other: bool) -> Result<Checked, MountError> {
    let mut notices = Vec::new();
    let backing = directory(backing, MountError::BackingMissing, MountError::BackingNotDirectory)?;
    let place = absolute(mountpoint)?;
    notices.extend(clear_dead_mount(&place)?);
    // Before the mount point itself is looked at, which would wait for a volume there that stands still.
    check_free(&place)?;
    let mountpoint = directory(&place, MountError::MountpointMissing, MountError::MountpointNotDirectory)?;
    check_free(&mountpoint)?;
    check_apart(&backing, &mountpoint)?;
    check_others(&backing, &table()?)?;
    check_machine(allow_other)?;
    notices.extend(hidden_entries(&mountpoint));
    Ok(Checked { backing, mountpoint, notices })
}

/// Whether this machine and user can mount at all; what is missing, and the line that mends it.
pub fn check_machine(allow_other: bool) -> Result<(), MountError> {
    drop(open_device()?);
    if rustix::process::getuid().is_root() {
        return Ok(());
    }
    find_fusermount().ok_or(MountError::NoFusermount)?;
    let allowed = !allow_other || permits_allow_other(&std::fs::read_to_string("/etc/fuse.conf").unwrap_or_default());
    if allowed { Ok(()) } else { Err(MountError::AllowOtherDenied) }
}

/// Whether operations can be held for `max_hold` without the kernel aborting the mount for it.
pub fn check_request_timeout(max_hold: Duration) -> Result<(), MountError> {
    fits_into(system_request_timeout(), max_hold)
}

fn fits_into(timeout: Option<Duration>, max_hold: Duration) -> Result<(), MountError> {
    match timeout {
        Some(timeout) if timeout <= max_hold => Err(MountError::RequestTimeout { timeout, max_hold }),
        _ => Ok(()),
    }
}

fn directory(
    path: &Path,
    missing: fn(PathBuf) -> MountError,
    not_directory: fn(PathBuf) -> MountError,
) -> Result<PathBuf, MountError> {
    let unreadable = |cause: io::Error| match cause.kind() {
        io::ErrorKind::NotFound => missing(path.to_owned()),
        io::ErrorKind::NotADirectory => not_directory(path.to_owned()),
        _ => MountError::Unreadable { path: path.to_owned(), cause },
    };
    let canonical = path.canonicalize().map_err(unreadable)?;
    // Not a request to a FUSE file system: the type never changes, so the kernel answers from what it knows.
    let found =
        statx(CWD, &canonical, AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE).map_err(|cause| unreadable(cause.into()))?;
    let kind = rustix::fs::FileType::from_raw_mode(found.stx_mode.into());
    if kind.is_dir() { Ok(canonical) } else { Err(not_directory(path.to_owned())) }
}

/// The path as it stands in the mount table, found without looking at the mount point itself, which may be dead.
fn absolute(mountpoint: &Path) -> Result<PathBuf, MountError> {
    let unreadable = |cause| MountError::Unreadable { path: mountpoint.to_owned(), cause };
    let absolute = std::path::absolute(mountpoint).map_err(unreadable)?;
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else { return Ok(absolute) };
    match parent.canonicalize() {
        Ok(parent) => Ok(parent.join(name)),
        Err(_reported_when_the_mount_point_is_looked_at) => Ok(absolute),
    }
}

fn table() -> Result<Vec<Mount>, MountError> {
    mountinfo::read().map_err(|cause| MountError::Unreadable { path: mountinfo::TABLE.into(), cause })
}

/// Unmounts what an earlier crash left at `place`; one line about it if there was something.
fn clear_dead_mount(place: &Path) -> Result<Option<String>, MountError> {
    let mounts = table()?;
    let Some(mount) = mountinfo::at(&mounts, place).filter(|mount| mount.is_fuse()) else { return Ok(None) };
    if !is_dead(place) {
        return Ok(None);
    }
    detach(place, Detach::Lazily).map_err(|cause| MountError::DeadMount { mountpoint: place.to_owned(), cause })?;
    let (place, kind) = (place.display(), &mount.fstype);
    Ok(Some(format!(
        "{place} held the dead {kind} mount of an earlier crash (transport endpoint not connected): unmounted"
    )))
}

/// Whether the FUSE mount at `place` has lost its daemon. One that stands still is alive.
pub(super) fn is_dead(place: &Path) -> bool {
    let waiting = identity_at(place).ok().flatten().and_then(|identity| identity.connection.waiting());
    if waiting.is_some_and(|requests| requests > 0) {
        return false;
    }
    let (tell, answer) = channel();
    let place = place.to_owned();
    let asked = std::thread::Builder::new().name("stunfs-alive".into()).spawn(move || {
        let flags = AtFlags::STATX_FORCE_SYNC | AtFlags::NO_AUTOMOUNT;
        let _caller_may_be_gone = tell.send(statx(CWD, &place, flags, StatxFlags::BASIC_STATS).err());
    });
    let gone = [Some(rustix::io::Errno::NOTCONN), Some(rustix::io::Errno::CONNABORTED)];
    asked.is_ok() && answer.recv_timeout(ALIVE_LIMIT).is_ok_and(|error| gone.contains(&error))
}

/// Nothing of FUSE may be mounted there already: two volumes on one mount point are a mistake. A mount of another kind,
/// such as a tmpfs or a container's volume, may be covered.
fn check_free(mountpoint: &Path) -> Result<(), MountError> {
    let mounts = table()?;
    match mountinfo::at(&mounts, mountpoint).filter(|mount| mount.is_fuse()) {
        None => Ok(()),
        Some(mount) => Err(MountError::Busy {
            mountpoint: mountpoint.to_owned(),
            fstype: mount.fstype.clone(),
            source_name: mount.source.display().to_string(),
        }),
    }
}

fn check_apart(backing: &Path, mountpoint: &Path) -> Result<(), MountError> {
    if overlap(backing, mountpoint) {
        return Err(MountError::Nested { mountpoint: mountpoint.to_owned(), backing: backing.to_owned() });
    }
    Ok(())
}

/// No other volume may have the same backing, or one above or below it.
fn check_others(backing: &Path, mounts: &[Mount]) -> Result<(), MountError> {
    match mounts.iter().find(|mount| mount.is_stunfs() && overlap(backing, &mount.source)) {
        None => Ok(()),
        Some(other) => Err(MountError::Overlap {
            backing: backing.to_owned(),
            other: other.source.clone(),
            mountpoint: other.mountpoint.clone(),
        }),
    }
}

/// Whether one path is the other or lies below it.
fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// Whether a `fuse.conf` has the line `user_allow_other`.
fn permits_allow_other(conf: &str) -> bool {
    conf.lines().any(|line| line.trim() == "user_allow_other")
}

fn hidden_entries(mountpoint: &Path) -> Option<String> {
    let occupied = std::fs::read_dir(mountpoint).is_ok_and(|mut entries| entries.next().is_some());
    occupied
        .then(|| format!("{} is not empty: what is in it is hidden while the volume is mounted", mountpoint.display()))
}

#[cfg(test)]
mod tests;
