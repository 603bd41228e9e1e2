//! The file system's types as fuser's, and back.
//!
//! Must not know: requests, replies. Invariant: nothing is lost on the way that the other side can carry.

use std::time::{Duration, SystemTime};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, FopenFlags, Generation, INodeNo, OpenFlags, Request, TimeOrNow, WriteFlags,
};
use rustix::fs::OFlags;

use crate::fs::{Attr, Entry, FileKind, FsError, Opened, SetTime, WriteKind};
use crate::op::Caller;

pub(super) fn caller(request: &Request) -> Caller {
    Caller { pid: request.pid(), uid: request.uid(), gid: request.gid() }
}

/// Whether a file's flags have `O_DIRECT`.
pub(super) const fn is_direct(flags: OpenFlags) -> bool {
    OFlags::from_bits_retain(flags.0.cast_unsigned()).contains(OFlags::DIRECT)
}

pub(super) const fn write_kind(flags: WriteFlags) -> WriteKind {
    if flags.contains(WriteFlags::FUSE_WRITE_CACHE) {
        WriteKind::OfPages
    } else if flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID) {
        WriteKind::WithoutFsetid
    } else {
        WriteKind::WithFsetid
    }
}

pub(super) fn errno(error: FsError) -> Errno {
    Errno::from_i32(error.errno())
}

pub(super) fn attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.blocks,
        atime: attr.atime,
        mtime: attr.mtime,
        ctime: attr.ctime,
        crtime: SystemTime::UNIX_EPOCH,
        kind: kind(attr.kind),
        perm: attr.perm,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: attr.blksize,
        flags: 0,
    }
}

pub(super) const fn generation(entry: &Entry) -> Generation {
    Generation(entry.generation)
}

pub(super) const fn kind(kind: FileKind) -> FileType {
    match kind {
        FileKind::NamedPipe => FileType::NamedPipe,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
        FileKind::Directory => FileType::Directory,
        FileKind::RegularFile => FileType::RegularFile,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Socket => FileType::Socket,
    }
}

pub(super) const fn opened(opened: &Opened, always: FopenFlags) -> (FileHandle, FopenFlags) {
    let mut flags = always;
    if opened.keep_cache {
        flags = flags.union(FopenFlags::FOPEN_KEEP_CACHE);
    }
    if opened.direct_io {
        flags = flags.union(FopenFlags::FOPEN_DIRECT_IO);
    }
    if opened.parallel_direct_writes {
        flags = flags.union(FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES);
    }
    (FileHandle(opened.fh), flags)
}

/// fuser 0.18 takes the nanoseconds of a time before 1970 off where they must be added: -1.5 s, which the kernel sends
/// as -2 s and 0.5e9 ns, arrives as -2.5 s.
pub(super) fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::SpecificTime(time) => SetTime::At(match SystemTime::UNIX_EPOCH.duration_since(time) {
            Ok(before) => time + Duration::from_nanos(2 * u64::from(before.subsec_nanos())),
            Err(_from_1970_on) => time,
        }),
        TimeOrNow::Now => SetTime::Now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_are_mended() {
        let epoch = SystemTime::UNIX_EPOCH;
        let set = |time| set_time(TimeOrNow::SpecificTime(time));
        assert_eq!(set(epoch - Duration::new(2, 500_000_000)), SetTime::At(epoch - Duration::new(1, 500_000_000)));
        assert_eq!(set(epoch - Duration::new(2, 0)), SetTime::At(epoch - Duration::new(2, 0)));
        assert_eq!(set(epoch + Duration::new(2, 5)), SetTime::At(epoch + Duration::new(2, 5)));
    }
}
