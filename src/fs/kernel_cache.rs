//! What the kernel keeps of a file, and when it must forget it.
//!
//! The kernel drops the pages of a direct write's range before the write starts, and after a write that its caller waited
//! for; after an asynchronous one (AIO, io_uring) it does not. A buffered read meanwhile would leave its pages there for
//! good, and a `stat` its times.
//!
//! Must not know: FUSE's messages. Invariant: when a direct write is answered, the kernel has none of what the file was
//! before it, neither pages of its range nor attributes.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::FileSystem;
use super::inode::Inode;
use crate::units::ByteRange;

/// The kernel's caches of a mount, which can be told to forget.
pub trait KernelCache: fmt::Debug + Send + Sync {
    /// Has the kernel forget a node's attributes. Does not wait for other requests; the node is open.
    fn forget_attributes(&self, node: u64);

    /// Has the kernel forget a node's attributes and its pages in `range`, then calls `then`. It waits for reads of these pages that
    /// are under way, so another thread does it.
    fn forget_pages(&self, node: u64, range: ByteRange, then: Box<dyn FnOnce() + Send>);
}

/// What the kernel may have of one file.
#[derive(Debug, Default)]
pub(super) struct KernelCopy {
    /// Descriptors that read through the page cache.
    buffered: AtomicU64,
    /// Pages were read since there were certainly none.
    pages: AtomicBool,
    /// Attributes were told since they were last forgotten.
    attributes: AtomicBool,
}

/// What has to be forgotten.
#[derive(Debug, PartialEq, Eq)]
enum Stale {
    Nothing,
    Attributes,
    /// The range that was written.
    Range,
    /// All pages: no descriptor is left that could read others.
    File,
}

impl KernelCopy {
    /// A descriptor that reads through the page cache was opened.
    pub(super) fn opened(&self) {
        self.buffered.fetch_add(1, Ordering::SeqCst);
    }

    /// It was closed.
    pub(super) fn closed(&self) {
        self.buffered.fetch_sub(1, Ordering::SeqCst);
    }

    /// Pages are about to be read.
    pub(super) fn note_pages(&self) {
        note(&self.pages);
    }

    /// Attributes are about to be told.
    pub(super) fn note_attributes(&self) {
        note(&self.attributes);
    }

    /// A direct write is done. Pages stay noted as long as they can be read: another write, whose range was read meanwhile, may
    /// still be under way.
    fn written(&self) -> Stale {
        if self.pages.load(Ordering::SeqCst) {
            self.attributes.store(false, Ordering::SeqCst);
            if self.buffered.load(Ordering::SeqCst) > 0 {
                return Stale::Range;
            }
            self.pages.store(false, Ordering::SeqCst);
            return Stale::File;
        }
        if self.take_attributes() { Stale::Attributes } else { Stale::Nothing }
    }

    fn take_attributes(&self) -> bool {
        self.attributes.swap(false, Ordering::SeqCst)
    }
}

/// Sets it, and writes to shared memory only if that changes it.
fn note(flag: &AtomicBool) {
    if !flag.load(Ordering::SeqCst) {
        flag.store(true, Ordering::SeqCst);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direct_write_makes_stale_what_was_told_before_it() {
        let copy = KernelCopy::default();
        assert_eq!(copy.written(), Stale::Nothing);
        copy.note_attributes();
        assert_eq!([copy.written(), copy.written()], [Stale::Attributes, Stale::Nothing]);
        copy.opened();
        copy.note_pages();
        // As long as pages can be read, each write has to look after its own range.
        assert_eq!([copy.written(), copy.written()], [Stale::Range, Stale::Range]);
        copy.closed();
        assert_eq!([copy.written(), copy.written()], [Stale::File, Stale::Nothing]);
    }
}
