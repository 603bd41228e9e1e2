//! fuser's requests in, the file system's operations out.
//!
//! Must not know: what an operation does. Invariant: each method converts, calls, and hands over the closure that
//! replies: no branch, no policy.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, FopenFlags, INodeNo, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
    Request, TimeOrNow, WriteFlags,
};

use super::convert::{self, caller};
use super::mount_spec::MountSpec;
use super::negotiate::{negotiate, open_flags};
use super::pending::PendingRequests;
use super::replies::{self, Plain, Plus};
use crate::fs::{CacheMode, CopyEnd, FileSystem, SetAttr, WriteKind};

/// The file system as fuser calls it.
#[derive(Debug)]
pub(crate) struct Adapter {
    fs: Arc<FileSystem>,
    cache: CacheMode,
    queue_depth: u16,
    file_flags: FopenFlags,
    pending: PendingRequests,
}

impl Adapter {
    /// `device`: a descriptor of the connection.
    pub(crate) fn new(fs: Arc<FileSystem>, spec: &MountSpec, device: OwnedFd) -> Self {
        let (cache, queue_depth) = (spec.cache, spec.queue_depth);
        Self {
            fs,
            cache,
            queue_depth,
            file_flags: open_flags(cache),
            pending: PendingRequests::new(device, spec.low_latency),
        }
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        negotiate(config, self.cache, self.queue_depth);
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.pending.note_request();
        self.fs.lookup(caller(req), parent.0, name, replies::entry(reply));
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.pending.note_request();
        self.fs.forget(ino.0, nlookup);
    }

    fn getattr(&self, req: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        self.pending.note_request();
        self.fs.getattr(caller(req), ino.0, fh.map(u64::from), replies::attr(reply));
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.pending.note_request();
        let (atime, mtime) = (atime.map(convert::set_time), mtime.map(convert::set_time));
        let set = SetAttr { mode, uid, gid, size, atime, mtime, fh: fh.map(u64::from) };
        self.fs.setattr(caller(req), ino.0, set, replies::attr(reply));
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        self.fs.readlink(caller(req), ino.0, replies::data(reply));
    }

    fn mknod(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, rdev: u32, reply: ReplyEntry) {
        self.fs.mknod(caller(req), parent.0, name, mode, umask, rdev, replies::entry(reply));
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        self.pending.note_request();
        self.fs.mkdir(caller(req), parent.0, name, mode, umask, replies::entry(reply));
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.pending.note_request();
        self.fs.unlink(caller(req), parent.0, name, replies::empty(reply));
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.pending.note_request();
        self.fs.rmdir(caller(req), parent.0, name, replies::empty(reply));
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        self.fs.symlink(caller(req), parent.0, name, target.as_os_str(), replies::entry(reply));
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        self.pending.note_request();
        let (from, to) = (parent.0, newparent.0);
        self.fs.rename(caller(req), from, name, to, newname, flags.bits(), replies::empty(reply));
    }

    fn link(&self, req: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        self.fs.link(caller(req), ino.0, newparent.0, newname, replies::entry(reply));
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.pending.note_request();
        self.fs.open(caller(req), ino.0, flags.0, replies::opened(reply, self.file_flags));
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        self.pending.note_request();
        self.fs.create(caller(req), parent.0, name, mode, umask, flags, replies::created(reply, self.file_flags));
    }

    fn read(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.pending.note_request();
        self.fs.read(caller(req), convert::is_direct(flags), fh.0, offset, size, replies::bytes(reply));
    }

    fn write(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.pending.note_request();
        let kind = convert::write_kind(write_flags);
        let direct = convert::is_direct(flags) && kind != WriteKind::OfPages;
        self.fs.write(caller(req), direct, fh.0, offset, data, kind, replies::written(reply));
    }

    fn flush(&self, req: &Request, ino: INodeNo, _fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        self.fs.flush(caller(req), ino.0, replies::empty(reply));
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.pending.note_request();
        self.fs.release(fh.0);
        reply.ok();
    }

    fn fsync(&self, req: &Request, _ino: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        self.pending.note_request();
        self.fs.fsync(caller(req), fh.0, datasync, self.pending.is_empty(), replies::empty(reply));
    }

    fn opendir(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.pending.note_request();
        self.fs.opendir(caller(req), ino.0, replies::opened(reply, FopenFlags::empty()));
    }

    fn readdir(&self, req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectory) {
        self.fs.readdir(caller(req), ino.0, fh.0, offset, false, Plain(reply));
    }

    fn readdirplus(&self, req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectoryPlus) {
        self.pending.note_request();
        self.fs.readdir(caller(req), ino.0, fh.0, offset, true, Plus(reply));
    }

    fn releasedir(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        self.pending.note_request();
        self.fs.releasedir(fh.0);
        reply.ok();
    }

    fn fsyncdir(&self, req: &Request, ino: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        self.fs.fsyncdir(caller(req), ino.0, fh.0, datasync, replies::empty(reply));
    }

    fn statfs(&self, req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        self.pending.note_request();
        self.fs.statfs(caller(req), ino.0, replies::statfs(reply));
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        self.fs.setxattr(caller(req), ino.0, name, value, flags.cast_unsigned(), replies::empty(reply));
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.pending.note_request();
        self.fs.getxattr(caller(req), ino.0, name, size, replies::xattr(reply));
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.fs.listxattr(caller(req), ino.0, size, replies::xattr(reply));
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.fs.removexattr(caller(req), ino.0, name, replies::empty(reply));
    }

    fn access(&self, req: &Request, ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        self.fs.access(caller(req), ino.0, replies::empty(reply));
    }

    fn ioctl(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: IoctlFlags,
        cmd: u32,
        in_data: &[u8],
        out_size: u32,
        reply: ReplyIoctl,
    ) {
        self.fs.ioctl(caller(req), ino.0, fh.0, cmd, in_data, out_size, replies::ioctl(reply));
    }

    fn fallocate(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.fs.fallocate(caller(req), ino.0, fh.0, offset, length, mode.cast_unsigned(), replies::empty(reply));
    }

    fn lseek(&self, req: &Request, ino: INodeNo, fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        self.fs.lseek(caller(req), ino.0, fh.0, offset, whence, replies::offset(reply));
    }

    fn copy_file_range(
        &self,
        req: &Request,
        _ino_in: INodeNo,
        fh_in: FileHandle,
        offset_in: u64,
        _ino_out: INodeNo,
        fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let from = CopyEnd { fh: fh_in.0, offset: offset_in };
        let to = CopyEnd { fh: fh_out.0, offset: offset_out };
        self.fs.copy_file_range(caller(req), from, to, len, replies::written(reply));
    }
}
