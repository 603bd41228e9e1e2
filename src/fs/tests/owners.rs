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
