//! What the design promises, case by case.

use std::time::Duration;

use super::{file, ms};
use crate::model::{
    Access, FileKey, Gate, Latency, Model, ModelConfig, ModelNotice, ModelOp, OnFull, OpId, Placement, Refusal,
    Release, ReleaseCause, Scope, StunCause, StunTrigger, Verdict,
};
use crate::time::SimTime;
use crate::units::{ByteRange, Bytes, Rate};

const MIB: u64 = 1 << 20;

/// Packed, 1 MiB grains, 20 ms, one lane.
fn thin() -> ModelConfig {
    ModelConfig { first_write: Latency::Constant(ms(20)), ..ModelConfig::default() }
}

fn direct() -> ModelConfig {
    ModelConfig { placement: Placement::Direct, ..thin() }
}

fn model(config: ModelConfig) -> Model {
    Model::new(config.check().unwrap())
}

fn at(millis: u64) -> SimTime {
    SimTime::from_millis(millis)
}

fn op(access: Access) -> ModelOp {
    ModelOp { access, selected: true }
}

fn write(model: &mut Model, now: SimTime, key: FileKey, start: u64, len: u64) -> Verdict {
    model.submit(now, op(Access::Write(key, ByteRange::at(start, len))))
}

fn read(model: &mut Model, now: SimTime, key: FileKey, start: u64, len: u64) -> Verdict {
    model.submit(now, op(Access::Read(key, ByteRange::at(start, len))))
}

/// Jumps from timeout to timeout until nothing is held.
fn run_out(model: &mut Model) -> Vec<Release> {
    let mut out = Vec::new();
    while model.snapshot(SimTime::ZERO).held > 0 {
        let next = model.poll_timeout().expect("something is held, so something can happen");
        model.handle_timeout(next, &mut out);
    }
    out
}

fn due(releases: &[Release]) -> Vec<(u64, u64)> {
    releases.iter().map(|release| (release.id.0, release.due.0 / 1_000_000)).collect()
}

const HELD_0: Verdict = Verdict::Held(OpId(0));
const HELD_1: Verdict = Verdict::Held(OpId(1));
const HELD_2: Verdict = Verdict::Held(OpId(2));

#[test]
fn a_first_write_waits_a_rewrite_and_a_read_do_not() {
    for config in [thin(), direct()] {
        let mut model = model(config);
        model.created(file(1), 1);
        assert_eq!(write(&mut model, at(0), file(1), 0, MIB), HELD_0);
        let out = run_out(&mut model);
        assert_eq!(due(&out), [(0, 20)]);
        assert_eq!((out[0].penalty.latency, out[0].penalty.grains, out[0].penalty.first_grain), (ms(20), 1, Some(0)));
        assert_eq!(write(&mut model, at(30), file(1), 0, MIB), Verdict::Pass);
        assert_eq!(read(&mut model, at(30), file(1), 0, MIB), Verdict::Pass);
    }
}

#[test]
fn a_burst_of_a_gibibyte_ends_when_the_lanes_are_through() {
    for (placement, lanes, last) in [
        (Placement::Packed, 1, 20_480),
        (Placement::Packed, 8, 2_560),
        (Placement::Direct, 1, 20_480),
        (Placement::Direct, 8, 2_560),
    ] {
        let mut model = model(ModelConfig { placement, lanes, ..thin() });
        model.created(file(1), 1);
        for n in 0..1024 {
            assert_eq!(write(&mut model, at(0), file(1), n * MIB, MIB), Verdict::Held(OpId(n)));
        }
        let out = run_out(&mut model);
        assert_eq!(out.len(), 1024);
        assert_eq!(out[1023].due, at(last));
        assert_eq!(out[1023].penalty.queue, ms(last - 20));
    }
}

#[test]
fn small_files_share_grains() {
    let mut model = model(thin());
    for n in 0..256 {
        model.created(file(n), n);
        let verdict = write(&mut model, at(100 * n), file(n), 0, 4096);
        assert_eq!(verdict == Verdict::Pass, n > 0, "file {n}");
    }
    model.created(file(256), 256);
    assert_eq!(write(&mut model, at(30_000), file(256), 0, 1), HELD_1);
    assert_eq!(model.snapshot(at(30_000)).pool.grains, 2);
}

#[test]
fn who_touches_a_grain_under_way_waits_for_the_same_moment() {
    let mut model = model(thin());
    assert_eq!(write(&mut model, at(0), file(1), 0, 4096), HELD_0);
    assert_eq!(write(&mut model, at(5), file(2), 0, 4096), HELD_1);
    assert_eq!(read(&mut model, at(5), file(1), 0, 4096), Verdict::Pass);
    assert_eq!(model.submit(at(5), op(Access::Meta)), Verdict::Pass);
    let out = run_out(&mut model);
    assert_eq!(due(&out), [(0, 20), (1, 20)]);
    assert_eq!((out[1].penalty.queue, out[1].penalty.grains), (ms(15), 0));
}

#[test]
fn a_write_waits_for_its_last_grain_and_pays_zeroing() {
    let mut model = model(ModelConfig { zeroing: Rate::per_second(100 << 20), ..direct() });
    model.created(file(1), 1);
    write(&mut model, at(0), file(1), 0, 3 * MIB);
    let out = run_out(&mut model);
    let penalty = out[0].penalty;
    assert_eq!(due(&out), [(0, 90)]);
    assert_eq!((penalty.queue, penalty.latency, penalty.zeroing), (ms(60), ms(20), ms(10)));
    assert_eq!(penalty.grains, 3);
}

#[test]
fn freed_blocks_are_reused_without_a_penalty_unless_they_are_discarded() {
    let mut model = model(thin());
    model.created(file(1), 1);
    write(&mut model, at(0), file(1), 0, MIB);
    model.remove(at(100), file(1), 0);
    assert_eq!(model.snapshot(at(100)).pool.reusable_bytes, MIB);
    model.created(file(2), 2);
    assert_eq!(write(&mut model, at(100), file(2), 0, MIB), Verdict::Pass);
    model.free(at(100), file(2), ByteRange::from(0));
    assert_eq!(model.discard(at(100)), 1);
    assert_eq!(model.snapshot(at(100)).pool.used_bytes, 0);
    assert_eq!(write(&mut model, at(100), file(2), 0, MIB), HELD_1);
}

#[test]
fn with_discard_a_freed_grain_goes_back_at_once() {
    let mut model = model(ModelConfig { discard: true, ..thin() });
    model.created(file(1), 1);
    write(&mut model, at(0), file(1), 0, 2 * MIB);
    model.free(at(100), file(1), ByteRange::at(4096, 2 * MIB));
    assert_eq!(model.snapshot(at(100)).pool.grains, 1);
    assert!(model.take_notices().contains(&ModelNotice::Discarded { at: at(100), grains: 1 }));
}

/// Found by the comparison with the naive model: free blocks go before a grain that was discarded, even a lower one.
#[test]
fn what_is_free_is_used_before_another_grain_is_taken() {
    let mut model = model(ModelConfig { discard: true, ..thin() });
    for n in 0..2 {
        model.created(file(n), n);
        write(&mut model, at(0), file(n), 0, MIB + MIB / 2);
    }
    model.remove(at(1000), file(0), 0);
    let before = model.snapshot(at(1000)).pool;
    assert_eq!((before.grains, before.reusable_bytes), (2, MIB / 2));
    model.created(file(2), 2);
    assert_eq!(write(&mut model, at(1000), file(2), 0, MIB / 2), Verdict::Pass);
}

#[test]
fn a_punched_image_pays_again_with_another_draw() {
    let mut model = model(ModelConfig { first_write: "uniform:1ms..1s".parse().unwrap(), ..direct() });
    model.created(file(1), 1);
    write(&mut model, at(0), file(1), 0, MIB);
    let first = run_out(&mut model)[0].penalty.latency;
    model.free(at(5000), file(1), ByteRange::at(100, MIB));
    assert_eq!(write(&mut model, at(5000), file(1), 0, MIB), Verdict::Pass, "no grain is covered");
    model.free(at(5000), file(1), ByteRange::at(0, MIB));
    assert_eq!(model.snapshot(at(5000)).pool.grains, 0);
    assert_eq!(write(&mut model, at(5000), file(1), 0, MIB), HELD_1);
    assert_ne!(run_out(&mut model)[0].penalty.latency, first);
}

#[test]
fn what_was_there_is_provisioned_unless_the_volume_is_cold() {
    for placement in [Placement::Direct, Placement::Packed] {
        for (cold, verdict) in [(false, Verdict::Pass), (true, HELD_0)] {
            let mut model = model(ModelConfig { placement, cold, ..thin() });
            model.preexisting(MIB);
            model.learn(file(1), 1, &[ByteRange::at(0, MIB)]);
            model.learn(file(1), 1, &[]);
            assert_eq!(write(&mut model, at(0), file(1), 0, 4096), verdict);
            assert_eq!(model.snapshot(at(0)).pool.grains, 1);
        }
    }
}

#[test]
fn new_grains_have_the_same_numbers_whoever_was_learned_first() {
    let first_grain = |learned: &[u64]| {
        let mut model = model(thin());
        for n in learned {
            model.learn(file(*n), *n, &[ByteRange::at(0, 7 * MIB)]);
        }
        model.created(file(9), 9);
        write(&mut model, at(0), file(9), 0, MIB);
        run_out(&mut model)[0].penalty.first_grain
    };
    assert_eq!(first_grain(&[]), first_grain(&[3, 1, 2]));
}

#[test]
fn a_file_that_nobody_looked_at_leaves_its_space() {
    let mut packed = model(thin());
    packed.preexisting(3 * MIB);
    packed.remove(at(0), file(1), 2 * MIB);
    let pool = packed.snapshot(at(0)).pool;
    assert_eq!((pool.used_bytes, pool.reusable_bytes), (3 * MIB, 2 * MIB));
    assert_eq!(write(&mut packed, at(0), file(2), 0, 2 * MIB), Verdict::Pass);

    let mut direct = model(direct());
    direct.preexisting(3 * MIB);
    direct.remove(at(0), file(1), 2 * MIB);
    assert_eq!(direct.snapshot(at(0)).pool.used_bytes, MIB);
}

#[test]
fn fallocate_does_not_provision_unless_it_is_told_to() {
    let allocate = op(Access::Allocate(file(1), ByteRange::at(0, MIB)));
    let mut model = model(thin());
    assert_eq!(model.submit(at(0), allocate), Verdict::Pass);
    assert_eq!(write(&mut model, at(0), file(1), 0, MIB), HELD_0);
    let mut provisions = super::cases::model(ModelConfig { fallocate_provisions: true, ..thin() });
    assert_eq!(provisions.submit(at(0), allocate), HELD_0);
    assert_eq!(write(&mut provisions, at(50), file(1), 0, MIB), Verdict::Pass);
}

#[test]
fn thick_storage_has_no_penalty_but_can_be_stunned() {
    let size = Some(Bytes::mib(10));
    let mut model = model(ModelConfig { thick: true, pool: size, virtual_size: size, ..thin() });
    assert_eq!(write(&mut model, at(0), file(1), 0, MIB), Verdict::Pass);
    assert_eq!(model.snapshot(at(0)).pool.used_bytes, 10 * MIB);
    assert_eq!(model.statfs().unwrap().used, MIB);
    model.stun(at(0), Some(ms(50)));
    assert_eq!(write(&mut model, at(0), file(1), 5 * MIB, MIB), HELD_0);
    assert_eq!(due(&run_out(&mut model)), [(0, 50)]);
}

#[test]
fn a_full_pool_refuses_only_who_needs_space() {
    let mut model = model(ModelConfig { pool: Some(Bytes::mib(2)), ..thin() });
    write(&mut model, at(0), file(1), 0, 2 * MIB);
    assert_eq!(write(&mut model, at(100), file(1), 2 * MIB, 1), Verdict::Fail(Refusal::PoolFull));
    assert_eq!(write(&mut model, at(100), file(1), 2 * MIB, 1), Verdict::Fail(Refusal::PoolFull));
    assert_eq!(write(&mut model, at(100), file(1), 0, MIB), Verdict::Pass);
    assert_eq!(read(&mut model, at(100), file(1), 0, MIB), Verdict::Pass);
    let full: Vec<ModelNotice> =
        model.take_notices().into_iter().filter(|notice| matches!(notice, ModelNotice::PoolFull { .. })).collect();
    assert_eq!(full, [ModelNotice::PoolFull { at: at(100), size: Bytes::mib(2) }], "told once");
    let touched = ModelOp { access: Access::Write(file(1), ByteRange::at(2 * MIB, 1)), selected: false };
    assert_eq!(model.submit(at(100), touched), Verdict::Pass);
}

#[test]
fn writers_wait_for_space_and_get_it_in_order() {
    let mut model = model(ModelConfig { pool: Some(Bytes::mib(1)), on_full: OnFull::Stun, ..thin() });
    assert_eq!(write(&mut model, at(0), file(1), 0, MIB), HELD_0);
    assert_eq!(write(&mut model, at(10), file(1), MIB, 2 * MIB), HELD_1);
    assert_eq!(write(&mut model, at(20), file(2), 0, MIB), HELD_2);
    let mut out = Vec::new();
    model.grow(at(100), Bytes::mib(2), &mut out).unwrap();
    assert_eq!(due(&out), [(0, 20)]);
    assert_eq!(model.snapshot(at(100)).waiting_for_space, 2, "the first does not fit, the second does not overtake");
    model.grow(at(200), Bytes::mib(4), &mut out).unwrap();
    let out = run_out(&mut model);
    assert_eq!(due(&out), [(1, 240), (2, 260)]);
    assert_eq!((out[0].penalty.space, out[0].penalty.queue, out[0].penalty.latency), (ms(190), ms(20), ms(20)));
    assert!(model.grow(at(300), Bytes::mib(3), &mut Vec::new()).is_err(), "smaller than what is in use");
}

#[test]
fn discarded_grains_serve_who_waits() {
    let mut model = model(ModelConfig { pool: Some(Bytes::mib(1)), on_full: OnFull::Stun, ..direct() });
    write(&mut model, at(0), file(1), 0, MIB);
    assert_eq!(write(&mut model, at(50), file(2), 0, MIB), HELD_1);
    model.remove(at(60), file(1), 0);
    assert_eq!(due(&run_out(&mut model)), [(0, 20), (1, 80)]);
}

#[test]
fn a_queue_for_space_ends_in_an_error() {
    let config = ModelConfig { pool: Some(Bytes::mib(1)), on_full: OnFull::Queue(ms(60)), ..direct() };
    let mut model = model(config);
    write(&mut model, at(0), file(1), 0, MIB);
    write(&mut model, at(10), file(2), 0, 2 * MIB);
    let out = run_out(&mut model);
    assert_eq!(due(&out), [(0, 20), (1, 70)]);
    assert_eq!((out[1].outcome, out[1].cause), (Err(Refusal::PoolFull), ReleaseCause::Due));
    assert_eq!(out[1].penalty.space, ms(60));
    assert_eq!(model.snapshot(at(70)).pool.grains, 1);
}

#[test]
fn a_write_at_its_longest_hold_comes_out_even_from_a_stun() {
    let mut model =
        model(ModelConfig { max_hold: ms(100), pool: Some(Bytes::mib(1)), on_full: OnFull::Stun, ..direct() });
    write(&mut model, at(0), file(1), 0, MIB);
    write(&mut model, at(10), file(2), 0, MIB);
    assert_eq!(model.stun(at(15), None), at(115));
    assert_eq!(model.stun(at(50), Some(ms(90))), at(115), "extended, but not beyond the maximum");
    let out = run_out(&mut model);
    assert_eq!(due(&out), [(0, 100), (1, 110)]);
    assert!(out.iter().all(|release| release.cause == ReleaseCause::MaxHold));
    assert_eq!((out[0].outcome, out[1].outcome), (Ok(()), Err(Refusal::PoolFull)));
}

/// Found by the comparison with the naive model: a hold that a new maximum ends must not end in the past.
#[test]
fn a_shorter_maximum_ends_holds_now() {
    let mut model = model(ModelConfig { pool: Some(Bytes::mib(1)), on_full: OnFull::Stun, ..direct() });
    write(&mut model, at(0), file(1), 0, MIB);
    write(&mut model, at(2), file(2), 0, 5 * MIB);
    write(&mut model, at(50), file(3), 0, MIB);
    let mut out = Vec::new();
    let shorter = ModelConfig { max_hold: ms(10), ..model.config().clone() };
    model.reconfigure(at(55), shorter.check().unwrap(), &mut out).unwrap();
    assert_eq!(due(&out), [(0, 20), (1, 55)]);
    assert_eq!(due(&run_out(&mut model)), [(2, 60)]);
}

#[test]
fn a_late_timer_lets_nobody_stand_behind_who_is_given_up() {
    let mut model = model(ModelConfig { pool: Some(Bytes::mib(2)), on_full: OnFull::Queue(ms(60)), ..direct() });
    write(&mut model, at(0), file(1), 0, MIB);
    write(&mut model, at(10), file(2), 0, 2 * MIB);
    assert_eq!(write(&mut model, at(90), file(3), 0, MIB), HELD_2);
    let out = run_out(&mut model);
    assert_eq!(due(&out), [(0, 20), (1, 70), (2, 110)]);
}

#[test]
fn a_stun_is_a_gate_over_everything() {
    let mut model = model(thin());
    assert_eq!(write(&mut model, at(0), file(1), 0, MIB), HELD_0);
    assert_eq!(model.gate(), Gate { everything: false, reads: false });
    assert_eq!(model.stun(at(10), Some(ms(100))), at(110));
    assert_eq!(model.gate(), Gate { everything: true, reads: true });
    assert_eq!(model.submit(at(30), op(Access::Meta)), HELD_1);
    assert_eq!(model.submit(at(30), ModelOp { access: Access::Meta, selected: false }), Verdict::Pass);
    assert_eq!(write(&mut model, at(105), file(1), MIB, MIB), HELD_2);
    let out = run_out(&mut model);
    assert_eq!(due(&out), [(0, 110), (1, 110), (2, 125)]);
    assert_eq!((out[0].penalty.latency, out[0].penalty.stun, out[1].penalty.stun), (ms(20), ms(90), ms(80)));
    assert_eq!(
        model.take_notices()[..2],
        [
            ModelNotice::StunBegan { cause: StunCause::Manual, at: at(10), until: at(110) },
            ModelNotice::StunEnded { at: at(110) },
        ]
    );
}

/// With a late timer a writer that got its turn at 7 ms found no grain under way that was ready by the time of the call.
#[test]
fn regression_a_late_timer_forgot_grains_that_were_under_way() {
    for late in [7, 50] {
        let on_full = OnFull::Queue(ms(7));
        let mut model = model(ModelConfig { pool: Some(Bytes(3 * MIB)), on_full, ..direct() });
        assert_eq!(write(&mut model, at(0), file(1), 0, 2 * MIB), HELD_0);
        assert_eq!(write(&mut model, at(0), file(2), 0, 2 * MIB), HELD_1);
        assert_eq!(write(&mut model, at(4), file(1), 0, 3 * MIB), HELD_2);
        let unselected = Access::Write(file(1), ByteRange::at(2 * MIB, MIB));
        assert_eq!(model.submit(at(4), ModelOp { access: unselected, selected: false }), Verdict::Pass);
        let mut out = Vec::new();
        model.handle_timeout(at(late), &mut out);
        model.handle_timeout(at(50), &mut out);
        assert_eq!(due(&out), [(1, 7), (0, 40), (2, 40)]);
    }
}

#[test]
fn a_late_timer_gives_the_same_due_times() {
    let mut model = model(thin());
    write(&mut model, at(0), file(1), 0, MIB);
    model.stun(at(10), Some(ms(100)));
    write(&mut model, at(20), file(1), MIB, MIB);
    let mut out = Vec::new();
    model.handle_timeout(at(5000), &mut out);
    assert_eq!(due(&out), [(0, 110), (1, 110)]);
}

#[test]
fn resume_ends_a_stun_early() {
    let mut model = model(thin());
    model.stun(at(0), None);
    model.submit(at(10), op(Access::Meta));
    let mut out = Vec::new();
    model.resume(at(50), &mut out);
    assert_eq!(due(&out), [(0, 50)]);
    assert_eq!(out[0].penalty.stun, ms(40));
    assert_eq!(model.poll_timeout(), None);
}

#[test]
fn stuns_come_by_themselves() {
    let every = StunTrigger::Every { grains: 3, duration: ms(500) };
    let mut model = model(ModelConfig { stuns: vec![every], ..thin() });
    write(&mut model, at(0), file(1), 0, 2 * MIB);
    assert_eq!(model.snapshot(at(0)).stuns, 0);
    write(&mut model, at(100), file(1), 2 * MIB, MIB);
    assert_eq!(model.snapshot(at(100)).stunned_until, Some(at(600)));
    assert_eq!(due(&run_out(&mut model)), [(0, 600), (1, 600)]);

    let wait = StunTrigger::QueueWait { over: ms(50), duration: ms(500) };
    let mut model = super::cases::model(ModelConfig { stuns: vec![wait], ..thin() });
    write(&mut model, at(0), file(1), 0, 3 * MIB);
    assert_eq!(model.snapshot(at(0)).stuns, 0, "the third waits 40 ms");
    write(&mut model, at(0), file(1), 3 * MIB, MIB);
    assert_eq!(model.snapshot(at(0)).stuns, 1);

    let chance = StunTrigger::Chance { probability: 0.1, duration: Duration::from_nanos(1) };
    let mut model =
        super::cases::model(ModelConfig { stuns: vec![chance], first_write: Latency::Constant(ms(0)), ..thin() });
    for n in 0..1000 {
        write(&mut model, at(n), file(1), n * MIB, MIB);
    }
    assert!((70..130).contains(&model.snapshot(at(1000)).stuns));
}

#[test]
fn scope_volume_holds_everybody_behind_a_first_write() {
    let mut model = model(ModelConfig { scope: Scope::Volume, lanes: 2, ..thin() });
    write(&mut model, at(0), file(1), 0, MIB);
    assert!(model.gate().everything);
    assert_eq!(read(&mut model, at(5), file(9), 0, 1), HELD_1);
    assert_eq!(write(&mut model, at(10), file(1), MIB, MIB), HELD_2);
    assert_eq!(model.submit(at(15), op(Access::Meta)), Verdict::Held(OpId(3)));
    let out = run_out(&mut model);
    assert_eq!(due(&out), [(0, 20), (1, 20), (2, 30), (3, 30)]);
    assert_eq!(out[1].penalty.stun, ms(15));
    assert!(!model.gate().everything);
}

#[test]
fn release_lets_everything_go_and_ends_injection() {
    let mut model = model(ModelConfig { pool: Some(Bytes::mib(2)), on_full: OnFull::Stun, ..thin() });
    write(&mut model, at(0), file(1), 0, 2 * MIB);
    write(&mut model, at(0), file(1), 2 * MIB, MIB);
    model.stun(at(0), None);
    let mut out = Vec::new();
    model.release_all(at(10), &mut out);
    assert_eq!(out.len(), 2);
    assert!(out.iter().all(|release| release.outcome.is_ok() && release.cause == ReleaseCause::Drained));
    let after = model.snapshot(at(10));
    assert_eq!((after.armed, after.stunned_until, after.pool.grains), (false, None, 3));
    assert_eq!(write(&mut model, at(10), file(1), 3 * MIB, MIB), Verdict::Pass);
    model.set_armed(at(11), true, &mut out);
    model.grow(at(11), Bytes::mib(9), &mut out).unwrap();
    assert_eq!(write(&mut model, at(11), file(1), 4 * MIB, MIB), HELD_2);
    assert_eq!(due(&run_out(&mut model)), [(2, 31)], "the queue is empty, too");
}

#[test]
fn disarmed_it_records_and_holds_nothing() {
    let mut model = model(ModelConfig { armed: false, pool: Some(Bytes::mib(1)), ..thin() });
    assert_eq!(write(&mut model, at(0), file(1), 0, 2 * MIB), Verdict::Pass);
    assert_eq!(model.stun(at(0), None), at(0));
    let mut out = Vec::new();
    model.set_armed(at(0), true, &mut out);
    assert_eq!(write(&mut model, at(0), file(1), 0, 2 * MIB), Verdict::Pass);
    assert_eq!(write(&mut model, at(0), file(1), 2 * MIB, 1), Verdict::Fail(Refusal::PoolFull));
}

#[test]
fn disarming_ends_a_stun_and_leaves_the_others_their_time() {
    let config = ModelConfig { pool: Some(Bytes::mib(1)), on_full: OnFull::Stun, ..thin() };
    let mut model = model(config);
    write(&mut model, at(0), file(1), 0, MIB);
    write(&mut model, at(0), file(1), MIB, MIB);
    model.stun(at(0), None);
    let mut out = Vec::new();
    model.set_armed(at(5), false, &mut out);
    assert_eq!(due(&out), [(1, 5)], "who waits for space has no time of its own");
    assert_eq!(due(&run_out(&mut model)), [(0, 20)]);
}

#[test]
fn after_the_time_limit_it_is_a_pass_through_for_good() {
    let mut model = model(ModelConfig { ttl: Some(ms(100)), ..thin() });
    write(&mut model, at(90), file(1), 0, MIB);
    assert_eq!(model.poll_timeout(), Some(at(100)));
    assert_eq!(write(&mut model, at(105), file(1), MIB, MIB), Verdict::Pass, "even before the timer");
    let mut out = Vec::new();
    model.handle_timeout(at(106), &mut out);
    assert_eq!((due(&out), out[0].cause), (vec![(0, 110)], ReleaseCause::Drained));
    assert_eq!(model.take_notices(), [ModelNotice::Expired { at: at(100) }]);
    model.set_armed(at(200), true, &mut out);
    let after = model.snapshot(at(200));
    assert_eq!((after.armed, after.expired, model.poll_timeout()), (false, true, None));
    assert_eq!(write(&mut model, at(200), file(1), 2 * MIB, MIB), Verdict::Pass);
}

#[test]
fn the_first_read_of_old_data_waits_once() {
    let mut model = model(ModelConfig { first_read: Some(Latency::Constant(ms(30))), ..thin() });
    assert!(model.gate().reads);
    model.learn(file(1), 1, &[ByteRange::at(0, 3 * MIB)]);
    assert_eq!(read(&mut model, at(0), file(1), 0, 4096), HELD_0);
    assert_eq!(read(&mut model, at(10), file(1), 4096, 4096), HELD_1, "it is on its way");
    assert_eq!(write(&mut model, at(10), file(1), MIB, MIB), Verdict::Pass);
    assert_eq!(read(&mut model, at(10), file(1), MIB, MIB), Verdict::Pass, "it was written");
    assert_eq!(due(&run_out(&mut model)), [(0, 30), (1, 30)]);
    assert_eq!(read(&mut model, at(50), file(1), 0, MIB), Verdict::Pass);
    model.created(file(2), 2);
    write(&mut model, at(50), file(2), 0, MIB);
    assert_eq!(read(&mut model, at(50), file(2), 0, MIB), Verdict::Pass, "it was not there at mount");
}

#[test]
fn low_water_is_told_before_the_pool_is_full() {
    let mut model = model(ModelConfig { pool: Some(Bytes::mib(10)), low_water_percent: 20, ..thin() });
    write(&mut model, at(0), file(1), 0, 8 * MIB);
    assert_eq!(model.take_notices(), []);
    write(&mut model, at(0), file(1), 8 * MIB, MIB);
    assert_eq!(model.take_notices(), [ModelNotice::LowWater { at: at(0), used: Bytes::mib(9), size: Bytes::mib(10) }]);
    write(&mut model, at(0), file(1), 9 * MIB, MIB);
    assert_eq!(model.take_notices(), []);
}

#[test]
fn statfs_shows_the_virtual_disk_and_it_can_be_full() {
    let config = ModelConfig { virtual_size: Some(Bytes::mib(4)), pool: Some(Bytes::mib(2)), ..thin() };
    let mut model = model(config);
    model.preexisting(MIB);
    write(&mut model, at(0), file(1), 0, MIB);
    let space = model.statfs().unwrap();
    assert_eq!((space.total, space.used), (4 * MIB, 2 * MIB));
    assert_eq!(write(&mut model, at(0), file(1), MIB, 4096), Verdict::Fail(Refusal::PoolFull), "the trap");
    model.grow(at(0), Bytes::gib(1), &mut Vec::new()).unwrap();
    assert_eq!(write(&mut model, at(0), file(1), MIB, 3 * MIB), Verdict::Fail(Refusal::VolumeFull));
    model.free(at(0), file(1), ByteRange::from(0));
    assert_eq!(model.statfs().unwrap().used, MIB);
}

#[test]
fn a_share_of_the_grains_is_hit() {
    let mut model = model(ModelConfig { share_percent: 25.0, ..direct() });
    let held = (0..1000).filter(|n| write(&mut model, at(100 * n), file(1), n * MIB, MIB) != Verdict::Pass).count();
    assert!((200..300).contains(&held), "{held}");
}

#[test]
fn shuffled_threads_give_the_same_penalty_per_grain() {
    for placement in [Placement::Direct, Placement::Packed] {
        let penalties = |stride: u64| {
            let first_write = "lognormal:8ms,p99=200ms".parse().unwrap();
            let mut model = model(ModelConfig { seed: 7, placement, first_write, lanes: 64, ..thin() });
            for n in 0..4 {
                model.created(file(n), 1000 + n);
            }
            for n in (0..256).map(|n| n * stride % 256) {
                write(&mut model, at(0), file(n % 4), n / 4 * MIB, MIB);
            }
            let mut drawn: Vec<(u64, Duration)> = run_out(&mut model)
                .iter()
                .map(|release| (release.penalty.first_grain.unwrap(), release.penalty.latency))
                .collect();
            drawn.sort_unstable();
            drawn
        };
        assert_eq!(penalties(1), penalties(37));
        assert_ne!(penalties(1)[0].1, penalties(1)[1].1);
    }
}

#[test]
fn books_go_on_where_they_ended() {
    for placement in [Placement::Direct, Placement::Packed] {
        let config = ModelConfig { placement, pool: Some(Bytes::mib(10)), ..thin() };
        let mut first = model(config.clone());
        write(&mut first, at(0), file(1), 0, 2 * MIB);
        write(&mut first, at(0), file(2), 0, 2 * MIB);
        first.free(at(0), file(1), ByteRange::at(4096, MIB - 4096));
        let json = serde_json::to_string(&first.save()).unwrap();
        let checkpoint: crate::model::PoolCheckpoint = serde_json::from_str(&json).unwrap();
        assert_eq!((&checkpoint, checkpoint.used()), (&first.save(), Bytes::mib(4)));

        let mut second = Model::restore(config.clone().check().unwrap(), checkpoint.clone()).unwrap();
        second.preexisting(3 * MIB + 4096);
        assert_eq!(second.snapshot(at(0)).pool.used_bytes, 4 * MIB, "{placement:?}");
        assert_eq!(second.snapshot(at(0)).draws, 4);
        second.learn(file(1), 1, &[ByteRange::at(0, 4096), ByteRange::at(MIB, MIB)]);
        assert_eq!(write(&mut second, at(0), file(1), 4096, MIB - 4096), Verdict::Pass, "{placement:?}");
        assert_eq!(second.snapshot(at(0)).pool.used_bytes, 4 * MIB, "{placement:?}");

        let grain = crate::units::GrainSize::new(Bytes::kib(64)).unwrap();
        let error =
            Model::restore(ModelConfig { grain, ..config.clone() }.check().unwrap(), checkpoint.clone()).unwrap_err();
        assert!(error.to_string().contains("grains of 1MiB"));
        let mut cold = Model::restore(ModelConfig { cold: true, ..config }.check().unwrap(), checkpoint).unwrap();
        assert_eq!(cold.snapshot(at(0)).pool.used_bytes, 0);
        assert_eq!(write(&mut cold, at(0), file(3), 0, 4096), HELD_0);
    }
}

#[test]
fn after_a_crash_use_is_not_understated() {
    let mut model = model(thin());
    model.preexisting(MIB);
    model.floor_use(Bytes::mib(5));
    assert_eq!(model.snapshot(at(0)).pool.grains, 5);
    write(&mut model, at(0), file(1), 0, MIB);
    model.preexisting(MIB);
    assert_eq!(model.snapshot(at(0)).pool.grains, 6);
}

#[test]
fn settings_out_of_range_are_named() {
    let cases: [(ModelConfig, &str); 13] = [
        (ModelConfig { lanes: 0, ..thin() }, "1 to 65536"),
        (ModelConfig { lanes: 65537, ..thin() }, "1 to 65536"),
        (ModelConfig { pool: Some(Bytes(5)), ..thin() }, "one grain of 1MiB"),
        (ModelConfig { virtual_size: Some(Bytes(5)), ..thin() }, "4KiB"),
        (ModelConfig { share_percent: f64::NAN, ..thin() }, "0% to 100%"),
        (ModelConfig { share_percent: -1.0, ..thin() }, "0% to 100%"),
        (ModelConfig { low_water_percent: 101, ..thin() }, "0% to 100%"),
        (ModelConfig { max_hold: Duration::ZERO, ..thin() }, "max hold"),
        (ModelConfig { ttl: Some(Duration::ZERO), ..thin() }, "ttl"),
        (ModelConfig { thick: true, cold: true, ..thin() }, "exclude each other"),
        (ModelConfig { on_full: OnFull::Queue(Duration::ZERO), ..thin() }, "on full"),
        (ModelConfig { stuns: vec![StunTrigger::Every { grains: 0, duration: ms(1) }], ..thin() }, "from 1"),
        (ModelConfig { stuns: vec![StunTrigger::Chance { probability: 2.0, duration: ms(1) }], ..thin() }, "0 to 1"),
    ];
    for (config, part) in cases {
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains(part) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn some_settings_cannot_change_while_mounted() {
    let mut model = model(thin());
    let mut refused = |config| {
        model.reconfigure(at(0), ModelConfig::check(config).unwrap(), &mut Vec::new()).unwrap_err().to_string()
    };
    assert!(refused(direct()).contains("placement cannot change"));
    assert!(refused(ModelConfig { seed: 9, ..thin() }).contains("seed cannot change"));
    let faster = ModelConfig { first_write: Latency::Constant(ms(5)), ..thin() }.check().unwrap();
    model.reconfigure(at(0), faster, &mut Vec::new()).unwrap();
    write(&mut model, at(0), file(1), 0, MIB);
    assert_eq!(due(&run_out(&mut model)), [(0, 5)]);
}

#[test]
fn extreme_ranges_do_no_harm() {
    for config in [thin(), direct()] {
        let mut model = model(config);
        write(&mut model, at(0), file(1), u64::MAX - 5000, 5000);
        write(&mut model, at(0), file(1), u64::MAX, 5000);
        write(&mut model, at(0), file(1), 0, 0);
        assert_eq!(write(&mut model, at(0), file(1), 0, u64::MAX), Verdict::Fail(Refusal::VolumeFull));
        model.free(at(0), file(1), ByteRange::at(0, u64::MAX));
        model.free(at(0), file(7), ByteRange::from(3));
        model.learn(file(2), 2, &[ByteRange::at(0, 1 << 62)]);
        model.remove(at(0), file(2), 0);
        model.remove(SimTime::MAX, file(3), u64::MAX);
        model.preexisting(u64::MAX);
        model.handle_timeout(SimTime::MAX, &mut Vec::new());
        assert_eq!(model.snapshot(SimTime::MAX).held, 0);
    }
}
