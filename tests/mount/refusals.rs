//! What cannot work is refused in one line, with its exit code, and leaves nothing behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use stunfs::time::wait_until;

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
    let busy = attempt(&other, &other.backing(), &place.mnt());
    assert!(busy.text.lines().count() == 1, "{}", busy.text);
    // The one that was there is unharmed.
    fs::write(daemon.path("alive"), b"x").unwrap();
    daemon.end();
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
    for (option, path) in [("--events", "/proc/no/events"), ("--state", "/proc/no/state"), ("--control", "/proc/no/c")]
    {
        let refusal = place.refused(&[option, path]);
        assert!([69, 73, 74, 77].contains(&refusal.code.unwrap()), "{:?}: {}", refusal.code, refusal.text);
        refusal.expect(&place, refusal.code.unwrap(), "/proc/no");
    }
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

/// Refused while somebody was already using the new mount: he was held for as long as the unmount waited.
#[test]
fn a_late_refusal_holds_nobody_up() {
    need_fuse!();
    let place = Place::new();
    let mnt = place.mnt();
    let busy = std::thread::spawn(move || {
        wait_until(SOON, Duration::from_micros(50), || is_mounted(&mnt));
        drop(fs::write(mnt.join("file"), [1; 4096]));
    });
    let taken = place.at("taken");
    fs::write(&taken, b"").unwrap();
    let refusal = place.refused(&["--first-write", "5m", "--control", taken.to_str().unwrap()]);
    refusal.expect(&place, 69, "not a socket");
    assert!(wait_until(SOON, TICK, || busy.is_finished()));
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
