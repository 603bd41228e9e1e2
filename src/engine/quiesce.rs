//! Counts operations that are being carried out, so that a stun can wait for those that began before it.
//!
//! Two counters take turns: a stun turns to the other one and waits until the first is empty. What begins later is
//! counted in the other and cannot make the stun wait for ever.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::time::wait_until;

/// The operations under way.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    turn: AtomicUsize,
    counts: [AtomicUsize; 2],
}

/// One operation under way; over when dropped.
#[derive(Debug)]
pub(super) struct InFlightGuard<'a> {
    running: &'a InFlight,
    index: usize,
}

/// An operation that is under way still, between two threads; it must be taken up.
#[derive(Debug)]
#[must_use]
pub(super) struct HandedOver(usize);

impl InFlight {
    /// An operation begins.
    pub(super) fn enter(&self) -> InFlightGuard<'_> {
        loop {
            let turn = self.turn.load(SeqCst);
            let index = turn & 1;
            let count = &self.counts[index];
            count.fetch_add(1, SeqCst);
            if self.turn.load(SeqCst) == turn {
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
        let before = self.turn.fetch_add(1, SeqCst);
        let count = &self.counts[before & 1];
        if wait_until(within, Duration::from_micros(200), || count.load(SeqCst) == 0) { 0 } else { count.load(SeqCst) }
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
        let running = InFlight::default();
        let first = running.enter();
        assert_eq!(running.settle(Duration::from_millis(5)), 1);
        let later = running.enter();
        drop(first);
        assert_eq!(running.settle(Duration::from_millis(5)), 1, "the later one is under way");
        drop(later);
        assert_eq!(running.settle(Duration::from_secs(5)), 0);
    }

    #[test]
    fn what_is_handed_over_is_under_way() {
        let running = InFlight::default();
        let handed = running.enter().hand_over();
        assert_eq!(running.settle(Duration::from_millis(5)), 1);
        drop(running.take_up(handed));
        assert_eq!(running.settle(Duration::from_secs(5)), 0);
    }
}
