//! The engine with a real model and a real clock; lower bounds on time are exact, upper bounds generous.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{OnceLock, Weak};
use std::time::Duration;

use super::*;
use crate::model::{FileKey, Latency, ModelConfig, Placement};
use crate::op::{Caller, OpKind};
use crate::time::wait_until;
use crate::units::{ByteRange, GrainSize};

#[derive(Default)]
struct ReportRecorder {
    reports: Mutex<Vec<EngineReport>>,
    answered: AtomicUsize,
    /// The engine that it observes, once it runs.
    engine: OnceLock<Weak<EngineShared>>,
    /// What was recorded of the pool's use, in bytes, and whether the model's lock was free.
    bounds: Mutex<Vec<(u64, bool)>>,
}

impl EngineObserver for ReportRecorder {
    fn report(&self, report: EngineReport) {
        if matches!(report, EngineReport::Answered(_)) {
            self.answered.fetch_add(1, Ordering::SeqCst);
        }
        self.reports.lock().push(report);
    }
    fn operation(&self, _: OpKind) {}
    fn held(&self, _: OpKind) {}
    fn pool_use_may_reach(&self, bound: Bytes) {
        let engine = self.engine.get().and_then(Weak::upgrade);
        let is_free = engine.is_none_or(|engine| engine.core.try_lock_for(LONG).is_some());
        self.bounds.lock().push((bound.0, is_free));
    }
}

const FILE: FileKey = FileKey { dev: 1, ino: 7 };
const LONG: Duration = Duration::from_secs(20);

fn start(change: impl FnOnce(&mut ModelConfig)) -> (Engine, Arc<ReportRecorder>, Clock) {
    let mut config = ModelConfig {
        placement: Placement::Direct,
        grain: GrainSize::MIB,
        first_write: Latency::Constant(Duration::from_millis(20)),
        ..ModelConfig::default()
    };
    change(&mut config);
    let observer = Arc::new(ReportRecorder::default());
    let clock = Clock::start();
    let engine = Engine::start(EngineParts {
        model: Model::new(config.check().unwrap()),
        clock,
        filter: Filter::default(),
        held_memory: Bytes::mib(1),
        observer: Arc::clone(&observer) as Arc<dyn EngineObserver>,
        on_thread_start: || (),
        on_worker_start: || (),
    })
    .unwrap();
    observer.engine.set(Arc::downgrade(&engine.shared)).unwrap();
    engine.created(FILE, 1);
    (engine, observer, clock)
}

fn info(kind: OpKind, access: Access) -> OpInfo<'static> {
    OpInfo {
        kind,
        ino: 7,
        access,
        range: None,
        caller: Caller::default(),
        synchronous: false,
        path: &|| Arc::from("a"),
    }
}

fn fsync() -> OpInfo<'static> {
    OpInfo { synchronous: true, ..info(OpKind::Fsync, Access::Meta) }
}

fn write_at(grain: u64) -> OpInfo<'static> {
    info(OpKind::Write, Access::Write(FILE, ByteRange::at(grain << 20, 4096)))
}

fn send_write(engine: &Engine, grain: u64, data: &[u8]) -> crossbeam_channel::Receiver<(SimTime, Vec<u8>)> {
    let (sender, receiver) = crossbeam_channel::unbounded();
    let shared = Arc::clone(&engine.shared);
    engine.submit_write(&write_at(grain), data, move |data| {
        sender.send((shared.clock.now(), data.unwrap().to_vec())).unwrap();
    });
    receiver
}

#[test]
fn what_passes_runs_on_the_thread_that_asks() {
    let (engine, _, _) = start(|_| {});
    let own = std::thread::current().id();
    let (sender, receiver) = crossbeam_channel::bounded(1);
    engine.submit(&info(OpKind::Getattr, Access::Meta), move |_| sender.send(std::thread::current().id()).unwrap());
    assert_eq!(receiver.try_recv(), Ok(own));
    engine.shut_down();
}

/// Puts an operation that tells which thread it runs on, and goes on when the channel that comes back says so.
fn submit_stuck(
    engine: &Engine,
    op: &OpInfo<'_>,
) -> (crossbeam_channel::Receiver<std::thread::ThreadId>, crossbeam_channel::Sender<()>) {
    let (tell, told) = crossbeam_channel::bounded(1);
    let (go, wait) = crossbeam_channel::bounded(1);
    engine.submit(op, move |_| {
        tell.send(std::thread::current().id()).unwrap();
        let _on = wait.recv_timeout(LONG);
    });
    (told, go)
}

#[test]
fn what_waits_for_the_backings_disk_keeps_nobody_from_a_stat() {
    let (engine, _, _) = start(|_| {});
    let own = std::thread::current().id();
    let synchronous = OpInfo { synchronous: true, ..info(OpKind::Write, Access::Meta) };
    let flush = fsync();
    // More than there are workers.
    let stuck: Vec<_> =
        (0..20).map(|n| submit_stuck(&engine, if n % 2 == 0 { &synchronous } else { &flush })).collect();
    assert_ne!(stuck[0].0.recv_timeout(LONG).unwrap(), own);
    let (sender, receiver) = crossbeam_channel::bounded(1);
    engine.submit(&info(OpKind::Getattr, Access::Meta), move |_| sender.send(()).unwrap());
    assert!(receiver.try_recv().is_ok());
    // No worker is free for a large read: this thread does it.
    let large = OpInfo { range: Some(ByteRange::at(0, 1 << 20)), ..info(OpKind::Read, Access::Meta) };
    let (sender, receiver) = crossbeam_channel::bounded(1);
    engine.submit(&large, move |_| sender.send(std::thread::current().id()).unwrap());
    assert_eq!(receiver.try_recv(), Ok(own));
    stuck.iter().for_each(|(_, go)| go.send(()).unwrap());
    for (told, _) in &stuck[1..] {
        assert_ne!(told.recv_timeout(LONG).unwrap(), own);
    }
    engine.shut_down();
}

#[test]
fn a_read_that_would_wait_goes_on_at_a_worker() {
    let (engine, _, _) = start(|_| {});
    let own = std::thread::current().id();
    let read = info(OpKind::Read, Access::Read(FILE, ByteRange::at(0, 4096)));
    let (sender, receiver) = crossbeam_channel::bounded(2);
    let later = sender.clone();
    engine.submit_read(&read, move |_, may_wait| {
        assert!(!may_wait);
        Some(Box::new(move || later.send(std::thread::current().id()).unwrap()))
    });
    assert_ne!(receiver.recv_timeout(LONG).unwrap(), own);
    // Held and released: then it may wait, but not on a completion thread.
    engine.stun(None, LONG);
    engine.submit_read(&read, move |_, may_wait| {
        assert!(may_wait);
        assert_eq!(std::thread::current().name().map(|name| name.starts_with("stunfs-work")), Some(true));
        sender.send(std::thread::current().id()).unwrap();
        None
    });
    engine.resume();
    receiver.recv_timeout(LONG).unwrap();
    engine.shut_down();
}

#[test]
fn once_a_write_was_made_to_wait_by_the_backing_the_next_goes_to_a_worker() {
    let (engine, _, _) = start(|config| config.first_write = Latency::Constant(Duration::ZERO));
    let own = std::thread::current().id();
    let write = |time| {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        engine.submit_write(&write_at(0), b"x", move |data| {
            assert_eq!(data.unwrap(), b"x");
            crate::time::pause(time);
            sender.send(std::thread::current().id()).unwrap();
        });
        receiver.recv_timeout(LONG).unwrap()
    };
    write(Duration::ZERO);
    assert_eq!(write(Duration::from_millis(40)), own);
    assert_ne!(write(Duration::ZERO), own);
    engine.shut_down();
}

#[test]
fn a_stun_is_not_settled_while_a_worker_is_at_it() {
    let (engine, _, _) = start(|_| {});
    let (told, go) = submit_stuck(&engine, &fsync());
    told.recv_timeout(LONG).unwrap();
    let stunning = std::thread::spawn({
        let engine = engine.clone();
        move || engine.stun(None, LONG).still_running == 0
    });
    assert!(!wait_until(Duration::from_millis(50), Duration::from_millis(5), || stunning.is_finished()));
    go.send(()).unwrap();
    assert!(stunning.join().unwrap());
    engine.shut_down();
}

#[test]
fn a_held_fsync_does_not_make_other_releases_late() {
    let (engine, _, _) = start(|_| {});
    engine.stun(None, LONG);
    let stuck: Vec<_> = (0..4).map(|_| submit_stuck(&engine, &fsync())).collect();
    let write = send_write(&engine, 0, b"after");
    let resumed = std::thread::spawn({
        let engine = engine.clone();
        move || engine.resume()
    });
    assert_eq!(write.recv_timeout(LONG / 2).unwrap().1, b"after");
    stuck.iter().for_each(|(_, go)| go.send(()).unwrap());
    assert!(resumed.join().unwrap().answered);
    engine.shut_down();
}

#[test]
fn the_pools_use_is_on_record_before_an_answer_and_written_without_the_models_lock() {
    let (engine, observer, _) = start(|config| config.first_write = Latency::Constant(Duration::ZERO));
    for grain in 0..200 {
        send_write(&engine, grain, b"x").recv_timeout(LONG).unwrap();
        let used = engine.provisioned().0;
        assert!(observer.bounds.lock().last().is_some_and(|&(bound, _)| bound >= used), "{used}");
    }
    engine.record_usage();
    let bounds = observer.bounds.lock().clone();
    assert!(bounds.len() < 60 && bounds.iter().all(|&(_, was_free)| was_free), "{bounds:?}");
    engine.shut_down();
}

#[test]
fn a_first_write_comes_out_with_its_data_and_never_early() {
    let (engine, observer, clock) = start(|_| {});
    let asked = clock.now();
    let receiver = send_write(&engine, 0, b"hello");
    assert!(receiver.try_recv().is_err(), "the asking thread does not wait");
    let (at, data) = receiver.recv_timeout(LONG).unwrap();
    assert!(at.since(asked) >= Duration::from_millis(20));
    assert_eq!(data, b"hello");
    let rewrite = send_write(&engine, 0, b"again");
    assert!(rewrite.try_recv().is_ok(), "a rewrite does not wait");
    assert!(wait_until(LONG, Duration::from_millis(1), || { observer.answered.load(Ordering::SeqCst) == 1 }));
    engine.shut_down();
}

#[test]
fn release_answers_everything_before_it_returns() {
    let (engine, observer, _) = start(|config| config.first_write = Latency::Constant(Duration::from_secs(100)));
    let receivers: Vec<_> = (0..500).map(|grain| send_write(&engine, grain, &[1; 8192])).collect();
    assert_eq!(engine.held_count(), 500);
    let (memory, spilled) = (engine.status().held_memory, engine.status().held_spilled);
    assert!(memory <= Bytes::mib(1).0 && spilled > 0, "the budget is kept: {memory} {spilled}");
    let released = engine.release_all();
    assert_eq!(released, Released { operations: 500, answered: true });
    for receiver in receivers {
        assert_eq!(receiver.try_recv().unwrap().1, [1; 8192]);
    }
    assert_eq!(engine.held_count(), 0);
    assert!(wait_until(LONG, Duration::from_millis(1), || observer.answered.load(Ordering::SeqCst) == 500));
    engine.shut_down();
}

#[test]
fn a_stun_holds_everything_until_resume() {
    let (engine, _, _) = start(|_| {});
    assert_eq!(engine.stun(None, LONG).still_running, 0);
    let (sender, receiver) = crossbeam_channel::bounded(1);
    engine.submit(&info(OpKind::Getattr, Access::Meta), move |_| sender.send(()).unwrap());
    assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err());
    let (held, total) = engine.held(10);
    assert_eq!((held.len(), total), (1, 1));
    assert_eq!(held[0].operation.kind, OpKind::Getattr);
    assert_eq!(engine.resume(), Released { operations: 1, answered: true });
    assert!(receiver.try_recv().is_ok());
    engine.shut_down();
}

#[test]
fn every_operation_completes_exactly_once_under_commands_from_all_sides() {
    let (engine, _, _) = start(|config| {
        config.first_write = Latency::Constant(Duration::from_micros(300));
        config.lanes = 64;
    });
    let done = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (engine, done) = (engine.clone(), Arc::clone(&done));
            scope.spawn(move || {
                for n in 0..500 {
                    let done = Arc::clone(&done);
                    engine.submit_write(&write_at(thread * 1000 + n), &[0; 512], move |_| {
                        done.fetch_add(1, Ordering::SeqCst);
                    });
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..50 {
                engine.stun(Some(Duration::from_millis(2)), LONG);
                engine.release_all();
                engine.set_armed(true);
                engine.resume();
            }
        });
    });
    engine.shut_down();
    assert_eq!(done.load(Ordering::SeqCst), 2000);
}

#[test]
fn a_panic_in_one_operation_does_not_stop_the_others() {
    let (engine, _, _) = start(|_| {});
    for grain in 0..4 {
        engine.submit_write(&write_at(grain), &[0; 16], |_| panic!("on purpose"));
    }
    let (_, data) = send_write(&engine, 9, b"still").recv_timeout(LONG).unwrap();
    assert_eq!(data, b"still");
    engine.shut_down();
}

#[test]
fn after_shut_down_nothing_waits() {
    let (engine, _, _) = start(|_| {});
    let early = send_write(&engine, 0, b"early");
    engine.shut_down();
    assert!(early.try_recv().is_ok());
    assert!(send_write(&engine, 1, b"late").try_recv().is_ok());
}
