//! Freezes what stands around the volume for as long as a stun lasts, on a thread of its own.
//!
//! Must not know: how a kind of target is frozen, or what stuns. Invariant: the thread goes by what the engine says at
//! that moment, not by the order in which it is told; whatever is frozen is thawed when no stun is in force, and the guard
//! knows of each thing before it is frozen.

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::error::{ErrorKind, VolumeError};
use super::inner::Inner;
use crate::freeze::{FreezeError, FreezeSet, FreezeTarget, Surroundings};
use crate::telemetry::event::EventBody;
use crate::time::{Deadline, SimTime, wait_until};

/// How long freezing may take; a stun that is shorter is not waited for longer than it lasts.
const FREEZE_WITHIN: Duration = Duration::from_secs(10);

/// How long thawing may take; then it is tried again.
const THAW_WITHIN: Duration = Duration::from_secs(5);

/// How long an answer to a stun by hand may take: an attempt, the thaw after it, and another one.
const ANSWER_WITHIN: Duration = Duration::from_secs(25);

/// How often the engine and the guard are looked at while something is frozen.
const TICK: Duration = Duration::from_millis(250);

/// Why a stun by hand does not begin: not everything that it is to freeze stands still.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum StandStillError {
    /// One of the targets was not frozen.
    #[error(transparent)]
    Freeze(Arc<FreezeError>),
    /// Nothing may be frozen that would stay frozen if this process were killed.
    #[error("nothing is frozen without the guard process")]
    NoGuard,
    /// The volume is being unmounted.
    #[error("the volume is about to end")]
    Ending,
    /// The freezer does not answer.
    #[error("freezing takes longer than {} s", ANSWER_WITHIN.as_secs())]
    TooLong,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Thawed,
    Freezing,
    Frozen,
    /// Also when thawing failed, until it succeeds.
    Thawing,
}

#[derive(Debug)]
struct FreezerState {
    phase: Phase,
    /// Stuns by hand that want all to stand still before they begin, and have not begun.
    asked: u32,
    /// Attempts that failed, and why the last one did.
    failed: u64,
    failure: Option<StandStillError>,
    /// Something has changed since the thread last looked.
    nudged: bool,
    closing: bool,
}

/// What is frozen during stuns. Without targets it does nothing.
#[derive(Debug)]
pub(super) struct StunFreezer {
    /// A thread that needs both this and the guard locks this first.
    set: Mutex<FreezeSet>,
    targets: Vec<FreezeTarget>,
    state: Mutex<FreezerState>,
    changed: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A stun in force.
#[derive(Debug, Clone, Copy)]
struct StunInForce {
    number: u64,
    left: Duration,
}

/// All stands still until a stun has begun, or at least until this is dropped.
#[derive(Debug)]
pub(super) struct StandStill<'a>(&'a StunFreezer);

impl Drop for StandStill<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.asked = state.asked.saturating_sub(1);
        drop(state);
        self.0.nudge();
    }
}

impl StunFreezer {
    /// Looks at every target; freezes none.
    pub(super) fn open(targets: &[FreezeTarget]) -> Result<Self, VolumeError> {
        let set = FreezeSet::open_in(targets, Surroundings::from_env());
        let set = set.map_err(|error| VolumeError::new(ErrorKind::Unavailable, error.to_string()))?;
        let state =
            FreezerState { phase: Phase::Thawed, asked: 0, failed: 0, failure: None, nudged: false, closing: false };
        Ok(Self {
            set: Mutex::new(set),
            targets: targets.to_vec(),
            state: Mutex::new(state),
            changed: Condvar::new(),
            thread: Mutex::new(None),
        })
    }

    /// Begins to watch for stuns.
    pub(super) fn start(&self, inner: &Arc<Inner>) -> std::io::Result<()> {
        if self.targets.is_empty() {
            return Ok(());
        }
        let inner = Arc::clone(inner);
        let thread = Builder::new().name("stunfs-freeze".into()).spawn(move || inner.freezer.run(&inner))?;
        *self.thread.lock() = Some(thread);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, FreezerState> {
        self.state.lock()
    }

    /// Whether a stun is in force may have changed. Never waits.
    pub(super) fn nudge(&self) {
        self.state().nudged = true;
        self.changed.notify_all();
    }

    /// Freezes all, for a stun that is about to begin; comes back when all stands still, or with the reason why not.
    pub(super) fn stand_still(&self) -> Result<StandStill<'_>, StandStillError> {
        let mut state = self.state();
        state.asked += 1;
        if self.targets.is_empty() {
            return Ok(StandStill(self));
        }
        state.nudged = true;
        self.changed.notify_all();
        let (before, deadline) = (state.failed, Deadline::after(ANSWER_WITHIN));
        loop {
            // With a failure the thread has reset the count of those that asked.
            if state.failed > before
                && let Some(failure) = &state.failure
            {
                return Err(failure.clone());
            }
            if state.phase == Phase::Frozen {
                return Ok(StandStill(self));
            }
            if state.closing || deadline.passed() {
                state.asked = state.asked.saturating_sub(1);
                return Err(if state.closing { StandStillError::Ending } else { StandStillError::TooLong });
            }
            self.changed.wait_for(&mut state, deadline.left());
        }
    }

    /// Waits until nothing is frozen (any more), or another stun wants it to be.
    pub(super) fn wait_thawed(&self) {
        let deadline = Deadline::after(THAW_WITHIN);
        let mut state = self.state();
        while state.phase != Phase::Thawed && state.asked == 0 && !deadline.passed() {
            self.changed.wait_for(&mut state, deadline.left());
        }
    }

    /// Thaws all and ends the thread. Whether all is thawed; if not, the guard is to see to it.
    pub(super) fn finish(&self) -> bool {
        self.state().closing = true;
        self.changed.notify_all();
        if let Some(thread) = self.thread.lock().take()
            && !wait_until(FREEZE_WITHIN + 2 * THAW_WITHIN, Duration::from_millis(1), || thread.is_finished())
        {
            tracing::warn!("freezing does not come to an end; its thread is left behind");
        }
        self.is_thawed()
    }

    /// Whether all stands still.
    pub(super) fn is_frozen(&self) -> bool {
        self.state().phase == Phase::Frozen
    }

    /// Whether nothing is frozen.
    pub(super) fn is_thawed(&self) -> bool {
        self.state().phase == Phase::Thawed
    }

    pub(super) fn set(&self) -> MutexGuard<'_, FreezeSet> {
        self.set.lock()
    }

    /// The targets, unless they are being frozen or thawed just now.
    pub(super) fn try_set(&self) -> Option<MutexGuard<'_, FreezeSet>> {
        self.set.try_lock()
    }

    // ---- the thread ----

    fn run(&self, inner: &Inner) {
        // The stun in force that could not be frozen for.
        let mut given_up = None;
        loop {
            let (asked, closing) = self.news();
            let stun = in_force(inner);
            let wanted = !closing && (asked || stun.is_some_and(|stun| Some(stun.number) != given_up));
            let frozen = self.state().phase == Phase::Frozen;
            if wanted && !frozen {
                let within = stun.filter(|_| !asked).map_or(FREEZE_WITHIN, |stun| stun.left.min(FREEZE_WITHIN));
                if !self.freeze(inner, Deadline::after(within)) {
                    given_up = in_force(inner).map(|stun| stun.number);
                }
            } else if !wanted {
                self.thaw(inner);
            } else if !inner.guard_stands(&mut self.set.lock()) {
                given_up = stun.map(|stun| stun.number);
                self.thaw(inner);
            }
            if closing {
                return;
            }
        }
    }

    /// Waits until there is something to look at; whether stuns by hand want all to be frozen, and whether this is the end.
    fn news(&self) -> (bool, bool) {
        let mut state = self.state();
        while !state.nudged && !state.closing && state.phase == Phase::Thawed {
            self.changed.wait(&mut state);
        }
        if !state.nudged && !state.closing {
            self.changed.wait_for(&mut state, TICK);
        }
        state.nudged = false;
        (state.asked > 0, state.closing)
    }

    fn enter(&self, phase: Phase) {
        self.state().phase = phase;
        self.changed.notify_all();
    }

    /// Whether all targets are frozen now; if not, all of them run.
    fn freeze(&self, inner: &Inner, deadline: Deadline) -> bool {
        self.enter(Phase::Freezing);
        let began = inner.clock.now();
        let mut set = self.set.lock();
        let mut outcome = attempt(inner, &mut set, deadline);
        if outcome.is_err() && !inner.guard_alive() {
            // It was killed in the middle: that says nothing about the targets.
            outcome = attempt(inner, &mut set, deadline);
        }
        match outcome {
            Ok(()) => {
                let waiting = set.waiting().iter().map(ToString::to_string).collect();
                let took_us = since(inner, began);
                inner.witness.log.emit(EventBody::Frozen { targets: self.targets.clone(), took_us, waiting });
                self.enter(Phase::Frozen);
                true
            }
            Err(why) => {
                self.settle(inner, &set);
                drop(set);
                inner.warn(why.to_string());
                let mut state = self.state();
                state.failed += 1;
                state.failure = Some(why);
                state.asked = 0;
                drop(state);
                self.changed.notify_all();
                false
            }
        }
    }

    fn thaw(&self, inner: &Inner) {
        let mut state = self.state();
        let needless = state.phase == Phase::Thawed || (state.asked > 0 && state.phase == Phase::Frozen);
        if needless && !state.closing {
            return;
        }
        state.phase = Phase::Thawing;
        drop(state);
        let began = inner.clock.now();
        let mut set = self.set.lock();
        let was_frozen = set.is_frozen();
        if let Err(error) = set.thaw(Deadline::after(THAW_WITHIN)) {
            inner.warn(error.to_string());
        } else if was_frozen {
            let took_us = since(inner, began);
            inner.witness.log.emit(EventBody::Thawed { targets: self.targets.clone(), took_us });
        }
        self.settle(inner, &set);
    }

    /// After an attempt to freeze that failed, or one to thaw.
    fn settle(&self, inner: &Inner, set: &FreezeSet) {
        if set.is_frozen() {
            self.enter(Phase::Thawing);
        } else {
            inner.tell_guard_thawed();
            self.enter(Phase::Thawed);
        }
    }
}

fn attempt(inner: &Inner, set: &mut FreezeSet, deadline: Deadline) -> Result<(), StandStillError> {
    if !inner.guard_stands(set) {
        return Err(StandStillError::NoGuard);
    }
    set.freeze_armed(deadline, &mut |action| inner.arm_guard(action))
        .map_err(|error| StandStillError::Freeze(Arc::new(error)))
}

/// The stun in force, by the engine.
fn in_force(inner: &Inner) -> Option<StunInForce> {
    let now = inner.engine.status();
    let until = now.model.stunned_until?;
    Some(StunInForce { number: now.model.stuns, left: until.since(now.now) })
}

fn since(inner: &Inner, began: SimTime) -> u64 {
    u64::try_from(inner.clock.now().since(began).as_micros()).unwrap_or(u64::MAX)
}
