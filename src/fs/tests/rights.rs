//! Owners and modes, as the caller's own file system would give them.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use super::*;

fn owner(w: &World, path: &str) -> (u32, u32, u32) {
    let meta = std::fs::symlink_metadata(w.backing(path)).unwrap();
    (meta.uid(), meta.gid(), meta.mode() & 0o7777)
}

#[test]
fn what_is_made_belongs_to_the_caller() {
    if !is_root() {
        return;
    }
    let w = World::new();
    let (entry, _) = w.create_as(USER, "file", 0o666, 0o027, RDWR).unwrap();
    assert_eq!((entry.attr.uid, entry.attr.gid, entry.attr.perm), (1000, 1001, 0o640));
    assert_eq!(owner(&w, "file"), (1000, 1001, 0o640));
    ask(|r| w.fs.mkdir(USER, ROOT, name("dir"), 0o777, 0o022, r)).unwrap();
    assert_eq!(owner(&w, "dir"), (1000, 1001, 0o755));
    ask(|r| w.fs.mknod(USER, ROOT, name("fifo"), 0o010_666, 0o077, 0, r)).unwrap();
    assert_eq!(owner(&w, "fifo"), (1000, 1001, 0o600));
    let link = ask(|r| w.fs.symlink(USER, ROOT, name("link"), name("file"), r)).unwrap();
    assert_eq!((link.attr.uid, owner(&w, "link").0), (1000, 1000));
}

#[test]
fn set_id_bits_outlive_the_change_of_owner() {
    if !is_root() {
        return;
    }
    let w = World::new();
    let (entry, _) = w.create_as(USER, "file", 0o6755, 0, RDWR).unwrap();
    assert_eq!((entry.attr.perm, owner(&w, "file")), (0o6755, (1000, 1001, 0o6755)));
    let uid = Some(1002);
    let attr = w.setattr_as(DAEMON, entry.attr.ino, SetAttr { uid, ..SetAttr::default() }).unwrap();
    assert_eq!((attr.uid, attr.perm), (1002, 0o755), "but not a chown");
}

#[test]
fn a_set_group_id_directory_gives_its_group() {
    if !is_root() {
        return;
    }
    let w = World::new();
    let dir = w.mkdir(ROOT, "shared").unwrap().attr.ino;
    let set = SetAttr { mode: Some(0o2777), gid: Some(2000), ..SetAttr::default() };
    w.setattr_as(DAEMON, dir, set).unwrap();
    ask(|r| w.fs.create(USER, dir, name("file"), 0o644, 0, RDWR, r)).unwrap();
    assert_eq!(owner(&w, "shared/file"), (1000, 2000, 0o644));
    ask(|r| w.fs.mkdir(USER, dir, name("sub"), 0o755, 0, r)).unwrap();
    assert_eq!(owner(&w, "shared/sub"), (1000, 2000, 0o2755));
}

#[test]
fn the_umask_is_the_callers() {
    let w = World::new();
    for (name, umask, mode) in [("a", 0, 0o666), ("b", 0o022, 0o644), ("c", 0o077, 0o600), ("d", 0, 0o666)] {
        w.create_as(DAEMON, name, 0o666, umask, RDWR).unwrap();
        assert_eq!(std::fs::metadata(w.backing(name)).unwrap().permissions().mode() & 0o777, mode);
    }
}

#[test]
fn a_default_acl_takes_the_umasks_place() {
    let w = World::new();
    let acl = Command::new("setfacl").args(["-d", "-m", "u::rwx,g::rwx,o::rx,u:1000:rwx"]).arg(w.dir.path()).status();
    if !acl.is_ok_and(|status| status.success()) {
        return;
    }
    let (entry, _) = w.create_as(DAEMON, "a", 0o666, 0o077, RDWR).unwrap();
    assert_eq!(entry.attr.perm, 0o664);
    let names = ask(|r| w.fs.listxattr(DAEMON, entry.attr.ino, 1000, r)).unwrap();
    assert!(matches!(names, Xattr::Data(names) if names == b"system.posix_acl_access\0"));
}

#[test]
fn a_caller_whom_nobody_can_look_at_takes_no_bits_by_a_chown_to_nothing_new() {
    if !is_root() {
        return;
    }
    let w = World::new();
    let (entry, opened) = w.create_as(DAEMON, "file", 0o6755, 0, RDWR).unwrap();
    let node = entry.attr.ino;
    let nothing = |c| w.setattr_as(c, node, SetAttr::default());
    let unknown = Caller { pid: 0, ..USER };
    w.fs.release(opened.fh);
    assert_eq!(nothing(unknown).unwrap_err().errno(), Errno::PERM.raw_os_error());
    assert_eq!(owner(&w, "file"), (0, 0, 0o6755));
    // While somebody has it open for writing, it may be the write of one who got the descriptor.
    let fh = w.open(node, WRONLY).unwrap();
    assert_eq!(nothing(Caller { pid: 0, ..DAEMON }).unwrap().perm, 0o6755, "root's write leaves them");
    assert_eq!(nothing(unknown).unwrap().perm, 0o755);
    w.fs.release(fh);
    w.setattr_as(DAEMON, node, SetAttr { mode: Some(0o6755), ..SetAttr::default() }).unwrap();
    assert_eq!(nothing(Caller { pid: 0, ..DAEMON }).unwrap().perm, 0o755, "root's chown takes them");
}

#[test]
fn capabilities_that_the_kernel_removes_stay_until_it_says_what_for() {
    if !is_root() {
        return;
    }
    let w = World::new();
    let (entry, opened) = w.create_as(DAEMON, "file", 0o755, 0, RDWR).unwrap();
    let (node, capability) = (entry.attr.ino, name("security.capability"));
    let value: Vec<u8> = [0x0200_0001_u32, 1 << 13, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
    let set = || ask(|r| w.fs.setxattr(DAEMON, node, capability, &value, 0, r)).unwrap();
    let has = || ask(|r| w.fs.getxattr(DAEMON, node, capability, 0, r)).is_ok();
    let (unknown, root) = (Caller { pid: 0, ..USER }, Caller { pid: 0, ..DAEMON });
    set();
    ask(|r| w.fs.removexattr(unknown, node, capability, r)).unwrap();
    assert!(has(), "one without CAP_SETFCAP cannot have asked for it");
    ask(|r| w.fs.write(unknown, false, opened.fh, 0, b"x", WriteKind::OfPages, r)).unwrap();
    assert!(has(), "pages that are written back take none");
    w.setattr_as(unknown, node, SetAttr::default()).unwrap();
    assert!(!has(), "a write that comes does");
    set();
    ask(|r| w.fs.removexattr(root, node, capability, r)).unwrap();
    assert!(!has(), "root has asked for it");
    ask(|r| w.fs.write(unknown, false, opened.fh, 0, b"x", WriteKind::OfPages, r)).unwrap();
    assert!(!has(), "and what was removed stays so");
}
