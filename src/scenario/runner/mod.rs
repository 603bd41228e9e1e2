//! Runs a scenario: arms one after the other on fresh storage, and a folder with everything that came out.
//!
//! Volumes, disks, writers and commands are child processes: what waits for stalled storage is never this process. Must not
//! know: how a verdict is found. Invariant: whatever way a run ends, nothing of it stays held, frozen, mounted or looped.

mod arm;
mod cleanup;
mod command;
mod folder;
mod http;
mod log;
mod message;
mod probes;
mod storage;
mod watcher;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

pub use cleanup::sweep;
pub use folder::write_repeat;

use super::Scenario;
use super::judge;
use super::result::{RESULT_VERSION, RunResult, Verdict};
use crate::settings::{Settings, SettingsError};
use crate::telemetry::harness::HarnessEventBody;
use crate::time::{Clock, SimTime};

/// Why a run could not even begin, or its result not be written.
#[derive(Debug, thiserror::Error)]
#[error("{what} {path}: {cause}")]
pub struct RunError {
    what: &'static str,
    path: PathBuf,
    /// What the system said.
    pub cause: io::Error,
}

impl RunError {
    fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self { what, path, cause }
    }
}

/// Asks a run to end before its time.
#[derive(Debug, Clone, Default)]
pub struct Abort(Arc<Mutex<Option<String>>>);

impl Abort {
    /// Asks for the end; the first reason counts.
    pub fn request(&self, why: impl Into<String>) {
        self.0.lock().get_or_insert_with(|| why.into());
    }

    /// Why the run is to end.
    pub fn reason(&self) -> Option<String> {
        self.0.lock().clone()
    }
}

/// What a run needs to know.
#[derive(Debug, Clone)]
pub struct ScenarioRunOptions {
    /// The stunfs program, for volumes, disks and writers.
    pub program: PathBuf,
    /// What is run.
    pub scenario: Scenario,
    /// Where the result goes; made if it is missing.
    pub folder: PathBuf,
    /// Where the undo list lies; who sweeps there clears away what the run left.
    pub scratch: PathBuf,
    /// A directory below it for this run alone, on storage that is not stalled.
    pub work: PathBuf,
    /// Where `junit.xml` goes as well.
    pub junit: Option<PathBuf>,
    /// The command line that does the same again.
    pub again: Vec<String>,
    /// Finds profiles.
    pub profiles: fn(&str) -> Result<Settings, SettingsError>,
}

/// Runs the scenario to its verdict.
///
/// # Errors
/// The folder cannot be written; everything else is a verdict.
pub fn run(options: &ScenarioRunOptions, abort: &Abort) -> Result<RunResult, RunError> {
    let clock = Clock::start();
    let folder = folder::Folder::make(&options.folder)?;
    folder.write_scenario(&options.scenario)?;
    let mut log = log::RunLog::create(&folder.events(), clock)?;
    let spec = &options.scenario.spec;
    let started = humantime::format_rfc3339_micros(clock.started_wall()).to_string();
    log.tell(
        None,
        HarnessEventBody::RunStarted {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            scenario: options.scenario.metadata.name.clone(),
            seed: spec.seed,
            started: started.clone(),
            arms: spec.arms.0.iter().map(|(name, _)| name.clone()).collect(),
        },
    );
    let mut arms = Vec::new();
    for (index, (name, settings)) in spec.arms.0.iter().enumerate() {
        let result = arm::run(
            &arm::ArmOptions { run: options, name, arm: settings, index, folder: &folder, clock },
            &mut log,
            abort,
        );
        let goes_on = !matches!(result.verdict, Verdict::Aborted);
        arms.push(result);
        if !goes_on {
            break;
        }
    }
    let (verdict, summary) = judge::run(&arms, spec.arms.0.len());
    log.tell(None, HarnessEventBody::Verdict { verdict: verdict.name().to_owned(), summary: summary.clone() });
    log.finish()?;
    let result = RunResult {
        v: RESULT_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        scenario: options.scenario.metadata.name.clone(),
        description: options.scenario.metadata.description.clone(),
        started,
        elapsed_us: clock.now().since(SimTime::ZERO).as_micros().try_into().unwrap_or(u64::MAX),
        seed: spec.seed,
        verdict,
        summary,
        arms,
        again: options.again.clone(),
    };
    folder.write_result(&result)?;
    if let Some(path) = &options.junit {
        folder::write_junit(path, &result)?;
    }
    Ok(result)
}
