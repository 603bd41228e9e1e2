//! The blocks of a packed volume's virtual disk: which are free, and which grains have space.
//!
//! Must not know: files. Invariant: a free block lies in a provisioned grain; a grain whose blocks are all free and
//! that was handed back is taken again only as a new one.
//!
//! Memory: 1 to 4 bytes for each run of free blocks.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::free_space_map::FreeSpaceMap;
use super::grains::GrainSet;
use crate::units::GrainSize;

/// Where data that was there at mount begins, in blocks: past anything that 64-bit offsets can fill.
const REGION_BLOCK: u64 = 1 << 52;

/// A packed volume, saved: the numbers that the next session goes on with. Files are not in it: they are what the
/// backing says they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct AllocatorCheckpoint {
    next_grain: u64,
    region_next: u64,
    free: Vec<(u64, u64)>,
    discarded: Vec<(u64, u64)>,
}

/// The virtual disk's blocks and grains.
#[derive(Debug)]
pub(super) struct BlockAllocator {
    grain_blocks: u64,
    /// Whether what was there at mount counts as not provisioned.
    cold: bool,
    /// Provisioned blocks that no file uses.
    free: FreeSpaceMap,
    /// Grains that were used once and are not provisioned.
    discarded: GrainSet,
    /// The first grain that was never used.
    next_grain: u64,
    /// The first block of the region that no file was given.
    region_next: u64,
    /// Grains of a cold region that have space again.
    warmed: GrainSet,
}

impl BlockAllocator {
    pub(super) fn new(grain: GrainSize, cold: bool) -> Self {
        let grain_blocks = grain.blocks();
        Self {
            grain_blocks,
            cold,
            free: FreeSpaceMap::default(),
            discarded: GrainSet::default(),
            next_grain: 0,
            region_next: REGION_BLOCK.div_ceil(grain_blocks) * grain_blocks,
            warmed: GrainSet::default(),
        }
    }

    /// How many are free.
    pub(super) const fn free(&self) -> u64 {
        self.free.total()
    }

    pub(super) const fn is_cold(&self) -> bool {
        self.cold
    }

    /// Addresses for data that was there at mount.
    pub(super) fn take_region(&mut self, blocks: u64) -> Range<u64> {
        let start = self.region_next;
        self.region_next = start.saturating_add(blocks);
        start..self.region_next
    }

    /// The grains that the disk takes next, in that order, if `blocks` are needed.
    pub(super) fn lacking(&self, blocks: u64) -> impl Iterator<Item = u64> + '_ {
        let grains = blocks.saturating_sub(self.free.total()).div_ceil(self.grain_blocks);
        self.discarded.iter().chain(self.next_grain..).take(usize::try_from(grains).unwrap_or(usize::MAX))
    }

    /// The grains that these addresses lie in.
    pub(super) const fn grains(&self, addrs: Range<u64>) -> Range<u64> {
        addrs.start / self.grain_blocks..addrs.end.div_ceil(self.grain_blocks)
    }

    /// Whether a grain that has a file's block in it is provisioned.
    pub(super) fn provisioned(&self, grain: u64) -> bool {
        !self.cold || grain < REGION_BLOCK / self.grain_blocks || self.warmed.contains(grain)
    }

    /// The lowest free run, at most `limit` blocks of it; if nothing is free, the next of the grains in `unused` is
    /// taken first.
    pub(super) fn take(&mut self, limit: u64, unused: &mut &[u64]) -> Option<Range<u64>> {
        if let ([grain, rest @ ..], 0) = (*unused, self.free.total()) {
            self.take_grain(*grain);
            *unused = rest;
        }
        self.free.take_lowest(limit)
    }

    fn take_grain(&mut self, grain: u64) {
        if grain == self.next_grain {
            self.next_grain += 1;
        } else {
            self.discarded.remove(grain..grain + 1);
            self.warm(grain);
        }
        self.free.insert(grain * self.grain_blocks..(grain + 1) * self.grain_blocks);
    }

    /// A grain of a cold region has space again.
    pub(super) fn warm(&mut self, grain: u64) {
        if self.cold && grain >= REGION_BLOCK / self.grain_blocks {
            self.warmed.insert(grain..grain + 1);
        }
    }

    /// A file gives these up. With `discard`, grains that are wholly free now go back to the pool: their ranges are
    /// added to `gone`. What has no space (cold volumes) is not worth keeping.
    pub(super) fn release(&mut self, addrs: Range<u64>, discard: bool, gone: &mut Vec<Range<u64>>) {
        if addrs.is_empty() {
            return;
        }
        if !self.cold || addrs.start < REGION_BLOCK {
            return self.reuse(addrs, discard, gone);
        }
        for grain in self.grains(addrs.clone()).filter(|grain| self.warmed.contains(*grain)).collect::<Vec<_>>() {
            let (start, end) = (grain * self.grain_blocks, (grain + 1) * self.grain_blocks);
            self.reuse(start.max(addrs.start)..end.min(addrs.end), discard, gone);
        }
    }

    fn reuse(&mut self, addrs: Range<u64>, discard: bool, gone: &mut Vec<Range<u64>>) {
        let whole = self.free.insert(addrs);
        if discard {
            gone.extend(self.discard_in(whole));
        }
    }

    /// Takes the whole grains out of a run of free blocks.
    fn discard_in(&mut self, free: Range<u64>) -> Option<Range<u64>> {
        let grains = free.start.div_ceil(self.grain_blocks)..free.end / self.grain_blocks;
        if grains.is_empty() {
            return None;
        }
        self.free.remove(&(grains.start * self.grain_blocks..grains.end * self.grain_blocks));
        self.discarded.insert(grains.clone());
        if self.cold {
            self.warmed.remove(grains.clone());
        }
        Some(grains)
    }

    /// Hands back every grain that is wholly free.
    pub(super) fn discard(&mut self, gone: &mut Vec<Range<u64>>) {
        for free in self.free.iter().collect::<Vec<_>>() {
            gone.extend(self.discard_in(free));
        }
    }

    pub(super) fn save(&self) -> AllocatorCheckpoint {
        AllocatorCheckpoint {
            next_grain: self.next_grain,
            region_next: self.region_next,
            free: self.free.iter().map(|run| (run.start, run.end)).collect(),
            discarded: self.discarded.runs(),
        }
    }

    /// Goes on where an earlier session ended. A cold volume keeps only the numbers of what was used.
    pub(super) fn restore(&mut self, saved: &AllocatorCheckpoint) {
        self.next_grain = saved.next_grain;
        self.region_next = self.region_next.max(saved.region_next);
        if self.cold {
            return;
        }
        self.discarded = GrainSet::from_runs(&saved.discarded);
        let mut last = 0;
        for &(start, end) in &saved.free {
            if last <= start && start < end {
                self.free.insert(start..end);
                last = end;
            }
        }
    }
}
