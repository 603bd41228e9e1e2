//! What the kernel may have in its caches of one file.
//!
//! Must not know: how the kernel is told to forget. Invariant: what may have been read or told since it was last forgotten is noted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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
pub(super) enum Stale {
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
    pub(super) fn written(&self) -> Stale {
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

    pub(super) fn take_attributes(&self) -> bool {
        self.attributes.swap(false, Ordering::SeqCst)
    }
}

/// Sets it, and writes to shared memory only if that changes it.
fn note(flag: &AtomicBool) {
    if !flag.load(Ordering::SeqCst) {
        flag.store(true, Ordering::SeqCst);
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
