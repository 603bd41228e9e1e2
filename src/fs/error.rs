//! What can go wrong, and the one place where it becomes an errno.
//!
//! Must not know: how an error is sent to the kernel. Invariant: every error has an errno, and no two places decide it.

use crate::backing::Errno;
use crate::engine::errno_of;
use crate::model::Refusal;

/// The answer to an operation.
pub type FsResult<T> = Result<T, FsError>;

/// Why an operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FsError {
    /// The model has no space for it.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The backing's file system says no.
    #[error("the backing answers: {0}")]
    Backing(#[from] Errno),
    /// The kernel speaks of a node that it was never told of, or has forgotten.
    #[error("no such node")]
    UnknownNode,
    /// The kernel speaks of an open file that there is not.
    #[error("no such open file")]
    UnknownHandle,
    /// A file was replaced by something else between two looks at its name.
    #[error("the file was replaced meanwhile")]
    Replaced,
    /// Only a regular file can be opened for reading and writing here.
    #[error("not a regular file")]
    NotRegular,
    /// An ioctl that is not let through.
    #[error("no such ioctl here")]
    UnknownIoctl,
    /// The kernel need not ask this, and stops once it hears so.
    #[error("not needed")]
    NotNeeded,
}

impl FsError {
    /// The errno that the caller gets.
    pub const fn errno(&self) -> i32 {
        self.code().raw_os_error()
    }

    const fn code(self) -> Errno {
        match self {
            Self::Refused(refusal) => errno_of(refusal).0,
            Self::Backing(errno) => errno,
            // The kernel answers ESTALE by looking the path up again.
            Self::UnknownNode | Self::Replaced => Errno::STALE,
            Self::UnknownHandle => Errno::BADF,
            Self::NotRegular => Errno::INVAL,
            Self::UnknownIoctl => Errno::NOTTY,
            Self::NotNeeded => Errno::NOSYS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_pool_is_no_space() {
        assert_eq!(FsError::from(Refusal::PoolFull).errno(), Errno::NOSPC.raw_os_error());
        assert_eq!(FsError::from(Refusal::VolumeFull).errno(), Errno::NOSPC.raw_os_error());
        assert_eq!(FsError::from(Errno::ROFS).errno(), Errno::ROFS.raw_os_error());
    }
}
