//! Several targets as one: all are frozen or none is.
//!
//! Must not know: how a kind of target is frozen. Invariant: what the set froze is thawed when it is dropped, and the
//! action of each thing is handed out before that thing is frozen.

use std::env;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, getpid};
use thiserror::Error;

use super::cgroup::Cgroup;
use super::docker::Container;
use super::pid::Tree;
use super::qmp::Machine;
use super::target::FreezeTarget;
use super::undo_action::UndoAction;
use crate::time::Deadline;

/// Thawing after a failed freeze and in `drop` is given up after this.
const THAW_WITHIN: Duration = Duration::from_secs(10);

/// Called with the action of each thing just before that thing is frozen. If it fails (the guard is dead), the thing is
/// not frozen and all that was is thawed.
pub type UndoArmer<'a> = dyn FnMut(&UndoAction) -> io::Result<()> + 'a;

/// Why a set cannot be frozen or thawed: one line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FreezeError {
    /// Before anything was frozen: it does not exist, there are no rights, or it holds stunfs itself.
    #[error("cannot freeze {target}: {why}")]
    Refused {
        /// Which one.
        target: FreezeTarget,
        /// The reason.
        why: String,
    },
    /// It did not acknowledge; all that was frozen before it is thawed again.
    #[error("{target} was not frozen: {why}")]
    NotFrozen {
        /// Which one.
        target: FreezeTarget,
        /// The reason.
        why: String,
    },
    /// It did not acknowledge that it goes on; thawing can be tried again.
    #[error("{target} may still be frozen: {why}")]
    NotThawed {
        /// Which one.
        target: FreezeTarget,
        /// The reason.
        why: String,
    },
}

/// A thread that cannot stop because it waits in the kernel, uninterruptibly; it stops before it gets back to its program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StuckThread {
    /// The thread.
    pub tid: i32,
    /// Its name; empty if unknown.
    pub comm: String,
    /// The kernel function that it waits in, if the kernel tells.
    pub place: Option<String>,
}

impl fmt::Display for StuckThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place.as_deref().unwrap_or("the kernel");
        write!(f, "{} ({}) in {place}", self.comm, self.tid)
    }
}

/// What freezing has to know of the machine and of its own process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// Processes that are never frozen, besides this one and process 1: the guard.
    pub spared: Vec<Pid>,
    /// The container engines' sockets, the first that knows the container is used.
    pub engines: Vec<PathBuf>,
    /// Whether a target counts as frozen although some of its threads wait in the kernel uninterruptibly: see [`StuckThread`].
    /// If not, a process that a stun holds cannot be frozen.
    pub accept_waiting: bool,
}

impl Surroundings {
    /// From the environment: `DOCKER_HOST` if it is set, else the places where docker and podman put their sockets.
    pub fn from_env() -> Self {
        Self { spared: Vec::new(), engines: engines(), accept_waiting: true }
    }

    /// Whether a process must never be frozen.
    pub(super) fn spares(&self, pid: i32) -> bool {
        self.untouchable().any(|spared| spared.as_raw_pid() == pid)
    }

    /// The processes that must never be frozen.
    pub(super) fn untouchable(&self) -> impl Iterator<Item = Pid> {
        [Pid::INIT, getpid()].into_iter().chain(self.spared.iter().copied())
    }
}

fn engines() -> Vec<PathBuf> {
    if let Some(host) = env::var_os("DOCKER_HOST").filter(|host| !host.is_empty()) {
        return vec![
            host.to_str().and_then(|host| host.strip_prefix("unix://")).map_or(host.clone().into(), PathBuf::from),
        ];
    }
    let users = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let users = users.iter().flat_map(|dir| [dir.join("docker.sock"), dir.join("podman/podman.sock")]);
    ["/var/run/docker.sock", "/run/podman/podman.sock"].into_iter().map(PathBuf::from).chain(users).collect()
}

/// What each kind of target can do. Reasons are one line.
pub(super) trait Freezer: fmt::Debug + Send {
    /// Whether it could be frozen now.
    fn check(&self, around: &Surroundings) -> Result<(), String>;
    /// Freezes and reads back. After an error `thaw` undoes what was done. What was frozen before by others is left alone.
    fn freeze(&mut self, around: &Surroundings, deadline: Deadline, arm: &mut UndoArmer<'_>) -> Result<(), String>;
    /// Thaws what `freeze` froze and reads back.
    fn thaw(&mut self, deadline: Deadline) -> Result<(), String>;
    /// How to thaw what is frozen now, in the order in which it was frozen.
    fn actions(&self) -> Vec<UndoAction>;
    /// The threads that count as frozen while they wait in the kernel.
    fn waiting(&self) -> &[StuckThread] {
        &[]
    }
}

#[derive(Debug)]
struct FrozenMember {
    target: FreezeTarget,
    freezer: Box<dyn Freezer>,
    frozen: bool,
}

impl FrozenMember {
    fn open(target: &FreezeTarget, around: &Surroundings) -> Result<Self, FreezeError> {
        let opened = open(target, around).and_then(|freezer| freezer.check(around).map(|()| freezer));
        let refused = |why| FreezeError::Refused { target: target.clone(), why };
        opened.map(|freezer| Self { target: target.clone(), freezer, frozen: false }).map_err(refused)
    }

    fn thaw(&mut self, deadline: Deadline) -> Result<(), FreezeError> {
        if self.frozen {
            let failed = |why| FreezeError::NotThawed { target: self.target.clone(), why };
            self.freezer.thaw(deadline).map_err(failed)?;
            self.frozen = false;
        }
        Ok(())
    }
}

fn open(target: &FreezeTarget, around: &Surroundings) -> Result<Box<dyn Freezer>, String> {
    Ok(match target {
        FreezeTarget::Cgroup(path) => Box::new(Cgroup::open(path)?),
        FreezeTarget::Docker(name) => Box::new(Container::open(name, around)?),
        FreezeTarget::Pid(pid) => Box::new(Tree::open(*pid, around)?),
        FreezeTarget::Qmp(path) => Box::new(Machine::open(path)?),
    })
}

/// Several targets that are frozen and thawed together.
///
/// What somebody else had frozen before is left as it is: it counts as frozen and is not thawed.
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
            if let Err(mut why) = member.freezer.freeze(&self.around, deadline, arm) {
                let target = member.target.clone();
                if let Err(error) = self.thaw(Deadline::after(THAW_WITHIN)) {
                    why = format!("{why}; and {error}");
                }
                return Err(FreezeError::NotFrozen { target, why });
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
