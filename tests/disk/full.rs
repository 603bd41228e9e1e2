//! A pool that runs full under XFS and ext4: what happens with each policy, and the way back.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use stunfs::time::wait_until;

use crate::support::{TestDisk, finished, need_disks, run, text};

/// More than the pool has.
const MUCH: usize = 160;

/// Writes and syncs; whether that went well.
fn write_much(path: PathBuf) -> std::thread::JoinHandle<bool> {
    std::thread::spawn(move || {
        let write = || {
            let mut file = File::create(&path)?;
            (0..MUCH).try_for_each(|_| file.write_all(&[9; 1 << 20]))?;
            file.sync_all()
        };
        write().is_ok()
    })
}

fn full_pool(kind: &str, policy: &str) -> TestDisk {
    TestDisk::up(&format!("--size 1GiB --fs {kind} --pool 100MiB --on-full {policy}"))
}

/// Taken down and up again with a larger pool, it is usable and whole.
fn comes_back(disk: &mut TestDisk, kind: &str) {
    disk.down();
    disk.again(&format!("--fs {kind} --pool 1GiB"));
    assert!(finished(write_much(disk.path("after")), Duration::from_secs(60)));
    disk.down();
    let mut check = if kind == "xfs" { Command::new("xfs_repair") } else { Command::new("e2fsck") };
    let check = run(check.args(["-f", "-n"]).arg(disk.image()));
    assert!(check.status.success(), "{kind}: {}{}", text(&check.stdout), text(&check.stderr));
}

#[test]
fn refused_space_is_an_error_for_who_syncs() {
    need_disks!("mkfs.xfs", "mkfs.ext4", "xfs_repair", "e2fsck");
    for kind in ["xfs", "ext4"] {
        let mut disk = full_pool(kind, "enospc");
        assert!(!finished(write_much(disk.path("much")), Duration::from_secs(60)), "{kind} took more than there is");
        disk.ctl("grow 1GiB");
        comes_back(&mut disk, kind);
    }
}

#[test]
fn stunned_writers_go_on_once_the_pool_grows() {
    need_disks!("mkfs.xfs", "mkfs.ext4", "xfs_repair", "e2fsck");
    for kind in ["xfs", "ext4"] {
        let mut disk = full_pool(kind, "stun");
        let writer = write_much(disk.path("much"));
        let waits = || disk.ctl("status")["held"]["waiting_for_space"].as_u64().unwrap() > 0;
        assert!(
            wait_until(Duration::from_secs(30), Duration::from_millis(50), waits),
            "{kind}: nobody waits for space"
        );
        disk.ctl("grow 1GiB");
        assert!(finished(writer, Duration::from_secs(60)), "{kind}: the writer got an error");
        comes_back(&mut disk, kind);
    }
}

#[test]
fn queued_writers_fail_when_their_time_is_over() {
    need_disks!("mkfs.xfs", "mkfs.ext4", "xfs_repair", "e2fsck");
    for kind in ["xfs", "ext4"] {
        let mut disk = full_pool(kind, "queue:1s");
        let writer = write_much(disk.path("much"));
        assert!(!finished(writer, Duration::from_secs(90)), "{kind} took more than there is");
        comes_back(&mut disk, kind);
    }
}
