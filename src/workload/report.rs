//! What came out of a run, for people and programs.
//!
//! Must not know: threads, files. Invariant: every time is in microseconds and its name says so.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

use super::WriterKind;
use super::heartbeat::HeartbeatsReport;
use super::kept::Kept;
use super::measure::WriterOp;
use super::verify::Verified;

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

/// A thread that waits for the file system, or for another thread's lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LongWait {
    /// The writer.
    pub writer: String,
    /// For which operation; none: it is between two.
    pub op: Option<WriterOp>,
    /// For how long so far.
    pub for_us: u64,
    /// The lock, if it waits for one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lock: Option<String>,
}

/// From when a record was due to its acknowledgement, over all threads. Records that were due while their thread was held up, and were
/// left out, count with the wait until it was free again; those that were never acknowledged, with their wait so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckLatency {
    /// How many records.
    pub count: u64,
    /// Half of them took no longer.
    pub p50_us: u64,
    /// 90 of 100.
    pub p90_us: u64,
    /// 99 of 100.
    pub p99_us: u64,
    /// 999 of 1000.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
    /// All of them: an HDR histogram of microseconds, V2 deflate in base64, as HdrHistogram's tools read it.
    pub hdr: String,
}

/// Waits for one of the program's own locks, over all threads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockReport {
    /// Which.
    pub lock: String,
    /// How often a thread had to wait for it.
    pub waits: u64,
    /// Half of the waits took no longer.
    pub p50_us: u64,
    /// The longest, those not over included.
    pub max_us: u64,
}

/// Threads that wait for one lock while the thread that holds it waits for the file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockPileUp {
    /// The lock.
    pub lock: String,
    /// The thread that holds it.
    pub holder: String,
    /// The thread that waits for the file system: the holder, or one that holds a lock which the holder waits for.
    pub root: String,
    /// What that thread is in; none: it is between two operations.
    pub op: Option<WriterOp>,
    /// The threads that wait for the lock.
    pub waiters: Vec<String>,
    /// How long the first of them had waited.
    pub for_us: u64,
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadProgress {
    /// Since the start.
    pub elapsed_us: u64,
    /// Records written (or read), over all threads.
    pub records: u64,
    /// What happened since the last time.
    pub interval: IntervalReport,
    /// Operations that failed.
    pub errors: u64,
    /// The longest operation so far, those not finished included.
    #[serde(default)]
    pub max_us: u64,
    /// The threads that wait now, the one that has waited longest first.
    pub waiting: Vec<LongWait>,
    /// The lock that most threads wait for now.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lock: Option<LockPileUp>,
    /// A kubelet's heartbeats.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub heartbeats: Option<HeartbeatsReport>,
}

/// Acknowledgements since progress was last told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntervalReport {
    /// Records acknowledged.
    pub records: u64,
    /// Half of them took no longer.
    pub ack_p50_us: u64,
    /// 99 of 100 took no longer.
    pub ack_p99_us: u64,
    /// The longest, records that still wait included.
    pub ack_max_us: u64,
}

/// What a run has suffered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadReport {
    /// What ran.
    pub workload: WriterKind,
    /// Where.
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
    /// Records that were due while an earlier one of their thread was under way, and were left out.
    #[serde(default)]
    pub missed: u64,
    /// How long acknowledgements took.
    #[serde(default)]
    pub ack_latency: AckLatency,
    /// Times by operation, those that still hang included with their time so far.
    pub ops: BTreeMap<WriterOp, OpReport>,
    /// The longest time in which one of the writers finished no record.
    pub longest_gap_us: u64,
    /// Waits for the program's own locks.
    #[serde(default)]
    pub locks: Vec<LockReport>,
    /// The worst pile-up: most threads times their wait.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pile_up: Option<LockPileUp>,
    /// Flushes of a chunk that took 20 s or more (fluentd).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub slow_flushes: Option<u64>,
    /// A kubelet's heartbeats.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub heartbeats: Option<HeartbeatsReport>,
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
    /// Lines that the acknowledgement log did not take.
    #[serde(default)]
    pub ack_log_errors: u64,
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

impl OpReport {
    pub(super) fn of(times: &Histogram<u64>) -> Self {
        Self {
            count: times.len(),
            p50_us: times.value_at_quantile(0.5),
            p99_us: times.value_at_quantile(0.99),
            max_us: times.max(),
        }
    }
}

impl AckLatency {
    pub(super) fn of(times: &Histogram<u64>) -> Self {
        Self {
            count: times.len(),
            p50_us: times.value_at_quantile(0.5),
            p90_us: times.value_at_quantile(0.9),
            p99_us: times.value_at_quantile(0.99),
            p999_us: times.value_at_quantile(0.999),
            max_us: times.max(),
            hdr: hdr_text(times),
        }
    }
}

impl LockReport {
    pub(super) fn of(lock: &str, times: &Histogram<u64>) -> Self {
        let (p50_us, max_us) = (times.value_at_quantile(0.5), times.max());
        Self { lock: lock.to_owned(), waits: times.len(), p50_us, max_us }
    }
}

/// A histogram in the form that HdrHistogram's tools read.
fn hdr_text(times: &Histogram<u64>) -> String {
    let mut packed = Vec::new();
    // A vector takes any bytes; what the format cannot hold (a count beyond 63 bits) does not occur.
    let _ = V2DeflateSerializer::new().serialize(times, &mut packed);
    STANDARD.encode(&packed)
}
