//! An operation that another thread carries out than the one that took it in: held, from its verdict to its answer, or long.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::EngineShared;
use super::data::HeldData;
use super::op::ExpectedDuration;
use super::quiesce::HandedOver;
use super::report::{AnsweredHold, EngineReport, HoldTimes};
use crate::model::{Refusal, Release, ReleaseCause};
use crate::op::Operation;
use crate::time::SimTime;

type PlainWork = Box<dyn FnOnce(Result<(), Refusal>) + Send>;
type WriteWork = Box<dyn FnOnce(Result<&[u8], Refusal>) + Send>;

/// What is left to do of an operation.
pub(super) enum Work {
    Plain(PlainWork),
    Write(HeldData, WriteWork),
}

/// A place among the held operations.
pub(super) enum Slot {
    /// The submitting thread is still copying the data, with the lock given back.
    Filling { since: SimTime },
    /// Released while it was being filled: whoever fills it goes on at once.
    Released(Release, SimTime, Option<Sender<()>>),
    /// HeldSlot.
    Full(HeldSlot),
}

/// An operation that waits.
pub(super) struct HeldSlot {
    pub(super) since: SimTime,
    pub(super) operation: Arc<Operation>,
    pub(super) work: Work,
    pub(super) pace: ExpectedDuration,
}

/// A released operation on its way to a completion thread, or to a worker. `batch` is dropped when it has been answered.
pub(super) struct Job {
    pub(super) release: Release,
    /// When the model let it go.
    pub(super) released: SimTime,
    pub(super) waited: HeldSlot,
    pub(super) batch: Option<Sender<()>>,
}

/// An operation that takes long, on its way to a worker.
pub(super) enum LongJob {
    /// It passed.
    Passed(Work, HandedOver),
    /// It was held.
    Released(Job),
}

/// Carries out an operation that takes long.
pub(super) fn run_long(shared: &EngineShared, job: LongJob) {
    match job {
        LongJob::Released(job) => run(shared, job),
        LongJob::Passed(work, running) => {
            let _running = shared.running.take_up(running);
            // A panic ends this operation, not the thread that does the others.
            if std::panic::catch_unwind(AssertUnwindSafe(|| carry_out(shared, work, Ok(())))).is_err() {
                tracing::error!("carrying out an operation panicked");
            }
        }
    }
}

/// Carries out a released operation, which answers it, then tells of it.
pub(super) fn run(shared: &EngineShared, job: Job) {
    let Job { release, released, waited: HeldSlot { operation, work, .. }, batch } = job;
    let taken_up = shared.clock.now();
    let running = shared.running.enter();
    // A panic ends this operation (its reply, dropped, becomes EIO), not the thread that completes the others.
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| carry_out(shared, work, release.outcome)));
    if outcome.is_err() {
        tracing::error!("carrying out a held {} panicked", operation.kind.name());
    }
    drop(running);
    let answered = shared.clock.now();
    drop(batch);
    let released = if release.cause == ReleaseCause::Due { release.due } else { released };
    let times = HoldTimes { requested: release.requested, due: release.due, released, taken_up, answered };
    shared.observer.report(EngineReport::Answered(AnsweredHold {
        id: release.id,
        operation,
        times,
        cause: release.cause,
        penalty: release.penalty,
        refusal: release.outcome.err(),
    }));
}

fn carry_out(shared: &EngineShared, work: Work, outcome: Result<(), Refusal>) {
    match work {
        Work::Plain(work) => work(outcome),
        Work::Write(held, work) => {
            let data = shared.data.give_back(held);
            match (outcome, data) {
                (Ok(()), Ok(data)) => work(Ok(&data)),
                (Err(refusal), _) => work(Err(refusal)),
                (Ok(()), Err(error)) => {
                    tracing::error!("the data of a held write could not be read back: {error}");
                    work(Err(Refusal::DataLost));
                }
            }
        }
    }
}
