//! What a volume tells of its pool and its filter, and what lies in unusual places.

use std::fs;
use std::time::Duration;

use stunfs::internal::time::wait_until;

use crate::common::{SOON, TICK, need_fuse};
use crate::support::{Daemon, Place};

fn low_waters(place: &Place) -> usize {
    place.events().iter().filter(|event| event["event"] == "low-water").count()
}

#[test]
fn regression_low_water_was_told_only_of_writes() {
    need_fuse!();
    let place = Place::new();
    let told = |n: usize| {
        assert!(wait_until(SOON, TICK, || low_waters(&place) >= n), "{} low-water events, not {n}", low_waters(&place));
        assert_eq!(low_waters(&place), n);
    };
    let options = ["--pool=10MiB", "--low-water=10%", "--grain=1MiB", "--first-write=100us"];
    let daemon = place.mount(&options);
    fs::write(daemon.path("f"), vec![1; 5 << 20]).unwrap();
    let set = |setting: &str| {
        let output = place.ctl(&["set", setting]);
        assert!(output.status.success(), "{setting}: {}", String::from_utf8_lossy(&output.stderr));
    };
    set("low-water=60%");
    told(1);
    set("low-water=10%");
    set("pool=5MiB");
    told(2);
    let grown = place.ctl(&["grow", "10MiB"]);
    assert!(grown.status.success());
    told(2);
    daemon.end();

    // The data in the backing makes the pool low at mount.
    fs::write(place.backing().join("g"), vec![2; 4 << 20]).unwrap();
    let daemon = place.mount(&["--pool=10MiB", "--low-water=20%", "--grain=1MiB", "--first-write=100us"]);
    told(1);
    daemon.end();
}

#[test]
fn regression_a_temporary_directory_on_the_volume_hung_it() {
    need_fuse!();
    let place = Place::new();
    let mut command = place.command(&["--first-write=50ms", "--lanes=64", "--held-memory=64KiB"]);
    command.env("TMPDIR", place.mnt());
    let daemon = Daemon::start(&place, command);
    let write = |n: u8| {
        let path = daemon.path(&n.to_string());
        std::thread::spawn(move || fs::write(path, vec![n; 1 << 20]))
    };
    let writers: Vec<_> = (0..8).map(write).collect();
    assert!(wait_until(Duration::from_secs(20), TICK, || writers.iter().all(std::thread::JoinHandle::is_finished)));
    writers.into_iter().for_each(|writer| writer.join().unwrap().unwrap());
    daemon.end();
    for n in 0..8 {
        assert_eq!(fs::read(place.backing().join(n.to_string())).unwrap(), vec![n; 1 << 20]);
    }
}

#[test]
fn regression_a_long_backing_path_was_not_mounted() {
    need_fuse!();
    let place = Place::new();
    let deep = ["a".repeat(120), "b".repeat(120), "\u{e4}".repeat(60)].iter().collect::<std::path::PathBuf>();
    let deep = place.backing().join(deep);
    fs::create_dir_all(&deep).unwrap();
    let mut command = crate::support::stunfs();
    command
        .args(["mount", "--state=none", "--disarmed", "--control"])
        .arg(place.at("control"))
        .arg(&deep)
        .arg(place.mnt());
    let daemon = Daemon::start(&place, command);
    fs::write(daemon.path("f"), b"x").unwrap();
    assert!(deep.join("f").exists());
    daemon.end();
}

#[test]
fn a_filter_that_matches_nothing_is_told() {
    need_fuse!();
    let place = Place::new();
    let daemon = place.mount(&["--first-write=1ms", "--only=path=other/**"]);
    fs::write(daemon.path("f"), b"x").unwrap();
    let status = String::from_utf8(place.ctl(&["status"]).stdout).unwrap();
    assert!(status.contains("--only has matched none"), "{status}");
    fs::create_dir(daemon.path("other")).unwrap();
    fs::write(daemon.path("other/f"), b"x").unwrap();
    let status = String::from_utf8(place.ctl(&["status"]).stdout).unwrap();
    assert!(!status.contains("--only has matched none"), "{status}");
    daemon.end();
}
