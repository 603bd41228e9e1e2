//! A kernel log, explained: who was blocked, where and how long; how long the machine stood still; what it is most like.
//!
//! Pure: lines go in, an [`Explanation`] comes out. Must not know: files, command lines. Invariant: memory does not grow with the log,
//! and nothing is said that no line of the log says; what is only likely is called so.

mod cause;
mod scenario;
#[cfg(test)]
mod tests;
mod words;

pub use cause::Cause;
pub use scenario::replay;
pub use words::text;

use serde::Serialize;

use crate::observe::kmsg::{Finding, Parser, SoftLockup, What};
use crate::telemetry::event::{NfsState, StorageFault};

/// The version of the JSON form.
pub const EXPLANATION_VERSION: u32 = 1;

/// A soft lockup's "stuck for Ns" counts units of 2^30 nanoseconds (`watchdog.c`, `get_timestamp`).
const LOCKUP_UNIT_US: u64 = (1 << 30) / 1000;
/// Lockups that are told within this time are of one standstill: each processor tells its own.
const ONE_STANDSTILL_US: u64 = 60_000_000;
/// So many of each kind are kept apart; what comes on top of that is only counted.
const MOST: usize = 1000;

/// What a kernel log tells.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Explanation {
    /// [`EXPLANATION_VERSION`].
    pub v: u32,
    /// Lines that were read.
    pub lines: u64,
    /// Findings among them.
    pub findings: u64,
    /// What it is most like, the likeliest first.
    pub causes: Vec<Cause>,
    /// Tasks that were blocked, those that were blocked longest first.
    pub tasks: Vec<BlockedTask>,
    /// Times in which processors did not schedule.
    pub standstills: Vec<Standstill>,
    /// What storage said, in the order of the first line of each kind.
    pub storage: Vec<StorageReport>,
    /// Servers that did not answer.
    pub servers: Vec<ServerOutage>,
    /// Other lines that cast doubt on the rest (a panic, an RCU stall, an unstable clock), in their order.
    pub notices: Vec<String>,
    /// Findings beyond the limits of these lists.
    pub left_out: u64,
}

/// A task that the kernel reported as blocked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BlockedTask {
    /// Its command name.
    pub task: String,
    /// Its thread number.
    pub pid: u32,
    /// What it waited for, in words; `null`: the stack does not tell.
    pub waits_for: Option<String>,
    /// The function that tells it.
    pub waits_in: Option<String>,
    /// How often it was reported.
    pub reports: u64,
    /// The longest time that the kernel gave, seconds; it was blocked for longer than that.
    pub seconds: Option<u64>,
    /// The kernel's time stamp of the first report, microseconds since its boot.
    pub first_us: Option<u64>,
}

/// A time in which processors did not schedule.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standstill {
    /// As the kernel says it, in its units of 1.074 s.
    pub said: u64,
    /// In microseconds.
    pub length_us: u64,
    /// The processors that reported it.
    pub cpus: Vec<u32>,
    /// What ran on the first of them; `swapper/N` is the idle task.
    pub task: String,
    /// The kernel's time stamp of the first report, microseconds since its boot.
    pub at_us: Option<u64>,
}

impl Standstill {
    /// Whether the processor was idle: then it was the whole machine that stood still, not a program that kept it busy.
    pub fn is_of_an_idle_processor(&self) -> bool {
        self.task.starts_with("swapper")
    }
}

/// What storage said of one device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StorageReport {
    /// What kind.
    pub fault: StorageFault,
    /// The device, if the line names one.
    pub device: Option<String>,
    /// How often.
    pub reports: u64,
    /// The kernel's time stamp of the first, microseconds since its boot.
    pub first_us: Option<u64>,
    /// The first line.
    pub raw: String,
}

/// A server that did not answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServerOutage {
    /// The server.
    pub server: String,
    /// How often it did not answer.
    pub outages: u64,
    /// A soft mount gave up: programs got errors.
    pub gave_up: bool,
    /// The last line says that it answers.
    pub back: bool,
}

/// Reads a log line by line.
#[derive(Debug, Default)]
pub struct Explainer {
    parser: Parser,
    explanation: Explanation,
}

impl Explainer {
    /// A line, without its end.
    pub fn line(&mut self, line: &[u8]) {
        self.explanation.lines += 1;
        let findings = self.parser.bytes(line, None);
        findings.into_iter().for_each(|finding| self.explanation.take(finding));
    }

    /// The log has ended.
    pub fn finish(mut self) -> Explanation {
        let findings = self.parser.flush();
        findings.into_iter().for_each(|finding| self.explanation.take(finding));
        let mut explanation = self.explanation;
        explanation.v = EXPLANATION_VERSION;
        explanation.tasks.sort_by_key(|task| std::cmp::Reverse(task.seconds));
        explanation.causes = cause::causes(&explanation);
        explanation
    }
}

impl Explanation {
    /// Whether the log tells anything.
    pub const fn is_empty(&self) -> bool {
        self.findings == 0
    }

    /// The longest standstill.
    pub fn longest_standstill(&self) -> Option<&Standstill> {
        self.standstills.iter().max_by_key(|standstill| standstill.length_us)
    }

    fn take(&mut self, finding: Finding) {
        self.findings += 1;
        let Finding { kernel_us, what, raw, .. } = finding;
        match what {
            What::HungTask(hung) => {
                let waits_for = hung.waits_for().map(str::to_owned);
                let waits_in = hung.waits_in().map(str::to_owned);
                self.take_task(BlockedTask {
                    waits_for,
                    waits_in,
                    task: hung.task,
                    pid: hung.pid,
                    reports: 1,
                    seconds: hung.seconds,
                    first_us: kernel_us,
                });
            }
            What::SoftLockup(lockup) => self.take_lockup(lockup, kernel_us),
            What::Storage(error) => {
                let same = |known: &&mut StorageReport| known.fault == error.fault && known.device == error.device;
                if let Some(known) = self.storage.iter_mut().find(same) {
                    known.reports += 1;
                } else if self.storage.len() < MOST {
                    let (fault, device) = (error.fault, error.device);
                    self.storage.push(StorageReport { fault, device, reports: 1, first_us: kernel_us, raw });
                } else {
                    self.left_out += 1;
                }
            }
            What::NfsServer(server) => self.take_server(&server.server, server.state),
            What::Notice(_) if self.notices.len() < MOST => self.notices.push(raw),
            What::Notice(_) => self.left_out += 1,
        }
    }

    fn take_task(&mut self, task: BlockedTask) {
        let same = |known: &&mut BlockedTask| (known.pid, &known.task) == (task.pid, &task.task);
        if let Some(known) = self.tasks.iter_mut().find(same) {
            known.reports += 1;
            known.seconds = known.seconds.max(task.seconds);
            if known.waits_for.is_none() {
                (known.waits_for, known.waits_in) = (task.waits_for, task.waits_in);
            }
        } else if self.tasks.len() < MOST {
            self.tasks.push(task);
        } else {
            self.left_out += 1;
        }
    }

    fn take_lockup(&mut self, lockup: SoftLockup, at_us: Option<u64>) {
        let SoftLockup { cpu, seconds, task, .. } = lockup;
        let is_near = |known: &Standstill| match (known.at_us, at_us) {
            (Some(known), Some(now)) => now.abs_diff(known) <= ONE_STANDSTILL_US,
            _ => true,
        };
        let has_room = self.standstills.len() < MOST;
        match self.standstills.last_mut().filter(|known| is_near(known)) {
            Some(known) => {
                if !known.cpus.contains(&cpu) {
                    known.cpus.push(cpu);
                }
                known.said = known.said.max(seconds);
                known.length_us = known.said.saturating_mul(LOCKUP_UNIT_US);
            }
            None if has_room => {
                let length_us = seconds.saturating_mul(LOCKUP_UNIT_US);
                self.standstills.push(Standstill { said: seconds, length_us, cpus: vec![cpu], task, at_us });
            }
            None => self.left_out += 1,
        }
    }

    fn take_server(&mut self, server: &str, state: NfsState) {
        if !self.servers.iter().any(|known| known.server == server) {
            if self.servers.len() == MOST {
                self.left_out += 1;
                return;
            }
            self.servers.push(ServerOutage { server: server.to_owned(), outages: 0, gave_up: false, back: false });
        }
        let Some(known) = self.servers.iter_mut().find(|known| known.server == server) else { return };
        known.back = state == NfsState::Ok;
        known.outages += u64::from(state != NfsState::Ok);
        known.gave_up |= state == NfsState::TimedOut;
    }
}
