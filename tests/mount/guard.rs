//! The guard is replaced when it is killed, and a panic ends a volume as a signal does.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use stunfs::Volume;
use stunfs::internal::model::Latency;
use stunfs::internal::time::wait_until;
use stunfs::internal::volume::Panics;

use crate::common::{SOON, TICK, is_mounted, need_fuse, timed};
use crate::support::{Place, this_test, told};

#[test]
fn a_guard_that_is_killed_is_replaced_and_the_next_one_cleans_up() {
    need_fuse!();
    let place = Place::new();
    let mut daemon = place.mount(&["--first-write", "5m"]);
    let first = place.guards();
    assert_eq!(first.len(), 1);
    kill_process(Pid::from_raw(first[0].cast_signed()).unwrap(), Signal::KILL).unwrap();
    let replaced = || matches!(place.guards()[..], [guard] if guard != first[0]);
    let (found, wait) = timed(|| wait_until(SOON, TICK, replaced));
    assert!(found, "no other guard was posted");
    println!("measured: another guard on duty after {wait:?}");
    let warned = || place.events().iter().any(|event| event["event"] == "warning");
    assert!(wait_until(SOON, TICK, warned));

    let path = daemon.path("held");
    let writer = std::thread::spawn(move || fs::write(path, [1; 4096]));
    daemon.wait_held(1);
    daemon.kill();
    let ((), wait) = timed(|| place.assert_clean(Duration::from_secs(2)));
    println!("measured: unmounted {wait:?} after SIGKILL");
    assert!(writer.join().unwrap().is_err());
    place.mount(&[]).end();
}

#[test]
fn the_guard_does_not_touch_a_later_mount_at_the_same_place() {
    need_fuse!();
    let place = Place::new();
    let mut first = place.mount(&[]);
    // Taken out of the table by hand while in use, so that the daemon is still there when the next one mounts.
    let busy = fs::File::create(first.path("busy")).unwrap();
    rustix::mount::unmount(place.mnt(), rustix::mount::UnmountFlags::DETACH).unwrap();
    first.signal(Signal::STOP);
    let other = Place::new();
    let second = crate::support::Daemon::start(&other, {
        let mut command = crate::support::stunfs();
        command.args(["mount", "--state", "none", "--control"]).arg(other.at("control"));
        command.arg(other.backing()).arg(place.mnt());
        command
    });
    first.kill();
    drop(busy);
    fs::write(place.mnt().join("alive"), b"x").unwrap();
    assert!(is_mounted(&place.mnt()) && other.backing().join("alive").exists());
    second.end();
}

#[test]
fn a_panic_ends_the_volume_and_answers_who_is_held() {
    need_fuse!();
    let place = Place::new();
    let mut child = this_test("guard::panicking_child", &place.at(""))
        .stdout(Stdio::null())
        .stderr(fs::File::create(place.at("stderr")).unwrap())
        .spawn()
        .unwrap();
    let mnt = place.mnt();
    assert!(wait_until(Duration::from_secs(20), TICK, || is_mounted(&mnt)));
    let writers: Vec<_> = (0..50)
        .map(|n| {
            let path = mnt.join(format!("f{n}"));
            std::thread::spawn(move || fs::write(path, [7; 4096]))
        })
        .collect();
    assert!(wait_until(SOON, TICK, || (0..50).all(|n| place.backing().join(format!("f{n}")).exists())));
    fs::write(place.at("panic"), b"now").unwrap();
    for writer in writers {
        assert!(wait_until(SOON, TICK, || writer.is_finished()), "a writer is still held");
        writer.join().unwrap().unwrap();
    }
    let ended = wait_until(Duration::from_secs(10), TICK, || child.try_wait().unwrap().is_some());
    if !ended {
        let _gone = child.kill();
    }
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}: {}", fs::read_to_string(place.at("stderr")).unwrap());
    place.assert_clean(SOON);
    let last = place.events().pop().unwrap();
    assert!(last["event"] == "stopped" && last["reason"].as_str().unwrap().contains("panicked"), "{last}");
    assert!((0..50).all(|n| fs::read(place.backing().join(format!("f{n}"))).unwrap() == [7; 4096]));
}

#[test]
#[ignore = "the child of a_panic_ends_the_volume_and_answers_who_is_held"]
fn panicking_child() {
    let Some(dir) = told() else { return };
    let volume = Volume::builder()
        .backing(dir.join("backing"))
        .mountpoint(dir.join("mnt"))
        .first_write(Latency::Constant(Duration::from_secs(300)))
        .configure(|options| options.events = Some(dir.join("events")))
        .mount()
        .unwrap();
    let panics = Panics::end(volume.stopper());
    let wanted = move || Path::new(&dir).join("panic").exists();
    std::thread::spawn(move || {
        assert!(!wait_until(Duration::from_secs(30), TICK, wanted), "a bug, for the test's sake");
    });
    volume.wait().unwrap();
    assert!(panics.seen());
}
