//! What several writers do with files.
//!
//! Must not know: which writer. Invariant: nothing outside the writers' directory is created.

use std::fs;
use std::io;
use std::path::Path;

/// Creates a folder in a directory that exists.
pub(super) fn make_dir(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}
