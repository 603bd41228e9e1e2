//! File-system semantics: every operation of a mount, on the backing, each through the engine so that it can be held.
//!
//! Must not know: fuser, FUSE's messages, the model's rules. Invariant: an operation's reply is called exactly once, and
//! nothing of the operation has reached the backing before the engine let it go.
//!
//! A node is the backing's inode number where that is possible, so that programs which tell files apart by it (log
//! agents, backups) see the same one after a remount.

mod attrs;
mod dirs;
mod error;
mod fd_cache;
mod file_capabilities;
mod files;
mod forgotten;
mod handles;
mod inode;
mod kernel_cache;
mod kernel_copy;
mod names;
mod paths;
mod place;
mod provisioning_tracker;
mod rights;
mod space;
mod table;
#[cfg(test)]
mod tests;
mod types;
mod xattrs;

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::RwLock;
use rustix::fs::OFlags;

pub use crate::op::Caller;
pub use error::{FsError, FsResult};
pub use kernel_cache::KernelCache;
pub use provisioning_tracker::ProvisioningTracker;
pub use space::CopyEnd;
pub use types::{Attr, DirEntry, DirSink, Entry, FileKind, Opened, SetAttr, SetTime, Statfs, WriteKind, Xattr};

use crate::backing::{Errno, HandleSource, Object, Stat, nofile_limit};
use crate::engine::{Engine, OpInfo};
use crate::model::{Access, FileKey};
use crate::op::OpKind;
pub use crate::options::CacheMode;
use crate::units::ByteRange;
use dirs::OpenDir;
use fd_cache::{Budget, InodeStore};
use files::OpenFile;
use forgotten::ForgottenNodes;
use handles::Handles;
use inode::{Inode, InodeOwner, NewInode};
use table::InodeTable;
use types::FileKind::Directory;

/// Descriptors that are kept for looking things up.
const RESERVED: u64 = 64;
/// How often room is made for one descriptor.
const MOST_TRIES: usize = 4;

/// How a file system behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FsOptions {
    /// What the kernel caches.
    pub cache: CacheMode,
    /// A file opened with `O_DIRECT` leaves the page cache out in every cache mode, and takes parallel writes: for disk
    /// images.
    pub direct_io_for_o_direct: bool,
    /// `FALLOC_FL_ZERO_RANGE` within a file punches a hole instead, so that zeroing a part of an image takes no space.
    pub zero_by_punching: bool,
    /// How many descriptors idle objects may keep; `None`: three quarters of the process's limit at the start.
    pub idle_descriptors: Option<u64>,
}

/// The file system of a volume.
#[derive(Debug)]
pub struct FileSystem {
    store: Arc<InodeStore>,
    engine: Engine,
    options: FsOptions,
    files: Handles<OpenFile>,
    dirs: Handles<OpenDir>,
    /// New objects can be given to the caller.
    is_root: bool,
    /// Descriptors from this number on are not for open files.
    first_reserved: u64,
    /// Keeps the root known.
    root: Arc<Inode>,
    /// The backing knows whether a read would wait for its disk.
    backing_can_tell: AtomicBool,
    /// The last `fsync` took less than a millisecond.
    flushes_soon: AtomicBool,
    /// Through which the kernel is told what to forget; none before it is mounted and after it has ended.
    kernel_cache: OnceLock<Weak<dyn KernelCache>>,
}

/// An operation, as it is put to the engine.
struct FsCall<'a> {
    kind: OpKind,
    caller: Caller,
    inode: &'a Arc<Inode>,
    name: Option<&'a OsStr>,
    access: Access,
    range: Option<ByteRange>,
    /// A write to a file that is open with `O_SYNC` or `O_DSYNC`.
    synchronous: bool,
}

impl<'a> FsCall<'a> {
    /// An operation on the whole of an object.
    const fn on(kind: OpKind, caller: Caller, inode: &'a Arc<Inode>) -> Self {
        Self { kind, caller, inode, name: None, access: Access::Meta, range: None, synchronous: false }
    }

    /// An operation on a range of a file.
    fn within(kind: OpKind, caller: Caller, file: &'a OpenFile, access: Access, range: ByteRange) -> Self {
        let synchronous = kind == OpKind::Write && file.synchronous;
        Self { access, range: Some(range), synchronous, ..Self::on(kind, caller, &file.inode) }
    }
}

impl FileSystem {
    /// The tree below the directory `root`; `engine` lets operations go, and tracks provisioning.
    pub fn new(root: OwnedFd, engine: Engine, options: FsOptions) -> std::io::Result<Arc<Self>> {
        let tracker = Arc::new(engine.clone());
        Self::with_tracker(root, engine, tracker, options)
    }

    /// As [`FileSystem::new`], with a tracker of its own.
    pub fn with_tracker(
        root: OwnedFd,
        engine: Engine,
        tracker: Arc<dyn ProvisioningTracker>,
        options: FsOptions,
    ) -> std::io::Result<Arc<Self>> {
        let object = Object::named(root);
        let stat = object.stat()?;
        if FileKind::of_stat(&stat) != Directory {
            return Err(Errno::NOTDIR.into());
        }
        let mount = object.reopen(OFlags::RDONLY | OFlags::DIRECTORY)?;
        let most = nofile_limit();
        let first_reserved = most - RESERVED.min(most / 8);
        let limit = options.idle_descriptors.unwrap_or(most / 4 * 3);
        let store = Arc::new(InodeStore {
            table: InodeTable::new(key_of(&stat)),
            tracker,
            budget: Budget::new(limit),
            handles: HandleSource::new(mount),
            name_changes: RwLock::new(()),
            forgotten: ForgottenNodes::default(),
        });
        let root = meet(&store, object, &stat);
        let is_root = rustix::process::geteuid().is_root();
        let (files, dirs) = (Handles::new(), Handles::new());
        Ok(Arc::new(Self {
            store,
            engine,
            options,
            files,
            dirs,
            is_root,
            first_reserved,
            root,
            backing_can_tell: AtomicBool::new(true),
            flushes_soon: AtomicBool::new(false),
            kernel_cache: OnceLock::new(),
        }))
    }

    fn tracker(&self) -> &dyn ProvisioningTracker {
        &*self.store.tracker
    }

    fn inode(&self, node: u64) -> FsResult<Arc<Inode>> {
        self.store.table.get(node).ok_or(FsError::UnknownNode)
    }

    /// The descriptor of an object.
    fn object(&self, inode: &Arc<Inode>) -> FsResult<Object> {
        if let Some(object) = inode.open_object() {
            return Ok(object);
        }
        self.with_room(|| inode.open(&*self.store))
    }

    /// Opens something; if there is no descriptor left for it, idle objects give up theirs first. Others may take what
    /// became free, so it is tried more than once.
    fn with_room<T>(&self, mut open: impl FnMut() -> Result<T, Errno>) -> FsResult<T> {
        for _ in 0..MOST_TRIES {
            match open() {
                Err(Errno::MFILE | Errno::NFILE) if self.store.make_room() => {}
                result => return Ok(result?),
            }
        }
        Ok(open()?)
    }

    /// Refuses an open file one of the last descriptors: they are for looking things up, so that one who opens too many
    /// files takes `stat` from nobody. (The kernel gives out the lowest number that is free.)
    fn unless_reserved(&self, fd: OwnedFd) -> Result<OwnedFd, Errno> {
        let number = u64::try_from(fd.as_raw_fd()).unwrap_or(0);
        if number < self.first_reserved { Ok(fd) } else { Err(Errno::MFILE) }
    }

    /// Tells the kernel of an object that has a name: one look-up.
    fn enter(&self, parent: &Arc<Inode>, name: &OsStr, object: Object, stat: &Stat) -> (Arc<Inode>, Entry) {
        let (inode, entry) = self.introduce(object, stat);
        inode.set_name(parent, name);
        (inode, entry)
    }

    /// Tells the kernel of an object: one look-up.
    fn introduce(&self, object: Object, stat: &Stat) -> (Arc<Inode>, Entry) {
        let inode = meet(&self.store, object, stat);
        let entry = Entry { attr: attr(&inode, stat), generation: inode.generation };
        (inode, entry)
    }

    /// Puts an operation to the engine; `work` is done when it is let go.
    fn submit<T, R, W>(self: &Arc<Self>, call: &FsCall<'_>, reply: R, work: W)
    where
        R: FnOnce(FsResult<T>) + Send + 'static,
        W: FnOnce(&Self) -> FsResult<T> + Send + 'static,
    {
        let fs = Arc::clone(self);
        self.with_op(call, |op| {
            self.engine.submit(op, move |outcome| {
                reply(outcome.map_err(FsError::from).and_then(|()| work(&fs)));
            });
        });
    }

    /// Puts an operation on a node, without a range, to the engine.
    fn meta<T, R, W>(self: &Arc<Self>, kind: OpKind, on: On<'_>, reply: R, work: W)
    where
        R: FnOnce(FsResult<T>) + Send + 'static,
        W: FnOnce(&Self, &Arc<Inode>) -> FsResult<T> + Send + 'static,
    {
        let On(caller, node, name) = on;
        let inode = match self.inode(node) {
            Ok(inode) => inode,
            Err(error) => return reply(Err(error)),
        };
        let known = Arc::clone(&inode);
        let call = FsCall { name, ..FsCall::on(kind, caller, &known) };
        self.submit(&call, reply, move |fs| work(fs, &inode));
    }

    /// As [`FileSystem::meta`], for the entry `name` of a directory: `work` gets the directory and the name.
    fn entry<T, R, W>(self: &Arc<Self>, kind: OpKind, c: Caller, dir: u64, name: &OsStr, reply: R, work: W)
    where
        R: FnOnce(FsResult<T>) + Send + 'static,
        W: FnOnce(&Self, &Arc<Inode>, &OsStr) -> FsResult<T> + Send + 'static,
    {
        let kept = name.to_owned();
        self.meta(kind, On(c, dir, Some(name)), reply, move |fs, dir| work(fs, dir, &kept));
    }

    /// Calls `with` on the engine's form of an operation.
    fn with_op(&self, call: &FsCall<'_>, with: impl FnOnce(&OpInfo<'_>)) {
        let path = || match call.name {
            None => self.path_if_linked(call.inode),
            name => self.path(call.inode, name),
        };
        with(&OpInfo {
            kind: call.kind,
            ino: call.inode.key.ino,
            access: call.access,
            range: call.range,
            caller: call.caller,
            synchronous: call.synchronous,
            path: &path,
        });
    }
}

/// Who asks, on which node, and for which entry in it.
#[derive(Clone, Copy)]
struct On<'a>(Caller, u64, Option<&'a OsStr>);

const fn key_of(stat: &Stat) -> FileKey {
    FileKey { dev: stat.st_dev, ino: stat.st_ino }
}

/// The inode of an object, known or new, with one look-up more.
fn meet(store: &Arc<InodeStore>, object: Object, stat: &Stat) -> Arc<Inode> {
    let (key, kind) = (key_of(stat), FileKind::of_stat(stat));
    let owner: Weak<dyn InodeOwner> = Arc::<InodeStore>::downgrade(store);
    let met = store.table.meet(NewInode { node: 0, generation: 0, key, kind, object, owner });
    if met.took_fd {
        store.opened(&met.inode);
    }
    if let Some(gone) = met.replaced {
        gone.tell_gone(&**store, gone.last_data_bytes());
    }
    met.inode
}

/// The attributes of an object, which the kernel keeps; notes whether it has set-id bits.
fn attr(inode: &Inode, stat: &Stat) -> Attr {
    inode.note_mode(stat.st_mode);
    inode.kernel_copy.note_attributes();
    Attr::new(inode.node, stat)
}
