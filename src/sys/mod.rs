//! What the crate reads from and asks of the running system, each in one place.
//!
//! | file | what it reads |
//! |---|---|
//! | [`mountinfo`] | `/proc/self/mountinfo` |
//! | [`process`] | `/proc/PID/stat`, `status`, `comm`, `wchan`, the lists of processes and threads |
//! | `credentials` | `/proc/TID/status`, `ns/user`, `uid_map`, `gid_map`: user, groups, capabilities |
//! | `system_call` | `/proc/TID/syscall` |
//! | [`cgroup`] | the hierarchies of control groups, v1 and v2, and `/proc/PID/cgroup` |
//! | [`sysctl`] | kernel settings below `/proc/sys` |
//! | [`pm_qos`] | `/dev/cpu_dma_latency` |
//! | [`wakeup`] | `eventfd(2)` and `poll(2)`: a thread that sleeps until something happens, without a timer |
//!
//! Must not know: volumes, file systems, options. Invariant: no room above is named here.

pub mod cgroup;
pub(crate) mod credentials;
pub mod memory;
pub mod mountinfo;
pub mod pm_qos;
pub mod process;
pub mod sysctl;
pub(crate) mod system_call;
pub mod wakeup;
