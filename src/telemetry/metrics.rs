//! LogCounters and histograms of one volume, as Prometheus text. docs/metrics.md defines each.
//!
//! Must not know: HTTP, the engine, who scrapes. Invariant: counting an operation is one uncontended atomic addition; what
//! mirrors the model is refreshed from a [`Snapshot`] when somebody asks.

mod exposition;

pub use exposition::Exposition;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use super::events::EventCounts;
use crate::engine::HoldTimes;
use crate::model::{Penalty, Snapshot};
use crate::op::OpKind;

/// Upper bounds in seconds: from a fast disk's grain to the stun of the incident and `--max-hold`'s default.
const HOLD_BUCKETS: [f64; 18] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 180.0, 600.0];
/// Upper bounds in seconds of how late a reply may be.
const LATENESS_BUCKETS: [f64; 12] =
    [0.00005, 0.0001, 0.0002, 0.0003, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.1, 1.0, 10.0];

type Labelled<M> = Family<[(&'static str, &'static str); 1], M>;
type FloatCounter = Counter<f64, AtomicU64>;
type FloatGauge = Gauge<f64, AtomicU64>;

/// What is not in the model's snapshot but shown beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mirrored {
    /// Bytes of held writes in memory.
    pub held_memory_bytes: u64,
    /// Bytes of held writes in the temporary file.
    pub held_spill_bytes: u64,
    /// What became of the events.
    pub events: EventCounts,
}

/// The metrics of a volume.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    operations: Arc<OpCounter>,
    held: Arc<OpCounter>,
    refused: Arc<OpCounter>,
    hold_seconds: Histogram,
    lateness: Histogram,
    late: Counter,
    penalty: PenaltyCounters,
    mirror: Mirror,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("stunfs");
        let metrics = Self {
            operations: OpCounter::register(&mut registry, "operations", "File-system operations that came in"),
            held: OpCounter::register(&mut registry, "held", "Operations that were held back"),
            refused: OpCounter::register(&mut registry, "refused", "Operations refused for want of space"),
            hold_seconds: Histogram::new(HOLD_BUCKETS),
            lateness: Histogram::new(LATENESS_BUCKETS),
            late: with(&mut registry, "late_releases", "Holds that were taken up more than 100 ms after their release"),
            penalty: PenaltyCounters::register(&mut registry),
            mirror: Mirror::register(&mut registry),
            registry: Registry::default(),
        };
        registry.register("hold_seconds", "How long held operations were held", metrics.hold_seconds.clone());
        let help = "How much later than due held operations were answered";
        registry.register("release_lateness_seconds", help, metrics.lateness.clone());
        let info = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running program", info);
        Self { registry, ..metrics }
    }

    /// An operation came in.
    pub fn operation(&self, op: OpKind) {
        self.operations.add(op);
    }

    /// An operation is held from now on.
    pub fn hold(&self, op: OpKind) {
        self.held.add(op);
    }

    /// An operation was refused for want of space.
    pub fn refuse(&self, op: OpKind) {
        self.refused.add(op);
    }

    /// A held operation has been answered.
    pub fn answer(&self, times: &HoldTimes, penalty: &Penalty) {
        self.hold_seconds.observe(times.answered.since(times.requested).as_secs_f64());
        self.lateness.observe(times.answered.since(times.due).as_secs_f64());
        self.penalty.add(penalty);
        if times.late().is_some() {
            self.late.inc();
        }
    }

    /// Operations of that kind that came in so far.
    pub fn operations(&self, op: OpKind) -> u64 {
        self.operations.sum(op)
    }

    /// OpenMetrics text, with the model as it is in `snapshot`.
    pub fn render(&self, snapshot: &Snapshot, mirrored: &Mirrored) -> String {
        self.mirror.refresh(snapshot, mirrored);
        let mut out = String::with_capacity(16 << 10);
        // Writing to a String fails only if a collector says so, and ours have nothing to say.
        let _ = text::encode(&mut out, &self.registry);
        out
    }
}

/// Shards of a counter by operation. A power of two.
const SHARDS: usize = 8;

/// One thread's share of a counter, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct CounterShard([AtomicU64; OpKind::ALL.len()]);

/// A counter with the label `op`; additions from different threads do not meet.
#[derive(Debug)]
struct OpCounter {
    name: &'static str,
    help: &'static str,
    shards: [CounterShard; SHARDS],
}

impl OpCounter {
    fn register(registry: &mut Registry, name: &'static str, help: &'static str) -> Arc<Self> {
        let counter = Arc::new(Self { name, help, shards: Default::default() });
        registry.register_collector(Box::new(Arc::clone(&counter)));
        counter
    }

    fn add(&self, op: OpKind) {
        self.shards[shard()].0[op.index()].fetch_add(1, Relaxed);
    }

    fn sum(&self, op: OpKind) -> u64 {
        self.shards.iter().map(|shard| shard.0[op.index()].load(Relaxed)).sum()
    }
}

impl Collector for OpCounter {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut family = encoder.encode_descriptor(self.name, self.help, None, MetricType::Counter)?;
        for op in OpKind::ALL {
            ConstCounter::new(self.sum(op)).encode(family.encode_family(&[("op", op.name())])?)?;
        }
        Ok(())
    }
}

/// The calling thread's shard. Where a thread's own variables lie tells threads apart without any shared state.
fn shard() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    let address = HERE.with(|here| std::ptr::from_ref(here).addr());
    // Thread stacks are megabytes apart with like low bits: fold the higher ones in.
    ((address >> 12) ^ (address >> 21) ^ (address >> 24)) % SHARDS
}

/// A part of a penalty: its name in the label, and how long it was.
type PenaltyPart = (&'static str, fn(&Penalty) -> Duration);

const PARTS: [PenaltyPart; 5] = [
    ("latency", |penalty| penalty.latency),
    ("zeroing", |penalty| penalty.zeroing),
    ("queue", |penalty| penalty.queue),
    ("space", |penalty| penalty.space),
    ("stun", |penalty| penalty.stun),
];

/// One for each of [`PARTS`].
#[derive(Debug)]
struct PenaltyCounters([FloatCounter; PARTS.len()]);

impl PenaltyCounters {
    fn register(registry: &mut Registry) -> Self {
        let family = Labelled::<FloatCounter>::default();
        let counters = PARTS.map(|(name, _)| family.get_or_create(&[("part", name)]).clone());
        registry.register("penalty_seconds", "What answered operations had waited for, by part", family);
        Self(counters)
    }

    fn add(&self, penalty: &Penalty) {
        let waited = PARTS.map(|(_, part)| part(penalty));
        for (counter, waited) in self.0.iter().zip(waited).filter(|(_, waited)| *waited > Duration::ZERO) {
            counter.inc_by(waited.as_secs_f64());
        }
    }
}

/// What is taken over from the model and its surroundings at each scrape.
#[derive(Debug)]
struct Mirror {
    held: Gauge,
    held_memory: Gauge,
    held_spill: Gauge,
    pool_used: Gauge,
    pool_size: FloatGauge,
    pool_reusable: Gauge,
    queue_wait: FloatGauge,
    stunned: Gauge,
    armed: Gauge,
    provisioned: Counter,
    stuns: Counter,
    events: Counter,
    dropped: Counter,
}

impl Mirror {
    fn register(registry: &mut Registry) -> Self {
        let held_bytes = Labelled::<Gauge>::default();
        let place = |name| held_bytes.get_or_create(&[("where", name)]).clone();
        let (held_memory, held_spill) = (place("memory"), place("spill"));
        registry.register("held_bytes", "Data of held writes, by where it waits", held_bytes);
        Self {
            held: with(registry, "held_operations", "Operations that are held now"),
            held_memory,
            held_spill,
            pool_used: with(registry, "pool_used_bytes", "Provisioned space"),
            pool_size: with(registry, "pool_size_bytes", "The thin pool's size, inf: without limit"),
            pool_reusable: with(registry, "pool_reusable_bytes", "Provisioned space that no file uses"),
            queue_wait: with(registry, "queue_wait_seconds", "How long a first write would wait for its turn now"),
            stunned: with(registry, "stunned", "1 while a stun is in force"),
            armed: with(registry, "armed", "1 while injection is on"),
            provisioned: with(registry, "grains_provisioned", "Grains provisioned since the mount"),
            stuns: with(registry, "stuns", "Stuns since the mount"),
            events: with(registry, "events", "Events told, dropped ones included"),
            dropped: with(registry, "events_dropped", "Events missing from the event log"),
        }
    }

    fn refresh(&self, snapshot: &Snapshot, mirrored: &Mirrored) {
        let pool = &snapshot.pool;
        self.held.set(signed(snapshot.held));
        self.held_memory.set(signed(mirrored.held_memory_bytes));
        self.held_spill.set(signed(mirrored.held_spill_bytes));
        self.pool_used.set(signed(pool.used_bytes));
        self.pool_size.set(pool.size_bytes.map_or(f64::INFINITY, float));
        self.pool_reusable.set(signed(pool.reusable_bytes));
        self.queue_wait.set(snapshot.queue_wait.as_secs_f64());
        self.stunned.set(i64::from(snapshot.stunned_until.is_some()));
        self.armed.set(i64::from(snapshot.armed && !snapshot.expired));
        self.provisioned.inner().store(snapshot.provisioned, Relaxed);
        self.stuns.inner().store(snapshot.stuns, Relaxed);
        self.events.inner().store(mirrored.events.emitted, Relaxed);
        self.dropped.inner().store(mirrored.events.dropped + mirrored.events.lost, Relaxed);
    }
}

/// A metric under a name of the registry.
fn with<M: Metric + Default + Clone>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a double; sizes below 8 PiB are exact")]
const fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests;
