//! The program in the background, around a command, and as mount(8)'s helper.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use stunfs::control::Client;
use stunfs::time::wait_until;

use crate::common::{SOON, TICK, is_mounted, is_running, need_fuse, timed};
use crate::support::{Place, stunfs};

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_daemon_is_usable_when_the_command_returns() {
    need_fuse!();
    let place = Place::new();
    let (pid_file, log) = (place.at("pid"), place.at("log"));
    let mut command = place.command(&["--first-write", "300ms", "--daemon", "--pid-file", pid_file.to_str().unwrap()]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let (_, wait) = timed(|| fs::write(place.mnt().join("file"), [1; 4096]).unwrap());
    assert!(is_mounted(&place.mnt()) && wait >= Duration::from_millis(300), "{wait:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("is mounted on"));
    let pid: u32 = fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
    assert!(is_running(pid));
    let session = rustix::process::getsid(Pid::from_raw(pid.cast_signed())).unwrap();
    assert_eq!(session.as_raw_pid().cast_unsigned(), pid, "it leads a session of its own");
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::TERM).unwrap();
    place.assert_clean(SOON);
    assert!(wait_until(SOON, TICK, || !is_running(pid) && !pid_file.exists()));
    assert!(!log.exists());
}

#[test]
fn a_daemon_that_cannot_mount_says_so_to_who_started_it() {
    need_fuse!();
    let place = Place::new();
    let missing = place.at("missing");
    let mut command = stunfs();
    command.args(["mount", "--daemon", "--state", "none", "--"]).arg(place.backing()).arg(&missing);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("does not exist") && text(&output).lines().count() == 1, "{}", text(&output));
}

fn run(args: &[&str]) -> Output {
    stunfs().args(["run", "--first-write", "20ms", "--seed", "3"]).args(args).output().unwrap()
}

#[test]
fn run_hands_on_the_exit_code_and_sums_up() {
    need_fuse!();
    let script = "test \"$1\" = \"$STUNFS_MOUNT\" && head -c 4096 /dev/zero > \"$1/new\" && exit 7";
    let output = run(&["--", "sh", "-c", script, "sh", "{}"]);
    assert_eq!(output.status.code(), Some(7), "{}", text(&output));
    let summary = text(&output);
    assert!(summary.contains("1 held") && summary.contains("seed 3"), "{summary}");
    for (command, code) in [("true", 0), ("false", 1), ("/does/not/exist", 127), ("/", 126)] {
        assert_eq!(run(&["--", command]).status.code(), Some(code), "{command}");
    }
    assert_eq!(run(&["--", "sh", "-c", "kill -9 $$"]).status.code(), Some(137));
}

#[test]
fn run_on_a_given_backing_leaves_the_data_and_nothing_else() {
    need_fuse!();
    let place = Place::new();
    let backing = place.backing();
    let state = place.at("state");
    let args = ["--backing", backing.to_str().unwrap(), "--state", state.to_str().unwrap()];
    let output = run(&[&args[..], &["--", "sh", "-c", "pwd; echo data > {}/file; echo {}"]].concat());
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(fs::read_to_string(backing.join("file")).unwrap(), "data\n");
    let mnt = String::from_utf8(output.stdout).unwrap().lines().last().unwrap().to_owned();
    assert!(mnt.starts_with('/') && !Path::new(&mnt).exists(), "{mnt}");
}

#[test]
fn run_passes_a_signal_on_and_lets_its_command_go() {
    need_fuse!();
    let place = Place::new();
    let script = "trap 'exit 9' TERM; dd if=/dev/zero of={}/f bs=4k count=1 2>/dev/null; sleep 60 & wait";
    let mut command = stunfs();
    command.args(["run", "--first-write", "5m", "--control"]).arg(place.at("control"));
    command.args(["--", "sh", "-c", script]).process_group(0).stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    let held = || {
        let client = Client::connect(&place.at("control")).ok()?;
        client.get("/v1/status").ok()?.body["held"]["total"].as_u64()
    };
    assert!(wait_until(Duration::from_secs(20), TICK, || held() == Some(1)));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let ended = wait_until(Duration::from_secs(10), TICK, || child.try_wait().unwrap().is_some());
    if !ended {
        let _gone = child.kill();
    }
    let code = child.wait().unwrap().code();
    assert_eq!(code, Some(9));
}

/// The helper, called as mount(8) calls it.
fn helper(place: &Place, options: &str) -> Output {
    let mut command = stunfs();
    command.arg0("mount.fuse.stunfs").arg(place.backing()).arg(place.mnt());
    command.args(["-o", &format!("state={},control=none,{options}", place.at("state").display())]);
    command.output().unwrap()
}

#[test]
fn the_mount_helper_mounts_in_the_background() {
    need_fuse!();
    let place = Place::new();
    let output = helper(&place, "rw,nosuid,_netdev,first_write=300ms");
    assert!(output.status.success(), "{}", text(&output));
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table.lines().find(|line| line.contains(place.mnt().to_str().unwrap())).unwrap();
    assert!(line.contains("fuse.stunfs") && line.contains(place.backing().to_str().unwrap()), "{line}");
    let (_, wait) = timed(|| fs::write(place.mnt().join("file"), [1; 4096]).unwrap());
    assert!(wait >= Duration::from_millis(300));
    let wrong = helper(&Place::new(), "first_write=300");
    assert!(wrong.status.code() == Some(2) && text(&wrong).contains("unit"), "{}", text(&wrong));
    assert!(Command::new("umount").arg(place.mnt()).status().unwrap().success());
    place.assert_clean(SOON);
}

/// Removes the link that makes the program a mount helper.
struct Link(&'static Path);

impl Drop for Link {
    fn drop(&mut self) {
        let _gone = fs::remove_file(self.0);
    }
}

#[test]
fn mount_finds_the_helper() {
    need_fuse!();
    let link = Path::new("/sbin/mount.fuse.stunfs");
    let program = fs::canonicalize(env!("CARGO_BIN_EXE_stunfs")).unwrap();
    let made = std::os::unix::fs::symlink(program, link);
    if let Err(error) = made {
        eprintln!("left out: {} cannot be made: {error}", link.display());
        return;
    }
    let _link = Link(link);
    let place = Place::new();
    let options = format!("first_write=1ms,state={},control=none", place.at("state").display());
    let mount = |options: &str| {
        let mut command = Command::new("mount");
        command.args(["-t", "fuse.stunfs", "-o", options]).arg(place.backing()).arg(place.mnt());
        command.output().unwrap()
    };
    let output = mount(&options);
    assert!(output.status.success(), "{}", text(&output));
    fs::write(place.mnt().join("file"), b"x").unwrap();
    let output = Command::new("mount").args(["-o", "remount,ro"]).arg(place.mnt()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let error = fs::write(place.mnt().join("file"), b"y").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    assert!(Command::new("umount").arg(place.mnt()).status().unwrap().success());
    place.assert_clean(SOON);
    assert_eq!(fs::read(place.backing().join("file")).unwrap(), b"x");
}
