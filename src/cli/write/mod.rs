//! `stunfs write`: runs a writer (or reader) in a directory, and shows what it suffered.
//!
//! Must not know: how a workload runs. Invariant: the report is printed even when a writer hangs.

mod text;
mod verify;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use stunfs::internal::units::{Bytes, ParseUnitError, parse_duration};
use stunfs::internal::workload::{
    RotateStyle, WorkloadOptions, WorkloadProgress, WorkloadReport, WriterKind, run as run_workload,
};

use super::exit::{FAILED, FINE, UsageError};
use super::output;
use super::signals::Signals;
use super::suggest::Suggested;

const EXAMPLES: &str = "\
Workloads:
  fluentd   inputs with position files, a file buffer with fluentd's locks, threads that enqueue and flush
  logger    a log that is appended to and rotated
  churn     4 KiB files, created and unlinked
  reader    4 KiB reads at random places, past the page cache
  backup    new files of 64 MiB, written as tar does, 10 KiB at a time; all of them are kept
  kubelet   containers' logs with rotation, checkpoints, a heartbeat that needs the disk and one that does not
  logrotate a log as rsyslog writes it, rotated as logrotate does
  database  a write-ahead log, each record synced, with checkpoints

Exit code 1: an operation failed, a writer still hangs, or a record is lost.

Examples:
  stunfs write fluentd /mnt/thin --threads 3 --for 40s
  stunfs write backup /mnt/thin --rate 100/s --for 10s --json
  stunfs write logger /mnt/thin --ack-log /var/tmp/acks
  stunfs write verify /mnt/thin --ack-log /var/tmp/acks";

/// Bytes of a record: its number and checksum take about 50.
const MIN_RECORD: u64 = 64;
const MAX_RECORD: u64 = 16 << 20;

/// `stunfs write`
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct WriteArgs {
    #[command(subcommand)]
    command: Option<WriteCommand>,
    #[command(flatten)]
    writer: Option<WriterArgs>,
}

#[derive(Debug, Subcommand)]
enum WriteCommand {
    /// Read back what writers left in a directory: is an acknowledged record lost, torn, doubled or out of order?
    Verify(verify::VerifyArgs),
}

#[derive(Debug, Args)]
struct WriterArgs {
    /// fluentd, logger, churn, reader, backup, kubelet, logrotate or database
    #[arg(value_name = "WORKLOAD", hide_possible_values = true, value_parser = Suggested::new(WriterKind::ALL.map(WriterKind::name)).of::<WriterKind>())]
    kind: WriterKind,
    /// An existing directory; a run continues the files of an earlier one
    dir: PathBuf,
    /// How long to run
    #[arg(long = "for", visible_alias = "duration", value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    duration: Duration,
    /// Records (reads) per second and thread, such as 200/s, or 'max' [200/s; churn, reader, backup: 50/s]
    #[arg(long, value_name = "N/s", value_parser = parse_rate)]
    rate: Option<RecordRate>,
    /// Number of records after which each thread stops
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Threads, each with files of its own; of a fluentd: its inputs
    #[arg(long, visible_alias = "inputs", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,
    /// Threads that flush (fluentd)
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    flush_threads: u16,
    /// How logs are rotated: create, rename or copytruncate (logger, logrotate)
    #[arg(long, value_name = "HOW", default_value = "create", hide_possible_values = true, value_parser = Suggested::new(RotateStyle::NAMES).of::<RotateStyle>())]
    rotate: RotateStyle,
    /// Bytes of a record, such as 300 or 4KiB [the workload's own]
    #[arg(long, value_name = "SIZE", value_parser = parse_record_size)]
    record_size: Option<usize>,
    /// Count a record as written only when it is synced
    #[arg(long)]
    fsync: bool,
    /// What the records' contents follow from
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// How long to wait at the end for writers that hang
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    patience: Duration,
    /// Do not read back what was written
    #[arg(long)]
    no_verify: bool,
    /// Keep there which records were acknowledged, for 'write verify'; a file that is not on the storage under test
    #[arg(long, value_name = "FILE")]
    ack_log: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Print progress and report as JSON, one object a line
    #[arg(long, conflicts_with = "json")]
    json_lines: bool,
    /// How often to report progress
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    progress: Duration,
    /// Write no progress to standard error
    #[arg(long, short)]
    quiet: bool,
}

/// From one record to the next; none: as fast as it goes.
#[derive(Debug, Clone, Copy)]
struct RecordRate(Option<Duration>);

fn parse_rate(text: &str) -> Result<RecordRate, ParseUnitError> {
    if text == "max" {
        return Ok(RecordRate(None));
    }
    let number = text.strip_suffix("/s").and_then(|number| number.parse::<f64>().ok());
    let every = number
        .filter(|number| number.is_finite() && *number > 0.0)
        .and_then(|number| Duration::try_from_secs_f64(1.0 / number).ok());
    every.map(|every| RecordRate(Some(every))).ok_or_else(|| {
        ParseUnitError::new(format!("'{text}' is not a rate; write records per second such as 200/s, or max"))
    })
}

fn parse_record_size(text: &str) -> Result<usize, ParseUnitError> {
    let bytes = match text.parse::<u64>() {
        Ok(bytes) => Some(bytes),
        Err(_) => text.parse::<Bytes>().ok().map(|bytes| bytes.0),
    };
    let fits =
        bytes.filter(|bytes| (MIN_RECORD..=MAX_RECORD).contains(bytes)).and_then(|bytes| usize::try_from(bytes).ok());
    fits.ok_or_else(|| {
        ParseUnitError::new(format!("'{text}' is no size of a record; write 64 to 16MiB, such as 300 or 4KiB"))
    })
}

pub(crate) fn run(args: &WriteArgs) -> anyhow::Result<u8> {
    match (&args.command, &args.writer) {
        (Some(WriteCommand::Verify(args)), _) => verify::run(args),
        (None, Some(args)) => run_writer(args),
        (None, None) => Err(UsageError("a workload is missing; see 'stunfs write --help'".to_owned()).into()),
    }
}

/// A line of `--json-lines`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum JsonLine<'a> {
    Progress(&'a WorkloadProgress),
    Report(&'a WorkloadReport),
}

impl JsonLine<'_> {
    /// Whether anybody still reads.
    fn print(&self) -> anyhow::Result<bool> {
        output::print(&(serde_json::to_string(self)? + "\n"))
    }
}

/// Where progress goes.
enum Told {
    Nowhere,
    JsonLines,
    /// One line on a terminal that changes.
    Terminal(ProgressBar),
    Lines,
}

impl Told {
    fn new(args: &WriterArgs) -> Self {
        match () {
            () if args.json_lines => Self::JsonLines,
            () if args.quiet => Self::Nowhere,
            () if std::io::stderr().is_terminal() => {
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
                Self::Terminal(bar.with_style(ProgressStyle::default_spinner()))
            }
            () => Self::Lines,
        }
    }

    fn progress(&self, progress: &WorkloadProgress) {
        match self {
            Self::Nowhere => {}
            // If nobody reads, the run goes on all the same: its files are what counts.
            Self::JsonLines => drop(JsonLine::Progress(progress).print()),
            Self::Terminal(bar) => {
                bar.set_message(text::progress_line(progress));
                bar.tick();
            }
            Self::Lines => output::tell(&(text::progress_line(progress) + "\n")),
        }
    }

    fn end(&self) {
        if let Self::Terminal(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn run_writer(args: &WriterArgs) -> anyhow::Result<u8> {
    let stop = Arc::new(AtomicBool::new(false));
    let on_signal = Arc::clone(&stop);
    let _serving = Signals::catch()?.serve(move |_, _| on_signal.store(true, Ordering::Relaxed))?;
    let told = Told::new(args);
    let report = run_workload(&options(args), &stop, |progress| told.progress(progress))?;
    told.end();
    if args.json_lines {
        JsonLine::Report(&report).print()?;
    } else if args.json {
        output::print_json(&report)?;
    } else {
        output::print(&text::report(&report))?;
    }
    Ok(if report.is_clean() { FINE } else { FAILED })
}

fn options(args: &WriterArgs) -> WorkloadOptions {
    let usual = WorkloadOptions::new(args.kind, &args.dir);
    WorkloadOptions {
        threads: args.threads,
        seed: args.seed,
        duration: args.duration,
        count: args.count,
        every: args.rate.map_or(usual.every, |rate| rate.0),
        fsync: args.fsync,
        patience: args.patience,
        verify: !args.no_verify,
        flush_threads: args.flush_threads,
        rotate: args.rotate,
        record_bytes: args.record_size,
        ack_log: args.ack_log.clone(),
        progress: args.progress,
        ..usual
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        assert_eq!(parse_rate("200/s").unwrap().0, Some(Duration::from_millis(5)));
        assert_eq!(parse_rate("0.5/s").unwrap().0, Some(Duration::from_secs(2)));
        assert_eq!(parse_rate("max").unwrap().0, None);
        for text in ["200", "0/s", "-1/s", "nan/s", "inf/s", "1e-300/s", "", "/s"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }
}
