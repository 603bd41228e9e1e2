//! stunfs imitates thin-provisioned storage: first writes to blocks that have no space yet wait, nothing else does.
//!
//! ```text
//!   mount(8), tests, stunfs(1)
//!            |                    settings, profiles: names and texts -> options
//!          volume ---- control, telemetry (events, metrics), freeze (guard), observe (kernel log)
//!            |
//!          fuse        fuser's types in and out, the session
//!            |
//!           fs ------- backing    the real files: system calls relative to the root's descriptor
//!            |
//!         engine       threads: one lock on the model, a timer, completions
//!            |
//!         model        pure: operation + time -> pass | hold until | fail
//!            |
//!   units, time, seed, sys
//! ```
//!
//! [`Volume::builder`] mounts a volume inside a test and controls it. What runs as `stunfs` is the binary's `cli`.
//!
//! | room | what it does |
//! |---|---|
//! | [`units`], [`time`], [`seed`] | sizes and ranges as types; the one clock; one seed, named streams |
//! | [`sys`] | what is read from and asked of the running system |
//! | [`model`] | what waits, and until when |
//! | [`engine`] | holds and releases |
//! | [`backing`], [`fs`], [`fuse`] | the real files, the semantics on them, the kernel's protocol |
//! | [`options`], [`settings`], [`profiles`] | what makes a volume, as it is written, and what is built in |
//! | [`control`], [`telemetry`] | questions and commands over a socket; events and metrics |
//! | [`freeze`], [`observe`] | what stands still with a stun, and the guard; what the kernel says meanwhile |
//! | [`volume`], [`disk`] | all of it put together; an image on a volume as a block device |
//! | [`workload`] | writers that measure what they suffer |

pub mod backing;
pub mod control;
pub mod disk;
pub mod engine;
pub mod freeze;
pub mod fs;
pub mod fuse;
pub mod model;
pub mod observe;
pub mod options;
pub mod profiles;
pub mod seed;
pub mod settings;
pub mod sys;
pub mod telemetry;
pub mod time;
pub mod units;
pub mod volume;
pub mod workload;

pub use volume::Volume;
