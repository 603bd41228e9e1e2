//! What is on record of the pool's use, in case this process is killed: a bound that the use never passes unrecorded.
//!
//! What is to be recorded is decided with the model's lock held, and written without it: a slow disk below the record holds up
//! only operations that depend on it.
//!
//! Must not know: where it is recorded. Invariant: it is recorded before anything that depends on it is answered, and
//! seldom: for some grains ahead.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use parking_lot::Mutex;

use super::EngineObserver;
use crate::model::{Model, ModelConfig};
use crate::units::Bytes;

/// At most this much more than the use is recorded, in bytes and in grains: what a crash overstates.
const AHEAD_BYTES: u64 = 16 << 20;
const AHEAD_GRAINS: u64 = 64;
/// No bound is on record.
const NOTHING: u64 = u64::MAX;

/// The bound on record.
#[derive(Debug, Default)]
pub(super) struct UsageBound {
    /// Changes only with the model's lock held.
    wanted: AtomicU64,
    recorded: AtomicU64,
    writing: Mutex<()>,
}

impl UsageBound {
    /// After any change of the model, with its lock held: decides whether another bound is needed.
    pub(super) fn decide(&self, model: &Model) {
        let (used, bound) = (model.provisioned().0, self.wanted.load(SeqCst));
        let loose = used.saturating_add(4 * ahead(model.config()).max(1)) < bound;
        if used > bound || loose {
            self.wanted.store(bound_for(used, model.config()), SeqCst);
        }
    }

    /// With the model's lock held: a bound has to be recorded, whatever is on record.
    pub(super) fn renew(&self, model: &Model) {
        self.wanted.store(bound_for(model.provisioned().0, model.config()), SeqCst);
        self.recorded.store(NOTHING, SeqCst);
    }

    /// With the model's lock given back, and before anything is answered: records the bound. A thread that finds another one
    /// writing it waits for that.
    pub(super) fn record(&self, observer: &dyn EngineObserver) {
        if self.wanted.load(SeqCst) == self.recorded.load(SeqCst) {
            return;
        }
        let _one_at_a_time = self.writing.lock();
        let wanted = self.wanted.load(SeqCst);
        if self.recorded.load(SeqCst) != wanted {
            observer.pool_use_may_reach(Bytes(wanted));
            self.recorded.store(wanted, SeqCst);
        }
    }
}

fn ahead(config: &ModelConfig) -> u64 {
    let grain = config.grain.bytes().0;
    AHEAD_BYTES.min(AHEAD_GRAINS.saturating_mul(grain)) / grain * grain
}

/// Some grains more than is in use, at most the pool.
fn bound_for(used: u64, config: &ModelConfig) -> u64 {
    let most = config.pool.map_or(u64::MAX, |pool| pool.0.max(used));
    used.saturating_add(ahead(config)).min(most)
}
