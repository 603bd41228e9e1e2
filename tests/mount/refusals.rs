//! What cannot work is refused in one line, with its exit code, and leaves nothing behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stunfs::internal::time::wait_until;

use crate::common::{SOON, TICK, is_mounted, need_fuse};
use crate::support::{Daemon, Place, Refusal, stunfs};

/// `mount BACKING MNT` without files of its own.
fn attempt(place: &Place, backing: &Path, mnt: &Path) -> Refusal {
    let mut command = stunfs();
    command.args(["mount", "--state", "none", "--control", "none", "--"]).arg(backing).arg(mnt);
    Refusal::of(place, command)
}

#[test]
fn directories_that_are_missing_or_none() {
    need_fuse!();
    let place = Place::new();
    let (backing, mnt, missing, file) = (place.backing(), place.mnt(), place.at("missing"), place.at("file"));
    fs::write(&file, b"").unwrap();
    attempt(&place, &backing, &missing).expect(&place, 2, "does not exist");
    attempt(&place, &backing, &file).expect(&place, 2, "not a directory");
    attempt(&place, &missing, &mnt).expect(&place, 2, "does not exist");
    attempt(&place, &file, &mnt).expect(&place, 2, "not a directory");
    assert!(!missing.exists());
}

#[test]
fn directories_within_each_other() {
    need_fuse!();
    let place = Place::new();
    let backing = place.backing();
    let below = backing.join("below");
    fs::create_dir(&below).unwrap();
    std::os::unix::fs::symlink(&below, place.at("link")).unwrap();
    for (backing, mnt) in [(&backing, &below), (&below, &backing), (&backing, &backing), (&backing, &place.at("link"))]
    {
        attempt(&place, backing, mnt).expect(&place, 2, "");
        assert!(!is_mounted(mnt));
    }
}

#[test]
fn volumes_that_overlap() {
    need_fuse!();
    let (place, other) = (Place::new(), Place::new());
    let below = place.backing().join("below");
    fs::create_dir(&below).unwrap();
    let daemon = place.mount(&[]);
    attempt(&other, &place.backing(), &other.mnt()).expect(&other, 2, "overlaps");
    attempt(&other, &below, &other.mnt()).expect(&other, 2, "overlaps");
    attempt(&other, &place.at(""), &other.mnt()).expect(&other, 2, "overlaps");
    attempt(&other, &other.backing(), &place.mnt()).expect(&other, 2, "is busy");
    // The one that was there is unharmed.
    fs::write(daemon.path("alive"), b"x").unwrap();
    daemon.end();
}

#[test]
fn what_contradicts_itself() {
    need_fuse!();
    let place = Place::new();
    place.refused(&["--thick", "--cold"]).expect(&place, 2, "exclude each other");
    place.refused(&["--thick", "--pool", "1GiB", "--virtual-size", "2GiB"]).expect(&place, 2, "whole virtual size");
    let long = format!("/tmp/{:0120}", 1);
    place.refused(&["--control", &long]).expect(&place, 2, "at most 107 bytes");
}

#[test]
fn files_of_the_volume_on_the_volume() {
    need_fuse!();
    let place = Place::new();
    let (on_volume, in_backing) = (place.mnt().join("file"), place.backing().join("file"));
    for option in ["--events", "--control", "--state"] {
        place.refused(&[option, on_volume.to_str().unwrap()]).expect(&place, 2, "on the volume itself");
    }
    place.refused(&["--control", in_backing.to_str().unwrap()]).expect(&place, 2, "inside the backing");
    assert!(fs::read_dir(place.mnt()).unwrap().next().is_none());
}

#[test]
fn files_that_cannot_be_made() {
    need_fuse!();
    let place = Place::new();
    for option in ["--events", "--state", "--control"] {
        place.refused(&[option, "/proc/no/file"]).expect(&place, 69, "/proc/no");
    }
    fs::create_dir(place.at("dir")).unwrap();
    fs::write(place.at("file"), b"").unwrap();
    let dir = place.at("dir");
    let below_file = place.at("file/state");
    place.refused(&["--events", dir.to_str().unwrap()]).expect(&place, 73, "Is a directory");
    place.refused(&["--state", below_file.to_str().unwrap()]).expect(&place, 73, "Not a directory");
    assert!(!place.at("control").exists(), "a socket was left");
    place.mount(&[]).end();
}

#[test]
fn a_read_only_place_for_events_and_state() {
    need_fuse!();
    let place = Place::new();
    let read_only = place.at("ro");
    fs::create_dir(&read_only).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "ro", "none"]).arg(&read_only).status().unwrap();
    assert!(mounted.success());
    let file = read_only.join("file");
    let refusals = ["--events", "--state"].map(|option| place.refused(&[option, file.to_str().unwrap()]));
    rustix::mount::unmount(&read_only, rustix::mount::UnmountFlags::DETACH).unwrap();
    for refusal in refusals {
        refusal.expect(&place, 73, "Read-only");
    }
}

#[test]
fn a_control_socket_in_use() {
    need_fuse!();
    let (place, other) = (Place::new(), Place::new());
    let daemon = place.mount(&[]);
    let socket = place.at("control");
    other.refused(&["--control", socket.to_str().unwrap()]).expect(&other, 69, "belongs to a running volume");
    assert_eq!(daemon.held(), 0);
    daemon.end();
    other.mount(&[]).end();
}

/// A mount was refused while a process already used it: that process was held for as long as the unmount waited.
#[test]
fn a_late_refusal_holds_no_user_up() {
    need_fuse!();
    let place = Place::new();
    let taken = place.at("taken");
    fs::write(&taken, b"").unwrap();
    let caught = || fs::read_dir(place.backing()).unwrap().next().is_some();
    // The mount is there for a moment only; a thread that writes all the time meets it sooner or later.
    for _ in 0..100 {
        let (mnt, over) = (place.mnt(), Arc::new(AtomicBool::new(false)));
        let stop = Arc::clone(&over);
        let busy = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                drop(fs::write(mnt.join("file"), [1; 4096]));
            }
        });
        let refusal = place.refused(&["--first-write", "5m", "--control", taken.to_str().unwrap()]);
        over.store(true, Ordering::Relaxed);
        assert!(wait_until(SOON, TICK, || busy.is_finished()), "a writer is still held");
        assert_eq!(refusal.code, Some(69), "{}", refusal.text);
        assert!(refusal.text.contains("not a socket"), "{}", refusal.text);
        place.assert_clean(SOON);
        if caught() {
            return;
        }
    }
    panic!("no write met the mount");
}

#[test]
fn a_user_who_may_not_open_the_device() {
    need_fuse!();
    if !rustix::process::getuid().is_root() || fs::metadata("/dev/fuse").unwrap().permissions().mode() & 0o006 != 0 {
        eprintln!("left out: needs root, and a /dev/fuse that is closed to others");
        return;
    }
    let place = Place::new();
    for dir in [place.at(""), place.backing(), place.mnt()] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]).arg(env!("CARGO_BIN_EXE_stunfs"));
    command.args(["mount", "--state", "none", "--control", "none", "--"]).arg(place.backing()).arg(place.mnt());
    Refusal::of(&place, command).expect(&place, 77, "/dev/fuse");
}

#[test]
fn a_dead_mount_of_an_older_crash_is_cleaned_with_a_notice() {
    need_fuse!();
    let place = Place::new();
    let mut daemon = place.mount(&[]);
    // The guard goes first and is not replaced: the daemon stands still.
    daemon.signal(rustix::process::Signal::STOP);
    for guard in place.guards() {
        let guard = rustix::process::Pid::from_raw(guard.cast_signed()).unwrap();
        rustix::process::kill_process(guard, rustix::process::Signal::KILL).unwrap();
    }
    assert!(wait_until(SOON, TICK, || place.guards().is_empty()));
    daemon.kill();
    assert!(is_mounted(&place.mnt()));
    let error = fs::read_dir(place.mnt()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::NOTCONN.raw_os_error()));

    let again = Daemon::start(&place, place.command(&[]));
    assert!(again.stderr().contains("dead") && again.stderr().contains("unmounted"), "{}", again.stderr());
    fs::write(again.path("alive"), b"x").unwrap();
    again.end();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains(place.mnt().to_str().unwrap()));
}
