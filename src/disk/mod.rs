//! Disks: a sparse image on a volume of its own, a loop device on it, a file system on that; up, down, and after a crash.
//!
//! Must not know: command lines, who runs the volume. Invariant: what is up is on record, and from the record alone any
//! process can take it down, whatever has died meanwhile; nothing that a disk did not make itself is ever touched.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use stunfs::Volume;
//! use stunfs::internal::disk::FsKind;
//! use stunfs::internal::units::Bytes;
//!
//! let disk = Volume::builder().first_write("50ms".parse()?).disk(FsKind::Xfs, Bytes::gib(4)).up()?;
//! std::fs::write(disk.path().join("new"), b"waits in the log, or at the next fsync")?;
//! disk.volume().release();
//! disk.down()?;
//! # Ok(())
//! # }
//! ```

mod builder;
mod disk_volume;
mod down;
mod filesystem;
mod health;
mod image;
mod loopdev;
mod record;
mod spec;
mod system;
mod up;

use std::path::Path;
use std::time::Duration;

pub use builder::{Disk, DiskBuilder};
pub use health::Fault;
pub use loopdev::Attached;
pub use record::DiskRecord;
pub use spec::{DiskSpec, FsKind, Sector};
pub use system::ProcessId;
pub use up::{Started, Up, up};

use crate::volume::{ErrorKind, VolumeError};
use record::{Lock, Store};

/// How long another process may be busy with the same disk.
const LOCK_LIMIT: Duration = Duration::from_secs(30);

/// A disk of this machine, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ListedDisk {
    /// What is on record.
    pub disk: DiskRecord,
    /// What is wrong; nothing: it is usable.
    pub faults: Vec<Fault>,
    /// Another process is bringing it up or taking it down.
    pub busy: bool,
}

/// All disks of this machine.
///
/// # Errors
/// The records cannot be read.
pub fn list() -> Result<Vec<ListedDisk>, VolumeError> {
    if !rustix::process::geteuid().is_root() {
        return Err(VolumeError::new(ErrorKind::NoPermission, "disks belong to root; try: sudo stunfs disk list"));
    }
    let store = open()?;
    store.sweep();
    let records = store.all().map_err(|error| unreadable(&error))?;
    Ok(records.into_iter().map(|record| look(&store, record)).collect())
}

fn look(store: &Store, disk: DiskRecord) -> ListedDisk {
    let busy = store.is_locked(&disk.id);
    ListedDisk { faults: health::faults(&disk, busy), disk, busy }
}

/// The disk that `name` means: its name, image, directory, mount point or device; or the only one.
///
/// # Errors
/// There is none, or more than one.
pub fn find(name: Option<&Path>) -> Result<ListedDisk, VolumeError> {
    let none = |text: String| VolumeError::new(ErrorKind::Unavailable, text);
    let mut all = list()?;
    let Some(name) = name else {
        return match (all.pop(), all.is_empty()) {
            (None, _) => Err(none("no disk is up".into())),
            (Some(only), true) => Ok(only),
            (Some(last), false) => {
                all.push(last);
                let names: Vec<_> = all.into_iter().map(|found| found.disk.id).collect();
                Err(VolumeError::usage(format!("{} disks are up; name one of {}", names.len(), names.join(", "))))
            }
        };
    };
    let absolute = std::path::absolute(name).unwrap_or_else(|_| name.to_owned());
    // The parent alone is resolved: the last part may be the mount point of a disk that stands still.
    let resolved = match (absolute.parent().and_then(|parent| parent.canonicalize().ok()), absolute.file_name()) {
        (Some(parent), Some(last)) => parent.join(last),
        _ => absolute,
    };
    let found = all.into_iter().find(|found| means(&found.disk, name, &resolved));
    found.ok_or_else(|| none(format!("no disk of {} is up; 'stunfs disk list' shows them", name.display())))
}

fn means(disk: &DiskRecord, name: &Path, path: &Path) -> bool {
    let places = [Some(disk.image.as_path()), Some(disk.backing()), disk.mount.as_deref(), Some(&disk.volume)];
    Path::new(&disk.id) == name
        || places.into_iter().flatten().any(|place| place == path)
        || disk.device_path().is_some_and(|device| device == path)
}

/// Takes a disk down, also in the middle of a stall and after a crash; lines for the user.
///
/// # Errors
/// Another process is busy with it for too long.
pub fn down(disk: &DiskRecord) -> Result<Vec<String>, VolumeError> {
    let store = open()?;
    let _lock = lock(&store, &disk.id)?;
    // The process that had the lock may have changed it, or taken it down.
    store.load(&disk.id).map_or(Ok(Vec::new()), |record| down::take_down(&store, &record))
}

/// Clears away what a crash left of a disk, so that it can be brought up again; `None` if nothing is wrong with it.
///
/// # Errors
/// As [`down()`].
pub fn repair(disk: &DiskRecord) -> Result<Option<Vec<String>>, VolumeError> {
    let store = open()?;
    let _lock = lock(&store, &disk.id)?;
    match store.load(&disk.id) {
        Some(record) if !health::faults(&record, false).is_empty() => down::take_down(&store, &record).map(Some),
        _ => Ok(None),
    }
}

fn open() -> Result<Store, VolumeError> {
    Store::open().map_err(|error| unreadable(&error))
}

fn lock(store: &Store, id: &str) -> Result<Lock, VolumeError> {
    let busy = || VolumeError::new(ErrorKind::Unavailable, format!("another process is busy with the disk {id}"));
    store.lock(id, LOCK_LIMIT).map_err(|error| unreadable(&error))?.ok_or_else(busy)
}

fn unreadable(error: &std::io::Error) -> VolumeError {
    VolumeError::new(ErrorKind::Io, format!("the records of disks cannot be read: {error}"))
}
