//! Freezing what stands around a volume (control groups, containers, process trees, virtual machines), and the guard
//! that undoes everything if the daemon is killed.
//!
//! Must not know: FUSE requests, the model, why something is frozen. Invariant: whatever is frozen, held or mounted is
//! undone when the daemon is gone, however it went; what this room froze can be thawed by a process that knows nothing
//! but the lines of [`ThawRecipe`].

mod cgroup;
mod docker;
mod guard;
mod guard_process;
mod hierarchy;
mod ledger;
mod pid;
mod probe;
mod procfs;
mod qmp;
mod raw;
mod recipe;
mod set;
mod target;

pub use guard::Guard;
pub use ledger::Ledger;
pub use probe::probe;
pub use raw::execute_raw;
pub use recipe::{RawThaw, RecipeError, ThawRecipe};
pub use set::{Arm, FreezeError, FreezeSet, Surroundings, Waiting};
pub use target::{FreezeTarget, TargetError};
