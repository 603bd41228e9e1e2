//! A line of an event file, read without copying it: the fields that a page is made of, of whatever event.
//!
//! Must not know: what they mean. Invariant: a field that a newer stunfs added is passed over, one of the wrong type is an error.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::error::{ReportError, json_problem};
use crate::scenario::MetricValue;

/// An event of a volume, of the run, or of its observer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Line<'a> {
    #[serde(borrow)]
    pub(super) event: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) arm: Cow<'a, str>,
    pub(super) t_us: Option<u64>,
    pub(super) run_us: Option<u64>,
    // a hold
    #[serde(borrow)]
    pub(super) op: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) path: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) comm: Cow<'a, str>,
    pub(super) requested_us: Option<u64>,
    pub(super) released_us: Option<u64>,
    pub(super) penalty: LinePenalty,
    // the volume
    pub(super) cause: Option<String>,
    pub(super) error: Option<String>,
    pub(super) config: Option<LineConfig>,
    pub(super) used_bytes: Option<u64>,
    pub(super) size_bytes: Option<u64>,
    pub(super) grains: Option<u64>,
    pub(super) armed: Option<bool>,
    pub(super) message: Option<String>,
    pub(super) targets: Vec<String>,
    // kernels
    pub(super) task: Option<String>,
    pub(super) pid: Option<u64>,
    pub(super) seconds: Option<u64>,
    pub(super) waits_for: Option<String>,
    pub(super) cpu: Option<u64>,
    pub(super) server: Option<String>,
    pub(super) state: Option<String>,
    pub(super) fault: Option<String>,
    pub(super) device: Option<String>,
    pub(super) at_us: Option<u64>,
    // the run
    pub(super) name: Option<String>,
    pub(super) done: Option<bool>,
    pub(super) index: Option<u64>,
    pub(super) exit_code: Option<i64>,
    pub(super) progress: Option<LineProgress>,
    pub(super) value: Option<MetricValue>,
    pub(super) late_us: Option<u64>,
    pub(super) for_us: Option<u64>,
    pub(super) verdict: Option<String>,
    // the observer
    pub(super) by_resource: BTreeMap<String, u64>,
    pub(super) tasks: Option<u64>,
    pub(super) most: Option<u64>,
    pub(super) resource: Option<String>,
    pub(super) oldest: Option<LineWaiter>,
    pub(super) some_us: Option<u64>,
    pub(super) since_us: Option<u64>,
    pub(super) connections: BTreeMap<String, u64>,
    pub(super) dirty_kib: Option<u64>,
    pub(super) writeback_kib: Option<u64>,
}

/// What a hold consists of.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(default)]
pub(super) struct LinePenalty {
    pub(super) latency_us: u64,
    pub(super) zeroing_us: u64,
    pub(super) queue_us: u64,
    pub(super) space_us: u64,
    pub(super) stun_us: u64,
    pub(super) grains: u64,
}

/// A volume's configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LineConfig {
    pub(super) grain: Option<u64>,
    pub(super) pool: Option<u64>,
    pub(super) virtual_size: Option<u64>,
}

/// What a writer told.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LineProgress {
    pub(super) interval: LineInterval,
    pub(super) lock: Option<LineLock>,
    pub(super) heartbeats: Option<LineHeartbeats>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LineInterval {
    pub(super) records: u64,
    pub(super) ack_p50_us: u64,
    pub(super) ack_max_us: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LineLock {
    pub(super) waiters: Vec<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LineHeartbeats {
    pub(super) disk: LineHeartbeat,
    pub(super) lease: LineHeartbeat,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LineHeartbeat {
    pub(super) last_ago_us: u64,
    pub(super) limit_us: u64,
}

/// The task of a pile-up that has waited longest.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LineWaiter {
    pub(super) comm: String,
    pub(super) tid: u64,
    pub(super) for_us: u64,
}

impl<'a> Line<'a> {
    /// Reads line `number` of `file`.
    pub(super) fn read(file: &str, number: u64, text: &'a [u8]) -> Result<Self, ReportError> {
        let wrong = |problem: String| ReportError::line(file, number, problem);
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let line: Self = serde_json::from_slice(text).map_err(|error| {
            wrong(format!("column {}: {}; not an event of stunfs", error.column(), json_problem(&error)))
        })?;
        if line.event.is_empty() {
            return Err(wrong("has no field 'event'; not an event of stunfs".to_owned()));
        }
        if line.run_us.or(line.t_us).is_none() {
            return Err(wrong("has no time ('run_us'); not an event of a run".to_owned()));
        }
        if line.event == "held" && line.requested_us.zip(line.released_us).is_none() {
            return Err(wrong("a hold without 'requested_us' and 'released_us'; not an event of stunfs".to_owned()));
        }
        Ok(line)
    }

    /// When it was told, microseconds since the run's start.
    pub(super) fn at(&self) -> u64 {
        self.run_us.or(self.t_us).unwrap_or(0)
    }

    /// A moment of the clock of the one that told it, as a moment of the run.
    pub(super) fn in_run(&self, its_us: u64) -> u64 {
        let now = self.t_us.unwrap_or(self.at());
        if its_us >= now { self.at().saturating_add(its_us - now) } else { self.at().saturating_sub(now - its_us) }
    }
}
