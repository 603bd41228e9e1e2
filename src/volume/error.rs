//! Why a volume could not be made or ended, by what the user can do about it.

use std::io;
use std::path::Path;

/// The kinds, one for each exit code (sysexits where it has one).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// An option is wrong: 2.
    Usage,
    /// Something that is needed is not there or busy: 69.
    Unavailable,
    /// A bug: 70.
    Software,
    /// The system refuses a thread, a process, memory: 71.
    Os,
    /// A file cannot be made: 73.
    CantCreate,
    /// Reading or writing failed: 74.
    Io,
    /// Not allowed: 77.
    NoPermission,
}

/// One line: what was wrong, where, what to do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct VolumeError {
    kind: ErrorKind,
    message: String,
}

impl VolumeError {
    /// An error of `kind` that says `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// A wrong option.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// What the user can do about it.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// `what` failed at `path`.
    pub(super) fn io(what: &str, path: &Path, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::WouldBlock | io::ErrorKind::AddrInUse => ErrorKind::Unavailable,
            io::ErrorKind::PermissionDenied => ErrorKind::NoPermission,
            io::ErrorKind::InvalidInput => ErrorKind::Usage,
            io::ErrorKind::AlreadyExists
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::NotADirectory => ErrorKind::CantCreate,
            _ => ErrorKind::Io,
        };
        Self::new(kind, format!("{what} {}: {error}", path.display()))
    }
}
