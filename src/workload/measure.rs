//! What one thread suffers: the time of each operation, the gaps between records, what it was told is written.
//!
//! Must not know: what is written. Invariant: the thread holds no lock while it waits for the file system, so that
//! others can always see what it waits for.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::{Mutex, MutexGuard};
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};

use super::journal::AckLog;
use super::schedule::Missed;
use crate::time::{Clock, SimTime};

/// What a writer asks of the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each is the call of that name, as seen by the application")]
pub enum WriterOp {
    Open,
    Create,
    Write,
    Fsync,
    Close,
    Rename,
    Unlink,
    Read,
    List,
    Fdatasync,
    Truncate,
    Allocate,
    Msync,
    /// A wait for a lock of the program itself, which another thread holds.
    Lock,
}

impl WriterOp {
    /// All of them; an operation's code is its place here.
    pub const ALL: [Self; 14] = [
        Self::Open,
        Self::Create,
        Self::Write,
        Self::Fsync,
        Self::Close,
        Self::Rename,
        Self::Unlink,
        Self::Read,
        Self::List,
        Self::Fdatasync,
        Self::Truncate,
        Self::Allocate,
        Self::Msync,
        Self::Lock,
    ];

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::Write => "write",
            Self::Fsync => "fsync",
            Self::Close => "close",
            Self::Rename => "rename",
            Self::Unlink => "unlink",
            Self::Read => "read",
            Self::List => "list",
            Self::Fdatasync => "fdatasync",
            Self::Truncate => "truncate",
            Self::Allocate => "allocate",
            Self::Msync => "msync",
            Self::Lock => "lock",
        }
    }

    fn code(self) -> u64 {
        Self::ALL.iter().position(|op| *op == self).and_then(|at| u64::try_from(at).ok()).unwrap_or(0)
    }

    fn from_code(code: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(code).ok()?).copied()
    }
}

/// Bits of [`Meter::current`] that hold the operation.
const OP_BITS: u32 = 5;

/// What has been counted.
#[derive(Debug)]
pub(super) struct Stats {
    /// Microseconds per operation.
    pub(super) times: BTreeMap<WriterOp, Histogram<u64>>,
    /// Microseconds from when a record was due to its acknowledgement.
    pub(super) ack: Histogram<u64>,
    /// The same, and how many records, since [`Meter::take_interval`] was called last.
    interval: Histogram<u64>,
    interval_records: u64,
    /// When the records were due that are under way, the oldest first.
    due: VecDeque<SimTime>,
    /// Records that were due while an earlier one was under way, and were left out.
    pub(super) missed: u64,
    /// Microseconds of waits for each lock.
    pub(super) lock_waits: BTreeMap<String, Histogram<u64>>,
    /// How often which error came.
    pub(super) errors: BTreeMap<(WriterOp, String), u64>,
    /// Records acknowledged (or read).
    pub(super) records: u64,
    /// Reads that gave something else than was written.
    pub(super) mismatches: u64,
    /// Numbers of records that are written.
    pub(super) written: RoaringTreemap,
    /// Numbers of records that were deleted, by writer.
    pub(super) retired: BTreeMap<String, RoaringTreemap>,
    last_record: SimTime,
    longest_gap: Duration,
}

/// One thread's measurements, which another thread may look at.
#[derive(Debug)]
pub(super) struct Meter {
    name: String,
    clock: Clock,
    journal: Option<Arc<AckLog>>,
    /// 0: nothing; else the microsecond (plus one) at which the operation began, and its code in the low bits.
    current: AtomicU64,
    /// The lock that the thread waits for.
    lock: Mutex<Option<String>>,
    stats: Mutex<Stats>,
}

/// What a thread waits for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) op: WriterOp,
    /// Which lock, if it is one.
    pub(super) lock: Option<String>,
    pub(super) time: Duration,
}

impl Meter {
    pub(super) fn new(name: &str, clock: Clock, journal: Option<Arc<AckLog>>) -> Self {
        let stats = Stats {
            times: BTreeMap::new(),
            ack: microseconds(),
            interval: microseconds(),
            interval_records: 0,
            due: VecDeque::new(),
            missed: 0,
            lock_waits: BTreeMap::new(),
            errors: BTreeMap::new(),
            records: 0,
            mismatches: 0,
            written: RoaringTreemap::new(),
            retired: BTreeMap::new(),
            last_record: clock.now(),
            longest_gap: Duration::ZERO,
        };
        let (current, lock) = (AtomicU64::new(0), Mutex::new(None));
        Self { name: name.to_owned(), clock, journal, current, lock, stats: Mutex::new(stats) }
    }

    /// The writer's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The first number that this writer may give a record: acknowledged ones are never given again.
    pub(super) fn first_free(&self) -> u64 {
        self.journal.as_ref().map_or(0, |journal| journal.first_free(&self.name))
    }

    /// The time on the run's clock.
    pub(super) fn now(&self) -> SimTime {
        self.clock.now()
    }

    /// Does `op` and counts it.
    pub(super) fn time<T>(&self, op: WriterOp, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let (result, took) = self.during(op, call);
        let mut stats = self.stats();
        add_time(&mut stats.times, op, took);
        if let Err(error) = &result {
            *stats.errors.entry((op, error_name(error))).or_default() += 1;
        }
        result
    }

    /// Waits for a lock and counts the wait.
    pub(super) fn wait_for_lock<T>(&self, lock: &str, acquire: impl FnOnce() -> T) -> T {
        *self.lock.lock() = Some(lock.to_owned());
        let (acquired, took) = self.during(WriterOp::Lock, acquire);
        *self.lock.lock() = None;
        let mut stats = self.stats();
        let waits = stats.lock_waits.entry(lock.to_owned()).or_insert_with(microseconds);
        // It grows as needed, so it takes any value.
        let _ = waits.record(took);
        acquired
    }

    /// Shows `op` as under way while `call` runs; its result, and the microseconds that it took.
    fn during<T>(&self, op: WriterOp, call: impl FnOnce() -> T) -> (T, u64) {
        let begun = self.clock.now();
        self.current.store((begun.as_micros() + 1) << OP_BITS | op.code(), Ordering::Release);
        let result = call();
        self.current.store(0, Ordering::Release);
        (result, micros(self.clock.now().since(begun)))
    }

    /// A record that was due at `due` is under way.
    pub(super) fn begun(&self, due: SimTime) {
        self.stats().due.push_back(due);
    }

    /// What was under way failed, and will not be acknowledged.
    pub(super) fn failed(&self) {
        self.stats().due.clear();
    }

    /// Records that were due while the last one was under way, and were left out, waited until now.
    pub(super) fn missed(&self, missed: Missed) {
        let now = self.clock.now();
        let mut stats = self.stats();
        stats.missed += missed.count;
        for (due, count) in missed.dues() {
            stats.acknowledged_after(micros(now.since(due)), count);
        }
    }

    /// These records of this writer are written (with fsync: synced).
    pub(super) fn written(&self, numbers: RangeInclusive<u64>) {
        let count = numbers.end().saturating_sub(*numbers.start()) + 1;
        if let Some(journal) = &self.journal {
            journal.acknowledged(&self.name, &numbers);
        }
        self.stats().written.insert_range(numbers);
        self.progress(count);
    }

    /// These records of this writer are about to be deleted.
    pub(super) fn retired(&self, numbers: RangeInclusive<u64>) {
        self.retired_of(&self.name, numbers);
    }

    /// These records, which another thread has written, are about to be deleted.
    pub(super) fn retired_of(&self, writer: &str, numbers: RangeInclusive<u64>) {
        if let Some(journal) = &self.journal {
            journal.retired(writer, &numbers);
        }
        self.stats().retired.entry(writer.to_owned()).or_default().insert_range(numbers);
    }

    /// Something was read, as it was written or not.
    pub(super) fn read(&self, as_written: bool) {
        self.stats().mismatches += u64::from(!as_written);
        self.progress(1);
    }

    fn progress(&self, count: u64) {
        let now = self.clock.now();
        let mut stats = self.stats();
        stats.records += count;
        stats.interval_records += count;
        stats.longest_gap = stats.longest_gap.max(now.since(stats.last_record));
        stats.last_record = now;
        for _ in 0..count {
            let Some(due) = stats.due.pop_front() else { break };
            stats.acknowledged_after(micros(now.since(due)), 1);
        }
    }

    /// Acknowledgement latencies, those of a thread that still hangs (`every`: its beat) included with their time so far.
    pub(super) fn ack_latency(&self, hangs: bool, every: Option<Duration>) -> Histogram<u64> {
        let now = self.clock.now();
        let stats = self.stats();
        let mut ack = stats.ack.clone();
        let Some(last) = stats.due.back().filter(|_| hangs) else { return ack };
        let missed = every.map(|every| Missed::between(*last + every, now, every));
        let under_way = stats.due.iter().map(|due| (*due, 1));
        for (due, count) in under_way.chain(missed.iter().flat_map(Missed::dues)) {
            // It grows as needed, so it takes any value.
            let _ = ack.record_n(micros(now.since(due)), count);
        }
        ack
    }

    /// Latencies and records acknowledged since the last call, and the longest wait for an acknowledgement now.
    pub(super) fn take_interval(&self) -> (Histogram<u64>, u64, Duration) {
        let now = self.clock.now();
        let mut stats = self.stats();
        let waits = stats.due.front().map_or(Duration::ZERO, |due| now.since(*due));
        let records = std::mem::take(&mut stats.interval_records);
        (std::mem::replace(&mut stats.interval, microseconds()), records, waits)
    }

    /// What the thread waits for now, and for how long.
    pub(super) fn waiting(&self) -> Option<Wait> {
        let current = self.current.load(Ordering::Acquire);
        let begun = (current >> OP_BITS).checked_sub(1)?;
        let op = WriterOp::from_code(current & ((1 << OP_BITS) - 1))?;
        let lock = self.lock.lock().clone().filter(|_| op == WriterOp::Lock);
        Some(Wait { op, lock, time: Duration::from_micros(self.clock.now().as_micros().saturating_sub(begun)) })
    }

    /// The longest time without a record until now, or until `end` if the thread has finished.
    pub(super) fn longest_gap(&self, end: Option<SimTime>) -> Duration {
        let stats = self.stats();
        stats.longest_gap.max(end.unwrap_or_else(|| self.clock.now()).since(stats.last_record))
    }

    pub(super) fn stats(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock()
    }
}

impl Stats {
    fn acknowledged_after(&mut self, us: u64, count: u64) {
        // They grow as needed, so they take any value.
        let _ = self.ack.record_n(us, count);
        let _ = self.interval.record_n(us, count);
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// An empty histogram that grows as needed, three digits exact.
pub(super) fn microseconds() -> Histogram<u64> {
    #[expect(clippy::expect_used, reason = "3 digits are within what the type takes, 0 to 5")]
    Histogram::new(3).expect("three digits")
}

/// Counts an operation that took `us` microseconds.
pub(super) fn add_time(times: &mut BTreeMap<WriterOp, Histogram<u64>>, op: WriterOp, us: u64) {
    // It grows as needed, so it takes any value (`saturating_record` would cut it off instead).
    let _ = times.entry(op).or_insert_with(microseconds).record(us);
}

/// `EIO` and so on where the system gave a number, else what Rust calls it.
fn error_name(error: &io::Error) -> String {
    const NAMES: [(rustix::io::Errno, &str); 9] = [
        (rustix::io::Errno::IO, "EIO"),
        (rustix::io::Errno::NOSPC, "ENOSPC"),
        (rustix::io::Errno::ROFS, "EROFS"),
        (rustix::io::Errno::NOENT, "ENOENT"),
        (rustix::io::Errno::EXIST, "EEXIST"),
        (rustix::io::Errno::ACCESS, "EACCES"),
        (rustix::io::Errno::NOTCONN, "ENOTCONN"),
        (rustix::io::Errno::CONNABORTED, "ECONNABORTED"),
        (rustix::io::Errno::DQUOT, "EDQUOT"),
    ];
    let code = error.raw_os_error();
    let known = NAMES.iter().find(|(errno, _)| code == Some(errno.raw_os_error()));
    known.map_or_else(|| error.to_string(), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_times_are_not_cut_off() {
        let mut times = BTreeMap::new();
        for us in [10, 238_000_000, u64::MAX] {
            add_time(&mut times, WriterOp::Write, us);
        }
        assert_eq!(times[&WriterOp::Write].len(), 3);
        assert!(times[&WriterOp::Write].max() >= u64::MAX / 1000 * 999);
    }

    #[test]
    fn who_waits_can_be_seen() {
        let meter = Meter::new("churn-0", Clock::start(), None);
        assert_eq!(meter.waiting(), None);
        meter
            .time(WriterOp::Rename, || {
                assert_eq!(meter.waiting().map(|wait| wait.op), Some(WriterOp::Rename));
                Ok(())
            })
            .unwrap();
        assert_eq!(meter.waiting(), None);
    }
}
