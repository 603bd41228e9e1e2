//! A stun: a gate over the whole release queue.
//!
//! Only replies stand still: the pool goes on provisioning meanwhile, so a grain that is ready when the stun ends costs
//! nothing more.
//!
//! Must not know: what is held. Invariant: no stun lasts longer than the maximum, however often it is extended.

use std::time::Duration;

use crate::time::SimTime;

/// The stun in force, if any, and what is left of those before.
#[derive(Debug, Default)]
pub(super) struct StunState {
    active: Option<Active>,
    /// When the last one ended: nothing that was held then is due earlier.
    reopened: SimTime,
    /// How many there were.
    count: u64,
}

#[derive(Debug, Clone, Copy)]
struct Active {
    began: SimTime,
    until: SimTime,
}

impl StunState {
    /// When the stun in force ends at the latest; it may be in the past until `end` is called.
    pub(super) fn until(&self) -> Option<SimTime> {
        self.active.map(|active| active.until)
    }

    /// Whether everything stands still at `now`.
    pub(super) fn holds(&self, now: SimTime) -> bool {
        self.active.is_some_and(|active| active.until > now)
    }

    pub(super) const fn reopened(&self) -> SimTime {
        self.reopened
    }

    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// Begins one, or makes the one in force longer; its end.
    pub(super) fn begin(&mut self, now: SimTime, duration: Duration, longest: Duration) -> SimTime {
        let until = now + duration.min(longest);
        if let Some(active) = &mut self.active {
            active.until = active.until.max(until).min(active.began + longest);
            return active.until;
        }
        self.count += 1;
        self.active = Some(Active { began: now, until });
        until
    }

    /// Ends the one in force at `at`; whether there was one.
    pub(super) fn end(&mut self, at: SimTime) -> bool {
        let ended = self.active.take().is_some();
        if ended {
            self.reopened = self.reopened.max(at);
        }
        ended
    }

    /// Takes over a new maximum; a stun that is over by it ends now.
    pub(super) fn limit(&mut self, now: SimTime, longest: Duration) {
        if let Some(active) = &mut self.active {
            active.until = active.until.min((active.began + longest).max(now));
        }
    }
}
