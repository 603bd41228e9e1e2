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

/// What a line says of a soft lockup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    Whole(SoftLockup),
    /// The console lost the line's end.
    Cut,
}

/// `BUG: soft lockup - CPU#0 stuck for 223s! [swapper/0:0]`.
pub(super) fn soft_lockup(text: &str) -> Option<Said> {
    let rest = text.strip_prefix("BUG: soft lockup - CPU#")?;
    let rest = Some(rest).filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))?;
    let Some((start, who)) = rest.split_once('[') else { return Some(Said::Cut) };
    let Some((who, end)) = who.rsplit_once(']') else { return Some(Said::Cut) };
    // What a program says goes on behind it; the list of modules does where a line end was lost.
    if !end.trim().is_empty() && !end.starts_with("Modules") {
        return None;
    }
    let (cpu, seconds) = start.split_once(" stuck for ")?;
    let (task, pid) = split_task(who)?;
    let seconds = seconds.trim_end().strip_suffix("s!")?.parse().ok()?;
    Some(Said::Whole(SoftLockup { cpu: cpu.parse().ok()?, seconds, task, pid }))
}
