//! Which node is which object.
//!
//! Must not know: names, attributes, operations. Invariant: as long as an object is known (to the kernel, or to an
//! operation that is under way), the same device and inode number give the same [`Inode`]; a node is used for one
//! object at a time.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard, RwLock};

use super::inode::{Inode, NewInode};
use crate::backing::HandleSource;
use crate::model::FileKey;

/// The root's node.
pub(super) const ROOT: u64 = 1;
/// Nodes from here on are not the backing's inode numbers. Those with a device's number are on another file system than the root.
const MADE_UP: u64 = 1 << 63;
const DEVICE_SHIFT: u32 = 48;
/// Devices have numbers of 15 bits.
const MOST_DEVICES: u16 = 0x7fff;
const SHARDS: usize = 64;

type Map<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;
type Keys = Map<FileKey, Weak<Inode>>;

/// Hashes inode numbers: they need mixing, not protection from attackers.
#[derive(Debug, Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }
    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
}

/// What became of an object that was met.
pub(super) struct Met {
    /// Its inode, with one look-up more.
    pub(super) inode: Arc<Inode>,
    /// It keeps the descriptor it was met by.
    pub(super) took_fd: bool,
    /// An object that had the number before and is gone.
    pub(super) replaced: Option<Arc<Inode>>,
}

/// The table.
#[derive(Debug)]
pub(super) struct InodeTable {
    keys: [Mutex<Keys>; SHARDS],
    nodes: [RwLock<Map<u64, Arc<Inode>>>; SHARDS],
    root: FileKey,
    /// The other file systems of the backing, each with its number here.
    devices: RwLock<HashMap<u16, u64>>,
    made_up: AtomicU64,
    generations: AtomicU64,
}

impl InodeTable {
    /// An empty table; the object `root` gets node 1 when it is met.
    pub(super) fn new(root: FileKey) -> Self {
        Self {
            keys: std::array::from_fn(|_| Mutex::default()),
            nodes: std::array::from_fn(|_| RwLock::default()),
            root,
            devices: RwLock::default(),
            made_up: AtomicU64::new(MADE_UP),
            generations: AtomicU64::new(1),
        }
    }

    /// The object of a node.
    pub(super) fn get(&self, node: u64) -> Option<Arc<Inode>> {
        self.nodes[shard(node)].read().get(&node).cloned()
    }

    /// The object with a device and inode number, if it is known.
    pub(super) fn find(&self, key: FileKey) -> Option<Arc<Inode>> {
        self.keys[shard(key.ino)].lock().get(&key).and_then(Weak::upgrade)
    }

    /// The object that `new` has a descriptor of: the known one, or else a new one (whose node and generation are
    /// chosen here).
    pub(super) fn meet(&self, new: NewInode) -> Met {
        let key = new.key;
        let (mut keys, known) = self.known(key);
        if let Some(inode) = &known
            && let Some(took_fd) = inode.meet(&new.object)
        {
            if inode.lookups.fetch_add(1, Ordering::Relaxed) == 0 {
                self.nodes[shard(inode.node)].write().insert(inode.node, Arc::clone(inode));
            }
            return Met { inode: Arc::clone(inode), took_fd, replaced: None };
        }
        let node = self.new_node(key);
        let handle = new.owner.upgrade().filter(|owner| owner.has_handle(key));
        let handle = handle.and_then(|_| HandleSource::handle_of(&new.object).ok());
        // An object that is met again has the generation that it had: who keeps a handle compares it.
        let generation =
            handle.map_or_else(|| self.generations.fetch_add(1, Ordering::Relaxed), |handle| handle.number().into());
        let inode = Arc::new(Inode::new(NewInode { node, generation, ..new }));
        inode.lookups.store(1, Ordering::Relaxed);
        keys.insert(key, Arc::downgrade(&inode));
        self.nodes[shard(node)].write().insert(node, Arc::clone(&inode));
        Met { inode, took_fd: true, replaced: known }
    }

    /// The inode of `key`, with the lock that its keys are under. One that is about to end is waited for: what it tells
    /// the tracker at its end must come before what its successor tells them.
    fn known(&self, key: FileKey) -> (MutexGuard<'_, Keys>, Option<Arc<Inode>>) {
        loop {
            let keys = self.keys[shard(key.ino)].lock();
            match keys.get(&key).map(Weak::upgrade) {
                None => return (keys, None),
                Some(Some(inode)) => return (keys, Some(inode)),
                Some(None) => drop(keys),
            }
            std::thread::yield_now();
        }
    }

    /// Takes back `count` look-ups; the root is never forgotten. An inode that has none left.
    pub(super) fn forget(&self, node: u64, count: u64) -> Option<Arc<Inode>> {
        let inode = self.get(node).filter(|_| node != ROOT)?;
        let keys = self.keys[shard(inode.key.ino)].lock();
        let left = inode.lookups.load(Ordering::Relaxed).saturating_sub(count);
        inode.lookups.store(left, Ordering::Relaxed);
        let last = if left == 0 { self.nodes[shard(node)].write().remove(&node) } else { None };
        // The end of an inode takes the lock on its key: let go of that first.
        drop(keys);
        last
    }

    /// The number of an inode has ended.
    pub(super) fn drop_key(&self, key: FileKey, inode: *const Inode) {
        let mut keys = self.keys[shard(key.ino)].lock();
        if keys.get(&key).is_some_and(|known| std::ptr::eq(known.as_ptr(), inode)) {
            keys.remove(&key);
        }
    }

    /// The node that the entry with inode number `ino` in a directory on device `dev` has or would get.
    pub(super) fn node_of(&self, dev: u64, ino: u64) -> u64 {
        let key = FileKey { dev, ino };
        if key == self.root { ROOT } else { self.usual_node(key).unwrap_or(ino) }
    }

    /// The node that an object gets if no other has it: the inode number, for objects on another file system than the root with
    /// a number for that before it. `None`: it has no room.
    fn usual_node(&self, key: FileKey) -> Option<u64> {
        if key.dev == self.root.dev {
            return (key.ino > ROOT && key.ino < MADE_UP).then_some(key.ino);
        }
        let room = key.ino < 1 << DEVICE_SHIFT;
        room.then(|| MADE_UP | u64::from(self.device_number(key.dev)) << DEVICE_SHIFT | key.ino)
    }

    /// The number of a device, from 1: made of the device, so that it is mostly the same after a remount.
    fn device_number(&self, dev: u64) -> u16 {
        let first = u16::try_from(dev.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 49).unwrap_or(0);
        let numbers = (0..=MOST_DEVICES).map(|n| (first.wrapping_add(n) & MOST_DEVICES).max(1));
        let devices = self.devices.read();
        for number in numbers.clone() {
            match devices.get(&number) {
                Some(&known) if known == dev => return number,
                Some(_) => {}
                None => break,
            }
        }
        drop(devices);
        let mut devices = self.devices.write();
        for number in numbers {
            if *devices.entry(number).or_insert(dev) == dev {
                return number;
            }
        }
        MOST_DEVICES
    }

    fn new_node(&self, key: FileKey) -> u64 {
        if key == self.root {
            return ROOT;
        }
        if let Some(node) = self.usual_node(key)
            && !self.nodes[shard(node)].read().contains_key(&node)
        {
            return node;
        }
        self.made_up.fetch_add(1, Ordering::Relaxed)
    }

    /// The device of the root.
    pub(super) const fn root_dev(&self) -> u64 {
        self.root.dev
    }

    /// How many objects the kernel knows.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.nodes.iter().map(|nodes| nodes.read().len()).sum()
    }
}

fn shard(number: u64) -> usize {
    usize::try_from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58).unwrap_or(0)
}
