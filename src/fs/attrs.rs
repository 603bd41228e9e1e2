//! Operations on attributes: get, set, and the space of the whole volume.
//!
//! Must not know: names. Invariant: what a new owner or size costs the file is asked of `rights`.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use super::files::OpenFile;
use super::inode::Inode;
use super::types::{SetTime, whole};
use super::{Attr, Caller, FileSystem, FsCall, FsError, FsResult, On, SetAttr, Statfs, attr};
use crate::backing::{self, Object};
use crate::op::OpKind;
use crate::units::ByteRange;

impl FileSystem {
    /// Attributes of a node, through the open file `fh` if one is given.
    pub fn getattr(
        self: &Arc<Self>,
        c: Caller,
        node: u64,
        fh: Option<u64>,
        reply: impl FnOnce(FsResult<Attr>) + Send + 'static,
    ) {
        self.meta(OpKind::Getattr, On(c, node, None), reply, move |fs, inode| {
            let stat = match fs.open_on(inode, fh) {
                Some(open) => rustix::fs::fstat(&open.fd)?,
                None => fs.object(inode)?.stat()?,
            };
            Ok(attr(inode, &stat))
        });
    }

    /// Sets attributes; those that hold then.
    pub fn setattr(
        self: &Arc<Self>,
        c: Caller,
        node: u64,
        set: SetAttr,
        reply: impl FnOnce(FsResult<Attr>) + Send + 'static,
    ) {
        let inode = match self.inode(node) {
            Ok(inode) => inode,
            Err(error) => return reply(Err(error)),
        };
        let kind = if set.size.is_some() { OpKind::Truncate } else { OpKind::Setattr };
        let known = Arc::clone(&inode);
        let call = FsCall { range: set.size.map(ByteRange::from), ..FsCall::on(kind, c, &known) };
        self.submit(&call, reply, move |fs| fs.do_setattr(c, &inode, &set));
    }

    /// Space and inodes: the virtual disk's if it has a size, else the backing's.
    pub fn statfs(self: &Arc<Self>, c: Caller, node: u64, reply: impl FnOnce(FsResult<Statfs>) + Send + 'static) {
        self.meta(OpKind::Statfs, On(c, node, None), reply, |fs, inode| fs.do_statfs(inode));
    }

    /// Whether the caller may: never asked, since the kernel checks permissions itself (`default_permissions`).
    pub fn access(self: &Arc<Self>, c: Caller, node: u64, reply: impl FnOnce(FsResult<()>) + Send + 'static) {
        self.meta(OpKind::Access, On(c, node, None), reply, |_, _| Err(FsError::NotNeeded));
    }

    fn do_setattr(&self, c: Caller, inode: &Arc<Inode>, set: &SetAttr) -> FsResult<Attr> {
        let object = self.object(inode)?;
        if (SetAttr { fh: set.fh, ..SetAttr::default() }) == *set {
            self.set_nothing(c, inode, &object)?;
        }
        if set.uid.is_some() || set.gid.is_some() {
            self.chown(c, inode, &object, set.uid, set.gid)?;
        }
        if let Some(mode) = set.mode {
            object.chmod(mode)?;
            inode.note_mode(mode);
        }
        if let Some(size) = set.size {
            let open = self.open_on(inode, set.fh).filter(|open| open.writable);
            self.resize(c, inode, &object, open.as_deref(), size)?;
        }
        if set.atime.is_some() || set.mtime.is_some() {
            object
                .set_times(&Timestamps { last_access: timespec(set.atime), last_modification: timespec(set.mtime) })?;
        }
        Ok(attr(inode, &object.stat()?))
    }

    /// Sets a file's size; what was cut off holds no data any more.
    pub(super) fn resize(
        &self,
        c: Caller,
        inode: &Arc<Inode>,
        object: &Object,
        open: Option<&OpenFile>,
        size: u64,
    ) -> FsResult<()> {
        use std::os::fd::AsFd;
        self.learn(inode, open.map(|open| open.fd.as_fd()))?;
        match open {
            Some(open) => backing::truncate(&open.fd, size)?,
            None => object.truncate(size)?,
        }
        self.changed_by(c, inode, object)?;
        self.tracker().free(inode.key, ByteRange::from(size));
        Ok(())
    }

    fn do_statfs(&self, inode: &Arc<Inode>) -> FsResult<Statfs> {
        let vfs = self.object(inode)?.stat_vfs()?;
        let frsize = vfs.f_frsize.max(1);
        let (mut blocks, mut bfree, mut bavail) = (vfs.f_blocks, vfs.f_bfree, vfs.f_bavail);
        if let Some((total, used)) = self.tracker().virtual_space() {
            blocks = total / frsize;
            bfree = total.saturating_sub(used) / frsize;
            bavail = bfree;
        }
        let (files, ffree) = (vfs.f_files, vfs.f_ffree);
        let (bsize, namelen, frsize) = (whole(vfs.f_bsize), whole(vfs.f_namemax), whole(frsize));
        Ok(Statfs { blocks, bfree, bavail, files, ffree, bsize, namelen, frsize })
    }

    /// The open file `fh`, if it is one of `inode`'s.
    fn open_on(&self, inode: &Arc<Inode>, fh: Option<u64>) -> Option<Arc<OpenFile>> {
        self.files.get(fh?).filter(|open| Arc::ptr_eq(&open.inode, inode))
    }
}

fn timespec(time: Option<SetTime>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(SetTime::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(SetTime::At(time)) => moment(time),
    }
}

fn moment(time: SystemTime) -> Timespec {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => Timespec { tv_sec: whole(after.as_secs()), tv_nsec: after.subsec_nanos().into() },
        Err(before) => {
            let before = before.duration();
            let seconds: i64 = whole(before.as_secs());
            match before.subsec_nanos() {
                0 => Timespec { tv_sec: -seconds, tv_nsec: 0 },
                nanos => Timespec { tv_sec: -seconds - 1, tv_nsec: i64::from(1_000_000_000 - nanos) },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_moment_before_1970_has_positive_nanoseconds() {
        let time = moment(UNIX_EPOCH - Duration::from_millis(1500));
        assert_eq!((time.tv_sec, time.tv_nsec), (-2, 500_000_000));
    }
}
