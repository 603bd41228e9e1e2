//! Operations on names: look up, make, link, rename, remove, forget.
//!
//! Must not know: contents. Invariant: what is made belongs to the caller (if the daemon may give it away) with the mode
//! that a local file system would give it, or is not made at all.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use super::inode::InodeOwner;
use super::inode::{Inode, SET_ID};
use super::table::ROOT;
use super::types::FileKind;
use super::{Caller, Entry, FileSystem, FsResult, On, key_of, meet};
use crate::backing::{self, Object, Stat, masked_by_thread};
use crate::model::FileKey;
use crate::op::OpKind;

/// The set-group-id bit: of a directory, what is made in it takes its group.
const SET_GID: u32 = 0o2000;
/// `RENAME_EXCHANGE`
const EXCHANGE: u32 = 2;

/// What a name stands for.
struct Named {
    inode: Arc<Inode>,
    /// A file that has no other name.
    is_last: bool,
}

impl Named {
    /// The name was removed.
    fn name_removed(&self, dir: &Arc<Inode>, name: &OsStr) {
        self.inode.name_removed(dir, name);
        if self.is_last {
            self.inode.last_name_removed();
        }
    }
}

impl FileSystem {
    /// Looks up an entry; the kernel counts one look-up.
    pub fn lookup(
        self: &Arc<Self>,
        c: Caller,
        parent: u64,
        name: &OsStr,
        reply: impl FnOnce(FsResult<Entry>) + Send + 'static,
    ) {
        // So an NFS server's kernel asks for a node that it has forgotten.
        let is_dots = matches!(name.as_bytes(), b"." | b"..");
        let revived = if is_dots { self.revive(parent) } else { None };
        let fs = Arc::clone(self);
        let reply = move |entry| {
            // The look-up that brought it back was not the kernel's.
            revived.into_iter().for_each(|inode| fs.forget(inode.node, 1));
            reply(entry);
        };
        self.entry(OpKind::Lookup, c, parent, name, reply, Self::do_lookup);
    }

    /// Brings back a node that the kernel has forgotten, or a session before this one has known, with one look-up; `None`: it is known,
    /// or gone. The kernel compares generations: a handle that was never given out leads nowhere.
    fn revive(&self, node: u64) -> Option<Arc<Inode>> {
        if self.store.table.get(node).is_some() {
            return None;
        }
        let source = self.store.handles.as_ref()?;
        let object = Object::named(match self.store.forgotten.find(node) {
            Some(handle) => self.with_room(|| source.open(&handle)).ok()?,
            None => self.with_room(|| source.open_number(node)).ok()?,
        });
        let stat = object.stat().ok()?;
        if key_of(&stat) != (FileKey { dev: self.root.key.dev, ino: node }) || !self.is_inside(&object, &stat) {
            return None;
        }
        Some(meet(&self.store, object, &stat))
    }

    /// Whether a directory lies below the root. What a file lies below cannot be told.
    fn is_inside(&self, object: &Object, stat: &Stat) -> bool {
        FileKind::of_stat(stat) != FileKind::Directory || self.climbs_to_root(object.clone(), stat).unwrap_or(false)
    }

    fn climbs_to_root(&self, mut at: Object, stat: &Stat) -> FsResult<bool> {
        let mut key = key_of(stat);
        while key != self.root.key {
            let (above, stat) = self.up(&at)?;
            if key_of(&stat) == key {
                return Ok(false);
            }
            (at, key) = (above, key_of(&stat));
        }
        Ok(true)
    }

    fn up(&self, dir: &Object) -> FsResult<(Object, Stat)> {
        let object = Object::named(self.with_room(|| dir.parent())?);
        let stat = object.stat()?;
        Ok((object, stat))
    }

    /// The kernel takes back `count` look-ups. Never held.
    pub fn forget(&self, node: u64, count: u64) {
        if let Some(inode) = self.store.table.forget(node, count)
            && self.store.has_handle(inode.key)
            && !inode.is_unlinked()
            && let Some(handle) = inode.handle()
        {
            self.store.forgotten.keep(node, handle);
        }
    }

    /// The target of a symbolic link.
    pub fn readlink(self: &Arc<Self>, c: Caller, node: u64, reply: impl FnOnce(FsResult<Vec<u8>>) + Send + 'static) {
        self.meta(OpKind::Readlink, On(c, node, None), reply, |fs, inode| Ok(fs.object(inode)?.read_link()?));
    }

    /// Makes a file, FIFO, socket or device. `mode` holds the type; `rdev` is what the kernel sent.
    #[expect(clippy::too_many_arguments, reason = "they are the request's")]
    pub fn mknod(
        self: &Arc<Self>,
        c: Caller,
        parent: u64,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: impl FnOnce(FsResult<Entry>) + Send + 'static,
    ) {
        self.entry(OpKind::Mknod, c, parent, name, reply, move |fs, parent, name| {
            let mode = masked_by_thread(mode, umask);
            let (inode, entry) = fs.make(c, parent, name, |dir| backing::make_node(dir, name, mode, rdev.into()))?;
            fs.note_created(&inode);
            Ok(entry)
        });
    }

    /// Makes a directory.
    pub fn mkdir(
        self: &Arc<Self>,
        c: Caller,
        parent: u64,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: impl FnOnce(FsResult<Entry>) + Send + 'static,
    ) {
        self.entry(OpKind::Mkdir, c, parent, name, reply, move |fs, parent, name| {
            let mode = masked_by_thread(mode, umask);
            Ok(fs.make(c, parent, name, |dir| backing::make_dir(dir, name, mode))?.1)
        });
    }

    /// Makes a symbolic link to `target`.
    pub fn symlink(
        self: &Arc<Self>,
        c: Caller,
        parent: u64,
        name: &OsStr,
        target: &OsStr,
        reply: impl FnOnce(FsResult<Entry>) + Send + 'static,
    ) {
        let target = target.to_owned();
        self.entry(OpKind::Symlink, c, parent, name, reply, move |fs, parent, name| {
            Ok(fs.make(c, parent, name, |dir| backing::make_symlink(dir, name, &target))?.1)
        });
    }

    /// Removes the name of anything but a directory.
    pub fn unlink(
        self: &Arc<Self>,
        c: Caller,
        parent: u64,
        name: &OsStr,
        reply: impl FnOnce(FsResult<()>) + Send + 'static,
    ) {
        self.entry(OpKind::Unlink, c, parent, name, reply, |fs, dir, name| {
            let object = fs.object(dir)?;
            let named = fs.named(&object, name);
            fs.keep_alive(named.as_ref());
            backing::remove(&object, name, false)?;
            named.inspect(|named| named.name_removed(dir, name));
            Ok(())
        });
    }

    /// Removes an empty directory.
    pub fn rmdir(
        self: &Arc<Self>,
        c: Caller,
        parent: u64,
        name: &OsStr,
        reply: impl FnOnce(FsResult<()>) + Send + 'static,
    ) {
        self.entry(OpKind::Rmdir, c, parent, name, reply, |fs, dir, name| {
            let object = fs.object(dir)?;
            fs.keep_alive(fs.named(&object, name).as_ref());
            Ok(backing::remove(&object, name, true)?)
        });
    }

    /// Renames; `flags` as `renameat2(2)` has them.
    #[expect(clippy::too_many_arguments, reason = "they are the request's")]
    pub fn rename(
        self: &Arc<Self>,
        c: Caller,
        parent: u64,
        name: &OsStr,
        new_parent: u64,
        new_name: &OsStr,
        flags: u32,
        reply: impl FnOnce(FsResult<()>) + Send + 'static,
    ) {
        let new = new_name.to_owned();
        self.entry(OpKind::Rename, c, parent, name, reply, move |fs, from, old| {
            let to = fs.inode(new_parent)?;
            let (source, target) = (fs.object(from)?, fs.object(&to)?);
            let replaced = if flags == 0 { fs.named(&target, &new) } else { None };
            fs.keep_alive(replaced.as_ref());
            let _no_look_by_name = fs.store.name_changes.write();
            backing::rename(&source, old, &target, &new, flags)?;
            replaced.inspect(|named| named.name_removed(&to, &new));
            fs.renamed(&to, &target, &new);
            if flags & EXCHANGE != 0 {
                fs.renamed(from, &source, old);
            }
            Ok(())
        });
    }

    /// Gives the object `node` one more name.
    pub fn link(
        self: &Arc<Self>,
        c: Caller,
        node: u64,
        new_parent: u64,
        new_name: &OsStr,
        reply: impl FnOnce(FsResult<Entry>) + Send + 'static,
    ) {
        self.entry(OpKind::Link, c, new_parent, new_name, reply, move |fs, dir, new| {
            let object = fs.object(&fs.inode(node)?)?;
            backing::link(&object, &fs.object(dir)?, new)?;
            let stat = object.stat()?;
            Ok(fs.enter(dir, new, object, &stat).1)
        });
    }

    /// A look-up, done.
    pub(super) fn do_lookup(&self, dir: &Arc<Inode>, name: &OsStr) -> FsResult<Entry> {
        match name.as_bytes() {
            b"." => return self.known(dir),
            // By what is known of the tree, never by the backing's "..": that may lie outside.
            b".." if dir.node == ROOT => return self.known(dir),
            b".." => {
                return dir.with_name(|above, _| above).map_or_else(|| self.above(dir), |above| self.known(&above));
            }
            _ => {}
        }
        let parent = self.object(dir)?;
        let object = Object::named(self.with_room(|| backing::open_path(&parent, name))?);
        let stat = object.stat()?;
        Ok(self.enter(dir, name, object, &stat).1)
    }

    /// The directory that `dir` was last found in; the root for what has lost it.
    pub(super) fn parent(&self, dir: &Arc<Inode>) -> Arc<Inode> {
        dir.with_name(|parent, _| parent).unwrap_or_else(|| Arc::clone(&self.root))
    }

    /// The directory above one that came back by its handle; the root, if what is above it lies outside of the volume.
    fn above(&self, dir: &Arc<Inode>) -> FsResult<Entry> {
        let (above, stat) = self.up(&self.object(dir)?)?;
        if !self.is_inside(&above, &stat) {
            return self.known(&self.root);
        }
        Ok(self.introduce(above, &stat).1)
    }

    fn known(&self, inode: &Arc<Inode>) -> FsResult<Entry> {
        let object = self.object(inode)?;
        let stat = object.stat()?;
        Ok(self.introduce(object, &stat).1)
    }

    /// What is called `name` in `dir`, if the kernel knows it.
    fn named(&self, dir: &Object, name: &OsStr) -> Option<Named> {
        let stat = backing::stat_name(dir, name).ok()?;
        let is_last = stat.st_nlink == 1 && FileKind::of_stat(&stat) == FileKind::RegularFile;
        Some(Named { inode: self.store.table.find(key_of(&stat))?, is_last })
    }

    /// Something is about to lose a name, perhaps its last, while a process may still have it (`O_PATH`, a working directory): it
    /// needs a descriptor to live on.
    fn keep_alive(&self, named: Option<&Named>) {
        if let Some(named) = named
            && named.inode.open_object().is_none()
        {
            // Without a descriptor to be had, it is gone for those who still have it.
            let _opened = self.object(&named.inode);
        }
    }

    /// Whatever is called `name` in `dir` now is known by that name from now on.
    fn renamed(&self, dir: &Arc<Inode>, object: &Object, name: &OsStr) {
        // It may be gone already: another process works in the backing.
        if let Some(named) = self.named(object, name) {
            named.inode.set_name(dir, name);
        }
    }

    /// Makes an object, gives it to the caller, and tells the kernel of it.
    fn make(
        &self,
        c: Caller,
        parent: &Arc<Inode>,
        name: &OsStr,
        make: impl FnOnce(&Object) -> backing::Result<()>,
    ) -> FsResult<(Arc<Inode>, Entry)> {
        let dir = self.object(parent)?;
        make(&dir)?;
        let finished = self.with_room(|| backing::open_path(&dir, name)).and_then(|fd| {
            let object = Object::named(fd);
            let stat = self.give_to(c, &dir, &object)?;
            Ok((object, stat))
        });
        match finished {
            Ok((object, stat)) => Ok(self.enter(parent, name, object, &stat)),
            Err(error) => {
                // Whichever of the two it was; it is new, and so empty.
                let _ = backing::remove(&dir, name, false).or_else(|_| backing::remove(&dir, name, true));
                Err(error)
            }
        }
    }

    /// Gives a new object to the caller; its attributes then.
    pub(super) fn give_to(&self, c: Caller, dir: &Object, object: &Object) -> FsResult<Stat> {
        let made = object.stat()?;
        if !self.is_root || (made.st_uid == c.uid && made.st_gid == c.gid) {
            return Ok(made);
        }
        let inherits = dir.stat()?.st_mode & SET_GID != 0;
        let gid = (!inherits && made.st_gid != c.gid).then_some(c.gid);
        let uid = (made.st_uid != c.uid).then_some(c.uid);
        if uid.is_none() && gid.is_none() {
            return Ok(made);
        }
        object.chown(uid, gid)?;
        // A new owner costs everything but a directory its set-id bits.
        if made.st_mode & SET_ID != 0 && FileKind::of_stat(&made) != FileKind::Directory {
            object.chmod(made.st_mode)?;
        }
        Ok(object.stat()?)
    }
}
