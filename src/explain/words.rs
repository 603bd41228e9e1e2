//! An explanation in words, for a terminal.
//!
//! Must not know: JSON. Invariant: every figure says what it is a figure of.

use std::fmt::Write as _;

use super::cause::CauseKind;
use super::{BlockedTask, Explanation, ServerOutage, Standstill, StorageReport};
use crate::units::text::{count, micros};

/// So many rows of each kind are printed.
const ROWS: usize = 12;

impl CauseKind {
    /// What happened, most likely.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::OutOfSpace => "A pool, a thin disk or a file system ran out of space.",
            Self::DeviceFailure => "A device failed, was lost, or did not answer.",
            Self::MachineStun => "The whole machine stood still, as when its hypervisor pauses it.",
            Self::StalledWrites => "Writes stalled, and others piled up behind them.",
            Self::FuseServer => "A FUSE server did not answer.",
            Self::NfsServer => "An NFS server did not answer.",
            Self::BusyProcessor => "A processor was kept busy in the kernel.",
            Self::FileSystemError => "A file system found its data damaged, or shut down.",
        }
    }
}

/// The explanation as text.
pub fn text(found: &Explanation) -> String {
    let mut out = String::new();
    for (number, cause) in found.causes.iter().enumerate() {
        let which = if number == 0 { "most likely" } else { "also" };
        let _ = writeln!(out, "{which}: {}", cause.kind.sentence());
        cause.reasons.iter().for_each(|reason| _ = writeln!(out, "    {reason}"));
    }
    section(&mut out, "the machine stood still", &found.standstills, standstill);
    section(&mut out, "blocked", &found.tasks, task);
    section(&mut out, "storage said", &found.storage, storage);
    section(&mut out, "servers", &found.servers, server);
    section(&mut out, "besides", &found.notices, |line| format!("{line}\n"));
    if found.left_out > 0 {
        let _ = writeln!(out, "{} more reports are not listed", found.left_out);
    }
    let _ = writeln!(out, "{} read, {} in them", count(found.lines, "line"), count(found.findings, "report"));
    out
}

fn section<T>(out: &mut String, title: &str, rows: &[T], row: impl Fn(&T) -> String) {
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(out, "{title}:");
    rows.iter().take(ROWS).for_each(|it| _ = write!(out, "    {}", row(it)));
    if rows.len() > ROWS {
        let _ = writeln!(out, "    and {} more (--json has all)", rows.len() - ROWS);
    }
}

fn since_boot(stamp: Option<u64>) -> String {
    stamp.map(|at| format!(" at {}.{:06} s of its uptime", at / 1_000_000, at % 1_000_000)).unwrap_or_default()
}

fn standstill(it: &Standstill) -> String {
    let cpus: Vec<String> = it.cpus.iter().map(ToString::to_string).collect();
    let length = micros(it.length_us);
    format!(
        "for {length} (the kernel says {} and means units of 1.074 s), CPU {}, {} on it{}\n",
        it.said,
        cpus.join(", "),
        it.task,
        since_boot(it.at_us)
    )
}

fn task(it: &BlockedTask) -> String {
    let long = it.seconds.map_or_else(String::new, |seconds| format!(" for more than {seconds} s"));
    let place = match (&it.waits_for, &it.waits_in) {
        (Some(words), Some(function)) => format!(" on: {words} ({function})"),
        (Some(words), None) => format!(" on: {words}"),
        (None, Some(function)) => format!(" in {function}"),
        (None, None) => ", its stack does not tell on what".to_owned(),
    };
    let often = if it.reports > 1 { format!(", reported {} times", it.reports) } else { String::new() };
    format!("{} ({}){long}{place}{often}{}\n", it.task, it.pid, since_boot(it.first_us))
}

fn storage(it: &StorageReport) -> String {
    let often = if it.reports > 1 { format!(" ({} times)", it.reports) } else { String::new() };
    format!("{}{often}\n", it.raw)
}

fn server(it: &ServerOutage) -> String {
    let end = match (it.gave_up, it.back) {
        (true, _) => "programs got errors",
        (false, true) => "then it answered again",
        (false, false) => "no answer until the log's end",
    };
    format!("{} did not answer ({}); {end}\n", it.server, count(it.outages, "time"))
}
