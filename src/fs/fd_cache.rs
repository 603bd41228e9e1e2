//! What every inode needs when it ends: the table, the tracker, the budget of descriptors.
//!
//! Must not know: operations. Invariant: inodes hold it weakly, so that the end of the file system is the end of all.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use super::forgotten::ForgottenNodes;
use super::inode::{Inode, InodeOwner};
use super::provisioning_tracker::ProvisioningTracker;
use super::table::{InodeTable, ROOT};
use crate::backing::HandleSource;
use crate::model::FileKey;

/// How many descriptors are given up at a time.
const BATCH: usize = 32;
/// An inode has this many references when nothing uses it: the table's, and the searcher's own.
const IDLE_REFERENCES: usize = 2;

/// The table, the tracker, the budget.
#[derive(Debug)]
pub(super) struct InodeStore {
    pub(super) table: InodeTable,
    pub(super) tracker: Arc<dyn ProvisioningTracker>,
    pub(super) budget: Budget,
    /// `None`: idle inodes are found again by their names.
    pub(super) handles: Option<HandleSource>,
    /// Held by what changes names: an inode that is found by its name waits for it.
    pub(super) name_changes: RwLock<()>,
    pub(super) forgotten: ForgottenNodes,
}

/// How many descriptors idle inodes may keep.
#[derive(Debug)]
pub(super) struct Budget {
    open: AtomicU64,
    limit: u64,
    /// Inodes with a descriptor, those that were opened first in front.
    queue: Mutex<VecDeque<Weak<Inode>>>,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Self {
        Self { open: AtomicU64::new(0), limit, queue: Mutex::default() }
    }

    /// An inode has given up its descriptor.
    pub(super) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }
}

impl InodeStore {
    fn enqueue(&self, inode: &Arc<Inode>, open: u64) {
        let mut queue = self.budget.queue.lock();
        let most = usize::try_from(open).unwrap_or(usize::MAX).saturating_mul(2).max(1024);
        if queue.len() > most {
            queue.retain(|inode| inode.strong_count() > 0);
        }
        queue.push_back(Arc::downgrade(inode));
    }

    /// Lets some idle inodes give up their descriptors (the second chance goes to those used since the last search).
    /// Looks at a few only, since it is called again soon.
    fn give_up_some(&self) {
        self.give_up(BATCH * 8);
    }

    /// As before, but looks until it has found some: everything is looked at twice if need be, so that those with a
    /// second chance lose it. Whether there were any.
    pub(super) fn make_room(&self) -> bool {
        let all = self.budget.queue.lock().len();
        self.give_up(all * 2)
    }

    fn give_up(&self, turns: usize) -> bool {
        let mut given_up = 0;
        for _ in 0..turns {
            let Some(next) = self.budget.queue.lock().pop_front() else { break };
            let Some(inode) = next.upgrade() else { continue };
            let idle = Arc::strong_count(&inode) == IDLE_REFERENCES && !inode.used.swap(false, Ordering::Relaxed);
            if idle && inode.node != ROOT && inode.close(self) {
                self.budget.closed();
                given_up += 1;
            } else {
                self.budget.queue.lock().push_back(next);
            }
            if given_up == BATCH {
                break;
            }
        }
        given_up > 0
    }
}

impl InodeOwner for InodeStore {
    /// If that is one too many, idle ones give up theirs.
    fn opened(&self, inode: &Arc<Inode>) {
        let open = self.budget.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.enqueue(inode, open);
        if open > self.budget.limit {
            self.give_up_some();
        }
    }

    fn dropped(&self, inode: &Inode, open: bool) {
        self.table.drop_key(inode.key, inode);
        if open {
            self.budget.closed();
        }
    }

    fn removed(&self, key: FileKey, unlearned_bytes: u64) {
        self.tracker.remove(key, unlearned_bytes);
    }

    fn handles(&self) -> Option<&HandleSource> {
        self.handles.as_ref()
    }

    fn has_handle(&self, key: FileKey) -> bool {
        self.handles.is_some() && key.dev == self.table.root_dev()
    }

    fn no_name_changes(&self) -> RwLockReadGuard<'_, ()> {
        self.name_changes.read()
    }
}
