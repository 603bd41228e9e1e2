//! What is said over the control socket, and what a volume must be able to do for it.
//!
//! Must not know: HTTP, sockets, threads. Invariant: replies only ever grow new fields within `/v1`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::model::PoolUse;
use crate::telemetry::event::{OpRecord, PenaltyMicros};
use crate::telemetry::events::EventLog;
use crate::units::{Bytes, parse_duration};

/// How many held operations `status` lists unless it is told otherwise.
pub(super) const HELD_SHOWN: usize = 100;
/// The most that it lists.
pub(super) const HELD_SHOWN_MAX: usize = 100_000;

/// A volume, as the control socket sees it. Calls come from threads that may wait; each answers after its effect.
pub trait ControlHandler: Send + Sync + 'static {
    /// What the volume is and does now.
    fn status(&self) -> Status;
    /// The operations that are held now, the oldest first, at most `limit` of them.
    fn held(&self, limit: usize) -> HeldPage;
    /// Changes settings; the keys are option names with `_`. Answers with the configuration that holds now. All or nothing.
    ///
    /// # Errors
    /// [`ControlRefusal::Invalid`] for an unknown option or a value that cannot be used.
    fn set(&self, changes: Map<String, Value>) -> Result<Value, ControlRefusal>;
    /// Switches injection on.
    ///
    /// # Errors
    /// [`ControlRefusal::Conflict`] if the time limit has passed.
    fn arm(&self) -> Result<(), ControlRefusal>;
    /// Switches injection off. What is held stays held until its time.
    ///
    /// # Errors
    /// [`ControlRefusal::Unavailable`] if the volume is ending.
    fn disarm(&self) -> Result<(), ControlRefusal>;
    /// Begins a stun; without a duration it lasts until `resume` or the longest allowed hold.
    ///
    /// # Errors
    /// [`ControlRefusal::Conflict`] if it cannot begin now.
    fn stun(&self, duration: Option<Duration>) -> Result<StunReply, ControlRefusal>;
    /// Ends the stun; answers when the last operation that only the stun held is out.
    ///
    /// # Errors
    /// [`ControlRefusal::Conflict`] if no stun is in force.
    fn resume(&self) -> Result<ResumeReply, ControlRefusal>;
    /// Ends all injection; answers when the last held reply is out.
    ///
    /// # Errors
    /// [`ControlRefusal::Unavailable`] if the volume is ending.
    fn release(&self) -> Result<ReleaseReply, ControlRefusal>;
    /// Hands provisioned grains that no file uses back to the pool.
    ///
    /// # Errors
    /// [`ControlRefusal::Unavailable`] if the volume is ending.
    fn discard(&self) -> Result<DiscardReply, ControlRefusal>;
    /// Gives the pool a new size.
    ///
    /// # Errors
    /// [`ControlRefusal::Invalid`] or [`ControlRefusal::Conflict`] if the pool cannot have that size.
    fn grow(&self, pool: Bytes) -> Result<GrowReply, ControlRefusal>;
    /// The volume's events.
    fn events(&self) -> EventLog;
    /// The volume's metrics as OpenMetrics text.
    fn metrics(&self) -> String;
    /// Begins a clean end of the volume, and does not wait for it (the end includes that of the control socket).
    ///
    /// # Errors
    /// [`ControlRefusal::Unavailable`] if it is ending already.
    fn stop(&self) -> Result<(), ControlRefusal>;
}

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
    /// Operations that were refused for want of space.
    pub refused: u64,
    /// Grains provisioned.
    pub provisioned: u64,
    /// Stuns.
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
    /// Who does what to what.
    #[serde(flatten)]
    pub op: OpRecord,
    /// When it came in.
    pub since_us: u64,
    /// When it will be answered; absent: when a stun ends or the pool grows, at the latest at `max_hold`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until_us: Option<u64>,
    /// What it waits for.
    pub penalty: PenaltyMicros,
}

/// `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusReply {
    /// The volume.
    #[serde(flatten)]
    pub status: Status,
    /// Who is held.
    pub held: HeldPage,
}

/// `POST /v1/stun`: the stun is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StunReply {
    /// When it ends at the latest.
    pub until_us: u64,
    /// How long that is from now: what was asked for, or the longest hold.
    pub for_us: u64,
}

/// `POST /v1/resume`: the stun is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeReply {
    /// Operations that went on.
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
    /// Operations that had waited for space and went on.
    pub released: u64,
}

/// The body of requests that say nothing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// The body of `POST /v1/stun`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StunRequest {
    #[serde(rename = "for")]
    duration: Option<String>,
}

impl StunRequest {
    pub(super) fn duration(&self) -> Result<Option<Duration>, ControlRefusal> {
        let Some(text) = &self.duration else { return Ok(None) };
        match parse_duration(text) {
            Ok(Duration::ZERO) => {
                Err(ControlRefusal::Invalid("for: a stun of 0 never begins; write a time such as 30s".into()))
            }
            Ok(duration) => Ok(Some(duration)),
            Err(error) => Err(ControlRefusal::Invalid(format!("for: {error}"))),
        }
    }
}

/// The body of `POST /v1/grow`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrowRequest {
    pool: String,
}

impl GrowRequest {
    pub(super) fn size(&self) -> Result<Bytes, ControlRefusal> {
        self.pool.parse().map_err(|error| ControlRefusal::Invalid(format!("pool: {error}")))
    }
}

/// Option names with `_`, whichever way they were written.
pub(super) fn option_names(changes: Map<String, Value>) -> Result<Map<String, Value>, ControlRefusal> {
    if changes.is_empty() {
        return Err(ControlRefusal::Invalid(
            "nothing to set; send an object of options such as {\"first_write\":\"20ms\"}".into(),
        ));
    }
    let mut named = Map::new();
    for (key, value) in changes {
        let name = key.trim_start_matches("--").replace('-', "_");
        if named.insert(name, value).is_some() {
            return Err(ControlRefusal::Invalid(format!("option '{key}' is given twice")));
        }
    }
    Ok(named)
}
