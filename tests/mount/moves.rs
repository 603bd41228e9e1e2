//! A volume lives as long as the kernel's connection, wherever its mount is: as a disk does.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use stunfs::internal::time::{pause, wait_until};

use crate::common::{SOON, TICK, is_mounted, need_fuse};
use crate::support::{Daemon, Place, stunfs};

/// Longer than a volume's users are given when it is told to end.
const LONGER_THAN_GRACE: Duration = Duration::from_millis(6500);

fn run(command: &str, args: &[&Path]) {
    let words: Vec<&str> = command.split(' ').collect();
    let output = Command::new(words[0]).args(&words[1..]).args(args).output().unwrap();
    assert!(output.status.success(), "{command} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn mount_at<'a>(place: &'a Place, mnt: &Path) -> Daemon<'a> {
    let mut command = stunfs();
    command.args(["mount", "--state=none", "--first-write=1ms", "--control"]).arg(place.at("control"));
    command.arg("--").arg(place.backing()).arg(mnt);
    Daemon::start(place, command)
}

fn is_root() -> bool {
    let root = rustix::process::getuid().is_root();
    if !root {
        eprintln!("left out: needs root");
    }
    root
}

/// A file opened before `change` is written after it for longer than the grace; then the daemon must be alive still.
fn goes_on(daemon: &mut Daemon<'_>, place: &Place, mnt: &Path, change: impl FnOnce()) -> File {
    let mut file = File::create(mnt.join("log")).unwrap();
    change();
    pause(LONGER_THAN_GRACE);
    file.write_all(b"line").unwrap_or_else(|error| panic!("{error}: {}", daemon.stderr()));
    assert_eq!(fs::read(place.backing().join("log")).unwrap(), b"line");
    assert_eq!(daemon.wait(Duration::ZERO), None, "{}", daemon.stderr());
    file
}

fn end(mut daemon: Daemon<'_>, places: &[&Path]) {
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(Duration::from_secs(15)), Some(0), "{}", daemon.stderr());
    for place in places {
        assert!(!is_mounted(place), "{} is still mounted: {}", place.display(), daemon.stderr());
    }
}

#[test]
fn regression_a_moved_volume_was_cut_off() {
    need_fuse!();
    if !is_root() {
        return;
    }
    let place = Place::new();
    let tree = place.at("tree");
    fs::create_dir(&tree).unwrap();
    run("mount -t tmpfs none", &[&tree]);
    run("mount --make-private", &[&tree]);
    let (old, new) = (tree.join("old"), tree.join("new"));
    fs::create_dir(&old).unwrap();
    fs::create_dir(&new).unwrap();
    let mut daemon = mount_at(&place, &old);
    drop(goes_on(&mut daemon, &place, &old, || run("mount --move", &[&old, &new])));
    fs::write(new.join("other"), b"x").unwrap();
    assert!(place.backing().join("other").exists());
    end(daemon, &[&old, &new]);
    run("umount", &[&tree]);
}

#[test]
fn regression_a_volume_below_another_mount_was_cut_off() {
    need_fuse!();
    if !is_root() {
        return;
    }
    let place = Place::new();
    let mnt = place.mnt();
    let mut daemon = mount_at(&place, &mnt);
    drop(goes_on(&mut daemon, &place, &mnt, || run("mount -t tmpfs none", &[&mnt])));
    run("umount", &[&mnt]);
    fs::write(mnt.join("other"), b"x").unwrap();
    assert!(place.backing().join("other").exists());
    end(daemon, &[&mnt]);
}

#[test]
fn regression_users_of_a_lazily_unmounted_volume_were_cut_off() {
    need_fuse!();
    let place = Place::new();
    let mnt = place.mnt();
    let mut daemon = mount_at(&place, &mnt);
    let unmount = || match is_root() {
        true => run("umount -l", &[&mnt]),
        false => run("fusermount3 -uz", &[&mnt]),
    };
    drop(goes_on(&mut daemon, &place, &mnt, unmount));
    assert_eq!(daemon.wait(SOON), Some(0), "{}", daemon.stderr());
    assert!(daemon.stderr().contains("was unmounted while it was in use"), "{}", daemon.stderr());
}

#[test]
fn regression_a_volume_below_a_renamed_directory_was_cut_off() {
    need_fuse!();
    let place = Place::new();
    let (old, new) = (place.at("old"), place.at("new"));
    fs::create_dir_all(old.join("m")).unwrap();
    let mut daemon = mount_at(&place, &old.join("m"));
    drop(goes_on(&mut daemon, &place, &old.join("m"), || fs::rename(&old, &new).unwrap()));
    fs::write(new.join("m/other"), b"x").unwrap();
    assert!(place.backing().join("other").exists());
    if is_root() {
        end(daemon, &[&new.join("m")]);
    } else {
        run("fusermount3 -u", &[&new.join("m")]);
    }
}

/// The kubelet binds a directory of a volume into a container, and unmounts the volume itself when it likes.
#[test]
fn regression_a_bind_mount_was_taken_away_with_the_first_mount() {
    need_fuse!();
    if !is_root() {
        return;
    }
    let place = Place::new();
    let (mnt, sub) = (place.mnt(), place.at("sub"));
    fs::create_dir(&sub).unwrap();
    fs::create_dir(place.backing().join("data")).unwrap();
    let mut daemon = mount_at(&place, &mnt);
    run("mount --bind", &[&mnt.join("data"), &sub]);
    run("umount", &[&mnt]);
    pause(LONGER_THAN_GRACE);
    fs::write(sub.join("file"), b"x").unwrap();
    assert!(place.backing().join("data/file").exists(), "the write went into the directory below the mount");
    assert_eq!(daemon.wait(Duration::ZERO), None, "{}", daemon.stderr());
    run("umount", &[&sub]);
    assert_eq!(daemon.wait(SOON), Some(0), "{}", daemon.stderr());

    let daemon = mount_at(&place, &mnt);
    run("mount --bind", &[&mnt.join("data"), &sub]);
    end(daemon, &[&mnt, &sub]);
}

#[test]
fn regression_a_volume_in_another_mount_namespace_was_cut_off() {
    need_fuse!();
    if !is_root() {
        return;
    }
    let place = Place::new();
    let mnt = place.mnt();
    let mut daemon = mount_at(&place, &mnt);
    let script = "read line && echo x >\"$1/file\" && read line";
    let mut inside = Command::new("unshare");
    inside.args(["-m", "--propagation", "private", "sh", "-c", script, "sh"]).arg(&mnt).stdin(Stdio::piped());
    let mut inside = inside.spawn().unwrap();
    let namespace = |pid: String| fs::read_link(PathBuf::from("/proc").join(pid).join("ns/mnt")).unwrap();
    let has_own = || namespace(inside.id().to_string()) != namespace("self".into());
    assert!(wait_until(SOON, TICK, has_own));
    // `unshare` makes the propagation private after it has its namespace.
    pause(Duration::from_millis(300));
    run("umount", &[&mnt]);
    pause(LONGER_THAN_GRACE);
    let mut input = inside.stdin.take().unwrap();
    input.write_all(b"go\n").unwrap();
    assert!(wait_until(SOON, TICK, || place.backing().join("file").exists()), "{}", daemon.stderr());
    assert_eq!(daemon.wait(Duration::ZERO), None, "{}", daemon.stderr());
    // The file is there before its first write is released.
    assert!(wait_until(SOON, TICK, || daemon.held() == 0), "{}", daemon.stderr());
    let armed = place.client().get("/v1/status").unwrap().body["armed"].clone();
    assert_eq!(armed, true, "a process uses it: injection goes on");
    drop(input);
    inside.wait().unwrap();
    assert_eq!(daemon.wait(SOON), Some(0), "{}", daemon.stderr());
}
