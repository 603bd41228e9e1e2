//! The model against the naive reference, step by step, and the properties that hold whatever happens.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::reference::{Out, Reference};
use super::{file, ms};
use crate::model::{
    Access, Latency, Model, ModelConfig, ModelNotice, ModelOp, OnFull, OpId, Placement, Release, ReleaseCause, Scope,
    StunTrigger, Verdict,
};
use crate::time::SimTime;
use crate::units::{BLOCK_BYTES, ByteRange, Bytes, GrainSize, Rate};

// Number of cases: 256, or the environment's PROPTEST_CASES.

/// One step; operands are taken modulo what there is.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Create(u8),
    /// A file that was there at mount, with data in these blocks.
    Learn(u8, u8, u8),
    Write(u8, u32, u32, bool),
    Allocate(u8, u32, u32),
    Read(u8, u32, u32),
    Meta(bool),
    Free(u8, u32, u32),
    Truncate(u8, u32),
    Remove(u8),
    /// A file that was there at mount and never learned goes.
    RemoveUnlearned(u8),
    Stun(u8),
    StunOpen,
    Resume,
    Advance(u8),
    /// Time passes, and the timer is late.
    Late(u8),
    Jump,
    Release,
    Grow(u8),
    Arm(bool),
    Discard,
    MaxHold(u8),
    OnFull(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let (at, len) = (0u32..60_000, 1u32..30_000);
    prop_oneof![
        2 => any::<u8>().prop_map(Step::Create),
        1 => (any::<u8>(), any::<u8>(), any::<u8>()).prop_map(|(f, a, n)| Step::Learn(f, a, n)),
        12 => (any::<u8>(), at.clone(), len.clone(), prop::bool::weighted(0.9))
            .prop_map(|(f, a, n, s)| Step::Write(f, a, n, s)),
        1 => (any::<u8>(), at.clone(), len.clone()).prop_map(|(f, a, n)| Step::Allocate(f, a, n)),
        3 => (any::<u8>(), at.clone(), len.clone()).prop_map(|(f, a, n)| Step::Read(f, a, n)),
        1 => any::<bool>().prop_map(Step::Meta),
        3 => (any::<u8>(), at.clone(), len).prop_map(|(f, a, n)| Step::Free(f, a, n)),
        1 => (any::<u8>(), at).prop_map(|(f, a)| Step::Truncate(f, a)),
        1 => any::<u8>().prop_map(Step::Remove),
        1 => any::<u8>().prop_map(Step::RemoveUnlearned),
        1 => any::<u8>().prop_map(Step::Stun),
        1 => Just(Step::StunOpen),
        1 => Just(Step::Resume),
        6 => any::<u8>().prop_map(Step::Advance),
        2 => any::<u8>().prop_map(Step::Late),
        4 => Just(Step::Jump),
        1 => Just(Step::Release),
        2 => any::<u8>().prop_map(Step::Grow),
        1 => prop::bool::weighted(0.8).prop_map(Step::Arm),
        1 => Just(Step::Discard),
        1 => any::<u8>().prop_map(Step::MaxHold),
        1 => any::<u8>().prop_map(Step::OnFull),
    ]
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..60)
}

fn on_full(n: u8) -> OnFull {
    [OnFull::Enospc, OnFull::Stun, OnFull::Queue(ms(7))][usize::from(n % 3)]
}

fn triggers() -> impl Strategy<Value = Vec<StunTrigger>> {
    prop_oneof![
        3 => Just(vec![]),
        1 => Just(vec![StunTrigger::Every { grains: 3, duration: ms(9) }]),
        1 => Just(vec![StunTrigger::Chance { probability: 0.3, duration: ms(4) }]),
        1 => Just(vec![StunTrigger::QueueWait { over: ms(5), duration: ms(6) }]),
    ]
}

fn latency() -> impl Strategy<Value = Latency> {
    prop_oneof![
        Just(Latency::Constant(Duration::ZERO)),
        Just(Latency::Constant(ms(3))),
        Just(Latency::Uniform { low: ms(1), high: ms(8) }),
    ]
}

prop_compose! {
    fn config()(
        seed in 0u64..4,
        direct in any::<bool>(),
        blocks in 1u64..5,
        first_write in latency(),
        zeroing in prop::option::of(Just(Rate::per_second(8 << 20).unwrap())),
        lanes in 1u32..4,
        first_read in prop::option::weighted(0.3, Just(Latency::Constant(ms(5)))),
        pool in prop::option::weighted(0.6, 3u64..14),
        virtual_blocks in prop::option::weighted(0.3, 4u64..40),
        full in any::<u8>(),
        (stuns, volume, half) in (triggers(), prop::bool::weighted(0.3), prop::bool::weighted(0.2)),
        (discard, fallocate, thick, cold) in
            (any::<bool>(), any::<bool>(), prop::bool::weighted(0.1), prop::bool::weighted(0.2)),
        ttl in prop::option::weighted(0.2, 20u64..200),
    ) -> ModelConfig {
        let grain = GrainSize::new(Bytes(blocks * BLOCK_BYTES)).unwrap();
        ModelConfig {
            seed,
            placement: if direct { Placement::Direct } else { Placement::Packed },
            grain,
            first_write,
            zeroing,
            lanes,
            first_read,
            pool: pool.map(|grains| Bytes(grains * grain.bytes().0)),
            virtual_size: virtual_blocks.filter(|_| !thick).map(|blocks| Bytes(blocks * BLOCK_BYTES)),
            on_full: on_full(full),
            low_water_percent: 30,
            stuns,
            scope: if volume { Scope::Volume } else { Scope::Op },
            share_percent: if half { 50.0 } else { 100.0 },
            discard,
            fallocate_provisions: fallocate,
            thick,
            cold: cold && !thick,
            armed: true,
            max_hold: ms(25),
            ttl: ttl.map(ms),
        }
    }
}

/// Both, side by side.
struct Pair {
    model: Model,
    reference: Reference,
    now: SimTime,
    held: BTreeSet<u64>,
    released: Vec<Release>,
}

impl Pair {
    fn new(config: &ModelConfig) -> Self {
        Self {
            model: Model::new(config.clone().check().unwrap()),
            reference: Reference::new(config.clone()),
            now: SimTime::ZERO,
            held: BTreeSet::new(),
            released: Vec::new(),
        }
    }

    fn learned(&mut self, n: u8, start: u8, blocks: u8) {
        let key = file(u64::from(n % 5));
        if self.model.knows(key) {
            return;
        }
        let (start, blocks) = (u64::from(start % 8), u64::from(blocks % 5));
        let data = [ByteRange::at(start * BLOCK_BYTES, blocks * BLOCK_BYTES)];
        self.model.preexisting(data[0].len());
        self.reference.preexisting(data[0].len());
        self.model.learn(key, key.ino, &data);
        self.reference.learn(key, key.ino, &data);
    }

    fn submit(&mut self, access: Access, selected: bool) {
        if let Access::Write(key, _) | Access::Allocate(key, _) = access
            && !self.model.knows(key)
        {
            self.model.created(key, key.ino);
            self.reference.created(key, key.ino);
        }
        let op = ModelOp { access, selected };
        self.reference.arrive(self.now);
        let verdict = self.model.submit(self.now, op);
        assert_eq!(verdict, self.reference.submit(op));
        if let Verdict::Held(id) = verdict {
            assert!(self.held.insert(id.0), "{id:?} is held twice");
        }
    }

    fn came_out(&mut self, out: Vec<Release>, expected: &[Out]) {
        let got: Vec<Out> = out.iter().map(|r| (r.id.0, r.outcome, r.cause, r.requested, r.due)).collect();
        assert_eq!(got, expected);
        for release in out {
            assert!(self.held.remove(&release.id.0), "{:?} came out twice", release.id);
            let parts = release.penalty;
            let sum = parts.latency + parts.zeroing + parts.queue + parts.space + parts.stun;
            if release.cause == ReleaseCause::Due {
                assert_eq!(sum, release.due.since(release.requested), "{release:?}");
            }
            self.released.push(release);
        }
    }

    /// Calls a command on both.
    fn command(
        &mut self,
        on_model: impl FnOnce(&mut Model, SimTime, &mut Vec<Release>),
        on_reference: impl FnOnce(&mut Reference, SimTime, &mut Vec<Out>),
    ) {
        let (mut out, mut expected) = (Vec::new(), Vec::new());
        on_model(&mut self.model, self.now, &mut out);
        on_reference(&mut self.reference, self.now, &mut expected);
        self.came_out(out, &expected);
    }

    /// Several commands begin by letting happen what is due; so does the reference's caller.
    fn advance(&mut self) {
        self.command(|model, now, out| model.handle_timeout(now, out), Reference::advance);
    }

    fn change(&mut self, change: impl FnOnce(&mut ModelConfig)) {
        let mut config = self.reference.c.clone();
        change(&mut config);
        let next = config.clone();
        self.command(
            |model, now, out| model.reconfigure(now, config.check().unwrap(), out).unwrap(),
            |reference, now, out| reference.reconfigure(now, &next, out),
        );
    }

    fn grow(&mut self, grains: u8) {
        let Some(pool) = self.reference.c.pool else { return };
        let grain = self.reference.c.grain.bytes().0;
        let size = Bytes((pool.0 / grain).max(self.reference.used()) * grain + u64::from(grains % 4) * grain);
        let config = ModelConfig { pool: Some(size), ..self.reference.c.clone() };
        self.command(
            |model, now, out| model.grow(now, size, out).unwrap(),
            |reference, now, out| reference.grow(now, config, out),
        );
    }

    fn step(&mut self, step: &Step) {
        let file = |n: &u8| file(u64::from(n % 5));
        let range = |at: &u32, len: &u32| ByteRange::at(u64::from(*at), u64::from(*len));
        match step {
            Step::Create(n) => {
                if !self.model.knows(file(n)) {
                    self.model.created(file(n), file(n).ino);
                    self.reference.created(file(n), file(n).ino);
                }
            }
            Step::Learn(n, start, blocks) => self.learned(*n, *start, *blocks),
            Step::Write(n, at, len, selected) => self.submit(Access::Write(file(n), range(at, len)), *selected),
            Step::Allocate(n, at, len) => self.submit(Access::Allocate(file(n), range(at, len)), true),
            Step::Read(n, at, len) => self.submit(Access::Read(file(n), range(at, len)), true),
            Step::Meta(selected) => self.submit(Access::Meta, *selected),
            Step::Free(n, at, len) => self.free(file(n), range(at, len)),
            Step::Truncate(n, at) => self.free(file(n), ByteRange::from(u64::from(*at))),
            Step::Remove(n) => self.remove(file(n)),
            Step::RemoveUnlearned(blocks) => self.remove_unlearned(u64::from(blocks % 7) * BLOCK_BYTES),
            Step::Stun(n) => self.stun(Some(ms(u64::from(n % 40) + 1))),
            Step::StunOpen => self.stun(None),
            Step::Resume => self.command(|model, now, out| model.resume(now, out), Reference::resume),
            Step::Advance(n) => {
                self.now = self.now + ms(u64::from(n % 16));
                self.advance();
            }
            Step::Late(n) => self.now = self.now + ms(u64::from(n % 16)),
            Step::Jump => {
                self.now = self.now.max(self.model.poll_timeout().unwrap_or(self.now));
                self.advance();
            }
            Step::Release => {
                self.advance();
                self.command(
                    |model, now, out| model.release_all(now, out),
                    |reference, _, out| reference.release_all(out),
                );
            }
            Step::Grow(grains) => self.grow(*grains),
            Step::Arm(armed) => self.command(
                |model, now, out| model.set_armed(now, *armed, out),
                |reference, now, out| reference.arm(now, *armed, out),
            ),
            Step::Discard => {
                self.reference.arrive(self.now);
                assert_eq!(self.model.discard(self.now), self.reference.discard());
            }
            Step::MaxHold(n) => self.change(|config| config.max_hold = ms(u64::from(n % 30) + 1)),
            Step::OnFull(n) => self.change(|config| config.on_full = on_full(*n)),
        }
    }

    fn free(&mut self, key: crate::model::FileKey, range: ByteRange) {
        self.reference.arrive(self.now);
        self.model.free(self.now, key, range);
        self.reference.free(key, range);
    }

    /// A file goes only when nobody uses it.
    fn remove(&mut self, key: crate::model::FileKey) {
        if self.model.knows(key) && self.reference.waiting() == 0 {
            self.reference.arrive(self.now);
            self.model.remove(self.now, key, 0);
            self.reference.remove(key, 0);
        }
    }

    fn remove_unlearned(&mut self, bytes: u64) {
        self.model.preexisting(bytes);
        self.reference.preexisting(bytes);
        self.reference.arrive(self.now);
        self.model.remove(self.now, file(99), bytes);
        self.reference.remove(file(99), bytes);
    }

    fn stun(&mut self, duration: Option<Duration>) {
        self.reference.arrive(self.now);
        assert_eq!(self.model.stun(self.now, duration), self.reference.stun(duration));
    }

    fn compare(&self) {
        let (seen, expected) = (self.model.snapshot(self.now), &self.reference);
        assert_eq!(seen.armed, expected.c.armed && !expected.expired);
        assert_eq!(seen.expired, expected.expired);
        assert_eq!(seen.stunned_until, expected.stunned_until(self.now));
        assert_eq!((seen.held, seen.waiting_for_space), (expected.held() as u64, expected.waiting() as u64));
        assert_eq!(seen.pool.reusable_bytes, expected.reusable());
        assert_eq!((seen.draws, seen.provisioned, seen.stuns), (expected.draws, expected.taken, expected.stuns));
        if !expected.c.thick {
            assert_eq!(seen.pool.grains, expected.used());
        }
        if let Some(space) = self.model.statfs() {
            assert_eq!(space.used, expected.virtual_used().min(space.total));
        }
        assert_eq!(self.model.poll_timeout(), expected.next_event());
        assert_eq!(seen.held, self.held.len() as u64);
    }
}

proptest! {
    #[test]
    fn it_does_what_the_naive_one_does(config in config(), steps in steps()) {
        let mut pair = Pair::new(&config);
        for step in &steps {
            pair.step(step);
            pair.compare();
        }
        pair.step(&Step::Release);
        prop_assert!(pair.held.is_empty(), "never came out: {:?}", pair.held);
    }

    #[test]
    fn the_same_steps_give_the_same_events(config in config(), steps in steps()) {
        let run = || {
            let mut pair = Pair::new(&config);
            steps.iter().for_each(|step| pair.step(step));
            (pair.released, pair.model.take_notices())
        };
        prop_assert_eq!(run(), run());
    }

    #[test]
    fn provisioned_never_exceeds_the_pool(config in config(), steps in steps()) {
        let config = ModelConfig { ttl: None, share_percent: 100.0, thick: false, ..config };
        let mut pair = Pair::new(&config);
        for step in steps {
            let step = match step {
                // What was there at mount, what is not selected and what comes while injection is off may exceed it.
                Step::Learn(..) | Step::RemoveUnlearned(..) | Step::Arm(..) | Step::Release => continue,
                Step::Write(n, at, len, _) => Step::Write(n, at, len, true),
                other => other,
            };
            pair.step(&step);
            let pool = pair.model.snapshot(pair.now).pool;
            prop_assert!(pool.size_bytes.is_none_or(|size| pool.used_bytes <= size), "{pool:?}");
        }
    }

    #[test]
    fn nothing_comes_out_while_stunned(config in config(), steps in steps()) {
        let config = ModelConfig { ttl: None, ..config };
        let mut pair = Pair::new(&config);
        for step in steps {
            let ends_it = matches!(step, Step::Resume | Step::Release | Step::Arm(_) | Step::MaxHold(_));
            let before = pair.released.len();
            let stun = pair.model.snapshot(pair.now).stunned_until;
            pair.step(&step);
            for release in pair.released[before..].iter().filter(|_| !ends_it) {
                let early = stun.is_some_and(|until| release.due < until);
                prop_assert!(!early || release.cause == ReleaseCause::MaxHold, "{release:?} in a stun until {stun:?}");
            }
        }
    }

    #[test]
    fn no_hold_and_no_stun_is_longer_than_the_maximum(config in config(), steps in steps()) {
        let config = ModelConfig { max_hold: ms(12), ..config };
        let mut pair = Pair::new(&config);
        for step in steps.iter().filter(|step| !matches!(step, Step::MaxHold(_))) {
            pair.step(step);
        }
        pair.now = pair.now + ms(12);
        pair.advance();
        prop_assert_eq!(pair.model.snapshot(pair.now).held, 0);
        for release in &pair.released {
            prop_assert!(release.due <= release.requested + ms(12));
        }
        let mut began = None;
        for notice in pair.model.take_notices() {
            match notice {
                ModelNotice::StunBegan { at, .. } => began = Some(at),
                ModelNotice::StunEnded { at } => prop_assert!(at <= began.unwrap() + ms(12)),
                _ => {}
            }
        }
    }

    #[test]
    fn a_second_write_to_the_same_range_is_free(config in config(), steps in steps()) {
        let mut pair = Pair::new(&config);
        for step in &steps {
            pair.step(step);
            if let Step::Write(n, at, len, _) = step
                && pair.model.snapshot(pair.now).waiting_for_space == 0
            {
                let before = pair.model.snapshot(pair.now);
                let passed = pair.model.config().virtual_size.is_none() && pair.model.config().pool.is_none();
                pair.step(&Step::Write(*n, *at, *len, true));
                let after = pair.model.snapshot(pair.now);
                prop_assert!(!passed || (after.draws, after.pool) == (before.draws, before.pool));
            }
        }
    }

    #[test]
    fn what_is_due_comes_out_by_time_then_number(config in config(), steps in steps()) {
        let config = ModelConfig { ttl: None, stuns: vec![], ..config };
        let mut pair = Pair::new(&config);
        let stalls = |step: &&Step| matches!(step, Step::Stun(_) | Step::StunOpen | Step::Release | Step::MaxHold(_));
        let mut last = SimTime::ZERO;
        for step in steps.iter().filter(|step| !stalls(step)) {
            let before = pair.released.len();
            pair.step(step);
            let keys: Vec<_> = pair.released[before..].iter().map(|release| (release.due, release.id)).collect();
            // A command gives times, even the present one, to operations of any number; time alone does not.
            let by_number = matches!(step, Step::Advance(_) | Step::Jump);
            prop_assert!(keys.is_sorted_by_key(|key| if by_number { *key } else { (key.0, OpId(0)) }), "{keys:?}");
            prop_assert!(keys.first().is_none_or(|key| key.0 >= last), "{keys:?} after {last:?}");
            last = keys.last().map_or(last, |key| key.0);
        }
    }
}
