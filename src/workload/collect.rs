//! Puts together what the threads' meters have counted.
//!
//! Must not know: files, how threads run. Invariant: a thread that hangs is in every figure with its time so far.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use roaring::RoaringTreemap;

use super::WorkloadOptions;
use super::heartbeat::{Heartbeat, HeartbeatsReport};
use super::kept::Kept;
use super::lock::LockWatch;
use super::measure::{Meter, Stats, WriterOp, add_time, micros, microseconds};
use super::ranges::ranges;
use super::report::{
    AckLatency, IntervalReport, LockPileUp, LockReport, LongWait, OpReport, Trouble, WorkloadProgress, WorkloadReport,
};
use crate::time::SimTime;

/// A wait that is shorter is no pile-up, and not worth telling.
const SHORT: Duration = Duration::from_millis(10);

/// One thread, as the report sees it.
#[derive(Debug)]
pub(super) struct ReportedThread<'a> {
    pub(super) meter: &'a Meter,
    /// When it finished.
    pub(super) ended: Option<SimTime>,
    /// Whether records are due from it; the others work in the background.
    pub(super) has_records: bool,
}

/// What a workload shows beside its threads.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) locks: Vec<Arc<LockWatch>>,
    pub(super) slow_flushes: Option<Arc<AtomicU64>>,
    /// The disk's and the lease's.
    pub(super) heartbeats: Option<[Arc<Heartbeat>; 2]>,
}

impl Shown {
    fn heartbeats(&self) -> Option<HeartbeatsReport> {
        let [disk, lease] = self.heartbeats.as_ref()?;
        Some(HeartbeatsReport { disk: disk.report(), lease: lease.report() })
    }
}

impl ReportedThread<'_> {
    fn wait(&self) -> Option<LongWait> {
        let wait = self.meter.waiting()?;
        let writer = self.meter.name().to_owned();
        Some(LongWait { writer, op: Some(wait.op), for_us: micros(wait.time), lock: wait.lock })
    }
}

/// The lock that threads wait for most now, if they do.
pub(super) fn pile_up(threads: &[ReportedThread<'_>], locks: &[Arc<LockWatch>]) -> Option<LockPileUp> {
    let long = |wait: &LongWait| wait.for_us >= micros(SHORT);
    let waits: Vec<LongWait> = threads.iter().filter_map(ReportedThread::wait).filter(long).collect();
    let pile_up = |lock: &Arc<LockWatch>| {
        let waiting = || waits.iter().filter(|wait| wait.lock.as_deref() == Some(lock.name()));
        let for_us = waiting().map(|wait| wait.for_us).max()?;
        let holder = lock.holder()?;
        let (root, op) = root(&holder, threads, locks);
        let waiters = waiting().map(|wait| wait.writer.clone()).collect();
        Some(LockPileUp { lock: lock.name().to_owned(), holder, root, op, waiters, for_us })
    };
    locks.iter().filter_map(pile_up).max_by_key(LockPileUp::weight)
}

/// The thread that `holder` waits for, through the locks between them, and what that one is in.
fn root(holder: &str, threads: &[ReportedThread<'_>], locks: &[Arc<LockWatch>]) -> (String, Option<WriterOp>) {
    let mut root = holder.to_owned();
    let mut op = None;
    // A chain has no more links than there are locks.
    for _ in 0..=locks.len() {
        let wait = threads.iter().find(|thread| thread.meter.name() == root).and_then(|thread| thread.meter.waiting());
        op = wait.as_ref().map(|wait| wait.op);
        let next = wait.and_then(|wait| locks.iter().find(|lock| Some(lock.name()) == wait.lock.as_deref())?.holder());
        match next {
            Some(next) => root = next,
            None => break,
        }
    }
    (root, op)
}

impl LockPileUp {
    /// How bad it is: threads times microseconds.
    pub(super) fn weight(&self) -> u64 {
        u64::try_from(self.waiters.len()).unwrap_or(u64::MAX).saturating_mul(self.for_us)
    }
}

/// How far `threads` are; begins a new interval.
pub(super) fn progress(threads: &[ReportedThread<'_>], shown: &Shown, elapsed: Duration) -> WorkloadProgress {
    let mut waiting: Vec<LongWait> = threads.iter().filter_map(ReportedThread::wait).collect();
    waiting.sort_by_key(|wait| std::cmp::Reverse(wait.for_us));
    let (mut records, mut errors) = (0, 0);
    let mut max_us = waiting.first().map_or(0, |wait| wait.for_us);
    let (mut interval, mut unacknowledged) = (microseconds(), Duration::ZERO);
    let mut recent = 0;
    for thread in threads {
        let (acknowledged, acked, wait) = thread.meter.take_interval();
        interval += &acknowledged;
        recent += acked;
        if thread.ended.is_none() {
            unacknowledged = unacknowledged.max(wait);
        }
        let stats = thread.meter.stats();
        records += stats.records;
        errors += stats.errors.values().sum::<u64>();
        max_us = stats.times.values().map(Histogram::max).fold(max_us, u64::max);
    }
    let interval = IntervalReport {
        records: recent,
        ack_p50_us: interval.value_at_quantile(0.5),
        ack_p99_us: interval.value_at_quantile(0.99),
        ack_max_us: interval.max().max(micros(unacknowledged)),
    };
    let (lock, heartbeats) = (pile_up(threads, &shown.locks), shown.heartbeats());
    WorkloadProgress { elapsed_us: micros(elapsed), records, interval, errors, max_us, waiting, lock, heartbeats }
}

/// Sums over threads.
#[derive(Debug)]
struct Sums {
    times: BTreeMap<WriterOp, Histogram<u64>>,
    lock_waits: BTreeMap<String, Histogram<u64>>,
    errors: BTreeMap<(WriterOp, String), u64>,
    written: BTreeMap<String, RoaringTreemap>,
    retired: BTreeMap<String, RoaringTreemap>,
    ack: Histogram<u64>,
}

/// All that is known of `threads`, except what reading back will say.
pub(super) fn report(
    options: &WorkloadOptions,
    threads: &[ReportedThread<'_>],
    shown: &Shown,
    elapsed: Duration,
) -> WorkloadReport {
    let mut report = empty_report(options);
    report.elapsed_us = micros(elapsed);
    report.slow_flushes = shown.slow_flushes.as_ref().map(|count| count.load(Ordering::Relaxed));
    report.heartbeats = shown.heartbeats();
    let mut sums = Sums {
        times: BTreeMap::new(),
        lock_waits: BTreeMap::new(),
        errors: BTreeMap::new(),
        written: BTreeMap::new(),
        retired: BTreeMap::new(),
        ack: microseconds(),
    };
    for thread in threads {
        if thread.has_records {
            report.longest_gap_us = report.longest_gap_us.max(micros(thread.meter.longest_gap(thread.ended)));
            sums.ack += &thread.meter.ack_latency(thread.ended.is_none(), options.every);
        }
        sums.add(&mut report, thread.meter.name(), &thread.meter.stats());
        if thread.ended.is_none() {
            let writer = thread.meter.name().to_owned();
            let wait = thread.wait().unwrap_or(LongWait { writer, op: None, for_us: 0, lock: None });
            sums.add_wait(&wait);
            report.stuck.push(wait);
        }
    }
    report.ops = sums.times.iter().map(|(op, times)| (*op, OpReport::of(times))).collect();
    report.ack_latency = AckLatency::of(&sums.ack);
    report.locks = sums.lock_waits.iter().map(|(lock, times)| LockReport::of(lock, times)).collect();
    report.errors = sums.errors.into_iter().map(|((op, error), count)| Trouble { op, error, count }).collect();
    for (writer, mut numbers) in sums.written {
        if let Some(retired) = sums.retired.get(&writer) {
            numbers -= retired;
        }
        if !numbers.is_empty() {
            report.kept.push(Kept { writer, records: ranges(&numbers).collect() });
        }
    }
    report
}

fn empty_report(options: &WorkloadOptions) -> WorkloadReport {
    WorkloadReport {
        workload: options.kind,
        dir: options.dir.clone(),
        seed: options.seed,
        threads: options.threads,
        fsync: options.fsync,
        elapsed_us: 0,
        records: 0,
        missed: 0,
        ack_latency: AckLatency::default(),
        ops: BTreeMap::new(),
        longest_gap_us: 0,
        locks: Vec::new(),
        pile_up: None,
        slow_flushes: None,
        heartbeats: None,
        errors: Vec::new(),
        mismatches: 0,
        stuck: Vec::new(),
        kept: Vec::new(),
        verified: None,
        ack_log_errors: 0,
        unverified: None,
    }
}

impl Sums {
    fn add(&mut self, report: &mut WorkloadReport, name: &str, stats: &Stats) {
        report.records += stats.records;
        report.missed += stats.missed;
        report.mismatches += stats.mismatches;
        for (op, more) in &stats.times {
            *self.times.entry(*op).or_insert_with(microseconds) += more;
        }
        for (lock, more) in &stats.lock_waits {
            *self.lock_waits.entry(lock.clone()).or_insert_with(microseconds) += more;
        }
        for (error, count) in &stats.errors {
            *self.errors.entry(error.clone()).or_default() += count;
        }
        if !stats.written.is_empty() {
            *self.written.entry(name.to_owned()).or_default() |= &stats.written;
        }
        for (writer, numbers) in &stats.retired {
            *self.retired.entry(writer.clone()).or_default() |= numbers;
        }
    }

    /// A wait that is not over.
    fn add_wait(&mut self, wait: &LongWait) {
        match (&wait.lock, wait.op) {
            (Some(lock), _) => {
                // It grows as needed, so it takes any value.
                let _ = self.lock_waits.entry(lock.clone()).or_insert_with(microseconds).record(wait.for_us);
            }
            (None, Some(op)) => add_time(&mut self.times, op, wait.for_us),
            (None, None) => {}
        }
    }
}
