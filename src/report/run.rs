//! A run as its result folder tells of it: the folder's files go in one by one, and line by line where they are long.
//!
//! Must not know: who reads the folder. Invariant: what `verdict.json` says is taken as it is; nothing is judged again.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::arm::{ArmCollector, ArmView};
use super::axis::Axis;
use super::error::ReportError;
use super::line::Line;
use crate::scenario::result::{ArmResult, RunResult};
use crate::workload::WorkloadReport;

/// Figures that a page draws at most, and so how large it becomes: about 25 bytes each.
const ALL_FIGURES: usize = 120_000;
/// Pieces of an arm's time, at least and at most.
const PIECES: (usize, usize) = (60, 1000);
/// A page of more arms than this would not be read by anybody.
const MOST_ARMS: usize = 64;
/// Longer scenarios are cut in the page.
const MOST_SCENARIO: usize = 200_000;

/// A file of a result folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportFile;

impl ReportFile {
    /// The result.
    pub const VERDICT: &'static str = "verdict.json";
    /// The scenario as it ran.
    pub const SCENARIO: &'static str = "scenario.yaml";
    /// What happened, a line an event.
    pub const EVENTS: &'static str = "events.jsonl";
    /// The page.
    pub const PAGE: &'static str = "report.html";
}

/// Reads a run.
#[derive(Debug)]
pub struct RunReader {
    label: String,
    result: RunResult,
    scenario: String,
    arms: Vec<ArmCollector>,
    /// Reports by arm and writer.
    reports: BTreeMap<(usize, String), WriterView>,
    events: u64,
}

/// A writer's report, and its histogram.
#[derive(Debug)]
pub(super) struct WriterView {
    pub(super) report: WorkloadReport,
    pub(super) latencies: Option<Histogram<u64>>,
}

/// A run that has been read.
#[derive(Debug)]
pub struct Run {
    pub(super) label: String,
    pub(super) result: RunResult,
    pub(super) scenario: String,
    pub(super) arms: Vec<ArmView>,
    pub(super) reports: BTreeMap<(usize, String), WriterView>,
    pub(super) events: u64,
}

impl RunReader {
    /// Begins with `verdict.json`; `label` is what the run is called where two are compared.
    ///
    /// # Errors
    /// It is not a result of a run.
    pub fn new(label: &str, verdict: &[u8]) -> Result<Self, ReportError> {
        let file = ReportFile::VERDICT;
        let result: RunResult = serde_json::from_slice(verdict).map_err(|error| {
            if is_repeated(verdict) {
                return ReportError::file(file, "this folder holds several runs: name one of the folders in it");
            }
            ReportError::json(file, &error)
        })?;
        if result.arms.len() > MOST_ARMS {
            return Err(ReportError::file(file, format!("{} arms; a page shows {MOST_ARMS}", result.arms.len())));
        }
        let series: usize = result.arms.iter().map(series_of).sum();
        let pieces = (ALL_FIGURES / 2 / series.max(1)).clamp(PIECES.0, PIECES.1);
        let arms = result.arms.iter().map(|arm| collector(arm, pieces)).collect();
        let label = label.to_owned();
        Ok(Self { label, result, scenario: String::new(), arms, reports: BTreeMap::new(), events: 0 })
    }

    /// Takes `scenario.yaml`.
    pub fn scenario(&mut self, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        self.scenario = text.chars().take(MOST_SCENARIO).collect();
    }

    /// The writers' reports that belong to the run: arm, writer, and the file below the folder.
    ///
    /// # Errors
    /// A path leads out of the folder.
    pub fn reports(&self) -> Result<Vec<(usize, String, String)>, ReportError> {
        let mut all = Vec::new();
        for (index, arm) in self.result.arms.iter().enumerate() {
            for writer in &arm.writers {
                let Some(path) = &writer.report else { continue };
                if path.starts_with('/') || path.split('/').any(|part| part == "..") {
                    let problem = format!("the report '{path}' does not lie in the folder; run the scenario again");
                    return Err(ReportError::file(ReportFile::VERDICT, problem));
                }
                all.push((index, writer.name.clone(), path.clone()));
            }
        }
        Ok(all)
    }

    /// Takes the report that lies in `file`.
    ///
    /// # Errors
    /// It is no writer's report.
    pub fn report(&mut self, arm: usize, writer: &str, file: &str, text: &[u8]) -> Result<(), ReportError> {
        let report: WorkloadReport = serde_json::from_slice(text).map_err(|error| ReportError::json(file, &error))?;
        let latencies = match report.ack_latency.hdr.as_str() {
            "" => None,
            hdr => Some(histogram(hdr).ok_or_else(|| {
                ReportError::file(file, "ack_latency.hdr is not a histogram; run the scenario again")
            })?),
        };
        self.reports.insert((arm, writer.to_owned()), WriterView { report, latencies });
        Ok(())
    }

    /// Takes line `number` of the event file `file`.
    ///
    /// # Errors
    /// It is no event, or of an arm that the result does not name.
    pub fn event(&mut self, file: &str, number: u64, text: &[u8]) -> Result<(), ReportError> {
        let line = Line::read(file, number, text)?;
        self.events += 1;
        if line.arm.is_empty() {
            return Ok(());
        }
        let index = self.result.arms.iter().position(|arm| arm.name == line.arm);
        let Some(arm) = index.and_then(|index| self.arms.get_mut(index)) else {
            let problem = format!("the arm '{}' is not in {}", line.arm, ReportFile::VERDICT);
            return Err(ReportError::line(file, number, problem));
        };
        arm.take(&line);
        Ok(())
    }

    /// Everything has been read.
    pub fn finish(self) -> Run {
        let ends: Vec<u64> = self.result.arms.iter().map(|arm| arm.ended_us).collect();
        let arms = self.arms.into_iter().zip(ends).map(|(arm, end)| arm.finish(end)).collect();
        let Self { label, result, scenario, reports, events, .. } = self;
        Run { label, result, scenario, arms, reports, events }
    }
}

/// About how many series an arm has: those of the volume and of an observer, and of each writer.
fn series_of(arm: &ArmResult) -> usize {
    15 + 6 * arm.writers.len()
}

fn is_repeated(verdict: &[u8]) -> bool {
    serde_json::from_slice::<crate::scenario::result::RepeatResult>(verdict).is_ok()
}

fn collector(arm: &ArmResult, pieces: usize) -> ArmCollector {
    let commands =
        arm.writers.iter().filter(|writer| !writer.kind.starts_with("write ")).map(|writer| writer.name.clone());
    ArmCollector::new(Axis::new(arm.began_us, arm.ended_us, pieces), commands.collect())
}

fn histogram(hdr: &str) -> Option<Histogram<u64>> {
    let packed = STANDARD.decode(hdr).ok()?;
    let times: Histogram<u64> = Deserializer::new().deserialize(&mut packed.as_slice()).ok()?;
    // Writers keep three digits; more would take memory and time.
    (times.sigfig() <= 3).then_some(times)
}
