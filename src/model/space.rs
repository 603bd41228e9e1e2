//! Files come, are learned, shrink and go: what that does to the mapping and to the pool.
//!
//! Must not know: directories, handles, how the backing is scanned. Invariant: what was there at mount adds to the
//! pool's use exactly once, by [`Model::preexisting`].

use super::Model;
use super::config::Placement;
use super::mapping::Freed;
use super::op::{FileKey, ModelNotice, PoolUse};
use crate::time::SimTime;
use crate::units::{ByteRange, Bytes};

impl Model {
    /// A new, empty file. `identity` is what its penalties go by (placement `direct`), such as
    /// [`crate::seed::identity_of`] its path: the same in every run of the same workload. If another file was known by
    /// this key, that one is gone.
    pub fn created(&mut self, file: FileKey, identity: u64) {
        if self.mapping.knows(file) {
            self.remove(self.clock, file, 0);
        }
        self.mapping.created(file, identity);
    }

    /// A file that was there at mount, with the ranges of it that hold data: they are provisioned, unless the volume
    /// is cold. Nothing happens if it is known already. Their use of the pool comes in by [`Model::preexisting`].
    pub fn learn(&mut self, file: FileKey, identity: u64, data: &[ByteRange]) {
        if self.mapping.knows(file) {
            return;
        }
        let learned = self.mapping.learn(file, identity, data);
        self.pool.rounded(learned.grains, learned.data);
        if self.config.first_read.is_some() {
            self.first_reads.learn(file, identity, data);
        }
    }

    /// Whether `file` was created or learned, or written to.
    pub fn knows(&self, file: FileKey) -> bool {
        self.mapping.knows(file)
    }

    /// `range` of `file` holds no data any more: truncate, punch hole, zero range. BlockAllocator (packed) and grains (direct)
    /// that are only partly in it stay. Writers that wait for space may get a time by it.
    pub fn free(&mut self, now: SimTime, file: FileKey, range: ByteRange) {
        let now = self.arrive(now);
        let freed = self.mapping.free(file, range, self.discards());
        self.first_reads.freed(file, range);
        self.give_back(now, &freed);
    }

    /// The last link and the last handle of `file` are gone. `unlearned_bytes`: the data of a file that was there at
    /// mount and was never learned; ignored for one that is known. Writers that wait for space may get a time by it.
    pub fn remove(&mut self, now: SimTime, file: FileKey, unlearned_bytes: u64) {
        let now = self.arrive(now);
        let known = self.mapping.knows(file);
        let freed = self.mapping.remove(file, unlearned_bytes, self.discards());
        self.first_reads.removed(file);
        if !known && self.config.placement == Placement::Direct && !self.config.cold {
            self.pool.lost(unlearned_bytes);
        }
        self.give_back(now, &freed);
    }

    /// `bytes` more (in whole blocks) of data that was there at mount were found. To be called once for each file's
    /// data, by whoever comes across it first: a scan of the backing, or the removal of a file that the scan has not
    /// reached. Until the scan is through, the pool's use is a lower bound.
    pub fn preexisting(&mut self, bytes: u64) {
        self.found = self.found.saturating_add(bytes);
        if !self.config.cold {
            self.pool.found(bytes);
            self.tell_low_water(self.clock);
        }
    }

    /// At least `used` of the pool was in use at mount (from a checkpoint, after a crash), whatever a scan finds.
    pub fn floor_use(&mut self, used: Bytes) {
        if !self.config.cold {
            self.pool.floor(used);
            self.tell_low_water(self.clock);
        }
    }

    /// `bytes` of the pool are in use that no scan of the backing can find: freed, and not handed back.
    pub(super) fn provisioned_unseen(&mut self, bytes: Bytes) {
        if !self.config.cold {
            self.pool.found(bytes.0);
        }
    }

    /// Bytes provisioned out of the pool, whatever a thick volume shows.
    pub fn provisioned(&self) -> Bytes {
        Bytes(self.pool.used_bytes())
    }

    /// Whether freed grains of a packed volume go back to the pool by themselves.
    const fn discards(&self) -> bool {
        self.config.discard && !self.config.thick
    }

    pub(super) fn tell_low_water(&mut self, now: SimTime) {
        if !self.config.thick && self.pool.runs_low() {
            let (used, size) = (Bytes(self.pool.used_bytes()), self.pool.size().unwrap_or_default());
            self.notices.push(ModelNotice::LowWater { at: now, used, size });
        }
    }

    /// Space is free: in the pool, or for reuse.
    pub(super) fn give_back(&mut self, now: SimTime, freed: &Freed) {
        for indices in &freed.indices {
            self.provisioning.forget(freed.counted_as, indices.clone());
        }
        if freed.grains > 0 && !self.config.thick {
            self.pool.give_back(freed.grains);
            self.notices.push(ModelNotice::Discarded { at: now, grains: freed.grains });
        }
        self.serve_waiters(now);
    }

    /// The pool, seen from outside. A thick volume has everything: its use is its size, if it has one.
    pub(super) fn pool_use(&self) -> PoolUse {
        let mut used_bytes = self.pool.used_bytes();
        if self.config.thick {
            let size = self.config.virtual_size.or(self.config.pool);
            used_bytes = size.map_or_else(|| self.mapping.virtual_used(self.found), |size| size.0);
        }
        PoolUse {
            grains: used_bytes.div_ceil(self.config.grain.bytes().0),
            used_bytes,
            size_bytes: self.config.pool.map(|size| size.0),
            reusable_bytes: self.mapping.reusable_bytes(),
        }
    }
}
