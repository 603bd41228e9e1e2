//! When records are due.
//!
//! Must not know: what is written. Invariant: the beat goes on through a stall; what was due meanwhile is left out and told, not
//! made up for in a burst, except the last one, which is merely late.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::time::{Clock, SimTime, pause};

/// A writer that waits looks so often whether it has to stop.
const LOOK: Duration = Duration::from_millis(50);

/// Missed beats that are told one by one.
const MAX_DUES: u64 = 100_000;

/// A clock beat.
#[derive(Debug)]
pub(super) struct Schedule {
    every: Duration,
    clock: Clock,
    next: SimTime,
    not_before: SimTime,
}

/// Beats in a row at which nothing was done.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Missed {
    first: SimTime,
    every: Duration,
    pub(super) count: u64,
}

impl Missed {
    /// The beats from `first` to `now`.
    pub(super) fn between(first: SimTime, now: SimTime, every: Duration) -> Self {
        let (since, beat) = (now.since(first).as_nanos(), every.as_nanos().max(1));
        let count = if now < first { 0 } else { u64::try_from(since / beat).unwrap_or(u64::MAX).saturating_add(1) };
        Self { first, every, count }
    }

    /// When they were due; beyond [`MAX_DUES`], neighbours are told as one, with how many they are.
    pub(super) fn dues(&self) -> impl Iterator<Item = (SimTime, u64)> + use<> {
        let Self { first, every, count } = *self;
        let step = count / MAX_DUES + 1;
        let every = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
        let at = move |n: u64| first + Duration::from_nanos(every.saturating_mul(n));
        let steps = (0..count.div_ceil(step)).map(move |n| n * step);
        steps.map(move |n| (at(n), step.min(count - n)))
    }
}

impl Schedule {
    pub(super) fn new(every: Option<Duration>, clock: Clock) -> Self {
        Self { every: every.unwrap_or(Duration::ZERO), clock, next: clock.now(), not_before: SimTime::ZERO }
    }

    /// Waits for the next beat, or until `stop`; when it was due.
    pub(super) fn wait(&mut self, stop: &AtomicBool) -> SimTime {
        self.hold(self.next.max(self.not_before), stop);
        if self.every.is_zero() { self.clock.now() } else { self.next }
    }

    /// The record is done (or has failed): which beats have passed meanwhile.
    pub(super) fn done(&mut self) -> Missed {
        if self.every.is_zero() {
            return Missed::default();
        }
        let missed = Missed::between(self.next + self.every, self.clock.now(), self.every);
        // The last beat that has passed is late, the ones before it are missed.
        let missed = Missed { count: missed.count.saturating_sub(1), ..missed };
        self.next = missed.first + missed.every.saturating_mul(u32::try_from(missed.count).unwrap_or(u32::MAX));
        missed
    }

    /// Puts the next beat off, so that errors do not spin.
    pub(super) fn back_off(&mut self, by: Duration) {
        self.not_before = self.clock.now() + by;
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
    fn a_stall_is_not_made_up_for_and_its_beats_are_told() {
        let clock = Clock::start();
        let stop = AtomicBool::new(false);
        let every = Duration::from_millis(10);
        let mut pace = Schedule::new(Some(every), clock);
        let first = pace.wait(&stop);
        pause(Duration::from_millis(65));
        let missed = pace.done();
        assert!(missed.count >= 5, "{missed:?}");
        let dues: Vec<_> = missed.dues().collect();
        assert_eq!((dues[0], dues[1]), ((first + every, 1), (first + every * 2, 1)));
        let late = pace.wait(&stop);
        assert_eq!(late, dues[dues.len() - 1].0 + every);
        let begun = clock.now();
        for _ in 0..3 {
            pace.done();
            pace.wait(&stop);
        }
        assert!(clock.now().since(begun) >= Duration::from_millis(19));
    }

    #[test]
    fn many_missed_beats_are_told_in_groups() {
        let every = Duration::from_nanos(1);
        let missed = Missed::between(SimTime(1), SimTime(10_000_000), every);
        assert_eq!(missed.count, 10_000_000);
        assert!(missed.dues().count() <= 100_000);
        assert_eq!(missed.dues().map(|(_, count)| count).sum::<u64>(), 10_000_000);
        assert_eq!(Missed::between(SimTime(5), SimTime(4), every).count, 0);
    }

    #[test]
    fn stop_ends_a_wait() {
        let clock = Clock::start();
        let mut pace = Schedule::new(Some(Duration::from_secs(3600)), clock);
        let stop = AtomicBool::new(true);
        pace.wait(&stop);
        pace.done();
        pace.wait(&stop);
        assert!(clock.now().since(SimTime::ZERO) < Duration::from_secs(60));
    }
}
