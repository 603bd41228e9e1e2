//! Hears what the engine does, writes it into the event log, the metrics, the summary and the record of pool use, and
//! wakes the freezer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;

use super::state::StateStore;
use super::stun_freezer::StunFreezer;
use crate::engine::{EngineObserver, EngineReport, EngineStatus, HoldTimes};
use crate::model::{ModelNotice, Penalty, PoolUse};
use crate::op::OpKind;
use crate::telemetry::events::EventLog;
use crate::telemetry::metrics::Metrics;
use crate::units::Bytes;

/// What a volume has done so far, in numbers.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Summary {
    /// The seed.
    pub seed: u64,
    /// Operations that came in.
    pub operations: u64,
    /// Operations that were held and have been answered.
    pub held: u64,
    /// Operations that are held now.
    pub held_now: u64,
    /// Holds that the harness itself took up more than 100 ms after their release.
    pub late: u64,
    /// Operations that were refused (pool or virtual disk full).
    pub refused: u64,
    /// The longest hold.
    #[serde(rename = "longest_hold_us", serialize_with = "as_micros")]
    pub longest_hold: Duration,
    /// All holds together.
    #[serde(rename = "total_hold_us", serialize_with = "as_micros")]
    pub total_hold: Duration,
    /// All holds together, by part.
    pub parts: HoldParts,
    /// Grains provisioned since the mount, held for or not.
    pub grains: u64,
    /// The pool.
    pub pool: PoolUse,
    /// Stuns since the mount.
    pub stuns: u64,
    /// Events that a full queue dropped.
    pub events_dropped: u64,
}

/// What held operations waited for, by part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct HoldParts {
    /// Latency samples.
    #[serde(rename = "latency_us", serialize_with = "as_micros")]
    pub latency: Duration,
    /// Zeroing of new grains.
    #[serde(rename = "zeroing_us", serialize_with = "as_micros")]
    pub zeroing: Duration,
    /// The pool's queue.
    #[serde(rename = "queue_us", serialize_with = "as_micros")]
    pub queue: Duration,
    /// Space in the pool.
    #[serde(rename = "space_us", serialize_with = "as_micros")]
    pub space: Duration,
    /// The end of stuns.
    #[serde(rename = "stun_us", serialize_with = "as_micros")]
    pub stun: Duration,
}

fn as_micros<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

#[derive(Debug, Default)]
struct Totals {
    held: AtomicU64,
    late: AtomicU64,
    refused: AtomicU64,
    longest_ns: AtomicU64,
    total_ns: AtomicU64,
    latency_ns: AtomicU64,
    zeroing_ns: AtomicU64,
    queue_ns: AtomicU64,
    space_ns: AtomicU64,
    stun_ns: AtomicU64,
}

/// The observer of a volume's engine.
#[derive(Debug)]
pub(super) struct VolumeObserver {
    pub(super) log: EventLog,
    pub(super) metrics: Metrics,
    state: Arc<StateStore>,
    freezer: Arc<StunFreezer>,
    totals: Totals,
}

impl VolumeObserver {
    pub(super) fn new(log: EventLog, state: Arc<StateStore>, freezer: Arc<StunFreezer>) -> Self {
        Self { log, metrics: Metrics::new(), state, freezer, totals: Totals::default() }
    }

    /// Operations that were held and have been answered.
    pub(super) fn held(&self) -> u64 {
        self.totals.held.load(Relaxed)
    }

    pub(super) fn summary(&self, status: &EngineStatus) -> Summary {
        let duration = |nanos: &AtomicU64| Duration::from_nanos(nanos.load(Relaxed));
        let totals = &self.totals;
        Summary {
            seed: status.config.seed,
            operations: OpKind::ALL.iter().map(|kind| self.metrics.operations(*kind)).sum(),
            held: self.held(),
            held_now: status.model.held,
            late: totals.late.load(Relaxed),
            refused: totals.refused.load(Relaxed),
            longest_hold: duration(&totals.longest_ns),
            total_hold: duration(&totals.total_ns),
            parts: HoldParts {
                latency: duration(&totals.latency_ns),
                zeroing: duration(&totals.zeroing_ns),
                queue: duration(&totals.queue_ns),
                space: duration(&totals.space_ns),
                stun: duration(&totals.stun_ns),
            },
            grains: status.model.provisioned,
            pool: status.model.pool,
            stuns: status.model.stuns,
            events_dropped: self.log.counts().dropped,
        }
    }

    fn answered(&self, times: &HoldTimes, penalty: &Penalty) {
        self.metrics.answer(times, penalty);
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let waited = nanos(times.answered.since(times.requested));
        let totals = &self.totals;
        totals.held.fetch_add(1, Relaxed);
        totals.late.fetch_add(u64::from(times.late().is_some()), Relaxed);
        totals.longest_ns.fetch_max(waited, Relaxed);
        totals.total_ns.fetch_add(waited, Relaxed);
        totals.latency_ns.fetch_add(nanos(penalty.latency), Relaxed);
        totals.zeroing_ns.fetch_add(nanos(penalty.zeroing), Relaxed);
        totals.queue_ns.fetch_add(nanos(penalty.queue), Relaxed);
        totals.space_ns.fetch_add(nanos(penalty.space), Relaxed);
        totals.stun_ns.fetch_add(nanos(penalty.stun), Relaxed);
    }
}

impl EngineObserver for VolumeObserver {
    fn report(&self, report: EngineReport) {
        match &report {
            EngineReport::Answered(hold) => self.answered(&hold.times, &hold.penalty),
            EngineReport::Refused(operation, _) => {
                self.metrics.refuse(operation.kind);
                self.totals.refused.fetch_add(1, Relaxed);
            }
            EngineReport::Notice(ModelNotice::StunBegan { .. } | ModelNotice::StunEnded { .. }) => self.freezer.nudge(),
            _ => {}
        }
        self.log.emit(report.into());
    }

    fn operation(&self, kind: OpKind) {
        self.metrics.operation(kind);
    }

    fn held(&self, kind: OpKind) {
        self.metrics.hold(kind);
    }

    fn pool_use_may_reach(&self, bound: Bytes) {
        self.state.keep_floor(bound);
    }
}
