//! The data of held writes: in memory up to a budget, past it in an unlinked temporary file.
//!
//! Must not know: why a write is held. Invariant: data that was taken comes back byte for byte; when the file cannot
//! take it, it stays in memory, over the budget. The file is opened before anything is mounted, so that it never lies on the
//! volume itself.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate, fstatfs};

use crate::time::wait_until;
use crate::units::Bytes;

/// File systems whose files are memory.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// How long an address space that is used up may take to have room again.
const ROOM_WITHIN: Duration = Duration::from_secs(30);

/// Where held data is kept.
#[derive(Debug)]
pub(super) struct DataStore {
    budget: u64,
    in_memory: AtomicU64,
    spilled: AtomicU64,
    next_offset: AtomicU64,
    file: Option<File>,
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
    /// With a temporary file for what is over the budget.
    pub(super) fn new(budget: Bytes) -> Self {
        Self { file: temporary_file(), ..Self::in_memory(budget) }
    }

    /// Without one.
    pub(super) const fn in_memory(budget: Bytes) -> Self {
        Self {
            budget: budget.0,
            in_memory: AtomicU64::new(0),
            spilled: AtomicU64::new(0),
            next_offset: AtomicU64::new(0),
            file: None,
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
        if let Some(mut copy) = buffer(data.len()) {
            copy.extend_from_slice(data);
            self.in_memory.fetch_add(len, Relaxed);
            return HeldData::Memory(copy.into());
        }
        self.spill(data).unwrap_or_else(|| {
            self.in_memory.fetch_add(len, Relaxed);
            HeldData::Memory(data.into())
        })
    }

    fn spill(&self, data: &[u8]) -> Option<HeldData> {
        let file = self.file.as_ref()?;
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
                let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
                let mut data = None;
                wait_until(ROOM_WITHIN, Duration::from_millis(5), || {
                    data = buffer(len);
                    data.is_some()
                });
                let mut data = data.ok_or(io::ErrorKind::OutOfMemory)?;
                data.resize(len, 0);
                let mut data = data.into_boxed_slice();
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

/// Room for `len` bytes; `None` where the address space is limited (`ulimit -v`) and used up.
fn buffer(len: usize) -> Option<Vec<u8>> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(len).ok().map(|()| buffer)
}

/// An unlinked file, on a disk if there is one: one in memory would count as memory all the same.
fn temporary_file() -> Option<File> {
    let is_in_memory = |file: &File| {
        fstatfs(file).is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|kind| IN_MEMORY.contains(&kind)))
    };
    let places = [std::env::temp_dir(), PathBuf::from("/var/tmp")];
    let mut files: Vec<File> = places.iter().filter_map(|place| tempfile::tempfile_in(place).ok()).collect();
    files.sort_by_key(is_in_memory);
    files.into_iter().next()
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

    /// It was opened by the first write that did not fit, which waited for the volume that it lay on.
    #[test]
    fn regression_the_temporary_file_was_opened_while_mounted() {
        let store = DataStore::new(Bytes(0));
        let spilled = store.file.as_ref().map(|file| file.metadata().unwrap().len());
        assert!(spilled.is_none_or(|len| len == 0), "it is there before any data is");
        assert!(spilled.is_some() || temporary_file().is_none());
    }
}
