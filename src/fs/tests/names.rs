//! Names: one node an object, every kind of object, renames, the paths that events show.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use super::*;

#[test]
fn an_object_has_one_node_by_all_its_names() {
    let w = World::new();
    let (node, fh) = w.create("a");
    assert_eq!(node, std::fs::metadata(w.backing("a")).unwrap().ino());
    let linked = w.link(node, ROOT, "b").unwrap();
    assert_eq!((linked.attr.ino, linked.attr.nlink), (node, 2));
    assert_eq!(w.lookup(ROOT, "b").unwrap(), w.lookup(ROOT, "a").unwrap());
    w.fs.release(fh);
    // create, link, two look-ups.
    w.fs.forget(node, 3);
    assert!(w.getattr(node, None).is_ok());
    w.fs.forget(node, 1);
    assert_eq!(w.getattr(node, None), Err(FsError::UnknownNode));
    assert_eq!(w.fs.store.table.len(), 1);
}

#[test]
fn an_object_keeps_its_generation_and_another_one_on_its_node_has_its_own() {
    let w = World::new();
    if w.fs.store.handles.is_none() {
        return;
    }
    let look_up_and_forget = || {
        let found = w.lookup(ROOT, "a").unwrap();
        w.fs.forget(found.attr.ino, 1);
        (found.attr.ino, found.generation)
    };
    std::fs::write(w.backing("a"), "").unwrap();
    let first = look_up_and_forget();
    assert_eq!(look_up_and_forget(), first);
    // The backing uses the inode number again.
    let again = (0..100).find_map(|_| {
        std::fs::remove_file(w.backing("a")).unwrap();
        std::fs::write(w.backing("a"), "").unwrap();
        Some(look_up_and_forget()).filter(|found| found.0 == first.0)
    });
    if let Some(again) = again {
        assert_ne!(again.1, first.1);
    }
}

#[test]
fn a_node_that_the_kernel_has_forgotten_is_found_by_its_handle() {
    let w = World::new();
    if w.fs.store.handles.is_none() {
        return;
    }
    std::fs::create_dir_all(w.backing("a/b")).unwrap();
    std::fs::write(w.backing("a/b/f"), "x").unwrap();
    let entries = ["a", "a/b", "a/b/f"].map(|path| w.find(path));
    // The kernel forgets all of them, those below first.
    for entry in entries.iter().rev() {
        w.fs.forget(entry.attr.ino, u64::MAX);
        assert_eq!(w.getattr(entry.attr.ino, None), Err(FsError::UnknownNode));
    }
    let [a, b, f] = entries.map(|entry| (entry.attr.ino, entry.generation));
    let asked = |node: u64, name: &str| w.lookup(node, name).map(|entry| (entry.attr.ino, entry.generation));
    assert_eq!([asked(f.0, "."), asked(b.0, ".")], [Ok(f), Ok(b)]);
    assert_eq!(asked(b.0, ".."), Ok(a));
    assert_eq!(asked(a.0, "..").map(|found| found.0), Ok(ROOT));
    // A directory outside is not to be had, although the backing's file system has it.
    let outside = tempfile::tempdir().unwrap();
    let outside = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(outside.path()).unwrap());
    assert_eq!(asked(outside, "."), Err(FsError::UnknownNode));
    // Nor what is gone.
    w.fs.forget(f.0, u64::MAX);
    std::fs::remove_file(w.backing("a/b/f")).unwrap();
    assert!(asked(f.0, ".").is_err());
}

#[test]
fn the_root_is_node_one_and_is_never_forgotten() {
    let w = World::new();
    w.fs.forget(ROOT, u64::MAX);
    assert_eq!(w.getattr(ROOT, None).unwrap().kind, FileKind::Directory);
    assert_eq!(w.lookup(ROOT, ".").unwrap().attr.ino, ROOT);
    assert_eq!(w.lookup(ROOT, "..").unwrap().attr.ino, ROOT);
}

#[test]
fn every_kind_of_object_can_be_made() {
    let w = World::new();
    let make = |name: &str, mode: u32, rdev: u32| {
        ask(|r| w.fs.mknod(DAEMON, ROOT, name.as_ref(), mode, 0o022, rdev, r)).unwrap().attr
    };
    assert_eq!(make("file", 0o100_666, 0).kind, FileKind::RegularFile);
    assert_eq!(make("fifo", 0o010_666, 0).kind, FileKind::NamedPipe);
    assert_eq!(make("socket", 0o140_666, 0).kind, FileKind::Socket);
    if is_root() {
        let device = make("null", 0o020_666, 0x103);
        assert_eq!((device.kind, device.rdev, device.perm), (FileKind::CharDevice, 0x103, 0o644));
    }
    assert!(std::fs::metadata(w.backing("fifo")).unwrap().file_type().is_fifo());
    let dir = ask(|r| w.fs.mkdir(DAEMON, ROOT, name("dir"), 0o1777, 0o022, r)).unwrap().attr;
    assert_eq!((dir.kind, dir.perm), (FileKind::Directory, 0o1755));
    let link = ask(|r| w.fs.symlink(DAEMON, ROOT, name("link"), name("/no/where"), r)).unwrap().attr;
    assert_eq!(link.kind, FileKind::Symlink);
    assert_eq!(ask(|r| w.fs.readlink(DAEMON, link.ino, r)).unwrap(), b"/no/where");
    let again = w.link(link.ino, ROOT, "link2").unwrap();
    assert_eq!((again.attr.kind, again.attr.ino), (FileKind::Symlink, link.ino));
}

#[test]
fn removed_names_are_gone_and_open_files_are_not() {
    let w = World::new();
    let (node, fh) = w.create("a");
    w.write(node, fh, 0, b"still here").unwrap();
    w.unlink(ROOT, "a").unwrap();
    assert_eq!(w.lookup(ROOT, "a").unwrap_err().errno(), 2);
    assert_eq!(w.read(node, fh, 0, 100).unwrap(), b"still here");
    assert_eq!(w.getattr(node, Some(fh)).unwrap().nlink, 0);
    let set = SetAttr { size: Some(5), fh: Some(fh), ..SetAttr::default() };
    assert_eq!(w.setattr_as(DAEMON, node, set).unwrap().size, 5);
    let dir = w.mkdir(ROOT, "d").unwrap().attr.ino;
    w.mkdir(dir, "e").unwrap();
    assert_eq!(ask(|r| w.fs.rmdir(DAEMON, ROOT, name("d"), r)).unwrap_err().errno(), 39);
    ask(|r| w.fs.rmdir(DAEMON, dir, name("e"), r)).unwrap();
    ask(|r| w.fs.rmdir(DAEMON, ROOT, name("d"), r)).unwrap();
}

#[test]
fn renames_replace_refuse_and_exchange() {
    let w = World::new();
    for (name, text) in [("a", "1"), ("b", "2"), ("c", "3")] {
        std::fs::write(w.backing(name), text).unwrap();
    }
    let content = |name: &str| std::fs::read_to_string(w.backing(name)).unwrap();
    assert_eq!(w.rename((ROOT, "a"), (ROOT, "b"), 1).unwrap_err().errno(), 17);
    w.rename((ROOT, "a"), (ROOT, "b"), 2).unwrap();
    assert_eq!((content("a"), content("b")), ("2".into(), "1".into()));
    w.rename((ROOT, "a"), (ROOT, "c"), 0).unwrap();
    assert_eq!(content("c"), "2");
    assert!(!w.backing("a").exists());
}

#[test]
fn paths_follow_renames_of_directories() {
    let w = World::new();
    std::fs::create_dir_all(w.backing("var/log/pods")).unwrap();
    std::fs::write(w.backing("var/log/pods/0.log"), "").unwrap();
    let file = w.find("var/log/pods/0.log").attr.ino;
    let var = w.find("var").attr.ino;
    assert_eq!(w.path(file), "var/log/pods/0.log");
    assert_eq!(w.path(ROOT), ".");
    w.rename((var, "log"), (ROOT, "logs"), 0).unwrap();
    assert_eq!(w.path(file), "logs/pods/0.log");
    std::fs::create_dir(w.backing("other")).unwrap();
    w.find("other");
    w.rename((ROOT, "logs"), (ROOT, "other"), 2).unwrap();
    assert_eq!(w.path(file), "other/pods/0.log");
    let pods = w.find("other/pods").attr.ino;
    let entry = w.fs.path(&w.fs.inode(pods).unwrap(), Some(name("new")));
    assert_eq!(&*entry, "other/pods/new");
    w.unlink(pods, "0.log").unwrap();
    assert_eq!(w.path(file), "?");
}

#[test]
fn dots_follow_the_tree() {
    let w = World::new();
    std::fs::create_dir_all(w.backing("a/b")).unwrap();
    let (a, b) = (w.find("a").attr.ino, w.find("a/b").attr.ino);
    assert_eq!(w.lookup(b, "..").unwrap().attr.ino, a);
    assert_eq!(w.lookup(a, "..").unwrap().attr.ino, ROOT);
    assert_eq!(w.lookup(b, ".").unwrap().attr.ino, b);
}
