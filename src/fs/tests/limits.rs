//! What happens when descriptors run short.

use std::process::Command;

use rustix::process::{Resource, Rlimit, setrlimit};

use super::*;

fn few(idle: u64) -> World {
    World::with(FsOptions { idle_descriptors: Some(idle), ..FsOptions::default() })
}

fn fill(w: &World, files: u64) -> Vec<u64> {
    (0..files).for_each(|n| std::fs::write(w.backing(&format!("f{n}")), n.to_string()).unwrap());
    (0..files).map(|n| w.find(&format!("f{n}")).attr.ino).collect()
}

#[test]
fn idle_objects_give_up_their_descriptors_and_are_found_again() {
    let w = few(50);
    if w.fs.store.handles.is_none() {
        return;
    }
    let nodes = fill(&w, 500);
    assert!(w.fs.store.budget.open() < 120, "{} are open", w.fs.store.budget.open());
    for (n, &node) in nodes.iter().enumerate() {
        let fh = w.open(node, RDONLY).unwrap();
        assert_eq!(w.read(node, fh, 0, 10).unwrap(), n.to_string().into_bytes());
        w.fs.release(fh);
    }
    assert!(w.fs.store.budget.open() < 120, "{} are open", w.fs.store.budget.open());
    for (n, &node) in nodes.iter().enumerate() {
        assert_eq!(w.find(&format!("f{n}")).attr.ino, node);
        w.fs.forget(node, 2);
    }
    assert_eq!((w.fs.store.table.len(), w.fs.store.budget.open()), (1, 1));
}

/// A process may have it still, by `O_PATH` or as its working directory.
#[test]
fn regression_an_idle_object_was_stale_after_its_last_name_was_removed() {
    let w = few(1);
    let nodes = fill(&w, 100);
    let dirs: Vec<u64> = (0..100)
        .map(|n| {
            std::fs::create_dir(w.backing(&format!("d{n}"))).unwrap();
            w.find(&format!("d{n}")).attr.ino
        })
        .collect();
    std::fs::write(w.backing("new"), "x").unwrap();
    for n in 0..100 {
        let (from, to) = (format!("f{n}"), format!("d{n}"));
        match n % 2 {
            0 => w.unlink(ROOT, &from).unwrap(),
            _ => {
                let next = format!("next{n}");
                std::fs::write(w.backing(&next), "x").unwrap();
                ask(|r| w.fs.rename(DAEMON, ROOT, name(&next), ROOT, name(&from), 0, r)).unwrap();
            }
        }
        ask(|r| w.fs.rmdir(DAEMON, ROOT, name(&to), r)).unwrap();
    }
    for node in nodes.into_iter().chain(dirs) {
        assert_eq!(w.getattr(node, None).map(|attr| attr.nlink), Ok(0), "{node}");
        w.fs.forget(node, u64::MAX);
    }
}

#[test]
fn an_inode_number_used_again_is_another_object() {
    let w = few(1);
    if w.fs.store.handles.is_none() {
        return;
    }
    let nodes = fill(&w, 200);
    w.tracker.take();
    // Removed behind the mount while nothing but the table knows them: the backing uses their numbers again.
    for n in 0..200 {
        std::fs::remove_file(w.backing(&format!("f{n}"))).unwrap();
    }
    let mut again = 0;
    for n in 0..200 {
        let (node, fh) = w.create(&format!("new{n}"));
        w.write(node, fh, 0, b"new").unwrap();
        let ino = w.fs.inode(node).unwrap().key.ino;
        again += usize::from(ino != node);
        w.fs.release(fh);
        assert_eq!(w.getattr(node, None).unwrap().size, 3);
    }
    assert!(again > 0, "the backing uses numbers again");
    assert!(nodes.iter().any(|&node| w.getattr(node, None).is_err()));
    nodes.iter().for_each(|&node| w.fs.forget(node, 1));
    let told = w.tracker.take();
    let removed = told.iter().filter(|told| matches!(told, Told::Removed(..))).count();
    assert_eq!(removed, 200, "each old file is removed once, none of the new ones");
}

#[test]
fn a_file_that_is_open_keeps_its_descriptor() {
    let w = few(4);
    let (node, fh) = w.create("open");
    w.unlink(ROOT, "open").unwrap();
    fill(&w, 200);
    assert_eq!(w.getattr(node, None).unwrap().nlink, 0);
    w.write(node, fh, 0, b"x").unwrap();
}

/// The limit is the process's: in a process of its own.
#[test]
fn without_descriptors_the_caller_gets_an_error_and_nobody_panics() {
    let this = std::env::current_exe().unwrap();
    let output = Command::new(this)
        .args(["--exact", "fs::tests::limits::run_out", "--include-ignored", "--nocapture"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
#[ignore = "changes the process's limits; another test starts it"]
fn run_out() {
    let limit = 256;
    setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum: Some(limit) }).unwrap();
    let w = few(u64::MAX);
    let with_handles = w.fs.store.handles.is_some();
    let nodes = fill(&w, if with_handles { 1000 } else { 100 });
    let mut open = Vec::new();
    let error = loop {
        match w.open(nodes[0], RDONLY) {
            Ok(fh) => open.push(fh),
            Err(error) => break error,
        }
        assert!(open.len() < 1000);
    };
    assert_eq!(error.errno(), 24);
    assert!(open.len() > 50, "idle objects make room for {} open files", open.len());
    assert_eq!(ask(|r| w.fs.create(DAEMON, ROOT, name("new"), 0o644, 0, RDWR, r)).unwrap_err().errno(), 24);
    assert!(w.getattr(nodes[0], None).is_ok());
    assert_eq!(w.read(nodes[0], open[0], 0, 10).unwrap(), b"0");
    open.iter().for_each(|&fh| w.fs.release(fh));
    assert!(w.open(nodes[1], RDWR).is_ok());
    assert!(w.find("f5").attr.size > 0);
}

/// Objects that were all used a moment ago made `with_room` give up after the first few.
#[test]
fn regression_emfile_although_there_are_idle_objects() {
    let w = few(u64::MAX);
    if w.fs.store.handles.is_none() {
        return;
    }
    fill(&w, 1000);
    assert!(w.fs.store.make_room());
    assert!(w.fs.store.make_room());
}
