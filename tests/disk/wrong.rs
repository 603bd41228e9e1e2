//! Bad input: one line, an exit code, and nothing left.

use std::fs;
use std::process::Command;

use crate::support::{TestDisk, loop_files, need_disks, refused, run, text};

#[test]
fn bad_input_is_one_line_and_leaves_nothing() {
    need_disks!("mkfs.xfs");
    let base = tempfile::tempdir().unwrap();
    let at = |name: &str| base.path().join(name).to_str().unwrap().to_owned();
    let (image, full) = (at("image"), at("full"));
    fs::create_dir(base.path().join("full")).unwrap();
    fs::write(base.path().join("full/file"), "x").unwrap();
    let up = |more: &[&str], code: i32, part: &str| {
        let mut args = vec!["disk", "up", &image];
        args.extend(more);
        refused(&args, code, part);
        assert!(!base.path().join("image").exists(), "{more:?} left the image's directory");
        assert!(!base.path().join("mnt").exists(), "{more:?} left the mount point");
    };
    up(&[], 2, "--size");
    up(&["--size", "1000000001B"], 2, "multiple of the sector");
    up(&["--size", "1GiB", "--sector", "1000"], 2, "512 or 4096");
    up(&["--size", "1GiB", "--fs", "btrfs"], 2, "xfs, ext4 or none");
    up(&["--size", "1GiB", "--fs", "none", "--mount", &at("mnt")], 2, "needs a file system");
    up(&["--size", "1GiB", "--mount", &full], 69, "not empty");
    up(&["--size", "1GiB", "--mount", "/proc"], 69, "mounted there already");
    up(&["--size", "1GiB", "--mount", &at("no/such")], 73, "cannot be made");
    up(&["--size", "1GiB", "--placement", "packed"], 2, "not for disks");
    up(&["--size", "1GiB", "--first-write", "20"], 2, "unit");
    // What is to be frozen with it is looked at when the image is there already.
    for (target, part) in [
        ("cgroup:no/such/group", "no such control group"),
        ("docker:no-such-container", "no engine has this container"),
        ("pid:2147483647", "no such process"),
        ("qmp:/no/such/socket", "No such file"),
    ] {
        up(&["--size", "1GiB", "--mount", &at("mnt"), "--freeze", target], 69, part);
    }
    // mkfs itself refuses, after image, volume and device are there; so does mount.
    up(&["--size", "10MiB", "--mount", &at("mnt")], 69, "mkfs.xfs failed");
    up(&["--size", "1GiB", "--mount", &at("mnt"), "--mount-opts", "nonsense"], 69, "cannot be mounted");
    refused(&["disk", "up", &full, "--size", "1GiB"], 2, "directory of its own");
    refused(&["disk", "down", &image], 69, "no disk of");
    refused(&["disk", "status", "/no/such"], 69, "no disk of");
    refused(&["disk", "repair", "/no/such"], 69, "no disk of");
    assert!(!loop_files().iter().any(|file| file.contains(base.path().to_str().unwrap())));
}

#[test]
fn images_that_are_in_use_or_hold_something_else_are_refused() {
    need_disks!("mkfs.xfs", "losetup");
    let base = tempfile::tempdir().unwrap();
    let place = base.path().join("disk.img");
    let image = place.to_str().unwrap();
    fs::write(&place, vec![b'x'; 1 << 20]).unwrap();
    refused(&["disk", "up", image], 2, "--mkfs makes a new");
    refused(&["disk", "up", image, "--size", "2MiB"], 2, "has 1MiB");
    let attached = run(Command::new("losetup").args(["-f", "--show", image]));
    assert!(attached.status.success(), "{}", text(&attached.stderr));
    refused(&["disk", "up", image], 69, "in use by /dev/loop");
    assert!(run(Command::new("losetup").args(["-d", text(&attached.stdout).trim()])).status.success());
    assert_eq!(fs::read(&place).unwrap(), vec![b'x'; 1 << 20]);
}

#[test]
fn another_disk_or_place_in_use_is_refused_and_stays_as_it_is() {
    need_disks!("mkfs.xfs");
    let disk = TestDisk::up("--size 1GiB");
    let (other, mount) = (disk.base.path().join("other"), disk.path(""));
    let words = ["disk", "up", other.to_str().unwrap(), "--size", "1GiB", "--mount"];
    let mut args = words.to_vec();
    args.push(mount.to_str().unwrap().trim_end_matches('/'));
    refused(&args, 69, "mounted there already");
    assert!(!other.exists());
    assert!(disk.disk("status").status.success());
}

#[test]
fn what_is_missing_is_named() {
    need_disks!("mkfs.xfs", "unshare", "setpriv");
    let base = tempfile::tempdir().unwrap();
    let image = base.path().join("image");
    let stunfs = env!("CARGO_BIN_EXE_stunfs");
    let up = format!("exec {stunfs} disk up {} --size 1GiB", image.display());
    for (prepare, code, part) in [
        ("mount --bind /dev/null /dev/loop-control", 69, "no loop device"),
        ("mount --bind /tmp /usr/sbin; PATH=/usr/bin; [ -L /sbin ] || mount --bind /tmp /sbin", 69, "not installed"),
    ] {
        let output = run(Command::new("unshare").args(["-m", "sh", "-c", &format!("{prepare}; {up}")]));
        let line = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{prepare}: {line}");
        assert!(line.lines().count() == 1 && line.contains(part), "{prepare}: {line}");
        assert!(!image.exists(), "{prepare}");
    }
    let program = base.path().join("stunfs");
    fs::copy(stunfs, &program).unwrap();
    fs::set_permissions(base.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&program);
    let output = run(command.args(["disk", "up", "/tmp/no-such-image", "--size", "1GiB"]));
    assert_eq!(output.status.code(), Some(77), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("root"), "{}", text(&output.stderr));
}
