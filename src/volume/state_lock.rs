//! The lock file beside a state file.
//!
//! Must not know: what the state is. Invariant: the lock that a process has is that of the file which now has its name, so a
//! lock file may be removed by the process that has it, and is if nothing else was made.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::fs::{FlockOperation, flock};

/// How often another process may remove the file between its opening and its locking.
const TRIES: usize = 16;

/// A lock file, locked.
#[derive(Debug)]
pub(super) struct StateLock {
    path: PathBuf,
    file: File,
    /// It was not there before, and nothing was kept beside it.
    unneeded: AtomicBool,
}

impl StateLock {
    /// Locks the file beside the state file `state`; `WouldBlock` if another process has it.
    pub(super) fn beside(state: &Path) -> io::Result<Self> {
        let path = state.with_extension("lock");
        for _ in 0..TRIES {
            let is_new = !path.exists();
            let mut options = OpenOptions::new();
            options.create(true).read(true).write(true).truncate(false).mode(0o600);
            let file = options.open(&path)?;
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            if names(&path, &file) {
                return Ok(Self { path, file, unneeded: AtomicBool::new(is_new) });
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// The file, which has room for a line.
    pub(super) const fn file(&self) -> &File {
        &self.file
    }

    /// Something is kept beside it: it stays.
    pub(super) fn keep(&self) {
        self.unneeded.store(false, Relaxed);
    }

    /// Removes the file, and with it the lock.
    pub(super) fn remove(&self) {
        if names(&self.path, &self.file) {
            // What is left is an empty file.
            let _ = std::fs::remove_file(&self.path);
        }
    }

    /// Lets another process have it, even while this is still held.
    pub(super) fn unlock(&self) {
        if self.unneeded.swap(false, Relaxed) {
            self.remove();
        }
        // Closing the file does the same, only later.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

impl Drop for StateLock {
    fn drop(&mut self) {
        if self.unneeded.load(Relaxed) {
            self.remove();
        }
    }
}

/// Whether `path` is the name of `file`.
fn names(path: &Path, file: &File) -> bool {
    let same =
        |there: std::fs::Metadata, ours: std::fs::Metadata| (there.dev(), there.ino()) == (ours.dev(), ours.ino());
    std::fs::symlink_metadata(path).is_ok_and(|there| file.metadata().is_ok_and(|ours| same(there, ours)))
}
