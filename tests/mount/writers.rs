//! Writers on volumes: who waits behind whom, and that nothing acknowledged is lost.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use stunfs::internal::time::{pause, wait_until};

use super::support::{Daemon, Place, stunfs};
use crate::common::TICK;

/// A `stunfs write` in a process of its own, ended with the test.
struct Writer(Child);

impl Writer {
    fn start(kind: &str, dir: &Path, args: &[&str]) -> Self {
        let mut command: Command = stunfs();
        command.args(["write", kind]).arg(dir).args(["--quiet", "--json"]).args(args);
        Self(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn report(mut self) -> Value {
        let output = self.0.stdout.take().unwrap();
        let report = serde_json::from_reader(output).unwrap();
        self.0.wait().unwrap();
        report
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _gone = self.0.kill();
    }
}

/// A fluentd's files exist and are overwritten at once; then new blocks take long.
fn with_inputs_that_have_run(first_write: &str, place: &Place, then: impl FnOnce(&Daemon<'_>) -> Value) -> Value {
    let daemon = place.mount(&["--placement", "direct", "--first-write", "0ms"]);
    let inputs = ["--inputs", "8", "--count", "3", "--rate", "max"];
    assert_eq!(Writer::start("fluentd", &place.mnt(), &inputs).report()["records"], 24);
    let set = place.ctl(&["set", &format!("first-write={first_write}")]);
    assert!(set.status.success(), "{set:?}");
    let report = then(&daemon);
    daemon.end();
    report
}

/// One stalled first write of a new chunk stops all inputs, and the report names both.
#[test]
fn one_input_waits_for_its_grain_and_seven_for_the_buffers_lock() {
    crate::common::need_fuse!();
    let place = Place::new();
    let report = with_inputs_that_have_run("20s", &place, |daemon| {
        let writer = Writer::start("fluentd", &place.mnt(), &["--inputs", "8", "--count", "5", "--no-verify"]);
        daemon.wait_held(1);
        pause(Duration::from_millis(500));
        assert_eq!(daemon.held(), 1, "the others wait for the first, not for the disk");
        assert!(place.ctl(&["set", "first-write=0ms"]).status.success());
        assert!(wait_until(Duration::from_secs(20), TICK, || {
            place.ctl(&["release"]);
            daemon.held() == 0
        }));
        writer.report()
    });
    let pile = &report["pile_up"];
    let inputs = pile["waiters"].as_array().unwrap();
    let waiting = inputs.iter().filter(|name| !name.as_str().unwrap().contains("sh") && **name != "fluentd-enqueue");
    assert_eq!((pile["lock"].as_str(), waiting.count()), (Some("buffer"), 7), "{pile}");
    assert_eq!((&pile["root"], &pile["op"]), (&pile["holder"], &Value::from("write")), "{pile}");
    assert!(pile["for_us"].as_u64() >= Some(300_000), "{pile}");
}

#[test]
fn on_thick_storage_nobody_piles_up() {
    crate::common::need_fuse!();
    let place = Place::new();
    let report = with_inputs_that_have_run("0ms", &place, |_| {
        Writer::start("fluentd", &place.mnt(), &["--inputs", "8", "--for", "2s", "--rate", "20/s"]).report()
    });
    let weight = report["pile_up"]["for_us"].as_u64().unwrap_or(0);
    assert!(weight < 1_000_000, "the machine may be busy, but nobody waits a second: {report}");
    assert_eq!(report["verified"]["lost"], 0);
}

fn verify(place: &Place) -> Value {
    let mut command = stunfs();
    command
        .args(["write", "verify", "--json"])
        .arg(place.backing().join("logs"))
        .arg("--ack-log")
        .arg(place.at("acks"));
    let output = command.output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!((output.status.code(), &found["lost"]), (Some(0), &Value::from(0)), "{found}");
    found
}

/// What befalls the writer or its storage in a run, by the run's seed.
fn befall(seed: u64, place: &Place, daemon: &mut Daemon<'_>, writer: Writer) {
    pause(Duration::from_millis(60 + seed * 37 % 200));
    match seed % 4 {
        // A stun in the middle; then the writer is killed.
        0 => {
            assert!(place.ctl(&["stun", "150ms"]).status.success());
            writer.kill();
        }
        1 => writer.kill(),
        // The storage's server is killed, and mounted again.
        2 => {
            daemon.kill();
            writer.kill();
        }
        // The pool runs full (see its size); errors are no losses.
        _ => {
            pause(Duration::from_millis(200));
            writer.kill();
        }
    }
}

/// Stalls, stuns, a full pool, SIGKILL of the writer and of stunfs: no acknowledged record is lost, torn, doubled or out of order, and
/// the next run goes on behind it.
#[test]
fn no_acknowledged_record_is_lost_in_20_seeded_runs() {
    crate::common::need_fuse!();
    for seed in 0..20_u64 {
        let kind = KINDS[usize::try_from(seed / 4).unwrap() % KINDS.len()];
        let place = Place::new();
        let pool = if seed % 4 == 3 { "256KiB" } else { "64MiB" };
        let number = seed.to_string();
        let acks = place.at("acks");
        let args = ["--threads", "2", "--rate", "400/s", "--seed", &number, "--ack-log", acks.to_str().unwrap()];
        let mut found = Value::Null;
        for _ in 0..2 {
            let options = ["--first-write", "5ms", "--grain", "64KiB", "--pool", pool, "--on-full", "enospc"];
            let mut daemon = place.mount(&options);
            // A folder that the bare mountpoint has not: behind a server that was killed, nothing is written there.
            std::fs::create_dir_all(place.backing().join("logs")).unwrap();
            let writer = Writer::start(kind, &place.mnt().join("logs"), &[&args[..], &["--no-verify"]].concat());
            befall(seed, &place, &mut daemon, writer);
            drop(daemon);
            place.assert_clean(Duration::from_secs(20));
            found = verify(&place);
        }
        assert!(found["acknowledged"].as_u64() > Some(0), "{kind}, seed {seed}: {found}");
    }
}

const KINDS: [&str; 5] = ["fluentd", "logger", "churn", "kubelet", "database"];
