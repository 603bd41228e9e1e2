//! A kernel's message of a CPU that did not schedule.
//!
//! Must not know: other lines. Invariant: only a whole line is a finding of its own.

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

/// `BUG: soft lockup - CPU#0 stuck for 223s! [swapper/0:0]`.
pub(super) fn soft_lockup(text: &str) -> Option<SoftLockup> {
    let rest = text.strip_prefix("BUG: soft lockup - CPU#")?;
    let (cpu, rest) = rest.split_once(" stuck for ")?;
    let (seconds, rest) = rest.split_once("s!")?;
    let (_, rest) = rest.split_once('[')?;
    let (who, _) = rest.rsplit_once(']')?;
    let (task, pid) = split_task(who)?;
    Some(SoftLockup { cpu: cpu.parse().ok()?, seconds: seconds.parse().ok()?, task, pid })
}
