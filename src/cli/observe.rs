//! `stunfs observe`: which tasks wait for storage, and behind whom.
//!
//! Must not know: how tasks are read. Invariant: a signal ends it with a summary and exit code 0.

use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use stunfs::internal::observe::observation::Observation;
use stunfs::internal::observe::observer::{ObserveOptions, ObservedTasks, Observer};
use stunfs::internal::observe::pile_up::PileUpLimits;
use stunfs::internal::observe::waits::waits_in;
use stunfs::internal::telemetry::event::PileUpWaiter;
use stunfs::internal::time::Deadline;
use stunfs::internal::units::parse_duration;

use super::exit::{FINE, UsageError};
use super::output::{print, say};
use super::signals::Signals;

/// A look that takes longer is told.
const LATE_AFTER: Duration = Duration::from_secs(3);
const A_YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(Debug, Args)]
pub(crate) struct ObserveArgs {
    /// Look only at this process and its threads; may be given several times
    #[arg(long = "pid", value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "cgroup")]
    pids: Vec<u32>,
    /// Look only at the processes of this control group, by its directory
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// Time between two looks
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    interval: Duration,
    /// End after this time; without it a signal ends it
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Write every observation as a line of JSON
    #[arg(long)]
    json: bool,
}

/// An observation as a line.
#[derive(Debug, Serialize)]
struct OutputLine<'a> {
    v: u32,
    seq: u64,
    t_us: u64,
    #[serde(flatten)]
    what: &'a Observation,
}

#[derive(Debug, Default)]
struct ObserveSummary {
    looks: u64,
    pile_ups: u64,
    most: u64,
    late: u64,
}

enum ObserveInput {
    Seen(Duration, Observation),
    Signal,
}

/// Runs the sub-command.
pub(crate) fn run(args: &ObserveArgs) -> anyhow::Result<u8> {
    let options = options(args)?;
    let signals = Signals::catch()?;
    let (sender, messages) = channel();
    let to_end = sender.clone();
    let _serving = signals.serve(move |_, _| drop(to_end.send(ObserveInput::Signal)))?;
    let sink = move |at, what| drop(sender.send(ObserveInput::Seen(at, what)));
    let observer = Observer::start(options, sink).context("cannot start a thread")?;
    let end = args.duration.map(|time| Deadline::after(time.min(A_YEAR)));
    let mut summary = ObserveSummary::default();
    let mut seq = 0;
    loop {
        let left = end.as_ref().map_or(Duration::MAX, Deadline::left);
        if left.is_zero() {
            break;
        }
        let (at, what) = match messages.recv_timeout(left.min(Duration::from_secs(3600))) {
            Ok(ObserveInput::Seen(at, what)) => (at, what),
            Err(RecvTimeoutError::Timeout) => continue,
            Ok(ObserveInput::Signal) | Err(RecvTimeoutError::Disconnected) => break,
        };
        summary.add(&what);
        seq += 1;
        let text = if args.json { json_line(seq, at, &what)? } else { text_line(at, &what) };
        if !text.is_empty() && !print(&text)? {
            return Ok(FINE);
        }
    }
    drop(observer);
    say(summary.text());
    Ok(FINE)
}

fn options(args: &ObserveArgs) -> anyhow::Result<ObserveOptions> {
    if args.interval < Duration::from_millis(10) {
        return Err(UsageError("--interval is too short; give 10ms or more".to_owned()).into());
    }
    let tasks = match &args.cgroup {
        Some(cgroup) => {
            let error = || {
                format!("'{}' is no control group; give its directory, such as /sys/fs/cgroup/NAME", cgroup.display())
            };
            if !cgroup.starts_with("/sys/fs/cgroup") {
                return Err(UsageError(error()).into());
            }
            std::fs::read(cgroup.join("cgroup.procs")).with_context(error)?;
            ObservedTasks::Cgroup(cgroup.clone())
        }
        None if args.pids.is_empty() => ObservedTasks::All,
        None => ObservedTasks::Pids(args.pids.clone()),
    };
    let limits = PileUpLimits { tasks: 2, wait: args.interval };
    Ok(ObserveOptions { interval: args.interval, tasks, limits, late_after: LATE_AFTER.max(args.interval) })
}

fn json_line(seq: u64, at: Duration, what: &Observation) -> anyhow::Result<String> {
    let t_us = u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
    Ok(serde_json::to_string(&OutputLine { v: stunfs::internal::telemetry::event::SCHEMA_VERSION, seq, t_us, what })?
        + "\n")
}

/// What a person wants to know: pile-ups and late looks.
fn text_line(at: Duration, what: &Observation) -> String {
    let seconds = at.as_secs_f64();
    match what {
        Observation::PileUp { tasks, resource, oldest, .. } => {
            format!(
                "{seconds:8.1} s  pile-up: {tasks} tasks wait for: {resource}; the oldest is {}\n",
                oldest_text(oldest)
            )
        }
        Observation::PileUpEnded { most, resource, since_us } => {
            let lasted = at.saturating_sub(Duration::from_micros(*since_us)).as_secs_f64();
            format!("{seconds:8.1} s  pile-up ended: {resource}, after {lasted:.1} s, at most {most} tasks\n")
        }
        Observation::HarnessLate { for_us } => {
            let late = Duration::from_micros(*for_us).as_secs_f64();
            format!("{seconds:8.1} s  a look at /proc has taken {late:.1} s so far\n")
        }
        _ => String::new(),
    }
}

fn oldest_text(oldest: &PileUpWaiter) -> String {
    let waited = Duration::from_micros(oldest.for_us).as_secs_f64();
    let place = waits_in(&oldest.stack).map(|name| format!(" in {name}")).unwrap_or_default();
    format!("{} ({}), {waited:.1} s{place}", oldest.comm, oldest.tid)
}

impl ObserveSummary {
    fn add(&mut self, what: &Observation) {
        match what {
            Observation::Tasks { waiting, .. } => {
                self.looks += 1;
                self.most = self.most.max(*waiting);
            }
            Observation::PileUp { .. } => self.pile_ups += 1,
            Observation::HarnessLate { .. } => self.late += 1,
            _ => {}
        }
    }

    fn text(&self) -> String {
        let Self { looks, pile_ups, most, late } = self;
        format!(
            "looked {looks} times: {pile_ups} pile-ups, at most {most} tasks waited at once, {late} reports of a late look"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pile_up_is_one_readable_line_and_other_figures_are_none() {
        let stack = ["schedule", "down", "xfs_buf_lock"].map(str::to_owned).to_vec();
        let oldest = PileUpWaiter { pid: 7, tid: 8, comm: "fluentd".to_owned(), for_us: 4_000_000, stack };
        let pile_up = Observation::PileUp { tasks: 3, resource: "XFS buffer lock".to_owned(), oldest, since_us: 1 };
        let expected = "     5.0 s  pile-up: 3 tasks wait for: XFS buffer lock; the oldest is fluentd (8), 4.0 s in xfs_buf_lock\n";
        assert_eq!(text_line(Duration::from_secs(5), &pile_up), expected);
        assert_eq!(text_line(Duration::ZERO, &Observation::Dirty { dirty_kib: 1, writeback_kib: 2 }), "");
    }
}
