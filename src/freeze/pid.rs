//! Stopping a process and everything it started, with SIGSTOP.
//!
//! Must not know: why. Invariants: a signal goes only to the process that was looked at (by descriptor, never by number),
//! and SIGCONT only to those that were stopped here.
//!
//! A process that leaves the tree (its parents ended, as a daemon's do) before it is seen is not found.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, test_kill_process};

use super::freeze_set::{Freezer, StuckThread, Surroundings, UndoArmer};
use super::procfs::{self, Rest, Stat};
use super::undo_action::UndoAction;
use crate::time::{Deadline, pause};

/// How often the tree is looked at until it stands still.
const POLL: Duration = Duration::from_millis(3);

/// One process, for certain.
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
        let stat = procfs::stat(pid.as_raw_pid()).filter(|stat| !stat.is_over());
        let process = stat.map(|stat| Self { pid, start: stat.start, descriptor });
        // Still there after the look: what was read is its own.
        Ok(process.filter(Self::is_there))
    }

    fn is_there(&self) -> bool {
        let mut ended = [PollFd::new(&self.descriptor, PollFlags::IN)];
        matches!(poll(&mut ended, Some(&Timespec::default())), Ok(0))
    }

    fn is(&self, stat: &Stat) -> bool {
        self.pid.as_raw_pid() == stat.pid && self.start == stat.start
    }

    fn signal(&self, signal: Signal) -> Result<(), String> {
        match pidfd_send_signal(&self.descriptor, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(format!("no signal to process {}: {error}", self.name())),
        }
    }

    fn name(&self) -> String {
        let pid = self.pid.as_raw_pid();
        format!("{pid} ({})", procfs::waiting(pid).comm)
    }

    /// Its threads in states that `wanted` takes.
    fn threads(&self, wanted: impl Fn(u8) -> bool) -> Vec<i32> {
        let threads = procfs::threads(self.pid.as_raw_pid()).into_iter();
        threads.filter(|tid| procfs::stat(*tid).is_some_and(|stat| wanted(stat.state))).collect()
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
    /// Found stopped by somebody else.
    others: Vec<VerifiedProcess>,
    waiting: Vec<StuckThread>,
}

impl Tree {
    pub(super) fn open(pid: Pid, around: &Surroundings) -> Result<Self, String> {
        if around.spares(pid.as_raw_pid()) {
            return Err("it is stunfs itself, its guard or process 1".to_owned());
        }
        let root = VerifiedProcess::open(pid).map_err(|error| format!("it cannot be opened: {error}"))?;
        let root = root.ok_or("there is no such process")?;
        if procfs::stat(pid.as_raw_pid()).is_some_and(|stat| stat.is_kernel_thread()) {
            return Err("it is a thread of the kernel".to_owned());
        }
        Ok(Self { root, stopped: Vec::new(), others: Vec::new(), waiting: Vec::new() })
    }

    fn is_known(&self, stat: &Stat) -> bool {
        self.stopped.iter().chain(&self.others).any(|process| process.is(stat))
    }

    /// The processes of the tree that were not seen before, parents first.
    fn newcomers(&self, around: &Surroundings) -> Vec<Stat> {
        let all = procfs::processes();
        let mut children = HashMap::<i32, Vec<Stat>>::new();
        for stat in &all {
            children.entry(stat.parent).or_default().push(*stat);
        }
        let from = |stat: &&Stat| self.root.is(stat) || self.is_known(stat);
        let mut tree: Vec<Stat> = all.iter().filter(from).copied().collect();
        let mut next = 0;
        while let Some(parent) = tree.get(next).copied() {
            let below = children.remove(&parent.pid).unwrap_or_default();
            tree.extend(below.into_iter().filter(|stat| !self.root.is(stat) && !self.is_known(stat)));
            next += 1;
        }
        let ours = |stat: &Stat| !stat.is_over() && !stat.is_kernel_thread() && !around.spares(stat.pid);
        tree.into_iter().filter(|stat| ours(stat) && !self.is_known(stat)).collect()
    }

    fn stop(&mut self, stat: &Stat, arm: &mut UndoArmer<'_>) -> Result<(), String> {
        let Some(pid) = Pid::from_raw(stat.pid) else { return Ok(()) };
        let opened = VerifiedProcess::open(pid).map_err(|error| format!("process {pid:?}: {error}"))?;
        // Gone or another one by now: the next look finds what there is.
        let Some(process) = opened.filter(|process| process.is(stat)) else { return Ok(()) };
        if process.is_stopped() {
            self.others.push(process);
            return Ok(());
        }
        arm(&process.action()).map_err(|error| format!("the guard does not answer: {error}"))?;
        let stopped = process.signal(Signal::STOP);
        self.stopped.push(process);
        stopped
    }

    /// Whether every thread of those that were stopped stands.
    fn at_rest(&mut self, rest: &mut Rest, accept_waiting: bool) -> bool {
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

    fn unacknowledged(&self) -> String {
        let moving: Vec<_> = self.moving().into_iter().take(4).map(|tid| procfs::waiting(tid).to_string()).collect();
        format!("not every thread stopped in time: {}", moving.join(", "))
    }
}

impl Freezer for Tree {
    fn check(&self, around: &Surroundings) -> Result<(), String> {
        if !self.root.is_there() {
            return Err("the process is gone".to_owned());
        }
        if around.spares(self.root.pid.as_raw_pid()) {
            return Err("it is stunfs itself, its guard or process 1".to_owned());
        }
        test_kill_process(self.root.pid)
            .map_err(|error| format!("no right to stop process {}: {error}", self.root.name()))
    }

    fn freeze(&mut self, around: &Surroundings, deadline: Deadline, arm: &mut UndoArmer<'_>) -> Result<(), String> {
        self.check(around)?;
        let mut rest = Rest::default();
        loop {
            // In this order: nobody who stood still before the look can have started anybody during it.
            let at_rest = self.at_rest(&mut rest, around.accept_waiting);
            let newcomers = self.newcomers(around);
            if at_rest && newcomers.is_empty() {
                return Ok(());
            }
            for stat in &newcomers {
                self.stop(stat, arm)?;
            }
            if deadline.passed() {
                return Err(self.unacknowledged());
            }
            pause(POLL.min(deadline.left()));
        }
    }

    fn thaw(&mut self, deadline: Deadline) -> Result<(), String> {
        // The last first: parents find their children going on.
        let signals: Vec<_> = self.stopped.iter().rev().map(|process| process.signal(Signal::CONT)).collect();
        signals.into_iter().collect::<Result<(), String>>()?;
        let stands =
            |process: &&VerifiedProcess| process.is_there() && !process.threads(|state| state == b'T').is_empty();
        while let Some(process) = self.stopped.iter().find(stands) {
            if deadline.passed() {
                return Err(format!("process {} does not go on", process.name()));
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
