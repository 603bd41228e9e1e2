//! The program, killed while it freezes: its guard thaws.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use stunfs::internal::freeze::FreezeTarget;
use stunfs::internal::observe::sysctl::Sysctls;
use stunfs::internal::time::{pause, wait_until};

use crate::common::{is_mounted, is_running, need_fuse};
use crate::support::{ROUNDS, signal, watchdog};
use crate::volume::Victims;

const SOON: Duration = Duration::from_secs(20);

/// `stunfs mount`, ended at the latest when dropped.
pub(crate) struct Daemon {
    child: Child,
    mountpoint: PathBuf,
    socket: PathBuf,
    _directories: [tempfile::TempDir; 2],
}

impl Daemon {
    fn start(victims: &Victims, options: &[&str]) -> Self {
        Self::freezing(victims.directory.path(), &victims.targets, options)
    }

    /// One that freezes `targets`, with its control socket in `directory`.
    pub(crate) fn freezing(directory: &Path, targets: &[FreezeTarget], options: &[&str]) -> Self {
        let [backing, mountpoint] = [0, 1].map(|_| tempfile::tempdir().unwrap());
        let socket = directory.join("control");
        let mut command = Command::new(env!("CARGO_BIN_EXE_stunfs"));
        command.arg("mount").args([backing.path(), mountpoint.path()]).args(["--state", "none"]).args(options);
        command.arg("--control").arg(&socket);
        command.args(targets.iter().map(|target| format!("--freeze={target}")));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        // Read on, so that it can never wait for a reader.
        let mut stderr = child.stderr.take().unwrap();
        let said = std::thread::spawn(move || std::io::read_to_string(&mut stderr).unwrap_or_default());
        if !line.contains("is mounted on") {
            panic!("{line}{}", said.join().unwrap());
        }
        let mountpoint_path = mountpoint.path().canonicalize().unwrap();
        Self { child, mountpoint: mountpoint_path, socket, _directories: [backing, mountpoint] }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn ctl(&self, command: &str) -> Command {
        let mut ctl = Command::new(env!("CARGO_BIN_EXE_stunfs"));
        ctl.args(["ctl", "--socket"]).arg(&self.socket).arg(command).stdin(Stdio::null());
        ctl
    }

    pub(crate) fn stun(&self) {
        self.told("stun");
    }

    /// Gives a command, which must be obeyed.
    pub(crate) fn told(&self, command: &str) {
        let Output { status, stderr, .. } = self.ctl(command).output().unwrap();
        assert!(status.success(), "{command}: {}", String::from_utf8_lossy(&stderr));
    }

    /// Its guards: they have its command line, and a name of their own.
    fn guards(&self) -> Vec<u32> {
        let mountpoint = self.mountpoint.to_str().unwrap();
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let text = |pid: u32, file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let is_guard = |pid: &u32| {
            text(*pid, "comm") == b"stunfs-guard\n"
                && String::from_utf8_lossy(&text(*pid, "cmdline")).contains(mountpoint)
        };
        pids.filter(is_guard).collect()
    }

    pub(crate) fn assert_gone(&mut self) {
        self.child.wait().unwrap();
        let gone = || !is_mounted(&self.mountpoint) && self.guards().is_empty();
        assert!(wait_until(SOON, Duration::from_millis(5), gone), "still mounted, or guards {:?}", self.guards());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // No other process gets its number before it is waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !wait_until(SOON, Duration::from_millis(5), || !is_mounted(&self.mountpoint)) {
            let _ = Command::new("umount").arg("-l").arg(&self.mountpoint).status();
        }
    }
}

fn ended_by(signals: &[Signal]) {
    need_fuse!();
    let (_watchdog, victims) = (watchdog(), Victims::start());
    for _ in 0..ROUNDS {
        let mut daemon = Daemon::start(&victims, &[]);
        daemon.stun();
        victims.assert_still();
        signals.iter().for_each(|it| signal(daemon.child.id(), *it));
        victims.assert_moves();
        daemon.assert_gone();
    }
}

#[test]
fn sigterm_thaws() {
    ended_by(&[Signal::TERM]);
}

#[test]
fn sigint_thaws() {
    ended_by(&[Signal::INT]);
}

/// One round after the other: what a killed one leaves must not keep the next from its work.
#[test]
fn sigkill_thaws() {
    ended_by(&[Signal::KILL]);
}

#[test]
fn sigkill_in_the_middle_of_a_stun_command_thaws() {
    need_fuse!();
    let (_watchdog, victims) = (watchdog(), Victims::start());
    for round in 0..ROUNDS {
        let mut daemon = Daemon::start(&victims, &[]);
        let mut stun = daemon.ctl("stun").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        pause(Duration::from_millis(3 * u64::try_from(round).unwrap()));
        signal(daemon.child.id(), Signal::KILL);
        stun.wait().unwrap();
        daemon.assert_gone();
        victims.assert_moves();
    }
}

#[test]
fn another_guard_takes_over_with_all_that_is_frozen() {
    need_fuse!();
    let (_watchdog, victims) = (watchdog(), Victims::start());
    for round in 0..ROUNDS / 2 {
        let mut daemon = Daemon::start(&victims, &[]);
        let first = daemon.guards();
        assert_eq!(first.len(), 1, "{first:?}");
        // Killed before the stun, and while all is frozen.
        if round % 2 == 0 {
            signal(first[0], Signal::KILL);
            daemon.stun();
        } else {
            daemon.stun();
            signal(first[0], Signal::KILL);
        }
        let other = || daemon.guards().iter().any(|pid| *pid != first[0] && is_running(*pid));
        assert!(wait_until(SOON, Duration::from_millis(5), other));
        // It has been told all when the daemon has seen to it.
        pause(Duration::from_millis(50));
        victims.assert_still();
        signal(daemon.child.id(), Signal::KILL);
        daemon.assert_gone();
        victims.assert_moves();
    }
}

const TIMEOUT: &str = "/proc/sys/kernel/hung_task_timeout_secs";

/// One test, since it is a setting of the whole machine.
#[test]
fn kernel_settings_are_put_back_at_every_ending() {
    need_fuse!();
    if !rustix::process::getuid().is_root() {
        return eprintln!("LEFT OUT: changing kernel settings needs root");
    }
    // Another test's experiment may be under way.
    let others = match Sysctls::acquire(Duration::from_secs(60)) {
        Ok(nobody) => nobody,
        Err(error) => return eprintln!("LEFT OUT: {error}"),
    };
    let Ok(before) = fs::read_to_string(TIMEOUT) else { return eprintln!("LEFT OUT: no {TIMEOUT}") };
    drop(others);
    let (_watchdog, victims) = (watchdog(), Victims::start());
    for end in [Signal::TERM, Signal::INT, Signal::KILL, Signal::KILL] {
        let mut daemon = Daemon::start(&victims, &["--hung-task-timeout", "77s"]);
        assert_eq!(fs::read_to_string(TIMEOUT).unwrap(), "77\n");
        signal(daemon.child.id(), end);
        daemon.assert_gone();
        assert_eq!(fs::read_to_string(TIMEOUT).unwrap(), before);
    }
}

#[test]
fn what_kernels_report_becomes_events() {
    need_fuse!();
    let (_watchdog, victims) = (watchdog(), Victims::start());
    let (console, events) = (victims.directory.path().join("console"), victims.directory.path().join("events"));
    let option = [format!("--guest-console={}", console.display()), format!("--events={}", events.display())];
    let mut daemon = Daemon::start(&victims, &[&option[0], &option[1]]);
    fs::write(&console, "[  300.1] watchdog: BUG: soft lockup - CPU#0 stuck for 223s! [swapper/0:0]\r\n").unwrap();
    let told = || fs::read_to_string(&events).unwrap_or_default();
    let told_of = |name: &str| told().lines().any(|line| line.contains(&format!("\"event\":\"{name}\"")));
    assert!(wait_until(SOON, Duration::from_millis(20), || told_of("soft-lockup")), "{}", told());
    let line = told().lines().find(|line| line.contains("soft-lockup")).unwrap().to_owned();
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((event["seconds"].as_u64(), event["source"].as_str()), (Some(223), console.to_str()));
    assert!(event["at_us"].as_u64().unwrap() <= event["t_us"].as_u64().unwrap(), "{line}");
    // What is still being read when the volume ends is not lost.
    let log = fs::OpenOptions::new().append(true).open(&console).unwrap();
    std::io::Write::write_all(&mut &log, b"[ 301.1] INFO: task fluentd:134 blocked for more than 5 seconds.\n")
        .unwrap();
    signal(daemon.child.id(), Signal::TERM);
    daemon.assert_gone();
    assert!(told_of("hung-task") && told_of("stopped"), "{}", told());
}
