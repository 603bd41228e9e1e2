//! What a scenario's run tells beside its volumes: one JSON line per event in the run's `events.jsonl`.
//!
//! Each line of that file, a volume's too, has `arm` and `run_us` (microseconds since the run's start) added.
//!
//! Must not know: how a scenario is run. Invariant: as for a volume's events, the text form only ever grows new fields.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::{PileUpWaiter, SCHEMA_VERSION};

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum HarnessEventBody {
    /// Always the first: what runs.
    RunStarted {
        /// stunfs's version.
        version: String,
        /// The scenario's name.
        scenario: String,
        /// The seed of volumes and writers.
        seed: u64,
        /// Wall-clock time of the run's start, RFC 3339.
        started: String,
        /// The arms in the order in which they run.
        arms: Vec<String>,
    },
    /// The storage of an arm is usable; its workload begins.
    ArmStarted {
        /// Where its storage is mounted.
        path: String,
        /// Where its volume is mounted.
        volume: String,
    },
    /// A writer or a command began.
    WriterStarted {
        /// Its name.
        name: String,
        /// Its process.
        pid: u32,
    },
    /// What a writer told, once a second.
    WriterProgress {
        /// Its name.
        name: String,
        /// As `stunfs write --json-lines` tells it.
        progress: Value,
    },
    /// A writer or a command ended.
    WriterEnded {
        /// Its name.
        name: String,
        /// Its exit code; none: a signal ended it.
        exit_code: Option<i32>,
    },
    /// The steady state was reached.
    Steady {},
    /// A step of the time line began (`done` false) or is done.
    Step {
        /// Its number in the time line, from 0.
        index: usize,
        /// Its name, or what it does.
        name: String,
        /// It is done.
        done: bool,
        /// Why it failed.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        error: Option<String>,
    },
    /// A probe was looked at (with `when: change`: and its figure has changed).
    Probe {
        /// Its name.
        name: String,
        /// Its figure, such as `{"count": 3}`; none: there was no answer.
        value: Option<Value>,
    },
    /// A fault's proof.
    Proof {
        /// `first-write`, `stun` or `freeze`.
        fault: String,
        /// It was delivered.
        delivered: bool,
        /// Operations that the volume held for it.
        operations: u64,
        /// What the writers felt: the longest acknowledgement latency of each while it was in force, microseconds.
        felt_us: BTreeMap<String, u64>,
    },
    /// The observer's look, once a second: tasks of the run's processes and of the kernel that wait for storage.
    Tasks {
        /// All of them.
        waiting: u64,
        /// By what they wait for.
        by_resource: BTreeMap<String, u64>,
    },
    /// Several tasks have begun to wait for one resource.
    PileUp {
        /// How many.
        tasks: u64,
        /// The resource in words.
        resource: String,
        /// The one that has waited longest.
        oldest: PileUpWaiter,
        /// When it was first seen to wait, microseconds since the run's start.
        since_us: u64,
    },
    /// They do not wait for it any more.
    PileUpEnded {
        /// The most tasks that one look saw.
        most: u64,
        /// The resource in words.
        resource: String,
        /// When its oldest waiter was first seen, microseconds since the run's start.
        since_us: u64,
    },
    /// Time that tasks of this machine lost for I/O since boot (PSI), where the kernel tells.
    Pressure {
        /// At least one task waited, microseconds.
        some_us: u64,
        /// All tasks waited, microseconds.
        full_us: u64,
    },
    /// Pages of files of this machine that are not on storage yet.
    Dirty {
        /// Not being written yet.
        dirty_kib: u64,
        /// Being written.
        writeback_kib: u64,
    },
    /// FUSE connections of this machine with requests that their server has not answered.
    FuseWaiting {
        /// Requests by the connection's number.
        connections: BTreeMap<u32, u64>,
    },
    /// The harness's own loop was not scheduled in time, or a look at the kernel's files takes long: what was measured then may be
    /// disturbed.
    HarnessLate {
        /// By how much, microseconds.
        late_us: u64,
    },
    /// Everything of the arm is gone.
    ArmEnded {
        /// Its verdict.
        verdict: String,
    },
    /// Always the last: the run's verdict.
    Verdict {
        /// `pass`, `fail`, `inconclusive`, `aborted` or `error`.
        verdict: String,
        /// One sentence: why.
        summary: String,
    },
}

/// A line of the run's events that the harness tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HarnessEvent {
    /// Schema version.
    pub v: u32,
    /// Number among the harness's events of this run, without gaps.
    pub seq: u64,
    /// Microseconds since the run's start; the same as `run_us`.
    pub t_us: u64,
    /// Microseconds since the run's start.
    pub run_us: u64,
    /// The arm that it is about; none: the run as a whole.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub arm: Option<String>,
    /// What happened.
    #[serde(flatten)]
    pub body: HarnessEventBody,
}

impl HarnessEvent {
    /// The `seq`-th event, `run_us` after the run's start.
    pub const fn new(seq: u64, run_us: u64, arm: Option<String>, body: HarnessEventBody) -> Self {
        Self { v: SCHEMA_VERSION, seq, t_us: run_us, run_us, arm, body }
    }
}

/// The JSON schema of the harness's events.
pub fn schema() -> Schema {
    SchemaGenerator::default().into_root_schema_for::<HarnessEvent>()
}
