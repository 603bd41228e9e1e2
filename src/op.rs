//! What a file-system operation is: which one, on what, who asked.
//!
//! Must not know: how an operation is told of, held or carried out. Invariant: an [`OpKind`] stands in [`OpKind::ALL`] at its own
//! index, and its name never changes.

use std::sync::Arc;

use crate::units::ByteRange;

/// Which file-system operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is the operation of that name")]
pub enum OpKind {
    Lookup,
    Getattr,
    Setattr,
    Truncate,
    Readlink,
    Mknod,
    Mkdir,
    Unlink,
    Rmdir,
    Symlink,
    Rename,
    Link,
    Open,
    Create,
    Read,
    Write,
    Flush,
    Fsync,
    Opendir,
    Readdir,
    Fsyncdir,
    Statfs,
    Setxattr,
    Getxattr,
    Listxattr,
    Removexattr,
    Access,
    Fallocate,
    Lseek,
    CopyFileRange,
    Ioctl,
}

impl OpKind {
    /// Every operation; each stands at its own [`OpKind::index`].
    pub const ALL: [Self; 31] = [
        Self::Lookup,
        Self::Getattr,
        Self::Setattr,
        Self::Truncate,
        Self::Readlink,
        Self::Mknod,
        Self::Mkdir,
        Self::Unlink,
        Self::Rmdir,
        Self::Symlink,
        Self::Rename,
        Self::Link,
        Self::Open,
        Self::Create,
        Self::Read,
        Self::Write,
        Self::Flush,
        Self::Fsync,
        Self::Opendir,
        Self::Readdir,
        Self::Fsyncdir,
        Self::Statfs,
        Self::Setxattr,
        Self::Getxattr,
        Self::Listxattr,
        Self::Removexattr,
        Self::Access,
        Self::Fallocate,
        Self::Lseek,
        Self::CopyFileRange,
        Self::Ioctl,
    ];

    /// The place in [`OpKind::ALL`], for tables by operation.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Its name, in events, metrics and `ctl status`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lookup => "lookup",
            Self::Getattr => "getattr",
            Self::Setattr => "setattr",
            Self::Truncate => "truncate",
            Self::Readlink => "readlink",
            Self::Mknod => "mknod",
            Self::Mkdir => "mkdir",
            Self::Unlink => "unlink",
            Self::Rmdir => "rmdir",
            Self::Symlink => "symlink",
            Self::Rename => "rename",
            Self::Link => "link",
            Self::Open => "open",
            Self::Create => "create",
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Fsync => "fsync",
            Self::Opendir => "opendir",
            Self::Readdir => "readdir",
            Self::Fsyncdir => "fsyncdir",
            Self::Statfs => "statfs",
            Self::Setxattr => "setxattr",
            Self::Getxattr => "getxattr",
            Self::Listxattr => "listxattr",
            Self::Removexattr => "removexattr",
            Self::Access => "access",
            Self::Fallocate => "fallocate",
            Self::Lseek => "lseek",
            Self::CopyFileRange => "copy_file_range",
            Self::Ioctl => "ioctl",
        }
    }
}

/// Who asks: from the FUSE request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Caller {
    /// Process; 0: the kernel's own write-back.
    pub pid: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Who does what to what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Which operation.
    pub kind: OpKind,
    /// The backing's inode number.
    pub ino: u64,
    /// The path below the mount point; `?` if the file has no name any more.
    pub path: Arc<str>,
    /// The bytes, for operations on a range.
    pub range: Option<ByteRange>,
    /// Who asks.
    pub caller: Caller,
    /// The caller's command name (`/proc/PID/comm`); empty if it could not be read.
    pub command: Arc<str>,
}
