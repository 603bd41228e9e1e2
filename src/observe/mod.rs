//! What happens around a volume, seen from outside: the kernel's log, and the tasks that wait.
//!
//! Must not know: the engine, FUSE, a volume's settings. Invariant: looking changes nothing, except for [`sysctl`],
//! which puts back what it changed.

pub mod kernel_files;
pub mod kmsg;
pub mod observation;
pub mod observer;
pub mod pile_up;
pub mod procfs;
pub mod stack;
pub mod sysctl;
pub mod waits;
