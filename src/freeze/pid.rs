//! Stopping a process and everything it started, with SIGSTOP.
//!
//! Must not know: why it is stopped. Invariants: a signal goes only to the process that was looked at (by descriptor, never by number),
//! and SIGCONT only to those that were stopped here.
//!
//! A process that leaves the tree (its parents ended, as a daemon's do) before it is seen is not found.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, test_kill_process};

use super::error::{FreezeCause, ProcessFailure};
use super::freezer::{Freezer, Surroundings, UndoArmer, tell};
use super::stuck_thread::{RestDetector, StuckThread};
use super::undo_action::UndoAction;
use crate::sys::process::{self, TaskStat};
use crate::time::{Deadline, pause};

/// How often the tree is looked at until it stands still.
const POLL: Duration = Duration::from_millis(3);

/// A process, held by a descriptor: its number cannot come to mean another one unnoticed.
#[derive(Debug)]
struct VerifiedProcess {
    pid: Pid,
    start: u64,
    descriptor: OwnedFd,
}

impl VerifiedProcess {
    /// The process, unless it is gone.
    fn open(pid: Pid) -> Result<Option<Self>, Errno> {
        let descriptor = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(None),
            opened => opened?,
        };
        let stat = TaskStat::read(pid.as_raw_pid()).filter(|stat| !stat.is_over());
        let process = stat.map(|stat| Self { pid, start: stat.start, descriptor });
        // Still there after the look: what was read is its own.
        Ok(process.filter(Self::is_there))
    }

    fn is_there(&self) -> bool {
        let mut ended = [PollFd::new(&self.descriptor, PollFlags::IN)];
        matches!(poll(&mut ended, Some(&Timespec::default())), Ok(0))
    }

    fn is(&self, stat: &TaskStat) -> bool {
        self.pid.as_raw_pid() == stat.pid && self.start == stat.start
    }

    fn signal(&self, signal: Signal) -> Result<(), ProcessFailure> {
        match pidfd_send_signal(&self.descriptor, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(cause) => Err(ProcessFailure::Signal { pid: self.number(), comm: self.comm(), cause }),
        }
    }

    fn number(&self) -> i32 {
        self.pid.as_raw_pid()
    }

    fn comm(&self) -> String {
        process::command_name(self.number())
    }

    /// Its threads in states that `wanted` takes.
    fn threads(&self, wanted: impl Fn(u8) -> bool) -> Vec<i32> {
        let threads = process::threads(self.pid.as_raw_pid()).into_iter();
        threads.filter(|tid| TaskStat::read(*tid).is_some_and(|stat| wanted(stat.state))).collect()
    }

    fn is_stopped(&self) -> bool {
        self.threads(|state| state != b'T').is_empty()
    }

    fn action(&self) -> UndoAction {
        UndoAction::Cont { pid: self.pid, start: self.start }
    }
}

/// Stopped by job control, by a debugger, or over.
fn stands(state: u8) -> bool {
    matches!(state, b'T' | b't' | b'Z' | b'X')
}

#[derive(Debug)]
pub(super) struct Tree {
    root: VerifiedProcess,
    stopped: Vec<VerifiedProcess>,
    /// Those that another program had stopped before.
    others: Vec<VerifiedProcess>,
    waiting: Vec<StuckThread>,
}

impl Tree {
    pub(super) fn open(pid: Pid, around: &Surroundings) -> Result<Self, FreezeCause> {
        if around.spares(pid.as_raw_pid()) {
            return Err(ProcessFailure::Spared.into());
        }
        let root = open(pid)?.ok_or(ProcessFailure::NotFound)?;
        if TaskStat::read(pid.as_raw_pid()).is_some_and(|stat| stat.is_kernel_thread()) {
            return Err(ProcessFailure::KernelThread.into());
        }
        Ok(Self { root, stopped: Vec::new(), others: Vec::new(), waiting: Vec::new() })
    }

    fn is_known(&self, stat: &TaskStat) -> bool {
        self.stopped.iter().chain(&self.others).any(|process| process.is(stat))
    }

    /// The processes of the tree that were not seen before, parents first.
    fn newcomers(&self, around: &Surroundings) -> Vec<TaskStat> {
        let all = process::processes();
        let mut children = HashMap::<i32, Vec<TaskStat>>::new();
        for stat in &all {
            children.entry(stat.parent).or_default().push(*stat);
        }
        let from = |stat: &&TaskStat| self.root.is(stat) || self.is_known(stat);
        let mut tree: Vec<TaskStat> = all.iter().filter(from).copied().collect();
        let mut next = 0;
        while let Some(parent) = tree.get(next).copied() {
            let below = children.remove(&parent.pid).unwrap_or_default();
            tree.extend(below.into_iter().filter(|stat| !self.root.is(stat) && !self.is_known(stat)));
            next += 1;
        }
        let ours = |stat: &TaskStat| !stat.is_over() && !stat.is_kernel_thread() && !around.spares(stat.pid);
        tree.into_iter().filter(|stat| ours(stat) && !self.is_known(stat)).collect()
    }

    fn stop(&mut self, stat: &TaskStat, arm: &mut UndoArmer<'_>) -> Result<(), FreezeCause> {
        let Some(pid) = Pid::from_raw(stat.pid) else { return Ok(()) };
        // Gone or another one by now: the next look finds its successors.
        let Some(process) = open(pid)?.filter(|process| process.is(stat)) else { return Ok(()) };
        if process.is_stopped() {
            self.others.push(process);
            return Ok(());
        }
        tell(arm, &process.action())?;
        let stopped = process.signal(Signal::STOP);
        self.stopped.push(process);
        Ok(stopped?)
    }

    /// Whether every thread of those that were stopped stands.
    fn at_rest(&mut self, rest: &mut RestDetector, accept_waiting: bool) -> bool {
        let moving = self.moving();
        if moving.is_empty() {
            self.waiting.clear();
            return true;
        }
        let waiting = rest.look(&moving, b"D").filter(|_| accept_waiting);
        self.waiting = waiting.unwrap_or_default();
        !self.waiting.is_empty()
    }

    fn moving(&self) -> Vec<i32> {
        self.stopped.iter().flat_map(|process| process.threads(|state| !stands(state))).collect()
    }

    fn unacknowledged(&self) -> ProcessFailure {
        ProcessFailure::Unacknowledged { threads: self.moving().into_iter().take(4).map(StuckThread::read).collect() }
    }
}

fn open(pid: Pid) -> Result<Option<VerifiedProcess>, ProcessFailure> {
    VerifiedProcess::open(pid).map_err(|cause| ProcessFailure::Open { pid: pid.as_raw_pid(), cause })
}

impl Freezer for Tree {
    fn check(&self, around: &Surroundings) -> Result<(), FreezeCause> {
        if !self.root.is_there() {
            return Err(ProcessFailure::Gone.into());
        }
        if around.spares(self.root.pid.as_raw_pid()) {
            return Err(ProcessFailure::Spared.into());
        }
        test_kill_process(self.root.pid)
            .map_err(|cause| ProcessFailure::NoRight { pid: self.root.number(), comm: self.root.comm(), cause }.into())
    }

    fn freeze(
        &mut self,
        around: &Surroundings,
        deadline: Deadline,
        arm: &mut UndoArmer<'_>,
    ) -> Result<(), FreezeCause> {
        self.check(around)?;
        let mut rest = RestDetector::default();
        loop {
            // In this order: a process that stood still before the look cannot have started another during it.
            let at_rest = self.at_rest(&mut rest, around.accept_waiting);
            let newcomers = self.newcomers(around);
            if at_rest && newcomers.is_empty() {
                return Ok(());
            }
            for stat in &newcomers {
                self.stop(stat, arm)?;
            }
            if deadline.passed() {
                return Err(self.unacknowledged().into());
            }
            pause(POLL.min(deadline.left()));
        }
    }

    fn thaw(&mut self, deadline: Deadline) -> Result<(), FreezeCause> {
        // The last first: parents find their children going on.
        let signals: Vec<_> = self.stopped.iter().rev().map(|process| process.signal(Signal::CONT)).collect();
        signals.into_iter().collect::<Result<(), ProcessFailure>>()?;
        let stands =
            |process: &&VerifiedProcess| process.is_there() && !process.threads(|state| state == b'T').is_empty();
        while let Some(process) = self.stopped.iter().find(stands) {
            if deadline.passed() {
                return Err(ProcessFailure::StillStopped { pid: process.number(), comm: process.comm() }.into());
            }
            pause(POLL);
        }
        self.stopped.clear();
        self.others.clear();
        self.waiting.clear();
        Ok(())
    }

    fn actions(&self) -> Vec<UndoAction> {
        self.stopped.iter().map(VerifiedProcess::action).collect()
    }

    fn waiting(&self) -> &[StuckThread] {
        &self.waiting
    }
}
