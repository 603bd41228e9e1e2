//! What a scenario's file says, as types. The format is `docs/scenarios.md`, its JSON schema `docs/scenario.schema.json`.
//!
//! Must not know: files, clocks, how a scenario is run. Invariant: every key has one meaning, and one that is not known is
//! refused where it stands.

use std::collections::BTreeSet;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::metric::{Bound, Bounds};
use super::text::TimeText;

mod map;

pub use map::{Action, Arm, Arms, Step, Storage, Work, Workload};

/// Where the schema lies in this repository.
pub const SCHEMA_FILE: &str = "docs/scenario.schema.json";

/// A scenario's file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// The version of the format.
    pub api_version: ApiVersion,
    /// Always `Scenario`.
    pub kind: Kind,
    /// Its name, and what it shows.
    pub metadata: Metadata,
    /// What is done and expected.
    pub spec: Spec,
}

/// Versions of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApiVersion {
    /// The first.
    #[serde(rename = "stunfs/v1alpha1")]
    V1Alpha1,
}

/// What kind of file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "there is only one")]
pub enum Kind {
    Scenario,
}

/// Its name, and what it shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Lower-case letters, digits and hyphens; the result folder's name.
    pub name: String,
    /// What it shows, and what was seen in production.
    #[serde(default)]
    pub description: String,
}

/// What is done and expected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// The seed of volumes and writers, the same in each arm.
    #[serde(default = "one")]
    pub seed: u64,
    /// How long the workload of each arm runs.
    pub duration: TimeText,
    /// How long held operations, steps and writers may take to end after the duration.
    #[serde(default = "patience")]
    pub patience: TimeText,
    /// What the workload runs on.
    pub storage: Storage,
    /// The variants of the storage, run one after the other with the same workload and seed; one arm `main` if there are none.
    #[serde(default)]
    pub arms: Arms,
    /// Writers and commands that run on the storage.
    pub workload: Vec<Workload>,
    /// What must hold before the first step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steady_state: Vec<SteadyState>,
    /// What is done, and when.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timeline: Vec<Step>,
    /// What is watched beside the workload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<Probe>,
    /// What ends the run at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop_conditions: Vec<StopCondition>,
    /// What must have come out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<Expectation>,
    /// `KEY=VALUE` as for `--set`: what `--short` changes, so that the scenario fits into a test run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub short: Vec<String>,
}

const fn one() -> u64 {
    1
}

const fn patience() -> TimeText {
    TimeText(std::time::Duration::from_secs(60))
}

/// A condition on a figure while the workload runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SteadyState {
    /// The figure: `WRITER.rate`, or a probe's name.
    pub probe: String,
    /// At least this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_least: Option<Bound>,
    /// At most this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_most: Option<Bound>,
    /// Exactly this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    equals: Option<Bound>,
    /// For so long without a break.
    #[serde(rename = "for", default = "steady_for")]
    pub hold_for: TimeText,
}

const fn steady_for() -> TimeText {
    TimeText(std::time::Duration::from_secs(5))
}

/// A condition that ends the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StopCondition {
    /// The figure: `WRITER.rate`, or a probe's name.
    pub probe: String,
    /// The run ends when the figure is at least this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_least: Option<Bound>,
    /// The run ends when the figure is at most this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_most: Option<Bound>,
    /// The run ends when the figure is exactly this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    equals: Option<Bound>,
}

/// What must have come out of an arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expectation {
    /// The arm; `all`: each of them.
    #[serde(default = "every_arm")]
    pub arm: String,
    /// The figure, such as `WRITER.ack_latency.max`.
    pub metric: String,
    /// At least this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_least: Option<Bound>,
    /// At most this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_most: Option<Bound>,
    /// Exactly this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    equals: Option<Bound>,
}

fn every_arm() -> String {
    "all".to_owned()
}

macro_rules! bounded {
    ($($type:ty),*) => {$(
        impl $type {
            /// Its bounds.
            pub fn bounds(&self) -> Bounds {
                Bounds::new(self.at_least.as_ref(), self.at_most.as_ref(), self.equals.as_ref())
            }
        }
    )*};
}
bounded!(SteadyState, StopCondition, Expectation, WaitFor);

impl Expectation {
    /// Whether it is about the arm `name`.
    pub fn is_about(&self, name: &str) -> bool {
        self.arm == "all" || self.arm == name
    }
}

/// The step `wait`: the steps after it begin when a figure is as it says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WaitFor {
    /// The figure: `WRITER.rate`, `volume.held_now`, or a probe's name.
    pub probe: String,
    /// Until it is at least this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_least: Option<Bound>,
    /// Until it is at most this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_most: Option<Bound>,
    /// Until it is exactly this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    equals: Option<Bound>,
    /// How long the step waits; after that it has failed.
    #[serde(default = "patience")]
    pub within: TimeText,
}

/// Something that is watched. Its figure is called by its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Probe {
    /// Its name in conditions and expectations.
    pub name: String,
    /// When it is looked at.
    #[serde(default)]
    pub when: When,
    /// How often, if continuously.
    #[serde(default = "second")]
    pub every: TimeText,
    /// A command: its exit code, or the first line of its output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandProbe>,
    /// An HTTP request: the status of its answer, 0 if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpProbe>,
    /// A Prometheus query: the first value of its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusProbe>,
    /// What the kernel said: how often, since the arm began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelProbe>,
    /// Tasks of this machine: how many are in a state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<TaskProbe>,
}

const fn second() -> TimeText {
    TimeText(std::time::Duration::from_secs(1))
}

/// When a probe is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum When {
    /// Once, before the workload begins.
    Start,
    /// Again and again while the workload runs.
    #[default]
    Continuously,
    /// Once, when the workload has ended and everything is released.
    End,
    /// Again and again; only changes are told.
    Change,
}

/// A command that is run and looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommandProbe {
    /// The command and its arguments; `{}` stands for the storage's path.
    pub run: Vec<String>,
    /// The figure is the first line that it prints, as a number if it is one, and not the exit code.
    #[serde(default)]
    pub output: bool,
    /// How long it may take; after that it is ended, and the figure is missing.
    #[serde(default = "probe_limit")]
    pub within: TimeText,
}

const fn probe_limit() -> TimeText {
    TimeText(std::time::Duration::from_secs(5))
}

/// An HTTP request (no TLS).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpProbe {
    /// `http://HOST[:PORT]/PATH`
    pub url: String,
    /// How long the answer may take.
    #[serde(default = "probe_limit")]
    pub within: TimeText,
}

/// A query to a Prometheus server (no TLS).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PrometheusProbe {
    /// The server: `http://HOST:9090`
    pub url: String,
    /// PromQL.
    pub query: String,
    /// How long the answer may take.
    #[serde(default = "probe_limit")]
    pub within: TimeText,
}

/// What a kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KernelProbe {
    /// A task waits too long.
    HungTask,
    /// A CPU did not schedule.
    SoftLockup,
    /// An NFS server does not respond.
    NfsServer,
    /// A device or a file system fails.
    StorageError,
}

/// Which tasks are counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskProbe {
    /// Only tasks with this command name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comm: Option<String>,
}

/// Names of figures that are the run's own, and no writer's or probe's.
pub(super) const OWN_FIGURES: [&str; 5] = ["volume", "pool", "kernel", "tasks", "observer"];

impl Spec {
    /// The names that figures may begin with.
    pub fn figure_names(&self) -> BTreeSet<&str> {
        let workload = self.workload.iter().map(|work| work.name.as_str());
        OWN_FIGURES.into_iter().chain(workload).chain(self.probes.iter().map(|probe| probe.name.as_str())).collect()
    }
}

/// The JSON schema of a scenario's file.
pub fn schema() -> Schema {
    SchemaGenerator::default().into_root_schema_for::<Scenario>()
}

/// A list of volume options as a schema: their values are plain.
fn plain_values(own: &serde_json::Value) -> Schema {
    let mut properties = own.as_object().cloned().unwrap_or_default();
    for option in &crate::settings::OPTIONS {
        let value = serde_json::json!({
            "description": option.help,
            "type": ["string", "number", "boolean", "array", "null"],
            "items": {"type": "string"},
        });
        properties.insert(option.name.to_owned(), value);
    }
    json_schema!({"type": "object", "properties": properties, "additionalProperties": false})
}
