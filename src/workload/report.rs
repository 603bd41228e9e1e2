//! What came out of a run, for people and programs.
//!
//! Must not know: threads, files. Invariant: every time is in microseconds and its name says so.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hdrhistogram::Histogram;
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};

use super::measure::{Meter, Stats, WriterOp, add_time};
use super::verify::Verified;
use super::{WorkloadOptions, WriterKind};

/// Times of one kind of operation, over all threads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpReport {
    /// How many, failed ones included.
    pub count: u64,
    /// Half of them took no longer.
    pub p50_us: u64,
    /// 99 of 100 took no longer.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

/// An error that the file system gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// For which operation.
    pub op: WriterOp,
    /// Which (`EIO`).
    pub error: String,
    /// How often.
    pub count: u64,
}

/// A thread that waits for the file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LongWait {
    /// The writer.
    pub writer: String,
    /// For which operation; none: it is between two.
    pub op: Option<WriterOp>,
    /// For how long so far.
    pub for_us: u64,
}

/// Records of one writer, as inclusive ranges of their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The writer.
    pub writer: String,
    /// First and last number of each range.
    pub records: Vec<(u64, u64)>,
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadProgress {
    /// Since the start.
    pub elapsed_us: u64,
    /// Records written (or read), over all threads.
    pub records: u64,
    /// Operations that failed.
    pub errors: u64,
    /// The longest operation so far, those not finished included.
    pub max_us: u64,
    /// The thread that waits longest now, if one waits.
    pub waiting: Option<LongWait>,
}

/// What a run has suffered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadReport {
    /// What ran.
    pub workload: WriterKind,
    /// The directory that it ran in.
    pub dir: PathBuf,
    /// Its seed.
    pub seed: u64,
    /// How many threads.
    pub threads: u16,
    /// Whether a record had to be synced to count.
    pub fsync: bool,
    /// From the start to the end of the last thread, or to the end of patience.
    pub elapsed_us: u64,
    /// Records written (or read).
    pub records: u64,
    /// Times by operation, those that still hang included with their time so far.
    pub ops: BTreeMap<WriterOp, OpReport>,
    /// The longest time in which one of the writers finished no record.
    pub longest_gap_us: u64,
    /// What failed.
    pub errors: Vec<Trouble>,
    /// Reads that gave something else than was written.
    pub mismatches: u64,
    /// Threads that still hung when the run was over; what they had begun is not counted as written.
    pub stuck: Vec<LongWait>,
    /// Records that must be there now: written, and not deleted by their writer.
    pub kept: Vec<Kept>,
    /// What was found when they were read back; none if that was not asked for, or could not be done.
    pub verified: Option<Verified>,
    /// Why they could not be read back, though that was asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unverified: Option<String>,
}

impl WorkloadReport {
    /// Whether every record was written and is there: no errors, no hanging threads, nothing lost, mixed up or
    /// impossible to read back.
    pub fn is_clean(&self) -> bool {
        let lost = self.verified.as_ref().is_some_and(|verified| verified.lost > 0) || self.unverified.is_some();
        self.errors.is_empty() && self.stuck.is_empty() && self.mismatches == 0 && !lost
    }
}

/// One thread, as the report sees it.
#[derive(Debug)]
pub(super) struct ReportedThread<'a> {
    pub(super) name: &'a str,
    pub(super) meter: &'a Meter,
    /// When it finished, microseconds since the start.
    pub(super) ended: Option<crate::time::SimTime>,
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl ReportedThread<'_> {
    fn wait(&self) -> Option<LongWait> {
        let (op, time) = self.meter.waiting()?;
        Some(LongWait { writer: self.name.to_owned(), op: Some(op), for_us: micros(time) })
    }
}

/// How far `members` are.
pub(super) fn progress(members: &[ReportedThread<'_>], elapsed: Duration) -> WorkloadProgress {
    let waiting = members.iter().filter_map(ReportedThread::wait).max_by_key(|wait| wait.for_us);
    let (mut records, mut errors) = (0, 0);
    let mut max_us = waiting.as_ref().map_or(0, |wait| wait.for_us);
    for member in members {
        let stats = member.meter.stats();
        records += stats.records;
        errors += stats.errors.values().sum::<u64>();
        max_us = stats.times.values().map(Histogram::max).fold(max_us, u64::max);
    }
    WorkloadProgress { elapsed_us: micros(elapsed), records, errors, max_us, waiting }
}

/// All that is known of `members`, except what reading back will say.
pub(super) fn report(options: &WorkloadOptions, members: &[ReportedThread<'_>], elapsed: Duration) -> WorkloadReport {
    let mut report = WorkloadReport {
        workload: options.kind,
        dir: options.dir.clone(),
        seed: options.seed,
        threads: options.threads,
        fsync: options.fsync,
        elapsed_us: micros(elapsed),
        records: 0,
        ops: BTreeMap::new(),
        longest_gap_us: 0,
        errors: Vec::new(),
        mismatches: 0,
        stuck: Vec::new(),
        kept: Vec::new(),
        verified: None,
        unverified: None,
    };
    let mut times: BTreeMap<WriterOp, Histogram<u64>> = BTreeMap::new();
    let mut errors: BTreeMap<(WriterOp, String), u64> = BTreeMap::new();
    for member in members {
        report.longest_gap_us = report.longest_gap_us.max(micros(member.meter.longest_gap(member.ended)));
        report.add(member.name, &member.meter.stats(), &mut times, &mut errors);
        if member.ended.is_none() {
            let none = LongWait { writer: member.name.to_owned(), op: None, for_us: 0 };
            let wait = member.wait().unwrap_or(none);
            wait.op.iter().for_each(|op| add_time(&mut times, *op, wait.for_us));
            report.stuck.push(wait);
        }
    }
    report.ops = times.iter().map(|(op, times)| (*op, OpReport::of(times))).collect();
    report.errors = errors.into_iter().map(|((op, error), count)| Trouble { op, error, count }).collect();
    report
}

impl WorkloadReport {
    fn add(
        &mut self,
        name: &str,
        stats: &Stats,
        times: &mut BTreeMap<WriterOp, Histogram<u64>>,
        errors: &mut BTreeMap<(WriterOp, String), u64>,
    ) {
        self.records += stats.records;
        self.mismatches += stats.mismatches;
        for (op, more) in &stats.times {
            times.entry(*op).and_modify(|all| *all += more).or_insert_with(|| more.clone());
        }
        for (error, count) in &stats.errors {
            *errors.entry(error.clone()).or_default() += count;
        }
        if !stats.kept.is_empty() {
            self.kept.push(Kept { writer: name.to_owned(), records: ranges(&stats.kept).collect() });
        }
    }
}

impl OpReport {
    fn of(times: &Histogram<u64>) -> Self {
        Self {
            count: times.len(),
            p50_us: times.value_at_quantile(0.5),
            p99_us: times.value_at_quantile(0.99),
            max_us: times.max(),
        }
    }
}

/// The runs of consecutive numbers in a set.
pub(super) fn ranges(set: &RoaringTreemap) -> impl Iterator<Item = (u64, u64)> {
    let mut numbers = set.iter().peekable();
    std::iter::from_fn(move || {
        let first = numbers.next()?;
        let mut last = first;
        while let Some(next) = numbers.next_if(|next| last.checked_add(1) == Some(*next)) {
            last = next;
        }
        Some((first, last))
    })
}
