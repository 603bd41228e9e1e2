//! Holds and releases operations: one lock on the model, one timer thread, a few completion threads.
//!
//! Must not know: FUSE, files, sockets. Invariant: the thread that submits an operation never sleeps, and the work of
//! every submitted operation runs exactly once.
//!
//! An operation that passes runs on the thread that submits it, with nothing locked and nothing allocated, unless it
//! waits for the backing's disk (`fsync`) or copies much: a worker does that, so that `stat` need not wait. One that is
//! held becomes a slot (`hold.rs`): its data is copied, and its work waits for the model to release it; then a completion
//! thread runs it. A held write therefore touches the backing only when it is released.

mod commands;
mod data;
mod filter;
mod hold;
mod job_queue;
mod op;
mod provisioning;
mod quiesce;
mod refusal;
mod report;
mod throttled;
mod timer;
mod usage_bound;

pub use commands::{EngineStatus, Released, Stunned};
pub use filter::{Filter, FilterError, FilterUse};
pub use op::{HeldOperation, Later, OpInfo};
pub use refusal::errno_of;
pub use report::{AnsweredHold, EngineObserver, EngineReport, HoldTimes, LATE};

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::thread::JoinHandle;

use crossbeam_channel::Sender;
use parking_lot::{Mutex, MutexGuard, RwLock};

use crate::model::{Access, FileKey, Gate, Model, ModelOp, OpId, Refusal, Release, Verdict};
use crate::op::OpKind;
use crate::time::{Clock, SimTime};
use crate::units::Bytes;
use data::DataStore;
use hold::{HeldSlot, Job, LongJob, Slot, Work};
use job_queue::JobQueue;
use op::ExpectedDuration;
use quiesce::RunningOperations;
use throttled::Throttled;
use usage_bound::UsageBound;

/// What an engine is made of.
pub struct EngineParts {
    /// The model, filled with what the last session left.
    pub model: Model,
    /// The volume's clock.
    pub clock: Clock,
    /// Which operations are hit.
    pub filter: Filter,
    /// Memory for the data of held writes.
    pub held_memory: Bytes,
    /// Who hears of it.
    pub observer: Arc<dyn EngineObserver>,
    /// What each of the engine's threads does first: lateness of a release is an error of the imitation.
    pub on_thread_start: fn(),
    /// Called on each worker.
    pub on_worker_start: fn(),
}

impl fmt::Debug for EngineParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineParts").finish_non_exhaustive()
    }
}

/// The engine of a volume. Clones are the same engine; [`Engine::shut_down`] ends it.
#[derive(Debug, Clone)]
pub struct Engine {
    shared: Arc<EngineShared>,
}

/// A thread that panics leaves sound data behind these locks: every change under them is completed or not begun.
struct EngineShared {
    clock: Clock,
    core: Mutex<Core>,
    usage_bound: UsageBound,
    /// A copy of the model's gate, so that what needs no verdict takes no lock.
    gate: AtomicU8,
    filter: RwLock<Arc<Filter>>,
    running: RunningOperations,
    throttled: Throttled,
    data: DataStore,
    observer: Arc<dyn EngineObserver>,
    /// Released operations, for the completion threads.
    jobs: JobQueue<Job>,
    /// Operations that passed and take long, for the workers.
    long: JobQueue<LongJob>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Core {
    model: Model,
    slots: HashMap<OpId, Slot>,
    /// When the timer thread wakes up by itself; `SimTime::MAX`: never.
    alarm: SimTime,
    timer: Option<std::thread::Thread>,
    stopping: bool,
    /// Files whose data is in the pool's use already, while a scan of the backing goes on.
    counted: Option<HashSet<FileKey>>,
}

impl fmt::Debug for EngineShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineShared").field("gate", &self.gate).field("data", &self.data).finish_non_exhaustive()
    }
}

const GATE_ALL: u8 = 1;
const GATE_READS: u8 = 2;

impl Engine {
    /// Starts the timer and completion threads.
    pub fn start(parts: EngineParts) -> std::io::Result<Self> {
        let (on_thread_start, on_worker_start) = (parts.on_thread_start, parts.on_worker_start);
        let engine = Self { shared: Arc::new(EngineShared::new(parts, true)) };
        let threads = timer::start(&engine.shared, on_thread_start, on_worker_start)?;
        *engine.shared.threads.lock() = threads;
        Ok(engine)
    }

    /// An engine without threads that never holds anything: a plain pass-through.
    pub fn pass_through() -> Self {
        let parts = EngineParts {
            model: Model::disarmed(),
            clock: Clock::start(),
            filter: Filter::default(),
            held_memory: Bytes(0),
            observer: Arc::new(report::Unheard),
            on_thread_start: || (),
            on_worker_start: || (),
        };
        let shared = EngineShared::new(parts, false);
        Self { shared: Arc::new(shared) }
    }

    /// Runs `work` now, or when the model lets the operation go; with `Err` if it refuses it.
    pub fn submit<W>(&self, op: &OpInfo<'_>, work: W)
    where
        W: FnOnce(Result<(), Refusal>) + Send + 'static,
    {
        let run = |work: W, outcome| {
            work(outcome);
            None
        };
        self.put(op, work, run, |work| Work::Plain(Box::new(work)));
    }

    /// As [`Engine::submit`], for a read. `work` is told whether it may wait for the disk; if not, it does what can be done
    /// at once, or gives back what is left to do: a worker does that.
    pub fn submit_read<W>(&self, op: &OpInfo<'_>, work: W)
    where
        W: FnOnce(Result<(), Refusal>, bool) -> Option<Later> + Send + 'static,
    {
        let wait = |work: W| move |outcome| work(outcome, true).into_iter().for_each(|later| later());
        self.put(op, work, |work, outcome| work(outcome, false), |work| Work::Plain(Box::new(wait(work))));
    }

    /// Has a worker do what has to come before an operation and takes long.
    pub fn prepare(&self, work: impl FnOnce() + Send + 'static) {
        let running = self.shared.running.enter().hand_over();
        self.shared.send_long(vec![LongJob::Passed(Work::Plain(Box::new(move |_| work())), running)]);
    }

    /// As [`Engine::submit`], for a write: `data` is copied only if the operation is held.
    pub fn submit_write<W>(&self, op: &OpInfo<'_>, data: &[u8], work: W)
    where
        W: FnOnce(Result<&[u8], Refusal>) + Send + 'static,
    {
        let keep = |work| Work::Write(self.shared.data.take(data), Box::new(work));
        let run = |work: W, outcome: Result<(), Refusal>| {
            let began = self.shared.clock.now();
            work(outcome.map(|()| data));
            self.shared.throttled.note(began, self.shared.clock.now());
            None
        };
        self.put(op, work, run, keep);
    }

    /// One operation comes in: `run` carries its work out now, or what of it can be done now; `keep` makes of it what waits.
    fn put<W>(
        &self,
        op: &OpInfo<'_>,
        work: W,
        run: impl FnOnce(W, Result<(), Refusal>) -> Option<Later>,
        keep: impl FnOnce(W) -> Work,
    ) {
        let shared = &*self.shared;
        shared.observer.operation(op.kind);
        let running = shared.running.enter();
        match self.verdict(op) {
            Verdict::Pass if shared.belongs_to_worker(op) => {
                shared.send_long(vec![LongJob::Passed(keep(work), running.hand_over())]);
            }
            Verdict::Pass => {
                if let Some(later) = run(work, Ok(())) {
                    let rest = Work::Plain(Box::new(move |_| later()));
                    shared.send_long(vec![LongJob::Passed(rest, running.hand_over())]);
                }
            }
            Verdict::Fail(refusal) => {
                shared.refuse(op, refusal);
                let _answered = run(work, Err(refusal));
            }
            Verdict::Held(id) => {
                drop(running);
                shared.observer.held(op.kind);
                self.hold(id, op, keep(work));
            }
        }
    }

    fn verdict(&self, op: &OpInfo<'_>) -> Verdict {
        let shared = &*self.shared;
        let gate = shared.gate.load(SeqCst);
        let needed = match op.access {
            Access::Write(..) | Access::Allocate(..) => true,
            Access::Read(..) => gate != 0,
            Access::Meta => gate & GATE_ALL != 0,
        };
        if !needed {
            return Verdict::Pass;
        }
        let filter = Arc::clone(&shared.filter.read());
        let selected = filter.selects(op);
        let mut core = shared.core();
        let now = shared.clock.now();
        let verdict = core.model.submit(now, ModelOp { access: op.access, selected });
        if let Verdict::Held(id) = verdict {
            core.slots.insert(id, Slot::Filling { since: now });
        }
        shared.settle(core, Vec::new(), None);
        verdict
    }

    /// Fills the slot that [`Engine::verdict`] made; if it has been released meanwhile, the work goes on at once.
    fn hold(&self, id: OpId, op: &OpInfo<'_>, work: Work) {
        let (operation, pace) = (Arc::new(op.operation()), op.pace());
        let mut core = self.shared.core();
        match core.slots.remove(&id) {
            Some(Slot::Released(release, released, batch)) => {
                drop(core);
                // The thread that released it may still be recording what that takes.
                self.shared.usage_bound.record(&*self.shared.observer);
                let waited = HeldSlot { since: release.requested, operation, work, pace };
                self.shared.send(vec![Job { release, released, waited, batch }]);
            }
            Some(Slot::Filling { since }) => {
                core.slots.insert(id, Slot::Full(HeldSlot { since, operation, work, pace }));
            }
            Some(full @ Slot::Full(_)) => {
                // Ids are unique: this cannot be ours. Keep it.
                core.slots.insert(id, full);
            }
            None => {}
        }
    }
}

impl EngineShared {
    fn new(parts: EngineParts, threads: bool) -> Self {
        Self {
            clock: parts.clock,
            gate: AtomicU8::new(gate_bits(parts.model.gate())),
            core: Mutex::new(Core {
                model: parts.model,
                slots: HashMap::new(),
                alarm: SimTime::MAX,
                timer: None,
                stopping: false,
                counted: None,
            }),
            usage_bound: UsageBound::default(),
            filter: RwLock::new(Arc::new(parts.filter)),
            running: RunningOperations::default(),
            throttled: Throttled::default(),
            data: if threads { DataStore::new(parts.held_memory) } else { DataStore::in_memory(parts.held_memory) },
            observer: parts.observer,
            jobs: JobQueue::new(threads),
            long: JobQueue::new(threads),
            threads: Mutex::new(Vec::new()),
        }
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock()
    }

    fn refuse(&self, op: &OpInfo<'_>, refusal: Refusal) {
        self.observer.report(EngineReport::Refused(op.operation(), refusal));
    }

    /// After any change of the model: publishes the gate and sets the alarm; then, with the lock given back, hands what
    /// was released to the completion threads and tells of what happened.
    fn settle(&self, mut core: MutexGuard<'_, Core>, releases: Vec<Release>, batch: Option<&Sender<()>>) {
        self.gate.store(gate_bits(core.model.gate()), SeqCst);
        self.usage_bound.decide(&core.model);
        let next = core.model.poll_timeout().unwrap_or(SimTime::MAX);
        if next < core.alarm {
            core.alarm = next;
            if let Some(timer) = &core.timer {
                timer.unpark();
            }
        }
        let now = if releases.is_empty() { SimTime::ZERO } else { self.clock.now() };
        let jobs = releases.into_iter().filter_map(|release| core.claim(release, now, batch)).collect();
        let notices = core.model.take_notices();
        drop(core);
        self.usage_bound.record(&*self.observer);
        self.send(jobs);
        notices.into_iter().for_each(|notice| self.observer.report(EngineReport::Notice(notice)));
    }

    /// Hands released operations to the completion threads, or to the workers; once those have ended, carries them out
    /// here.
    fn send(&self, jobs: Vec<Job>) {
        let (long, jobs): (Vec<_>, Vec<_>) =
            jobs.into_iter().partition(|job| job.waited.pace != ExpectedDuration::Short);
        if !jobs.is_empty()
            && let Err(left) = self.jobs.push(jobs)
        {
            left.into_iter().for_each(|job| hold::run(self, job));
        }
        self.send_long(long.into_iter().map(LongJob::Released).collect());
    }

    /// Whether this thread has better things to do.
    fn belongs_to_worker(&self, op: &OpInfo<'_>) -> bool {
        match op.pace() {
            ExpectedDuration::Short if op.kind == OpKind::Write => self.throttled.now(&self.clock),
            ExpectedDuration::Short | ExpectedDuration::MayWait => false,
            ExpectedDuration::Copies => self.long.has_idle_thread(),
            ExpectedDuration::WaitsForDisk => true,
        }
    }

    fn send_long(&self, jobs: Vec<LongJob>) {
        if !jobs.is_empty()
            && let Err(left) = self.long.push(jobs)
        {
            left.into_iter().for_each(|job| hold::run_long(self, job));
        }
    }
}

impl Core {
    /// Takes the work of a released operation, or leaves word for whoever is filling its slot.
    fn claim(&mut self, release: Release, released: SimTime, batch: Option<&Sender<()>>) -> Option<Job> {
        match self.slots.remove(&release.id)? {
            Slot::Full(waited) => Some(Job { release, released, waited, batch: batch.cloned() }),
            Slot::Filling { .. } | Slot::Released(..) => {
                self.slots.insert(release.id, Slot::Released(release, released, batch.cloned()));
                None
            }
        }
    }
}

const fn gate_bits(gate: Gate) -> u8 {
    (if gate.everything { GATE_ALL } else { 0 }) | (if gate.reads { GATE_READS } else { 0 })
}

#[cfg(test)]
mod tests;
