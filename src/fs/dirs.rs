//! Operations on open directories.
//!
//! Must not know: files' contents. Invariant: positions are the backing's, so that they stay valid while entries come
//! and go, and the kernel's count of look-ups matches the entries that it was really given.

use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::OFlags;

use super::inode::Inode;
use super::types::FileKind;
use super::{Caller, DirEntry, DirSink, FileSystem, FsCall, FsError, FsResult, On, Opened};
use crate::backing::{self, DirStream, Errno, RawEntry};
use crate::op::OpKind;

/// An open directory.
#[derive(Debug)]
pub(super) struct OpenDir {
    pub(super) inode: Arc<Inode>,
    pub(super) stream: Mutex<DirStream>,
}

/// What became of an entry.
enum Offered {
    Taken,
    Full,
}

impl FileSystem {
    /// Opens a directory.
    pub fn opendir(self: &Arc<Self>, c: Caller, node: u64, reply: impl FnOnce(FsResult<Opened>) + Send + 'static) {
        self.meta(OpKind::Opendir, On(c, node, None), reply, |fs, inode| {
            let object = fs.object(inode)?;
            let fd = fs.with_room(|| object.reopen(OFlags::RDONLY | OFlags::DIRECTORY))?;
            let stream = Mutex::new(DirStream::new(fd));
            let fh = fs.dirs.insert(OpenDir { inode: Arc::clone(inode), stream });
            Ok(Opened { fh, keep_cache: false, direct_io: false, parallel_direct_writes: false })
        });
    }

    /// Gives `sink` the entries from `offset` on (0: the start), until it is full. `plus`: each with a look-up.
    pub fn readdir(
        self: &Arc<Self>,
        c: Caller,
        _node: u64,
        fh: u64,
        offset: u64,
        plus: bool,
        mut sink: impl DirSink + Send + 'static,
    ) {
        let dir = match self.dir(fh) {
            Ok(dir) => dir,
            Err(error) => return sink.finish(Err(error)),
        };
        let inode = Arc::clone(&dir.inode);
        let call = FsCall::on(OpKind::Readdir, c, &inode);
        let fs = Arc::clone(self);
        self.with_op(&call, |op| {
            self.engine.submit(op, move |outcome| {
                let done = outcome.map_err(FsError::from).and_then(|()| fs.fill(&dir, offset, plus, &mut sink));
                sink.finish(done);
            });
        });
    }

    /// A directory was closed. Never held.
    pub fn releasedir(&self, fh: u64) {
        drop(self.dirs.remove(fh));
    }

    /// Brings a directory's entries to the disk.
    pub fn fsyncdir(
        self: &Arc<Self>,
        c: Caller,
        node: u64,
        fh: u64,
        data_only: bool,
        reply: impl FnOnce(FsResult<()>) + Send + 'static,
    ) {
        self.meta(OpKind::Fsyncdir, On(c, node, None), reply, move |fs, _| {
            let dir = fs.dir(fh)?;
            Ok(backing::sync(&*dir.stream.lock(), data_only)?)
        });
    }

    pub(super) fn dir(&self, fh: u64) -> FsResult<Arc<OpenDir>> {
        self.dirs.get(fh).ok_or(FsError::UnknownHandle)
    }

    fn fill(&self, dir: &OpenDir, offset: u64, plus: bool, sink: &mut impl DirSink) -> FsResult<()> {
        let mut stream = dir.stream.lock();
        stream.seek(offset)?;
        let mut given = 0_u64;
        while let Some(raw) = stream.peek()? {
            match self.offer(dir, &raw, plus, sink) {
                Ok(Offered::Taken) => given += 1,
                Ok(Offered::Full) => break,
                // Removed since the directory was read.
                Err(FsError::Backing(Errno::NOENT)) => {}
                // What was given already must not be lost; the error comes again with the next request.
                Err(_) if given > 0 => break,
                Err(error) => return Err(error),
            }
            stream.advance();
        }
        Ok(())
    }

    fn offer(&self, dir: &OpenDir, found: &RawEntry<'_>, plus: bool, sink: &mut impl DirSink) -> FsResult<Offered> {
        let name = found.name;
        let dots = name == "." || name == "..";
        let entry = if plus && !dots { Some(self.do_lookup(&dir.inode, name)?) } else { None };
        let (ino, kind) = match entry {
            Some(entry) => (entry.attr.ino, entry.attr.kind),
            None => (self.shown_ino(&dir.inode, found), self.shown_kind(&dir.inode, found, dots)?),
        };
        let full = sink.add(&DirEntry { ino, offset: found.next, kind, name, entry });
        if let (true, Some(entry)) = (full, entry) {
            self.forget(entry.attr.ino, 1);
        }
        Ok(if full { Offered::Full } else { Offered::Taken })
    }

    fn shown_ino(&self, dir: &Arc<Inode>, found: &RawEntry<'_>) -> u64 {
        match found.name.to_str() {
            Some(".") => dir.node,
            Some("..") => self.parent(dir).node,
            _ => self.store.table.node_of(dir.key.dev, found.ino),
        }
    }

    /// The type of an entry; asked of the entry itself if the directory does not say.
    fn shown_kind(&self, dir: &Arc<Inode>, found: &RawEntry<'_>, dots: bool) -> FsResult<FileKind> {
        if dots {
            return Ok(FileKind::Directory);
        }
        match FileKind::of(found.kind) {
            Some(kind) => Ok(kind),
            None => Ok(FileKind::of_stat(&backing::stat_name(&self.object(dir)?, found.name)?)),
        }
    }
}
