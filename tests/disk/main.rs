//! Disks on a real kernel: up, down, first writes, discards, and how they end. Needs root, loop devices and mkfs.
//!
//! What cannot be tested here is said and left out; `STUNFS_REQUIRE_DISK=1` makes that a failure.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod crash;
mod full;
mod support;
mod wrong;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use stunfs::Volume;
use stunfs::internal::disk::FsKind;
use stunfs::internal::time::{Clock, SimTime};
use stunfs::internal::units::Bytes;
use support::{TestDisk, fine, finished, need_disks, run, stunfs, text, write_direct};

/// What a first write waits in most tests.
const WAIT: Duration = Duration::from_millis(300);

#[test]
fn up_and_down_leave_the_image_and_nothing_else() {
    need_disks!("mkfs.xfs", "mkfs.ext4");
    for kind in ["xfs", "ext4"] {
        let mut disk = TestDisk::up(&format!("--size 1GiB --fs {kind}"));
        fs::write(disk.path("file"), "kept").unwrap();
        disk.down();
        disk.again(&format!("--fs {kind}"));
        assert_eq!(fs::read_to_string(disk.path("file")).unwrap(), "kept");
        disk.down();
    }
    let disk = TestDisk::up("--size 64MiB --fs none --sector 4096");
    write_direct(&disk.device(), 0, 4096);
    disk.down();
    assert_eq!(fs::read(disk.image()).unwrap()[..4096], [7; 4096]);
}

#[test]
fn up_twice_is_one_disk() {
    need_disks!("mkfs.xfs");
    let mut disk = TestDisk::up("--size 1GiB");
    let first = disk.record.clone();
    disk.again("");
    assert_eq!(disk.record, first);
    assert!(fine(&["disk", "list"]).contains(first["id"].as_str().unwrap()));
    assert!(disk.disk("status").status.success());
    disk.down();
}

#[test]
fn first_writes_wait_and_rewrites_do_not() {
    need_disks!("mkfs.xfs");
    let disk = TestDisk::up("--size 2GiB --first-write 300ms --zeroing 1GiB/s");
    let (first, again) = (write_direct(&disk.path("a"), 0, 4 << 20), write_direct(&disk.path("a"), 0, 4 << 20));
    // Four or five grains, one after the other: there is one lane.
    assert!(first >= WAIT * 4 && first < WAIT * 8, "{first:?}");
    assert!(again < WAIT, "{again:?}");
}

#[test]
fn thirty_two_lanes_serve_thirty_two_writers_at_once() {
    need_disks!();
    let disk = TestDisk::up("--size 1GiB --fs none --first-write 1s --lanes 32");
    let device = disk.device();
    let clock = Clock::start();
    let write = |n: u64| {
        let device = device.clone();
        std::thread::spawn(move || write_direct(&device, n << 21, 4096))
    };
    let writers: Vec<_> = (0..32).map(write).collect();
    writers.into_iter().for_each(|writer| _ = finished(writer, Duration::from_secs(60)));
    let took = clock.now().since(SimTime::ZERO);
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(8), "{took:?}");
    assert_eq!(disk.held(), 32);
}

#[test]
fn trimmed_space_goes_back_and_is_paid_for_again() {
    need_disks!("mkfs.xfs", "fstrim");
    let disk = TestDisk::up("--size 2GiB");
    let before = disk.used();
    write_direct(&disk.path("a"), 0, 16 << 20);
    assert!(disk.used() >= before + (16 << 20));
    fs::remove_file(disk.path("a")).unwrap();
    rustix::fs::sync();
    assert!(run(Command::new("fstrim").arg(disk.path(""))).status.success());
    // Grains that the file shared with others stay.
    assert!(disk.used() <= before + (3 << 20), "{} of {before}", disk.used());
    let real = fs::metadata(disk.image()).unwrap();
    assert!(std::os::unix::fs::MetadataExt::blocks(&real) * 512 < before + (8 << 20));
    disk.ctl("set first-write=300ms");
    assert!(write_direct(&disk.path("b"), 0, 4 << 20) >= WAIT * 3);
}

#[test]
fn making_a_file_system_provisions_next_to_nothing() {
    need_disks!("mkfs.xfs");
    // mkfs.xfs zeroes its log of 64 MiB with ZERO_RANGE, after a discard of all; neither is a write.
    let disk = TestDisk::up("--size 8GiB --first-write 10s");
    assert!(disk.used() < 16 << 20, "{} bytes", disk.used());
    assert_eq!(disk.held(), 0, "injection began before the disk was usable");
}

#[test]
fn half_a_terabyte_takes_seconds_and_megabytes() {
    need_disks!("mkfs.xfs");
    let clock = Clock::start();
    let disk = TestDisk::up("--size 500GiB");
    let took = clock.now().since(SimTime::ZERO);
    let real = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(disk.image()).unwrap()) * 512;
    eprintln!("500 GiB: up in {took:?}, {real} bytes");
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(real < 100_000_000, "{real} bytes");
}

#[test]
fn down_in_the_middle_of_a_stall_frees_the_writers() {
    need_disks!("mkfs.xfs");
    let disk = TestDisk::up("--size 2GiB --first-write 100s --max-hold 200s");
    let write = |n: usize| {
        let path = disk.path(&format!("w{n}"));
        std::thread::spawn(move || write_direct(&path, 0, 2 << 20))
    };
    let writers: Vec<_> = (0..4).map(write).collect();
    disk.wait_held();
    let clock = Clock::start();
    disk.down();
    let took = clock.now().since(SimTime::ZERO);
    assert!(took < Duration::from_secs(5), "{took:?}");
    writers.into_iter().for_each(|writer| _ = finished(writer, Duration::from_secs(5)));
}

#[test]
fn who_goes_on_writing_is_cut_off() {
    need_disks!("mkfs.ext4");
    let disk = TestDisk::up("--size 1GiB --fs ext4");
    let path = disk.path("held");
    let writer = std::thread::spawn(move || support::append_synced(&path, &false.into()));
    let started = || fs::metadata(disk.path("held")).is_ok_and(|found| found.len() > 0);
    assert!(stunfs::internal::time::wait_until(Duration::from_secs(10), Duration::from_millis(10), started));
    let clock = Clock::start();
    let output = disk.disk("down");
    assert!(clock.now().since(SimTime::ZERO) < Duration::from_secs(15));
    assert!(text(&output.stderr).contains("still in use by"), "{}", text(&output.stderr));
    assert!(finished(writer, Duration::from_secs(5)) > 0);
    disk.assert_nothing_left();
}

#[test]
fn eight_at_once_are_not_mixed_up() {
    need_disks!("mkfs.xfs");
    let bring_up = |n: usize| {
        std::thread::spawn(move || {
            let disk = TestDisk::up("--size 400MiB");
            fs::write(disk.path("mine"), n.to_string()).unwrap();
            disk
        })
    };
    let disks: Vec<_> = (0..8).map(bring_up).collect();
    let disks: Vec<_> = disks.into_iter().map(|disk| finished(disk, Duration::from_secs(120))).collect();
    for (n, disk) in disks.iter().enumerate() {
        assert_eq!(fs::read_to_string(disk.path("mine")).unwrap(), n.to_string());
    }
    let downs: Vec<_> = disks.into_iter().map(|disk| std::thread::spawn(move || disk.down())).collect();
    downs.into_iter().for_each(|down| finished(down, Duration::from_secs(120)));
}

/// mkfs.xfs asks every mount of the machine for its attributes; so a stun of one volume held up every other disk.
#[test]
fn a_volume_that_is_stunned_elsewhere_holds_no_disk_up() {
    need_disks!("mkfs.xfs", "mkfs.ext4");
    let stunned = Volume::builder().mount().unwrap();
    let _until = stunned.stun(None);
    for kind in ["xfs", "ext4"] {
        let clock = Clock::start();
        let disk = TestDisk::up(&format!("--size 1GiB --fs {kind}"));
        disk.down();
        assert!(clock.now().since(SimTime::ZERO) < Duration::from_secs(30), "{kind}");
        // Nothing was unmounted for anybody else.
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(mounts.contains(stunned.path().to_str().unwrap()));
    }
    stunned.release();
    stunned.unmount().unwrap();
}

#[test]
fn a_disk_inside_a_test() {
    need_disks!("mkfs.xfs");
    let builder = Volume::builder().first_write("300ms".parse().unwrap());
    let disk = builder.disk(FsKind::Xfs, Bytes::gib(1)).up().unwrap();
    assert_eq!(disk.volume().status().model.provisioned > 0, disk.volume().status().model.armed);
    let (path, device) = (disk.path().to_owned(), disk.device());
    assert!(write_direct(&path.join("a"), 0, 2 << 20) >= WAIT);
    let summary = disk.down().unwrap();
    assert!(summary.held > 0);
    assert!(!path.exists() && !support::loop_files().iter().any(|file| file.contains(path.to_str().unwrap())));
    assert!(device.exists());
}

#[test]
fn a_command_runs_on_a_disk() {
    need_disks!("mkfs.xfs");
    let script = "stat -f -c %T {} && dd if=/dev/zero of={}/f bs=1M count=2 oflag=direct 2>/dev/null && exit 7";
    let output =
        stunfs(&["run", "--disk", "xfs", "--disk-size", "1GiB", "--first-write", "50ms", "--", "sh", "-c", script]);
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "xfs\n");
    assert!(text(&output.stderr).contains("held"), "{}", text(&output.stderr));
    let device = stunfs(&["run", "--disk", "none", "--disk-size", "16MiB", "--", "test", "-b", "{}"]);
    assert_eq!(device.status.code(), Some(0), "{}", text(&device.stderr));
}

#[test]
fn a_device_that_has_something_else_by_now_is_left_alone() {
    need_disks!("losetup");
    let disk = TestDisk::up("--size 16MiB --fs none");
    let (device, other) = (disk.device(), disk.base.path().join("other"));
    let losetup = |args: &[&Path]| assert!(run(Command::new("losetup").args(args)).status.success());
    losetup(&[Path::new("-d"), &device]);
    fs::write(&other, [0; 65536]).unwrap();
    losetup(&[&device, &other]);
    assert!(text(&disk.disk("status").stdout).contains("its loop device is detached"));
    let output = disk.disk("down");
    assert!(text(&output.stderr).contains("left alone"), "{}", text(&output.stderr));
    assert!(
        support::loop_files().iter().any(|file| Path::new(file.trim_end()) == other),
        "{:?}",
        support::loop_files()
    );
    losetup(&[Path::new("-d"), &device]);
}
