//! stunfs imitates thin-provisioned storage: first writes to blocks that have no space yet wait, nothing else does.
//!
//! ```text
//!   mount(8), tests, stunfs(1)
//!            |                    settings, profiles: names and texts -> options
//!         report       pure: a result folder's files -> one HTML page
//!            |
//!        scenario      a file with storage, workload, steps and expectations -> a verdict
//!            |
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
//! # In a test
//!
//! A volume is mounted, stalls its first write, and lets it go:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use stunfs::Volume;
//!
//! # if Volume::check_machine().is_err() {
//! #     return Ok(()); // nothing can be mounted here
//! # }
//! let volume = Volume::builder().first_write("60s".parse()?).mount()?;
//! let path = volume.path().join("new");
//! let writer = std::thread::spawn(move || std::fs::write(path, b"first write"));
//! assert!(volume.wait_held(1, Duration::from_secs(5)), "the first write to a new block waits");
//! volume.release();
//! writer.join().expect("the writer")?; // it succeeds, later
//! let summary = volume.unmount()?;
//! assert_eq!(summary.held, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # What is public
//!
//! [`Volume`] and its [builder](VolumeBuilder); [`command`]: what can be asked of a volume; [`option`]: what makes one;
//! [`event`]: what it tells; [`status`]: what it is now; [`VolumeError`] and [`ErrorKind`]: how a run ends; [`Disk`]: a volume with a
//! block device on it. `tests/public_interface.txt` lists it all, and a test notices changes. What is in the hidden module
//! `internal` is for this repository's own program, tests and benchmarks, and changes without notice.

/// The rooms. Not part of the interface: anything here changes without notice.
#[doc(hidden)]
#[path = "."]
pub mod internal {
    pub mod backing;
    pub mod control;
    pub mod disk;
    pub mod engine;
    pub mod explain;
    pub mod freeze;
    pub mod fs;
    pub mod fuse;
    pub mod model;
    pub mod observe;
    pub mod op;
    pub mod options;
    pub mod profiles;
    pub mod report;
    pub mod scenario;
    pub mod seed;
    pub mod settings;
    pub mod sys;
    pub mod telemetry;
    pub mod time;
    pub mod units;
    pub mod volume;
    pub mod workload;
}

// Within the crate a room is `crate::ROOM`.
#[allow(
    unused_imports,
    reason = "a room that only the program uses is reached the same way once another room does"
)]
use internal::{
    backing, control, disk, engine, explain, freeze, fs, fuse, model, observe, op, options, profiles, report, scenario,
    seed, settings, sys, telemetry, time, units, volume, workload,
};

pub use control::Command;
pub use disk::{Disk, DiskBuilder, FsKind};
pub use options::VolumeOptions;
pub use volume::{ErrorKind, HoldParts, Stop, Stopper, Summary, Volume, VolumeBuilder, VolumeError};

/// What can be asked of a volume, and what it answers.
pub mod command {
    pub use crate::control::{
        ArmReply, Command, ControlRefusal, DiscardReply, EventsStatus, GrowReply, HeldOp, HeldPage, OperationCounters,
        OptionChanges, OptionChangesError, ReleaseReply, Reply, ResumeReply, Status, StatusReply, StopReply, StunReply,
        StunStatus, WaitHeldReply, WaitsFor,
    };
}

/// What makes a volume: its options and their values.
pub mod option {
    pub use crate::freeze::FreezeTarget;
    pub use crate::model::{ConfigError, Latency, ModelConfig, OnFull, Placement, Scope, StunTrigger};
    pub use crate::options::{CacheMode, FilterOptions, LowLatency, StateFile, VolumeOptions};
    pub use crate::settings::{Settings, SettingsError};
    pub use crate::units::{Bytes, GrainSize, ParseUnitError, Rate};
}

/// What a volume tells: the lines of its event log as types.
pub mod event {
    pub use crate::model::{ReleaseCause, StunCause};
    pub use crate::op::OpKind;
    pub use crate::telemetry::event::{
        Event, EventBody, NfsState, OpRecord, PenaltyMicros, RunOptions, SCHEMA_VERSION, StorageFault,
    };
}

/// What a volume is and holds now.
pub mod status {
    pub use crate::engine::{EngineStatus, HeldOperation, Released, Stunned};
    pub use crate::model::{Penalty, PoolUse, Snapshot};
    pub use crate::op::{Caller, Operation};
    pub use crate::time::SimTime;
}
