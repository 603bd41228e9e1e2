//! How fast a writer goes.
//!
//! Must not know: what is written. Invariant: never faster than asked, also after a stall: what was missed is not made
//! up for in a burst.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::time::{Clock, SimTime, pause};

/// A writer that waits looks so often whether it has to stop.
const LOOK: Duration = Duration::from_millis(50);

/// A clock beat.
#[derive(Debug)]
pub(super) struct Schedule {
    every: Duration,
    clock: Clock,
    next: SimTime,
}

impl Schedule {
    pub(super) fn new(every: Option<Duration>, clock: Clock) -> Self {
        Self { every: every.unwrap_or(Duration::ZERO), clock, next: clock.now() }
    }

    /// Waits for the next beat, or until `stop`.
    pub(super) fn wait(&mut self, stop: &AtomicBool) {
        let due = self.next;
        self.hold(due, stop);
        self.next = (due + self.every).max(self.clock.now());
    }

    /// Puts the next beat off, so that errors do not spin.
    pub(super) fn back_off(&mut self, by: Duration) {
        self.next = self.next.max(self.clock.now() + by);
    }

    fn hold(&self, until: SimTime, stop: &AtomicBool) {
        loop {
            let left = until.since(self.clock.now());
            if left.is_zero() || stop.load(Ordering::Relaxed) {
                return;
            }
            pause(left.min(LOOK));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_not_made_up_for() {
        let clock = Clock::start();
        let stop = AtomicBool::new(false);
        let mut pace = Schedule::new(Some(Duration::from_millis(10)), clock);
        pace.wait(&stop);
        pause(Duration::from_millis(60));
        pace.wait(&stop);
        let begun = clock.now();
        (0..3).for_each(|_| pace.wait(&stop));
        assert!(clock.now().since(begun) >= Duration::from_millis(19));
    }

    #[test]
    fn stop_ends_a_wait() {
        let clock = Clock::start();
        let mut pace = Schedule::new(Some(Duration::from_secs(3600)), clock);
        let stop = AtomicBool::new(true);
        pace.wait(&stop);
        pace.wait(&stop);
        assert!(clock.now().since(SimTime::ZERO) < Duration::from_secs(60));
    }
}
