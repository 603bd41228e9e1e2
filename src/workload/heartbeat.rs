//! Heartbeats: how long ago the last one was, and the longest time without one.
//!
//! Must not know: who beats, and why. Invariant: a heart that has stopped for good shows a gap that grows until the end.

use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::measure::micros;
use crate::time::{Clock, SimTime};

/// Heartbeats of one kind.
#[derive(Debug)]
pub(super) struct Heartbeat {
    clock: Clock,
    limit: Duration,
    state: Mutex<HeartbeatState>,
}

#[derive(Debug, Default)]
struct HeartbeatState {
    beats: u64,
    last: SimTime,
    longest: Duration,
}

/// A heartbeat as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatReport {
    /// How many there were.
    pub beats: u64,
    /// The longest time without one, that until now included.
    pub longest_gap_us: u64,
    /// Since the last one (since the start, if there was none).
    pub last_ago_us: u64,
    /// A gap beyond this counts as lost.
    pub limit_us: u64,
    /// Whether there was such a gap.
    pub lost: bool,
}

/// A node's heartbeats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatsReport {
    /// That of the status loop and the PLEG, which need the disk.
    pub disk: HeartbeatReport,
    /// The lease's, which does not need it.
    pub lease: HeartbeatReport,
}

impl Heartbeat {
    pub(super) fn new(clock: Clock, limit: Duration) -> Self {
        Self { clock, limit, state: Mutex::new(HeartbeatState { last: clock.now(), ..HeartbeatState::default() }) }
    }

    pub(super) fn beat(&self) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        state.beats += 1;
        state.longest = state.longest.max(now.since(state.last));
        state.last = now;
    }

    pub(super) fn report(&self) -> HeartbeatReport {
        let state = self.state.lock();
        let last_ago = self.clock.now().since(state.last);
        let longest = state.longest.max(last_ago);
        HeartbeatReport {
            beats: state.beats,
            longest_gap_us: micros(longest),
            last_ago_us: micros(last_ago),
            limit_us: micros(self.limit),
            lost: longest > self.limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::pause;

    #[test]
    fn a_heart_that_stops_is_lost() {
        let heart = Heartbeat::new(Clock::start(), Duration::from_millis(30));
        heart.beat();
        assert!(!heart.report().lost || heart.report().longest_gap_us > 30_000);
        pause(Duration::from_millis(40));
        let report = heart.report();
        assert!(report.lost && report.last_ago_us >= 40_000, "{report:?}");
        heart.beat();
        assert_eq!((heart.report().beats, heart.report().lost), (2, true), "a gap that has ended was one");
    }
}
