//! What the kernel keeps of a file, and when it must forget it.
//!
//! The kernel drops the pages of a direct write's range before the write starts, and after a write that its caller waited
//! for; after an asynchronous one (AIO, io_uring) it does not. A buffered read meanwhile would leave its pages there for
//! good, and a `stat` its times.
//!
//! Must not know: FUSE's messages. Invariant: when a direct write is answered, the kernel has none of what the file was
//! before it, neither pages of its range nor attributes.

use std::fmt;
use std::sync::{Arc, Weak};

use super::FileSystem;
use super::inode::Inode;
use super::kernel_copy::Stale;
use crate::units::ByteRange;

/// The kernel's caches of a mount, which can be told to forget.
pub trait KernelCache: fmt::Debug + Send + Sync {
    /// Has the kernel forget a node's attributes. Does not wait for other requests; the node is open.
    fn forget_attributes(&self, node: u64);

    /// Has the kernel forget a node's attributes and its pages in `range`, then calls `then`. It waits for reads of these pages that
    /// are under way, so another thread does it.
    fn forget_pages(&self, node: u64, range: ByteRange, then: Box<dyn FnOnce() + Send>);
}

impl FileSystem {
    /// Through what the kernel is told to forget; the first one counts.
    pub fn set_kernel_cache(&self, cache: Weak<dyn KernelCache>) {
        let _is_the_first = self.kernel_cache.set(cache);
    }

    /// A direct write of `range` is done: `reply` is called when the kernel has forgotten what was there before.
    pub(super) fn kernel_forgets(&self, inode: &Arc<Inode>, range: ByteRange, reply: impl FnOnce() + Send + 'static) {
        let Some(cache) = self.kernel_cache() else { return reply() };
        match inode.kernel_copy.written() {
            Stale::Range => return cache.forget_pages(inode.node, range, Box::new(reply)),
            Stale::File => return cache.forget_pages(inode.node, ByteRange::from(0), Box::new(reply)),
            Stale::Attributes => cache.forget_attributes(inode.node),
            Stale::Nothing => {}
        }
        reply();
        // Attributes that were taken before the write, and told after they were forgotten.
        if inode.kernel_copy.take_attributes() {
            cache.forget_attributes(inode.node);
        }
    }

    /// An operation is done after which the kernel keeps the attributes that it had.
    pub(super) fn kernel_forgets_attributes(&self, inode: &Inode) {
        if let Some(cache) = self.kernel_cache() {
            cache.forget_attributes(inode.node);
        }
    }

    fn kernel_cache(&self) -> Option<Arc<dyn KernelCache>> {
        self.kernel_cache.get()?.upgrade()
    }
}
