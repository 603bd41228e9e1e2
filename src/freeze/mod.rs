//! Freezing what stands around a volume (control groups, containers, process trees, virtual machines), and the guard
//! that undoes everything if the daemon is killed.
//!
//! Must not know: FUSE requests, the model, why something is frozen. Invariant: whatever is frozen, held or mounted is
//! undone when the daemon is gone, however it went; what this room froze can be thawed by a process that knows nothing
//! but the lines of [`UndoAction`].

mod cgroup;
mod docker;
mod error;
mod freeze_set;
mod freezer;
mod guard;
mod guard_process;
mod pid;
mod probe;
mod qmp;
mod stuck_thread;
mod target;
mod undo_action;
mod undo_exec;
mod undo_log;

pub use error::{
    CgroupFailure, ContainerFailure, EngineError, FreezeCause, FreezeError, MonitorError, ProbeError, ProcessFailure,
    QmpFailure,
};
pub use freeze_set::FreezeSet;
pub use freezer::{Surroundings, UndoArmer};
pub use guard::Guard;
pub use probe::{FreezeProbe, probe};
pub use stuck_thread::StuckThread;
pub use target::{FreezeKind, FreezeTarget, FreezeTargetError};
pub use undo_action::{RawUndoAction, UndoAction, UndoActionError};
pub use undo_exec::execute_raw;
pub use undo_log::UndoLog;
