//! The kernel's side of a FUSE connection that is reached through files: `/sys/fs/fuse`, `/sys/class/bdi`, sysctls.
//!
//! Must not know: sessions, volumes. Invariant: nothing here waits for the file system that it is about.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Statx, StatxFlags, makedev, statx};
use rustix::mount::{MountFlags, mount};

use crate::fs::CacheMode;
use crate::sys::{mountinfo, sysctl};

/// Where the kernel shows its FUSE connections.
const CONNECTIONS: &str = "/sys/fs/fuse/connections";

/// What is read ahead of a sequential reader: one request of the largest size. The kernel's default for FUSE, 128 KiB,
/// takes eight requests for the same; with the backing in the page cache the speed was the same within the noise.
const READ_AHEAD_KIB: u32 = 1024;

/// A FUSE connection, by the number the kernel knows it under: the minor number of the mount's `st_dev`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionId(u32);

impl ConnectionId {
    /// The connection of the mount with this device number; `None` if it is not the number of a FUSE mount.
    pub(crate) const fn of_device(major: u32, minor: u32) -> Option<Self> {
        if major == 0 && minor != 0 { Some(Self(minor)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The file that ends the connection when something is written to it.
    pub fn abort_file(self) -> PathBuf {
        Path::new(CONNECTIONS).join(self.0.to_string()).join("abort")
    }

    /// How many requests wait for the daemon; `None` if the kernel does not show it.
    pub(crate) fn waiting(self) -> Option<u64> {
        let file = Path::new(CONNECTIONS).join(self.0.to_string()).join("waiting");
        std::fs::read_to_string(file).ok()?.trim().parse().ok()
    }

    /// The mount's device number as `stat` shows it.
    pub fn device(self) -> u64 {
        makedev(0, self.0)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Ends a connection: every process that waits in it gets an error at once. Mounts `fusectl` first if it is missing.
pub(crate) fn abort(connection: ConnectionId) -> io::Result<()> {
    ensure_fusectl()?;
    std::fs::write(connection.abort_file(), "1")
}

fn ensure_fusectl() -> io::Result<()> {
    let is_mounted = mountinfo::read()?.iter().any(|mount| mount.fstype == "fusectl");
    if is_mounted {
        return Ok(());
    }
    mount("none", CONNECTIONS, "fusectl", MountFlags::empty(), None)?;
    Ok(())
}

/// Which mount it is: its connection, and a number that no other mount has at the same time (from Linux 6.8 on: ever).
///
/// The kernel reuses connection numbers at once, so a number alone may be another program's next mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountIdentity {
    /// Its connection.
    pub connection: ConnectionId,
    /// `stx_mnt_id`, unique if the kernel has that.
    pub mount_id: u64,
}

/// `STATX_MNT_ID_UNIQUE`, which rustix does not name yet.
const MNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// The FUSE mount at `path`, without a request to it: right even if its daemon stands still or is dead.
pub(crate) fn identity_at(path: &Path) -> io::Result<Option<MountIdentity>> {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    Ok(identity(&statx(CWD, path, flags, StatxFlags::MNT_ID | MNT_ID_UNIQUE)?))
}

/// The FUSE mount that `root` lies on, without a request to it.
pub(crate) fn identity_of(root: BorrowedFd<'_>) -> io::Result<MountIdentity> {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::EMPTY_PATH;
    identity(&statx(root, c"", flags, StatxFlags::MNT_ID | MNT_ID_UNIQUE)?)
        .ok_or_else(|| io::Error::other("a FUSE mount without a number"))
}

fn identity(found: &Statx) -> Option<MountIdentity> {
    let connection = ConnectionId::of_device(found.stx_dev_major, found.stx_dev_minor)?;
    Some(MountIdentity { connection, mount_id: found.stx_mnt_id })
}

/// Sets up read-ahead and dirty limits of a mount as they are on a disk. Best effort: needs root and a recent kernel.
///
/// FUSE starts with a *strict* dirty limit of 1 % of what the system allows: with the write-back cache, writers would be
/// throttled long before they would be on a disk.
pub(crate) fn tune_bdi(connection: ConnectionId, cache: CacheMode) {
    let bdi = PathBuf::from(format!("/sys/class/bdi/0:{connection}"));
    let set = |file: &str, value: &str| {
        let _best_effort = std::fs::write(bdi.join(file), value);
    };
    set("read_ahead_kb", &READ_AHEAD_KIB.to_string());
    if cache == CacheMode::Back {
        set("strict_limit", "0");
        set("max_ratio", "100");
    }
}

/// The largest `max_background` that the kernel grants to a mount of a user other than root.
pub(crate) fn max_user_background() -> Option<u32> {
    std::fs::read_to_string("/sys/module/fuse/parameters/max_user_bgreq").ok()?.trim().parse().ok()
}

/// After how long the kernel aborts a FUSE connection with an unanswered request; `None`: never.
///
/// `default` and `max` are `fs.fuse.default_request_timeout` and `fs.fuse.max_request_timeout` in seconds, 0 for none.
pub(crate) fn request_timeout(default: u64, max: u64) -> Option<Duration> {
    let seconds = match (default, max) {
        (0, 0) => return None,
        (0, limit) | (limit, 0) => limit,
        (default, max) => default.min(max),
    };
    Some(Duration::from_secs(seconds))
}

/// As [`request_timeout`], of this system.
pub(crate) fn system_request_timeout() -> Option<Duration> {
    let seconds = |name| sysctl::number(name).unwrap_or(0);
    request_timeout(seconds("fs.fuse.default_request_timeout"), seconds("fs.fuse.max_request_timeout"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_request_timeout_counts_and_zero_is_none() {
        let seconds = |default, max| request_timeout(default, max).map(|timeout| timeout.as_secs());
        assert_eq!(seconds(0, 0), None);
        assert_eq!(seconds(30, 0), Some(30));
        assert_eq!(seconds(0, 40), Some(40));
        assert_eq!(seconds(50, 40), Some(40));
        assert_eq!(seconds(30, 40), Some(30));
    }

    #[test]
    fn a_connection_is_the_minor_number_of_an_unnamed_device() {
        assert_eq!(ConnectionId::of_device(0, 47).map(ConnectionId::get), Some(47));
        assert_eq!(ConnectionId::of_device(254, 1), None);
        assert_eq!(ConnectionId(47).abort_file(), Path::new("/sys/fs/fuse/connections/47/abort"));
    }
}
