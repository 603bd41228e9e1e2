//! What goes into the file system and what comes out.
//!
//! Must not know: system calls, FUSE. Invariant: times keep their nanoseconds, and nothing here is a raw kernel struct.

use std::ffi::OsStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{FileType, Stat};

use super::FsResult;
use crate::backing::whole_blocks;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the kind of that name")]
pub enum FileKind {
    NamedPipe,
    CharDevice,
    BlockDevice,
    Directory,
    RegularFile,
    Symlink,
    Socket,
}

impl FileKind {
    /// The backing's type; `None`: it does not say.
    pub(super) const fn of(kind: FileType) -> Option<Self> {
        Some(match kind {
            FileType::Fifo => Self::NamedPipe,
            FileType::CharacterDevice => Self::CharDevice,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::Directory => Self::Directory,
            FileType::RegularFile => Self::RegularFile,
            FileType::Symlink => Self::Symlink,
            FileType::Socket => Self::Socket,
            FileType::Unknown => return None,
        })
    }

    pub(super) fn of_stat(stat: &Stat) -> Self {
        Self::of(FileType::from_raw_mode(stat.st_mode)).unwrap_or(Self::RegularFile)
    }
}

/// Attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// The node, and what `stat(2)` shows as the inode number: the backing's own, save for the root (1) and for what
    /// is on another file system than the root.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Units of 512 bytes.
    pub blocks: u64,
    /// Last access.
    pub atime: SystemTime,
    /// Last change of the contents.
    pub mtime: SystemTime,
    /// Last change of the attributes.
    pub ctime: SystemTime,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits, set-id and sticky bits included.
    pub perm: u16,
    /// How many names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The device, of a device; as the kernel encodes it (`new_encode_dev`).
    pub rdev: u32,
    /// The size that I/O is best done in.
    pub blksize: u32,
}

impl Attr {
    /// The attributes in `stat`, under the number `ino`.
    pub(super) fn new(ino: u64, stat: &Stat) -> Self {
        Self {
            ino,
            size: whole(stat.st_size),
            blocks: whole(stat.st_blocks),
            atime: time(stat.st_atime, whole(stat.st_atime_nsec)),
            mtime: time(stat.st_mtime, whole(stat.st_mtime_nsec)),
            ctime: time(stat.st_ctime, whole(stat.st_ctime_nsec)),
            kind: FileKind::of_stat(stat),
            perm: whole(stat.st_mode & 0o7777),
            nlink: whole(stat.st_nlink),
            uid: stat.st_uid,
            gid: stat.st_gid,
            // 12 bits of major and 20 of minor number fit: the encoding is the same as the kernel's.
            rdev: whole(stat.st_rdev),
            blksize: whole(stat.st_blksize),
        }
    }
}

/// Converts between the integer types of the kernel's structs, which differ by architecture.
pub(super) fn whole<A, B: TryFrom<A> + Default>(number: A) -> B {
    B::try_from(number).unwrap_or_default()
}

fn time(seconds: i64, nanos: u32) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let start = if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    start.and_then(|time| time.checked_add(Duration::from_nanos(nanos.into()))).unwrap_or(UNIX_EPOCH)
}

/// An object that the kernel is told of; it counts one look-up for each of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Attributes; `attr.ino` is the node.
    pub attr: Attr,
    /// Tells apart two objects that have had the same node one after the other.
    pub generation: u64,
}

/// What the kernel says of a write beside its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteKind {
    /// The caller's own write, which may leave set-id bits (`CAP_FSETID`).
    WithFsetid,
    /// The caller's own write, which costs the file its set-id bits.
    WithoutFsetid,
    /// Changed pages that the kernel writes back, for nobody in particular.
    OfPages,
}

/// An open file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Its number.
    pub fh: u64,
    /// What the page cache holds of the file is still right.
    pub keep_cache: bool,
    /// The page cache is left out.
    pub direct_io: bool,
    /// Several may write at the same time.
    pub parallel_direct_writes: bool,
}

/// A time to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// The time it is when it is set.
    Now,
    /// This.
    At(SystemTime),
}

/// Attributes to set; what is `None` stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetAttr {
    /// Permission bits (type bits are ignored).
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Bytes.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<SetTime>,
    /// Last change of the contents.
    pub mtime: Option<SetTime>,
    /// The open file through which it was asked for.
    pub fh: Option<u64>,
}

/// Space, as `statfs(2)` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statfs {
    /// Blocks of `frsize` bytes in all.
    pub blocks: u64,
    /// Free ones.
    pub bfree: u64,
    /// Free ones for users other than root.
    pub bavail: u64,
    /// Inodes in all.
    pub files: u64,
    /// Free ones.
    pub ffree: u64,
    /// The size that I/O is best done in.
    pub bsize: u32,
    /// The longest name.
    pub namelen: u32,
    /// Bytes in a block.
    pub frsize: u32,
}

/// The answer to `getxattr` and `listxattr`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Xattr {
    /// The caller asked (with size 0) how long it is.
    Len(u32),
    /// The value, or the names, each ended by a NUL.
    Data(Vec<u8>),
}

/// An entry of a directory.
#[derive(Debug, Clone, Copy)]
pub struct DirEntry<'a> {
    /// Node.
    pub ino: u64,
    /// Where reading goes on after this entry.
    pub offset: u64,
    /// What it is.
    pub kind: FileKind,
    /// Name.
    pub name: &'a OsStr,
    /// With `plus`: what a look-up of it gives; never for `.` and `..`.
    pub entry: Option<Entry>,
}

/// Where the entries of a directory go.
pub trait DirSink {
    /// Takes an entry; `true`: it had no room for it, and takes no more.
    fn add(&mut self, entry: &DirEntry<'_>) -> bool;
    /// The end: sends what it has, or the error.
    fn finish(self, result: FsResult<()>);
}

/// Bytes of data that a file holds at most.
pub(super) fn data_bytes(stat: &Stat) -> u64 {
    whole_blocks(whole(stat.st_blocks), whole(stat.st_size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_keep_their_nanoseconds() {
        assert_eq!(time(-2, 500_000_000), UNIX_EPOCH - Duration::from_millis(1500));
        assert_eq!(time(2, 1), UNIX_EPOCH + Duration::new(2, 1));
    }
}
