//! A file's capabilities while changed pages of it are written back.
//!
//! A write removes a file's capabilities. Write-back is no such write: a process has changed the pages through a mapping, which leaves
//! the capabilities in place, or by a `write(2)`, which removed them before another process set new ones. But the backing sees a write.
//!
//! Must not know: callers. Invariant: capabilities that another process removes meanwhile do not come back.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::backing::Object;

/// The extended attribute that holds a file's capabilities.
pub(super) const FILE_CAPABILITIES: &str = "security.capability";
/// Longer than any that Linux knows.
const LONGEST: usize = 64;
/// `XATTR_CREATE`: unless there is one.
const CREATE: u32 = 1;

/// What is known of a file's capabilities.
#[derive(Debug, Default)]
pub(super) struct FileCapabilities {
    /// It has none.
    absent: AtomicBool,
    /// How often they were removed.
    removals: AtomicU32,
}

impl FileCapabilities {
    /// They were set.
    pub(super) fn note_set(&self) {
        self.absent.store(false, Ordering::SeqCst);
    }

    /// They are about to be removed.
    pub(super) fn note_removal(&self) {
        self.removals.fetch_add(1, Ordering::SeqCst);
    }

    /// Does `write`, and gives the file back the capabilities that it took.
    pub(super) fn kept<T>(&self, file: &Arc<OwnedFd>, write: impl FnOnce() -> T) -> T {
        if self.absent.load(Ordering::SeqCst) {
            return write();
        }
        let (object, name) = (Object::opened(Arc::clone(file)), OsStr::new(FILE_CAPABILITIES));
        let before = self.removals.load(Ordering::SeqCst);
        // Noted before the look: a process that sets them meanwhile clears it again.
        self.absent.store(true, Ordering::SeqCst);
        let mut value = [0; LONGEST];
        let Ok(length) = object.get_xattr(name, &mut value) else { return write() };
        self.absent.store(false, Ordering::SeqCst);
        let written = write();
        // It fails if they were not taken, or if others were set; a daemon without CAP_SETFCAP may not do it.
        let back = object.set_xattr(name, &value[..length], CREATE);
        if back.is_ok() && self.removals.load(Ordering::SeqCst) != before {
            let _ = object.remove_xattr(name);
        }
        written
    }
}
