//! The data of held writes: in memory up to a budget, past it in an unlinked temporary file.
//!
//! Must not know: why a write is held. Invariant: data that was taken comes back byte for byte; when the file cannot
//! take it, it stays in memory, over the budget.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::fs::{FallocateFlags, fallocate};

use crate::units::Bytes;

/// Where held data is kept.
#[derive(Debug)]
pub(super) struct DataStore {
    budget: u64,
    in_memory: AtomicU64,
    spilled: AtomicU64,
    next_offset: AtomicU64,
    file: OnceLock<Option<File>>,
}

/// The data of one held write.
#[derive(Debug)]
pub(super) enum HeldData {
    /// In memory.
    Memory(Box<[u8]>),
    /// In the temporary file.
    Spilled {
        /// Where.
        offset: u64,
        /// How much.
        len: usize,
    },
}

impl DataStore {
    pub(super) const fn new(budget: Bytes) -> Self {
        Self {
            budget: budget.0,
            in_memory: AtomicU64::new(0),
            spilled: AtomicU64::new(0),
            next_offset: AtomicU64::new(0),
            file: OnceLock::new(),
        }
    }

    /// Bytes held in memory and in the file.
    pub(super) fn usage(&self) -> (u64, u64) {
        (self.in_memory.load(Relaxed), self.spilled.load(Relaxed))
    }

    /// Takes a copy of `data`.
    pub(super) fn take(&self, data: &[u8]) -> HeldData {
        let len = data.len() as u64;
        if self.in_memory.load(Relaxed) + len > self.budget
            && let Some(held) = self.spill(data)
        {
            return held;
        }
        self.in_memory.fetch_add(len, Relaxed);
        HeldData::Memory(data.into())
    }

    fn spill(&self, data: &[u8]) -> Option<HeldData> {
        let file = self.file.get_or_init(|| tempfile::tempfile().ok()).as_ref()?;
        let len = data.len() as u64;
        let offset = self.next_offset.fetch_add(len.next_multiple_of(4096), Relaxed);
        if let Err(error) = file.write_all_at(data, offset) {
            tracing::warn!("held data stays in memory past its budget: the temporary file failed: {error}");
            return None;
        }
        self.spilled.fetch_add(len, Relaxed);
        Some(HeldData::Spilled { offset, len: data.len() })
    }

    /// Gives the data back and forgets it.
    pub(super) fn give_back(&self, held: HeldData) -> io::Result<Box<[u8]>> {
        match held {
            HeldData::Memory(data) => {
                self.in_memory.fetch_sub(data.len() as u64, Relaxed);
                Ok(data)
            }
            HeldData::Spilled { offset, len } => {
                let file = self.file.get().and_then(Option::as_ref).ok_or(io::ErrorKind::NotFound)?;
                let mut data = vec![0; len].into_boxed_slice();
                file.read_exact_at(&mut data, offset)?;
                let span = (len as u64).next_multiple_of(4096);
                // Only gives the space back early; the file goes away with the volume in any case.
                let _ = fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, span);
                self.spilled.fetch_sub(len as u64, Relaxed);
                Ok(data)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_the_budget_goes_to_the_file_and_comes_back() {
        let store = DataStore::new(Bytes(10_000));
        let blobs: Vec<Vec<u8>> = (0..8_u8).map(|n| vec![n; 3000 + usize::from(n)]).collect();
        let held: Vec<HeldData> = blobs.iter().map(|blob| store.take(blob)).collect();
        let (memory, spilled) = store.usage();
        assert!(memory <= 10_000 && spilled > 0);
        assert_eq!(memory + spilled, blobs.iter().map(|blob| blob.len() as u64).sum::<u64>());
        for (blob, held) in blobs.iter().zip(held) {
            assert_eq!(&*store.give_back(held).unwrap(), &blob[..]);
        }
        assert_eq!(store.usage(), (0, 0));
    }
}
