//! How the file system reports files to the thin pool: created, learned, freed, removed.
//!
//! Must not know: how the pool counts. Invariant: a file is tracked before the first operation through the
//! mount that could provision or free something of it, and is taken out of them when the backing has freed it.

use std::fmt::Debug;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::OFlags;

use super::files::OpenFile;
use super::inode::Inode;
use super::types::FileKind;
use super::{FileSystem, FsResult};
use crate::backing::{data_extents, data_extents_up_to};
use crate::engine::Engine;
use crate::model::FileKey;
use crate::units::ByteRange;

/// A thread that answers requests looks for so many extents of a file by itself: a millisecond's work.
const FEW_EXTENTS: usize = 256;

/// Who tracks provisioning: the engine, or a test that writes down what it is told.
pub trait ProvisioningTracker: Debug + Send + Sync {
    /// A file was made; it holds no data. `identity` is the same for the same path in every session.
    fn created(&self, file: FileKey, identity: u64);
    /// A file holds `data`. A file that is known already stays as it is.
    fn learn(&self, file: FileKey, identity: u64, data: &[ByteRange]);
    /// A range of a file holds no data any more.
    fn free(&self, file: FileKey, range: ByteRange);
    /// A file is gone. `unlearned_bytes`: its data, if it was not made or learned since the kernel last met it; counts
    /// only for a file that the tracker does not know.
    fn remove(&self, file: FileKey, unlearned_bytes: u64);
    /// Size and used bytes to show in `statfs`, if not the backing's.
    fn virtual_space(&self) -> Option<(u64, u64)>;
    /// Whether a file must be learned before it is read, too.
    fn wants_learned_reads(&self) -> bool;
}

impl ProvisioningTracker for Engine {
    fn created(&self, file: FileKey, identity: u64) {
        Self::created(self, file, identity);
    }
    fn learn(&self, file: FileKey, identity: u64, data: &[ByteRange]) {
        Self::learn(self, file, identity, data);
    }
    fn free(&self, file: FileKey, range: ByteRange) {
        Self::free(self, file, range);
    }
    fn remove(&self, file: FileKey, unlearned_bytes: u64) {
        Self::remove(self, file, unlearned_bytes);
    }
    fn virtual_space(&self) -> Option<(u64, u64)> {
        Self::virtual_space(self).map(|space| (space.total, space.used))
    }
    fn wants_learned_reads(&self) -> bool {
        Self::wants_learned_reads(self)
    }
}

impl FileSystem {
    /// Sees to it that the tracker knows the file. Once it does, this costs one load.
    pub(super) fn learn(&self, inode: &Arc<Inode>, open: Option<BorrowedFd<'_>>) -> FsResult<()> {
        if inode.learned.load(Ordering::Acquire) || inode.kind != FileKind::RegularFile {
            return Ok(());
        }
        let _one_at_a_time = inode.learning.lock();
        if !inode.learned.load(Ordering::Acquire) {
            let data = self.extents(inode, open)?;
            self.tell_learned(inode, &data);
        }
        Ok(())
    }

    fn tell_learned(&self, inode: &Arc<Inode>, data: &[ByteRange]) {
        self.tracker().learn(inode.key, self.identity(inode, None), data);
        inode.note_learned();
    }

    /// As [`FileSystem::learn`], for a thread that answers requests; `false`: that takes long, a worker should do it.
    pub(super) fn learn_at_once(&self, file: &OpenFile) -> FsResult<bool> {
        let inode = &file.inode;
        if inode.learned.load(Ordering::Acquire) || inode.kind != FileKind::RegularFile {
            return Ok(true);
        }
        let Some(_one_at_a_time) = inode.learning.try_lock() else { return Ok(false) };
        let Some(data) = data_extents_up_to(&file.fd, FEW_EXTENTS)? else { return Ok(false) };
        if !inode.learned.load(Ordering::Acquire) {
            self.tell_learned(inode, &data);
        }
        Ok(true)
    }

    /// Calls `then` when the tracker knows the file: now, or on a worker if it has to be looked through first.
    pub(super) fn when_learned(
        self: &Arc<Self>,
        file: &Arc<OpenFile>,
        then: impl FnOnce(&Arc<Self>, FsResult<()>) + Send + 'static,
    ) {
        match self.learn_at_once(file) {
            Ok(true) => then(self, Ok(())),
            Err(error) => then(self, Err(error)),
            Ok(false) => self.learn_later(file, then),
        }
    }

    /// Has a worker look through the file, and calls `then`.
    pub(super) fn learn_later(
        self: &Arc<Self>,
        file: &Arc<OpenFile>,
        then: impl FnOnce(&Arc<Self>, FsResult<()>) + Send + 'static,
    ) {
        let (fs, file) = (Arc::clone(self), Arc::clone(file));
        self.engine.prepare(move || {
            let known = fs.learn(&file.inode, Some(file.fd.as_fd()));
            then(&fs, known);
        });
    }

    /// A file was just made under `name` in `parent`.
    pub(super) fn note_created(&self, inode: &Arc<Inode>) {
        if inode.kind == FileKind::RegularFile {
            self.tracker().created(inode.key, self.identity(inode, None));
            inode.note_learned();
        }
    }

    fn extents(&self, inode: &Arc<Inode>, open: Option<BorrowedFd<'_>>) -> FsResult<Vec<ByteRange>> {
        if let Some(open) = open {
            return Ok(data_extents(open)?);
        }
        let object = self.object(inode)?;
        let fd = self.with_room(|| object.reopen(OFlags::RDONLY | OFlags::NONBLOCK))?;
        Ok(data_extents(fd)?)
    }
}
