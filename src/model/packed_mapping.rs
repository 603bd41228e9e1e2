//! Placement `packed`: a file system on one virtual disk, whose blocks files take as they need them.
//!
//! Must not know: the pool, penalties, time. Invariant: no block is both free and a file's, or two files'.
//!
//! A file that needs a block takes the lowest free one; if there is none, the disk takes another grain: the lowest
//! that was discarded, or else the next one that was never used. Data that was there at mount lies in a region of its
//! own, far above, so that the numbers of new grains do not depend on who looked at which old file first.
//!
//! Memory: about 100 bytes for a file in one run, 5 to 7 bytes for each further run at random.

use std::collections::HashMap;
use std::ops::Range;

use super::block_allocator::{AllocatorCheckpoint, BlockAllocator};
use super::extent_codec::Extent;
use super::file_extents::FileExtents;
use super::op::FileKey;
use super::provision_plan::ProvisionPlan;
use crate::units::{BLOCK_BYTES, ByteRange, GrainSize};

/// The virtual disk and who has what of it.
#[derive(Debug)]
pub(super) struct PackedMapping {
    files: HashMap<FileKey, FileExtents>,
    blocks: BlockAllocator,
    /// BlockAllocator that files took since mount minus blocks that they gave up.
    net_blocks: i64,
}

impl PackedMapping {
    pub(super) fn new(grain: GrainSize, cold: bool) -> Self {
        Self { files: HashMap::new(), blocks: BlockAllocator::new(grain, cold), net_blocks: 0 }
    }

    pub(super) fn knows(&self, file: FileKey) -> bool {
        self.files.contains_key(&file)
    }

    pub(super) const fn free_blocks(&self) -> u64 {
        self.blocks.free()
    }

    /// BlockAllocator that files took since mount minus blocks that they gave up.
    pub(super) const fn net_blocks(&self) -> i64 {
        self.net_blocks
    }

    pub(super) fn created(&mut self, file: FileKey) {
        self.files.insert(file, FileExtents::default());
    }

    /// Gives a file's `data`, which was there at mount, addresses in the region.
    pub(super) fn learn(&mut self, file: FileKey, data: &[ByteRange]) {
        let mut extents = FileExtents::default();
        for range in data {
            for gap in extents.gaps(range.touched(BLOCK_BYTES)) {
                let len = gap.end - gap.start;
                let addrs = self.blocks.take_region(len);
                extents.insert(Extent { block: gap.start, addr: addrs.start, len });
            }
        }
        self.files.insert(file, extents);
    }

    /// What a write to `range` would newly take.
    pub(super) fn plan(&self, file: FileKey, range: ByteRange, plan: &mut ProvisionPlan) {
        let blocks = range.touched(BLOCK_BYTES);
        let extents = self.files.get(&file);
        let mapped = extents.map_or(0, |extents| extents.mapped(blocks.clone()));
        plan.blocks = (blocks.end - blocks.start) - mapped;
        if let (true, Some(extents)) = (self.blocks.is_cold(), extents) {
            self.plan_cold(extents, blocks, plan);
        }
        plan.fresh.extend(self.blocks.lacking(plan.blocks));
    }

    /// The grains of blocks that have data but, on a cold volume, no space.
    fn plan_cold(&self, extents: &FileExtents, blocks: Range<u64>, plan: &mut ProvisionPlan) {
        let grains = extents.runs_in(blocks).flat_map(|run| self.blocks.grains(run.addrs()));
        plan.fresh.extend(grains.filter(|grain| !self.blocks.provisioned(*grain)));
        plan.fresh.sort_unstable();
        plan.fresh.dedup();
        plan.cold = plan.fresh.len();
    }

    /// Does what was planned: what is free goes first, then one grain after the other.
    pub(super) fn commit(&mut self, file: FileKey, range: ByteRange, plan: &ProvisionPlan) {
        let (cold, mut unused) = plan.fresh.split_at(plan.cold);
        cold.iter().for_each(|grain| self.blocks.warm(*grain));
        if plan.blocks == 0 {
            return;
        }
        let extents = self.files.entry(file).or_default();
        let blocks = range.touched(BLOCK_BYTES);
        let all_new = plan.blocks == blocks.end - blocks.start;
        let gaps = if all_new { vec![blocks] } else { extents.gaps(blocks) };
        for gap in gaps {
            let mut block = gap.start;
            while block < gap.end {
                let Some(addrs) = self.blocks.take(gap.end - block, &mut unused) else { return };
                let len = addrs.end - addrs.start;
                extents.insert(Extent { block, addr: addrs.start, len });
                block += len;
            }
        }
        self.net_blocks = self.net_blocks.saturating_add_unsigned(plan.blocks);
    }

    /// Calls `visit` with each grain that `range` of `file` lies in; a grain may come more than once.
    pub(super) fn touched(&self, file: FileKey, range: ByteRange, mut visit: impl FnMut(u64)) {
        let Some(extents) = self.files.get(&file) else { return };
        for run in extents.runs_in(range.touched(BLOCK_BYTES)) {
            self.blocks.grains(run.addrs()).for_each(&mut visit);
        }
    }

    /// Takes the blocks that `range` covers from the file. With `discard`, grains that are wholly free now go back to
    /// the pool: their ranges are added to `gone`.
    pub(super) fn free(&mut self, file: FileKey, range: ByteRange, discard: bool, gone: &mut Vec<Range<u64>>) {
        let Some(extents) = self.files.get_mut(&file) else { return };
        let (blocks, net_blocks) = (&mut self.blocks, &mut self.net_blocks);
        extents.remove(&range.covered(BLOCK_BYTES), |run| {
            *net_blocks = net_blocks.saturating_sub_unsigned(run.len);
            blocks.release(run.addrs(), discard, gone);
        });
    }

    /// Takes all blocks of a file that is no more. One that was never learned leaves `unlearned` bytes.
    pub(super) fn remove(&mut self, file: FileKey, unlearned: u64, discard: bool, gone: &mut Vec<Range<u64>>) {
        let Some(extents) = self.files.remove(&file) else {
            let addrs = self.blocks.take_region(unlearned.div_ceil(BLOCK_BYTES));
            return self.release(addrs, discard, gone);
        };
        extents.runs_in(0..u64::MAX).for_each(|run| self.release(run.addrs(), discard, gone));
    }

    /// A file gives these addresses up.
    fn release(&mut self, addrs: Range<u64>, discard: bool, gone: &mut Vec<Range<u64>>) {
        self.net_blocks = self.net_blocks.saturating_sub_unsigned(addrs.end - addrs.start);
        self.blocks.release(addrs, discard, gone);
    }

    /// Hands back every grain that is wholly free.
    pub(super) fn discard(&mut self, gone: &mut Vec<Range<u64>>) {
        self.blocks.discard(gone);
    }

    pub(super) fn save(&self) -> AllocatorCheckpoint {
        self.blocks.save()
    }

    pub(super) fn restore(&mut self, saved: &AllocatorCheckpoint) {
        self.blocks.restore(saved);
    }
}
