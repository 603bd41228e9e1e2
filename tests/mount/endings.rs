//! However a volume ends, what it holds is answered with success in about a second, and nothing stays behind.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use stunfs::Volume;
use stunfs::internal::model::Latency;
use stunfs::internal::time::{Deadline, wait_until};
use stunfs::internal::units::{Bytes, GrainSize};
use stunfs::internal::volume::{StateFile, Stop};

use crate::common::{SOON, TICK, is_mounted, need_fuse, timed};
use crate::support::{Daemon, Place};

const WRITERS: usize = 1000;
/// About a second; a loaded machine of two cores may need more.
const A_SECOND_OR_SO: Duration = Duration::from_secs(4);
/// Holds that nothing but the end of the injection ends.
const LONG: [&str; 4] = ["--first-write", "5m", "--grain", "4KiB"];

/// 4 KiB that tell writers apart.
fn data(n: usize) -> Vec<u8> {
    n.to_le_bytes().repeat(512)
}

type Writers = Vec<JoinHandle<std::io::Result<()>>>;

fn start_writers(mnt: &Path, count: usize) -> Writers {
    let start = |n: usize| {
        let path = mnt.join(format!("f{n}"));
        let body = move || File::create(path)?.write_all_at(&data(n), 0);
        std::thread::Builder::new().stack_size(128 << 10).spawn(body).unwrap()
    };
    (0..count).map(start).collect()
}

/// A daemon with `count` writers that nothing but the end of the injection ends.
fn held<'a>(place: &'a Place, options: &[&str], count: usize) -> (Daemon<'a>, Writers) {
    let daemon = place.mount(&[&LONG, options].concat());
    let writers = start_writers(&place.mnt(), count);
    daemon.wait_held(count as u64);
    (daemon, writers)
}

/// All of them come back with success.
fn join(writers: Writers) {
    let deadline = Deadline::after(Duration::from_secs(30));
    for (n, writer) in writers.into_iter().enumerate() {
        assert!(wait_until(deadline.left(), TICK, || writer.is_finished()), "writer {n} is still held");
        writer.join().unwrap().unwrap_or_else(|error| panic!("writer {n}: {error}"));
    }
}

fn assert_data(backing: &Path, count: usize) {
    for n in 0..count {
        assert!(fs::read(backing.join(format!("f{n}"))).unwrap() == data(n), "f{n} is not what was written");
    }
}

/// The log is whole: valid by the schema, `started` first, one `held` per hold, `stopped` last with the right count.
fn assert_events(place: &Place, held: usize) {
    let schema: Value = serde_json::from_str(include_str!("../../docs/events.schema.json")).unwrap();
    let schema = jsonschema::draft202012::new(&schema).unwrap();
    let events = place.events();
    for (index, event) in events.iter().enumerate() {
        schema.validate(event).unwrap_or_else(|error| panic!("{event}: {error}"));
        assert_eq!(event["seq"], index + 1);
    }
    assert_eq!(events.first().unwrap()["event"], "started");
    let holds: Vec<_> = events.iter().filter(|event| event["event"] == "held").collect();
    assert_eq!(holds.len(), held);
    assert!(holds.iter().all(|hold| hold["cause"] == "drained" && hold["error"].is_null() && hold["op"] == "write"));
    let last = events.last().unwrap();
    assert_eq!((&last["event"], &last["held"], &last["dropped"]), (&"stopped".into(), &held.into(), &0.into()));
}

/// A thousand held writers, then `end`; how long until all have their answer, and until the daemon is gone.
fn thousand(name: &str, end: impl FnOnce(&Daemon<'_>)) {
    let place = Place::new();
    let (mut daemon, writers) = held(&place, &[], WRITERS);
    let (((), answered), gone) = timed(|| {
        let answered = timed(|| {
            end(&daemon);
            join(writers);
        });
        assert_eq!(daemon.wait(Duration::from_secs(20)), Some(0), "{}", daemon.stderr());
        answered
    });
    println!("measured: {name}: 1000 writers answered after {answered:?}, daemon gone after {gone:?}");
    assert!(answered < A_SECOND_OR_SO && gone < A_SECOND_OR_SO * 2, "{answered:?}, {gone:?}");
    place.assert_clean(SOON);
    assert_data(&place.backing(), WRITERS);
    assert_events(&place, WRITERS);
    assert!(!place.at("control").exists());
}

#[test]
fn sigterm() {
    need_fuse!();
    thousand("SIGTERM", |daemon| daemon.signal(Signal::TERM));
}

#[test]
fn sigint() {
    need_fuse!();
    thousand("SIGINT", |daemon| daemon.signal(Signal::INT));
}

#[test]
fn unmount_from_outside() {
    need_fuse!();
    thousand("umount -l", |daemon| {
        assert!(Command::new("umount").arg("-l").arg(daemon.path("")).status().unwrap().success());
    });
}

#[test]
fn stop_over_the_control_socket() {
    need_fuse!();
    thousand("POST /v1/stop", |daemon| drop(daemon.post("/v1/stop")));
}

/// After the injection has ended the volume is a plain pass-through.
fn assert_pass_through(daemon: &Daemon<'_>) {
    assert!(is_mounted(daemon.path("").components().as_path()));
    let (_, wait) = timed(|| fs::write(daemon.path("later"), data(7)).unwrap());
    assert!(wait < Duration::from_secs(2), "a later write waited {wait:?}");
    assert_eq!(daemon.held(), 0);
}

#[test]
fn ctl_release_leaves_a_pass_through() {
    need_fuse!();
    let place = Place::new();
    let (daemon, writers) = held(&place, &[], WRITERS);
    let ((), wait) = timed(|| {
        assert!(place.ctl(&["release"]).status.success());
        // The command is acknowledged after its effect: every writer has its answer.
        join(writers);
    });
    println!("measured: ctl release: 1000 writers answered after {wait:?}");
    assert!(wait < A_SECOND_OR_SO, "{wait:?}");
    assert_pass_through(&daemon);
    daemon.end();
    assert_data(&place.backing(), WRITERS);
    assert_events(&place, WRITERS);
}

#[test]
fn the_time_limit_leaves_a_pass_through() {
    need_fuse!();
    let place = Place::new();
    let (daemon, writers) = held(&place, &["--ttl", "6s"], WRITERS);
    join(writers);
    assert_pass_through(&daemon);
    daemon.end();
    let holds = place.events().into_iter().filter(|event| event["event"] == "held");
    let last = holds.map(|hold| hold["released_us"].as_u64().unwrap()).max().unwrap();
    let late = Duration::from_micros(last).saturating_sub(Duration::from_secs(6));
    println!("measured: ttl: the last of 1000 writers answered {late:?} after it");
    assert!(last >= 6_000_000 && late < A_SECOND_OR_SO, "{last}");
    assert_data(&place.backing(), WRITERS);
    assert_events(&place, WRITERS);
}

#[test]
fn dropping_a_volume() {
    need_fuse!();
    let backing = tempfile::tempdir().unwrap();
    let volume = Volume::builder()
        .backing(backing.path())
        .first_write(Latency::Constant(Duration::from_secs(300)))
        .grain(GrainSize::new(Bytes::kib(4)).unwrap())
        .mount()
        .unwrap();
    let mnt = volume.path().to_path_buf();
    let writers = start_writers(&mnt, WRITERS);
    assert!(volume.wait_held(WRITERS, Duration::from_secs(30)));
    let ((), wait) = timed(|| drop(volume));
    println!("measured: drop: 1000 writers held, gone after {wait:?}");
    assert!(wait < A_SECOND_OR_SO * 2, "{wait:?}");
    assert!(!is_mounted(&mnt) && !mnt.exists());
    join(writers);
    assert_data(backing.path(), WRITERS);
}

/// A process with the volume in use: `cd` there and a file open, until it is told to go.
fn user_of(mnt: &Path) -> Child {
    let script = "cd \"$1\" && exec 3>busy && echo x >&3 && read line";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(mnt).stdin(Stdio::piped());
    let child = command.spawn().unwrap();
    assert!(wait_until(SOON, TICK, || fs::read(mnt.join("busy")).is_ok_and(|data| data == b"x\n")));
    child
}

/// It is told to go, and goes.
fn leave(mut user: Child) {
    drop(user.stdin.take());
    user.wait().unwrap();
}

/// A daemon that got `signal` while a process used its volume, that process, and how long the volume stayed in the mount table.
fn signalled_in_use(place: &Place, signal: Signal) -> (Daemon<'_>, Child, Duration) {
    let daemon = place.mount(&["--first-write", "1ms"]);
    let mnt = place.mnt();
    let user = user_of(&mnt);
    daemon.signal(signal);
    let ((), detached) = timed(|| assert!(wait_until(SOON, TICK, || !is_mounted(&mnt))));
    (daemon, user, detached)
}

#[test]
fn sigterm_while_a_file_and_a_directory_are_in_use() {
    need_fuse!();
    let place = Place::new();
    let (mut daemon, user, detached) = signalled_in_use(&place, Signal::TERM);
    // No other process sees it any more, but one that uses it may go on for five seconds; then the connection is cut.
    let (code, gone) = timed(|| daemon.wait(Duration::from_secs(15)));
    println!("measured: SIGTERM, in use: out of the mount table after {detached:?}, gone {gone:?} later");
    assert_eq!(code, Some(0), "{}", daemon.stderr());
    assert!(gone > Duration::from_secs(3) && gone < Duration::from_secs(9), "{gone:?}");
    leave(user);
    place.assert_clean(SOON);
}

#[test]
fn a_user_who_leaves_in_time_is_not_cut_off() {
    need_fuse!();
    let place = Place::new();
    let (mut daemon, user, _) = signalled_in_use(&place, Signal::TERM);
    leave(user);
    let (code, gone) = timed(|| daemon.wait(Duration::from_secs(15)));
    assert!(code == Some(0) && gone < Duration::from_secs(3), "{code:?} {gone:?}");
    assert!(!daemon.stderr().contains("cut off"), "{}", daemon.stderr());
}

#[test]
fn a_second_sigint_hurries() {
    need_fuse!();
    let place = Place::new();
    let (mut daemon, user, _) = signalled_in_use(&place, Signal::INT);
    assert_eq!(daemon.wait(Duration::from_millis(300)), None, "the first SIGINT leaves its users some time");
    daemon.signal(Signal::INT);
    let (code, gone) = timed(|| daemon.wait(Duration::from_secs(15)));
    println!("measured: second SIGINT: gone after {gone:?}");
    assert!(code == Some(0) && gone < Duration::from_secs(3), "{code:?} {gone:?}");
    leave(user);
    place.assert_clean(SOON);
}

/// Bound elsewhere, or moved along with the directory above it, a volume stayed behind as a dead mount.
#[test]
fn regression_what_was_bound_or_moved_stayed_mounted() {
    need_fuse!();
    if !rustix::process::getuid().is_root() {
        eprintln!("left out: needs root");
        return;
    }
    let place = Place::new();
    let (bound, above, moved) = (place.at("bound"), place.at("above"), place.at("moved"));
    fs::create_dir(&bound).unwrap();
    fs::create_dir_all(above.join("mnt")).unwrap();
    let mut daemon = place.mount(&["--first-write", "1ms"]);
    assert!(Command::new("mount").arg("--bind").arg(place.mnt()).arg(&bound).status().unwrap().success());
    fs::write(bound.join("file"), b"x").unwrap();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(Duration::from_secs(15)), Some(0), "{}", daemon.stderr());
    assert!(!is_mounted(&bound), "{}", daemon.stderr());
    place.assert_clean(SOON);

    let mut command = crate::support::stunfs();
    command.args(["mount", "--state", "none", "--control", "none", "--"]).arg(place.backing()).arg(above.join("mnt"));
    let mut daemon = Daemon::start(&place, command);
    fs::rename(&above, &moved).unwrap();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(Duration::from_secs(15)), Some(0), "{}", daemon.stderr());
    assert!(!is_mounted(&moved.join("mnt")), "{}", daemon.stderr());
    assert!(fs::read_dir(moved.join("mnt")).unwrap().next().is_none());
}

#[test]
fn a_forced_unmount_drops_what_was_never_acknowledged() {
    need_fuse!();
    let place = Place::new();
    let (mut daemon, writers) = held(&place, &[], 20);
    crate::support::cut_off(&place.mnt());
    for writer in writers {
        assert!(wait_until(SOON, TICK, || writer.is_finished()));
        assert!(writer.join().unwrap().is_err(), "a writer was told of a success that the volume never gave");
    }
    assert_eq!(daemon.wait(Duration::from_secs(10)), Some(0), "{}", daemon.stderr());
    place.assert_clean(SOON);
    for n in 0..20 {
        assert_eq!(fs::metadata(place.backing().join(format!("f{n}"))).unwrap().len(), 0);
    }
}

#[test]
fn ends_of_all_kinds_at_once_are_one_end() {
    need_fuse!();
    let volume = Volume::builder()
        .first_write(Latency::Constant(Duration::from_secs(300)))
        .configure(|options| options.state = StateFile::None)
        .mount()
        .unwrap();
    let writers = start_writers(volume.path(), 8);
    assert!(volume.wait_held(1, SOON));
    let mnt = volume.path().to_path_buf();
    let requests: Vec<_> = (0..16)
        .map(|n| {
            let (stopper, mnt) = (volume.stopper(), mnt.clone());
            std::thread::spawn(move || match n % 4 {
                0 => stopper.request_stop(Stop::Drain),
                1 => stopper.release(),
                2 => drop(rustix::mount::unmount(&mnt, rustix::mount::UnmountFlags::DETACH)),
                _ => drop(fs::metadata(&mnt)),
            })
        })
        .collect();
    requests.into_iter().for_each(|request| request.join().unwrap());
    let (summary, wait) = timed(|| volume.wait().unwrap());
    assert!(wait < Duration::from_secs(9), "{wait:?}");
    assert_eq!(summary.held_now, 0);
    assert!(!is_mounted(&mnt));
    writers.into_iter().for_each(|writer| drop(writer.join().unwrap()));
}
