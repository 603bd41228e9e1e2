//! Several targets as one: all are frozen or none is.
//!
//! Must not know: how a kind of target is frozen. Invariant: what the set froze is thawed when it is dropped, and the
//! action of each thing is handed out before that thing is frozen.

use std::time::Duration;

use rustix::process::Pid;

use super::cgroup::Cgroup;
use super::docker::Container;
use super::error::{FreezeCause, FreezeError};
use super::freezer::{Freezer, Surroundings, UndoArmer};
use super::pid::Tree;
use super::qmp::Machine;
use super::stuck_thread::StuckThread;
use super::target::FreezeTarget;
use super::undo_action::UndoAction;
use crate::time::Deadline;

/// Thawing after a failed freeze and in `drop` is given up after this.
const THAW_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct FrozenMember {
    target: FreezeTarget,
    freezer: Box<dyn Freezer>,
    frozen: bool,
}

impl FrozenMember {
    fn open(target: &FreezeTarget, around: &Surroundings) -> Result<Self, FreezeError> {
        let opened = open(target, around).and_then(|freezer| freezer.check(around).map(|()| freezer));
        let refused = |cause| FreezeError::Refused { target: target.clone(), cause };
        opened.map(|freezer| Self { target: target.clone(), freezer, frozen: false }).map_err(refused)
    }

    fn thaw(&mut self, deadline: Deadline) -> Result<(), FreezeError> {
        if self.frozen {
            let failed = |cause| FreezeError::NotThawed { target: self.target.clone(), cause };
            self.freezer.thaw(deadline).map_err(failed)?;
            self.frozen = false;
        }
        Ok(())
    }
}

fn open(target: &FreezeTarget, around: &Surroundings) -> Result<Box<dyn Freezer>, FreezeCause> {
    Ok(match target {
        FreezeTarget::Cgroup(path) => Box::new(Cgroup::open(path)?),
        FreezeTarget::Docker(name) => Box::new(Container::open(name, around)?),
        FreezeTarget::Pid(pid) => Box::new(Tree::open(*pid, around)?),
        FreezeTarget::Qmp(path) => Box::new(Machine::open(path)?),
    })
}

/// Several targets that are frozen and thawed together.
///
/// What another program had frozen before is left as it is: it counts as frozen and is not thawed.
#[derive(Debug)]
pub struct FreezeSet {
    members: Vec<FrozenMember>,
    around: Surroundings,
}

impl FreezeSet {
    /// Looks at every target, freezes none. A target named twice counts once.
    ///
    /// # Errors
    /// [`FreezeError::Refused`] for the first one that cannot be frozen.
    pub fn open(targets: &[FreezeTarget]) -> Result<Self, FreezeError> {
        Self::open_in(targets, Surroundings::from_env())
    }

    /// As [`open`](Self::open), with surroundings of one's own.
    ///
    /// # Errors
    /// [`FreezeError::Refused`] for the first one that cannot be frozen.
    pub fn open_in(targets: &[FreezeTarget], around: Surroundings) -> Result<Self, FreezeError> {
        let mut members = Vec::<FrozenMember>::new();
        for target in targets {
            if !members.iter().any(|member| member.target == *target) {
                members.push(FrozenMember::open(target, &around)?);
            }
        }
        Ok(Self { members, around })
    }

    /// A process that must not be frozen from now on: a guard that was started later.
    pub fn spare(&mut self, pid: Pid) {
        self.around.spared.push(pid);
    }

    /// Whether there is nothing to freeze.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether something is frozen.
    pub fn is_frozen(&self) -> bool {
        self.members.iter().any(|member| member.frozen)
    }

    /// Freezes all, one after the other, each read back. Does nothing for those that are frozen already.
    ///
    /// # Errors
    /// [`FreezeError::NotFrozen`] if one did not acknowledge before the deadline; then all are thawed.
    pub fn freeze(&mut self, deadline: Deadline) -> Result<(), FreezeError> {
        self.freeze_armed(deadline, &mut |_| Ok(()))
    }

    /// As [`freeze`](Self::freeze), and hands out how to thaw each thing before that thing is frozen.
    ///
    /// # Errors
    /// [`FreezeError::NotFrozen`] if one did not acknowledge before the deadline or `arm` failed; then all are thawed.
    pub fn freeze_armed(&mut self, deadline: Deadline, arm: &mut UndoArmer<'_>) -> Result<(), FreezeError> {
        for member in self.members.iter_mut().filter(|member| !member.frozen) {
            // Before the attempt: what it leaves half frozen is thawed like the rest.
            member.frozen = true;
            if let Err(cause) = member.freezer.freeze(&self.around, deadline, arm) {
                let target = member.target.clone();
                let thaw = self.thaw(Deadline::after(THAW_WITHIN)).err().map(Box::new);
                return Err(FreezeError::NotFrozen { target, cause, thaw });
            }
        }
        Ok(())
    }

    /// Thaws all that this set froze, the last first, each read back. One that fails does not keep the others from it; it
    /// can be tried again.
    ///
    /// # Errors
    /// [`FreezeError::NotThawed`]: the first that failed.
    pub fn thaw(&mut self, deadline: Deadline) -> Result<(), FreezeError> {
        let mut outcome = Ok(());
        for member in self.members.iter_mut().rev() {
            let thawed = member.thaw(deadline);
            outcome = outcome.and(thawed);
        }
        outcome
    }

    /// How to thaw all that is frozen now, in the order in which it was frozen: to be carried out from the last to the first.
    pub fn actions(&self) -> Vec<UndoAction> {
        self.members.iter().filter(|member| member.frozen).flat_map(|member| member.freezer.actions()).collect()
    }

    /// The threads that count as frozen while they wait in the kernel.
    pub fn waiting(&self) -> Vec<StuckThread> {
        self.members.iter().flat_map(|member| member.freezer.waiting()).cloned().collect()
    }
}

impl Drop for FreezeSet {
    fn drop(&mut self) {
        if let Err(error) = self.thaw(Deadline::after(THAW_WITHIN)) {
            tracing::error!("{error}");
        }
    }
}
