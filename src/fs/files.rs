//! Operations on open files: open, create, read, write, sync, release.
//!
//! Must not know: directories' contents, allocation. Invariant: data reach the backing straight out of the request (or
//! out of the engine's copy, if the write was held), and only when the engine has let the write go.

use std::cell::Cell;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::fs::OFlags;

use super::inode::Inode;
use super::types::FileKind;
use super::{CacheMode, Caller, Entry, FileSystem, FsCall, FsError, FsResult, On, Opened, WriteKind};
use crate::backing::{self, Errno, Object, masked_by_thread};
use crate::engine::Later;
use crate::model::Access;
use crate::op::OpKind;
use crate::time::{Clock, SimTime};
use crate::units::ByteRange;

/// A thread keeps a read buffer of at most this size.
const KEPT_BYTES: usize = 1 << 20;

/// The backing is written in parts of at most this size. A larger write leaves a larger folio in its page cache, and each
/// 4 KiB write into that later walks all its blocks (ext4, Linux 6.18: 39 % of the daemon's time after 1 MiB writes). Parts of
/// 64 KiB cost a write of 1 MiB a quarter more processor time, these 6 %.
const PART: usize = 256 << 10;

/// Disk images, where small writes into what is there are the rule, are written in smaller parts: after writes of 1 MiB a disk had
/// 39 % of a plain loop's speed, after these 73 % (`benches/disk.sh`).
const IMAGE_PART: usize = 64 << 10;

/// A `stat` may wait as long as this for somebody else's flush.
const SOON: Duration = Duration::from_millis(1);

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// An open file.
#[derive(Debug)]
pub(super) struct OpenFile {
    /// First, so that it ends first: the tracker must hear of its end while the descriptor still keeps its number.
    pub(super) inode: Arc<Inode>,
    pub(super) fd: Arc<OwnedFd>,
    pub(super) writable: bool,
    /// Its writes wait for the disk.
    pub(super) synchronous: bool,
    /// Opened without `O_DIRECT`: its reads leave pages in the kernel.
    buffered: bool,
}

impl OpenFile {
    fn new(inode: &Arc<Inode>, fd: Arc<OwnedFd>, flags: OFlags) -> Self {
        let writable = flags.intersects(OFlags::WRONLY | OFlags::RDWR);
        inode.opened(writable);
        let synchronous = flags.intersects(OFlags::SYNC | OFlags::DSYNC);
        let buffered = !flags.contains(OFlags::DIRECT);
        if buffered {
            inode.kernel_copy.opened();
        }
        Self { inode: Arc::clone(inode), fd, writable, synchronous, buffered }
    }
}

/// What is to be done with a write beside writing.
#[derive(Clone, Copy)]
struct WriteHow {
    /// The kernel's pages are told to be forgotten.
    direct: bool,
    /// What it costs the file's set-id bits.
    kind: WriteKind,
}

impl FileSystem {
    /// Opens a file. `flags` as in `open(2)`; `O_TRUNC` is obeyed, so the kernel may leave it to us.
    pub fn open(
        self: &Arc<Self>,
        c: Caller,
        node: u64,
        flags: i32,
        reply: impl FnOnce(FsResult<Opened>) + Send + 'static,
    ) {
        let inode = match self.inode(node) {
            Ok(inode) => inode,
            Err(error) => return reply(Err(error)),
        };
        let (known, flags) = (Arc::clone(&inode), open_flags(flags));
        // A large file takes its time to be cut off.
        let call = FsCall { synchronous: flags.contains(OFlags::TRUNC), ..FsCall::on(OpKind::Open, c, &known) };
        self.submit(&call, reply, move |fs| fs.do_open(c, &inode, flags));
    }

    /// Makes a file and opens it; one that is there already is opened, unless `flags` has `O_EXCL`.
    #[expect(clippy::too_many_arguments, reason = "they are the request's")]
    pub fn create(
        self: &Arc<Self>,
        c: Caller,
        parent: u64,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: impl FnOnce(FsResult<(Entry, Opened)>) + Send + 'static,
    ) {
        self.entry(OpKind::Create, c, parent, name, reply, move |fs, parent, name| {
            let flags = open_flags(flags);
            match fs.make_file(c, parent, name, masked_by_thread(mode, umask), flags) {
                Err(FsError::Backing(Errno::EXIST)) if !flags.contains(OFlags::EXCL) => {
                    fs.open_existing(c, parent, name, flags)
                }
                result => result,
            }
        });
    }

    /// Reads. The reply gets the bytes in a buffer that is used again: fewer than `size` at the end of the file. `direct`: past
    /// the kernel's page cache.
    pub fn read(
        self: &Arc<Self>,
        c: Caller,
        direct: bool,
        fh: u64,
        offset: u64,
        size: u32,
        reply: impl FnOnce(FsResult<&[u8]>) + Send + 'static,
    ) {
        let Some(file) = self.files.get(fh) else { return reply(Err(FsError::UnknownHandle)) };
        if !direct {
            file.inode.kernel_copy.note_pages();
        }
        if !self.tracker().wants_learned_reads() {
            return self.read_learned(c, file, offset, size, reply);
        }
        let known = Arc::clone(&file);
        self.when_learned(&known, move |fs, known| match known {
            Ok(()) => fs.read_learned(c, file, offset, size, reply),
            Err(error) => reply(Err(error)),
        });
    }

    fn read_learned(
        self: &Arc<Self>,
        c: Caller,
        file: Arc<OpenFile>,
        offset: u64,
        size: u32,
        reply: impl FnOnce(FsResult<&[u8]>) + Send + 'static,
    ) {
        let range = ByteRange::at(offset, size.into());
        let known = Arc::clone(&file);
        let call = FsCall::within(OpKind::Read, c, &known, Access::Read(file.inode.key, range), range);
        let fs = Arc::clone(self);
        self.with_op(&call, |op| {
            self.engine.submit_read(op, move |outcome, may_wait| {
                match outcome {
                    Ok(()) if !may_wait => return fs.read_at_once(file, offset, size, reply),
                    Ok(()) => read_into_reply(&file, offset, size, reply),
                    Err(refusal) => reply(Err(refusal.into())),
                }
                None
            });
        });
    }

    /// Writes. `direct`: past the kernel's page cache, which is told to forget what it has of that range.
    #[expect(clippy::too_many_arguments, reason = "they are the request's")]
    pub fn write(
        self: &Arc<Self>,
        c: Caller,
        direct: bool,
        fh: u64,
        offset: u64,
        data: &[u8],
        kind: WriteKind,
        reply: impl FnOnce(FsResult<u32>) + Send + 'static,
    ) {
        let Some(file) = self.files.get(fh) else { return reply(Err(FsError::UnknownHandle)) };
        let how = WriteHow { direct, kind };
        match self.learn_at_once(&file) {
            Ok(true) => self.write_learned(c, file, offset, data, how, reply),
            Err(error) => reply(Err(error)),
            Ok(false) => {
                let (known, data) = (Arc::clone(&file), data.to_vec());
                self.learn_later(&known, move |fs, known| match known {
                    Ok(()) => fs.write_learned(c, file, offset, &data, how, reply),
                    Err(error) => reply(Err(error)),
                });
            }
        }
    }

    fn write_learned(
        self: &Arc<Self>,
        c: Caller,
        file: Arc<OpenFile>,
        offset: u64,
        data: &[u8],
        how: WriteHow,
        reply: impl FnOnce(FsResult<u32>) + Send + 'static,
    ) {
        let range = ByteRange::at(offset, u64::try_from(data.len()).unwrap_or(u64::MAX));
        let known = Arc::clone(&file);
        let call = FsCall::within(OpKind::Write, c, &known, Access::Write(file.inode.key, range), range);
        let fs = Arc::clone(self);
        self.with_op(&call, |op| {
            self.engine.submit_write(op, data, move |outcome| {
                let written =
                    outcome.map_err(FsError::from).and_then(|data| fs.do_write(c, &file, offset, data, how.kind));
                if how.direct {
                    fs.kernel_forgets(&file.inode, range, move || reply(written));
                } else {
                    reply(written);
                }
            });
        });
    }

    /// A descriptor was closed: nothing is left to do, and the kernel asks no more once it has heard so. (On a disk,
    /// too, `close(2)` does not wait for I/O.)
    pub fn flush(self: &Arc<Self>, c: Caller, node: u64, reply: impl FnOnce(FsResult<()>) + Send + 'static) {
        self.meta(OpKind::Flush, On(c, node, None), reply, |_, _| Err(FsError::NotNeeded));
    }

    /// The last descriptor was closed. Never held. (A thread that has just answered a write may still be about to let go
    /// of the file: that is not what the end of a file waits for.)
    pub fn release(&self, fh: u64) {
        if let Some(file) = self.files.remove(fh) {
            if file.buffered {
                file.inode.kernel_copy.closed();
            }
            file.inode.closed(file.writable);
        }
    }

    /// Brings a file to the disk; `data_only` as `fdatasync(2)`. `alone`: nobody else is waiting just now. Then the thread that
    /// asks does it, if the last one was done soon: to tell another thread would take a good part of that time.
    pub fn fsync(
        self: &Arc<Self>,
        c: Caller,
        fh: u64,
        data_only: bool,
        alone: bool,
        reply: impl FnOnce(FsResult<()>) + Send + 'static,
    ) {
        let file = match self.file(fh) {
            Ok(file) => file,
            Err(error) => return reply(Err(error)),
        };
        let known = Arc::clone(&file);
        let synchronous = !(alone && self.flushes_soon.load(Ordering::Relaxed));
        let call = FsCall { synchronous, ..FsCall::on(OpKind::Fsync, c, &known.inode) };
        self.submit(&call, reply, move |fs| {
            let clock = Clock::start();
            let done = backing::sync(&file.fd, data_only);
            fs.flushes_soon.store(clock.now().since(SimTime::ZERO) < SOON, Ordering::Relaxed);
            Ok(done?)
        });
    }

    pub(super) fn file(&self, fh: u64) -> FsResult<Arc<OpenFile>> {
        self.files.get(fh).ok_or(FsError::UnknownHandle)
    }

    fn do_open(&self, c: Caller, inode: &Arc<Inode>, flags: OFlags) -> FsResult<Opened> {
        // Opening a FIFO would wait for its other end.
        if inode.kind != FileKind::RegularFile {
            return Err(FsError::NotRegular);
        }
        let object = self.object(inode)?;
        let (fd, readable) = self.with_room(|| self.reopen(&object, flags))?;
        let opened = self.opened(inode, Arc::new(fd), flags);
        if flags.contains(OFlags::TRUNC) {
            // Through the descriptor if it can write: a file that is empty already gets the time, too.
            let file = self.file(opened.fh)?;
            let open = file.writable.then_some(&*file);
            self.resize(c, inode, &object, open, 0).inspect_err(|_| self.release(opened.fh))?;
        }
        if readable {
            return Ok(opened);
        }
        // The kernel must not fill a page with what is around a write. Pages that others have changed stay.
        Ok(Opened { direct_io: true, keep_cache: true, ..opened })
    }

    /// Opens a backing's file, and whether it can be read if the cache mode needs that.
    fn reopen(&self, object: &Object, flags: OFlags) -> Result<(OwnedFd, bool), Errno> {
        let wanted = self.backing_flags(flags);
        let opened = match object.reopen(wanted) {
            // An append-only file (`chattr +a`) opens for appending only.
            Err(Errno::PERM) if flags.contains(OFlags::APPEND) => object.reopen(wanted | OFlags::APPEND),
            // A file whose owner may write it, but not read it.
            Err(Errno::ACCESS) if flags.contains(OFlags::WRONLY) && wanted.contains(OFlags::RDWR) => {
                return Ok((self.unless_reserved(object.reopen((wanted - OFlags::RDWR) | OFlags::WRONLY)?)?, false));
            }
            opened => opened,
        };
        Ok((self.unless_reserved(opened?)?, true))
    }

    fn make_file(
        &self,
        c: Caller,
        parent: &Arc<Inode>,
        name: &OsStr,
        mode: u32,
        flags: OFlags,
    ) -> FsResult<(Entry, Opened)> {
        let dir = self.object(parent)?;
        let create = || {
            let fd = backing::create(&dir, name, self.backing_flags(flags), mode)?;
            self.unless_reserved(fd).inspect_err(|_| {
                let _ = backing::remove(&dir, name, false);
            })
        };
        let fd = Arc::new(self.with_room(create)?);
        // The new file's descriptor serves for the object as well: one look-up saved.
        let object = Object::opened(Arc::clone(&fd));
        let stat = self.give_to(c, &dir, &object).inspect_err(|_| {
            let _ = backing::remove(&dir, name, false);
        })?;
        let (inode, entry) = self.enter(parent, name, object, &stat);
        self.note_created(&inode);
        Ok((entry, self.opened(&inode, fd, flags)))
    }

    fn open_existing(&self, c: Caller, parent: &Arc<Inode>, name: &OsStr, flags: OFlags) -> FsResult<(Entry, Opened)> {
        let entry = self.do_lookup(parent, name)?;
        let opened = self.inode(entry.attr.ino).and_then(|inode| match inode.kind {
            FileKind::RegularFile => self.do_open(c, &inode, flags),
            _ => Err(FsError::Replaced),
        });
        opened.map(|opened| (entry, opened)).inspect_err(|_| self.forget(entry.attr.ino, 1))
    }

    /// Reads what is in memory; a read that would wait for the disk is given back.
    fn read_at_once<R>(&self, file: Arc<OpenFile>, offset: u64, size: u32, reply: R) -> Option<Later>
    where
        R: FnOnce(FsResult<&[u8]>) + Send + 'static,
    {
        if !self.backing_can_tell.load(Ordering::Relaxed) {
            read_into_reply(&file, offset, size, reply);
            return None;
        }
        let mut buffer = ReadBuffer::of(size);
        let read = match backing::read_at_once(&file.fd, buffer.bytes(), offset) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.backing_can_tell.store(false, Ordering::Relaxed);
                Ok(None)
            }
            read => read,
        };
        match read {
            Ok(Some(read)) => reply(Ok(&buffer.bytes()[..read])),
            Ok(None) => return Some(Box::new(move || read_into_reply(&file, offset, size, reply))),
            Err(error) => reply(Err(error.into())),
        }
        None
    }

    fn do_write(&self, c: Caller, file: &OpenFile, offset: u64, data: &[u8], kind: WriteKind) -> FsResult<u32> {
        if kind == WriteKind::WithoutFsetid {
            self.drop_set_id(c, &file.inode, &Object::opened(Arc::clone(&file.fd)))?;
        }
        let most = if self.options.direct_io_for_o_direct { IMAGE_PART } else { PART };
        let write = || write_in_parts(&file.fd, offset, data, most);
        let written = if kind == WriteKind::OfPages { file.inode.capabilities.kept(&file.fd, write) } else { write() }?;
        Ok(u32::try_from(written).unwrap_or(u32::MAX))
    }

    fn opened(&self, inode: &Arc<Inode>, fd: Arc<OwnedFd>, flags: OFlags) -> Opened {
        let fh = self.files.insert(OpenFile::new(inode, fd, flags));
        let by_flag = self.options.direct_io_for_o_direct && flags.contains(OFlags::DIRECT);
        let direct = self.options.cache == CacheMode::Direct || by_flag;
        Opened { fh, keep_cache: !direct, direct_io: direct, parallel_direct_writes: direct }
    }

    /// How the backing's file is opened for a caller who opens with `flags`. The offset of an appending write comes from
    /// the kernel, and requests are not aligned as `O_DIRECT` wants it.
    fn backing_flags(&self, flags: OFlags) -> OFlags {
        let mut kept = OFlags::RDONLY | OFlags::WRONLY | OFlags::RDWR;
        if self.is_root {
            kept |= OFlags::NOATIME;
        }
        if self.options.cache == CacheMode::Back {
            // The kernel reads the rest of a page that is written in part.
            let write_only = flags.contains(OFlags::WRONLY);
            let flags = if write_only { (flags - OFlags::WRONLY) | OFlags::RDWR } else { flags };
            return flags & kept;
        }
        flags & (kept | OFlags::SYNC | OFlags::DSYNC)
    }
}

/// Writes in parts of at most `most` bytes; how many bytes. An error counts only if nothing was written before it, as in
/// `pwrite(2)` itself.
fn write_in_parts(fd: &OwnedFd, offset: u64, data: &[u8], most: usize) -> FsResult<usize> {
    let mut written = 0;
    for part in data.chunks(most) {
        match backing::write_at(fd, part, offset + written as u64) {
            Ok(count) => {
                written += count;
                if count < part.len() {
                    break;
                }
            }
            Err(error) if written == 0 => return Err(error.into()),
            Err(_) => break,
        }
    }
    Ok(written)
}

const fn open_flags(flags: i32) -> OFlags {
    OFlags::from_bits_retain(flags.cast_unsigned())
}

fn read_into_reply(file: &OpenFile, offset: u64, size: u32, reply: impl FnOnce(FsResult<&[u8]>)) {
    let mut buffer = ReadBuffer::of(size);
    match backing::read_at(&file.fd, buffer.bytes(), offset) {
        Ok(read) => reply(Ok(&buffer.bytes()[..read])),
        Err(error) => reply(Err(error.into())),
    }
}

/// This thread's buffer. It only grows, so that a large read after a small one does not fill it with zeros first.
struct ReadBuffer {
    bytes: Vec<u8>,
    len: usize,
}

impl ReadBuffer {
    fn of(size: u32) -> Self {
        let (mut bytes, len) = (BUFFER.take(), usize::try_from(size).unwrap_or(KEPT_BYTES));
        if bytes.len() < len {
            bytes.resize(len, 0);
        }
        Self { bytes, len }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        if self.bytes.len() <= KEPT_BYTES {
            BUFFER.set(std::mem::take(&mut self.bytes));
        }
    }
}
