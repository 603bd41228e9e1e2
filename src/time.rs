//! The only place that reads a clock or sleeps.
//!
//! Must not know: what is timed. Invariant: a [`SimTime`] never goes backwards, whatever the wall clock does.

use std::ops::Add;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

/// Nanoseconds since a volume's clock was started (`CLOCK_MONOTONIC`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SimTime(pub u64);

impl SimTime {
    /// The start of the clock.
    pub const ZERO: Self = Self(0);
    /// A moment that never comes.
    pub const MAX: Self = Self(u64::MAX);

    /// `ms` milliseconds after the start.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms * 1_000_000)
    }
    /// The time from `earlier` to this, zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
    /// Microseconds since the start.
    pub const fn as_micros(self) -> u64 {
        self.0 / 1000
    }
}

impl Add<Duration> for SimTime {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A volume's clock: monotonic, with the wall-clock time of its start.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    started_wall: SystemTime,
}

impl Clock {
    /// Starts a clock now.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads a clock")]
    pub fn start() -> Self {
        Self { started: Instant::now(), started_wall: SystemTime::now() }
    }
    /// The time since the start.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads a clock")]
    pub fn now(&self) -> SimTime {
        let nanos = Instant::now().duration_since(self.started).as_nanos();
        SimTime(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
    /// Wall-clock time of the start.
    pub const fn started_wall(&self) -> SystemTime {
        self.started_wall
    }
}

/// Sleeps. Never call this on a thread that serves FUSE requests.
#[expect(clippy::disallowed_methods, reason = "this is the one place that sleeps")]
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// `CLOCK_MONOTONIC` itself, the clock of the kernel log's time stamps (within a few milliseconds).
pub fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// The wall-clock time now, for names and stamps only.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads a clock")]
pub fn wall_now() -> SystemTime {
    SystemTime::now()
}

/// A moment after which something is given up.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// `after` from now.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads a clock")]
    pub fn after(after: Duration) -> Self {
        Self(Instant::now() + after)
    }
    /// What is left, zero once it has passed.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads a clock")]
    pub fn left(&self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
    /// Whether it has passed.
    pub fn passed(&self) -> bool {
        self.left().is_zero()
    }
}

/// Calls `ready` every `every` until it answers true or `within` has passed; whether it answered true.
pub fn wait_until(within: Duration, every: Duration, mut ready: impl FnMut() -> bool) -> bool {
    let deadline = Deadline::after(within);
    loop {
        if ready() {
            return true;
        }
        if deadline.passed() {
            return false;
        }
        pause(every.min(deadline.left()));
    }
}
