//! Time passes: what comes out, and when the next thing can.
//!
//! Must not know: how time is measured. Invariant: however late it is called, everything happens at its own moment and
//! in the order of those moments.

use super::Model;
use super::op::{ModelNotice, Penalty, Refusal, Release};
use super::waiters::SpaceWaiter;
use crate::time::SimTime;

impl Model {
    /// The next moment at which something can come out or change by itself; it may be in the past.
    pub fn poll_timeout(&self) -> Option<SimTime> {
        let stunned = self.stun.until();
        let first = match stunned {
            Some(until) => Some(self.queue.first_limit().map_or(until, |limit| limit.min(until))),
            None => self.queue.first_due(),
        };
        let expires = self.expires_at.filter(|_| !self.expired);
        [first, self.waiters.first_limit(), expires].into_iter().flatten().min()
    }

    /// Lets everything happen that is due at `now`; what comes out is added to `out`, in order.
    pub fn handle_timeout(&mut self, now: SimTime, out: &mut Vec<Release>) {
        let now = now.max(self.clock);
        while let Some(at) = self.poll_timeout().filter(|at| *at <= now) {
            self.step(at, out);
        }
        // Only now: at its own moment a step may meet grains that are ready by `now`.
        self.tick(now);
    }

    /// Takes in the time of a call other than [`Model::handle_timeout`]. If that is late, writers that should have been
    /// given up meanwhile are, at their own time, so that what comes now does not stand behind them. Nothing comes out.
    pub(super) fn arrive(&mut self, now: SimTime) -> SimTime {
        let end = self.expires_at.filter(|_| !self.expired).map_or(now, |expires| expires.min(now));
        while let Some(at) = self.waiters.first_limit().filter(|at| *at <= end) {
            self.give_up_waiters(at);
        }
        self.tick(now)
    }

    /// Everything that happens at `at`, which is the next moment at which anything does.
    fn step(&mut self, at: SimTime, out: &mut Vec<Release>) {
        self.give_up_waiters(at);
        if self.stun.until().is_some_and(|until| until <= at) {
            self.end_stun(at);
        }
        if self.stun.until().is_some() {
            out.extend(std::iter::from_fn(|| self.queue.pop_limited(at)));
        } else {
            let reopened = self.stun.reopened();
            out.extend(std::iter::from_fn(|| self.queue.pop_due(at, reopened)));
        }
        if self.expires_at.is_some_and(|expires| expires <= at) && !self.expired {
            self.drain(at, out);
            self.expired = true;
            self.notices.push(ModelNotice::Expired { at });
        }
    }

    /// Writers that waited for space as long as they may get an error; others may fit in their place.
    fn give_up_waiters(&mut self, at: SimTime) {
        let mut some = false;
        while let Some((id, SpaceWaiter { until, .. })) = self.waiters.pop_given_up(at) {
            let requested = self.queue.requested(id).unwrap_or(at);
            // Ready never: it is the maximum hold that ends it, and the release says so.
            let ready = until.filter(|until| *until <= self.queue.limit_of(requested)).unwrap_or(SimTime::MAX);
            let penalty = Penalty { space: at.since(requested), ..Penalty::default() };
            self.queue.settle(id, ready, Err(Refusal::PoolFull), penalty);
            some = true;
        }
        if some {
            self.serve_waiters(at);
        }
    }

    /// Ends all injection at `now`: everything comes out with success, and nothing is under way any more.
    pub(super) fn drain(&mut self, now: SimTime, out: &mut Vec<Release>) {
        let gate = self.stun.until().unwrap_or(self.stun.reopened());
        self.end_stun(now);
        self.release_waiters(now);
        self.queue.drain(gate, out);
        self.lanes.clear();
        self.provisioning.clear();
        self.fetching.clear();
        self.config.armed = false;
    }

    /// Lets go who waits for space, whether there is any or not.
    pub(super) fn release_waiters(&mut self, now: SimTime) {
        while let Some((id, SpaceWaiter { file, range, .. })) = self.waiters.first() {
            let requested = self.queue.requested(id).unwrap_or(now);
            self.waiters.remove(id, self.queue.limit_of(requested));
            self.record_anyway(now, file, range);
            let penalty = Penalty { space: now.since(requested), ..Penalty::default() };
            self.queue.settle(id, now, Ok(()), penalty);
        }
    }
}
