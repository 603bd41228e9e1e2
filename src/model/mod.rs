//! The model of thin storage: an operation and the time go in, a verdict comes out.
//!
//! Must not know: threads, clocks, locks, files, sockets. Invariant: a penalty is a pure function of the seed and of
//! what is provisioned, whatever the threads do; every held operation comes out exactly once.
//!
//! ```text
//!  op, now ──> Mapping: which grains are new? ──> Pool: is there room? ──> Lanes: whose turn is it? ──> HoldQueue ──> Release
//!              (DirectMapping | PackedMapping)                     (or Waiters)             InFlight: ready when?      (StunState: a gate)
//! ```
//!
//! Time is an argument. Times that are earlier than one seen before are taken as that one. After every call that takes
//! `&mut self`, ask [`Model::poll_timeout`] again, and [`Model::take_notices`].

mod block_allocator;
mod commands;
mod config;
mod direct_mapping;
mod duration_micros;
mod extent_codec;
mod extent_map;
mod file_extents;
mod first_read;
mod free_space_map;
mod grains;
mod hold_queue;
mod inflight;
mod lanes;
mod latency;
mod mapping;
mod op;
mod packed_mapping;
mod pool;
mod pool_checkpoint;
mod provision_plan;
mod space;
mod stun;
mod timer;
mod verdict;
mod waiters;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use config::{CheckedConfig, ConfigError, ModelConfig, OnFull, Placement, Scope, StunTrigger};
pub use latency::{LONGEST, Latency};
pub use op::{
    Access, FileKey, Gate, ModelNotice, ModelOp, OpId, Penalty, Pending, PoolUse, Refusal, Release, ReleaseCause,
    Snapshot, StunCause, Verdict, VirtualSpace,
};
pub use pool_checkpoint::PoolCheckpoint;

use first_read::FirstReads;
use hold_queue::HoldQueue;
use inflight::GrainsInProgress;
use lanes::Lanes;
use mapping::Mapping;
use pool::Pool;
use provision_plan::ProvisionPlan;
use stun::StunState;
use waiters::Waiters;

use crate::seed::Stream;
use crate::time::SimTime;

/// A volume's thin storage.
#[derive(Debug)]
pub struct Model {
    config: ModelConfig,
    streams: Streams,
    /// How long zeroing one grain takes.
    zeroing: Duration,
    expired: bool,
    expires_at: Option<SimTime>,
    /// The latest time that was passed in.
    clock: SimTime,
    mapping: Mapping,
    /// Data that was there at mount, as far as it was found, in bytes.
    found: u64,
    pool: Pool,
    lanes: Lanes,
    provisioning: GrainsInProgress,
    fetching: GrainsInProgress,
    first_reads: FirstReads,
    queue: HoldQueue,
    waiters: Waiters,
    stun: StunState,
    counters: ModelCounters,
    notices: Vec<ModelNotice>,
    /// Kept for its memory.
    plan: ProvisionPlan,
}

/// The random streams; each draw goes by the identity of what it is about.
#[derive(Debug)]
struct Streams {
    first_write: Stream,
    first_read: Stream,
    stun: Stream,
    share_of_grains: Stream,
    share_of_ops: Stream,
}

impl Streams {
    fn new(seed: u64) -> Self {
        let stream = |name| Stream::new(seed, name);
        Self {
            first_write: stream("first-write"),
            first_read: stream("first-read"),
            stun: stream("stun"),
            share_of_grains: stream("share-of-grains"),
            share_of_ops: stream("share-of-ops"),
        }
    }
}

/// What was counted; all but `provisioned` goes on across a clean unmount.
#[derive(Debug, Default, Clone, Copy)]
struct ModelCounters {
    /// Penalties drawn.
    draws: u64,
    /// Grains that a penalty was drawn for when they were provisioned.
    penalised: u64,
    /// Operations that the share was drawn for.
    ops: u64,
    /// Grains provisioned since mount.
    provisioned: u64,
}

impl Model {
    /// An empty volume at time zero; `ttl` counts from there.
    pub fn new(config: CheckedConfig) -> Self {
        Self::with(config.into())
    }

    /// For a configuration that was checked.
    fn with(config: ModelConfig) -> Self {
        Self {
            streams: Streams::new(config.seed),
            zeroing: Self::zeroing_time(&config),
            expired: false,
            expires_at: config.ttl.map(|ttl| SimTime::ZERO + ttl),
            clock: SimTime::ZERO,
            mapping: Mapping::new(&config),
            found: 0,
            pool: Pool::new(config.grain, config.pool, config.low_water_percent),
            lanes: Lanes::new(config.lanes),
            provisioning: GrainsInProgress::default(),
            fetching: GrainsInProgress::default(),
            first_reads: FirstReads::new(config.grain),
            queue: HoldQueue::new(config.max_hold),
            waiters: Waiters::default(),
            stun: StunState::default(),
            counters: ModelCounters::default(),
            notices: Vec::new(),
            plan: ProvisionPlan::default(),
            config,
        }
    }

    /// A volume that injects nothing; it cannot fail, since the default configuration is a sound one.
    pub fn disarmed() -> Self {
        Self::with(ModelConfig { armed: false, ..ModelConfig::default() })
    }

    fn zeroing_time(config: &ModelConfig) -> Duration {
        config.zeroing.map_or(Duration::ZERO, |rate| rate.time_for(config.grain.bytes()))
    }

    /// What it imitates, as last changed.
    pub const fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Which operations need a verdict just now. It can change with every call that takes `&mut self`.
    pub fn gate(&self) -> Gate {
        if self.expired {
            return Gate::default();
        }
        let volume = self.config.scope == Scope::Volume && self.provisioning.latest() > self.clock;
        let everything = self.config.armed && (self.stun.until().is_some() || volume);
        Gate { everything, reads: everything || self.config.first_read.is_some() }
    }

    /// What happened since the last call, in order.
    pub fn take_notices(&mut self) -> Vec<ModelNotice> {
        std::mem::take(&mut self.notices)
    }

    /// What can be seen from outside at `now`.
    pub fn snapshot(&self, now: SimTime) -> Snapshot {
        let now = now.max(self.clock);
        Snapshot {
            armed: self.config.armed && !self.expired,
            expired: self.expired,
            stunned_until: self.stun.until().filter(|_| self.stun.holds(now)),
            held: self.queue.len() as u64,
            waiting_for_space: self.waiters.len() as u64,
            pool: self.pool_use(),
            queue_wait: self.lanes.free_from(now).since(now),
            draws: self.counters.draws,
            provisioned: self.counters.provisioned,
            stuns: self.stun.count(),
        }
    }

    /// What a held operation waits for; `None` if it is not held.
    pub fn pending(&self, id: OpId) -> Option<Pending> {
        self.queue.pending(id)
    }

    /// The virtual disk's space; `None` if the configuration gives it no size.
    pub fn statfs(&self) -> Option<VirtualSpace> {
        let total = self.config.virtual_size?.0;
        Some(VirtualSpace { total, used: self.mapping.virtual_used(self.found).min(total) })
    }

    /// Takes the time in; what it is.
    fn tick(&mut self, now: SimTime) -> SimTime {
        self.clock = self.clock.max(now);
        self.provisioning.purge(self.clock);
        self.fetching.purge(self.clock);
        self.clock
    }

    /// Whether operations can be held or refused at `now`.
    fn injecting(&self, now: SimTime) -> bool {
        self.config.armed && !self.expired && self.expires_at.is_none_or(|at| at > now)
    }
}
