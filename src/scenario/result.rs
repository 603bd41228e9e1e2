//! What came out of a run: `verdict.json`.
//!
//! Must not know: how a run is done or shown. Invariant: a result only ever grows new fields within one version, and its
//! verdict is `pass` only if every arm has proof of its fault and every expectation was measured and holds.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::metric::{Bounds, MetricValue};

/// The version that every result carries as `v`.
pub const RESULT_VERSION: u32 = 1;

/// What a run shows. Ordered: the worst of several is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The fault was delivered, everything was measured, every expectation holds.
    Pass,
    /// It cannot be told: the fault was not proven delivered, the steady state never came, events were dropped.
    Inconclusive,
    /// An expectation does not hold.
    Fail,
    /// A stop condition, a signal or a time limit ended it.
    Aborted,
    /// The harness itself failed, or a writer did.
    Error,
}

impl Verdict {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Inconclusive => "inconclusive",
            Self::Fail => "fail",
            Self::Aborted => "aborted",
            Self::Error => "error",
        }
    }

    /// The exit code of `stunfs test`.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Fail => 1,
            Self::Inconclusive => 3,
            Self::Aborted => 4,
            Self::Error => 70,
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The result of one run of a scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunResult {
    /// The version of this form.
    pub v: u32,
    /// stunfs's version.
    pub version: String,
    /// The scenario's name.
    pub scenario: String,
    /// What the scenario says of itself.
    pub description: String,
    /// Wall-clock time of the start, RFC 3339.
    pub started: String,
    /// How long it took, microseconds.
    pub elapsed_us: u64,
    /// The seed of volumes and writers.
    pub seed: u64,
    /// The worst verdict of the arms.
    pub verdict: Verdict,
    /// One sentence: why.
    pub summary: String,
    /// The arms in the order in which they ran.
    pub arms: Vec<ArmResult>,
    /// The command line that does the same again.
    pub again: Vec<String>,
}

/// What came out of one arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ArmResult {
    /// The arm's name.
    pub name: String,
    /// Its verdict.
    pub verdict: Verdict,
    /// Why, one line each; none if it passed.
    pub reasons: Vec<String>,
    /// What the reader should know, one line each: what was disturbed, what was left behind.
    pub notes: Vec<String>,
    /// When it began, microseconds since the run's start.
    pub began_us: u64,
    /// When everything of it was gone.
    pub ended_us: u64,
    /// When the steady state had been reached; none: never, or none was asked for.
    pub steady_us: Option<u64>,
    /// The steps of the time line.
    pub steps: Vec<StepResult>,
    /// What proves that the fault was delivered.
    pub proofs: Vec<Proof>,
    /// What was expected of the arm.
    pub expectations: Vec<ExpectationResult>,
    /// Everything that was measured, by name.
    pub metrics: BTreeMap<String, MetricValue>,
    /// The writers and commands.
    pub writers: Vec<WriterResult>,
    /// The volume's event log.
    pub log: LogResult,
    /// Tasks that were still in state D after everything was released, and were not before; the oldest first.
    pub stuck: Vec<StuckTask>,
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepResult {
    /// Its name, or what it does.
    pub name: String,
    /// When it was to begin, microseconds since the arm's workload began.
    pub due_us: u64,
    /// When it began, microseconds since the run's start; none: the arm ended before.
    pub began_us: Option<u64>,
    /// When it was done; none: the arm ended before.
    pub done_us: Option<u64>,
    /// Why it failed.
    pub error: Option<String>,
}

/// What was injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// First writes (or first reads) waited.
    FirstWrite,
    /// The volume was stunned.
    Stun,
    /// What the volume freezes was frozen.
    Freeze,
}

/// A fault, seen from both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Proof {
    /// What was injected.
    pub fault: FaultKind,
    /// It was delivered: it was in force, and operations met it.
    pub delivered: bool,
    /// When it came into force, microseconds since the run's start.
    pub from_us: Option<u64>,
    /// When it ended.
    pub until_us: Option<u64>,
    /// Operations that the volume held for it.
    pub operations: u64,
    /// The longest of these holds.
    pub longest_hold_us: u64,
    /// What the writers felt: the longest acknowledgement latency that each told while it was in force.
    pub felt_us: BTreeMap<String, u64>,
}

/// How an expectation came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It holds.
    Holds,
    /// It does not.
    Fails,
    /// The figure is missing, or has another unit.
    Unmeasured,
}

/// An expectation, and what was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExpectationResult {
    /// The figure.
    pub metric: String,
    /// What it must be.
    pub expected: Bounds,
    /// What it is; none: it is missing.
    pub measured: Option<MetricValue>,
    /// How that compares.
    pub outcome: Outcome,
    /// All of that in words.
    pub text: String,
}

/// What became of a writer or a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WriterResult {
    /// Its name.
    pub name: String,
    /// What ran: the writer's kind, or the command's first word.
    pub kind: String,
    /// When it began, microseconds since the run's start; none: the arm ended before.
    pub began_us: Option<u64>,
    /// When it ended.
    pub ended_us: Option<u64>,
    /// Its exit code; none: a signal ended it, or it never began.
    pub exit_code: Option<i32>,
    /// The harness ended it because its time was over. That is fine for a command.
    pub ended_by_harness: bool,
    /// Where its report lies in the result folder.
    pub report: Option<String>,
}

/// The volume's event log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct LogResult {
    /// Events that were read.
    pub events: u64,
    /// Events that are missing: dropped by a full queue, lost, or not readable.
    pub missing: u64,
    /// The log ends with the event that says so.
    pub complete: bool,
}

/// A task that did not come back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StuckTask {
    /// Its process.
    pub pid: u32,
    /// The task.
    pub tid: u32,
    /// Its command name.
    pub comm: String,
    /// What it waits for in words.
    pub waits_for: Option<String>,
    /// Its kernel stack, the innermost first.
    pub stack: Vec<String>,
}

/// The result of several runs of a scenario.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RepeatResult {
    /// The version of this form.
    pub v: u32,
    /// The scenario's name.
    pub scenario: String,
    /// The worst verdict of the runs.
    pub verdict: Verdict,
    /// How many runs came to which verdict.
    pub counts: BTreeMap<Verdict, u32>,
    /// The runs: folder, seed and verdict.
    pub runs: Vec<RepeatedRun>,
}

/// One of several runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RepeatedRun {
    /// Its folder below the folder of all of them.
    pub folder: String,
    /// Its seed.
    pub seed: u64,
    /// Its verdict.
    pub verdict: Verdict,
}

/// The JSON schema of `verdict.json`.
pub fn schema() -> Schema {
    SchemaGenerator::default().into_root_schema_for::<RunResult>()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The schemas of what a run writes, as published.
    #[test]
    fn the_published_schemas_are_those_of_the_types() {
        let schemas = [
            ("docs/verdict.schema.json", schema()),
            ("docs/run-events.schema.json", crate::telemetry::harness::schema()),
        ];
        for (file, schema) in schemas {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
            let schema = serde_json::to_value(schema).unwrap();
            if std::env::var_os("STUNFS_UPDATE_SCHEMA").is_some() {
                std::fs::write(&path, serde_json::to_string_pretty(&schema).unwrap() + "\n").unwrap();
            }
            let published: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
            assert_eq!(published, schema, "{file}: run it again with STUNFS_UPDATE_SCHEMA=1");
        }
    }

    #[test]
    fn the_worst_verdict_is_the_greatest() {
        use Verdict::{Aborted, Error, Fail, Inconclusive, Pass};

        assert_eq!([Pass, Error, Fail].iter().max(), Some(&Error));
        assert_eq!([Pass, Inconclusive].iter().max(), Some(&Inconclusive));
        assert_eq!([Fail, Inconclusive, Aborted].iter().max(), Some(&Aborted));
        assert_eq!([Pass, Fail, Inconclusive, Aborted, Error].map(Verdict::exit_code), [0, 1, 3, 4, 70]);
    }
}
