//! Writers and readers as they run on real nodes, which measure what they suffer and can prove what was lost.
//!
//! Must not know: stunfs. They know a path, nothing else, and run on any file system. Invariant: [`run()`] comes back
//! in time whatever the file system does: a thread that hangs is reported, not waited for.
//!
//! ```
//! use std::sync::atomic::AtomicBool;
//! use stunfs::internal::workload::{WriterKind, WorkloadOptions, run};
//!
//! let dir = std::env::temp_dir().join(format!("stunfs-doc-{}", std::process::id()));
//! std::fs::create_dir(&dir)?;
//! let options = WorkloadOptions { count: Some(100), every: None, ..WorkloadOptions::new(WriterKind::Fluentd, &dir) };
//! let report = run(&options, &AtomicBool::new(false), |_| ())?;
//! assert_eq!(report.records, 100);
//! assert_eq!(report.verified.map(|verified| verified.lost), Some(0));
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod collect;
mod crew;
mod heartbeat;
mod journal;
mod kept;
mod kinds;
mod lock;
mod measure;
mod metrics;
mod names;
mod ranges;
mod record;
mod report;
mod run;
mod schedule;
#[cfg(test)]
mod tests;
mod verify;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use heartbeat::{HeartbeatReport, HeartbeatsReport};
pub use journal::{AckLogError, read_ack_log};
pub use kept::Kept;
pub use measure::WriterOp;
pub use metrics::WriterMetric;
pub use report::{
    AckLatency, IntervalReport, LockPileUp, LockReport, LongWait, OpReport, Trouble, WorkloadProgress, WorkloadReport,
};
pub use run::{WorkloadError, run};
pub use verify::{Verified, verify};

/// What runs. The name is also the threads' command name, which the kernel's reports show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WriterKind {
    /// A log collector: inputs with position files, a file buffer with its locks, threads that enqueue and flush.
    Fluentd,
    /// A log file that is appended to and rotated.
    Logger,
    /// Files of 4 KiB, created and unlinked.
    Churn,
    /// Reads 4 KiB at a time, at random places, past the page cache, from a file that it has written before.
    Reader,
    /// A burst of new data: files of 64 MiB, written one after the other, 1 MiB at a time. Keeps all of them.
    Backup,
    /// Containers' logs with rotation, checkpoints, and two heartbeats of which one needs the disk.
    Kubelet,
    /// A log as rsyslog writes it, rotated as logrotate does it.
    Logrotate,
    /// A write-ahead log, each record synced, with checkpoints.
    Database,
}

/// How a log is rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RotateStyle {
    /// Renamed, and a new file is created; then the writer opens it.
    #[default]
    Create,
    /// Renamed; the writer creates the new file.
    Rename,
    /// Copied, and truncated: the writer does not notice.
    Copytruncate,
}

impl RotateStyle {
    /// Their names.
    pub const NAMES: [&str; 3] = ["create", "rename", "copytruncate"];
}

impl FromStr for RotateStyle {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "create" => Ok(Self::Create),
            "rename" => Ok(Self::Rename),
            "copytruncate" => Ok(Self::Copytruncate),
            _ => Err(format!("'{text}' is no way to rotate; there are {}", Self::NAMES.join(", "))),
        }
    }
}

impl WriterKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Fluentd,
        Self::Logger,
        Self::Churn,
        Self::Reader,
        Self::Backup,
        Self::Kubelet,
        Self::Logrotate,
        Self::Database,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fluentd => "fluentd",
            Self::Logger => "logger",
            Self::Churn => "churn",
            Self::Reader => "reader",
            Self::Backup => "backup",
            Self::Kubelet => "kubelet",
            Self::Logrotate => "logrotate",
            Self::Database => "database",
        }
    }

    /// The time from one record to the next, unless told otherwise.
    pub const fn usual_interval(self) -> Duration {
        match self {
            Self::Fluentd | Self::Logger | Self::Kubelet | Self::Logrotate => Duration::from_millis(5),
            Self::Churn | Self::Reader | Self::Backup | Self::Database => Duration::from_millis(20),
        }
    }
}

impl fmt::Display for WriterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for WriterKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names = Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| format!("there is no workload '{text}'; there are {names}"))
    }
}

/// How a workload runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadOptions {
    /// What runs.
    pub kind: WriterKind,
    /// Where: an existing directory. Files are named after the writers, and go on where an earlier run ended.
    pub dir: PathBuf,
    /// Threads, each with files of its own; at least 1.
    pub threads: u16,
    /// Contents and places follow from it alone.
    pub seed: u64,
    /// When to stop.
    pub duration: Duration,
    /// Stop earlier, after so many records (or reads) per thread.
    pub count: Option<u64>,
    /// From one record to the next, per thread; none: as fast as it goes. The beat goes on through a stall: what was due meanwhile is
    /// left out and counted with its wait, not made up for in a burst.
    pub every: Option<Duration>,
    /// Count a record as written only when it was fsynced: a chunk or a backup file when it is full, a logger's or
    /// churn's record at once.
    pub fsync: bool,
    /// How long to wait at the end for threads that hang; then they are reported as they are.
    pub patience: Duration,
    /// Read back what was written, and count what is lost. Not done when a thread hangs.
    pub verify: bool,
    /// How often progress is told.
    pub progress: Duration,
    /// Threads that flush (fluentd).
    pub flush_threads: u16,
    /// How logs are rotated (logger, logrotate).
    pub rotate: RotateStyle,
    /// Bytes of a record, in place of the kind's own.
    pub record_bytes: Option<usize>,
    /// Where to keep which records were acknowledged: a file that is not on the storage under test.
    pub ack_log: Option<PathBuf>,
}

impl WorkloadOptions {
    /// One thread of `kind` in `dir` for 30 s at its usual rate.
    pub fn new(kind: WriterKind, dir: &Path) -> Self {
        Self {
            kind,
            dir: dir.to_owned(),
            threads: 1,
            seed: 0,
            duration: Duration::from_secs(30),
            count: None,
            every: Some(kind.usual_interval()),
            fsync: false,
            patience: Duration::from_secs(5),
            verify: true,
            progress: Duration::from_secs(1),
            flush_threads: 2,
            rotate: RotateStyle::Create,
            record_bytes: None,
            ack_log: None,
        }
    }
}
