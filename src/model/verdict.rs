//! An operation comes in: pass, hold, or fail.
//!
//! Must not know: who asks, or what becomes of the answer. Invariant: what is not selected, or comes while injection is
//! off, is recorded and passes.

use std::time::Duration;

use super::config::{OnFull, Placement, Scope, StunTrigger};
use super::op::{Access, FileKey, ModelNotice, ModelOp, Penalty, Refusal, StunCause, Verdict};
use super::provision_plan::ProvisionPlan;
use super::waiters::SpaceWaiter;
use super::{Model, ModelCounters};
use crate::seed::DrawKey;
use crate::time::SimTime;
use crate::units::{BLOCK_BYTES, ByteRange};

/// No operation provisions more grains than this: what asks for more (an absurd `fallocate`; a write cannot) finds the
/// disk full, rather than the model busy for minutes.
const MOST_GRAINS: u64 = 1 << 22;

/// What an operation has to wait for.
#[derive(Debug)]
struct WaitReason {
    ready: SimTime,
    penalty: Penalty,
    /// Whether the share of operations that are hit takes it in; `None`: not drawn yet.
    hit: Option<bool>,
}

impl WaitReason {
    const fn none(now: SimTime) -> Self {
        let penalty = Penalty {
            latency: Duration::ZERO,
            zeroing: Duration::ZERO,
            queue: Duration::ZERO,
            space: Duration::ZERO,
            stun: Duration::ZERO,
            grains: 0,
            first_grain: None,
        };
        Self { ready: now, penalty, hit: None }
    }

    /// It makes grain `index` ready at `ready`.
    fn for_own(&mut self, index: u64, ready: SimTime, queue: Duration, latency: Duration, zeroing: Duration) {
        self.penalty.grains = self.penalty.grains.saturating_add(1);
        self.penalty.first_grain.get_or_insert(index);
        if ready > self.ready {
            self.ready = ready;
            (self.penalty.queue, self.penalty.latency, self.penalty.zeroing) = (queue, latency, zeroing);
        }
    }

    /// Somebody else makes grain `index` ready at `ready`.
    fn for_other(&mut self, now: SimTime, index: u64, ready: SimTime) {
        if ready > self.ready {
            self.ready = ready;
            self.penalty.first_grain.get_or_insert(index);
            self.penalty.queue = ready.since(now);
            (self.penalty.latency, self.penalty.zeroing) = (Duration::ZERO, Duration::ZERO);
        }
    }
}

impl Model {
    /// What becomes of `op` at `now`. Numbers of held operations are consecutive, in order of arrival.
    ///
    /// What is written to a file that was neither created nor learned is taken as written to a new, empty file. A
    /// `fallocate` that would provision more than 4,194,304 grains is refused as too large for the disk.
    pub fn submit(&mut self, now: SimTime, op: ModelOp) -> Verdict {
        let now = self.arrive(now);
        let hits = op.selected && self.injecting(now);
        match op.access {
            Access::Write(file, range) => self.submit_write(now, file, range, hits),
            Access::Allocate(file, range) if self.config.fallocate_provisions => {
                self.submit_write(now, file, range, hits)
            }
            Access::Read(file, range) => self.submit_read(now, file, range, hits),
            Access::Allocate(..) | Access::Meta if hits => self.answer(now, WaitReason::none(now)),
            Access::Allocate(..) | Access::Meta => Verdict::Pass,
        }
    }

    fn submit_write(&mut self, now: SimTime, file: FileKey, range: ByteRange, hits: bool) -> Verdict {
        let grains = range.grains(self.config.grain);
        if grains.end - grains.start > MOST_GRAINS {
            return if hits { Verdict::Fail(Refusal::VolumeFull) } else { Verdict::Pass };
        }
        let plan = self.take_plan(file, range);
        let verdict = if hits {
            self.judge_write(now, file, range, &plan)
        } else {
            self.record(now, file, range, &plan);
            Verdict::Pass
        };
        self.plan = plan;
        verdict
    }

    fn judge_write(&mut self, now: SimTime, file: FileKey, range: ByteRange, plan: &ProvisionPlan) -> Verdict {
        if self.volume_is_full(plan) {
            return Verdict::Fail(Refusal::VolumeFull);
        }
        if self.needs_space(plan) {
            return self.no_space(now, SpaceWaiter { file, range, until: None });
        }
        let wait = self.provision(now, file, range, plan);
        self.answer(now, wait)
    }

    fn submit_read(&mut self, now: SimTime, file: FileKey, range: ByteRange, hits: bool) -> Verdict {
        let mut wait = WaitReason::none(now);
        if self.config.first_read.is_some() {
            let mut fresh = std::mem::take(&mut self.plan.fresh);
            fresh.clear();
            let identity = self.first_reads.take(file, range, &mut fresh);
            if hits && !fresh.is_empty() {
                self.fetch(now, file, identity, &fresh, &mut wait);
            }
            self.plan.fresh = fresh;
            if hits && !self.fetching.is_empty() {
                for index in self.first_reads.touched(range) {
                    let ready = self.fetching.ready((file, index));
                    ready.into_iter().for_each(|ready| wait.for_other(now, index, ready));
                }
            }
        }
        if hits { self.answer(now, wait) } else { Verdict::Pass }
    }

    /// The first read of grains that were there at mount.
    fn fetch(&mut self, now: SimTime, file: FileKey, identity: u64, fresh: &[u64], wait: &mut WaitReason) {
        let hit = self.op_is_hit();
        wait.hit = Some(hit);
        let Some(first_read) = self.config.first_read.as_ref().filter(|_| hit) else { return };
        for &index in fresh {
            let mut rng = self.streams.first_read.at(DrawKey { identity, index, epoch: 0 });
            let latency = first_read.sample(&mut rng);
            let (start, ready) = self.lanes.serve(now, latency);
            self.counters.draws += 1;
            self.fetching.begin((file, index), ready);
            wait.for_own(index, ready, start.since(now), latency, Duration::ZERO);
        }
        wait.penalty.grains = 0;
    }

    /// The verdict on an operation that is hit by what injection there is.
    fn answer(&mut self, now: SimTime, mut wait: WaitReason) -> Verdict {
        let stalled = self.stun.holds(now) || self.volume_stalls_until(now).is_some();
        let held = wait.ready > now || (stalled && wait.hit.unwrap_or_else(|| self.op_is_hit()));
        if !held {
            return Verdict::Pass;
        }
        self.go_behind_volume(now, &mut wait);
        Verdict::Held(self.queue.push(now, Some(wait.ready), wait.penalty))
    }

    /// With scope `volume`: when the last first write that is under way is ready.
    fn volume_stalls_until(&self, now: SimTime) -> Option<SimTime> {
        let latest = self.provisioning.latest();
        (self.config.scope == Scope::Volume && latest > now).then_some(latest)
    }

    fn go_behind_volume(&self, now: SimTime, wait: &mut WaitReason) {
        if let Some(latest) = self.volume_stalls_until(now).filter(|latest| *latest > wait.ready) {
            wait.penalty.stun += latest.since(wait.ready);
            wait.ready = latest;
        }
    }

    /// What a write would newly take. Put it back into `self.plan` when it is done with.
    fn take_plan(&mut self, file: FileKey, range: ByteRange) -> ProvisionPlan {
        let mut plan = std::mem::take(&mut self.plan);
        self.mapping.plan(file, range, &mut plan);
        plan
    }

    /// Puts a write into the mapping, without a penalty.
    fn record(&mut self, now: SimTime, file: FileKey, range: ByteRange, plan: &ProvisionPlan) {
        self.mapping.commit(file, range, plan);
        self.first_reads.written(file, range);
        if plan.grains() == 0 || self.config.thick {
            return;
        }
        self.pool.take(plan.grains());
        self.counters.provisioned += plan.grains();
        self.tell_low_water(now);
    }

    /// Puts a write into the mapping; what it waits for.
    fn provision(&mut self, now: SimTime, file: FileKey, range: ByteRange, plan: &ProvisionPlan) -> WaitReason {
        self.record(now, file, range, plan);
        let mut wait = WaitReason::none(now);
        let counted_as = self.mapping.counted_as(file);
        if !self.config.thick {
            self.provision_grains(now, counted_as, plan, &mut wait);
        }
        if !self.provisioning.is_empty() {
            let provisioning = &self.provisioning;
            self.mapping.touched(file, range, |index| {
                let ready = provisioning.ready((counted_as, index));
                ready.into_iter().for_each(|ready| wait.for_other(now, index, ready));
            });
        }
        wait
    }

    fn provision_grains(&mut self, now: SimTime, counted_as: FileKey, plan: &ProvisionPlan, wait: &mut WaitReason) {
        for &index in &plan.fresh {
            let key = plan.key(index);
            let hit = self.grain_is_hit(key);
            wait.hit = Some(hit || wait.hit == Some(true));
            if !hit {
                continue;
            }
            let latency = self.config.first_write.sample(&mut self.streams.first_write.at(key));
            let (start, ready) = self.lanes.serve(now, latency + self.zeroing);
            self.counters.draws += 1;
            if ready > now {
                self.provisioning.begin((counted_as, index), ready);
            }
            wait.for_own(index, ready, start.since(now), latency, self.zeroing);
            self.trigger_stuns(now, key, start.since(now));
        }
    }

    /// Begins a stun if this grain is what one waits for. None begins while one is in force.
    fn trigger_stuns(&mut self, now: SimTime, key: DrawKey, queue: Duration) {
        self.counters.penalised += 1;
        if self.config.stuns.is_empty() || self.stun.holds(now) {
            return;
        }
        let ModelCounters { penalised, .. } = self.counters;
        let fired = self.config.stuns.iter().find_map(|trigger| match *trigger {
            StunTrigger::Every { grains, duration } => {
                penalised.is_multiple_of(grains).then_some((StunCause::Every, duration))
            }
            StunTrigger::Chance { probability, duration } => {
                (self.streams.stun.unit(key) < probability).then_some((StunCause::Chance, duration))
            }
            StunTrigger::QueueWait { over, duration } => (queue > over).then_some((StunCause::QueueWait, duration)),
        });
        if let Some((cause, duration)) = fired {
            self.begin_stun(now, duration, cause);
        }
    }

    /// Begins a stun or makes the one in force longer; its end.
    pub(super) fn begin_stun(&mut self, now: SimTime, duration: Duration, cause: StunCause) -> SimTime {
        if let Some(over) = self.stun.until().filter(|until| *until <= now) {
            self.end_stun(over);
        }
        let is_new = self.stun.until().is_none();
        let until = self.stun.begin(now, duration, self.config.max_hold);
        if is_new {
            self.notices.push(ModelNotice::StunBegan { cause, at: now, until });
        }
        until
    }

    pub(super) fn end_stun(&mut self, at: SimTime) {
        if self.stun.end(at) {
            self.notices.push(ModelNotice::StunEnded { at });
        }
    }

    fn grain_is_hit(&self, key: DrawKey) -> bool {
        let share = self.config.share_percent;
        share >= 100.0 || self.streams.share_of_grains.unit(key) * 100.0 < share
    }

    fn op_is_hit(&mut self) -> bool {
        let share = self.config.share_percent;
        if share >= 100.0 {
            return true;
        }
        self.counters.ops += 1;
        self.streams.share_of_ops.unit(DrawKey::nth(self.counters.ops)) * 100.0 < share
    }

    fn volume_is_full(&self, plan: &ProvisionPlan) -> bool {
        let Some(size) = self.config.virtual_size else { return false };
        let packed = self.config.placement == Placement::Packed && plan.blocks > 0;
        let needed = plan.blocks.saturating_mul(BLOCK_BYTES);
        packed && self.mapping.virtual_used(self.found).saturating_add(needed) > size.0
    }

    /// Whether a write has to wait for space, or fail: the pool has too little, or others were there first.
    fn needs_space(&self, plan: &ProvisionPlan) -> bool {
        if self.config.thick || !plan.fresh.iter().any(|index| self.grain_is_hit(plan.key(*index))) {
            return false;
        }
        let in_turn = self.waiters.is_empty() || self.config.on_full == OnFull::Enospc;
        !in_turn || !self.pool.has_room(plan.grains())
    }

    fn no_space(&mut self, now: SimTime, waiter: SpaceWaiter) -> Verdict {
        if self.pool.runs_full() {
            self.notices.push(ModelNotice::PoolFull { at: now, size: self.pool.size().unwrap_or_default() });
        }
        let until = match self.config.on_full {
            OnFull::Enospc => return Verdict::Fail(Refusal::PoolFull),
            OnFull::Stun => None,
            OnFull::Queue(wait) => Some(now + wait),
        };
        let id = self.queue.push(now, None, Penalty::default());
        self.waiters.push(id, SpaceWaiter { until, ..waiter }, self.queue.limit_of(now));
        Verdict::Held(id)
    }

    /// Gives writers that wait for space what there is, in order of arrival, up to the first that does not fit.
    pub(super) fn serve_waiters(&mut self, now: SimTime) {
        while let Some((id, SpaceWaiter { file, range, .. })) = self.waiters.first() {
            let plan = self.take_plan(file, range);
            let full = self.volume_is_full(&plan);
            let fits = full || self.pool.has_room(plan.grains());
            if fits {
                let requested = self.queue.requested(id).unwrap_or(now);
                self.waiters.remove(id, self.queue.limit_of(requested));
                let mut wait = WaitReason::none(now);
                if !full {
                    wait = self.provision(now, file, range, &plan);
                    self.go_behind_volume(now, &mut wait);
                }
                wait.penalty.space = now.since(requested);
                let outcome = if full { Err(Refusal::VolumeFull) } else { Ok(()) };
                self.queue.settle(id, wait.ready, outcome, wait.penalty);
            }
            self.plan = plan;
            if !fits {
                return;
            }
        }
    }

    /// Puts a write that is let go into the mapping, whether there is room or not.
    pub(super) fn record_anyway(&mut self, now: SimTime, file: FileKey, range: ByteRange) {
        let plan = self.take_plan(file, range);
        self.record(now, file, range, &plan);
        self.plan = plan;
    }
}
