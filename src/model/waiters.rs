//! The writers that wait for space in the pool, in order of arrival.
//!
//! Must not know: whether there is space. Invariant: every operation in it is also in the release queue, without a
//! time.

use std::collections::{BTreeMap, BTreeSet};

use super::op::{FileKey, OpId};
use crate::time::SimTime;
use crate::units::ByteRange;

/// A write that waits for space.
#[derive(Debug, Clone, Copy)]
pub(super) struct SpaceWaiter {
    pub(super) file: FileKey,
    pub(super) range: ByteRange,
    /// When it gets an error instead; `None`: it waits for as long as it may be held.
    pub(super) until: Option<SimTime>,
}

/// Writers that wait for space.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    waiting: BTreeMap<OpId, SpaceWaiter>,
    /// When each is given up: its own time limit or the maximum hold, whichever is first.
    limits: BTreeSet<(SimTime, OpId)>,
}

impl Waiters {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds one that may be held until `limit`.
    pub(super) fn push(&mut self, id: OpId, waiter: SpaceWaiter, limit: SimTime) {
        self.limits.insert((waiter.until.unwrap_or(limit).min(limit), id));
        self.waiting.insert(id, waiter);
    }

    /// The one that came first.
    pub(super) fn first(&self) -> Option<(OpId, SpaceWaiter)> {
        self.waiting.first_key_value().map(|(&id, &waiter)| (id, waiter))
    }

    /// Takes out the one that came first; `limit` is what it was pushed with.
    pub(super) fn remove(&mut self, id: OpId, limit: SimTime) {
        if let Some(waiter) = self.waiting.remove(&id) {
            self.limits.remove(&(waiter.until.unwrap_or(limit).min(limit), id));
        }
    }

    /// When the first is given up.
    pub(super) fn first_limit(&self) -> Option<SimTime> {
        self.limits.first().map(|(at, _)| *at)
    }

    /// The next that is given up at `at`.
    pub(super) fn pop_given_up(&mut self, at: SimTime) -> Option<(OpId, SpaceWaiter)> {
        let (limit, id) = self.limits.first().copied().filter(|(limit, _)| *limit <= at)?;
        self.limits.remove(&(limit, id));
        self.waiting.remove(&id).map(|waiter| (id, waiter))
    }

    /// Takes over new maximum holds.
    pub(super) fn set_limits(&mut self, limit_of: impl Fn(OpId) -> SimTime) {
        let limits = self.waiting.iter().map(|(&id, waiter)| {
            let limit = limit_of(id);
            (waiter.until.unwrap_or(limit).min(limit), id)
        });
        self.limits = limits.collect();
    }
}
