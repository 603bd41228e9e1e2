//! An object that the kernel knows by a node.
//!
//! Must not know: operations. Invariant: as long as an [`Inode`] has its descriptor, the backing cannot give its inode
//! number to another file; when the last reference goes (the kernel has forgotten it, nothing has it open, nothing
//! that uses it is held) and it has no name left, the tracker hears that it is gone before its number is free again.

use std::ffi::OsStr;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use super::file_capabilities::FileCapabilities;
use super::kernel_copy::KernelCopy;
use super::place::{Place, Reach};
use super::types::{FileKind, data_bytes};
use crate::backing::{Errno, FileHandle, HandleSource, Object, open_path};
use crate::model::FileKey;

/// The set-user-id and set-group-id bits.
pub(super) const SET_ID: u32 = 0o6000;

/// How often an object is looked for while what is above it comes and goes.
const MOST_TRIES: usize = 8;
/// No path is deeper.
const DEEPEST: usize = 8192;

/// A name that the object was last reached by.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) parent: Weak<Inode>,
    pub(super) name: Box<OsStr>,
    /// It was removed since; the object may have others.
    removed: bool,
}

impl Name {
    fn is(&self, parent: &Arc<Inode>, name: &OsStr) -> bool {
        std::ptr::eq(self.parent.as_ptr(), Arc::as_ptr(parent)) && *self.name == *name
    }
}

/// What an object needs of the store that it is in.
pub(super) trait InodeOwner: Debug + Send + Sync {
    /// It has one descriptor more.
    fn opened(&self, inode: &Arc<Inode>);
    /// Its memory is about to be given back; `open`: it has a descriptor.
    fn dropped(&self, inode: &Inode, open: bool);
    /// Its data is gone; `unlearned_bytes` as in `ProvisioningTracker::remove`.
    fn removed(&self, key: FileKey, unlearned_bytes: u64);
    /// What opens objects by their handles, if anything does.
    fn handles(&self) -> Option<&HandleSource>;
    /// Whether an object can be opened by a handle: those of other file systems than the root's cannot.
    fn has_handle(&self, key: FileKey) -> bool;
    /// Held while an object is looked for by its name: what changes names waits.
    fn no_name_changes(&self) -> RwLockReadGuard<'_, ()>;
}

/// An object.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) node: u64,
    pub(super) generation: u64,
    pub(super) key: FileKey,
    pub(super) kind: FileKind,
    /// Look-ups that the kernel has not forgotten; changes only under the table's lock on the key.
    pub(super) lookups: AtomicU64,
    /// The tracker knows it.
    pub(super) learned: AtomicBool,
    pub(super) learning: Mutex<()>,
    /// It had set-id bits when it was last looked at.
    pub(super) set_id: AtomicBool,
    pub(super) capabilities: FileCapabilities,
    /// Used since the last search for descriptors to give up.
    pub(super) used: AtomicBool,
    /// The tracker has been told that it is gone.
    pub(super) gone: AtomicBool,
    /// What the kernel may have in its caches.
    pub(super) kernel_copy: KernelCopy,
    /// How often it is open.
    opens: AtomicU64,
    /// How often it is open for writing.
    writers: AtomicU32,
    /// Its last name was removed.
    unlinked: AtomicBool,
    place: RwLock<Place>,
    name: Mutex<Option<Name>>,
    owner: Weak<dyn InodeOwner>,
}

/// What is known when an object is met for the first time.
pub(super) struct NewInode {
    pub(super) node: u64,
    pub(super) generation: u64,
    pub(super) key: FileKey,
    pub(super) kind: FileKind,
    pub(super) object: Object,
    pub(super) owner: Weak<dyn InodeOwner>,
}

impl Inode {
    pub(super) fn new(new: NewInode) -> Self {
        // It lost its last name between its look-up and now. The inode that it had before has told the tracker.
        let unlinked = new.kind == FileKind::RegularFile && new.object.stat().is_ok_and(|stat| stat.st_nlink == 0);
        Self {
            node: new.node,
            generation: new.generation,
            key: new.key,
            kind: new.kind,
            lookups: AtomicU64::new(0),
            learned: AtomicBool::new(false),
            learning: Mutex::new(()),
            set_id: AtomicBool::new(false),
            capabilities: FileCapabilities::default(),
            used: AtomicBool::new(true),
            gone: AtomicBool::new(unlinked),
            kernel_copy: KernelCopy::default(),
            opens: AtomicU64::new(0),
            writers: AtomicU32::new(0),
            unlinked: AtomicBool::new(false),
            place: RwLock::new(Place::Open(new.object)),
            name: Mutex::new(None),
            owner: new.owner,
        }
    }

    /// The descriptor, if it has one.
    pub(super) fn open_object(&self) -> Option<Object> {
        match &*self.place.read() {
            Place::Open(object) => {
                if !self.used.load(Ordering::Relaxed) {
                    self.used.store(true, Ordering::Relaxed);
                }
                Some(object.clone())
            }
            Place::Handle { .. } | Place::Named { .. } => None,
        }
    }

    /// Opens it, and what is above it, if it has no descriptor.
    pub(super) fn open(self: &Arc<Self>, owner: &dyn InodeOwner) -> Result<Object, Errno> {
        if let Some(object) = self.open_object() {
            return Ok(object);
        }
        // A name that is just being changed is neither the old nor the new one.
        let _no_name_changes = owner.no_name_changes();
        // What is above it may be given up meanwhile.
        for _ in 0..MOST_TRIES {
            match self.open_from_above(owner) {
                Err(Errno::AGAIN) => {}
                result => return result,
            }
        }
        Err(Errno::STALE)
    }

    fn open_from_above(self: &Arc<Self>, owner: &dyn InodeOwner) -> Result<Object, Errno> {
        let mut chain = vec![Arc::clone(self)];
        while let Some(last) = chain.last()
            && matches!(*last.place.read(), Place::Named { .. })
        {
            let above = last.with_name(|parent, _| parent).ok_or(Errno::STALE)?;
            if chain.len() > DEEPEST {
                return Err(Errno::STALE);
            }
            chain.push(above);
        }
        let mut above: Option<Object> = None;
        for inode in chain.iter().rev() {
            above = Some(inode.open_in(above.as_ref(), owner)?);
        }
        above.ok_or(Errno::STALE)
    }

    /// Opens it in its directory; `EAGAIN`: that is needed and not known.
    fn open_in(self: &Arc<Self>, dir: Option<&Object>, owner: &dyn InodeOwner) -> Result<Object, Errno> {
        let mut place = self.place.write();
        let object = match &*place {
            Place::Open(object) => return Ok(object.clone()),
            Place::Handle { handle, .. } => Object::named(owner.handles().ok_or(Errno::STALE)?.open(handle)?),
            Place::Named { .. } => self.find_in(dir.ok_or(Errno::AGAIN)?, &place)?,
        };
        *place = Place::Open(object.clone());
        self.used.store(true, Ordering::Relaxed);
        drop(place);
        owner.opened(self);
        Ok(object)
    }

    fn find_in(&self, dir: &Object, place: &Place) -> Result<Object, Errno> {
        let name = self.with_name(|_, name| name.to_owned()).ok_or(Errno::STALE)?;
        let found = open_path(dir, &name).map_err(|error| if error == Errno::NOENT { Errno::STALE } else { error })?;
        let object = Object::named(found);
        let stat = object.stat()?;
        let same = (stat.st_dev, stat.st_ino) == (self.key.dev, self.key.ino) && place.is(&object);
        if same { Ok(object) } else { Err(Errno::STALE) }
    }

    /// Gives up the descriptor, unless it is being used right now or nothing else leads to the object. Whether it did.
    pub(super) fn close(&self, owner: &dyn InodeOwner) -> bool {
        let by = if owner.has_handle(self.key) { Reach::Handle } else { Reach::Name };
        if by == Reach::Name && !self.is_found_by_name() {
            return false;
        }
        let Some(mut place) = self.place.try_write() else { return false };
        let Place::Open(object) = &*place else { return false };
        let Some(idle) = Place::without_descriptor(object, by) else { return false };
        *place = idle;
        true
    }

    fn is_found_by_name(&self) -> bool {
        let known = self.name.lock();
        known.as_ref().is_some_and(|name| !name.removed && name.parent.strong_count() > 0)
    }

    /// Its handle, if it can have one.
    pub(super) fn handle(&self) -> Option<FileHandle> {
        match &*self.place.read() {
            Place::Open(object) => HandleSource::handle_of(object).ok(),
            Place::Handle { handle, .. } => Some(handle.clone()),
            Place::Named { .. } => None,
        }
    }

    /// Whether `object`, which has the same inode number, is this object. `Some(true)`: yes, and it serves as the
    /// descriptor from now on.
    pub(super) fn meet(&self, object: &Object) -> Option<bool> {
        let same = match &*self.place.read() {
            Place::Open(_) => return Some(false),
            Place::Named { .. } if self.is_unlinked() => false,
            place => place.is(object),
        };
        if !same {
            return None;
        }
        let mut place = self.place.write();
        let adopted = !matches!(*place, Place::Open(_));
        if adopted {
            *place = Place::Open(object.clone());
        }
        Some(adopted)
    }

    /// Notes whether its mode has set-id bits.
    pub(super) fn note_mode(&self, mode: u32) {
        let set_id = mode & SET_ID != 0;
        if self.set_id.load(Ordering::Relaxed) != set_id {
            self.set_id.store(set_id, Ordering::Relaxed);
        }
    }

    /// Notes the name that it was reached by.
    pub(super) fn set_name(&self, parent: &Arc<Self>, name: &OsStr) {
        let mut known = self.name.lock();
        if !known.as_ref().is_some_and(|known| !known.removed && known.is(parent, name)) {
            *known = Some(Name { parent: Arc::downgrade(parent), name: name.into(), removed: false });
        }
    }

    /// Notes that one of its names was removed.
    pub(super) fn name_removed(&self, parent: &Arc<Self>, name: &OsStr) {
        if let Some(known) = &mut *self.name.lock() {
            known.removed |= known.is(parent, name);
        }
    }

    /// Calls `with` on the directory and the name that it was last reached by.
    pub(super) fn with_name<T>(&self, with: impl FnOnce(Arc<Self>, &OsStr) -> T) -> Option<T> {
        let known = self.name.lock();
        let known = known.as_ref()?;
        Some(with(known.parent.upgrade()?, &known.name))
    }

    /// The tracker knows it from now on, so its end will be told.
    pub(super) fn note_learned(&self) {
        self.gone.store(false, Ordering::Release);
        self.learned.store(true, Ordering::Release);
    }

    /// Tells the tracker that it is gone, once.
    pub(super) fn tell_gone(&self, owner: &dyn InodeOwner, data_bytes: u64) {
        if !self.gone.swap(true, Ordering::AcqRel) {
            let unlearned = if self.learned.load(Ordering::Acquire) { 0 } else { data_bytes };
            owner.removed(self.key, unlearned);
        }
    }

    /// It is open once more.
    pub(super) fn opened(&self, writable: bool) {
        self.writers.fetch_add(writable.into(), Ordering::Relaxed);
        self.opens.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether somebody has it open for writing.
    pub(super) fn is_open_for_writing(&self) -> bool {
        self.writers.load(Ordering::Relaxed) != 0
    }

    /// It is open once less.
    pub(super) fn closed(&self, writable: bool) {
        self.writers.fetch_sub(writable.into(), Ordering::Relaxed);
        if self.opens.fetch_sub(1, Ordering::SeqCst) == 1 && self.is_unlinked() {
            self.end_if_orphan();
        }
    }

    /// Whether it is a file whose last name was removed.
    pub(super) fn is_unlinked(&self) -> bool {
        self.unlinked.load(Ordering::SeqCst)
    }

    /// Its last name was removed. The tracker hears of it now, or when it is closed, and not only when the kernel forgets
    /// it: that happens at any time, and what is written next would or would not reuse its space.
    pub(super) fn last_name_removed(&self) {
        self.unlinked.store(true, Ordering::SeqCst);
        if self.opens.load(Ordering::SeqCst) == 0 {
            self.end_if_orphan();
        }
    }

    fn end_if_orphan(&self) {
        let Some(owner) = self.owner.upgrade() else { return };
        if !self.gone.load(Ordering::Acquire)
            && let Some(bytes) = self.orphan_bytes(&*owner)
        {
            self.tell_gone(&*owner, bytes);
        }
    }

    /// The data that it had when it was last seen.
    pub(super) fn last_data_bytes(&self) -> u64 {
        self.place.read().last_data_bytes()
    }

    /// The data of an object that has no name left; `None`: it has one, or nobody can tell.
    fn orphan_bytes(&self, owner: &dyn InodeOwner) -> Option<u64> {
        match &*self.place.read() {
            Place::Open(object) => {
                let stat = object.stat().ok()?;
                (stat.st_nlink == 0).then(|| data_bytes(&stat))
            }
            Place::Handle { handle, data_bytes } => {
                let gone = matches!(owner.handles()?.open(handle), Err(Errno::STALE));
                gone.then_some(*data_bytes)
            }
            Place::Named { data_bytes, .. } => self.is_unlinked().then_some(*data_bytes),
        }
    }
}

impl Drop for Inode {
    fn drop(&mut self) {
        if self.kind == FileKind::RegularFile {
            self.end_if_orphan();
        }
        if let Some(owner) = self.owner.upgrade() {
            owner.dropped(self, matches!(*self.place.read(), Place::Open(_)));
        }
    }
}
