//! A daemon that is killed, stopped, or whose guard is killed with it, under a busy file system; and the way back.

use std::fs::File;
use std::io::Seek as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use stunfs::internal::time::{Clock, SimTime, pause, wait_until};

use crate::support::{TestDisk, append_synced, count_records, finished, loop_files, need_disks, run, stunfs, text};

/// How often; `STUNFS_CRASH_ROUNDS` says otherwise.
const ROUNDS: u32 = 3;

fn rounds() -> u32 {
    std::env::var("STUNFS_CRASH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS)
}

#[test]
fn what_was_synced_survives_the_death_of_the_daemon() {
    need_disks!("mkfs.xfs", "xfs_repair");
    let mut disk = TestDisk::up("--size 1GiB --first-write 5ms");
    let churned: u64 = (0..rounds()).map(|round| crash_and_recover(&mut disk, round)).sum();
    assert!(churned > 0, "the log had nothing to do");
}

/// How many files were churned, besides what was synced.
fn crash_and_recover(disk: &mut TestDisk, round: u32) -> u64 {
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3)
        .map(|n| {
            let (path, stop) = (disk.path(&format!("r{round}-{n}")), Arc::clone(&stop));
            std::thread::spawn(move || append_synced(&path, &stop))
        })
        .collect();
    let (dir, told) = (disk.path(&format!("churn-{round}")), Arc::clone(&stop));
    let churn = std::thread::spawn(move || churn(&dir, &told));
    pause(Duration::from_millis(400 + 37 * u64::from(round % 7)));
    disk.kill_daemon();
    stop.store(true, Ordering::Relaxed);
    let acknowledged: Vec<u64> = writers.into_iter().map(|writer| finished(writer, Duration::from_secs(10))).collect();
    // None, where the first of them was in the stall.
    let churned = finished(churn, Duration::from_secs(10));
    let status = disk.disk("status");
    assert!(text(&status.stdout).contains("daemon is dead"), "{}", text(&status.stdout));
    // It was 0: a script saw nothing wrong.
    assert_eq!(stunfs(&["disk", "list"]).status.code(), Some(69), "the list says it with its code, too");
    let refused = disk.disk("up");
    assert!(text(&refused.stderr).contains("disk repair"), "{}", text(&refused.stderr));
    let repaired = disk.disk("repair");
    assert!(repaired.status.success(), "{}", text(&repaired.stderr));
    disk.assert_nothing_left();

    disk.again("--first-write 5ms");
    for (n, acknowledged) in acknowledged.iter().enumerate() {
        let there = count_records(&disk.path(&format!("r{round}-{n}")));
        assert!(there >= *acknowledged, "round {round}, writer {n}: {acknowledged} acknowledged, {there} there");
    }
    assert!(acknowledged.iter().sum::<u64>() > 0, "nothing was written in round {round}");
    disk.down();
    let checked = run(Command::new("xfs_repair").args(["-n", "-f"]).arg(disk.image()));
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    disk.again("--first-write 5ms");
    churned
}

/// Makes files, renames and removes them, and syncs nothing: work for the log. How many.
fn churn(dir: &Path, stop: &AtomicBool) -> u64 {
    let one = |n: u64| {
        let at = |name: &str| dir.join(format!("{name}{n}"));
        std::fs::write(at("new"), [5; 5000])?;
        std::fs::rename(at("new"), at("old"))?;
        if n.is_multiple_of(3) { std::fs::remove_file(at("old")) } else { Ok(()) }
    };
    if std::fs::create_dir(dir).is_err() {
        return 0;
    }
    (0..).take_while(|n| !stop.load(Ordering::Relaxed) && one(*n).is_ok()).count().try_into().unwrap()
}

#[test]
fn a_daemon_that_stands_still_is_no_obstacle() {
    need_disks!("mkfs.xfs");
    let disk = TestDisk::up("--size 1GiB");
    let path = disk.path("file");
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let writer = std::thread::spawn(move || append_synced(&path, &told));
    pause(Duration::from_millis(200));
    let pid = rustix::process::Pid::from_raw(disk.pid().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let says_so = || text(&disk.disk("status").stdout).contains("daemon is stopped");
    // Its threads stop one after the other.
    assert!(wait_until(Duration::from_secs(10), Duration::from_millis(50), says_so), "its daemon runs on");
    disk.down();
    stop.store(true, Ordering::Relaxed);
    finished(writer, Duration::from_secs(10));
}

/// Starts the program in a process group of its own, with its temporary files below `base`; and what it says.
fn start(base: &Path, args: &[&str]) -> (Child, File) {
    use std::os::unix::process::CommandExt;

    let said = tempfile::tempfile().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_stunfs"));
    command.args(args).env("TMPDIR", base).process_group(0).stderr(said.try_clone().unwrap());
    (command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap(), said)
}

fn what_it_said(mut said: File) -> String {
    said.rewind().unwrap();
    std::io::read_to_string(said).unwrap()
}

/// The record of the disk whose image lies below `base`.
fn record_below(base: &Path) -> Option<Value> {
    let list: Value = serde_json::from_slice(&stunfs(&["disk", "list", "--json"]).stdout).unwrap();
    let below = |found: &&Value| Path::new(found["disk"]["image"].as_str().unwrap()).starts_with(base);
    list.as_array().unwrap().iter().find(below).map(|found| found["disk"].clone())
}

/// Processes whose command line names `base`.
fn processes_of(base: &Path) -> Vec<u32> {
    let named = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(base.to_str().unwrap())
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(named).collect()
}

/// No mount, device, record, process, nor a file below `base`.
fn assert_nothing_of(base: &Path, what: &str) {
    assert!(record_below(base).is_none(), "{what}: its record is still there");
    let ended = wait_until(Duration::from_secs(15), Duration::from_millis(10), || processes_of(base).is_empty());
    assert!(ended, "{what}: still running: {:?}", processes_of(base));
    let names = |text: &str| text.contains(base.to_str().unwrap());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!names(&mounts), "{what}: still mounted:\n{mounts}");
    // What a killed mkfs had open is free when that has ended.
    let detached = || !loop_files().iter().any(|file| names(file));
    assert!(wait_until(Duration::from_secs(5), Duration::from_millis(10), detached), "{what}: {:?}", loop_files());
    let left: Vec<_> = std::fs::read_dir(base).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{what}: {left:?}");
}

#[test]
fn a_run_that_is_killed_leaves_nothing_after_repair() {
    need_disks!("mkfs.xfs");
    for round in 0..rounds() {
        let base = tempfile::Builder::new().prefix("stunfs-killed-run-").tempdir().unwrap();
        let script = "while dd if=/dev/zero of={}/new bs=1M count=8 conv=fsync; do :; done";
        let args = ["run", "--disk", "xfs", "--disk-size", "1GiB", "--first-write", "200ms", "--", "sh", "-c", script];
        let (mut child, said) = start(base.path(), &args);
        let mut record = Value::Null;
        let is_busy = || {
            record = record_below(base.path()).unwrap_or_default();
            let mount = record["mount"].as_str().filter(|_| record["ready"] == true);
            mount.is_some_and(|mount| Path::new(mount).join("new").exists())
        };
        let busy = wait_until(Duration::from_secs(60), Duration::from_millis(20), is_busy);
        assert!(busy, "round {round}: nothing is written: {record} {:?} {}", child.try_wait(), what_it_said(said));
        pause(Duration::from_millis(300 + 37 * u64::from(round % 7)));
        child.kill().unwrap();
        child.wait().unwrap();
        let id = record["id"].as_str().unwrap();
        let repaired = stunfs(&["disk", "repair", id]);
        assert!(repaired.status.success(), "{}", text(&repaired.stderr));
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(id), "round {round}: still mounted:\n{mounts}");
        assert!(!Path::new("/run/stunfs/disks").join(id).exists(), "round {round}: its places are still there");
        assert_nothing_of(base.path(), &format!("round {round}"));
    }
}

#[test]
fn an_up_that_is_killed_leaves_nothing_after_repair() {
    need_disks!("mkfs.xfs");
    let clock = Clock::start();
    TestDisk::up("--size 1GiB").down();
    let whole = clock.now().since(SimTime::ZERO);
    let rounds = 5 * rounds();
    let mut unfinished = 0;
    for round in 0..rounds {
        let base = tempfile::Builder::new().prefix("stunfs-killed-up-").tempdir().unwrap();
        let at = |name: &str| base.path().join(name).to_str().unwrap().to_owned();
        let (image, mount) = (at("image"), at("mnt"));
        let (mut child, _) = start(base.path(), &["disk", "up", &image, "--size", "1GiB", "--mount", &mount]);
        pause(whole * round / rounds);
        // All of it, as when the terminal is closed by force; but every other time only the one process.
        let pid = Pid::from_child(&child);
        if round % 2 == 0 {
            child.kill().unwrap()
        } else {
            kill_process_group(pid, Signal::KILL).unwrap()
        }
        child.wait().unwrap();
        let what = format!("round {round}, after {:?}", whole * round / rounds);
        if let Some(record) = record_below(base.path()) {
            let is_ready = record["ready"] == true;
            unfinished += u32::from(!is_ready);
            let id = record["id"].as_str().unwrap();
            let cleared = stunfs(&["disk", if is_ready { "down" } else { "repair" }, id]);
            assert!(cleared.status.success(), "{what}: {}", text(&cleared.stderr));
            assert!(!Path::new("/run/stunfs/disks").join(id).exists(), "{what}: its places are still there");
            if is_ready {
                std::fs::remove_dir_all(&image).unwrap();
            }
        }
        // What was made before there was a record: nothing but an empty directory.
        let _ = std::fs::remove_dir(&image);
        assert_nothing_of(base.path(), &what);
    }
    assert!(unfinished > 0, "it was never killed on its way up");
}
