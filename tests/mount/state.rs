//! What is provisioned survives: a clean unmount to the grain, a crash without understating.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stunfs::Volume;
use stunfs::internal::model::{Latency, Placement};
use stunfs::internal::telemetry::event::EventBody;
use stunfs::internal::time::wait_until;
use stunfs::internal::units::{Bytes, GrainSize};
use stunfs::internal::volume::{ErrorKind, StateFile, VolumeBuilder};

use crate::common::{SOON, TICK, need_fuse};
use crate::support::Place;

const GRAIN: u64 = 64 << 10;

fn builder(place: &Place) -> VolumeBuilder {
    let state = place.at("state.json");
    let spread = Latency::Uniform { low: Duration::from_millis(1), high: Duration::from_millis(30) };
    Volume::builder()
        .backing(place.backing())
        .mountpoint(place.mnt())
        .first_write(spread)
        .grain(GrainSize::new(Bytes(GRAIN)).unwrap())
        .seed(7)
        .configure(|options| options.state = StateFile::At(state))
}

/// Writes one block into each of the given grains of a file.
fn touch(path: &Path, grains: std::ops::Range<u64>) {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).unwrap();
    grains.for_each(|grain| file.write_all_at(&[7; 4096], grain * GRAIN).unwrap());
}

/// Fills `grains` whole grains of a new file.
fn fill(path: &Path, grains: u64) {
    let file = File::create(path).unwrap();
    (0..grains).for_each(|grain| file.write_all_at(&vec![7; usize::try_from(GRAIN).unwrap()], grain * GRAIN).unwrap());
}

/// The latencies drawn for first writes so far, in order: at least `count`.
fn draws(volume: &Volume, count: usize) -> Vec<u64> {
    let mut drawn = Vec::new();
    wait_until(SOON, TICK, || {
        drawn.clear();
        drawn.extend(volume.recent_events().iter().filter_map(|event| match &event.body {
            EventBody::Held { penalty, .. } => Some(penalty.latency_us),
            _ => None,
        }));
        drawn.len() >= count
    });
    drawn
}

fn rebuilt(volume: &Volume) -> Option<(String, u64)> {
    let find = || {
        volume.recent_events().iter().find_map(|event| match &event.body {
            EventBody::Rebuilt { reason, used_bytes } => Some((reason.clone(), *used_bytes)),
            _ => None,
        })
    };
    wait_until(Duration::from_millis(300), TICK, || find().is_some());
    find()
}

fn used(volume: &Volume) -> u64 {
    volume.status().model.pool.used_bytes
}

/// Writes with `first`, then with `second`; between the two, `interrupted`, the volume is unmounted.
fn sequence(placement: Placement, interrupted: bool) -> Vec<u64> {
    let place = Place::new();
    let mount = || builder(&place).placement(placement).mount().unwrap();
    let mut volume = mount();
    fill(&volume.path().join("a"), 4);
    let mut all = draws(&volume, 4);
    if interrupted {
        volume.unmount().unwrap();
        volume = mount();
        assert_eq!(rebuilt(&volume), None);
    }
    let before = if interrupted { 0 } else { all.len() };
    fill(&volume.path().join("b"), 4);
    let later = draws(&volume, before + 4);
    all.extend(&later[before..]);
    volume.unmount().unwrap();
    all
}

#[test]
fn draws_go_on_where_they_ended() {
    need_fuse!();
    for placement in [Placement::Packed, Placement::Direct] {
        let (whole, parts) = (sequence(placement, false), sequence(placement, true));
        assert_eq!(whole.len(), 8, "{placement:?}: {whole:?}");
        assert_eq!(whole, parts, "{placement:?}");
    }
}

#[test]
fn freed_space_is_still_provisioned_after_a_remount() {
    need_fuse!();
    let place = Place::new();
    let volume = builder(&place).mount().unwrap();
    fill(&volume.path().join("a"), 8);
    let before = used(&volume);
    assert_eq!(before, 8 * GRAIN);
    fs::remove_file(volume.path().join("a")).unwrap();
    volume.unmount().unwrap();

    let volume = builder(&place).mount().unwrap();
    assert_eq!(rebuilt(&volume), None);
    assert_eq!(used(&volume), before);
    fill(&volume.path().join("b"), 8);
    assert_eq!(used(&volume), before);
    assert_eq!(volume.unmount().unwrap().held, 0, "freed space costs no penalty");
}

#[test]
fn what_a_direct_volume_provisioned_stays_even_where_the_backing_has_a_hole() {
    need_fuse!();
    let place = Place::new();
    let mount = || builder(&place).placement(Placement::Direct).mount().unwrap();
    let volume = mount();
    touch(&volume.path().join("disk"), 0..4);
    let before = used(&volume);
    assert_eq!(before, 4 * GRAIN);
    assert_eq!(volume.unmount().unwrap().held, 4);
    let volume = mount();
    let file = OpenOptions::new().write(true).open(volume.path().join("disk")).unwrap();
    // Another block of the same grain: no data there, but its grain has space.
    (0..4).for_each(|grain| file.write_all_at(&[1; 4096], grain * GRAIN + 8192).unwrap());
    drop(file);
    assert_eq!(used(&volume), before);
    touch(&volume.path().join("disk"), 4..6);
    assert_eq!(used(&volume), before + 2 * GRAIN);
    assert_eq!(volume.unmount().unwrap().held, 2);
}

#[test]
fn cold_forgets_and_thick_never_waits() {
    need_fuse!();
    let place = Place::new();
    let volume = builder(&place).mount().unwrap();
    fill(&volume.path().join("a"), 2);
    volume.unmount().unwrap();
    let rewrite = |path: PathBuf| {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(&[9; 4096], 0).unwrap();
    };
    let volume = builder(&place).mount().unwrap();
    rewrite(volume.path().join("a"));
    assert_eq!(volume.unmount().unwrap().held, 0);
    let volume = builder(&place).configure(|options| options.model.cold = true).mount().unwrap();
    assert_eq!(used(&volume), 0);
    rewrite(volume.path().join("a"));
    assert_eq!(volume.unmount().unwrap().held, 1);
    let volume = builder(&place).thick().mount().unwrap();
    fill(&volume.path().join("b"), 4);
    assert_eq!(volume.unmount().unwrap().held, 0);
}

/// A cold session counts only what it provisioned itself; the next one must count everything again.
#[test]
fn a_cold_session_does_not_hide_what_the_backing_holds() {
    need_fuse!();
    let place = Place::new();
    fs::write(place.backing().join("old"), vec![1; 1 << 20]).unwrap();
    builder(&place).configure(|options| options.model.cold = true).mount().unwrap().unmount().unwrap();
    let volume = builder(&place).mount().unwrap();
    assert!(wait_until(SOON, TICK, || used(&volume) >= 1 << 20), "{}", used(&volume));
}

/// After a clean end the backing was not looked at again: pool use and `statfs` left out what was put there meanwhile.
#[test]
fn what_is_put_into_the_backing_between_two_mounts_counts() {
    need_fuse!();
    let place = Place::new();
    let sized = || builder(&place).configure(|options| options.model.virtual_size = Some(Bytes::mib(100)));
    let volume = sized().mount().unwrap();
    fill(&volume.path().join("a"), 2);
    volume.unmount().unwrap();
    fs::write(place.backing().join("by-hand"), vec![1; 4 << 20]).unwrap();
    let volume = sized().mount().unwrap();
    let wanted = (4 << 20) + 2 * GRAIN;
    assert!(wait_until(SOON, TICK, || used(&volume) >= wanted), "{}", used(&volume));
    let shown = rustix::fs::statvfs(volume.path()).unwrap();
    let shown = (shown.f_blocks - shown.f_bfree) * shown.f_frsize;
    assert!(shown >= wanted, "statfs shows {shown}");
}

/// A volume that was unmounted before the backing had been counted kept too little.
#[test]
fn an_end_before_the_backing_was_counted_is_no_loss() {
    need_fuse!();
    let place = Place::new();
    for dir in 0..20 {
        let dir = place.backing().join(format!("d{dir}"));
        fs::create_dir(&dir).unwrap();
        (0..50).for_each(|n| fs::write(dir.join(format!("f{n}")), [1; 4096]).unwrap());
    }
    builder(&place).mount().unwrap().unmount().unwrap();
    let volume = builder(&place).mount().unwrap();
    assert!(wait_until(SOON, TICK, || used(&volume) >= 1000 * 4096), "{}", used(&volume));
}

#[test]
fn another_grain_is_rebuilt_from_the_backing_and_says_why() {
    need_fuse!();
    let place = Place::new();
    let volume = builder(&place).mount().unwrap();
    fill(&volume.path().join("a"), 8);
    fs::remove_file(volume.path().join("a")).unwrap();
    volume.unmount().unwrap();
    let volume = builder(&place).grain(GrainSize::MIB).mount().unwrap();
    let (reason, used_bytes) = rebuilt(&volume).unwrap();
    assert!(reason.contains("grain") && used_bytes >= 8 * GRAIN, "{reason}, {used_bytes}");
}

#[test]
fn after_a_kill_freed_space_is_not_taken_for_free() {
    need_fuse!();
    let place = Place::new();
    let options = ["--grain", "64KiB", "--pool", "1GiB"];
    let mut daemon = place.mount(&options);
    fill(&daemon.path("a"), 40);
    fill(&daemon.path("b"), 10);
    fs::remove_file(daemon.path("a")).unwrap();
    let before = daemon.used();
    daemon.kill();
    place.assert_clean(SOON);
    let daemon = place.mount(&options);
    assert!(daemon.used() >= before, "{} was {before}", daemon.used());
    assert!(place.events().iter().any(|event| event["event"] == "rebuilt"));
    daemon.end();
    assert!(fs::read_dir(place.backing()).unwrap().count() == 1, "nothing of ours lies in the backing");
}

#[test]
fn a_mount_that_fails_after_a_crash_leaves_the_crash_on_record() {
    need_fuse!();
    let place = Place::new();
    let mut daemon = place.mount(&["--grain", "64KiB"]);
    fill(&daemon.path("a"), 4);
    daemon.kill();
    place.assert_clean(SOON);
    fs::write(place.at("taken"), b"").unwrap();
    let taken = place.at("taken");
    place.refused(&["--control", taken.to_str().unwrap()]).expect(&place, 69, "not a socket");
    place.mount(&["--grain", "64KiB"]).end();
    assert!(place.events().iter().any(|event| event["event"] == "rebuilt"));
}

#[test]
fn one_backing_has_one_volume_whatever_the_options() {
    need_fuse!();
    let place = Place::new();
    let other = Place::new();
    let first = builder(&place).configure(|options| options.fsname = Some("x".into())).mount().unwrap();
    let second = builder(&place).mountpoint(other.mnt());
    let states = [StateFile::None, StateFile::At(other.at("state")), StateFile::At(place.at("state.json"))];
    // At once: each of them waits for a while, in case the first is ending.
    std::thread::scope(|scope| {
        for state in states {
            let attempt = builder(&place).mountpoint(other.mnt()).configure(|options| options.state = state);
            scope.spawn(|| {
                let error = attempt.mount().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unavailable);
                assert!(error.to_string().contains("another volume of"), "{error}");
            });
        }
    });
    first.unmount().unwrap();
    second.mount().unwrap();
}

/// Removes the state that lies in the default place, which is the machine's.
struct Forget(String);

impl Drop for Forget {
    fn drop(&mut self) {
        for entry in fs::read_dir("/var/lib/stunfs").into_iter().flatten().flatten() {
            if entry.path().file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with(&self.0)) {
                let _gone = fs::remove_file(entry.path());
            }
        }
    }
}

#[test]
fn without_an_option_state_is_kept_by_the_backings_identity() {
    use std::os::unix::fs::MetadataExt;
    need_fuse!();
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: the place depends on the user; needs root");
        return;
    }
    let place = Place::new();
    let identity = fs::metadata(place.backing()).unwrap();
    let _forget = Forget(format!("-{:x}-{:x}", identity.dev(), identity.ino()));
    let mount = || builder(&place).configure(|options| options.state = StateFile::Default).mount().unwrap();
    let volume = mount();
    fill(&volume.path().join("a"), 8);
    fs::remove_file(volume.path().join("a")).unwrap();
    volume.unmount().unwrap();
    let volume = mount();
    assert_eq!((rebuilt(&volume), used(&volume)), (None, 8 * GRAIN), "what was freed is still provisioned");
    volume.unmount().unwrap();
    assert_eq!(fs::read_dir(place.backing()).unwrap().count(), 0, "nothing of ours lies in the backing");
}

#[test]
fn state_never_lies_inside_the_backing() {
    need_fuse!();
    let place = Place::new();
    fs::create_dir(place.backing().join("sub")).unwrap();
    let state = place.backing().join("sub/state");
    place.refused(&["--state", state.to_str().unwrap()]).expect(&place, 2, "inside the backing");
    assert!(fs::read_dir(place.backing().join("sub")).unwrap().next().is_none());
}
