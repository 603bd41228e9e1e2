//! Tasks that wait for the same thing, from one look to the next: pile-ups, and what stays after a fault.
//!
//! Must not know: where the tasks were read, which clock the times are of. Invariant: pure; a task counts as waiting since
//! the first look from which on it has neither run nor changed what it waits for.

use std::collections::BTreeMap;
use std::time::Duration;

use super::procfs::WaitingTask;

/// When looks count as a pile-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PileUpLimits {
    /// Tasks that wait for the same thing.
    pub tasks: u64,
    /// How long the oldest has waited.
    pub wait: Duration,
}

/// A waiting task and when it was first seen in this wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiter {
    /// The task.
    pub task: WaitingTask,
    /// The first look that saw it wait so.
    pub since: Duration,
}

/// How a pile-up changed between two looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PileUpChange {
    /// Several tasks wait for one resource.
    Began {
        /// The resource in words.
        resource: String,
        /// How many wait.
        tasks: u64,
        /// The one that has waited longest.
        oldest: Waiter,
    },
    /// They do not any more.
    Ended {
        /// The resource in words.
        resource: String,
        /// The most tasks that one look saw.
        most: u64,
        /// When its oldest waiter was first seen.
        since: Duration,
    },
}

#[derive(Debug)]
struct PileUp {
    most: u64,
    since: Duration,
}

/// Follows waiting tasks over many looks.
#[derive(Debug)]
pub struct PileUps {
    limits: PileUpLimits,
    waiters: BTreeMap<u32, Waiter>,
    open: BTreeMap<String, PileUp>,
}

impl PileUps {
    /// Nothing has been seen yet.
    pub const fn new(limits: PileUpLimits) -> Self {
        Self { limits, waiters: BTreeMap::new(), open: BTreeMap::new() }
    }

    /// Takes what a look at time `now` found; the pile-ups that began or ended.
    pub fn look(&mut self, now: Duration, tasks: Vec<WaitingTask>) -> Vec<PileUpChange> {
        let mut before = std::mem::take(&mut self.waiters);
        for task in tasks {
            let old = before.remove(&task.tid).filter(|old| is_same_wait(&old.task, &task));
            let since = old.map_or(now, |old| old.since);
            self.waiters.insert(task.tid, Waiter { task, since });
        }
        let mut changes = self.ended();
        changes.extend(self.began(now));
        changes
    }

    /// Those that wait now, the oldest first.
    pub fn waiters(&self) -> Vec<&Waiter> {
        let mut waiters: Vec<_> = self.waiters.values().collect();
        waiters.sort_by_key(|waiter| waiter.since);
        waiters
    }

    /// How many tasks wait for each resource.
    pub fn by_resource(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for waiter in self.waiters.values() {
            *counts.entry(waiter.task.resource().to_owned()).or_default() += 1;
        }
        counts
    }

    fn ended(&mut self) -> Vec<PileUpChange> {
        let counts = self.by_resource();
        let count = |resource: &str| counts.get(resource).copied().unwrap_or(0);
        let mut changes = Vec::new();
        self.open.retain(|resource, pile| {
            pile.most = pile.most.max(count(resource));
            let stays = count(resource) >= self.limits.tasks;
            if !stays {
                changes.push(PileUpChange::Ended { resource: resource.clone(), most: pile.most, since: pile.since });
            }
            stays
        });
        changes
    }

    fn began(&mut self, now: Duration) -> Vec<PileUpChange> {
        let mut changes = Vec::new();
        for (resource, tasks) in self.by_resource() {
            if tasks < self.limits.tasks || self.open.contains_key(&resource) {
                continue;
            }
            let mine = self.waiters.values().filter(|waiter| waiter.task.resource() == resource);
            let Some(oldest) = mine.min_by_key(|waiter| waiter.since).cloned() else { continue };
            if now.saturating_sub(oldest.since) >= self.limits.wait {
                self.open.insert(resource.clone(), PileUp { most: tasks, since: oldest.since });
                changes.push(PileUpChange::Began { resource, tasks, oldest });
            }
        }
        changes
    }
}

/// The tasks of `now` that do not wait in `baseline` as well: after a fault has ended, what is stuck and not only stalled. The
/// oldest first.
pub fn stayed<'a>(baseline: &[WaitingTask], now: &[&'a Waiter]) -> Vec<&'a Waiter> {
    let waited_before =
        |task: &WaitingTask| baseline.iter().any(|other| other.tid == task.tid && is_same_wait(other, task));
    let mut found: Vec<_> = now.iter().copied().filter(|waiter| !waited_before(&waiter.task)).collect();
    found.sort_by_key(|waiter| waiter.since);
    found
}

fn is_same_wait(one: &WaitingTask, other: &WaitingTask) -> bool {
    one.pid == other.pid && one.runs == other.runs && one.resource() == other.resource()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PileUpLimits = PileUpLimits { tasks: 2, wait: Duration::from_secs(1) };

    fn task(tid: u32, frames: &str, runs: u64) -> WaitingTask {
        let frames = frames.split_whitespace().map(str::to_owned).collect();
        WaitingTask { pid: 1, tid, comm: "w".into(), state: 'D', waits_in: None, frames, runs: Some(runs) }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_pile_up_begins_grows_and_ends() {
        let mut piles = PileUps::new(LIMITS);
        let lock = |tid| task(tid, "schedule down xfs_buf_lock", 7);
        assert_eq!(piles.look(at(0), vec![lock(1)]), []);
        let changes = piles.look(at(1), vec![lock(2), lock(1), task(3, "schedule request_wait_answer", 1)]);
        let oldest = Waiter { task: lock(1), since: at(0) };
        assert_eq!(changes, [PileUpChange::Began { resource: "XFS buffer lock".into(), tasks: 2, oldest }]);
        assert_eq!(piles.look(at(2), vec![lock(1), lock(2), lock(4)]), []);
        let ended = PileUpChange::Ended { resource: "XFS buffer lock".into(), most: 3, since: at(0) };
        assert_eq!(piles.look(at(3), vec![lock(4)]), [ended]);
    }

    #[test]
    fn tasks_that_run_between_two_looks_are_no_pile_up() {
        let mut piles = PileUps::new(LIMITS);
        for second in 0..5 {
            let busy = |tid| task(tid, "schedule down xfs_buf_lock", second);
            assert_eq!(piles.look(at(second), vec![busy(1), busy(2)]), [], "{second}");
        }
    }

    #[test]
    fn what_stays_after_a_fault_is_named_oldest_first() {
        let mut piles = PileUps::new(LIMITS);
        let old = task(9, "schedule my_driver_wait", 1);
        let stuck = |tid| task(tid, "schedule request_wait_answer", 1);
        piles.look(at(0), vec![old.clone(), stuck(5)]);
        piles.look(at(4), vec![old.clone(), stuck(5), stuck(2)]);
        let tids: Vec<_> = stayed(&[old], &piles.waiters()).iter().map(|waiter| waiter.task.tid).collect();
        assert_eq!(tids, [5, 2]);
    }
}
