//! A row of the tables of messages: patterns, and what a line that fits one of them says.
//!
//! Must not know: any message. Invariant: the first row that fits decides, also when it says that nothing is wrong.

use super::pattern::{Gaps, fits};
use crate::telemetry::event::StorageFault;

/// What a kernel says besides, that a reader of a run must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// RCU waits for a CPU or a task.
    RcuStall,
    /// A clock was found wrong, or was not read for long: times of this kernel are not to be relied on, and its
    /// watchdogs may miss standstills.
    ClockUnstable,
    /// A CPU did not even take interrupts.
    HardLockup,
    /// A CPU did not schedule; the line was cut off, so for how long is not known.
    SoftLockup,
    /// Work that a kernel put off is not done.
    WorkqueueLockup,
    /// An interrupt took very long.
    SlowInterrupt,
    /// The kernel stops; no more reports come.
    Panic,
    /// `kernel.hung_task_warnings` is used up: later hung tasks are not reported.
    ReportsSuppressed,
}

/// What a line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Fault(StorageFault),
    Notice(Notice),
    /// Nothing is wrong, although the line may sound so.
    Healthy,
}

/// A row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    kind: Kind,
    patterns: &'static [&'static str],
}

pub(super) const fn fault(fault: StorageFault, patterns: &'static [&'static str]) -> Rule {
    Rule { kind: Kind::Fault(fault), patterns }
}

pub(super) const fn notice(notice: Notice, patterns: &'static [&'static str]) -> Rule {
    Rule { kind: Kind::Notice(notice), patterns }
}

pub(super) const fn healthy(patterns: &'static [&'static str]) -> Rule {
    Rule { kind: Kind::Healthy, patterns }
}

/// What the first row that fits says.
pub(super) fn look_up(rules: &[Rule], text: &str) -> Option<(Kind, Gaps)> {
    rules.iter().find_map(|rule| {
        let gaps = rule.patterns.iter().find_map(|pattern| fits(pattern, text))?;
        Some((rule.kind, gaps))
    })
}
