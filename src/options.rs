//! Everything that makes a volume, resolved: the command line, a profile, an fstab line and the builder end up here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::freeze::FreezeTarget;
use crate::model::ModelConfig;
use crate::units::Bytes;

/// What the kernel's page cache does on the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CacheMode {
    /// `write(2)` itself waits; reads are cached.
    #[default]
    Through,
    /// The kernel's write-back cache: fsync and write-back wait, as on a disk.
    Back,
    /// Every read and write goes to the volume.
    Direct,
}

/// Whether a busy volume asks the kernel that idle processors stay awake (PM QoS, `/dev/cpu_dma_latency`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LowLatency {
    /// While requests come in quick succession, where the process may (root).
    #[default]
    Auto,
    /// The kernel is never asked.
    Off,
}

/// Where what is provisioned is kept while the volume is not mounted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateFile {
    /// Under `/var/lib/stunfs` (root) or `$XDG_STATE_HOME/stunfs`, by the backing's identity.
    #[default]
    Default,
    /// This file.
    At(PathBuf),
    /// Nothing is kept.
    None,
}

/// Which operations are hit; empty lists: all. An operation is hit if each list that is not empty has a match.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FilterOptions {
    /// Globs on the path below the mount point, without a leading slash.
    pub paths: Vec<String>,
    /// Command names (`/proc/PID/comm`).
    pub comms: Vec<String>,
    /// User IDs of callers.
    pub uids: Vec<u32>,
}

impl CacheMode {
    /// The word on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Through => "through",
            Self::Back => "back",
            Self::Direct => "direct",
        }
    }
}

impl FilterOptions {
    /// The filters as on the command line: `path=GLOB`, `comm=NAME`, `uid=N`.
    pub fn texts(&self) -> Vec<String> {
        let paths = self.paths.iter().map(|glob| format!("path={glob}"));
        let comms = self.comms.iter().map(|name| format!("comm={name}"));
        paths.chain(comms).chain(self.uids.iter().map(|uid| format!("uid={uid}"))).collect()
    }
}

/// Everything that makes a volume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VolumeOptions {
    /// The real directory.
    pub backing: PathBuf,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// What it imitates.
    pub model: ModelConfig,
    /// The profile's name, for the first event.
    pub profile: Option<String>,
    /// Which operations are hit.
    pub filter: FilterOptions,
    /// What the kernel caches.
    pub cache: CacheMode,
    /// The kernel's `max_background`: how many asynchronous requests may be under way. From 1 to 65535.
    pub queue_depth: u16,
    /// FUSE threads. From 1 to 64.
    pub threads: usize,
    /// Whether idle processors may be kept awake while requests come in quick succession.
    pub low_latency: LowLatency,
    /// Users other than the one who mounts may use it.
    pub allow_other: bool,
    /// Data of held writes kept in memory; past it they go to an unlinked temporary file.
    pub held_memory: Bytes,
    /// Event log (JSON lines).
    pub events: Option<PathBuf>,
    /// Control socket.
    pub control: Option<PathBuf>,
    /// Where metrics are served over HTTP.
    pub metrics: Option<SocketAddr>,
    /// Where what is provisioned is kept.
    pub state: StateFile,
    /// `fsname` in the mount table; default: `stunfs`.
    pub fsname: Option<String>,
    /// Mounted read-only.
    pub read_only: bool,
    /// What is frozen as long as a stun lasts.
    pub freeze: Vec<FreezeTarget>,
    /// What this machine's kernel reports becomes events.
    pub kernel_log: bool,
    /// Consoles of guests: what their kernels report becomes events. Files, devices, pipes or Unix sockets, also such as
    /// do not exist yet.
    pub guest_consoles: Vec<PathBuf>,
    /// The kernel reports tasks that hang for longer, as long as the volume is mounted; whole seconds, at least one.
    pub hung_task_timeout: Option<Duration>,
}

impl VolumeOptions {
    /// A volume without injection.
    pub fn new(backing: impl Into<PathBuf>, mountpoint: impl Into<PathBuf>) -> Self {
        Self {
            backing: backing.into(),
            mountpoint: mountpoint.into(),
            model: ModelConfig::default(),
            profile: None,
            filter: FilterOptions::default(),
            cache: CacheMode::default(),
            queue_depth: 128,
            threads: 1,
            low_latency: LowLatency::default(),
            allow_other: false,
            held_memory: Bytes::mib(256),
            events: None,
            control: None,
            metrics: None,
            state: StateFile::default(),
            fsname: None,
            read_only: false,
            freeze: Vec::new(),
            kernel_log: false,
            guest_consoles: Vec::new(),
            hung_task_timeout: None,
        }
    }
}
