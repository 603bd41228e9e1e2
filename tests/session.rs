//! Mounts, and how they end: by request, from outside, with open files, by SIGKILL.
//!
//! Needs /dev/fuse; left out (with a word why) without it, unless `STUNFS_REQUIRE_FUSE` is set.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use common::{Mounted, SOON, TICK, can_mount, is_mounted, is_running, mount, state_of};
use rustix::process::{Pid, Signal, kill_process};
use stunfs::internal::fs::CacheMode;
use stunfs::internal::fuse::{Ending, MountError, UnmountOutcome, check};
use stunfs::internal::time::{pause, wait_until};

/// Nothing may be left of a killed daemon after this.
const AFTER_SIGKILL: Duration = Duration::from_secs(2);
/// Set in the environment of the process that plays the daemon: backing and mount point, with a colon between.
const DAEMON: &str = "STUNFS_TEST_DAEMON";

#[test]
fn files_come_and_go_in_every_cache_mode() {
    for cache in [CacheMode::Through, CacheMode::Back, CacheMode::Direct] {
        let Some(mounted) = Mounted::new(cache, 4) else { return };
        assert_eq!(mounted.session.warnings(), [""; 0]);
        let data: Vec<u8> = (0..700_000_u32).flat_map(u32::to_ne_bytes).collect();
        fs::create_dir(mounted.path("dir")).unwrap();
        fs::write(mounted.path("dir/file"), &data).unwrap();
        assert!(fs::read(mounted.path("dir/file")).unwrap() == data);
        fs::rename(mounted.path("dir/file"), mounted.path("moved")).unwrap();
        assert_eq!(mounted.session.unmount(SOON).unwrap(), UnmountOutcome::Clean);
        assert!(fs::read(mounted.backing.path().join("moved")).unwrap() == data, "{cache:?}");
    }
}

#[test]
fn write_back_is_not_throttled_before_a_disk_would_be() {
    let Some(mounted) = Mounted::new(CacheMode::Back, 1) else { return };
    let bdi = PathBuf::from(format!("/sys/class/bdi/0:{}", mounted.session.connection_id()));
    let limits = ["strict_limit", "max_ratio", "read_ahead_kb"].map(|file| fs::read_to_string(bdi.join(file)));
    if let ([Ok(strict), Ok(ratio), Ok(ahead)], true) = (&limits, rustix::process::getuid().is_root()) {
        assert_eq!([strict.trim(), ratio.trim(), ahead.trim()], ["0", "100", "1024"]);
    }
}

#[test]
fn open_files_do_not_keep_it_from_going() {
    let Some(mounted) = Mounted::new(CacheMode::Through, 2) else { return };
    let file = File::create(mounted.path("file")).unwrap();
    file.write_all_at(b"acknowledged", 0).unwrap();
    assert_eq!(mounted.session.unmount(Duration::from_millis(100)).unwrap(), UnmountOutcome::Aborted);
    assert!(!is_mounted(mounted.session.mountpoint()));
    assert!(file.write_all_at(b"too late", 0).is_err());
    assert_eq!(fs::read(mounted.backing.path().join("file")).unwrap(), b"acknowledged");
}

#[test]
fn an_unmount_by_another_process_is_noticed() {
    let Some(mounted) = Mounted::new(CacheMode::Through, 2) else { return };
    let tool = if rustix::process::getuid().is_root() { ["umount", "-i"] } else { ["fusermount3", "-u"] };
    let unmounted = Command::new(tool[0]).args([tool[1].as_ref(), mounted.session.mountpoint().as_os_str()]).status();
    assert!(unmounted.unwrap().success());
    assert!(mounted.session.wait_ended(SOON));
    assert_eq!(mounted.session.ending(), Some(Ending::Closed));
}

#[test]
fn overlapping_volumes_are_refused_by_the_mount_table() {
    let Some(mounted) = Mounted::new(CacheMode::Through, 1) else { return };
    let (inner, elsewhere) = (mounted.backing.path().join("inner"), tempfile::tempdir().unwrap());
    fs::create_dir(&inner).unwrap();
    let refused = check(&inner, elsewhere.path(), false).unwrap_err();
    assert!(matches!(refused, MountError::Overlap { .. }), "{refused}");
    let busy = check(elsewhere.path(), mounted.session.mountpoint(), false).unwrap_err();
    assert!(matches!(busy, MountError::Busy { .. }), "{busy}");
}

#[test]
fn a_killed_daemon_leaves_nothing_behind() {
    for round in 0..5_u64 {
        let Some(mut daemon) = Daemon::start() else { return };
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..3).map(|n| writer(daemon.mountpoint.path().join(format!("f{n}")), &stop)).collect();
        pause(Duration::from_millis(20 + 13 * round));
        daemon.kill();
        stop.store(true, Ordering::Relaxed);
        daemon.assert_nothing_left();
        let acknowledged: Vec<_> = writers.into_iter().map(finished).collect();
        for (n, bytes) in acknowledged.into_iter().enumerate() {
            let kept = fs::metadata(daemon.backing.path().join(format!("f{n}"))).map_or(0, |found| found.len());
            assert!(kept >= bytes, "round {round}, file {n}: {bytes} acknowledged, {kept} there");
        }
        let (session, guard) = mount(daemon.backing.path(), daemon.mountpoint.path(), CacheMode::Through, 2);
        assert_eq!(session.unmount(SOON).unwrap(), UnmountOutcome::Clean);
        assert!(guard.dismiss(SOON));
    }
}

#[test]
fn waiters_of_a_daemon_that_stands_still_are_free_when_it_is_killed() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.signal(Signal::STOP);
    let path = daemon.mountpoint.path().join("file");
    let waiter = std::thread::spawn(move || File::create(path).is_err());
    assert!(wait_until(SOON, TICK, has_waiter), "the writer waits in state D");
    daemon.kill();
    daemon.assert_nothing_left();
    assert!(finished(waiter), "the writer got an error");
}

#[test]
fn a_daemon_that_ends_by_itself_is_cleaned_up_too() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.signal(Signal::ABORT);
    daemon.child.wait().unwrap();
    daemon.assert_nothing_left();
}

#[test]
fn a_guard_that_was_killed_is_noticed_and_replaced() {
    let Some(mut mounted) = Mounted::new(CacheMode::Through, 1) else { return };
    let guard = mounted.guard.take().unwrap();
    kill_process(pid(guard.pid()), Signal::KILL).unwrap();
    assert!(wait_until(SOON, TICK, || !guard.alive()));
    fs::write(mounted.path("file"), "the volume goes on").unwrap();
    let next = stunfs::internal::freeze::Guard::spawn(mounted.session.mountpoint(), None).unwrap();
    let identity = mounted.session.identity();
    next.watch_mount(identity.connection.get(), identity.mount_id).unwrap();
    drop(next);
    assert!(mounted.session.wait_ended(SOON), "the new guard knows what is to go");
}

/// A daemon in a process of its own: this test binary, called again.
struct Daemon {
    child: Child,
    guard: u32,
    backing: tempfile::TempDir,
    mountpoint: tempfile::TempDir,
}

impl Daemon {
    fn start() -> Option<Self> {
        if !can_mount() {
            return None;
        }
        let (backing, mountpoint) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "daemon", "--nocapture"])
            .env(DAEMON, format!("{}:{}", backing.path().display(), mountpoint.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let guard = output.lines().find_map(|line| line.unwrap().strip_prefix("guard ")?.parse().ok()).unwrap();
        Some(Self { child, guard, backing, mountpoint })
    }

    fn signal(&self, signal: Signal) {
        kill_process(pid(self.child.id()), signal).unwrap();
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn assert_nothing_left(&self) {
        let gone = || !is_mounted(self.mountpoint.path()) && !is_running(self.guard);
        assert!(wait_until(AFTER_SIGKILL, TICK, gone), "mounted: {}", is_mounted(self.mountpoint.path()));
        assert_eq!(fs::read_dir(self.mountpoint.path()).unwrap().count(), 0);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _may_be_dead_already = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Not a test of its own: what the process that plays the daemon runs. Ends when its standard input is closed.
#[test]
fn daemon() {
    let Ok(directories) = std::env::var(DAEMON) else { return };
    let (backing, mountpoint) = directories.split_once(':').unwrap();
    let (session, guard) = mount(Path::new(backing), Path::new(mountpoint), CacheMode::Through, 4);
    println!("\nguard {}", guard.pid());
    std::io::stdout().flush().unwrap();
    let _end_of_input = std::io::stdin().lines().count();
    session.unmount(SOON).unwrap();
    guard.dismiss(SOON);
}

/// Appends until told to stop or refused; how much was acknowledged.
fn writer(path: PathBuf, stop: &Arc<AtomicBool>) -> JoinHandle<u64> {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let Ok(file) = File::create(path) else { return 0 };
        let mut written = 0;
        while !stop.load(Ordering::Relaxed) && file.write_all_at(&[7; 8192], written).is_ok() {
            written += 8192;
        }
        written
    })
}

/// What a thread returns, which it must do soon.
fn finished<T>(thread: JoinHandle<T>) -> T {
    assert!(wait_until(AFTER_SIGKILL, TICK, || thread.is_finished()), "a thread hangs");
    thread.join().unwrap()
}

/// Whether a thread of this process is in state D.
fn has_waiter() -> bool {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let ids = tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok());
    ids.into_iter().any(|tid: u32| state_of(tid) == Some('D'))
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(number.try_into().unwrap()).unwrap()
}
