//! What an observer saw, in the form that event lines have.
//!
//! Must not know: who reads it. Invariant: times are microseconds since the observer began.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::pile_up::{PileUpChange, Waiter};
use crate::telemetry::event::PileUpWaiter;

/// One thing that an observer saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Observation {
    /// How many tasks wait, at each look.
    Tasks {
        /// All of them.
        waiting: u64,
        /// By what they wait for.
        by_resource: BTreeMap<String, u64>,
    },
    /// Several tasks have begun to wait for one resource.
    PileUp {
        /// How many.
        tasks: u64,
        /// The resource in words.
        resource: String,
        /// The one that has waited longest.
        oldest: PileUpWaiter,
        /// When it was first seen.
        since_us: u64,
    },
    /// They do not wait for it any more.
    PileUpEnded {
        /// The most tasks that one look saw.
        most: u64,
        /// The resource in words.
        resource: String,
        /// When its oldest waiter was first seen.
        since_us: u64,
    },
    /// Time that tasks lost for I/O, since boot or since the control group was made.
    Pressure {
        /// At least one task waited.
        some_us: u64,
        /// All tasks waited.
        full_us: u64,
    },
    /// Pages of files that are not on storage yet.
    Dirty {
        /// Not being written yet.
        dirty_kib: u64,
        /// Being written.
        writeback_kib: u64,
    },
    /// FUSE connections with requests that their server has not answered.
    FuseWaiting {
        /// Requests by the connection's number.
        connections: BTreeMap<u32, u64>,
    },
    /// A look at the kernel's files takes longer than it may: what follows is older than it seems.
    HarnessLate {
        /// How long it has taken so far.
        for_us: u64,
    },
}

impl Observation {
    /// A change that a look at time `now` found.
    pub fn of_change(change: PileUpChange, now: Duration) -> Self {
        match change {
            PileUpChange::Began { resource, tasks, oldest } => {
                let since_us = micros(oldest.since);
                Self::PileUp { tasks, resource, oldest: as_told(oldest, now), since_us }
            }
            PileUpChange::Ended { resource, most, since } => {
                Self::PileUpEnded { most, resource, since_us: micros(since) }
            }
        }
    }
}

fn as_told(waiter: Waiter, now: Duration) -> PileUpWaiter {
    let task = waiter.task;
    let for_us = micros(now.saturating_sub(waiter.since));
    PileUpWaiter { pid: task.pid, tid: task.tid, comm: task.comm, for_us, stack: task.frames }
}

/// Whole microseconds.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
