//! Looks at waiting tasks again and again, and tells what it sees.
//!
//! Must not know: where observations go. Invariant: the kernel's files are read by a thread of its own, so that a read that
//! hangs is told and does not stop the observer.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::kernel_files;
use super::observation::{Observation, micros};
use super::pile_up::{PileUpLimits, PileUps};
use super::procfs::{WaitingTask, Who, waiting};
use crate::sys::process::{TaskStat, processes};
use crate::time::Clock;

/// Whose tasks an observer looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObservedTasks {
    /// Everybody's.
    All,
    /// Those of some processes.
    Pids(Vec<u32>),
    /// Those of a process and of all that it has started, and the kernel's own, which write back for them.
    Family(u32),
    /// Those of a control group's directory and the groups below it.
    Cgroup(PathBuf),
}

/// How an observer looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObserveOptions {
    /// The time between two looks.
    pub interval: Duration,
    /// Whose tasks.
    pub tasks: ObservedTasks,
    /// What counts as a pile-up.
    pub limits: PileUpLimits,
    /// How long a look may take before [`Observation::HarnessLate`] is told.
    pub late_after: Duration,
}

/// Looks until it is dropped.
#[derive(Debug)]
pub struct Observer {
    messages: Sender<ObserverMessage>,
    thread: Option<JoinHandle<()>>,
}

enum ObserverMessage {
    Look(Look),
    Stop,
}

struct Look {
    tasks: Vec<WaitingTask>,
    fuse: BTreeMap<u32, u64>,
    others: Vec<Observation>,
}

impl Observer {
    /// Begins to look. `sink` gets the time since the beginning with each observation.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(
        options: ObserveOptions,
        sink: impl FnMut(Duration, Observation) + Send + 'static,
    ) -> io::Result<Self> {
        let (messages, received) = channel();
        let (ask, asked) = channel();
        let (answers, tasks) = (messages.clone(), options.tasks.clone());
        // Not joined: it may hang in a read for as long as the kernel likes.
        let read = move || {
            while asked.recv().is_ok() && answers.send(ObserverMessage::Look(look(&tasks))).is_ok() {}
        };
        thread::Builder::new().name("observe-read".to_owned()).spawn(read)?;
        let body = move || observe(&options, &received, &ask, sink);
        let thread = thread::Builder::new().name("observe".to_owned()).spawn(body)?;
        Ok(Self { messages, thread: Some(thread) })
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        // Fails only if the thread has ended already.
        let _ = self.messages.send(ObserverMessage::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic in the sink has been reported already.
            let _ = thread.join();
        }
    }
}

fn observe(
    options: &ObserveOptions,
    received: &Receiver<ObserverMessage>,
    ask: &Sender<()>,
    mut sink: impl FnMut(Duration, Observation),
) {
    let clock = Clock::start();
    let now = || Duration::from_micros(clock.now().as_micros());
    let mut piles = PileUps::new(options.limits);
    loop {
        let begun = now();
        if ask.send(()).is_err() {
            return;
        }
        let look = loop {
            match received.recv_timeout(options.late_after) {
                Ok(ObserverMessage::Look(look)) => break look,
                Ok(ObserverMessage::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    let for_us = micros(now().saturating_sub(begun));
                    sink(now(), Observation::HarnessLate { for_us });
                }
            }
        };
        tell(look, &mut piles, now(), &mut sink);
        let rest = options.interval.saturating_sub(now().saturating_sub(begun));
        if !matches!(received.recv_timeout(rest), Err(RecvTimeoutError::Timeout)) {
            return;
        }
    }
}

fn tell(look: Look, piles: &mut PileUps, now: Duration, sink: &mut impl FnMut(Duration, Observation)) {
    let changes = piles.look(now, look.tasks);
    let by_resource = piles.by_resource();
    sink(now, Observation::Tasks { waiting: by_resource.values().sum(), by_resource });
    changes.into_iter().for_each(|change| sink(now, Observation::of_change(change, now)));
    if !look.fuse.is_empty() {
        sink(now, Observation::FuseWaiting { connections: look.fuse });
    }
    look.others.into_iter().for_each(|other| sink(now, other));
}

fn look(observed: &ObservedTasks) -> Look {
    let fuse = kernel_files::fuse_waiting();
    let (pids, cgroup) = match observed {
        ObservedTasks::All => (None, None),
        ObservedTasks::Pids(pids) => (Some(pids.clone()), None),
        ObservedTasks::Family(pid) => (Some(family_of(*pid, &processes())), None),
        ObservedTasks::Cgroup(cgroup) => (Some(processes_of(cgroup)), Some(cgroup.as_path())),
    };
    let tasks = match pids {
        // To `Who` no processes means everybody's.
        Some(pids) if pids.is_empty() => Vec::new(),
        pids => waiting(&Who { pids: pids.unwrap_or_default(), comms: Vec::new() }, !fuse.is_empty()),
    };
    let others = [kernel_files::pressure(cgroup), kernel_files::dirty()].into_iter().flatten().collect();
    Look { tasks, fuse, others }
}

/// A process, those that it has started and those that they have, and the kernel's threads.
fn family_of(pid: u32, all: &[TaskStat]) -> Vec<u32> {
    let parents: HashMap<i32, i32> = all.iter().map(|process| (process.pid, process.parent)).collect();
    let root = i32::try_from(pid).unwrap_or(0);
    let is_below = |process: &TaskStat| {
        // As deep as there are processes: numbers may be used again while they are read.
        let mut above = std::iter::successors(Some(process.pid), |pid| parents.get(pid).copied()).take(all.len() + 1);
        above.any(|pid| pid == root)
    };
    let family = all.iter().filter(|process| process.is_kernel_thread() || is_below(process));
    family.filter_map(|process| u32::try_from(process.pid).ok()).collect()
}

/// The processes of a control group and of the groups below it.
fn processes_of(cgroup: &Path) -> Vec<u32> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<u32> = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
    let entries = fs::read_dir(cgroup).into_iter().flatten().flatten();
    let groups = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    pids.extend(groups.flat_map(|group| processes_of(&group.path())));
    pids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_of_a_group_and_those_below() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("below")).unwrap();
        fs::write(dir.path().join("cgroup.procs"), "12\n3\n").unwrap();
        fs::write(dir.path().join("below/cgroup.procs"), "40\n").unwrap();
        assert_eq!(processes_of(dir.path()), [12, 3, 40]);
    }

    #[test]
    fn a_family_is_a_process_with_all_below_it_and_the_kernels_threads() {
        let stat =
            |pid: i32, parent: i32, flags: u64| TaskStat { pid, state: b'S', parent, group: pid, flags, start: 0 };
        let kernel_thread = 0x0020_0000;
        let all = [
            stat(1, 0, 0),
            stat(2, 0, kernel_thread),
            stat(9, 2, kernel_thread),
            stat(20, 1, 0),
            stat(21, 20, 0),
            stat(22, 21, 0),
            stat(30, 1, 0),
            stat(40, 41, 0),
            stat(41, 40, 0),
        ];
        assert_eq!(family_of(20, &all), [2, 9, 20, 21, 22]);
    }

    #[test]
    fn an_observer_looks_again_and_again_and_ends() {
        let (sender, seen) = channel();
        let options = ObserveOptions {
            interval: Duration::from_millis(10),
            tasks: ObservedTasks::Pids(vec![std::process::id()]),
            limits: PileUpLimits { tasks: 2, wait: Duration::from_secs(1) },
            late_after: Duration::from_secs(60),
        };
        let observer = Observer::start(options, move |_, what| drop(sender.send(what))).unwrap();
        let looks = seen.iter().filter(|what| matches!(what, Observation::Tasks { .. })).take(3).count();
        assert_eq!(looks, 3);
        drop(observer);
        assert!(seen.iter().count() < 1_000_000, "the sink was dropped with the observer");
    }
}
