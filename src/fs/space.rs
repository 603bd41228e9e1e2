//! Operations on a file's space: allocate, punch, seek data and holes, copy, inode flags.
//!
//! Must not know: how the tracker count. Invariant: whatever gives a file data asks as a write does, and whatever takes
//! data from it tells the tracker after the backing has done it.

use std::sync::Arc;

use super::files::OpenFile;
use super::types::{FileKind, whole};
use super::{CacheMode, Caller, FileSystem, FsCall, FsError, FsResult, On};
use crate::backing::{self, Errno, FlagCall, Object};
use crate::model::Access;
use crate::op::OpKind;
use crate::units::ByteRange;

/// `fallocate(2)`'s modes.
const KEEP_SIZE: u32 = 0x01;
const PUNCH_HOLE: u32 = 0x02;
const ZERO_RANGE: u32 = 0x10;
/// `lseek(2)`'s ways that ask the file system.
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;
/// One copy takes at most this much, so that it does not keep a thread for long; the caller asks again.
const MOST_COPIED: u64 = 128 << 20;

/// One end of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyEnd {
    /// The open file.
    pub fh: u64,
    /// First byte.
    pub offset: u64,
}

impl FileSystem {
    /// `fallocate(2)`: `mode` has its bits; ranges cannot be collapsed or inserted. Space that is only
    /// allocated holds no data.
    #[expect(clippy::too_many_arguments, reason = "they are the request's")]
    pub fn fallocate(
        self: &Arc<Self>,
        c: Caller,
        _node: u64,
        fh: u64,
        offset: u64,
        len: u64,
        mode: u32,
        reply: impl FnOnce(FsResult<()>) + Send + 'static,
    ) {
        // The kernel lets none of these through today; they would move data about behind the tracker' back.
        if mode & !(KEEP_SIZE | PUNCH_HOLE | ZERO_RANGE) != 0 {
            return reply(Err(Errno::OPNOTSUPP.into()));
        }
        let file = match self.file(fh) {
            Ok(file) => file,
            Err(error) => return reply(Err(error)),
        };
        let (known, mode) = (Arc::clone(&file), self.zeroing_mode(mode));
        self.when_learned(&known, move |fs, known| match known {
            Ok(()) => fs.fallocate_learned(c, file, mode, ByteRange::at(offset, len), reply),
            Err(error) => reply(Err(error)),
        });
    }

    fn fallocate_learned(
        self: &Arc<Self>,
        c: Caller,
        file: Arc<OpenFile>,
        mode: u32,
        range: ByteRange,
        reply: impl FnOnce(FsResult<()>) + Send + 'static,
    ) {
        let allocates = mode & !KEEP_SIZE == 0;
        let access = if allocates { Access::Allocate(file.inode.key, range) } else { Access::Meta };
        let known = Arc::clone(&file);
        let call = FsCall::within(OpKind::Fallocate, c, &known, access, range);
        self.submit(&call, reply, move |fs| {
            backing::allocate(&file.fd, mode, range.start, range.len())?;
            fs.changed_by(c, &file.inode, &Object::opened(Arc::clone(&file.fd)))?;
            if mode & (PUNCH_HOLE | ZERO_RANGE) != 0 {
                fs.tracker().free(file.inode.key, range);
            }
            Ok(())
        });
    }

    /// `lseek(2)` for data and holes; the new position. With a write-back cache it is declined, for good: the backing does
    /// not know yet what the kernel has not written back, and `cp` would take that for a hole.
    pub fn lseek(
        self: &Arc<Self>,
        c: Caller,
        node: u64,
        fh: u64,
        offset: i64,
        whence: i32,
        reply: impl FnOnce(FsResult<i64>) + Send + 'static,
    ) {
        if self.options.cache == CacheMode::Back {
            return reply(Err(FsError::NotNeeded));
        }
        self.meta(OpKind::Lseek, On(c, node, None), reply, move |fs, _| {
            let file = fs.file(fh)?;
            let offset = u64::try_from(offset).map_err(|_| Errno::NXIO)?;
            let found = match whence {
                SEEK_DATA => backing::seek_data(&file.fd, offset)?,
                SEEK_HOLE => backing::seek_hole(&file.fd, offset)?,
                _ => return Err(Errno::INVAL.into()),
            };
            Ok(whole(found))
        });
    }

    /// `copy_file_range(2)`; how many bytes, at most 128 MiB at a time.
    pub fn copy_file_range(
        self: &Arc<Self>,
        c: Caller,
        from: CopyEnd,
        to: CopyEnd,
        len: u64,
        reply: impl FnOnce(FsResult<u32>) + Send + 'static,
    ) {
        let ends = self.file(from.fh).and_then(|source| Ok((source, self.file(to.fh)?)));
        let (source, target) = match ends {
            Ok(ends) => ends,
            Err(error) => return reply(Err(error)),
        };
        let known = Arc::clone(&target);
        self.when_learned(&known, move |fs, known| {
            let len = known.and_then(|()| Ok(len.min(MOST_COPIED).min(bytes_from(&source, from.offset)?)));
            match len {
                Ok(len) => fs.copy_learned(c, (source, from.offset), (target, to.offset), len, reply),
                Err(error) => reply(Err(error)),
            }
        });
    }

    fn copy_learned(
        self: &Arc<Self>,
        c: Caller,
        (source, from): (Arc<OpenFile>, u64),
        (target, to): (Arc<OpenFile>, u64),
        len: u64,
        reply: impl FnOnce(FsResult<u32>) + Send + 'static,
    ) {
        let range = ByteRange::at(to, len);
        let known = Arc::clone(&target);
        let access = Access::Write(target.inode.key, range);
        let call = FsCall::within(OpKind::CopyFileRange, c, &known, access, range);
        self.submit(&call, reply, move |fs| {
            fs.changed_by(c, &target.inode, &Object::opened(Arc::clone(&target.fd)))?;
            let copied = backing::copy_range(&source.fd, from, &target.fd, to, whole(len))?;
            Ok(whole(copied))
        });
    }

    /// The ioctls of `lsattr(1)` and `chattr(1)`; no others. What it answers is at most `out_size` bytes long.
    #[expect(clippy::too_many_arguments, reason = "they are the request's")]
    pub fn ioctl(
        self: &Arc<Self>,
        c: Caller,
        node: u64,
        fh: u64,
        number: u32,
        input: &[u8],
        out_size: u32,
        reply: impl FnOnce(FsResult<Vec<u8>>) + Send + 'static,
    ) {
        let Some(call) = FlagCall::from_number(number) else { return reply(Err(FsError::UnknownIoctl)) };
        let input = input.to_owned();
        self.meta(OpKind::Ioctl, On(c, node, None), reply, move |fs, inode| {
            let mut answer = if inode.kind == FileKind::Directory {
                let dir = fs.dir(fh)?;
                backing::inode_flags(&*dir.stream.lock(), call, &input)?
            } else {
                backing::inode_flags(&fs.file(fh)?.fd, call, &input)?
            };
            if call.writes() {
                fs.kernel_forgets_attributes(inode);
            }
            answer.truncate(whole(out_size));
            Ok(answer)
        });
    }

    /// A loop device zeroes with `ZERO_RANGE` and `KEEP_SIZE`. The backing would keep space for the zeros; a hole reads the
    /// same.
    const fn zeroing_mode(&self, mode: u32) -> u32 {
        if self.options.zero_by_punching && mode == ZERO_RANGE | KEEP_SIZE { PUNCH_HOLE | KEEP_SIZE } else { mode }
    }
}

/// How many bytes a file has from `offset` on.
fn bytes_from(file: &OpenFile, offset: u64) -> FsResult<u64> {
    let size: u64 = whole(rustix::fs::fstat(&file.fd)?.st_size);
    Ok(size.saturating_sub(offset))
}
