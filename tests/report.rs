//! `stunfs report` as its users run it, on folders that are right, wrong, or none. Needs nothing: no folder here comes from a mount.
//!
//! Must not know: what a page looks like inside (`src/report/tests.rs` does). Invariant: what is wrong is one line and exit code 2.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const VERDICT: &str = r#"{"v": 1, "version": "0.1.0", "scenario": "night", "description": "", "started": "2026-11-27T06:52:45Z",
  "elapsed_us": 1000000, "seed": 7, "verdict": "inconclusive", "summary": "", "again": ["stunfs", "test", "scenario.yaml"],
  "arms": [{"name": "main", "verdict": "inconclusive", "reasons": ["no operation met the stun"], "notes": [], "began_us": 0,
    "ended_us": 1000000, "steady_us": null, "steps": [], "proofs": [], "expectations": [], "metrics": {}, "writers": [],
    "log": {"events": 1, "missing": 0, "complete": true}, "stuck": []}]}"#;
const EVENTS: &str =
    "{\"v\":1,\"seq\":1,\"t_us\":5,\"event\":\"armed\",\"armed\":true,\"arm\":\"main\",\"run_us\":5}\n";

/// A result folder.
fn folder(at: &Path, events: &str) {
    fs::create_dir_all(at).unwrap();
    fs::write(at.join("verdict.json"), VERDICT).unwrap();
    fs::write(at.join("scenario.yaml"), "kind: Scenario\n").unwrap();
    fs::write(at.join("events.jsonl"), events).unwrap();
}

fn report(at: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stunfs")).arg("report").args(arguments).current_dir(at).output().unwrap()
}

/// What it says, if that is one line and the exit code is 2.
fn refusal(at: &Path, arguments: &[&str]) -> String {
    let output = report(at, arguments);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.trim_end().lines().count() == 1 && output.stdout.is_empty(), "{told}");
    told
}

#[test]
fn a_folder_becomes_a_page_and_two_become_one() {
    let place = tempfile::tempdir().unwrap();
    let at = place.path();
    folder(&at.join("one"), EVENTS);
    folder(&at.join("two"), EVENTS);
    let output = report(at, &["one"]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told}");
    assert_eq!(told, "The test cannot tell: no operation met the stun.\none/report.html\n");
    let page = fs::read_to_string(at.join("one/report.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("no operation met the stun"));
    assert!(report(at, &["one", "two", "-o", "both.html"]).status.success());
    assert!(fs::read_to_string(at.join("both.html")).unwrap().contains("tag-B"));
    assert!(report(at, &["one", "two"]).status.success());
    assert!(at.join("compare.html").exists());
}

#[test]
fn a_folder_that_is_no_result_is_refused_with_what_is_missing() {
    let place = tempfile::tempdir().unwrap();
    let at = place.path();
    assert!(refusal(at, &["nowhere"]).contains("nowhere: there is no such folder"));
    fs::write(at.join("file"), "").unwrap();
    assert!(refusal(at, &["file"]).contains("file: is not a folder"));
    fs::create_dir(at.join("empty")).unwrap();
    assert!(refusal(at, &["empty"]).contains("empty/verdict.json: there is no such file"));
    for missing in ["scenario.yaml", "events.jsonl"] {
        folder(&at.join("part"), EVENTS);
        fs::remove_file(at.join("part").join(missing)).unwrap();
        assert!(refusal(at, &["part"]).contains(&format!("part/{missing}: there is no such file")));
    }
    folder(&at.join("whole"), EVENTS);
    assert!(refusal(at, &["whole", "nowhere"]).contains("nowhere"));
    let output = report(at, &["whole", "-o", "no/such/place.html"]);
    assert!(
        !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("cannot write no/such/place.html")
    );
}

#[test]
fn an_event_file_that_is_torn_or_malformed_is_refused_with_the_line() {
    let place = tempfile::tempdir().unwrap();
    let at = place.path();
    folder(&at.join("torn"), &format!("{EVENTS}{}", &EVENTS[..40]));
    assert!(refusal(at, &["torn"]).contains("torn/events.jsonl:2: column 40: it is cut off"));
    folder(&at.join("bad"), &format!("{EVENTS}{EVENTS}{{\"event\": 7}}\n"));
    assert!(refusal(at, &["bad"]).contains("bad/events.jsonl:3: column 11: invalid type: integer `7`"));
}

/// A folder of somebody else's may name any file as a writer's report.
#[test]
fn a_result_cannot_name_files_outside_its_folder() {
    let place = tempfile::tempdir().unwrap();
    let at = place.path();
    folder(&at.join("out"), EVENTS);
    let writer = r#""writers": [{"name": "w", "kind": "write fluentd", "began_us": 0, "ended_us": 1, "exit_code": 0,
        "ended_by_harness": false, "report": "/etc/hostname"}]"#;
    fs::write(at.join("out/verdict.json"), VERDICT.replace(r#""writers": []"#, writer)).unwrap();
    assert!(refusal(at, &["out"]).contains("the report '/etc/hostname' does not lie in the folder"));
}
