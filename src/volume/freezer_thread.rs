//! The thread that freezes what stands around the volume when a stun begins, and thaws it when the stun ends.
//!
//! Must not know: how a kind of target is frozen, or what stuns. Invariant: the thread goes by what the engine says at
//! that moment, not by the order in which it is told; whatever is frozen is thawed when no stun is in force, and the guard
//! knows of each thing before it is frozen.

use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use super::inner::Inner;
use super::stun_freezer::{FREEZE_WITHIN, Phase, StandStillError, StunFreezer, THAW_WITHIN};
use crate::freeze::FreezeSet;
use crate::telemetry::event::EventBody;
use crate::time::{Deadline, SimTime};

/// How often the engine and the guard are looked at while something is frozen.
const TICK: Duration = Duration::from_millis(250);

/// A stun in force.
#[derive(Debug, Clone, Copy)]
struct StunInForce {
    number: u64,
    left: Duration,
}

/// Begins to watch for stuns.
pub(super) fn start(inner: &Arc<Inner>) -> std::io::Result<()> {
    if inner.freezer.targets.is_empty() {
        return Ok(());
    }
    let shared = Arc::clone(inner);
    let thread = Builder::new().name("stunfs-freeze".into()).spawn(move || shared.freezer.run(&shared))?;
    *inner.freezer.thread.lock() = Some(thread);
    Ok(())
}

impl StunFreezer {
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
            } else if !inner.ensure_guard(&mut self.set.lock()) {
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
                inner.observer.log.emit(EventBody::Frozen { targets: self.targets.clone(), took_us, waiting });
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
            inner.observer.log.emit(EventBody::Thawed { targets: self.targets.clone(), took_us });
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
    if !inner.ensure_guard(set) {
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
