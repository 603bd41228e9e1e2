//! What is frozen for as long as a stun lasts: its state, and what other threads ask of the thread that freezes and thaws.
//!
//! Must not know: how a kind of target is frozen, or what stuns. Invariant: a stun by hand begins only when all stands still.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::error::{ErrorKind, VolumeError};
use crate::freeze::{FreezeError, FreezeSet, FreezeTarget, Surroundings};
use crate::time::{Deadline, wait_until};

/// How long freezing may take; a stun that is shorter is not waited for longer than it lasts.
pub(super) const FREEZE_WITHIN: Duration = Duration::from_secs(10);

/// How long thawing may take; then it is tried again.
pub(super) const THAW_WITHIN: Duration = Duration::from_secs(5);

/// How long an answer to a stun by hand may take: an attempt, the thaw after it, and another one.
const ANSWER_WITHIN: Duration = Duration::from_secs(25);

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
pub(super) enum Phase {
    Thawed,
    Freezing,
    Frozen,
    /// Also when thawing failed, until it succeeds.
    Thawing,
}

#[derive(Debug)]
pub(super) struct FreezerState {
    pub(super) phase: Phase,
    /// Stuns by hand that want all to stand still before they begin, and have not begun.
    pub(super) asked: u32,
    /// Attempts that failed, and why the last one did.
    pub(super) failed: u64,
    pub(super) failure: Option<StandStillError>,
    /// Something has changed since the thread last looked.
    pub(super) nudged: bool,
    pub(super) closing: bool,
}

/// What is frozen during stuns. Without targets it does nothing.
#[derive(Debug)]
pub(super) struct StunFreezer {
    /// A thread that needs both this and the guard locks this first.
    pub(super) set: Mutex<FreezeSet>,
    pub(super) targets: Vec<FreezeTarget>,
    state: Mutex<FreezerState>,
    pub(super) changed: Condvar,
    pub(super) thread: Mutex<Option<JoinHandle<()>>>,
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

    pub(super) fn state(&self) -> MutexGuard<'_, FreezerState> {
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
}
