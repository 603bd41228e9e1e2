//! The program in the background, around a command, and as mount(8)'s helper.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use stunfs::internal::control::Client;
use stunfs::internal::time::wait_until;

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

/// `umount` comes back before the daemon has ended: mounting again was refused ("another volume of ... is mounted", or the
/// control socket "belongs to a running volume"), and every test suite that cycles a mount failed.
#[test]
fn regression_no_mount_right_after_an_umount() {
    need_fuse!();
    let (place, other) = (Place::new(), Place::new());
    let again = |backing: &Path, args: &[&str]| {
        let mut command = stunfs();
        let state = backing.with_file_name("state");
        command.args(["mount", "--daemon", "--first-write", "1ms"]).args(args).arg("--state").arg(state);
        let output = command.arg("--").arg(backing).arg(place.mnt()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        fs::write(place.mnt().join("file"), b"x").unwrap();
        assert!(Command::new("umount").arg(place.mnt()).status().unwrap().success());
    };
    for backing in [&place.backing(), &place.backing(), &place.backing(), &other.backing(), &place.backing()] {
        again(backing, &[]);
    }
    // With a socket of one's choice, too.
    let socket = place.at("control");
    for backing in [place.backing(), other.backing(), place.backing()] {
        again(&backing, &["--control", socket.to_str().unwrap()]);
    }
    place.assert_clean(SOON);
    assert_eq!(fs::read(other.backing().join("file")).unwrap(), b"x");
}

/// `--events -` made a file called `-`.
#[test]
fn regression_events_to_standard_output_went_to_a_file() {
    need_fuse!();
    let place = Place::new();
    let in_place = |mut command: Command, args: &[&str]| {
        command.current_dir(place.at("")).args(args).args(["--events", "-", "--first-write", "1ms", "--state", "none"]);
        command
    };
    let output = in_place(stunfs(), &["run"]).args(["--", "sh", "-c", "echo x > {}/file"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let lines = String::from_utf8(output.stdout).unwrap();
    let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!((names[0], names[names.len() - 1]), ("started", "stopped"));
    assert_eq!(names.iter().filter(|name| **name == "held").count(), 1);
    assert!(!place.at("-").exists());

    // `mount` says that it is usable on standard error then, and a daemon has no standard output at all.
    let mut child = in_place(stunfs(), &["mount", "--control", "none"]);
    let child = child.arg(place.backing()).arg(place.mnt()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    assert!(wait_until(Duration::from_secs(20), TICK, || is_mounted(&place.mnt())));
    assert!(Command::new("umount").arg(place.mnt()).status().unwrap().success());
    let lines = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    assert!(lines.lines().count() >= 2 && lines.lines().all(|line| line.starts_with('{')), "{lines}");
    let mut daemon = in_place(stunfs(), &["mount", "--daemon"]);
    let output = daemon.arg(place.backing()).arg(place.mnt()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(
        text(&output).contains("'-' is standard output") && text(&output).lines().count() == 1,
        "{}",
        text(&output)
    );
    place.assert_clean(SOON);
}

/// `stunfs run ... 2>&1 | head -4` ended with a panic (code 101): the reader of the summary had gone.
#[test]
fn regression_a_closed_standard_error_was_a_panic() {
    need_fuse!();
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    let mut command = stunfs();
    command.args(["run", "--seed", "1", "--", "sh", "-c", "exit 7"]).stderr(closed());
    assert_eq!(command.status().unwrap().code(), Some(7));

    let place = Place::new();
    let mut command = place.command(&[]);
    let mut child = command.stdout(std::process::Stdio::null()).stderr(closed()).spawn().unwrap();
    assert!(wait_until(Duration::from_secs(20), TICK, || place.guards().len() == 1 && is_mounted(&place.mnt())));
    // The daemon has something to say, and goes on.
    let guard = place.guards()[0];
    kill_process(Pid::from_raw(guard.cast_signed()).unwrap(), Signal::KILL).unwrap();
    assert!(wait_until(SOON, TICK, || matches!(place.guards()[..], [other] if other != guard)));
    fs::write(place.mnt().join("file"), b"x").unwrap();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert!(wait_until(Duration::from_secs(10), TICK, || child.try_wait().unwrap().is_some()));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    place.assert_clean(SOON);
}

/// A pool that was full from the start said nothing; and what is said in a file had a terminal's colours.
#[test]
fn regression_a_pool_smaller_than_what_is_there_is_told_without_colours() {
    need_fuse!();
    let place = Place::new();
    fs::write(place.backing().join("old"), vec![1; 4 << 20]).unwrap();
    let daemon = place.mount(&["--first-write", "1ms", "--pool", "2MiB"]);
    let told = || place.events().into_iter().find(|event| event["event"] == "warning");
    assert!(wait_until(SOON, TICK, || told().is_some()));
    let message = told().unwrap()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("pool (2MiB)") && message.contains("full from the start"), "{message}");
    assert!(wait_until(SOON, TICK, || daemon.stderr().contains(&message)), "{}", daemon.stderr());
    assert!(!daemon.stderr().contains('\x1b'), "{:?}", daemon.stderr());
    let error = fs::write(daemon.path("new"), [1; 4096]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    daemon.end();
}

/// `stunned for 99h`, it said, with a longest hold of 30 s; after the time limit it advised to arm what cannot be armed.
#[test]
fn regression_ctl_stun_says_how_long_it_really_is() {
    need_fuse!();
    let place = Place::new();
    let daemon = place.mount(&["--max-hold", "30s", "--ttl", "1h"]);
    let said = |args: &[&str]| {
        let output = place.ctl(args);
        (output.status.code(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap())
    };
    let (code, line) = said(&["stun", "99h"]);
    assert!(code == Some(0) && line.starts_with("stunned for 30.0 s, which is all that --max-hold allows"), "{line}");
    let (code, line) = said(&["resume"]);
    assert!(code == Some(0) && line.contains("0 operations let go"), "{line}");
    let (_, line) = said(&["stun", "5s"]);
    assert!(line.starts_with("stunned for 5s;"), "{line}");
    assert_eq!(said(&["resume"]).0, Some(0));
    assert_eq!(said(&["grow", "4KiB"]), (Some(2), "stunfs: pool: 4KiB is smaller than one grain of 1MiB\n".into()));
    assert_eq!(said(&["set", "ttl=1ms"]).0, Some(0));
    assert!(wait_until(SOON, TICK, || said(&["status"]).1.contains("--ttl has passed")));
    let (code, line) = said(&["stun", "1s"]);
    assert!(code == Some(2) && line.contains("--ttl") && !line.contains("ctl arm"), "{line}");
    daemon.end();
}

#[test]
fn every_ctl_command_does_what_it_says() {
    need_fuse!();
    let place = Place::new();
    let daemon = place.mount(&["--disarmed", "--first-write", "5m", "--pool", "2MiB", "--on-full", "stun"]);
    let ctl = |args: &[&str], answer: &str| {
        let output = place.ctl(args);
        let said = String::from_utf8(output.stdout.clone()).unwrap();
        assert!(output.status.success() && said.contains(answer), "{args:?}: {said} {}", text(&output));
    };
    let write = |name: &str| {
        let path = daemon.path(name);
        std::thread::spawn(move || fs::write(path, vec![1; 1 << 20]))
    };
    let waiting = |n: u64| {
        let status = || place.client().get("/v1/status").unwrap().body;
        assert!(wait_until(SOON, TICK, || status()["held"]["waiting_for_space"] == n), "{}", status());
    };
    write("disarmed").join().unwrap().unwrap();
    ctl(&["status"], "injection  off");
    ctl(&["arm"], "injection is on");
    ctl(&["set", "first-write=0", "lanes=2"], "changed: first-write=0 lanes=2");
    write("second").join().unwrap().unwrap();
    let third = write("third");
    waiting(1);
    ctl(&["grow", "3MiB"], "of 3 MiB; 1 operation let go");
    third.join().unwrap().unwrap();
    fs::remove_file(daemon.path("third")).unwrap();
    let reusable = || place.client().get("/v1/status").unwrap().body["pool"]["reusable_bytes"] == 1 << 20;
    assert!(wait_until(SOON, TICK, reusable));
    ctl(&["discard"], "1 grain handed back, pool 2 MiB of 3 MiB");
    ctl(&["set", "first-write=5m"], "changed");
    let held = write("held");
    daemon.wait_held(1);
    ctl(&["disarm"], "injection is off; what is held stays held");
    assert_eq!(daemon.held(), 1);
    ctl(&["release"], "all injection has ended, 1 operation let go");
    held.join().unwrap().unwrap();
    ctl(&["arm"], "injection is on");
    ctl(&["stun"], "stunned until 'stunfs ctl resume', at most for 10 m");
    let stopped = write("second");
    daemon.wait_held(1);
    ctl(&["resume"], "resumed, 1 operation let go");
    stopped.join().unwrap().unwrap();
    ctl(&["events", "--since", "1"], "grown size=3 MiB");
    ctl(&["events", "--json"], "\"event\":\"stun-began\"");
    ctl(&["stop"], "the volume is ending");
    let mut daemon = daemon;
    assert_eq!(daemon.wait(Duration::from_secs(10)), Some(0), "{}", daemon.stderr());
    place.assert_clean(SOON);
}

/// Who is held now, in full, as `ctl status --json` and as its table.
#[test]
fn status_lists_who_is_held_and_why() {
    need_fuse!();
    let place = Place::new();
    let daemon = place.mount(&["--first-write", "5m"]);
    let target = format!("of={}", daemon.path("log").display());
    let args = ["if=/dev/zero", "bs=4k", "count=1", "seek=3", &target];
    let mut writer = Command::new("dd").args(args).stderr(std::process::Stdio::null()).spawn().unwrap();
    daemon.wait_held(1);
    let status: Value = serde_json::from_slice(&place.ctl(&["status", "--json"]).stdout).unwrap();
    let op = &status["held"]["ops"][0];
    assert_eq!((&status["held"]["total"], &op["pid"], &op["comm"]), (&1.into(), &writer.id().into(), &"dd".into()));
    assert_eq!((&op["op"], &op["path"], &op["offset"]), (&"write".into(), &"log".into(), &12288.into()));
    assert_eq!((&op["length"], &op["penalty"]["latency_us"]), (&4096.into(), &300_000_000.into()));
    let (since, until) = (op["since_us"].as_u64().unwrap(), op["until_us"].as_u64().unwrap());
    assert!(until - since >= 300_000_000 && until - since < 301_000_000, "{op}");
    let table = String::from_utf8(place.ctl(&["status"]).stdout).unwrap();
    let row = table.lines().last().unwrap();
    for part in [&writer.id().to_string(), "dd", "write 4 KiB at 12 KiB", "log", "latency 5 m"] {
        assert!(row.contains(part), "'{part}' is not in: {row}");
    }
    assert!(place.ctl(&["release"]).status.success());
    assert!(writer.wait().unwrap().success());
    daemon.end();
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

/// A unit of `Type=notify` waited for its start until systemd gave up.
#[test]
fn regression_systemd_is_told_once_the_volume_is_usable() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    need_fuse!();
    let place = Place::new();
    let path = place.at("notify");
    let name = format!("stunfs-test-{}", std::process::id());
    let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
    for (socket, variable) in [
        (UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap().to_owned()),
        (UnixDatagram::bind_addr(&abstract_name).unwrap(), format!("@{name}")),
    ] {
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut command = place.command(&[]);
        command.env("NOTIFY_SOCKET", &variable).stdout(std::process::Stdio::null());
        let mut child = command.spawn().unwrap();
        let told = || {
            let mut buffer = [0; 200];
            let length = socket.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        assert_eq!(told(), format!("READY=1\nMAINPID={}\n", child.id()));
        assert!(is_mounted(&place.mnt()), "it is told once the volume is usable");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    place.assert_clean(SOON);
}

/// Prometheus' own checker found a type it does not know and metrics without help. Left out where it is not installed.
#[test]
fn regression_promtool_finds_the_metrics_clean() {
    use std::io::Write;
    need_fuse!();
    if let Err(error) = Command::new("promtool").arg("--version").output() {
        eprintln!("left out: promtool: {error}");
        return;
    }
    let place = Place::new();
    let _daemon = place.mount(&["--first-write", "1ms", "--pool", "1GiB"]);
    fs::write(place.mnt().join("file"), [1; 4096]).unwrap();
    let metrics = place.client().get("/metrics").unwrap().body;
    let metrics = metrics.as_str().unwrap();
    assert!(metrics.contains("stunfs_operations_total"));
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(std::process::Stdio::piped());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}
