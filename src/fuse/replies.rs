//! Closures that answer a request with what the file system found.
//!
//! Must not know: requests. Invariant: whatever the result, exactly one answer goes out.

use std::time::{Duration, SystemTime};

use fuser::{
    FileAttr, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
};

use super::convert;
use crate::fs::{Attr, DirEntry, DirSink, Entry, FsResult, Opened, Statfs, Xattr};

/// How long the kernel may answer from what it knows of names and attributes. Only the mount changes the backing,
/// and the kernel forgets by itself what an operation through the mount has changed: a day, as a local file system
/// would never ask at all. (One second cost a request per `stat` and one more per `unlink`.)
const TTL: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn entry(reply: ReplyEntry) -> impl FnOnce(FsResult<Entry>) + Send + 'static {
    move |result| match result {
        Ok(entry) => reply.entry(&TTL, &convert::attr(&entry.attr), convert::generation(&entry)),
        Err(error) => reply.error(convert::errno(error)),
    }
}

pub(super) fn attr(reply: ReplyAttr) -> impl FnOnce(FsResult<Attr>) + Send + 'static {
    move |result| match result {
        Ok(attr) => reply.attr(&TTL, &convert::attr(&attr)),
        Err(error) => reply.error(convert::errno(error)),
    }
}

pub(super) fn empty(reply: ReplyEmpty) -> impl FnOnce(FsResult<()>) + Send + 'static {
    move |result| match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(convert::errno(error)),
    }
}

pub(super) fn data(reply: ReplyData) -> impl FnOnce(FsResult<Vec<u8>>) + Send + 'static {
    move |result| match result {
        Ok(data) => reply.data(&data),
        Err(error) => reply.error(convert::errno(error)),
    }
}

/// As [`data`], for data that are borrowed.
pub(super) fn bytes(reply: ReplyData) -> impl FnOnce(FsResult<&[u8]>) + Send + 'static {
    move |result| match result {
        Ok(bytes) => reply.data(bytes),
        Err(error) => reply.error(convert::errno(error)),
    }
}

pub(super) fn opened(reply: ReplyOpen, always: FopenFlags) -> impl FnOnce(FsResult<Opened>) + Send + 'static {
    move |result| match result {
        Ok(opened) => {
            let (fh, flags) = convert::opened(&opened, always);
            reply.opened(fh, flags);
        }
        Err(error) => reply.error(convert::errno(error)),
    }
}

pub(super) fn created(
    reply: ReplyCreate,
    always: FopenFlags,
) -> impl FnOnce(FsResult<(Entry, Opened)>) + Send + 'static {
    move |result| match result {
        Ok((entry, opened)) => {
            let (fh, flags) = convert::opened(&opened, always);
            reply.created(&TTL, &convert::attr(&entry.attr), convert::generation(&entry), fh, flags);
        }
        Err(error) => reply.error(convert::errno(error)),
    }
}

pub(super) fn written(reply: ReplyWrite) -> impl FnOnce(FsResult<u32>) + Send + 'static {
    move |result| match result {
        Ok(bytes) => reply.written(bytes),
        Err(error) => reply.error(convert::errno(error)),
    }
}

pub(super) fn offset(reply: ReplyLseek) -> impl FnOnce(FsResult<i64>) + Send + 'static {
    move |result| match result {
        Ok(offset) => reply.offset(offset),
        Err(error) => reply.error(convert::errno(error)),
    }
}

pub(super) fn statfs(reply: ReplyStatfs) -> impl FnOnce(FsResult<Statfs>) + Send + 'static {
    move |result| match result {
        Ok(s) => reply.statfs(s.blocks, s.bfree, s.bavail, s.files, s.ffree, s.bsize, s.namelen, s.frsize),
        Err(error) => reply.error(convert::errno(error)),
    }
}

pub(super) fn xattr(reply: ReplyXattr) -> impl FnOnce(FsResult<Xattr>) + Send + 'static {
    move |result| match result {
        Ok(Xattr::Len(length)) => reply.size(length),
        Ok(Xattr::Data(value)) => reply.data(&value),
        Err(error) => reply.error(convert::errno(error)),
    }
}

pub(super) fn ioctl(reply: ReplyIoctl) -> impl FnOnce(FsResult<Vec<u8>>) + Send + 'static {
    move |result| match result {
        Ok(out) => reply.ioctl(0, &out),
        Err(error) => reply.error(convert::errno(error)),
    }
}

/// Entries with nothing but their names and types.
pub(super) struct Plain(pub(super) ReplyDirectory);

impl DirSink for Plain {
    fn add(&mut self, entry: &DirEntry<'_>) -> bool {
        self.0.add(INodeNo(entry.ino), entry.offset, convert::kind(entry.kind), entry.name)
    }

    fn finish(self, result: FsResult<()>) {
        match result {
            Ok(()) => self.0.ok(),
            Err(error) => self.0.error(convert::errno(error)),
        }
    }
}

/// Entries with their attributes: a look-up of each in the same answer.
pub(super) struct Plus(pub(super) ReplyDirectoryPlus);

impl DirSink for Plus {
    fn add(&mut self, entry: &DirEntry<'_>) -> bool {
        let (attr, generation) = match &entry.entry {
            Some(found) => (convert::attr(&found.attr), convert::generation(found)),
            None => (name_only(entry), Generation(0)),
        };
        self.0.add(attr.ino, entry.offset, entry.name, &TTL, &attr, generation)
    }

    fn finish(self, result: FsResult<()>) {
        match result {
            Ok(()) => self.0.ok(),
            Err(error) => self.0.error(convert::errno(error)),
        }
    }
}

/// An entry that was not looked up. The kernel takes node 0 for that, and never looks at the node of `.` and `..`.
fn name_only(entry: &DirEntry<'_>) -> FileAttr {
    let is_dot = entry.name == "." || entry.name == "..";
    FileAttr {
        ino: INodeNo(if is_dot { entry.ino } else { 0 }),
        size: 0,
        blocks: 0,
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
        crtime: SystemTime::UNIX_EPOCH,
        kind: convert::kind(entry.kind),
        perm: 0,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}
