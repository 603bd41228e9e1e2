//! The thin pool: how many grains are provisioned, how many there are, and when that is worth a notice.
//!
//! Must not know: which grains, or files. Invariant: `used` is what was there at mount, plus what was taken, minus what
//! was given back, and never below what a checkpoint says.

use crate::units::{Bytes, GrainSize};

/// Space accounting. What was there at mount is counted in bytes until it is known by grain.
#[derive(Debug)]
pub(super) struct Pool {
    grain: u64,
    size: Option<Bytes>,
    low_water_percent: u64,
    /// Data that was there at mount, as far as it was found.
    found: u64,
    /// What whole grains hold above the data in them, for files that are known by grain.
    rounding: u64,
    /// At least this was in use at mount, whatever is found.
    floor: u64,
    /// Bytes of `found` that were given back.
    returned: u64,
    /// Grains taken minus grains given back since mount.
    net: i64,
    /// Grains that all of the above but `net` makes.
    base: i64,
    low_told: bool,
    full_told: bool,
}

impl Pool {
    pub(super) fn new(grain: GrainSize, size: Option<Bytes>, low_water_percent: u8) -> Self {
        Self {
            grain: grain.bytes().0,
            size,
            low_water_percent: u64::from(low_water_percent),
            found: 0,
            rounding: 0,
            floor: 0,
            returned: 0,
            net: 0,
            base: 0,
            low_told: false,
            full_told: false,
        }
    }

    /// Provisioned grains.
    pub(super) fn used(&self) -> u64 {
        u64::try_from(self.base.saturating_add(self.net)).unwrap_or(0)
    }

    /// Provisioned bytes.
    pub(super) fn used_bytes(&self) -> u64 {
        self.used().saturating_mul(self.grain)
    }

    pub(super) const fn size(&self) -> Option<Bytes> {
        self.size
    }

    /// Whether `grains` more fit.
    pub(super) fn has_room(&self, grains: u64) -> bool {
        self.size.is_none_or(|size| self.used().saturating_add(grains) <= size.0 / self.grain)
    }

    pub(super) fn take(&mut self, grains: u64) {
        self.net = self.net.saturating_add_unsigned(grains);
    }

    pub(super) fn give_back(&mut self, grains: u64) {
        self.net = self.net.saturating_sub_unsigned(grains);
        self.settle();
    }

    /// `bytes` more were there at mount.
    pub(super) fn found(&mut self, bytes: u64) {
        self.found = self.found.saturating_add(bytes);
        self.settle();
    }

    /// `bytes` that were there at mount are not any more.
    pub(super) fn lost(&mut self, bytes: u64) {
        self.returned = self.returned.saturating_add(bytes);
        self.settle();
    }

    /// A file's `data` bytes turn out to lie in `grains` whole grains.
    pub(super) fn rounded(&mut self, grains: u64, data: u64) {
        self.rounding = self.rounding.saturating_add(grains.saturating_mul(self.grain).saturating_sub(data));
        self.settle();
    }

    /// At least this was in use at mount.
    pub(super) fn floor(&mut self, used: Bytes) {
        self.floor = self.floor.max(used.0);
        self.settle();
    }

    pub(super) fn resize(&mut self, size: Option<Bytes>) {
        self.size = size;
        self.settle();
    }

    pub(super) fn set_low_water(&mut self, percent: u8) {
        self.low_water_percent = u64::from(percent);
    }

    /// Whether this is the moment to say that the pool runs low: once, until it was above the mark again.
    pub(super) fn runs_low(&mut self) -> bool {
        let low = self.is_low();
        let news = low && !self.low_told;
        self.low_told = low;
        news
    }

    /// Whether this is the moment to say that the pool is full: once, until there was room again.
    pub(super) fn runs_full(&mut self) -> bool {
        !std::mem::replace(&mut self.full_told, true)
    }

    fn is_low(&self) -> bool {
        let Some(size) = self.size else { return false };
        let grains = u128::from(size.0 / self.grain);
        let free = grains.saturating_sub(u128::from(self.used()));
        free * 100 < u128::from(self.low_water_percent) * grains
    }

    fn settle(&mut self) {
        let bytes = self.found.saturating_add(self.rounding).max(self.floor).saturating_sub(self.returned);
        self.base = i64::try_from(bytes.div_ceil(self.grain)).unwrap_or(i64::MAX);
        self.low_told = self.low_told && self.is_low();
        self.full_told = self.full_told && !self.has_room(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Pool {
        Pool::new(GrainSize::MIB, Some(Bytes::mib(10)), 20)
    }

    #[test]
    fn what_was_there_counts_in_whole_grains() {
        let mut pool = pool();
        pool.found(1);
        pool.found((1 << 20) + 1);
        pool.take(3);
        assert_eq!(pool.used(), 5);
        pool.rounded(2, 5);
        assert_eq!(pool.used(), 6);
        assert!(pool.has_room(4) && !pool.has_room(5));
    }

    #[test]
    fn a_floor_holds_until_more_is_found() {
        let mut pool = pool();
        pool.floor(Bytes::mib(4));
        pool.found(1 << 20);
        assert_eq!(pool.used(), 4);
        pool.give_back(1);
        pool.lost(1 << 20);
        assert_eq!(pool.used(), 2);
        pool.found(6 << 20);
        assert_eq!(pool.used(), 5);
    }

    #[test]
    fn low_water_is_told_once_until_it_was_above() {
        let mut pool = pool();
        pool.take(8);
        assert!(!pool.runs_low());
        pool.take(1);
        assert!(pool.runs_low());
        pool.take(1);
        assert!(!pool.runs_low());
        pool.give_back(5);
        pool.take(5);
        assert!(pool.runs_low());
    }

    #[test]
    fn full_is_told_once_until_there_was_room() {
        let mut pool = pool();
        pool.take(10);
        assert!(pool.runs_full());
        assert!(!pool.runs_full());
        pool.give_back(1);
        pool.take(1);
        assert!(pool.runs_full());
    }
}
