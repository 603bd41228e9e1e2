//! Nothing on a mount leads out of the backing.

use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use stunfs::Volume;
use stunfs::internal::time::Deadline;

/// A backing beside a secret that no path on the mount may lead to.
struct Yard {
    volume: Volume,
    outside: tempfile::TempDir,
}

impl Yard {
    fn new() -> Self {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "secret").unwrap();
        fs::create_dir(outside.path().join("backing")).unwrap();
        let volume = Volume::builder().backing(outside.path().join("backing")).mount().unwrap();
        Self { volume, outside }
    }

    fn secret(&self) -> String {
        fs::read_to_string(self.outside.path().join("secret")).unwrap()
    }
}

#[test]
fn symbolic_links_and_dots_are_the_callers_business() {
    crate::common::need_fuse!();
    let yard = Yard::new();
    let mount = yard.volume.path();
    symlink("../secret", yard.volume.backing().join("relative")).unwrap();
    // Resolved by the kernel from the mount point: it finds what is beside that, not beside the backing.
    assert!(fs::read(mount.join("relative")).is_err());
    assert!(fs::read(mount.join("../secret")).is_err());
    fs::create_dir(mount.join("dir")).unwrap();
    assert!(fs::read(mount.join("dir/../../secret")).is_err());
    assert_eq!(fs::canonicalize(mount.join("dir/..")).unwrap(), fs::canonicalize(mount).unwrap());
    // The daemon itself must not follow what is put into a file's place.
    fs::write(mount.join("file"), "x").unwrap();
    fs::metadata(mount.join("file")).unwrap();
    fs::remove_file(yard.volume.backing().join("file")).unwrap();
    symlink(yard.outside.path().join("secret"), yard.volume.backing().join("file")).unwrap();
    let file = rustix::fs::open(mount.join("file"), OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::TRUNC, Mode::empty());
    assert!(file.is_err() || rustix::io::write(file.unwrap(), b"overwritten").is_ok());
    assert_eq!(yard.secret(), "secret");
}

#[test]
fn a_directory_that_is_moved_out_meanwhile_leads_nowhere() {
    crate::common::need_fuse!();
    let yard = Yard::new();
    let (mount, backing) = (yard.volume.path(), yard.volume.backing());
    fs::create_dir_all(mount.join("a/b")).unwrap();
    fs::create_dir(backing.join("swap")).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let deadline = Deadline::after(Duration::from_millis(700));
            while !deadline.passed() {
                rustix::fs::renameat_with(CWD, backing.join("a"), CWD, backing.join("swap"), RenameFlags::EXCHANGE)
                    .unwrap();
            }
            over.store(true, Ordering::SeqCst);
        });
        while !over.load(Ordering::SeqCst) {
            for path in ["a/../../secret", "a/b/../../../secret", "swap/b/../../../secret"] {
                assert!(fs::read(mount.join(path)).is_err(), "{path}");
            }
        }
    });
    // Out of the backing altogether, with a descriptor on it: ".." still ends at the mount's own root.
    fs::create_dir_all(mount.join("c/d")).unwrap();
    let held = rustix::fs::open(mount.join("c/d"), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    fs::rename(backing.join("c"), yard.outside.path().join("c")).unwrap();
    let up = rustix::fs::openat(&held, "../../secret", OFlags::RDONLY, Mode::empty());
    assert!(up.is_err(), "reached the secret");
}

#[test]
fn hard_links_stay_inside() {
    crate::common::need_fuse!();
    let yard = Yard::new();
    let secret = yard.outside.path().join("secret");
    assert_eq!(
        fs::hard_link(&secret, yard.volume.path().join("in")).unwrap_err().raw_os_error(),
        Some(Errno::XDEV.raw_os_error())
    );
    fs::write(yard.volume.path().join("file"), "x").unwrap();
    let out = fs::hard_link(yard.volume.path().join("file"), yard.outside.path().join("out"));
    assert_eq!(out.unwrap_err().raw_os_error(), Some(Errno::XDEV.raw_os_error()));
    // A link to a symbolic link is one to the link itself.
    symlink(&secret, yard.volume.path().join("link")).unwrap();
    fs::hard_link(yard.volume.path().join("link"), yard.volume.path().join("same")).unwrap();
    assert!(fs::symlink_metadata(yard.volume.backing().join("same")).unwrap().is_symlink());
    assert_eq!(yard.secret(), "secret");
}

#[test]
fn set_id_bits_and_devices_have_no_force() {
    crate::common::need_fuse!();
    let yard = Yard::new();
    let mount = yard.volume.path();
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = table.lines().find(|line| line.split(' ').nth(1) == mount.to_str()).unwrap();
    assert!(line.contains("nosuid") && line.contains("nodev"), "{line}");
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let zero = rustix::fs::makedev(1, 5);
    rustix::fs::mknodat(CWD, mount.join("zero"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), zero).unwrap();
    assert!(fs::symlink_metadata(mount.join("zero")).unwrap().file_type().is_char_device());
    assert_eq!(rustix::fs::stat(mount.join("zero")).unwrap().st_rdev, zero);
    let opened = fs::File::open(mount.join("zero")).unwrap_err();
    assert_eq!(opened.raw_os_error(), Some(Errno::ACCESS.raw_os_error()));
}
