//! Storage that is filled lazily: which data that was there at mount was neither read nor written since.
//!
//! Must not know: penalties, time. Invariant: a grain is taken out once, by whoever touches it first.
//!
//! Grains are counted by offset in the file, in both placements. Memory: about 60 bytes a file plus its [`GrainSet`],
//! only for files that are learned while `first_read` is set.

use std::collections::HashMap;
use std::ops::Range;

use super::grains::GrainSet;
use super::op::FileKey;
use crate::units::{ByteRange, GrainSize};

/// Grains whose first read is still to come.
#[derive(Debug)]
pub(super) struct FirstReads {
    grain: u64,
    files: HashMap<FileKey, (u64, GrainSet)>,
}

impl FirstReads {
    pub(super) fn new(grain: GrainSize) -> Self {
        Self { grain: grain.bytes().0, files: HashMap::new() }
    }

    pub(super) fn learn(&mut self, file: FileKey, identity: u64, data: &[ByteRange]) {
        let mut grains = GrainSet::default();
        for range in data {
            grains.insert(range.touched(self.grain));
        }
        if !grains.is_empty() {
            self.files.insert(file, (identity, grains));
        }
    }

    /// Takes out the grains that `range` touches, lowest first, into `fresh`; the file's identity.
    pub(super) fn take(&mut self, file: FileKey, range: ByteRange, fresh: &mut Vec<u64>) -> u64 {
        let Some((identity, grains)) = self.files.get(&file) else { return 0 };
        fresh.extend(self.touched(range).filter(|index| grains.contains(*index)));
        let identity = *identity;
        self.forget(file, self.touched(range));
        identity
    }

    /// The range was written: its grains are there.
    pub(super) fn written(&mut self, file: FileKey, range: ByteRange) {
        self.forget(file, self.touched(range));
    }

    /// The range was cut off or punched: grains that it covers are gone.
    pub(super) fn freed(&mut self, file: FileKey, range: ByteRange) {
        self.forget(file, range.covered(self.grain));
    }

    /// The file is gone.
    pub(super) fn removed(&mut self, file: FileKey) {
        self.files.remove(&file);
    }

    fn forget(&mut self, file: FileKey, indices: Range<u64>) {
        let Some((_, grains)) = self.files.get_mut(&file) else { return };
        grains.remove(indices);
        if grains.is_empty() {
            self.files.remove(&file);
        }
    }

    /// The grains that `range` touches.
    pub(super) const fn touched(&self, range: ByteRange) -> Range<u64> {
        range.touched(self.grain)
    }
}
