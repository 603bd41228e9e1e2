//! Which data has space, in either placement.
//!
//! Must not know: the pool's size, penalties, time. Invariant: `plan` changes nothing, and `commit` does exactly what
//! the plan of the same moment says.

use std::ops::Range;

use super::config::{ModelConfig, Placement};
use super::direct_mapping::DirectMapping;
use super::op::FileKey;
use super::packed_mapping::PackedMapping;
use super::provision_plan::{Learned, ProvisionPlan};
use crate::units::{BLOCK_BYTES, ByteRange};

/// The key of the virtual disk's grains; no file has it.
const DISK: FileKey = FileKey { dev: u64::MAX, ino: u64::MAX };

/// What went back to the pool.
#[derive(Debug)]
pub(super) struct Freed {
    /// The key under which they are counted.
    pub(super) counted_as: FileKey,
    /// How many grains.
    pub(super) grains: u64,
    /// Their indices (ranges may hold more than that).
    pub(super) indices: Vec<Range<u64>>,
}

/// Maps file data to provisioned grains.
#[derive(Debug)]
pub(super) enum Mapping {
    Direct(DirectMapping),
    Packed(PackedMapping),
}

impl Mapping {
    pub(super) fn new(config: &ModelConfig) -> Self {
        match config.placement {
            Placement::Direct => Self::Direct(DirectMapping::new(config.grain, config.cold)),
            Placement::Packed => Self::Packed(PackedMapping::new(config.grain, config.cold)),
        }
    }

    pub(super) fn knows(&self, file: FileKey) -> bool {
        match self {
            Self::Direct(luns) => luns.knows(file),
            Self::Packed(disk) => disk.knows(file),
        }
    }

    pub(super) fn created(&mut self, file: FileKey, identity: u64) {
        match self {
            Self::Direct(luns) => luns.created(file, identity),
            Self::Packed(disk) => disk.created(file),
        }
    }

    pub(super) fn learn(&mut self, file: FileKey, identity: u64, data: &[ByteRange]) -> Learned {
        match self {
            Self::Direct(luns) => luns.learn(file, identity, data),
            Self::Packed(disk) => {
                disk.learn(file, data);
                Learned::default()
            }
        }
    }

    /// What a write to `range` would newly take, into `plan`.
    pub(super) fn plan(&self, file: FileKey, range: ByteRange, plan: &mut ProvisionPlan) {
        plan.clear();
        match self {
            Self::Direct(luns) => luns.plan(file, range, plan),
            Self::Packed(disk) => disk.plan(file, range, plan),
        }
    }

    pub(super) fn commit(&mut self, file: FileKey, range: ByteRange, plan: &ProvisionPlan) {
        match self {
            Self::Direct(luns) => luns.commit(file, range),
            Self::Packed(disk) => disk.commit(file, range, plan),
        }
    }

    /// The key under which the grains of `file` are counted.
    pub(super) const fn counted_as(&self, file: FileKey) -> FileKey {
        match self {
            Self::Direct(_) => file,
            Self::Packed(_) => DISK,
        }
    }

    /// Calls `visit` with each grain that has data of `range`; a grain may come more than once.
    pub(super) fn touched(&self, file: FileKey, range: ByteRange, visit: impl FnMut(u64)) {
        match self {
            Self::Direct(luns) => luns.touched(range).for_each(visit),
            Self::Packed(disk) => disk.touched(file, range, visit),
        }
    }

    pub(super) fn free(&mut self, file: FileKey, range: ByteRange, discard: bool) -> Freed {
        match self {
            Self::Direct(luns) => {
                let (grains, indices) = luns.free(file, range);
                Freed { counted_as: file, grains, indices: vec![indices] }
            }
            Self::Packed(disk) => Freed::of(|gone| disk.free(file, range, discard, gone)),
        }
    }

    pub(super) fn remove(&mut self, file: FileKey, unlearned: u64, discard: bool) -> Freed {
        match self {
            Self::Direct(luns) => {
                let all = Range { start: 0, end: u64::MAX };
                Freed { counted_as: file, grains: luns.remove(file, unlearned), indices: vec![all] }
            }
            Self::Packed(disk) => Freed::of(|gone| disk.remove(file, unlearned, discard, gone)),
        }
    }

    /// Hands back what is wholly free and not handed back yet.
    pub(super) fn discard(&mut self) -> Freed {
        match self {
            Self::Direct(_) => Freed::of(|_| {}),
            Self::Packed(disk) => Freed::of(|gone| disk.discard(gone)),
        }
    }

    /// Provisioned bytes that no file uses.
    pub(super) const fn reusable_bytes(&self) -> u64 {
        match self {
            Self::Direct(_) => 0,
            Self::Packed(disk) => disk.free_blocks().saturating_mul(BLOCK_BYTES),
        }
    }

    /// Bytes in use on the virtual disk, given that `found` bytes were there at mount.
    pub(super) fn virtual_used(&self, found: u64) -> u64 {
        match self {
            Self::Direct(luns) => luns.used_bytes(found),
            Self::Packed(disk) => {
                let block = i128::from(BLOCK_BYTES);
                u64::try_from(i128::from(found) + i128::from(disk.net_blocks()) * block).unwrap_or(0)
            }
        }
    }
}

impl Freed {
    /// What `free` adds to a list of ranges of the virtual disk's grains.
    fn of(free: impl FnOnce(&mut Vec<Range<u64>>)) -> Self {
        let mut indices = Vec::new();
        free(&mut indices);
        Self { counted_as: DISK, grains: indices.iter().map(|range| range.end - range.start).sum(), indices }
    }
}
