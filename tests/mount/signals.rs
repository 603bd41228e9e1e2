//! What a shell or supervisor hands down, and signals that mean something else: no held write is lost to any of them.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use stunfs::internal::time::wait_until;

use crate::common::{SOON, TICK, need_fuse};
use crate::support::{Daemon, Place};

const MIB: usize = 1 << 20;

/// `words` in front of a command, as `env` and `prlimit` are used.
fn wrapped(words: &[&str], command: &Command) -> Command {
    let mut wrapped = Command::new(words[0]);
    wrapped.args(&words[1..]).arg(command.get_program()).args(command.get_args());
    wrapped
}

#[test]
fn regression_signals_without_a_meaning_killed_the_daemon() {
    need_fuse!();
    let place = Place::new();
    let mut daemon = place.mount(&["--first-write=5m"]);
    let path = daemon.path("f");
    let writer = std::thread::spawn(move || fs::write(path, b"new data"));
    daemon.wait_held(1);
    for number in [10, 12, 14, 16, 17, 24, 25, 26, 27, 29, 30, 40, 50] {
        let kill = Command::new("kill").arg(format!("-{number}")).arg(daemon.child.id().to_string()).status().unwrap();
        assert!(kill.success(), "{number}");
    }
    assert_eq!(daemon.wait(Duration::from_millis(300)), None, "a signal killed it: {}", daemon.stderr());
    daemon.post("/v1/release");
    writer.join().unwrap().unwrap();
    daemon.end();
    assert_eq!(fs::read(place.backing().join("f")).unwrap(), b"new data");
}

#[test]
fn regression_sigquit_made_held_writes_fail() {
    need_fuse!();
    let place = Place::new();
    let mut daemon = place.mount(&["--first-write=5m"]);
    let path = daemon.path("f");
    let writer = std::thread::spawn(move || fs::write(path, b"new data"));
    daemon.wait_held(1);
    daemon.signal(Signal::QUIT);
    assert_eq!(daemon.wait(Duration::from_secs(15)), Some(0), "{}", daemon.stderr());
    writer.join().unwrap().unwrap();
    assert_eq!(fs::read(place.backing().join("f")).unwrap(), b"new data");
}

#[test]
fn regression_a_file_size_limit_killed_the_daemon() {
    need_fuse!();
    let place = Place::new();
    let write = |mnt: &std::path::Path, name: &str| {
        let mut file = File::create(mnt.join(name)).unwrap();
        (0..4).try_for_each(|_| file.write_all(&vec![7; MIB]))
    };
    // A soft limit is raised; a hard one that may not be is the writer's error.
    let soft = place.command(&["--disarmed"]);
    let daemon = Daemon::start(&place, wrapped(&["prlimit", "--fsize=1048576:"], &soft));
    write(&place.mnt(), "soft").unwrap();
    daemon.end();
    let hard = place.command(&["--disarmed"]);
    let without_right = ["setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource"];
    let hard = match rustix::process::getuid().is_root() {
        true => wrapped(&without_right, &hard),
        false => hard,
    };
    let daemon = Daemon::start(&place, wrapped(&["prlimit", "--fsize=1048576:1048576"], &hard));
    let refused = write(&place.mnt(), "hard").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FileTooLarge);
    fs::write(daemon.path("small"), b"x").unwrap();
    daemon.end();
}

#[test]
fn regression_blocked_and_ignored_signals_were_inherited() {
    need_fuse!();
    let place = Place::new();
    let inherited = ["env", "--ignore-signal=CHLD", "--block-signal=TERM"];
    let mut daemon = Daemon::start(&place, wrapped(&inherited, &place.command(&["--disarmed"])));
    kill_process(Pid::from_child(&daemon.child), Signal::TERM).unwrap();
    assert_eq!(daemon.wait(SOON), Some(0), "SIGTERM was blocked by its parent: {}", daemon.stderr());

    let mut run = crate::support::stunfs();
    run.args(["run", "--", "sh", "-c", "exit 7"]);
    let output = wrapped(&inherited, &run).output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(wait_until(SOON, TICK, || place.guards().is_empty()));
}

/// `PR_SET_IO_FLUSHER` as `/proc/PID/stat` shows it: `PF_MEMALLOC_NOIO`.
const NO_IO: u64 = 0x0008_0000;

/// Whether each thread of `pid` that belongs to the volume waits for no write-back when it needs memory.
fn io_flushers(pid: u32) -> Vec<(String, bool)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|entry| entry.unwrap().path());
    let flags = tasks.filter_map(|task| {
        let stat = fs::read_to_string(task.join("stat")).ok()?;
        let (name, rest) = stat.split_once(" (")?.1.rsplit_once(") ")?;
        let flags: u64 = rest.split(' ').nth(6)?.parse().ok()?;
        Some((name.to_owned(), flags & NO_IO != 0))
    });
    flags
        .filter(|(name, _)| {
            ["stunfs-work", "stunfs-done", "stunfs-timer", "stunfs-session"].iter().any(|start| name.starts_with(start))
        })
        .collect()
}

#[test]
fn threads_on_the_path_of_dirty_pages_are_io_flushers() {
    need_fuse!();
    if rustix::process::is_io_flusher().is_err() {
        eprintln!("left out: needs CAP_SYS_RESOURCE");
        return;
    }
    for (option, expected) in [("--cache=back", true), ("--placement=direct", true), ("--cache=through", false)] {
        let place = Place::new();
        let daemon = place.mount(&["--disarmed", option]);
        let threads = io_flushers(daemon.child.id());
        assert!(threads.len() >= 11, "{threads:?}");
        assert!(threads.iter().all(|(_, is_flusher)| *is_flusher == expected), "{option}: {threads:?}");
        daemon.end();
    }
}
