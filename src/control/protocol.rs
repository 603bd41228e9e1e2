//! What a volume answers over the control socket.
//!
//! Must not know: commands, HTTP, sockets, threads. Invariant: replies only ever grow new fields within `/v1`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::PoolUse;
use crate::telemetry::event::{OpRecord, PenaltyMicros, RunOptions};

/// Why a volume does not do what it is asked. Each text is one line: what was wrong and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlRefusal {
    /// The request cannot be understood (400).
    #[error("{0}")]
    Invalid(String),
    /// It does not go with the volume's state (409).
    #[error("{0}")]
    Conflict(String),
    /// The volume is ending (503).
    #[error("{0}")]
    Unavailable(String),
}

/// `GET /v1/status`, without the held operations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// stunfs's version.
    pub version: String,
    /// The daemon's process.
    pub pid: u32,
    /// The backing directory.
    pub backing: String,
    /// Where it is mounted.
    pub mountpoint: String,
    /// The profile's name, if one was given.
    pub profile: Option<String>,
    /// Wall-clock time of the start, RFC 3339.
    pub started: String,
    /// Microseconds since the start; `..._us` moments count from there, too.
    pub uptime_us: u64,
    /// Injection is on.
    pub armed: bool,
    /// The time limit of the injection has passed.
    pub expired: bool,
    /// The stun that is in force.
    pub stun: Option<StunStatus>,
    /// The pool.
    pub pool: PoolUse,
    /// How long a first write would wait in the pool's queue now.
    pub queue_wait_us: u64,
    /// What happened so far.
    pub counters: OperationCounters,
    /// The event log.
    pub events: EventsStatus,
    /// The options beside the model's that hold now.
    #[serde(default)]
    pub options: RunOptions,
    /// The configuration that holds now.
    pub config: Value,
}

/// The stun that is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StunStatus {
    /// When it ends at the latest.
    pub until_us: u64,
    /// How long that is from now.
    pub left_us: u64,
    /// What `freeze` names stands still.
    #[serde(default)]
    pub frozen: bool,
}

/// What happened since the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OperationCounters {
    /// Operations that came in.
    pub operations: u64,
    /// Operations that were held.
    pub held: u64,
    /// Holds that the harness itself took up more than 100 ms after their release.
    #[serde(default)]
    pub late: u64,
    /// Operations that were refused for want of space.
    pub refused: u64,
    /// Grains that were provisioned.
    pub provisioned: u64,
    /// Stuns that have begun.
    pub stuns: u64,
    /// Operations that the filter (`only`) was asked about; none without one.
    #[serde(default)]
    pub filter_asked: u64,
    /// Those that it selected.
    #[serde(default)]
    pub filter_selected: u64,
}

/// The event log's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EventsStatus {
    /// Events told, dropped ones included.
    pub emitted: u64,
    /// Events that a full queue dropped.
    pub dropped: u64,
    /// Lines lost since the file could not be written.
    pub lost: u64,
}

/// Operations that are held now.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct HeldPage {
    /// How many are held, listed or not.
    pub total: u64,
    /// How many of them wait for space in the pool.
    pub waiting_for_space: u64,
    /// The oldest of them.
    pub ops: Vec<HeldOp>,
}

/// An operation that is held now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldOp {
    /// The hold's number, as in its event later.
    pub id: u64,
    /// The operation, its file, and the process that asked for it.
    #[serde(flatten)]
    pub op: OpRecord,
    /// When it came in.
    pub since_us: u64,
    /// When it will be answered as things are now. While it waits for a stun or for space, that may come earlier.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until_us: Option<u64>,
    /// What it waits for; the last of these ends its hold.
    #[serde(default)]
    pub waits_for: Vec<WaitsFor>,
    /// The parts of its penalty so far.
    pub penalty: PenaltyMicros,
}

/// What a held operation waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaitsFor {
    /// The time of its penalty.
    Penalty,
    /// Space in the pool.
    Space,
    /// The end of the stun.
    Stun,
}

/// `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusReply {
    /// The volume.
    #[serde(flatten)]
    pub status: Status,
    /// The operations that are held.
    pub held: HeldPage,
}

/// `POST /v1/stun`: the stun is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StunReply {
    /// When it ends at the latest.
    pub until_us: u64,
    /// How long that is from now: what was asked for, or the longest hold.
    pub for_us: u64,
    /// Operations that began before the stun and still ran when the command had waited for them as long as it may.
    #[serde(default)]
    pub still_running: u64,
}

/// `POST /v1/arm` and `POST /v1/disarm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArmReply {
    /// Whether injection is on now.
    pub armed: bool,
}

/// `POST /v1/resume`: the stun is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeReply {
    /// Operations that were let go.
    pub released: u64,
}

/// `POST /v1/release`: all injection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseReply {
    /// Operations that were let go.
    pub released: u64,
}

/// `POST /v1/discard`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscardReply {
    /// Grains that went back to the pool.
    pub grains: u64,
    /// The pool after that.
    pub pool: PoolUse,
}

/// `POST /v1/grow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrowReply {
    /// The pool after that.
    pub pool: PoolUse,
    /// Operations that had waited for space and were let go.
    pub released: u64,
}

/// `POST /v1/wait-held`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitHeldReply {
    /// Operations that are held now.
    pub held: u64,
    /// Whether the volume held as many as were waited for.
    pub reached: bool,
}

/// `POST /v1/stop`: the end has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopReply {
    /// Always true.
    pub stopping: bool,
}
