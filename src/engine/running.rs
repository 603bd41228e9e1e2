//! Counts operations that are being carried out, so that a stun can wait for those that began before it.
//!
//! Two counters take turns: a stun turns to the other one and waits until the first is empty. What begins later is
//! counted in the other and cannot make the stun wait for ever.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::time::wait_until;

/// The operations under way.
#[derive(Debug, Default)]
pub(super) struct Running {
    turn: AtomicUsize,
    counts: [AtomicUsize; 2],
}

/// One operation under way; over when dropped.
#[derive(Debug)]
pub(super) struct Turn<'a>(&'a AtomicUsize);

impl Running {
    /// An operation begins.
    pub(super) fn enter(&self) -> Turn<'_> {
        loop {
            let turn = self.turn.load(SeqCst);
            let count = &self.counts[turn & 1];
            count.fetch_add(1, SeqCst);
            if self.turn.load(SeqCst) == turn {
                return Turn(count);
            }
            count.fetch_sub(1, SeqCst);
        }
    }

    /// Waits until every operation that had begun is over; false if that takes longer than `within`.
    pub(super) fn settle(&self, within: Duration) -> bool {
        let before = self.turn.fetch_add(1, SeqCst);
        let count = &self.counts[before & 1];
        wait_until(within, Duration::from_micros(200), || count.load(SeqCst) == 0)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settles_only_when_earlier_ones_are_over() {
        let running = Running::default();
        let first = running.enter();
        assert!(!running.settle(Duration::from_millis(5)));
        let later = running.enter();
        drop(first);
        assert!(!running.settle(Duration::from_millis(5)), "the later one is under way");
        drop(later);
        assert!(running.settle(Duration::from_secs(5)));
    }
}
