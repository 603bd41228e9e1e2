//! A user other than root, through `fusermount3`.
//!
//! `/dev/fuse` may be closed to other users here, and the machine is not to be changed: a private mount namespace gets a
//! device of its own, open to all, and in it a child of this test runs as `nobody`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Signal, getuid};
use stunfs::internal::time::wait_until;

use crate::common::{SOON, TICK, is_mounted, need_fuse, timed};
use crate::support::{Place, this_test, told};

/// In a namespace of its own: a device for all, then the test as `nobody`.
const SETUP: &str = "set -e
mount -t tmpfs -o mode=755 none /mnt
mknod -m 666 /mnt/fuse c 10 229
mount --bind /mnt/fuse /dev/fuse
export TMPDIR=\"$1\" HOME=\"$1\"
shift
exec setpriv --reuid 65534 --regid 65534 --clear-groups -- \"$@\"";

/// Runs the ignored test `name` as nobody; says so where that cannot be done.
fn as_nobody(name: &str) {
    let tools = ["unshare", "setpriv", "fusermount3"].map(|tool| Command::new(tool).arg("--version").output().is_ok());
    if !getuid().is_root() || tools.contains(&false) {
        eprintln!("left out: needs root, unshare, setpriv and fusermount3");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let child = this_test(name, scratch.path());
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", SETUP, "sh"]).arg(scratch.path());
    command.arg(child.get_program()).args(child.get_args()).env("STUNFS_CHILD", scratch.path()).stdin(Stdio::null());
    let mut child = command.spawn().unwrap();
    let ended = wait_until(Duration::from_secs(60), TICK, || child.try_wait().unwrap().is_some());
    if !ended {
        let _gone = child.kill();
    }
    let status = child.wait().unwrap();
    assert!(status.success(), "as nobody: {status}");
}

#[test]
fn nobody_mounts_holds_and_ends() {
    need_fuse!();
    as_nobody("unprivileged::mounts_holds_and_ends");
}

#[test]
#[ignore = "the child of nobody_mounts_holds_and_ends"]
fn mounts_holds_and_ends() {
    if told().is_none() {
        return;
    }
    let place = Place::new();
    let mut daemon = place.mount(&["--first-write", "5m", "--queue-depth", "60000", "--grain", "4KiB"]);
    let notices = daemon.stderr();
    println!("notices: {notices}");
    assert!(notices.contains("queue depth") && notices.contains("only you can use the volume"), "{notices}");
    let path = daemon.path("file");
    let writer = std::thread::spawn(move || fs::write(path, [7; 4096]));
    daemon.wait_held(1);
    let mode = fs::metadata(place.at("control")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (code, wait) = timed(|| {
        daemon.signal(Signal::TERM);
        daemon.wait(SOON)
    });
    println!("measured: unprivileged: SIGTERM to the end {wait:?}");
    assert_eq!(code, Some(0), "{}", daemon.stderr());
    writer.join().unwrap().unwrap();
    place.assert_clean(SOON);
    assert_eq!(fs::read(place.backing().join("file")).unwrap(), [7; 4096]);
}

#[test]
fn nobody_is_cleaned_up_after() {
    need_fuse!();
    as_nobody("unprivileged::is_cleaned_up_after");
}

#[test]
#[ignore = "the child of nobody_is_cleaned_up_after"]
fn is_cleaned_up_after() {
    if told().is_none() {
        return;
    }
    let place = Place::new();
    let mut daemon = place.mount(&["--first-write", "5m"]);
    let path = daemon.path("file");
    let writer = std::thread::spawn(move || fs::write(path, [7; 4096]));
    daemon.wait_held(1);
    daemon.kill();
    place.assert_clean(Duration::from_secs(3));
    assert!(wait_until(SOON, TICK, || writer.is_finished()) && writer.join().unwrap().is_err());

    // Stopped while in use: cut off in the end, without the right to write to the connection's abort file.
    let mut daemon = place.mount(&[]);
    let busy = fs::File::create(daemon.path("busy")).unwrap();
    daemon.signal(Signal::INT);
    let mnt = place.mnt();
    assert!(wait_until(SOON, TICK, || !is_mounted(&mnt)));
    daemon.signal(Signal::INT);
    let code = daemon.wait(Duration::from_secs(12));
    assert_eq!(code, Some(0), "{}", daemon.stderr());
    drop(busy);
    place.assert_clean(SOON);
}

#[test]
fn nobody_may_not_share() {
    need_fuse!();
    if fs::read_to_string("/etc/fuse.conf").unwrap_or_default().lines().any(|line| line.trim() == "user_allow_other") {
        eprintln!("left out: /etc/fuse.conf allows user_allow_other here");
        return;
    }
    as_nobody("unprivileged::may_not_share");
}

#[test]
#[ignore = "the child of nobody_may_not_share"]
fn may_not_share() {
    if told().is_none() {
        return;
    }
    let place = Place::new();
    place.refused(&["--allow-other"]).expect(&place, 77, "user_allow_other");
}

/// Others get nothing from the control socket, wherever it lies.
#[test]
fn other_users_have_no_access_to_the_control_socket() {
    need_fuse!();
    if !getuid().is_root() {
        eprintln!("left out: needs root");
        return;
    }
    let place = Place::new();
    fs::set_permissions(place.at(""), fs::Permissions::from_mode(0o777)).unwrap();
    let daemon = place.mount(&[]);
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--", env!("CARGO_BIN_EXE_stunfs")]);
    command.args(["ctl", "--socket"]).arg(place.at("control")).arg("status");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(77), "{text}");
    assert!(text.starts_with("stunfs: ") && text.lines().count() == 1, "{text}");
    assert!(Path::new(&place.at("control")).exists());
    daemon.end();
}
