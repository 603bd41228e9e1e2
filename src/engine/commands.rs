//! Commands from outside. Each answers after its effect.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::hold::{HeldSlot, Slot};
use super::report::EngineReport;
use super::{Core, Engine, Filter, FilterUse, HeldOperation, timer};
use crate::model::{CheckedConfig, ConfigError, ModelConfig, Refusal, Release, Snapshot};
use crate::time::SimTime;
use crate::units::Bytes;

/// How long a command waits until what it released has been answered.
const ANSWERED: Duration = Duration::from_secs(30);

/// What a command let out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released {
    /// Operations.
    pub operations: usize,
    /// Whether all of them have been answered.
    pub answered: bool,
}

/// A stun that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stunned {
    /// When it ends at the latest.
    pub until: SimTime,
    /// Operations that began before the stun and still ran when the stun had waited for them as long as it may.
    pub still_running: usize,
}

/// The engine, seen from outside.
#[derive(Debug, Clone)]
pub struct EngineStatus {
    /// The model.
    pub model: Snapshot,
    /// Its configuration now.
    pub config: ModelConfig,
    /// Data of held writes in memory, bytes.
    pub held_memory: u64,
    /// What the filter has selected so far.
    pub filter: FilterUse,
    /// Data of held writes in the temporary file, bytes.
    pub held_spilled: u64,
    /// The time of all this.
    pub now: SimTime,
}

impl Engine {
    /// Stuns the volume: everything is held until the returned time, [`Engine::resume`], or `max_hold`. Waits until no
    /// operation that began before is still under way, at most for `settle`.
    pub fn stun(&self, duration: Option<Duration>, settle: Duration) -> Stunned {
        let mut core = self.shared.core();
        let until = core.model.stun(self.shared.clock.now(), duration);
        self.shared.settle(core, Vec::new(), None);
        Stunned { until, still_running: self.shared.running.settle(settle) }
    }

    /// Ends a stun.
    pub fn resume(&self) -> Released {
        self.command(|core, now, out| core.model.resume(now, out)).1
    }

    /// Ends all injection at once: everything held comes out with success, and the volume is disarmed.
    pub fn release_all(&self) -> Released {
        let released = self.command(|core, now, out| core.model.release_all(now, out)).1;
        self.shared.observer.report(EngineReport::Released(released.operations));
        released
    }

    /// The connection to the kernel is gone: whatever is held is dropped without touching the backing, since nobody can
    /// be told that it was done.
    pub fn abandon(&self) -> Released {
        let abandon = |core: &mut Core, now, out: &mut Vec<Release>| {
            core.model.release_all(now, out);
            out.iter_mut().for_each(|release| release.outcome = Err(Refusal::Disconnected));
        };
        self.command(abandon).1
    }

    /// Switches injection on or off.
    pub fn set_armed(&self, armed: bool) -> Released {
        let released = self.command(|core, now, out| core.model.set_armed(now, armed, out)).1;
        self.shared.observer.report(EngineReport::Armed(armed));
        released
    }

    /// Puts another configuration in force, and another filter if one is given.
    pub fn reconfigure(&self, config: CheckedConfig, filter: Option<Filter>) -> Result<(), ConfigError> {
        self.command(|core, now, out| core.model.reconfigure(now, config, out)).0?;
        if let Some(filter) = filter {
            *self.shared.filter.write() = Arc::new(filter);
        }
        let config = Box::new(self.shared.core().model.config().clone());
        self.shared.observer.report(EngineReport::Reconfigured(config));
        Ok(())
    }

    /// Gives the pool another size; writers that wait for space get it in order.
    pub fn grow(&self, pool: Bytes) -> Result<(), ConfigError> {
        self.command(|core, now, out| core.model.grow(now, pool, out)).0?;
        self.shared.observer.report(EngineReport::Grown(pool));
        Ok(())
    }

    /// Hands whole freed grains back to the pool, as `fstrim` does; how many.
    pub fn discard(&self) -> u64 {
        self.command(|core, now, _| core.model.discard(now)).0
    }

    /// The engine now.
    pub fn status(&self) -> EngineStatus {
        let (held_memory, held_spilled) = self.shared.data.usage();
        let filter = self.shared.filter.read().usage();
        let core = self.shared.core();
        let now = self.shared.clock.now();
        EngineStatus {
            model: core.model.snapshot(now),
            config: core.model.config().clone(),
            held_memory,
            held_spilled,
            filter,
            now,
        }
    }

    /// The first `limit` held operations in order of arrival, and how many there are.
    pub fn held(&self, limit: usize) -> (Vec<HeldOperation>, usize) {
        let core = self.shared.core();
        let total = core.slots.len();
        let mut ids: Vec<_> = core.slots.keys().copied().collect();
        if limit < ids.len() && limit > 0 {
            ids.select_nth_unstable(limit - 1);
        }
        ids.truncate(limit);
        ids.sort_unstable();
        let held = ids.into_iter().filter_map(|id| {
            let Some(Slot::Full(HeldSlot { since, operation, .. })) = core.slots.get(&id) else { return None };
            let pending = core.model.pending(id)?;
            Some(HeldOperation {
                id: id.0,
                operation: Arc::clone(operation),
                since: *since,
                until: pending.due,
                penalty: pending.penalty,
            })
        });
        (held.collect(), total)
    }

    /// How many operations are held.
    pub fn held_count(&self) -> usize {
        self.shared.core().slots.len()
    }

    /// Lets everything out and ends the threads. Operations that come later run at once.
    pub fn shut_down(&self) -> Released {
        let released = self.command(|core, now, out| core.model.release_all(now, out)).1;
        timer::stop(&self.shared);
        released
    }

    /// Carries out a command on the model and waits until what it lets out has been answered.
    fn command<T>(&self, act: impl FnOnce(&mut Core, SimTime, &mut Vec<Release>) -> T) -> (T, Released) {
        let (batch, answered) = crossbeam_channel::bounded::<()>(0);
        let mut releases = Vec::new();
        let mut core = self.shared.core();
        let value = act(&mut core, self.shared.clock.now(), &mut releases);
        let operations = releases.len();
        self.shared.settle(core, releases, Some(&batch));
        (value, Released { operations, answered: wait_for_batch(batch, &answered) })
    }
}

/// Waits until every job that carries a clone of `batch` is over.
fn wait_for_batch(batch: Sender<()>, answered: &Receiver<()>) -> bool {
    drop(batch);
    // Nobody ever sends: the channel ends with the last clone.
    matches!(answered.recv_timeout(ANSWERED), Err(crossbeam_channel::RecvTimeoutError::Disconnected))
}
