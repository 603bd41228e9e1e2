//! What a write newly takes, and what a file turned out to have.
//!
//! Must not know: placements. Invariant: a plan changes nothing by itself.

use crate::seed::DrawKey;

/// What a write newly takes.
#[derive(Debug, Default)]
pub(super) struct ProvisionPlan {
    /// The grains, in the order in which they are provisioned.
    pub(super) fresh: Vec<u64>,
    /// Of which the first so many have data already (cold volumes).
    pub(super) cold: usize,
    /// Blocks of 4 KiB (packed).
    pub(super) blocks: u64,
    /// Whose grains.
    pub(super) identity: u64,
    /// Discard epoch of these grains.
    pub(super) epoch: u32,
}

impl ProvisionPlan {
    pub(super) fn clear(&mut self) {
        self.fresh.clear();
        (self.cold, self.blocks, self.identity, self.epoch) = (0, 0, 0, 0);
    }

    /// How many grains.
    pub(super) fn grains(&self) -> u64 {
        self.fresh.len() as u64
    }

    /// What the draws of one of its grains go by.
    pub(super) const fn key(&self, index: u64) -> DrawKey {
        DrawKey { identity: self.identity, index, epoch: self.epoch }
    }
}

/// What a file that was there at mount turned out to have.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Learned {
    /// Grains that its data touches (direct).
    pub(super) grains: u64,
    /// Bytes of data.
    pub(super) data: u64,
}
