//! Messages of a kernel that found its time or its CPUs gone: soft lockups, RCU stalls, clocks.
//!
//! Must not know: other lines. Invariant: one line, at most one finding.

use super::hung::split_task;

/// A CPU that did not schedule for too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoftLockup {
    /// The CPU.
    pub cpu: u32,
    /// In the kernel's units of 2^30 ns, so 238 s of standstill are told as 222 to 225.
    pub seconds: u64,
    /// What ran there then; `swapper/N` is the idle task.
    pub task: String,
    /// Its process number.
    pub pid: u32,
}

/// What a kernel says besides, that a reader of a run must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// RCU waits for a CPU or a task.
    RcuStall,
    /// A clock was found wrong: times of this kernel are not to be relied on, and its watchdogs may miss standstills.
    ClockUnstable,
    /// A CPU did not even take interrupts.
    HardLockup,
    /// `kernel.hung_task_warnings` is used up: later hung tasks are not reported.
    ReportsSuppressed,
}

/// `watchdog: BUG: soft lockup - CPU#0 stuck for 223s! [swapper/0:0]`, whatever stands before `soft lockup`.
pub(super) fn soft_lockup(text: &str) -> Option<SoftLockup> {
    let (_, rest) = text.split_once("soft lockup - CPU#")?;
    let (cpu, rest) = rest.split_once(" stuck for ")?;
    let (seconds, rest) = rest.split_once("s!")?;
    let (_, rest) = rest.split_once('[')?;
    let (who, _) = rest.rsplit_once(']')?;
    let (task, pid) = split_task(who)?;
    Some(SoftLockup { cpu: cpu.parse().ok()?, seconds: seconds.parse().ok()?, task, pid })
}

/// The rest.
pub(super) fn notice(text: &str) -> Option<Notice> {
    let has = |part: &str| text.contains(part);
    let stall = has("self-detected stall on CPU")
        || has("detected stalls on CPUs/tasks")
        || has("detected expedited stalls on CPUs")
        || has("kthread starved for")
        || has("kthread timer wakeup didn't happen");
    let clock = has("Marking clocksource") && has("unstable") || has("Marking TSC unstable");
    match () {
        () if stall && has("rcu") => Some(Notice::RcuStall),
        () if clock => Some(Notice::ClockUnstable),
        () if has("hard LOCKUP on cpu") => Some(Notice::HardLockup),
        () if has("Future hung task reports are suppressed") => Some(Notice::ReportsSuppressed),
        () => None,
    }
}
