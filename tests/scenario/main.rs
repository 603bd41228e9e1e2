//! `stunfs test` as its users run it: shipped scenarios in their short form, verdicts, and every way in which a run ends.
//!
//! Must not know: how a scenario is run. Invariant: after each test nothing of it is mounted, and its directory is gone.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use stunfs::Volume;
use stunfs::internal::seed::{DrawKey, Stream};
use stunfs::internal::time::{pause, wait_until};
use stunfs::option::Latency;

/// A loop of small files beside a stun.
const LOOP: &str = "\
apiVersion: stunfs/v1alpha1
kind: Scenario
metadata: {name: loop, description: small files beside a stun}
spec:
  duration: 4s
  storage: {kind: directory}
  workload:
    - {name: files, run: [sh, -c, 'i=0; while :; do i=$((i+1)); echo $i > {}/f$i; sleep 0.05; done']}
  timeline: [{at: 1s, stun: {for: 1s}}]
  expect: [{metric: volume.stuns, equals: 1}]
";

fn can_mount() -> bool {
    match Volume::check_machine() {
        Ok(()) => true,
        Err(error) => {
            assert!(std::env::var_os("STUNFS_REQUIRE_FUSE").is_none(), "{error}");
            println!("left out: {error}");
            false
        }
    }
}

/// A place for one test: its temporary directory, where stunfs makes its own, too.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let temporary = self.path().join("t");
        std::fs::create_dir_all(&temporary).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_stunfs"));
        command.arg("test").args(arguments).arg("--out").arg(self.path().join("out")).env("TMPDIR", temporary);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs `text` as a scenario.
    fn run_text(&self, text: &str, arguments: &[&str]) -> Output {
        let file = self.path().join("s.yaml");
        std::fs::write(&file, text).unwrap();
        self.run(&[&[file.to_str().unwrap()], arguments].concat())
    }

    fn result(&self, scenario: &str) -> Value {
        let path = self.path().join("out").join(scenario).join("verdict.json");
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    /// Whether nothing of the run is mounted or left.
    fn is_clean(&self) -> bool {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounted = mounts.contains(self.path().to_str().unwrap());
        let left = std::fs::read_dir(self.path().join("t")).is_ok_and(|mut entries| entries.next().is_some());
        !mounted && !left && self.processes().is_empty()
    }

    /// The processes whose temporary directory is here.
    fn processes(&self) -> Vec<String> {
        let mark = format!("TMPDIR={}", self.path().join("t").display());
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let ours = entries.filter(|entry| {
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|word| word == mark.as_bytes())
        });
        ours.map(|entry| entry.file_name().display().to_string()).collect()
    }

    fn assert_clean(&self, what: &str) {
        let clean = wait_until(Duration::from_secs(60), Duration::from_millis(50), || self.is_clean());
        assert!(clean, "{what}: left behind: {:?}", self.processes());
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Checks a run's folder against the published schemas.
fn assert_folder(folder: &Path) {
    let schema = |name: &str| -> Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    let verdict: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("verdict.json")).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema("verdict.schema.json")).unwrap();
    let faults: Vec<String> = validator.iter_errors(&verdict).map(|error| error.to_string()).collect();
    assert_eq!(faults, Vec::<String>::new());
    let events = std::fs::read_to_string(folder.join("events.jsonl")).unwrap();
    let harness = jsonschema::validator_for(&schema("run-events.schema.json")).unwrap();
    let volume = jsonschema::validator_for(&schema("events.schema.json")).unwrap();
    for line in events.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert!(event["run_us"].is_u64(), "{line}");
        assert!(harness.is_valid(&event) || volume.is_valid(&event), "{line}");
    }
    assert!(std::fs::read_to_string(folder.join("junit.xml")).unwrap().contains("<testsuite "));
    assert_page(folder, verdict["arms"].as_array().unwrap());
}

/// The page says what happened in each arm, and asks no network.
fn assert_page(folder: &Path, arms: &[Value]) {
    let page = std::fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(page.contains("<h1>Passed: ") && page.contains("Who waited most, and behind whom"));
    assert!(!page.contains("http:") && !page.contains("https:"));
    for arm in arms {
        assert!(page.contains(arm["name"].as_str().unwrap()));
        let held = arm["metrics"]["volume.held"]["count"].as_f64().unwrap();
        assert!(held == 0.0 || page.contains("<b>Operations held</b>"));
    }
    // The page can be made again from the folder.
    let mut again = Command::new(env!("CARGO_BIN_EXE_stunfs"));
    again.arg("report").arg(folder).arg("-o").arg(folder.join("again.html"));
    let output = again.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(std::fs::read_to_string(folder.join("again.html")).unwrap(), page);
}

fn shipped(name: &str) {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let output = place.run(&[name, "--short"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let result = place.result(name);
    assert_eq!(result["verdict"], "pass");
    let page = place.path().join("out").join(name).join("report.html");
    assert!(said(&output).ends_with(&format!("  report: {}\n", page.display())), "{}", said(&output));
    assert_folder(&place.path().join("out").join(name));
    place.assert_clean(name);
}

macro_rules! shipped {
    ($($test:ident: $name:literal),*) => {$(
        #[test]
        fn $test() {
            shipped($name);
        }
    )*};
}
shipped!(
    log_rotation_burst: "log-rotation-burst",
    backup_at_night: "backup-at-night",
    pool_exhausted: "pool-exhausted",
    stun_ladder: "stun-ladder",
    restored_snapshot: "restored-snapshot"
);

/// It freezes a control group that it makes, which takes root.
#[test]
fn incident() {
    if rustix::process::geteuid().is_root() {
        shipped("incident");
    } else {
        println!("left out: control groups take root");
    }
}

#[test]
fn a_stun_that_is_met_passes_and_one_that_nothing_met_is_inconclusive() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let output = place.run_text(LOOP, &["--junit", place.path().join("j.xml").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(place.path().join("j.xml").exists());
    let proof = &place.result("loop")["arms"][0]["proofs"][0];
    assert!(proof["delivered"] == true && proof["operations"].as_u64() >= Some(1), "{proof}");
    let idle = LOOP.replace("i=0; while :; do i=$((i+1)); echo $i > {}/f$i; sleep 0.05; done", "sleep 60");
    let output = place.run_text(&idle, &[]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("no operation met the stun"), "{}", said(&output));
    place.assert_clean("both");
}

#[test]
fn an_expectation_that_fails_fails_the_run_and_a_stop_condition_aborts_it() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let output = place.run_text(LOOP, &["--set", "spec.expect.0.equals=2"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let output = place.run_text(LOOP, &["--set", "spec.stopConditions=[{probe: volume.stuns, atLeast: 1}]"]);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(said(&output).contains("stop condition: volume.stuns is 1"), "{}", said(&output));
    let never = "spec.steadyState=[{probe: volume.stuns, atLeast: 1, for: 1s}]";
    let output = place.run_text(LOOP, &["--set", never]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("the steady state never came"), "{}", said(&output));
    place.assert_clean("all");
}

/// Four processes whose first writes wait for one lane.
const QUEUE: &str = "\
apiVersion: stunfs/v1alpha1
kind: Scenario
metadata: {name: queue, description: four first writes on one lane}
spec:
  duration: 12s
  storage: {kind: directory, first-write: 2s, lanes: 1, grain: 4KiB}
  arms: {thin: {}}
  workload:
    - {name: four, run: [sh, -c, 'for n in 1 2 3 4; do head -c 4096 /dev/zero >{}/$n & done; wait']}
  expect:
    - {metric: observer.pile_ups, atLeast: 1}
    - {metric: observer.tasks_waiting.max, atLeast: 3}
    - {metric: 'observer.waiting.FUSE reply.max', atLeast: 3}
    - {metric: four.exit, equals: 0}
";

#[test]
fn a_pile_up_is_seen_told_and_drawn() {
    if !can_mount() || !rustix::process::geteuid().is_root() {
        eprintln!("left out: kernel stacks need root");
        return;
    }
    let place = Place::new();
    let output = place.run_text(QUEUE, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let folder = place.path().join("out/queue");
    assert_folder(&folder);
    let events = std::fs::read_to_string(folder.join("events.jsonl")).unwrap();
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let ours = |event: &Value| event["event"] == "pile-up" && event["resource"] == "FUSE reply";
    let pile_up = events.into_iter().find(ours).unwrap();
    assert!(pile_up["arm"] == "thin" && pile_up["tasks"].as_u64() >= Some(2), "{pile_up}");
    assert_eq!(pile_up["oldest"]["comm"], "head", "{pile_up}");
    let page = std::fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(page.contains("wait for FUSE reply"), "the page has it, too");
    place.assert_clean("queue");
}

/// Two writers on another mount, whose server does not answer.
const STUCK: &str = "\
apiVersion: stunfs/v1alpha1
kind: Scenario
metadata: {name: stuck, description: a mount that does not answer}
spec:
  duration: 3s
  patience: 1s
  storage: {kind: directory}
  arms: {thin: {}}
  workload:
    - {name: files, run: [sh, -c, 'i=0; while :; do i=$((i+1)); echo $i > {}/f$i; sleep 0.05; done']}
    - {name: elsewhere, run: [sh, -c, 'dd if=/dev/zero of=OTHER/f bs=4k count=1 & dd if=/dev/zero of=OTHER/f bs=4k count=1; wait']}
  timeline: [{at: 1s, stun: {for: 500ms}}]
";

/// Only the leaders of process groups were looked at: what they had started stayed unseen.
#[test]
fn regression_a_task_that_does_not_come_back_is_named_with_its_stack() {
    if !can_mount() || !rustix::process::geteuid().is_root() {
        eprintln!("left out: kernel stacks need root");
        return;
    }
    let (place, other) = (Place::new(), Place::new());
    let (backing, mountpoint) = (other.path().join("b"), other.path().join("m"));
    [&backing, &mountpoint].into_iter().for_each(|dir| std::fs::create_dir(dir).unwrap());
    // Ends whatever happens: held operations are let go when it is dropped, and after two minutes by themselves.
    let volume = Volume::builder().backing(&backing).mountpoint(&mountpoint);
    let volume = volume.configure(|options| options.model.max_hold = Duration::from_secs(120));
    let volume = volume.first_write(Latency::Constant(Duration::from_secs(600))).mount().unwrap();
    let output = place.run_text(&STUCK.replace("OTHER", mountpoint.to_str().unwrap()), &[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("stay in state D after everything was released: dd"), "{}", said(&output));
    let stuck = place.result("stuck")["arms"][0]["stuck"].clone();
    println!("stuck: {stuck}");
    let names = |task: &Value| task["comm"] == "dd" && task["waits_for"].is_string() && !task["stack"][0].is_null();
    assert!(stuck.as_array().unwrap().iter().all(names) && stuck[0].is_object(), "{stuck}");
    let page = std::fs::read_to_string(place.path().join("out/stuck/report.html")).unwrap();
    assert!(page.contains("<h1>Failed: ") && page.contains(stuck[0]["waits_for"].as_str().unwrap()));
    volume.release();
    drop(volume);
    place.assert_clean("stuck");
}

/// What `stunfs explain` makes of a log runs as it is.
#[test]
fn a_scenario_made_from_a_kernel_log_passes() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let (log, made) = (place.path().join("kernel.log"), place.path().join("made.yaml"));
    let lines = "\
        [ 1000.1] INFO: task fluentd:134 blocked for more than 120 seconds.\n\
        [ 1300.1] watchdog: BUG: soft lockup - CPU#0 stuck for 223s! [swapper/0:0]\n";
    std::fs::write(&log, lines).unwrap();
    let mut explain = Command::new(env!("CARGO_BIN_EXE_stunfs"));
    let output = explain.arg("explain").arg(&log).arg("--scenario").arg(&made).output().unwrap();
    assert!(output.status.success() && said(&output).contains("The whole machine stood still"), "{}", said(&output));
    assert!(std::fs::read_to_string(&made).unwrap().contains("stun: {for: 240s}"));
    let output = place.run(&[made.to_str().unwrap(), "--short", "--set", "spec.duration=7s"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    place.assert_clean("replay");
}

#[test]
fn runs_are_repeated_with_the_next_seed() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let output = place.run_text(LOOP, &["--repeat", "2", "--seed", "100", "--set", "spec.duration=3s"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let result = place.result("loop");
    let seeds: Vec<_> = result["runs"].as_array().unwrap().iter().map(|run| run["seed"].as_u64().unwrap()).collect();
    assert_eq!((seeds, result["counts"]["pass"].as_u64()), (vec![100, 101], Some(2)));
    place.assert_clean("repeat");
}

#[test]
fn what_is_wrong_is_one_line_and_exit_code_2_and_nothing_is_touched() {
    let place = Place::new();
    for (text, arguments, expected) in [
        (LOOP.replace("duration", "duratio"), &[][..], "did you mean 'duration'?"),
        (LOOP.to_owned(), &["--set", "spec.sed=1"], "did you mean 'seed'?"),
        ("a: [".to_owned(), &[], "s.yaml:"),
    ] {
        let output = place.run_text(&text, arguments);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(expected) && told.trim_end().lines().count() == 1, "{told}");
    }
    let output = place.run(&["no-such", "--dry-run"]);
    assert_eq!(output.status.code(), Some(2));
    let output = place.run_text(LOOP, &["--dry-run"]);
    assert!(said(&output).contains("1s  stun for=1s"), "{}", said(&output));
    assert!(!place.path().join("out").exists());
}

/// README's first minute: a table, and a page that is named last.
#[test]
fn the_demo_prints_its_table_and_ends_with_its_page() {
    let has_jq = Command::new("jq").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !has_jq || !can_mount() {
        println!("left out: it needs jq and /dev/fuse");
        return;
    }
    let place = Place::new();
    let temporary = place.path().join("t");
    std::fs::create_dir_all(&temporary).unwrap();
    let mut demo = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/run.sh"));
    demo.arg(place.path().join("out")).env("STUNFS", env!("CARGO_BIN_EXE_stunfs")).env("SHORT", "1");
    let output = demo.env("DEMO_DIR", &temporary).env("TMPDIR", &temporary).stdin(Stdio::null()).output().unwrap();
    let told = said(&output);
    assert_eq!(output.status.code(), Some(0), "{told}");
    let page = place.path().join("out/demo/report.html");
    assert!(String::from_utf8_lossy(&output.stdout).ends_with(&format!("  report: {}\n", page.display())), "{told}");
    for row in [
        "backup of 64 MiB took ",
        "records lost                                            0            0            0\n",
    ] {
        assert!(told.contains(row), "{told}");
    }
    let page = std::fs::read_to_string(page).unwrap();
    for text in [
        "<h1>Passed: on thin, ",
        "Operations held",
        "In the queue behind",
        "write-back of backup.tar",
        "no stored record was lost",
    ] {
        assert!(page.contains(text), "{text}");
    }
    place.assert_clean("the demo");
}

// ---- endings -------------------------------------------------------------------------------------------------------------

fn signal(child: &Child, name: &str) {
    let signal = match name {
        "INT" => rustix::process::Signal::INT,
        "TERM" => rustix::process::Signal::TERM,
        _ => rustix::process::Signal::KILL,
    };
    rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).unwrap();
}

/// Ends a run of `text` after a time that `seed` decides.
fn end_at(seed: u64, text: &str) {
    let place = Place::new();
    let file = place.path().join("s.yaml");
    std::fs::write(&file, text).unwrap();
    let mut child = place.command(&[file.to_str().unwrap()]).spawn().unwrap();
    let draws = Stream::new(seed, "ending");
    let after = Duration::from_secs_f64(draws.unit(DrawKey::nth(0)) * 4.0);
    pause(after);
    let how = ["INT", "TERM", "KILL"][usize::try_from(seed % 3).unwrap()];
    signal(&child, how);
    let what = format!("seed {seed}: SIG{how} after {after:?}");
    let deadline = Duration::from_secs(60);
    assert!(wait_until(deadline, Duration::from_millis(20), || child.try_wait().unwrap().is_some()), "{what}");
    place.assert_clean(&what);
}

/// `STUNFS_ENDINGS=50` ends so many runs (see `make endings`).
#[test]
fn whatever_ends_a_run_nothing_is_left() {
    if !can_mount() {
        return;
    }
    let times = std::env::var("STUNFS_ENDINGS").ok().and_then(|times| times.parse().ok()).unwrap_or(6);
    let text = LOOP.replace("duration: 4s", "duration: 6s").replace("for: 1s", "for: 60s");
    let disk = text.replace("kind: directory", "kind: disk, filesystem: ext4, size: 64MiB");
    let root = rustix::process::geteuid().is_root();
    for seed in 0..times {
        end_at(seed, if root && seed % 2 == 1 { &disk } else { &text });
    }
}

#[test]
fn a_run_that_is_asked_to_end_says_that_it_was_aborted() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let file = place.path().join("s.yaml");
    std::fs::write(&file, LOOP.replace("duration: 4s", "duration: 60s").replace("for: 1s", "for: 50s")).unwrap();
    let child = place.command(&[file.to_str().unwrap()]).spawn().unwrap();
    let events = place.path().join("out/loop/events.jsonl");
    let stunned = || std::fs::read_to_string(&events).is_ok_and(|text| text.contains("stun-began"));
    assert!(wait_until(Duration::from_secs(30), Duration::from_millis(50), stunned));
    signal(&child, "TERM");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert_eq!(place.result("loop")["verdict"], "aborted");
    place.assert_clean("aborted");
}
