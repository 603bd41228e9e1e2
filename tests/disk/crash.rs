//! A daemon that is killed, stopped, or whose guard is killed with it, under a busy file system; and the way back.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stunfs::time::pause;

use crate::support::{TestDisk, append_synced, count_records, finished, need_disks, run, text};

/// How often; `STUNFS_CRASH_ROUNDS` says otherwise.
const ROUNDS: u64 = 3;

#[test]
fn what_was_synced_survives_the_death_of_the_daemon() {
    need_disks!("mkfs.xfs", "xfs_repair");
    let rounds = std::env::var("STUNFS_CRASH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    let mut disk = TestDisk::up("--size 1GiB --first-write 5ms");
    for round in 0..rounds {
        crash_and_recover(&mut disk, round);
    }
}

fn crash_and_recover(disk: &mut TestDisk, round: u64) {
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3)
        .map(|n| {
            let (path, stop) = (disk.path(&format!("r{round}-{n}")), Arc::clone(&stop));
            std::thread::spawn(move || append_synced(&path, &stop))
        })
        .collect();
    pause(Duration::from_millis(400 + 37 * (round % 7)));
    disk.kill_daemon();
    stop.store(true, Ordering::Relaxed);
    let acknowledged: Vec<u64> = writers.into_iter().map(|writer| finished(writer, Duration::from_secs(10))).collect();
    let status = disk.disk("status");
    assert!(text(&status.stdout).contains("daemon is dead"), "{}", text(&status.stdout));
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
    let status = disk.disk("status");
    assert!(text(&status.stdout).contains("daemon is stopped"), "{}", text(&status.stdout));
    disk.down();
    stop.store(true, Ordering::Relaxed);
    finished(writer, Duration::from_secs(10));
}
