//! `stunfs write`: runs a writer (or reader) in a directory, and shows what it suffered.
//!
//! Must not know: how a workload runs. Invariant: the report is printed even when a writer hangs.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use stunfs::internal::units::{ParseUnitError, parse_duration};
use stunfs::internal::workload::{WorkloadOptions, WorkloadProgress, WorkloadReport, WriterKind, run as run_workload};

use super::exit::{FAILED, FINE};
use super::output::{self, TextTable, count, micros};
use super::signals::Signals;
use super::suggest::Suggested;

const EXAMPLES: &str = "\
Workloads:
  fluentd   a chunk file, 20 small appends, a rename; old chunks are unlinked
  logger    a log that is appended to and rotated
  churn     4 KiB files, created and unlinked
  reader    4 KiB reads at random places, past the page cache
  backup    new files of 64 MiB, 1 MiB at a time; all of them are kept

Exit code 1: an operation failed, a writer still hangs, or a record is lost.

Examples:
  stunfs write fluentd /mnt/thin --threads 3 --for 40s
  stunfs write backup /mnt/thin --rate 100/s --for 10s --json";

/// `stunfs write`
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WriteArgs {
    /// fluentd, logger, churn, reader or backup
    #[arg(value_name = "WORKLOAD", hide_possible_values = true, value_parser = Suggested::new(WriterKind::ALL.map(WriterKind::name)).of::<WriterKind>())]
    kind: WriterKind,
    /// An existing directory; a run continues the files of an earlier one
    dir: PathBuf,
    /// How long to run
    #[arg(long = "for", value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    duration: Duration,
    /// Records (reads) per second and thread, such as 200/s, or 'max' [200/s; churn, reader, backup: 50/s]
    #[arg(long, value_name = "N/s", value_parser = parse_rate)]
    rate: Option<RecordRate>,
    /// Number of records after which each thread stops
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Threads, each with files of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,
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
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
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

pub(crate) fn run(args: &WriteArgs) -> anyhow::Result<u8> {
    let stop = Arc::new(AtomicBool::new(false));
    let on_signal = Arc::clone(&stop);
    let _serving = Signals::catch()?.serve(move |_, _| on_signal.store(true, Ordering::Relaxed))?;
    let report = run_workload(&options(args), &stop, |progress| {
        if !args.quiet {
            output::tell(&(progress_line(progress) + "\n"));
        }
    })?;
    if args.json {
        output::print_json(&report)?
    } else {
        output::print(&text(&report)).map(|_| ())?
    }
    Ok(if report.is_clean() { FINE } else { FAILED })
}

fn options(args: &WriteArgs) -> WorkloadOptions {
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
        ..usual
    }
}

fn progress_line(progress: &WorkloadProgress) -> String {
    let waiting = progress.waiting.as_ref().and_then(|wait| Some((wait, wait.op?)));
    // What is shorter is no wait that anybody would want to see.
    let waiting = waiting.filter(|(wait, _)| wait.for_us >= 100_000);
    let waiting = waiting.map_or(String::new(), |(wait, op)| {
        format!(", {} waits in {} for {}", wait.writer, op.name(), micros(wait.for_us))
    });
    let errors = if progress.errors == 0 { String::new() } else { format!(", {}", count(progress.errors, "error")) };
    let records = count(progress.records, "record");
    format!("{}: {records}, longest {}{errors}{waiting}", micros(progress.elapsed_us), micros(progress.max_us))
}

fn text(report: &WorkloadReport) -> String {
    let mut table = TextTable::new(["OPERATION", "COUNT", "P50", "P99", "MAX"]);
    for (op, times) in &report.ops {
        let [p50, p99, max] = [times.p50_us, times.p99_us, times.max_us].map(micros);
        table.row([op.name().to_owned(), times.count.to_string(), p50, p99, max]);
    }
    let mut lines = vec![table.text().trim_end().to_owned()];
    lines.push(format!(
        "{} in {}, longest gap {}",
        count(report.records, "record"),
        micros(report.elapsed_us),
        micros(report.longest_gap_us)
    ));
    lines.extend(report.errors.iter().map(|e| format!("{} failed with {}: {}", e.op.name(), e.error, e.count)));
    lines.extend(report.stuck.iter().map(|wait| {
        format!("{} still waits in {} for {}", wait.writer, wait.op.map_or("-", |op| op.name()), micros(wait.for_us))
    }));
    if report.mismatches > 0 {
        lines.push(format!("{} gave something else than was written", count(report.mismatches, "read")));
    }
    if let Some(found) = &report.verified {
        let records = count(found.records, "record");
        lines.push(format!("read back: {records}, {} lost, {} damaged", found.lost, found.damaged));
        if found.unacknowledged > 0 {
            lines.push(format!(
                "{} of writes that did not come back with success: no loss",
                count(found.unacknowledged, "record")
            ));
        }
    }
    lines.extend(report.unverified.iter().map(|why| format!("not read back: {why}")));
    lines.join("\n") + "\n"
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
