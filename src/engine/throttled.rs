//! Whether the backing makes writers wait just now: its kernel does so when too much is dirty.
//!
//! Must not know: the backing. Invariant: it can be wrong for a moment either way; then a write costs a copy that it need not,
//! or one thread waits.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::time::{Clock, SimTime};

/// A write into the page cache takes microseconds. One of this length has been made to wait.
const WAITED: Duration = Duration::from_millis(20);
/// Then those that come within this time are expected to wait, too.
const LASTS: Duration = Duration::from_millis(100);

/// The end of the time for which writes are expected to wait, in microseconds; 0: they are not.
#[derive(Debug, Default)]
pub(super) struct Throttled(AtomicU64);

impl Throttled {
    /// A write took from `began` to `ended`.
    pub(super) fn note(&self, began: SimTime, ended: SimTime) {
        if ended.since(began) > WAITED {
            self.0.store((ended + LASTS).as_micros(), Relaxed);
        }
    }

    /// Whether a write that comes now is likely to wait.
    pub(super) fn now(&self, clock: &Clock) -> bool {
        let until = self.0.load(Relaxed);
        if until == 0 {
            return false;
        }
        let lasts = clock.now().as_micros() < until;
        if !lasts {
            self.0.store(0, Relaxed);
        }
        lasts
    }
}
