//! Counts operations that are being carried out, so that a stun can wait for those that began before it.
//!
//! A few counters take turns: a stun turns to another one, which is empty, and waits until the others are. What begins
//! later is counted in that one and cannot make the stun wait for ever. An operation that outlasts a stun stays in its
//! counter, so that the next stun waits for it, too.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::time::wait_until;

/// More than stuns in a row that each leave operations behind. A power of two.
const COUNTERS: usize = 8;

/// The operations under way.
#[derive(Debug, Default)]
pub(super) struct RunningOperations {
    /// Which of the counters an operation that begins now is counted in.
    turn: AtomicUsize,
    counts: [AtomicUsize; COUNTERS],
}

/// One operation under way; over when dropped.
#[derive(Debug)]
pub(super) struct InFlightGuard<'a> {
    running: &'a RunningOperations,
    index: usize,
}

/// An operation that is under way still, between two threads; it must be taken up.
#[derive(Debug)]
#[must_use]
pub(super) struct HandedOver(usize);

impl RunningOperations {
    /// An operation begins.
    pub(super) fn enter(&self) -> InFlightGuard<'_> {
        loop {
            let index = self.turn.load(SeqCst);
            let count = &self.counts[index];
            count.fetch_add(1, SeqCst);
            if self.turn.load(SeqCst) == index {
                return InFlightGuard { running: self, index };
            }
            count.fetch_sub(1, SeqCst);
        }
    }

    /// Goes on with an operation that another thread has handed over.
    pub(super) const fn take_up(&self, HandedOver(index): HandedOver) -> InFlightGuard<'_> {
        InFlightGuard { running: self, index }
    }

    /// Waits until every operation that had begun is over, at most `within`; how many still run then.
    pub(super) fn settle(&self, within: Duration) -> usize {
        let now = self.take_turn();
        let mut earlier: Vec<_> = (0..COUNTERS).filter(|index| *index != now).collect();
        let is_over = || {
            earlier.retain(|index| self.counts[*index].load(SeqCst) > 0);
            earlier.is_empty()
        };
        wait_until(within, Duration::from_micros(200), is_over);
        earlier.iter().map(|index| self.counts[*index].load(SeqCst)).sum()
    }

    /// Turns to the next counter that is empty. If none is, the next one has to do: its operations are not waited for.
    fn take_turn(&self) -> usize {
        let turn = |before: usize| {
            let mut others = (1..COUNTERS).map(|step| (before + step) % COUNTERS);
            let next = (before + 1) % COUNTERS;
            others.find(|index| self.counts[*index].load(SeqCst) == 0).unwrap_or(next)
        };
        let before = self.turn.fetch_update(SeqCst, SeqCst, |before| Some(turn(before)));
        // The update never refuses. The turn that another stun has taken meanwhile is as good.
        before.map_or(0, |_| self.turn.load(SeqCst))
    }
}

impl InFlightGuard<'_> {
    /// Leaves the operation to another thread.
    pub(super) fn hand_over(self) -> HandedOver {
        HandedOver(std::mem::ManuallyDrop::new(self).index)
    }
}

impl Drop for InFlightGuard<'_> {
    fn drop(&mut self) {
        self.running.counts[self.index].fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settles_only_when_earlier_ones_are_over() {
        let running = RunningOperations::default();
        let first = running.enter();
        assert_eq!(running.settle(Duration::from_millis(5)), 1);
        let later = running.enter();
        drop(first);
        assert_eq!(running.settle(Duration::from_millis(5)), 1, "the later one is under way");
        drop(later);
        assert_eq!(running.settle(Duration::from_secs(5)), 0);
    }

    /// The second stun counted only what had begun since the first.
    #[test]
    fn regression_what_outlasts_a_stun_is_waited_for_by_the_next() {
        let running = RunningOperations::default();
        let stuck = [running.enter(), running.enter()];
        for _ in 0..3 * COUNTERS {
            assert_eq!(running.settle(Duration::from_millis(1)), 2);
            let later = running.enter();
            assert_eq!(running.settle(Duration::from_millis(1)), 3);
            drop(later);
        }
        drop(stuck);
        assert_eq!(running.settle(Duration::from_secs(5)), 0);
    }

    #[test]
    fn what_is_handed_over_is_under_way() {
        let running = RunningOperations::default();
        let handed = running.enter().hand_over();
        assert_eq!(running.settle(Duration::from_millis(5)), 1);
        drop(running.take_up(handed));
        assert_eq!(running.settle(Duration::from_secs(5)), 0);
    }
}
