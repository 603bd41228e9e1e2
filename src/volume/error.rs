//! Why a volume could not be made or ended, by what the user can do about it: the one table from kinds of errors to exit
//! codes, and the one place that says of which kind the errors of other rooms are.
//!
//! Must not know: command lines. Invariant: every variant of the errors below has its row here; there is no "all others".

use std::io;
use std::path::Path;

use crate::control::ControlError;
use crate::fuse::MountError;
use crate::observe::kmsg::source::SourceError;
use crate::observe::sysctl::SysctlError;

/// The kinds of errors, by what the user can do. Each has an exit code of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The command line or an option is wrong, or what was asked does not go with the state of things.
    Usage,
    /// Something that is needed is not there or busy.
    Unavailable,
    /// A bug.
    Software,
    /// The system refuses a thread, a process, memory, a mount.
    Os,
    /// A file cannot be made.
    CantCreate,
    /// Reading or writing failed.
    Io,
    /// Not allowed.
    NoPermission,
    /// The machine is configured so that it cannot work.
    Config,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Usage,
        Self::Unavailable,
        Self::Software,
        Self::Os,
        Self::CantCreate,
        Self::Io,
        Self::NoPermission,
        Self::Config,
    ];

    /// The process's exit code: 2 for what the user typed, otherwise as in `sysexits.h`.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Unavailable => 69,
            Self::Software => 70,
            Self::Os => 71,
            Self::CantCreate => 73,
            Self::Io => 74,
            Self::NoPermission => 77,
            Self::Config => 78,
        }
    }
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
        Self::new(kind_of_io(error), format!("{what} {}: {error}", path.display()))
    }
}

/// The kind of a file that cannot be used.
fn kind_of_io(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::WouldBlock | io::ErrorKind::AddrInUse => ErrorKind::Unavailable,
        io::ErrorKind::PermissionDenied => ErrorKind::NoPermission,
        io::ErrorKind::InvalidInput => ErrorKind::Usage,
        io::ErrorKind::AlreadyExists
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::NotADirectory => ErrorKind::CantCreate,
        _ => ErrorKind::Io,
    }
}

impl From<MountError> for VolumeError {
    fn from(error: MountError) -> Self {
        let kind = match &error {
            MountError::MountpointMissing(_)
            | MountError::MountpointNotDirectory(_)
            | MountError::Busy { .. }
            | MountError::BackingMissing(_)
            | MountError::BackingNotDirectory(_)
            | MountError::Nested { .. }
            | MountError::Overlap { .. }
            | MountError::Unreadable { .. } => ErrorKind::Usage,
            MountError::NoDevice(_) | MountError::NoFusermount => ErrorKind::Unavailable,
            MountError::DeadMount { .. } | MountError::Failed { .. } => ErrorKind::Os,
            MountError::DeviceDenied(_) | MountError::AllowOtherDenied | MountError::MountDenied { .. } => {
                ErrorKind::NoPermission
            }
            MountError::RequestTimeout { .. } => ErrorKind::Config,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<ControlError> for VolumeError {
    fn from(error: ControlError) -> Self {
        let kind = match &error {
            ControlError::Live(_) | ControlError::NotASocket(_) => ErrorKind::Unavailable,
            ControlError::TooLong(_) => ErrorKind::Usage,
            ControlError::UnsafeDir(_) => ErrorKind::NoPermission,
            ControlError::System { source, .. } => match source.kind() {
                // An address of another machine.
                io::ErrorKind::AddrNotAvailable => ErrorKind::Unavailable,
                _ => kind_of_io(source),
            },
        };
        let way_out = match &error {
            ControlError::System { place, source, .. }
                if place.starts_with('/') && CANNOT_WRITE.contains(&source.kind()) =>
            {
                "; choose another path with --control FILE, or --control none"
            }
            _ => "",
        };
        Self::new(kind, format!("{error}{way_out}"))
    }
}

/// What a place says in which no socket can be made, such as a read-only `/run`.
const CANNOT_WRITE: [io::ErrorKind; 4] = [
    io::ErrorKind::ReadOnlyFilesystem,
    io::ErrorKind::PermissionDenied,
    io::ErrorKind::StorageFull,
    io::ErrorKind::NotFound,
];

impl From<SourceError> for VolumeError {
    fn from(error: SourceError) -> Self {
        let kind = match &error {
            SourceError::Open { cause, .. } | SourceError::Read { cause, .. } => kind_of_kernel_file(cause),
        };
        Self::new(kind, error.to_string())
    }
}

impl From<SysctlError> for VolumeError {
    fn from(error: SysctlError) -> Self {
        let kind = match &error {
            SysctlError::Busy { .. } => ErrorKind::Unavailable,
            SysctlError::Access { cause, .. } => kind_of_kernel_file(cause),
        };
        Self::new(kind, error.to_string())
    }
}

fn kind_of_kernel_file(cause: &io::Error) -> ErrorKind {
    if cause.kind() == io::ErrorKind::PermissionDenied { ErrorKind::NoPermission } else { ErrorKind::Unavailable }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_a_read_only_run_did_not_name_the_way_out() {
        let told = |kind: io::ErrorKind, place: &str| {
            let source = io::Error::from(kind);
            VolumeError::from(ControlError::System { what: "make", place: place.into(), source }).to_string()
        };
        let read_only = told(io::ErrorKind::ReadOnlyFilesystem, "/run/stunfs");
        assert!(read_only.contains("/run/stunfs") && read_only.contains("--control none"), "{read_only}");
        assert!(!told(io::ErrorKind::PermissionDenied, "127.0.0.1:80").contains("--control"));
    }
}
