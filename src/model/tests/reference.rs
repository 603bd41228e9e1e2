//! The same model, written as naively as possible: single blocks, sets, linear scans over everything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::{
    Access, FileKey, ModelConfig, ModelOp, OnFull, OpId, Placement, Refusal, ReleaseCause, Scope, StunTrigger, Verdict,
};
use crate::seed::{DrawKey, Stream};
use crate::time::SimTime;
use crate::units::{BLOCK_BYTES, ByteRange};

#[derive(Debug, Clone, Default)]
struct File {
    identity: u64,
    epoch: u32,
    /// direct: provisioned grains.
    grains: BTreeSet<u64>,
    /// packed: block -> address.
    blocks: BTreeMap<u64, u64>,
    unread: BTreeSet<u64>,
}

#[derive(Debug, Clone)]
struct Held {
    id: u64,
    requested: SimTime,
    ready: Option<SimTime>,
    outcome: Result<(), Refusal>,
    /// What waits for space, and until when.
    space: Option<(FileKey, ByteRange, Option<SimTime>)>,
}

/// What came out: id, outcome, cause, requested, due.
pub(super) type Out = (u64, Result<(), Refusal>, ReleaseCause, SimTime, SimTime);

#[derive(Debug, Clone)]
pub(super) struct Reference {
    pub(super) c: ModelConfig,
    clock: SimTime,
    files: BTreeMap<FileKey, File>,
    free: BTreeSet<u64>,
    /// packed: grains that have space, below the region or on a cold volume.
    provisioned: BTreeSet<u64>,
    discarded: BTreeSet<u64>,
    next_grain: u64,
    region_next: u64,
    region_grains_returned: u64,
    /// BlockAllocator that files took, and gave up.
    blocks_taken: u64,
    blocks_freed: u64,
    found: u64,
    learned: u64,
    lost: u64,
    lanes: Vec<SimTime>,
    writing: Vec<(Option<FileKey>, u64, SimTime)>,
    reading: Vec<(FileKey, u64, SimTime)>,
    latest: SimTime,
    held: Vec<Held>,
    next_id: u64,
    hold_changed: SimTime,
    stun: Option<(SimTime, SimTime)>,
    reopened: SimTime,
    expires: Option<SimTime>,
    pub(super) expired: bool,
    pub(super) stuns: u64,
    pub(super) draws: u64,
    pub(super) taken: u64,
    penalised: u64,
    ops: u64,
}

const REGION: u64 = 1 << 52;

impl Reference {
    pub(super) fn new(c: ModelConfig) -> Self {
        let per_grain = c.grain.blocks();
        Self {
            clock: SimTime::ZERO,
            files: BTreeMap::new(),
            free: BTreeSet::new(),
            provisioned: BTreeSet::new(),
            discarded: BTreeSet::new(),
            next_grain: 0,
            region_next: REGION.div_ceil(per_grain) * per_grain,
            region_grains_returned: 0,
            blocks_taken: 0,
            blocks_freed: 0,
            found: 0,
            learned: 0,
            lost: 0,
            lanes: vec![SimTime::ZERO; c.lanes as usize],
            writing: Vec::new(),
            reading: Vec::new(),
            latest: SimTime::ZERO,
            held: Vec::new(),
            next_id: 0,
            hold_changed: SimTime::ZERO,
            stun: None,
            reopened: SimTime::ZERO,
            expires: c.ttl.map(|ttl| SimTime::ZERO + ttl),
            expired: false,
            stuns: 0,
            draws: 0,
            taken: 0,
            penalised: 0,
            ops: 0,
            c,
        }
    }

    fn packed(&self) -> bool {
        self.c.placement == Placement::Packed
    }
    fn grain(&self) -> u64 {
        self.c.grain.bytes().0
    }
    fn draw(&self, stream: &str, key: DrawKey) -> f64 {
        Stream::new(self.c.seed, stream).unit(key)
    }
    fn injecting(&self) -> bool {
        self.c.armed && !self.expired && self.expires.is_none_or(|at| at > self.clock)
    }
    fn stunned(&self) -> bool {
        self.stun.is_some_and(|(_, until)| until > self.clock)
    }
    pub(super) fn stunned_until(&self, now: SimTime) -> Option<SimTime> {
        self.stun.map(|(_, until)| until).filter(|until| *until > now)
    }
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }
    pub(super) fn waiting(&self) -> usize {
        self.held.iter().filter(|held| held.space.is_some()).count()
    }
    pub(super) fn reusable(&self) -> u64 {
        self.free.len() as u64 * BLOCK_BYTES
    }

    // ---- space ----

    fn has_space(&self, grain: u64) -> bool {
        if grain < REGION / self.c.grain.blocks() || self.c.cold {
            self.provisioned.contains(&grain)
        } else {
            !self.discarded.contains(&grain)
        }
    }

    /// Grains in use, counted from the sets. Thick volumes count nothing.
    pub(super) fn used(&self) -> u64 {
        let found = if self.c.cold { 0 } else { self.found };
        if self.packed() {
            let taken = if self.c.thick { 0 } else { self.provisioned.len() as u64 };
            return taken + found.div_ceil(self.grain()) - self.region_grains_returned;
        }
        let grains: u64 = self.files.values().map(|file| file.grains.len() as u64).sum();
        let unknown = if self.c.cold { 0 } else { found - self.learned - self.lost };
        grains + unknown.div_ceil(self.grain())
    }

    pub(super) fn virtual_used(&self) -> u64 {
        if self.packed() {
            return self.found + self.blocks_taken * BLOCK_BYTES - self.blocks_freed * BLOCK_BYTES;
        }
        let grains: u64 = self.files.values().map(|file| file.grains.len() as u64).sum();
        grains * self.grain() + (self.found - self.learned - self.lost)
    }

    fn room(&self, grains: usize) -> bool {
        self.c.pool.is_none_or(|pool| self.used() + grains as u64 <= pool.0 / self.grain())
    }

    fn missing(&self, file: FileKey, range: ByteRange) -> Vec<u64> {
        let known = self.files.get(&file);
        range.touched(BLOCK_BYTES).filter(|block| known.is_none_or(|file| !file.blocks.contains_key(block))).collect()
    }

    /// Provisions what a write needs: the grains that are new.
    fn commit(&mut self, file: FileKey, range: ByteRange) -> Vec<u64> {
        let (grain, per_grain) = (self.grain(), self.c.grain.blocks());
        let unread = range.touched(grain);
        let missing = self.missing(file, range);
        let entry = self.files.entry(file).or_default();
        entry.unread.retain(|index| !unread.contains(index));
        if self.c.placement == Placement::Direct {
            return range.touched(grain).filter(|index| entry.grains.insert(*index)).collect();
        }
        let mut cold: BTreeSet<u64> = BTreeSet::new();
        let blocks = range.touched(BLOCK_BYTES);
        for (_, addr) in self.files[&file].blocks.range(blocks) {
            if !self.has_space(addr / per_grain) {
                cold.insert(addr / per_grain);
            }
        }
        let mut fresh: Vec<u64> = cold.into_iter().collect();
        self.provisioned.extend(&fresh);
        for block in missing {
            if self.free.is_empty() {
                let next = self.discarded.pop_first().unwrap_or_else(|| {
                    self.next_grain += 1;
                    self.next_grain - 1
                });
                if next < REGION / per_grain || self.c.cold {
                    self.provisioned.insert(next);
                } else {
                    self.region_grains_returned -= 1;
                }
                self.free.extend(next * per_grain..(next + 1) * per_grain);
                fresh.push(next);
            }
            let addr = self.free.pop_first().unwrap();
            self.files.get_mut(&file).unwrap().blocks.insert(block, addr);
            self.blocks_taken += 1;
        }
        fresh
    }

    /// What a write would provision, by trying it on a copy.
    fn fresh(&self, file: FileKey, range: ByteRange) -> Vec<u64> {
        self.clone().commit(file, range)
    }

    fn key(&self, file: FileKey, index: u64) -> DrawKey {
        if self.packed() {
            return DrawKey { identity: 0, index, epoch: 0 };
        }
        let known = &self.files[&file];
        DrawKey { identity: known.identity, index, epoch: known.epoch }
    }

    pub(super) fn created(&mut self, file: FileKey, identity: u64) {
        self.files.insert(file, File { identity, ..File::default() });
    }

    pub(super) fn preexisting(&mut self, bytes: u64) {
        self.found += bytes;
    }

    pub(super) fn learn(&mut self, file: FileKey, identity: u64, data: &[ByteRange]) {
        let mut known = File { identity, ..File::default() };
        for range in data {
            if !self.c.cold {
                known.grains.extend(range.touched(self.grain()));
                self.learned += range.len();
            }
            for block in range.touched(BLOCK_BYTES) {
                known.blocks.insert(block, self.region_next);
                self.region_next += 1;
            }
            if self.c.first_read.is_some() {
                known.unread.extend(range.touched(self.grain()));
            }
        }
        self.files.insert(file, known);
    }

    pub(super) fn free(&mut self, file: FileKey, range: ByteRange) {
        let grain = self.grain();
        let Some(known) = self.files.get_mut(&file) else { return self.serve() };
        let covered = range.covered(grain);
        known.unread.retain(|index| !covered.contains(index));
        let before = known.grains.len();
        known.grains.retain(|index| !covered.contains(index));
        known.epoch += u32::from(known.grains.len() < before);
        let blocks = range.covered(BLOCK_BYTES);
        let addrs: Vec<u64> =
            known.blocks.iter().filter(|(block, _)| blocks.contains(block)).map(|(_, addr)| *addr).collect();
        known.blocks.retain(|block, _| !blocks.contains(block));
        if self.c.placement == Placement::Direct {
            self.writing.retain(|(key, index, _)| *key != Some(file) || !covered.contains(index));
        }
        self.reuse(addrs);
        self.serve();
    }

    pub(super) fn remove(&mut self, file: FileKey, unlearned: u64) {
        match self.files.remove(&file) {
            Some(known) => {
                self.writing.retain(|(key, _, _)| *key != Some(file));
                if self.packed() {
                    self.reuse(known.blocks.values().copied().collect());
                }
            }
            None if self.packed() => {
                let first = self.region_next;
                self.region_next += unlearned / BLOCK_BYTES;
                self.reuse((first..self.region_next).collect());
            }
            None => self.lost += unlearned,
        }
        self.serve();
    }

    fn reuse(&mut self, addrs: Vec<u64>) {
        let per_grain = self.c.grain.blocks();
        if !self.packed() {
            return;
        }
        self.blocks_freed += addrs.len() as u64;
        for addr in addrs {
            if self.has_space(addr / per_grain) {
                self.free.insert(addr);
            }
        }
        if self.c.discard {
            self.discard_free();
        }
    }

    fn discard_free(&mut self) -> u64 {
        let per_grain = self.c.grain.blocks();
        let grains: BTreeSet<u64> = self.free.iter().map(|addr| addr / per_grain).collect();
        let mut gone = 0;
        for grain in grains {
            let blocks = grain * per_grain..(grain + 1) * per_grain;
            if self.c.thick || !blocks.clone().all(|block| self.free.contains(&block)) {
                continue;
            }
            gone += 1;
            self.free.retain(|addr| !blocks.contains(addr));
            if !self.provisioned.remove(&grain) {
                self.region_grains_returned += 1;
            }
            self.discarded.insert(grain);
            self.writing.retain(|(key, index, _)| key.is_some() || *index != grain);
        }
        gone
    }

    pub(super) fn discard(&mut self) -> u64 {
        let gone = if self.packed() { self.discard_free() } else { 0 };
        self.serve();
        gone
    }

    // ---- operations ----

    /// Time passes without a timer: writers are given up, nothing comes out.
    pub(super) fn arrive(&mut self, now: SimTime) {
        let end = self.expires.filter(|_| !self.expired).map_or(now, |expires| expires.min(now));
        loop {
            let limits = self.held.iter().filter_map(|held| self.gives_up(held)).filter(|at| *at <= end);
            let Some(at) = limits.min() else { break };
            let real = std::mem::replace(&mut self.clock, at);
            self.give_up(at);
            self.clock = real;
        }
        self.clock = self.clock.max(now);
    }

    pub(super) fn submit(&mut self, op: ModelOp) -> Verdict {
        let hits = op.selected && self.injecting();
        match op.access {
            Access::Write(file, range) => self.write(file, range, hits),
            Access::Allocate(file, range) if self.c.fallocate_provisions => self.write(file, range, hits),
            Access::Read(file, range) => self.read(file, range, hits),
            _ => self.answer(hits, self.clock, None),
        }
    }

    fn write(&mut self, file: FileKey, range: ByteRange, hits: bool) -> Verdict {
        if hits {
            if self.volume_full(file, range) {
                return Verdict::Fail(Refusal::VolumeFull);
            }
            let fresh = self.fresh(file, range);
            let mut copy = self.clone();
            copy.files.entry(file).or_default();
            let hit = !self.c.thick && fresh.iter().any(|grain| copy.grain_hit(file, *grain));
            let in_turn = self.waiting() == 0 || self.c.on_full == OnFull::Enospc;
            if hit && !(in_turn && self.room(fresh.len())) {
                let until = match self.c.on_full {
                    OnFull::Enospc => return Verdict::Fail(Refusal::PoolFull),
                    OnFull::Stun => None,
                    OnFull::Queue(wait) => Some(self.clock + wait),
                };
                return self.hold(None, Some((file, range, until)));
            }
        }
        let (ready, hit) = self.provision(file, range, hits);
        self.answer(hits, ready, hit)
    }

    fn volume_full(&self, file: FileKey, range: ByteRange) -> bool {
        let needed = self.missing(file, range).len() as u64 * BLOCK_BYTES;
        let full = |size: u64| needed > 0 && self.virtual_used() + needed > size;
        self.packed() && self.c.virtual_size.is_some_and(|size| full(size.0))
    }

    fn grain_hit(&self, file: FileKey, grain: u64) -> bool {
        self.draw("share-of-grains", self.key(file, grain)) * 100.0 < self.c.share_percent
    }

    fn op_hit(&mut self) -> bool {
        if self.c.share_percent == 100.0 {
            return true;
        }
        self.ops += 1;
        self.draw("share-of-ops", DrawKey::nth(self.ops)) * 100.0 < self.c.share_percent
    }

    fn provision(&mut self, file: FileKey, range: ByteRange, hits: bool) -> (SimTime, Option<bool>) {
        let fresh = self.commit(file, range);
        let owner = (!self.packed()).then_some(file);
        let (mut latest, mut hit) = (self.clock, None);
        if self.c.thick {
            return (latest, hit);
        }
        self.taken += fresh.len() as u64;
        if !hits {
            return (latest, hit);
        }
        for grain in fresh {
            let key = self.key(file, grain);
            let this = self.grain_hit(file, grain);
            hit = Some(hit.unwrap_or(false) || this);
            if this {
                let latency = self.c.first_write.sample(&mut Stream::new(self.c.seed, "first-write").at(key));
                let zeroing = self.c.zeroing.map_or(Duration::ZERO, |rate| rate.time_for(self.c.grain.bytes()));
                let (start, ready) = self.lane(latency + zeroing);
                self.writing.push((owner, grain, ready));
                self.latest = self.latest.max(ready);
                self.draws += 1;
                self.trigger(key, start.since(self.clock));
            }
        }
        let touched: BTreeSet<u64> = if self.packed() {
            let blocks = range.touched(BLOCK_BYTES);
            self.files[&file].blocks.range(blocks).map(|(_, addr)| addr / self.c.grain.blocks()).collect()
        } else {
            range.touched(self.grain()).collect()
        };
        for (key, grain, ready) in &self.writing {
            if *key == owner && touched.contains(grain) {
                latest = latest.max(*ready);
            }
        }
        (latest, hit)
    }

    fn lane(&mut self, service: Duration) -> (SimTime, SimTime) {
        let earliest = (0..self.lanes.len()).min_by_key(|n| self.lanes[*n]).unwrap();
        let start = self.lanes[earliest].max(self.clock);
        self.lanes[earliest] = start + service;
        (start, start + service)
    }

    fn trigger(&mut self, key: DrawKey, queue: Duration) {
        self.penalised += 1;
        for trigger in self.c.stuns.clone() {
            if self.stunned() {
                return;
            }
            let duration = match trigger {
                StunTrigger::Every { grains, duration } if self.penalised.is_multiple_of(grains) => duration,
                StunTrigger::Chance { probability, duration } if self.draw("stun", key) < probability => duration,
                StunTrigger::QueueWait { over, duration } if queue > over => duration,
                _ => continue,
            };
            self.stun(Some(duration));
        }
    }

    fn read(&mut self, file: FileKey, range: ByteRange, hits: bool) -> Verdict {
        let (mut ready, mut hit) = (self.clock, None);
        let touched = range.touched(self.grain());
        if let Some(first_read) = self.c.first_read.clone() {
            let mut fresh = Vec::new();
            let mut identity = 0;
            if let Some(known) = self.files.get_mut(&file) {
                identity = known.identity;
                fresh.extend(known.unread.iter().copied().filter(|index| touched.contains(index)));
                known.unread.retain(|index| !touched.contains(index));
            }
            if hits && !fresh.is_empty() {
                hit = Some(self.op_hit());
            }
            for index in fresh {
                if hit == Some(true) {
                    let key = DrawKey { identity, index, epoch: 0 };
                    let latency = first_read.sample(&mut Stream::new(self.c.seed, "first-read").at(key));
                    let (_, done) = self.lane(latency);
                    self.reading.push((file, index, done));
                    self.draws += 1;
                }
            }
            for (key, index, done) in &self.reading {
                if *key == file && touched.contains(index) {
                    ready = ready.max(*done);
                }
            }
        }
        self.answer(hits, ready, hit)
    }

    fn answer(&mut self, hits: bool, ready: SimTime, hit: Option<bool>) -> Verdict {
        if !hits {
            return Verdict::Pass;
        }
        let behind = self.c.scope == Scope::Volume && self.latest > self.clock;
        let mut held = ready > self.clock;
        if !held && (behind || self.stunned()) {
            held = hit.unwrap_or_else(|| self.op_hit());
        }
        if !held {
            return Verdict::Pass;
        }
        self.hold(Some(if behind { ready.max(self.latest) } else { ready }), None)
    }

    fn hold(&mut self, ready: Option<SimTime>, space: Option<(FileKey, ByteRange, Option<SimTime>)>) -> Verdict {
        let id = self.next_id;
        self.next_id += 1;
        self.held.push(Held { id, requested: self.clock, ready, outcome: Ok(()), space });
        Verdict::Held(OpId(id))
    }

    fn serve(&mut self) {
        while let Some(n) = self.held.iter().position(|held| held.space.is_some()) {
            let (file, range, _) = self.held[n].space.unwrap();
            let (mut ready, mut outcome) = (self.clock, Ok(()));
            if self.volume_full(file, range) {
                outcome = Err(Refusal::VolumeFull);
            } else if self.room(self.fresh(file, range).len()) {
                ready = self.provision(file, range, true).0;
                if self.c.scope == Scope::Volume {
                    ready = ready.max(self.latest);
                }
            } else {
                return;
            }
            (self.held[n].space, self.held[n].ready, self.held[n].outcome) = (None, Some(ready), outcome);
        }
    }

    // ---- time ----

    fn limit(&self, held: &Held) -> SimTime {
        (held.requested + self.c.max_hold).max(self.hold_changed)
    }

    fn gives_up(&self, held: &Held) -> Option<SimTime> {
        let limit = self.limit(held);
        held.space.map(|(_, _, until)| until.unwrap_or(limit).min(limit))
    }

    pub(super) fn next_event(&self) -> Option<SimTime> {
        let mut moments = Vec::new();
        for held in &self.held {
            let limit = self.limit(held);
            match held.ready {
                Some(ready) if self.stun.is_none() => moments.push(ready.min(limit)),
                _ => moments.push(self.gives_up(held).unwrap_or(limit)),
            }
        }
        moments.extend(self.stun.map(|(_, until)| until));
        moments.extend(self.expires.filter(|_| !self.expired));
        moments.into_iter().min()
    }

    pub(super) fn advance(&mut self, now: SimTime, out: &mut Vec<Out>) {
        let now = self.clock.max(now);
        while let Some(at) = self.next_event().filter(|at| *at <= now) {
            let real = std::mem::replace(&mut self.clock, at);
            self.event(at, out);
            self.clock = real;
        }
        self.clock = now;
    }

    fn give_up(&mut self, at: SimTime) {
        let mut some = false;
        for n in 0..self.held.len() {
            if self.gives_up(&self.held[n]).is_some_and(|limit| limit <= at) {
                let limit = self.limit(&self.held[n]);
                let held = &mut self.held[n];
                let (_, _, until) = held.space.take().unwrap();
                let timed_out = until.is_some_and(|until| until <= limit);
                (held.ready, held.outcome) = (Some(if timed_out { at } else { SimTime::MAX }), Err(Refusal::PoolFull));
                some = true;
            }
        }
        if some {
            self.serve();
        }
    }

    fn event(&mut self, at: SimTime, out: &mut Vec<Out>) {
        self.give_up(at);
        if self.stun.is_some_and(|(_, until)| until <= at) {
            self.unstun(at);
        }
        self.come_out(at, out);
        if self.expires.is_some_and(|expires| expires <= at) && !self.expired {
            self.release_all(out);
            self.expired = true;
        }
    }

    fn come_out(&mut self, at: SimTime, out: &mut Vec<Out>) {
        let mut ready = Vec::new();
        for held in &self.held {
            let (limit, due) = (self.limit(held), held.ready.unwrap_or(SimTime::MAX));
            if self.stun.is_some() {
                if limit <= at {
                    ready.push((limit, held.id, ReleaseCause::MaxHold, limit));
                }
            } else if held.ready.is_some() && due.min(limit) <= at {
                let natural = due.max(self.reopened);
                let cause = if natural <= limit { ReleaseCause::Due } else { ReleaseCause::MaxHold };
                ready.push((due.min(limit), held.id, cause, natural.min(limit)));
            }
        }
        ready.sort_by_key(|(at, id, ..)| (*at, *id));
        for (_, id, cause, due) in ready {
            let n = self.held.iter().position(|held| held.id == id).unwrap();
            let held = self.held.remove(n);
            out.push((id, held.outcome, cause, held.requested, due));
        }
    }

    // ---- commands; the caller has called `advance` where the model does ----

    pub(super) fn stun(&mut self, duration: Option<Duration>) -> SimTime {
        if !self.injecting() {
            return self.clock;
        }
        if let Some((_, until)) = self.stun.filter(|(_, until)| *until <= self.clock) {
            self.unstun(until);
        }
        let until = self.clock + duration.unwrap_or(self.c.max_hold).min(self.c.max_hold);
        self.stuns += u64::from(self.stun.is_none());
        let (began, old) = self.stun.unwrap_or((self.clock, until));
        let until = old.max(until).min(began + self.c.max_hold);
        self.stun = Some((began, until));
        until
    }

    fn unstun(&mut self, at: SimTime) {
        if self.stun.take().is_some() {
            self.reopened = self.reopened.max(at);
        }
    }

    pub(super) fn resume(&mut self, now: SimTime, out: &mut Vec<Out>) {
        self.advance(now, out);
        self.unstun(self.clock);
        self.advance(now, out);
    }

    fn let_waiters_go(&mut self) {
        while let Some(n) = self.held.iter().position(|held| held.space.is_some()) {
            let (file, range, _) = self.held[n].space.take().unwrap();
            self.held[n].ready = Some(self.clock);
            self.provision(file, range, false);
        }
    }

    pub(super) fn release_all(&mut self, out: &mut Vec<Out>) {
        let gate = self.stun.map_or(self.reopened, |(_, until)| until);
        self.unstun(self.clock);
        self.let_waiters_go();
        let mut all = std::mem::take(&mut self.held);
        all.sort_by_key(|held| (held.ready.unwrap().min(self.limit(held)), held.id));
        for held in all {
            let due = held.ready.unwrap().max(gate).min(self.limit(&held));
            out.push((held.id, held.outcome, ReleaseCause::Drained, held.requested, due));
        }
        self.lanes.fill(SimTime::ZERO);
        self.writing.clear();
        self.reading.clear();
        self.latest = SimTime::ZERO;
        self.c.armed = false;
    }

    pub(super) fn arm(&mut self, now: SimTime, armed: bool, out: &mut Vec<Out>) {
        self.advance(now, out);
        if !armed {
            self.unstun(self.clock);
            self.let_waiters_go();
        }
        self.c.armed = armed && !self.expired;
        self.advance(now, out);
    }

    pub(super) fn grow(&mut self, now: SimTime, config: ModelConfig, out: &mut Vec<Out>) {
        self.advance(now, out);
        self.c = config;
        self.serve();
        self.advance(now, out);
    }

    pub(super) fn reconfigure(&mut self, now: SimTime, config: &ModelConfig, out: &mut Vec<Out>) {
        self.advance(now, out);
        if config.max_hold != self.c.max_hold {
            self.hold_changed = self.clock;
        }
        self.c = ModelConfig { armed: self.c.armed, ..config.clone() };
        if let Some((began, until)) = self.stun {
            self.stun = Some((began, until.min((began + self.c.max_hold).max(self.clock))));
        }
        self.serve();
        self.arm(now, config.armed, out);
    }
}
