//! The pool's lanes: how many grains are provisioned at the same time, and whose turn it is.
//!
//! Must not know: grains, latencies. Invariant: no lane serves two at once, and what comes first is served first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::time::SimTime;

/// When each lane that was ever used is free again; never more entries than lanes.
#[derive(Debug)]
pub(super) struct Lanes {
    count: usize,
    free_at: BinaryHeap<Reverse<SimTime>>,
}

impl Lanes {
    pub(super) fn new(count: u32) -> Self {
        Self { count: usize::try_from(count).unwrap_or(usize::MAX), free_at: BinaryHeap::new() }
    }

    /// Takes the earliest free lane for `service`; when it begins and when it is done.
    pub(super) fn serve(&mut self, now: SimTime, service: Duration) -> (SimTime, SimTime) {
        let start = self.free_from(now);
        if self.free_at.len() >= self.count || self.free_at.peek().is_some_and(|free| free.0 <= now) {
            self.free_at.pop();
        }
        let done = start + service;
        self.free_at.push(Reverse(done));
        (start, done)
    }

    /// When the next one would begin.
    pub(super) fn free_from(&self, now: SimTime) -> SimTime {
        if self.free_at.len() < self.count {
            return now;
        }
        self.free_at.peek().map_or(now, |free| free.0.max(now))
    }

    /// Changes the number of lanes. Fewer: the ones with the most work left stay, so that nothing overtakes it.
    pub(super) fn resize(&mut self, count: u32) {
        self.count = usize::try_from(count).unwrap_or(usize::MAX);
        while self.free_at.len() > self.count {
            self.free_at.pop();
        }
    }

    /// Forgets all work.
    pub(super) fn clear(&mut self) {
        self.free_at.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn one_lane_serves_in_turn() {
        let mut lanes = Lanes::new(1);
        assert_eq!(lanes.serve(SimTime::ZERO, MS), (SimTime::ZERO, SimTime::from_millis(1)));
        assert_eq!(lanes.serve(SimTime::ZERO, MS), (SimTime::from_millis(1), SimTime::from_millis(2)));
        assert_eq!(lanes.free_from(SimTime::ZERO), SimTime::from_millis(2));
        assert_eq!(lanes.serve(SimTime::from_millis(9), MS), (SimTime::from_millis(9), SimTime::from_millis(10)));
    }

    #[test]
    fn lanes_work_side_by_side() {
        let mut lanes = Lanes::new(2);
        for expected in [1, 1, 2, 2] {
            assert_eq!(lanes.serve(SimTime::ZERO, MS).1, SimTime::from_millis(expected));
        }
    }

    #[test]
    fn fewer_lanes_keep_the_longest_queue() {
        let mut lanes = Lanes::new(2);
        lanes.serve(SimTime::ZERO, MS);
        lanes.serve(SimTime::ZERO, 5 * MS);
        lanes.resize(1);
        assert_eq!(lanes.free_from(SimTime::ZERO), SimTime::from_millis(5));
        lanes.resize(2);
        assert_eq!(lanes.free_from(SimTime::ZERO), SimTime::ZERO);
    }
}
