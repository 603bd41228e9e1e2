//! What is on record of each disk of this machine: enough to take it down from another process, also after a crash.
//!
//! Must not know: how a disk is made. Invariant: a record is written before the step that it speaks of, as a whole or not
//! at all; a process that changes a disk holds its lock.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::loopdev::Attached;
use super::spec::{FsKind, Sector};
use super::system::ProcessId;
use crate::time::wait_until;
use crate::units::Bytes;

/// Where the records lie.
const DIRECTORY: &str = "/run/stunfs/disks";
/// Version of the record's form.
const VERSION: u32 = 1;

/// A disk, as far as it has got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRecord {
    version: u32,
    /// Its name on this machine.
    pub id: String,
    /// Which boot of the machine it belongs to.
    pub(super) boot: String,
    /// The real image.
    pub image: PathBuf,
    /// The image's size.
    pub size: Bytes,
    /// The file system on it.
    pub fs: FsKind,
    /// Bytes a sector.
    pub sector: Sector,
    /// Where the file system is mounted.
    pub mount: Option<PathBuf>,
    /// Where the volume is mounted that the loop device's file lies on.
    pub volume: PathBuf,
    /// The volume's control socket.
    pub control: PathBuf,
    /// The volume's connection to the kernel.
    pub(super) connection: Option<u32>,
    /// Who runs the volume.
    pub process: Option<ProcessId>,
    /// That process is a daemon of this disk alone, and may be ended.
    pub(super) is_daemon: bool,
    /// The loop device.
    pub device: Option<Attached>,
    /// What was made for it, and goes if it never gets ready.
    pub(super) made: Made,
    /// A temporary directory of the program that runs it, which removes it unless it is killed.
    #[serde(default)]
    pub(super) scratch: Option<PathBuf>,
    /// It is usable.
    pub ready: bool,
}

/// What an `up` had to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Made {
    /// The image's directory.
    pub(super) directory: bool,
    /// There was no image; it is going to be made.
    #[serde(default)]
    pub(super) new_image: bool,
    /// The image, by its inode.
    pub(super) image: Option<u64>,
    /// The mount point. It goes with the disk, ready or not.
    pub(super) mount: bool,
}

impl DiskRecord {
    pub(super) fn new(id: String, image: PathBuf, size: Bytes, places: Places) -> Self {
        Self {
            version: VERSION,
            id,
            boot: super::system::boot(),
            image,
            size,
            fs: FsKind::None,
            sector: Sector::default(),
            mount: None,
            volume: places.volume,
            control: places.control,
            connection: None,
            process: None,
            is_daemon: false,
            device: None,
            made: Made::default(),
            scratch: None,
            ready: false,
        }
    }

    /// The image's directory: the volume's backing.
    pub fn backing(&self) -> &Path {
        self.image.parent().unwrap_or(Path::new("/"))
    }

    /// The image as the volume shows it.
    pub(super) fn image_on_volume(&self) -> PathBuf {
        self.volume.join(self.image.file_name().unwrap_or_default())
    }

    /// `/dev/loopN`, if there is one.
    pub fn device_path(&self) -> Option<PathBuf> {
        self.device.as_ref().map(Attached::path)
    }
}

/// Paths that a disk has for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) volume: PathBuf,
    pub(super) control: PathBuf,
}

/// The records of this machine.
#[derive(Debug, Clone)]
pub(super) struct Store {
    directory: PathBuf,
}

/// The right to change one disk. Its file goes with it.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Still locked: a process that waits for this file sees that it is gone, and makes another.
        let _ = fs::remove_file(&self.path);
    }
}

impl Store {
    /// The machine's.
    pub(super) fn open() -> io::Result<Self> {
        Self::at(Path::new(DIRECTORY))
    }

    /// Another one, for tests.
    pub(super) fn at(directory: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// The name of the disk whose image lies in `directory`.
    pub(super) fn id_of(directory: &Path) -> io::Result<String> {
        let metadata = fs::metadata(directory)?;
        let name = directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(24).collect();
        Ok(format!("{name}-{:x}-{:x}", metadata.dev(), metadata.ino()))
    }

    /// A place for what is the disk's alone.
    pub(super) fn private(&self, id: &str) -> PathBuf {
        self.directory.join(id)
    }

    fn file(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }

    /// Waits up to `within` for others to be done with the disk; `None` if they are not.
    pub(super) fn lock(&self, id: &str, within: Duration) -> io::Result<Option<Lock>> {
        let path = self.directory.join(format!("{id}.lock"));
        let mut taken = Ok(None);
        wait_until(within, Duration::from_millis(10), || {
            taken = try_lock(&path);
            !matches!(taken, Ok(None))
        });
        Ok(taken?.map(|file| Lock { path, _file: file }))
    }

    /// Whether a process is changing the disk now.
    pub(super) fn is_locked(&self, id: &str) -> bool {
        self.lock(id, Duration::ZERO).is_ok_and(|lock| lock.is_none())
    }

    /// The record of a disk; `None` if there is none that can be read.
    pub(super) fn load(&self, id: &str) -> Option<DiskRecord> {
        read(&self.file(id))
    }

    pub(super) fn save(&self, record: &DiskRecord) -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".record").tempfile_in(&self.directory)?;
        serde_json::to_writer_pretty(&mut file, record)?;
        file.flush()?;
        file.persist(self.file(&record.id))?;
        Ok(())
    }

    /// Forgets a disk.
    pub(super) fn remove(&self, id: &str) -> io::Result<()> {
        match fs::remove_file(self.file(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes locks of disks that have no record: the process that held them was killed before it had made anything.
    pub(super) fn sweep(&self) {
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".lock"));
            if let Some(id) = id.filter(|id| self.load(id).is_none()) {
                // Dropping the lock removes it. A lock that another process holds cannot be taken.
                let _ = self.lock(id, Duration::ZERO);
            }
        }
    }

    /// All records, by name.
    pub(super) fn all(&self) -> io::Result<Vec<DiskRecord>> {
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                records.extend(read(&path));
            }
        }
        records.sort_by(|one: &DiskRecord, other| one.id.cmp(&other.id));
        Ok(records)
    }
}

/// The file, locked; `None` if another process has it.
fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(None);
    }
    // Its last owner may have removed it after it was opened here.
    let is_current = fs::metadata(path).is_ok_and(|now| file.metadata().is_ok_and(|ours| ours.ino() == now.ino()));
    Ok(is_current.then_some(file))
}

fn read(path: &Path) -> Option<DiskRecord> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str) -> DiskRecord {
        let places = Places { volume: "/v".into(), control: "/c".into() };
        DiskRecord::new(id.into(), "/data/disk.img".into(), Bytes::gib(1), places)
    }

    #[test]
    fn records_come_back_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path()).unwrap();
        assert_eq!(store.load("a"), None);
        store.save(&record("b")).unwrap();
        store.save(&DiskRecord { ready: true, ..record("a") }).unwrap();
        fs::write(dir.path().join("c.json"), "{").unwrap();
        let ids: Vec<_> = store.all().unwrap().into_iter().map(|record| record.id).collect();
        assert_eq!(ids, ["a", "b"]);
        assert!(store.load("a").unwrap().ready);
        store.remove("a").unwrap();
        store.remove("a").unwrap();
        assert_eq!(store.load("a"), None);
    }

    #[test]
    fn a_disk_is_changed_by_one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path()).unwrap();
        let lock = store.lock("a", Duration::ZERO).unwrap();
        assert!(lock.is_some() && store.is_locked("a") && !store.is_locked("b"));
        assert!(store.lock("a", Duration::from_millis(20)).unwrap().is_none());
        store.sweep();
        assert!(store.is_locked("a"));
        drop(lock);
        assert!(!store.is_locked("a"));
        fs::write(dir.path().join("a.lock"), "").unwrap();
        store.sweep();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
