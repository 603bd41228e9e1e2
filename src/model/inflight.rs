//! The grains that are being provisioned (or fetched) now, and when each is ready.
//!
//! Must not know: who waits. Invariant: after `purge(now)` every grain in it is ready after `now`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;

use super::op::FileKey;
use crate::time::SimTime;

/// A grain, by the file whose grains are counted (the virtual disk has a key of its own) and its index.
pub(super) type Grain = (FileKey, u64);

/// Grains under way. Each costs one insertion and one removal, whenever that is.
#[derive(Debug, Default)]
pub(super) struct GrainsInProgress {
    ready: BTreeMap<Grain, SimTime>,
    order: BinaryHeap<Reverse<(SimTime, Grain)>>,
    latest: SimTime,
}

impl GrainsInProgress {
    pub(super) fn begin(&mut self, grain: Grain, ready: SimTime) {
        self.ready.insert(grain, ready);
        self.order.push(Reverse((ready, grain)));
        self.latest = self.latest.max(ready);
    }

    /// When `grain` is ready, if it is under way.
    pub(super) fn ready(&self, grain: Grain) -> Option<SimTime> {
        self.ready.get(&grain).copied()
    }

    /// When the last of all is ready.
    pub(super) const fn latest(&self) -> SimTime {
        self.latest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// Drops what is ready at `now`.
    pub(super) fn purge(&mut self, now: SimTime) {
        while let Some(Reverse((ready, grain))) = self.order.peek().copied() {
            if ready > now {
                return;
            }
            self.order.pop();
            if self.ready.get(&grain) == Some(&ready) {
                self.ready.remove(&grain);
            }
        }
    }

    /// Drops grains that were handed back; who waits for them keeps its time.
    pub(super) fn forget(&mut self, file: FileKey, indices: Range<u64>) {
        if self.ready.is_empty() || indices.is_empty() {
            return;
        }
        let gone: Vec<Grain> =
            self.ready.range((file, indices.start)..(file, indices.end)).map(|(&grain, _)| grain).collect();
        for grain in gone {
            self.ready.remove(&grain);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileKey = FileKey { dev: 1, ino: 2 };

    #[test]
    fn what_is_ready_is_dropped() {
        let mut flying = GrainsInProgress::default();
        flying.begin((FILE, 1), SimTime(10));
        flying.begin((FILE, 2), SimTime(20));
        flying.purge(SimTime(10));
        assert_eq!((flying.ready((FILE, 1)), flying.ready((FILE, 2))), (None, Some(SimTime(20))));
    }

    #[test]
    fn a_grain_that_was_handed_back_starts_anew() {
        let mut flying = GrainsInProgress::default();
        flying.begin((FILE, 1), SimTime(10));
        flying.forget(FILE, 0..u64::MAX);
        assert!(flying.is_empty());
        flying.begin((FILE, 1), SimTime(30));
        flying.purge(SimTime(10));
        assert_eq!(flying.ready((FILE, 1)), Some(SimTime(30)));
    }
}
