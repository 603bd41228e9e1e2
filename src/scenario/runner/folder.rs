//! The result folder of a run.
//!
//! Must not know: how a run is done. Invariant: a file in it is whole or not there.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::RunError;
use crate::scenario::Scenario;
use crate::scenario::result::{ArmResult, Outcome, RepeatResult, RunResult, Verdict};

/// The folder.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn make(path: &Path) -> Result<Self, RunError> {
        fs::create_dir_all(path).map_err(RunError::at("cannot make the result folder", path))?;
        Ok(Self(path.to_owned()))
    }

    pub(super) fn events(&self) -> PathBuf {
        self.0.join("events.jsonl")
    }

    pub(super) fn write_scenario(&self, scenario: &Scenario) -> Result<(), RunError> {
        // Every type in it can be written as YAML; a test reads one back.
        let text = serde_norway::to_string(scenario).unwrap_or_default();
        write(&self.0.join("scenario.yaml"), text.as_bytes())
    }

    /// Keeps a writer's report; its path in the folder.
    pub(super) fn write_report(&self, arm: &str, writer: &str, report: &serde_json::Value) -> Result<String, RunError> {
        let name = format!("writers/{arm}/{writer}.json");
        let path = self.0.join(&name);
        let directory = path.parent().unwrap_or(&self.0);
        fs::create_dir_all(directory).map_err(RunError::at("cannot make", directory))?;
        write(&path, format!("{report:#}\n").as_bytes())?;
        Ok(name)
    }

    pub(super) fn write_result(&self, result: &RunResult) -> Result<(), RunError> {
        write_json(&self.0.join("verdict.json"), result)?;
        write_junit(&self.0.join("junit.xml"), result)
    }
}

/// Writes the result of several runs into the folder that holds theirs.
///
/// # Errors
/// The folder cannot be written.
pub fn write_repeat(folder: &Path, result: &RepeatResult) -> Result<(), RunError> {
    write_json(&folder.join("verdict.json"), result)
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), RunError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| RunError::at("cannot write", path)(error.into()))?;
    write(path, (text + "\n").as_bytes())
}

/// Writes the file beside its place first, so that it is never there in part.
fn write(path: &Path, content: &[u8]) -> Result<(), RunError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let put = || -> std::io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".new").tempfile_in(directory)?;
        file.write_all(content)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        file.as_file().set_permissions(mode)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    put().map_err(RunError::at("cannot write", path))
}

/// `junit.xml`: a suite an arm, a case an expectation, and one for the verdict of the arm.
pub(super) fn write_junit(path: &Path, result: &RunResult) -> Result<(), RunError> {
    let mut report = Report::new(format!("stunfs {}", result.scenario));
    report.set_time(Duration::from_micros(result.elapsed_us));
    report.add_test_suites(result.arms.iter().map(|arm| suite(&result.scenario, arm)));
    let text = report.to_string().map_err(|error| RunError::at("cannot write", path)(std::io::Error::other(error)))?;
    write(path, text.as_bytes())
}

fn suite(scenario: &str, arm: &ArmResult) -> TestSuite {
    let mut suite = TestSuite::new(format!("{scenario}/{}", arm.name));
    suite.set_time(Duration::from_micros(arm.ended_us.saturating_sub(arm.began_us)));
    let kind = match arm.verdict {
        Verdict::Pass => None,
        Verdict::Fail => Some(NonSuccessKind::Failure),
        Verdict::Inconclusive | Verdict::Aborted | Verdict::Error => Some(NonSuccessKind::Error),
    };
    suite.add_test_case(case("verdict", kind, &format!("{}: {}", arm.verdict, arm.reasons.join("; "))));
    for it in &arm.expectations {
        let kind = match it.outcome {
            Outcome::Holds => None,
            Outcome::Fails => Some(NonSuccessKind::Failure),
            Outcome::Unmeasured => Some(NonSuccessKind::Error),
        };
        suite.add_test_case(case(&format!("{} {}", it.metric, it.expected), kind, &it.text));
    }
    suite
}

fn case(name: &str, kind: Option<NonSuccessKind>, message: &str) -> TestCase {
    let status = kind.map_or_else(TestCaseStatus::success, |kind| {
        let mut status = TestCaseStatus::non_success(kind);
        status.set_message(message);
        status
    });
    TestCase::new(name, status)
}
