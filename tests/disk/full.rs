//! A pool that runs full under XFS and ext4: what happens with each policy, and the way back.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::io::Errno;
use stunfs::internal::time::{pause, wait_until};

use crate::support::{TestDisk, finished, need_disks, run, text, write_direct};

/// More than the pool has.
const MUCH: usize = 160;
/// Enough for everything.
const LONG: Duration = Duration::from_secs(60);

/// Writes and syncs; whether that went well.
fn write_much(path: PathBuf) -> std::thread::JoinHandle<io::Result<()>> {
    std::thread::spawn(move || {
        let mut file = File::create(&path)?;
        (0..MUCH).try_for_each(|_| file.write_all(&[9; 1 << 20]))?;
        file.sync_all()
    })
}

fn full_pool(kind: &str, policy: &str) -> TestDisk {
    TestDisk::up(&format!("--size 1GiB --fs {kind} --pool 100MiB --on-full {policy}"))
}

/// The errno with which something failed that must not go well.
fn errno<T>(outcome: io::Result<T>) -> Errno {
    let error = outcome.err().expect("an error");
    Errno::from_io_error(&error).unwrap_or_else(|| panic!("{error}"))
}

/// Takes grains, past the page cache, until it is told that there are no more; how many bytes it got.
fn fill(path: &Path) -> u64 {
    let direct = rustix::fs::OFlags::DIRECT.bits().cast_signed();
    let file = OpenOptions::new().create(true).truncate(false).write(true).custom_flags(direct).open(path).unwrap();
    let buffer = vec![7_u8; (64 << 10) + 4096];
    let start = buffer.as_ptr().align_offset(4096);
    for at in (0..).step_by(64 << 10) {
        if let Err(error) = file.write_all_at(&buffer[start..start + (64 << 10)], at) {
            assert_eq!(errno::<()>(Err(error)), Errno::NOSPC);
            return at;
        }
    }
    0
}

/// Makes empty files, each synced, until one cannot be made: that is the log's doing, since they need nothing else.
fn make_until_refused(dir: &Path) -> std::thread::JoinHandle<(u32, Errno)> {
    let dir = dir.to_owned();
    std::thread::spawn(move || {
        let made = (0..).map(|n| File::create(dir.join(format!("f{n}"))).and_then(|file| file.sync_all()));
        let (n, error) = (0..).zip(made).find_map(|(n, made)| Some((n, made.err()?))).unwrap();
        (n, errno::<()>(Err(error)))
    })
}

/// The file system is whole.
fn assert_whole(disk: &TestDisk, kind: &str) {
    let mut check = if kind == "xfs" { Command::new("xfs_repair") } else { Command::new("e2fsck") };
    let check = run(check.args(["-f", "-n"]).arg(disk.image()));
    assert!(check.status.success(), "{kind}: {}{}", text(&check.stdout), text(&check.stderr));
}

/// Taken down and up again with a larger pool, it is usable and whole.
fn comes_back(disk: &mut TestDisk, kind: &str) {
    disk.down();
    disk.again(&format!("--fs {kind} --pool 1GiB"));
    finished(write_much(disk.path("after")), LONG).unwrap();
    disk.down();
    assert_whole(disk, kind);
}

#[test]
fn refused_space_is_an_error_for_who_syncs() {
    need_disks!("mkfs.xfs", "mkfs.ext4", "xfs_repair", "e2fsck");
    for kind in ["xfs", "ext4"] {
        let mut disk = full_pool(kind, "enospc");
        assert!(finished(write_much(disk.path("much")), LONG).is_err(), "{kind} took more than there is");
        disk.ctl("grow 1GiB");
        comes_back(&mut disk, kind);
    }
}

#[test]
fn refused_data_is_lost_and_the_file_system_goes_on() {
    need_disks!("mkfs.xfs", "mkfs.ext4", "xfs_repair", "e2fsck");
    for kind in ["xfs", "ext4"] {
        let disk = full_pool(kind, "enospc");
        let got = fill(&disk.path("fill"));
        assert!(got > 16 << 20, "{kind}: {got}");
        // Old data is read and rewritten as if nothing were.
        write_direct(&disk.path("fill"), 0, 1 << 20);
        let mut start = [0; 4096];
        File::open(disk.path("fill")).unwrap().read_exact(&mut start).unwrap();
        assert_eq!(start, [7; 4096], "{kind}");
        // Nothing is mounted again.
        disk.ctl("grow 1GiB");
        write_direct(&disk.path("fill"), got, 32 << 20);
        disk.down();
        assert_whole(&disk, kind);
    }
}

#[test]
fn stunned_writers_go_on_once_the_pool_grows() {
    need_disks!("mkfs.xfs", "mkfs.ext4", "xfs_repair", "e2fsck");
    for kind in ["xfs", "ext4"] {
        let mut disk = full_pool(kind, "stun");
        let writer = write_much(disk.path("much"));
        let waits = || disk.ctl("status")["held"]["waiting_for_space"].as_u64().unwrap() > 0;
        assert!(wait_until(LONG, Duration::from_millis(50), waits), "{kind}: no write waits for space");
        disk.ctl("grow 1GiB");
        finished(writer, LONG).unwrap();
        comes_back(&mut disk, kind);
    }
}

#[test]
fn queued_writers_fail_when_their_time_is_over() {
    need_disks!("mkfs.xfs", "mkfs.ext4", "xfs_repair", "e2fsck");
    for kind in ["xfs", "ext4"] {
        let mut disk = full_pool(kind, "queue:1s");
        let writer = write_much(disk.path("much"));
        assert!(finished(writer, Duration::from_secs(90)).is_err(), "{kind} took more than there is");
        comes_back(&mut disk, kind);
    }
}

/// XFS shuts down; ext4 makes itself read-only. Both stay so when the pool grows, until they are mounted again.
fn a_log_that_gets_no_space(policy: &str) {
    need_disks!("mkfs.xfs", "mkfs.ext4", "xfs_repair", "e2fsck");
    for kind in ["xfs", "ext4"] {
        let disk = full_pool(kind, "enospc");
        // All grains are taken, whatever the policy is that follows.
        fill(&disk.path("fill"));
        let mut disk = disk;
        if policy != "enospc" {
            disk.down();
            disk.again(&format!("--fs {kind} --pool 100MiB --on-full {policy}"));
        }
        let (made, refused) = finished(make_until_refused(&disk.path("")), LONG);
        assert_eq!(refused, Errno::IO, "{kind}, {policy}: after {made} files");
        disk.ctl("grow 1GiB");
        pause(Duration::from_millis(1500));
        let again = errno(File::create(disk.path("again")));
        let read = File::open(disk.path("fill")).and_then(|file| file.read_exact_at(&mut [0; 4096], 0));
        match kind {
            "xfs" => assert_eq!((again, errno(read)), (Errno::IO, Errno::IO)),
            _ => assert_eq!((again, read.is_ok()), (Errno::ROFS, true)),
        }
        // The way back: the log is replayed by the mount, and every synced file is there.
        assert!(run(Command::new("umount").arg(disk.path(""))).status.success());
        let mounted = run(Command::new("mount").arg(disk.device()).arg(disk.path("")));
        assert!(mounted.status.success(), "{}", text(&mounted.stderr));
        assert!((0..made).all(|n| disk.path(&format!("f{n}")).exists()), "{kind}: a file that was synced is lost");
        finished(write_much(disk.path("after")), LONG).unwrap();
        assert!(disk.disk("status").status.success());
        disk.down();
        // ext4 remembers that it had an error until it has been checked.
        if kind == "ext4" {
            let mended = run(Command::new("e2fsck").args(["-f", "-p"]).arg(disk.image()));
            assert!(mended.status.code().is_some_and(|code| code <= 1), "{}", text(&mended.stdout));
        }
        assert_whole(&disk, kind);
    }
}

#[test]
fn a_log_that_is_refused_space_ends_the_file_system_until_it_is_mounted_again() {
    a_log_that_gets_no_space("enospc");
}

#[test]
fn a_log_whose_wait_for_space_ends_does_so_too() {
    a_log_that_gets_no_space("queue:1s");
}

#[test]
fn a_log_that_waits_for_space_goes_on_once_the_pool_grows() {
    need_disks!("mkfs.xfs", "mkfs.ext4", "xfs_repair", "e2fsck");
    for kind in ["xfs", "ext4"] {
        let mut disk = full_pool(kind, "enospc");
        fill(&disk.path("fill"));
        disk.down();
        disk.again(&format!("--fs {kind} --pool 100MiB --on-full stun"));
        let path = disk.path("");
        let maker = std::thread::spawn(move || {
            (0..2000).try_for_each(|n| File::create(path.join(format!("f{n}"))).and_then(|file| file.sync_all()))
        });
        let waits = || disk.ctl("status")["held"]["waiting_for_space"].as_u64().unwrap() > 0;
        assert!(wait_until(LONG, Duration::from_millis(50), waits), "{kind}: the log needs no space");
        assert!(!maker.is_finished());
        disk.ctl("grow 1GiB");
        finished(maker, LONG).unwrap();
        disk.down();
        assert_whole(&disk, kind);
    }
}

/// Byte range of the log on an XFS device.
fn log_of(device: &Path) -> (u64, u64) {
    let mut block = [0; 512];
    File::open(device).unwrap().read_exact(&mut block).unwrap();
    let number =
        |at: usize, len: usize| block[at..at + len].iter().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
    // As in the kernel's xfs_dsb: sb_blocksize, sb_logstart, sb_agblocks, sb_logblocks, sb_agblklog.
    let (size, start, group_blocks, blocks, bits) =
        (number(4, 4), number(48, 8), number(84, 4), number(96, 4), number(124, 1));
    let (group, block) = (start >> bits, start & ((1 << bits) - 1));
    ((group * group_blocks + block) * size, blocks * size)
}

/// Metadata that is written back is tried again and again: XFS's answer to ENOSPC, as long as its log has space.
#[test]
fn xfs_retries_its_metadata_until_the_pool_grows() {
    need_disks!("mkfs.xfs", "xfs_repair", "fsfreeze");
    let mut disk = TestDisk::up("--size 1GiB --fs xfs");
    disk.down();
    disk.again("--fs none");
    let (start, len) = log_of(&disk.device());
    for at in (start..start + len).step_by(1 << 20) {
        // The log is rewritten with its own content: all of it is provisioned then.
        let device = OpenOptions::new().read(true).write(true).open(disk.device()).unwrap();
        let mut data = vec![0; usize::try_from((start + len - at).min(1 << 20)).unwrap()];
        device.read_exact_at(&mut data, at).unwrap();
        device.write_all_at(&data, at).unwrap();
    }
    disk.down();
    disk.again("--fs xfs --pool 110MiB --on-full enospc");
    assert!(disk.used() > len, "{} of {len}", disk.used());
    fill(&disk.path("fill"));
    // 10 MiB of inodes, in the log only as yet.
    fs::create_dir(disk.path("dir")).unwrap();
    (0..20_000).for_each(|n| _ = File::create(disk.path(&format!("dir/{n}"))).unwrap());
    let mount = disk.path("");
    let freezer = std::thread::spawn(move || run(Command::new("fsfreeze").arg("-f").arg(mount)));
    // The same writes come again after they were all refused once.
    let refusals = || disk.ctl("status")["counters"]["refused"].as_u64().unwrap();
    pause(Duration::from_secs(2));
    let first = refusals();
    assert!(wait_until(LONG, Duration::from_millis(100), || refusals() > first), "nothing is tried again");
    assert!(!freezer.is_finished(), "the metadata is written: {:?}", freezer.join());
    // It is not shut down.
    File::open(disk.path("fill")).and_then(|file| file.read_exact_at(&mut [0; 4096], 0)).unwrap();
    disk.ctl("grow 1GiB");
    let frozen = finished(freezer, LONG);
    assert!(frozen.status.success(), "{}", text(&frozen.stderr));
    assert!(run(Command::new("fsfreeze").arg("-u").arg(disk.path(""))).status.success());
    File::create(disk.path("after")).and_then(|file| file.sync_all()).unwrap();
    disk.down();
    assert_whole(&disk, "xfs");
}
