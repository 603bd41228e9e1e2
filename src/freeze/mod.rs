//! Freezing what stands around a volume (control groups, containers, process trees, virtual machines), and the guard
//! that undoes everything if the daemon is killed.
//!
//! Must not know: FUSE requests, the model, why something is frozen. Invariant: whatever is frozen, held or mounted is
//! undone when the daemon is gone, however it went; what this room froze can be thawed by a process that knows nothing
//! but the lines of [`UndoAction`].

mod cgroup;
mod docker;
mod freeze_set;
mod guard;
mod guard_process;
mod hierarchy;
mod pid;
mod probe;
mod procfs;
mod qmp;
mod target;
mod undo_action;
mod undo_exec;
mod undo_log;

pub use freeze_set::{FreezeError, FreezeSet, StuckThread, Surroundings, UndoArmer};
pub use guard::Guard;
pub use probe::probe;
pub use target::{FreezeTarget, FreezeTargetError};
pub use undo_action::{RawUndoAction, UndoAction, UndoActionError};
pub use undo_exec::execute_raw;
pub use undo_log::UndoLog;
