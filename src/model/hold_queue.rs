//! The release queue: what is held, and in which order it comes out.
//!
//! Must not know: why an operation is held. Invariant: what comes out comes out once, ordered by (time, id), and no
//! operation stays longer than the maximum hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::op::{OpId, Penalty, Pending, Refusal, Release, ReleaseCause};
use crate::time::SimTime;

#[derive(Debug)]
struct QueuedOperation {
    requested: SimTime,
    /// When it may come out; `None` while it waits for space.
    ready: Option<SimTime>,
    outcome: Result<(), Refusal>,
    penalty: Penalty,
}

/// Held operations.
#[derive(Debug)]
pub(super) struct HoldQueue {
    next_id: u64,
    max_hold: Duration,
    /// When `max_hold` was last changed: a hold that is over by the new one ends then, not in the past.
    changed: SimTime,
    /// In order of arrival, which is also the order in which their holds reach the maximum.
    held: BTreeMap<OpId, QueuedOperation>,
    /// Those that do not wait for space, by the moment at which they come out if no stun is in force.
    due: BTreeSet<(SimTime, OpId)>,
}

impl HoldQueue {
    pub(super) const fn new(max_hold: Duration) -> Self {
        Self { next_id: 0, max_hold, changed: SimTime::ZERO, held: BTreeMap::new(), due: BTreeSet::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Holds an operation until `ready`, or, `None`, until [`HoldQueue::settle`].
    pub(super) fn push(&mut self, requested: SimTime, ready: Option<SimTime>, penalty: Penalty) -> OpId {
        let id = OpId(self.next_id);
        self.next_id += 1;
        self.held.insert(id, QueuedOperation { requested, ready: None, outcome: Ok(()), penalty });
        if let Some(ready) = ready {
            self.settle(id, ready, Ok(()), penalty);
        }
        id
    }

    /// Gives an operation that waited for space its time.
    pub(super) fn settle(&mut self, id: OpId, ready: SimTime, outcome: Result<(), Refusal>, penalty: Penalty) {
        let Some(limit) = self.requested(id).map(|requested| self.limit_of(requested)) else { return };
        if let Some(held) = self.held.get_mut(&id) {
            (held.ready, held.outcome, held.penalty) = (Some(ready), outcome, penalty);
            self.due.insert((ready.min(limit), id));
        }
    }

    /// When the operation came in.
    pub(super) fn requested(&self, id: OpId) -> Option<SimTime> {
        self.held.get(&id).map(|held| held.requested)
    }

    /// What a held operation waits for, as far as it is known.
    pub(super) fn pending(&self, id: OpId) -> Option<Pending> {
        let held = self.held.get(&id)?;
        let due = held.ready.map(|ready| ready.min(self.limit_of(held.requested)));
        Some(Pending { requested: held.requested, due, penalty: held.penalty })
    }

    /// The end of an operation's longest possible hold.
    pub(super) fn limit_of(&self, requested: SimTime) -> SimTime {
        (requested + self.max_hold).max(self.changed)
    }

    /// When the first comes out if no stun is in force.
    pub(super) fn first_due(&self) -> Option<SimTime> {
        self.due.first().map(|(at, _)| *at)
    }

    /// When the first reaches the maximum hold.
    pub(super) fn first_limit(&self) -> Option<SimTime> {
        self.held.first_key_value().map(|(_, held)| self.limit_of(held.requested))
    }

    /// The next that is due at `at`; `reopened` is the end of the last stun.
    pub(super) fn pop_due(&mut self, at: SimTime, reopened: SimTime) -> Option<Release> {
        let id = self.due.first().filter(|(due, _)| *due <= at)?.1;
        self.take(id, reopened)
    }

    /// The next whose hold has reached the maximum at `at`, whatever else holds it.
    pub(super) fn pop_limited(&mut self, at: SimTime) -> Option<Release> {
        let (&id, held) = self.held.first_key_value()?;
        if self.limit_of(held.requested) > at {
            return None;
        }
        self.take(id, SimTime::MAX)
    }

    /// Everything that has a time, in order. `gate`: nothing would have come out before.
    pub(super) fn drain(&mut self, gate: SimTime, out: &mut Vec<Release>) {
        while let Some(release) = self.pop_due(SimTime::MAX, gate) {
            out.push(Release { cause: ReleaseCause::Drained, ..release });
        }
    }

    /// Takes one out; it is due when it is ready and the gate is open, or at the maximum hold.
    fn take(&mut self, id: OpId, gate: SimTime) -> Option<Release> {
        let QueuedOperation { requested, ready, outcome, mut penalty } = self.held.remove(&id)?;
        let limit = self.limit_of(requested);
        let ready = ready.unwrap_or(SimTime::MAX);
        self.due.remove(&(ready.min(limit), id));
        let natural = ready.max(gate);
        let due = natural.min(limit);
        penalty.stun += due.since(ready);
        let cause = if natural <= limit { ReleaseCause::Due } else { ReleaseCause::MaxHold };
        Some(Release { id, outcome, cause, requested, due, penalty })
    }

    /// Takes over a new maximum hold, for what is held already as well.
    pub(super) fn set_max_hold(&mut self, now: SimTime, max_hold: Duration) {
        if max_hold == self.max_hold {
            return;
        }
        (self.max_hold, self.changed) = (max_hold, now);
        let due = self.held.iter().filter_map(|(&id, held)| Some((held.ready?.min(self.limit_of(held.requested)), id)));
        self.due = due.collect();
    }
}
