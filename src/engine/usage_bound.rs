//! What is on record of the pool's use, in case this process is killed: a bound that the use never passes unrecorded.
//!
//! Must not know: where it is recorded. Invariant: it is recorded before anything that depends on it is answered, and
//! seldom: for some grains ahead.

use super::{Core, Observer};
use crate::model::ModelConfig;
use crate::units::Bytes;

/// At most this much more than the use is recorded, in bytes and in grains: what a crash overstates.
const AHEAD_BYTES: u64 = 16 << 20;
const AHEAD_GRAINS: u64 = 64;

/// The bound on record.
#[derive(Debug, Default)]
pub(super) struct UsageBound {
    bound: u64,
}

impl Core {
    /// After any change of the model, with the lock held: the use may not be above what is on record.
    pub(super) fn reserve_usage(&mut self, observer: &dyn Observer) {
        let used = self.model.provisioned().0;
        let ahead = ahead(self.model.config());
        let loose = used.saturating_add(4 * ahead.max(1)) < self.usage_bound.bound;
        if used > self.usage_bound.bound || loose {
            self.record_usage_bound(observer);
        }
    }

    /// Records a bound, whatever is on record.
    pub(super) fn record_usage_bound(&mut self, observer: &dyn Observer) {
        let config = self.model.config();
        self.usage_bound.bound = bound(self.model.provisioned().0, ahead(config), config);
        observer.pool_use_may_reach(Bytes(self.usage_bound.bound));
    }
}

fn ahead(config: &ModelConfig) -> u64 {
    let grain = config.grain.bytes().0;
    AHEAD_BYTES.min(AHEAD_GRAINS.saturating_mul(grain)) / grain * grain
}

/// Some grains more than is in use, at most the pool.
fn bound(used: u64, ahead: u64, config: &ModelConfig) -> u64 {
    let most = config.pool.map_or(u64::MAX, |pool| pool.0.max(used));
    used.saturating_add(ahead).min(most)
}
