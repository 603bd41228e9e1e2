//! What each kind of target can do, and what it has to know of the machine.
//!
//! Must not know: which kinds of targets exist. Invariant: how to thaw a thing is handed out before that thing is frozen.

use std::env;
use std::fmt;
use std::io;
use std::path::PathBuf;

use rustix::process::{Pid, getpid};

use super::error::FreezeCause;
use super::stuck_thread::StuckThread;
use super::undo_action::UndoAction;
use crate::time::Deadline;

/// Called with the action of each thing just before that thing is frozen. If it fails (the guard is dead), the thing is
/// not frozen and all that was is thawed.
pub type UndoArmer<'a> = dyn FnMut(&UndoAction) -> io::Result<()> + 'a;

/// What freezing has to know of the machine and of its own process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// Processes that are never frozen, besides this one and process 1: the guard.
    pub spared: Vec<Pid>,
    /// The container engines' sockets; the first engine that knows the container is used.
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

/// What each kind of target can do.
pub(super) trait Freezer: fmt::Debug + Send {
    /// Whether it could be frozen now.
    fn check(&self, around: &Surroundings) -> Result<(), FreezeCause>;
    /// Freezes and reads back. After an error `thaw` undoes what was done. What another program froze is left alone.
    fn freeze(&mut self, around: &Surroundings, deadline: Deadline, arm: &mut UndoArmer<'_>)
    -> Result<(), FreezeCause>;
    /// Thaws what `freeze` froze and reads back.
    fn thaw(&mut self, deadline: Deadline) -> Result<(), FreezeCause>;
    /// How to thaw what is frozen now, in the order in which it was frozen.
    fn actions(&self) -> Vec<UndoAction>;
    /// The threads that count as frozen while they wait in the kernel.
    fn waiting(&self) -> &[StuckThread] {
        &[]
    }
}

/// Tells the guard how to thaw a thing.
pub(super) fn tell(arm: &mut UndoArmer<'_>, action: &UndoAction) -> Result<(), FreezeCause> {
    arm(action).map_err(|cause| FreezeCause::Guard { cause })
}
