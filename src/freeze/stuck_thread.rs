//! Threads that were asked to stop and wait in the kernel instead.
//!
//! Must not know: what froze them, or how. Invariant: a thread that is gone is no error, it is left out.

use std::fmt;

use crate::sys::process::{TaskStatus, command_name, wait_channel};

/// A thread that cannot stop because it waits in the kernel, uninterruptibly; it stops before it gets back to its program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StuckThread {
    /// Its thread id.
    pub tid: i32,
    /// Its command name; empty if unknown.
    pub comm: String,
    /// The kernel function that it waits in, if the kernel tells.
    pub place: Option<String>,
}

impl StuckThread {
    /// Reads a thread's name and the place where it waits, as far as this process may know them.
    pub(super) fn read(tid: i32) -> Self {
        Self { tid, comm: command_name(tid), place: wait_channel(tid) }
    }
}

impl fmt::Display for StuckThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place.as_deref().unwrap_or("the kernel");
        write!(f, "{} ({}) in {place}", self.comm, self.tid)
    }
}

/// A thread's state and how often it was on and off a processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SchedSample {
    tid: i32,
    state: u8,
    switches: u64,
}

impl SchedSample {
    fn read(tid: i32) -> Option<Self> {
        let (state, switches) = TaskStatus::read(tid)?.state_and_switches()?;
        Some(Self { tid, state, switches })
    }
}

/// Tells when threads that were asked to stop, and did not acknowledge it, have come to rest in the kernel.
///
/// A thread in an uninterruptible wait (say, for the reply that a stun holds back) cannot stop, but cannot get back to its
/// program either: the kernel stops it on its way out.
#[derive(Debug, Default)]
pub(super) struct RestDetector {
    last: Vec<SchedSample>,
    same: u32,
}

/// So many looks in a row must be the same.
const LOOKS: u32 = 4;

impl RestDetector {
    /// Looks at the threads; the waiting ones, once none of them has moved for [`LOOKS`] looks, each is in one of the
    /// states `resting`, and at least one is in an uninterruptible wait.
    pub(super) fn look(&mut self, tids: &[i32], resting: &[u8]) -> Option<Vec<StuckThread>> {
        let now: Vec<_> = tids.iter().filter_map(|tid| SchedSample::read(*tid)).collect();
        self.note(now, resting).then(|| {
            let waiting = self.last.iter().filter(|sample| sample.state == b'D');
            waiting.map(|sample| StuckThread::read(sample.tid)).collect()
        })
    }

    /// Whether the threads have come to rest.
    fn note(&mut self, now: Vec<SchedSample>, resting: &[u8]) -> bool {
        let quiet = now.iter().all(|sample| resting.contains(&sample.state)) && now == self.last;
        self.same = if quiet { self.same + 1 } else { 0 };
        self.last = now;
        self.same >= LOOKS && self.last.iter().any(|sample| sample.state == b'D')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(state: u8, switches: u64) -> SchedSample {
        SchedSample { tid: 9, state, switches }
    }

    #[test]
    fn threads_rest_after_looks_at_which_none_has_moved() {
        let mut rest = RestDetector::default();
        let looks = |rest: &mut RestDetector, state, switches, times: u32| {
            (0..times).map(|_| rest.note(vec![sample(state, switches)], b"DT")).collect::<Vec<_>>()
        };
        assert_eq!(looks(&mut rest, b'D', 1, 5), [false, false, false, false, true]);
        assert_eq!(looks(&mut rest, b'D', 2, 5), [false, false, false, false, true], "it ran in between");
        assert_eq!(looks(&mut rest, b'T', 3, 6), [false; 6], "it has stopped: nothing waits");
        assert_eq!(looks(&mut rest, b'R', 4, 6), [false; 6], "it runs");
    }

    #[test]
    fn a_thread_is_displayed_with_its_place() {
        let thread = StuckThread { tid: 7, comm: "tar".into(), place: None };
        assert_eq!(thread.to_string(), "tar (7) in the kernel");
        assert_eq!(StuckThread::read(i32::MAX), StuckThread { tid: i32::MAX, comm: String::new(), place: None });
    }
}
