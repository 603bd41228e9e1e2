//! What the engine reports, in its own terms; telemetry makes events and metrics of it.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{ModelConfig, ModelNotice, OpId, Penalty, Refusal, ReleaseCause};
use crate::op::{OpKind, Operation};
use crate::time::SimTime;
use crate::units::Bytes;

/// A hold that is taken up later than this after its time says so: the process was not scheduled, or had too much to do.
pub const LATE: Duration = Duration::from_millis(100);

/// The moments of a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldTimes {
    /// It came in.
    pub requested: SimTime,
    /// It was due.
    pub due: SimTime,
    /// It was released: at `due`, or when something ended the hold early.
    pub released: SimTime,
    /// A thread began to carry it out.
    pub taken_up: SimTime,
    /// It was answered.
    pub answered: SimTime,
}

impl HoldTimes {
    /// How long after its release a thread took it up, if that is more than [`LATE`]. That time is the harness's own, not the
    /// imitated storage's.
    pub fn late(&self) -> Option<Duration> {
        Some(self.taken_up.since(self.released)).filter(|late| *late > LATE)
    }
}

/// A held operation that has been answered.
#[derive(Debug, Clone)]
pub struct AnsweredHold {
    /// The hold's number.
    pub id: OpId,
    /// Who did what to what.
    pub operation: Arc<Operation>,
    /// When.
    pub times: HoldTimes,
    /// Why it came out.
    pub cause: ReleaseCause,
    /// What it waited for.
    pub penalty: Penalty,
    /// The error that it was answered with.
    pub refusal: Option<Refusal>,
}

/// Something happened.
#[derive(Debug, Clone)]
pub enum EngineReport {
    /// A held operation has been answered.
    Answered(AnsweredHold),
    /// An operation was refused at once.
    Refused(Operation, Refusal),
    /// The model has something to tell.
    Notice(ModelNotice),
    /// All injection was ended; so many operations came out.
    Released(usize),
    /// Injection was switched on or off.
    Armed(bool),
    /// Another configuration is in force.
    Reconfigured(Box<ModelConfig>),
    /// The pool has another size.
    Grown(Bytes),
}

/// Who hears what the engine does. Must not block: it is called on the threads that serve and release operations, with nothing
/// locked.
pub trait EngineObserver: Send + Sync + 'static {
    /// Something happened.
    fn report(&self, report: EngineReport);
    /// An operation came in.
    fn operation(&self, kind: OpKind);
    /// An operation is held.
    fn held(&self, kind: OpKind);
    /// From now on the pool's use may reach `bound`. An observer that must know this after a crash records it before it returns.
    fn pool_use_may_reach(&self, _bound: Bytes) {}
}

/// Discards every report.
#[derive(Debug)]
pub(super) struct Unheard;

impl EngineObserver for Unheard {
    fn report(&self, _: EngineReport) {}
    fn operation(&self, _: OpKind) {}
    fn held(&self, _: OpKind) {}
}
