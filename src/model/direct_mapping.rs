//! Placement `direct`: every file is a LUN of its own, its offset the logical block address.
//!
//! Must not know: the pool, penalties, time. Invariant: a grain is in a file's set if and only if it has space; a
//! range that is punched or cut off is a discard of the grains that it covers.
//!
//! Memory: about 100 bytes a file plus its [`GrainSet`].

use std::collections::HashMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::grains::GrainSet;
use super::op::FileKey;
use super::provision_plan::{Learned, ProvisionPlan};
use crate::seed;
use crate::units::{ByteRange, GrainSize};

/// A file's provisioned grains, saved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct LunCheckpoint {
    file: FileKey,
    identity: u64,
    epoch: u32,
    grains: Vec<(u64, u64)>,
}

#[derive(Debug)]
struct Lun {
    identity: u64,
    /// How often grains were handed back: what is provisioned again draws again.
    epoch: u32,
    grains: GrainSet,
}

impl Lun {
    fn new(identity: u64) -> Self {
        Self { identity, epoch: 0, grains: GrainSet::default() }
    }
}

/// All files of a direct volume.
#[derive(Debug)]
pub(super) struct DirectMapping {
    grain: u64,
    cold: bool,
    files: HashMap<FileKey, Lun>,
    /// Files of an earlier session that were not met yet.
    remembered: HashMap<FileKey, Lun>,
    /// Grains in all sets.
    provisioned: u64,
    /// Bytes that were there at mount and are in a set now, or gone.
    accounted: u64,
}

impl DirectMapping {
    pub(super) fn new(grain: GrainSize, cold: bool) -> Self {
        let (files, remembered) = (HashMap::new(), HashMap::new());
        Self { grain: grain.bytes().0, cold, files, remembered, provisioned: 0, accounted: 0 }
    }

    pub(super) fn knows(&self, file: FileKey) -> bool {
        self.files.contains_key(&file)
    }

    /// Bytes in use, given that `found` were there at mount: whole grains of what is known, data of what is not.
    pub(super) const fn used_bytes(&self, found: u64) -> u64 {
        self.provisioned.saturating_mul(self.grain).saturating_add(found.saturating_sub(self.accounted))
    }

    pub(super) fn created(&mut self, file: FileKey, identity: u64) {
        self.remembered.remove(&file);
        self.files.insert(file, Lun::new(identity));
    }

    /// Takes a file in whose `data` was there at mount.
    pub(super) fn learn(&mut self, file: FileKey, identity: u64, data: &[ByteRange]) -> Learned {
        let mut lun = self.remembered.remove(&file).unwrap_or_else(|| Lun::new(identity));
        let mut learned = Learned::default();
        if !self.cold {
            for range in data {
                lun.grains.insert(range.touched(self.grain));
            }
            learned = Learned { grains: lun.grains.len(), data: data.iter().map(|range| range.len()).sum() };
        }
        self.provisioned += lun.grains.len();
        self.accounted = self.accounted.saturating_add(learned.data);
        self.files.insert(file, lun);
        learned
    }

    pub(super) fn plan(&self, file: FileKey, range: ByteRange, plan: &mut ProvisionPlan) {
        let indices = range.touched(self.grain);
        let Some(lun) = self.files.get(&file) else {
            plan.identity = Self::stand_in(file);
            plan.fresh.extend(indices);
            return;
        };
        (plan.identity, plan.epoch) = (lun.identity, lun.epoch);
        plan.fresh.extend(indices.filter(|index| !lun.grains.contains(*index)));
    }

    pub(super) fn commit(&mut self, file: FileKey, range: ByteRange) {
        let lun = self.files.entry(file).or_insert_with(|| Lun::new(Self::stand_in(file)));
        self.provisioned += lun.grains.insert(range.touched(self.grain));
    }

    /// The identity of a file that nobody introduced.
    const fn stand_in(file: FileKey) -> u64 {
        seed::mix(file.dev, file.ino)
    }

    /// The grains that `range` of `file` touches.
    pub(super) const fn touched(&self, range: ByteRange) -> Range<u64> {
        range.touched(self.grain)
    }

    /// Hands back the grains that `range` covers; how many, and their indices.
    pub(super) fn free(&mut self, file: FileKey, range: ByteRange) -> (u64, Range<u64>) {
        let covered = range.covered(self.grain);
        let Some(lun) = self.files.get_mut(&file) else { return (0, 0..0) };
        let gone = lun.grains.remove(covered.clone());
        if gone > 0 {
            lun.epoch = lun.epoch.saturating_add(1);
        }
        self.provisioned -= gone;
        (gone, covered)
    }

    /// Hands back all of a file; how many grains. One that was never learned had `unlearned` bytes.
    pub(super) fn remove(&mut self, file: FileKey, unlearned: u64) -> u64 {
        self.remembered.remove(&file);
        let Some(lun) = self.files.remove(&file) else {
            self.accounted = self.accounted.saturating_add(unlearned);
            return 0;
        };
        self.provisioned -= lun.grains.len();
        lun.grains.len()
    }

    pub(super) fn save(&self) -> Vec<LunCheckpoint> {
        let all = self.files.iter().chain(&self.remembered).filter(|(_, lun)| lun.epoch > 0 || !lun.grains.is_empty());
        let mut luns: Vec<LunCheckpoint> = all
            .map(|(&file, lun)| LunCheckpoint {
                file,
                identity: lun.identity,
                epoch: lun.epoch,
                grains: lun.grains.runs(),
            })
            .collect();
        luns.sort_by_key(|lun| lun.file);
        luns
    }

    pub(super) fn restore(&mut self, luns: Vec<LunCheckpoint>) {
        for saved in luns {
            let grains = if self.cold { GrainSet::default() } else { GrainSet::from_runs(&saved.grains) };
            let lun = Lun { identity: saved.identity, epoch: saved.epoch, grains };
            self.remembered.insert(saved.file, lun);
        }
    }
}
