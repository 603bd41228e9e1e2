//! What one thread suffers: the time of each operation, the gaps between records, what it was told is written.
//!
//! Must not know: what is written. Invariant: the thread holds no lock while it waits for the file system, so that
//! others can always see what it waits for.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::{Mutex, MutexGuard};
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};

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
}

impl WriterOp {
    /// All of them; an operation's code is its place here.
    pub const ALL: [Self; 9] = [
        Self::Open,
        Self::Create,
        Self::Write,
        Self::Fsync,
        Self::Close,
        Self::Rename,
        Self::Unlink,
        Self::Read,
        Self::List,
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
const OP_BITS: u32 = 4;

/// What has been counted.
#[derive(Debug)]
pub(super) struct Stats {
    /// Microseconds per operation.
    pub(super) times: BTreeMap<WriterOp, Histogram<u64>>,
    /// How often which error came.
    pub(super) errors: BTreeMap<(WriterOp, String), u64>,
    /// Records acknowledged (or read).
    pub(super) records: u64,
    /// Reads that gave something else than was written.
    pub(super) mismatches: u64,
    /// Numbers of records that must still be there.
    pub(super) kept: RoaringTreemap,
    last_record: SimTime,
    longest_gap: Duration,
}

/// One thread's measurements, which another thread may look at.
#[derive(Debug)]
pub(super) struct Meter {
    clock: Clock,
    /// 0: nothing; else the microsecond (plus one) at which the operation began, and its code in the low bits.
    current: AtomicU64,
    stats: Mutex<Stats>,
}

impl Meter {
    pub(super) fn new(clock: Clock) -> Self {
        let stats = Stats {
            times: BTreeMap::new(),
            errors: BTreeMap::new(),
            records: 0,
            mismatches: 0,
            kept: RoaringTreemap::new(),
            last_record: clock.now(),
            longest_gap: Duration::ZERO,
        };
        Self { clock, current: AtomicU64::new(0), stats: Mutex::new(stats) }
    }

    /// Does `op` and counts it.
    pub(super) fn time<T>(&self, op: WriterOp, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let begun = self.clock.now();
        self.current.store((begun.as_micros() + 1) << OP_BITS | op.code(), Ordering::Release);
        let result = call();
        self.current.store(0, Ordering::Release);
        let took = self.clock.now().since(begun);
        let mut stats = self.stats();
        add_time(&mut stats.times, op, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        if let Err(error) = &result {
            *stats.errors.entry((op, error_name(error))).or_default() += 1;
        }
        result
    }

    /// These records are written (with fsync: synced).
    pub(super) fn written(&self, numbers: RangeInclusive<u64>) {
        let count = numbers.end().saturating_sub(*numbers.start()) + 1;
        self.stats().kept.insert_range(numbers);
        self.progress(count);
    }

    /// These records are about to be deleted.
    pub(super) fn retired(&self, numbers: RangeInclusive<u64>) {
        self.stats().kept.remove_range(numbers);
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
        stats.longest_gap = stats.longest_gap.max(now.since(stats.last_record));
        stats.last_record = now;
    }

    /// What the thread waits for now, and for how long.
    pub(super) fn waiting(&self) -> Option<(WriterOp, Duration)> {
        let current = self.current.load(Ordering::Acquire);
        let begun = (current >> OP_BITS).checked_sub(1)?;
        let op = WriterOp::from_code(current & ((1 << OP_BITS) - 1))?;
        Some((op, Duration::from_micros(self.clock.now().as_micros().saturating_sub(begun))))
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

/// Counts an operation that took `us` microseconds.
pub(super) fn add_time(times: &mut BTreeMap<WriterOp, Histogram<u64>>, op: WriterOp, us: u64) {
    if let Entry::Vacant(entry) = times.entry(op)
        && let Ok(empty) = Histogram::new(3)
    {
        entry.insert(empty);
    }
    if let Some(times) = times.get_mut(&op) {
        // It grows as needed, so it takes any value (`saturating_record` would cut it off instead).
        let _ = times.record(us);
    }
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
        let meter = Meter::new(Clock::start());
        assert_eq!(meter.waiting(), None);
        meter
            .time(WriterOp::Rename, || {
                assert_eq!(meter.waiting().map(|(op, _)| op), Some(WriterOp::Rename));
                Ok(())
            })
            .unwrap();
        assert_eq!(meter.waiting(), None);
    }
}
