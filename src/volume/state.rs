//! What is provisioned survives: the checkpoint of a volume between two mounts.
//!
//! The file stands next to the volume's identity (`/var/lib/stunfs/ID.json`, or under `$XDG_STATE_HOME` for users), never
//! inside the backing. While the volume is mounted the file says `clean: false`, and its lock file (`ID.lock`) a bound
//! that the pool's use has not passed; a clean end replaces the former by the whole checkpoint. Invariant: the file is
//! replaced as a whole or not at all, and a volume that finds `clean: false` never starts with less pool use than the
//! last session had (if the machine crashed: than it had half a minute before, since the bound is not synced).

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::state_collection::{self, BackingIdentity};
use super::state_lock::StateLock;
use crate::model::PoolCheckpoint;
use crate::options::StateFile;
use crate::units::Bytes;

/// Version of the file's form.
const VERSION: u32 = 1;

/// The floor in the lock file, in decimal.
const FLOOR_DIGITS: usize = 20;

#[derive(Debug, Serialize, Deserialize)]
struct SavedState {
    version: u32,
    backing: PathBuf,
    /// The backing directory's birth: another directory of the same name and inode is another volume.
    born: Option<SystemTime>,
    clean: bool,
    /// Pool use is at least this.
    floor_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    identity: Option<BackingIdentity>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[serde(rename = "books")]
    checkpoint: Option<PoolCheckpoint>,
}

/// What the last session left.
#[derive(Debug)]
pub(super) enum Left {
    /// There was none.
    Nothing,
    /// It ended cleanly.
    Clean(Box<PoolCheckpoint>),
    /// It did not, or the file cannot be read; pool use was at least this.
    Crashed {
        /// Pool use.
        floor: Bytes,
        /// Why, for the event.
        reason: String,
    },
    /// The file belongs to another backing, which is there still and would lose what it knows of its pool.
    Anothers {
        /// What to tell the user.
        refusal: String,
    },
}

/// The state file of a mounted volume. It and the backing are locked against a second volume.
#[derive(Debug)]
pub(super) struct StateStore {
    path: Option<PathBuf>,
    backing: PathBuf,
    born: Option<SystemTime>,
    /// Holds the floor, too.
    lock: Option<StateLock>,
    directory: File,
    identity: Option<BackingIdentity>,
    /// The directory of all states of this user, if this is one of them.
    collection: Option<PathBuf>,
    warned: AtomicBool,
}

impl StateStore {
    /// Finds and locks the state of `backing` (an absolute path without symlinks).
    ///
    /// Fails with `WouldBlock` if another volume of the same backing is mounted, with `InvalidInput` if the file would
    /// stand inside the backing.
    pub(super) fn open(choice: &StateFile, backing: &Path) -> io::Result<Self> {
        let path = match choice {
            StateFile::None => None,
            StateFile::At(path) => Some(std::path::absolute(path)?),
            StateFile::Default => Some(default_path(backing)?),
        };
        let born = std::fs::metadata(backing)?.created().ok();
        let directory = lock_directory(backing)?;
        let lock = path.as_deref().map(|path| lock_beside(path, backing)).transpose()?;
        let collection = if *choice == StateFile::Default { path.as_deref().and_then(Path::parent) } else { None };
        let collection = collection.map(Path::to_owned);
        let identity = path.as_ref().and_then(|_| BackingIdentity::of(backing));
        let backing = backing.to_owned();
        Ok(Self { path, backing, born, lock, directory, identity, collection, warned: AtomicBool::new(false) })
    }

    /// Lets another volume have the backing, even while this is still held.
    pub(super) fn unlock(&self) {
        if let Some(lock) = &self.lock {
            lock.unlock();
        }
        // Closing the file does the same, only later.
        let _ = flock(&self.directory, FlockOperation::Unlock);
    }

    /// Removes states of backings that are gone, in the background: a file system that is asked may not answer.
    pub(super) fn collect_others(&self) {
        if let Some(directory) = self.collection.clone() {
            let body = move || state_collection::collect(&directory);
            if let Err(error) = std::thread::Builder::new().name("stunfs-collect".into()).spawn(body) {
                tracing::debug!("old states are not looked at: {error}");
            }
        }
    }

    /// What the last session left.
    pub(super) fn load(&self) -> Left {
        let Some(path) = &self.path else { return Left::Nothing };
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Left::Nothing,
            Err(error) => return crashed(self.floor(), format!("{} cannot be read: {error}", path.display())),
        };
        match serde_json::from_slice::<SavedState>(&text) {
            Err(error) => crashed(self.floor(), format!("{} cannot be understood: {error}", path.display())),
            Ok(saved) if self.is_anothers(&saved) => {
                let (path, other) = (path.display(), saved.backing.display());
                let refusal = format!(
                    "the state file {path} is that of another backing, {other}; choose another --state, or remove it"
                );
                Left::Anothers { refusal }
            }
            Ok(saved) if saved.version != VERSION => {
                crashed(self.floor_of(&saved), format!("{} has another version", path.display()))
            }
            Ok(saved) if saved.born != self.born => Left::Nothing,
            Ok(SavedState { clean: true, checkpoint: Some(checkpoint), .. }) => Left::Clean(Box::new(checkpoint)),
            Ok(saved) => crashed(self.floor_of(&saved), "the last session did not end cleanly".into()),
        }
    }

    /// A backing that has another name now is no other one.
    fn is_anothers(&self, saved: &SavedState) -> bool {
        let (theirs, ours) = (std::fs::metadata(&saved.backing), self.directory.metadata());
        let (Ok(theirs), Ok(ours)) = (theirs, ours) else { return false };
        (theirs.dev(), theirs.ino()) != (ours.dev(), ours.ino()) && theirs.created().ok() == saved.born
    }

    fn floor_of(&self, saved: &SavedState) -> Bytes {
        self.floor().max(Bytes(saved.floor_bytes))
    }

    /// What the lock file says; nothing if it says nothing sensible.
    fn floor(&self) -> Bytes {
        let mut digits = [0; FLOOR_DIGITS];
        let read = self.lock.as_ref().map(|lock| lock.file().read_exact_at(&mut digits, 0));
        let text = read.and_then(Result::ok).and_then(|()| std::str::from_utf8(&digits).ok());
        Bytes(text.and_then(|text| text.parse().ok()).unwrap_or(0))
    }

    /// Records that the pool's use may reach `floor`. One system call, on files in the page cache: it may be made while
    /// operations wait for it.
    pub(super) fn keep_floor(&self, floor: Bytes) {
        let Some(lock) = &self.lock else { return };
        let text = format!("{:0width$}\n", floor.0, width = FLOOR_DIGITS);
        if let Err(error) = lock.file().write_all_at(text.as_bytes(), 0)
            && !self.warned.swap(true, Relaxed)
        {
            tracing::warn!("the use of the pool cannot be recorded; after a crash it will seem smaller: {error}");
        }
    }

    /// Says that a session is under way whose pool use is at least `floor`.
    pub(super) fn mark_open(&self, floor: Bytes) -> io::Result<()> {
        self.write(false, floor, None)
    }

    /// Keeps the checkpoint of a session that ended cleanly.
    pub(super) fn save(&self, checkpoint: PoolCheckpoint, used: Bytes) -> io::Result<()> {
        self.write(true, used, Some(checkpoint))
    }

    fn write(&self, clean: bool, floor: Bytes, checkpoint: Option<PoolCheckpoint>) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let saved = SavedState {
            version: VERSION,
            backing: self.backing.clone(),
            born: self.born,
            clean,
            floor_bytes: floor.0,
            identity: self.identity.clone(),
            checkpoint,
        };
        let directory = path.parent().unwrap_or(Path::new("/"));
        let mut file = tempfile::Builder::new().prefix(".stunfs-state").tempfile_in(directory)?;
        serde_json::to_writer(&mut file, &saved)?;
        file.flush()?;
        file.as_file().sync_data()?;
        file.persist(path)?;
        self.lock.iter().for_each(StateLock::keep);
        Ok(())
    }
}

/// Locks the backing's directory. A file system that cannot do that is trusted.
fn lock_directory(backing: &Path) -> io::Result<File> {
    let directory = File::open(backing)?;
    match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let text =
                format!("another volume of {} is mounted or still ending; end that one first", backing.display());
            Err(io::Error::new(io::ErrorKind::WouldBlock, text))
        }
        _ => Ok(directory),
    }
}

/// Makes and locks the lock file beside the state file `path`, which must be a file and not lie in `backing`.
fn lock_beside(path: &Path, backing: &Path) -> io::Result<StateLock> {
    let invalid = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    let directory = path.parent().unwrap_or(Path::new("/"));
    if directory.canonicalize().is_ok_and(|real| real.starts_with(backing)) {
        return invalid(format!(
            "the state file {} would stand inside the backing; choose another --state",
            path.display()
        ));
    }
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return invalid(format!("the state file {} is there and not a file; choose another --state", path.display()));
    }
    StateLock::beside(path).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => {
            let text = format!("another volume keeps its state in {}; choose another --state", path.display());
            io::Error::new(io::ErrorKind::WouldBlock, text)
        }
        _ => error,
    })
}

const fn crashed(floor: Bytes, reason: String) -> Left {
    Left::Crashed { floor, reason }
}

/// `ID.json` in the state directory, which is made if it is missing.
fn default_path(backing: &Path) -> io::Result<PathBuf> {
    let directory = state_directory()?;
    DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
    let metadata = std::fs::metadata(backing)?;
    let name = backing.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(32).collect();
    Ok(directory.join(format!("{name}-{:x}-{:x}.json", metadata.dev(), metadata.ino())))
}

fn state_directory() -> io::Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/stunfs".into());
    }
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let base = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).or(home);
    base.map(|base| base.join("stunfs")).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            "neither XDG_STATE_HOME nor HOME is set; give --state FILE or --state none",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(directory: &Path) -> StateStore {
        let backing = directory.join("backing");
        let _ = std::fs::create_dir(&backing);
        StateStore::open(&StateFile::At(directory.join("state.json")), &backing).unwrap()
    }

    #[test]
    fn a_session_that_did_not_end_leaves_its_floor() {
        let directory = tempfile::tempdir().unwrap();
        let first = store(directory.path());
        assert!(matches!(first.load(), Left::Nothing));
        first.mark_open(Bytes::mib(7)).unwrap();
        drop(first);
        let Left::Crashed { floor, .. } = store(directory.path()).load() else { panic!("not crashed") };
        assert_eq!(floor, Bytes::mib(7));
    }

    #[test]
    fn a_second_volume_of_the_same_backing_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let _first = store(directory.path());
        let again = StateStore::open(&StateFile::At(directory.path().join("state.json")), directory.path());
        assert!(again.is_err());
    }

    #[test]
    fn garbage_is_a_crash_and_not_a_panic() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("state.json"), b"{\"version\":").unwrap();
        assert!(matches!(store(directory.path()).load(), Left::Crashed { .. }));
    }

    /// It was overwritten without a word.
    #[test]
    fn regression_the_state_of_another_backing_was_overwritten() {
        let temporary = tempfile::tempdir().unwrap();
        store(temporary.path()).mark_open(Bytes(7)).unwrap();
        let other = temporary.path().join("other");
        std::fs::create_dir(&other).unwrap();
        let choice = StateFile::At(temporary.path().join("state.json"));
        let ours = StateStore::open(&choice, &other).unwrap();
        let Left::Anothers { refusal } = ours.load() else { panic!("not refused") };
        assert!(refusal.contains("another backing, /"), "{refusal}");
        std::fs::remove_dir(temporary.path().join("backing")).unwrap();
        assert!(!matches!(ours.load(), Left::Anothers { .. }), "the other one is gone");
    }

    #[test]
    fn regression_a_refused_state_left_a_lock_file() {
        let temporary = tempfile::tempdir().unwrap();
        let (backing, path) = (temporary.path().join("backing"), temporary.path().join("state"));
        std::fs::create_dir(&backing).unwrap();
        let open = || StateStore::open(&StateFile::At(path.clone()), &backing);
        std::fs::create_dir(&path).unwrap();
        let error = open().unwrap_err();
        assert!(error.to_string().contains("not a file"), "{error}");
        std::fs::remove_dir(&path).unwrap();
        // A mount that fails before anything is kept leaves nothing; then it stays.
        drop(open().unwrap());
        open().unwrap().unlock();
        assert!(!path.with_extension("lock").exists());
        open().unwrap().mark_open(Bytes(7)).unwrap();
        assert!(path.with_extension("lock").exists());
    }

    #[test]
    fn never_inside_the_backing() {
        let directory = tempfile::tempdir().unwrap();
        let error = StateStore::open(&StateFile::At(directory.path().join("s.json")), directory.path()).unwrap_err();
        assert!(error.to_string().contains("inside the backing"));
    }
}
