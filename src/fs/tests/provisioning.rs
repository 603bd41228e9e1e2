//! What the provisioning tracker is told, and when.

use super::*;

#[test]
fn a_new_file_is_created_and_removed_once() {
    let w = World::new();
    let (node, fh) = w.create("a");
    w.write(node, fh, 0, b"data").unwrap();
    assert_eq!(w.tracker.take(), [Told::Created(node)]);
    w.unlink(ROOT, "a").unwrap();
    w.fs.forget(node, 1);
    assert_eq!(w.tracker.take(), [], "it is still open");
    w.fs.release(fh);
    assert_eq!(w.tracker.take(), [Told::Removed(node, 0)]);
}

#[test]
fn a_file_that_was_there_is_learned_before_its_first_write_only() {
    let w = World::new();
    std::fs::write(w.backing("a"), [1; 8192]).unwrap();
    let node = w.find("a").attr.ino;
    let fh = w.open(node, RDWR).unwrap();
    w.read(node, fh, 0, 100).unwrap();
    w.getattr(node, None).unwrap();
    assert_eq!(w.tracker.take(), []);
    w.write(node, fh, 8192, b"x").unwrap();
    w.write(node, fh, 8193, b"x").unwrap();
    assert_eq!(w.tracker.take(), [Told::Learned(node, vec![ByteRange::at(0, 8192)])]);
}

#[test]
fn reads_learn_if_they_are_to_pay() {
    let w = World::new();
    std::fs::write(w.backing("a"), [1; 4096]).unwrap();
    let node = w.find("a").attr.ino;
    let fh = w.open(node, RDONLY).unwrap();
    w.tracker.learned_reads.store(true, Ordering::Relaxed);
    w.read(node, fh, 0, 100).unwrap();
    assert_eq!(w.tracker.take(), [Told::Learned(node, vec![ByteRange::at(0, 4096)])]);
}

#[test]
fn truncation_learns_then_frees() {
    let w = World::new();
    std::fs::write(w.backing("a"), [1; 8192]).unwrap();
    let node = w.find("a").attr.ino;
    w.truncate(node, 4096).unwrap();
    let learned = Told::Learned(node, vec![ByteRange::at(0, 8192)]);
    assert_eq!(w.tracker.take(), [learned, Told::Freed(node, ByteRange::from(4096))]);
    w.open(node, RDWR | TRUNC).unwrap();
    assert_eq!(w.tracker.take(), [Told::Freed(node, ByteRange::from(0))]);
    w.create_as(DAEMON, "a", 0o644, 0, RDWR | TRUNC).unwrap();
    assert_eq!(w.tracker.take(), [Told::Freed(node, ByteRange::from(0))]);
}

#[test]
fn a_file_that_was_never_learned_tells_its_size_when_it_goes() {
    let w = World::new();
    std::fs::write(w.backing("a"), [1; 5000]).unwrap();
    let node = w.find("a").attr.ino;
    w.unlink(ROOT, "a").unwrap();
    w.fs.forget(node, 1);
    assert_eq!(w.tracker.take(), [Told::Removed(node, 8192)]);
}

/// A look-up found the file, then the file went with its inode, then the look-up went on: the tracker heard of the end
/// twice, and took the file's data out of the pool twice.
#[test]
fn regression_a_look_up_beside_the_unlink_told_the_end_twice() {
    let w = World::new();
    std::fs::write(w.backing("a"), [1; 5000]).unwrap();
    let node = w.find("a").attr.ino;
    let object = Object::named(open_path(&w.fs.object(&w.fs.root).unwrap(), name("a")).unwrap());
    let stat = object.stat().unwrap();
    w.unlink(ROOT, "a").unwrap();
    w.fs.forget(node, 1);
    assert_eq!(w.tracker.take(), [Told::Removed(node, 8192)]);
    let late = w.fs.enter(&w.fs.root, name("a"), object, &stat).1.attr.ino;
    w.fs.forget(late, 1);
    assert_eq!(w.tracker.take(), []);
}

/// As above, but the file is written to before it ends: what the tracker learned ends with it.
#[test]
fn a_file_without_a_name_that_is_learned_again_ends_again() {
    let w = World::new();
    let (node, fh) = w.create("a");
    w.fs.release(fh);
    let object = Object::named(open_path(&w.fs.object(&w.fs.root).unwrap(), name("a")).unwrap());
    let stat = object.stat().unwrap();
    w.unlink(ROOT, "a").unwrap();
    w.fs.forget(node, 1);
    w.tracker.take();
    let late = w.fs.enter(&w.fs.root, name("a"), object, &stat).1.attr.ino;
    let fh = w.open(late, RDWR).unwrap();
    w.write(late, fh, 0, b"data").unwrap();
    w.fs.release(fh);
    w.fs.forget(late, 1);
    assert_eq!(w.tracker.take(), [Told::Learned(late, Vec::new()), Told::Removed(late, 0)]);
}

#[test]
fn a_file_goes_with_its_last_name() {
    let w = World::new();
    let (node, fh) = w.create("a");
    w.fs.release(fh);
    w.link(node, ROOT, "b").unwrap();
    w.unlink(ROOT, "a").unwrap();
    w.fs.forget(node, 2);
    assert_eq!(w.tracker.take(), [Told::Created(node)]);
    assert_eq!(w.find("b").attr.ino, node);
    w.unlink(ROOT, "b").unwrap();
    w.fs.forget(node, 1);
    // Forgotten once, it is not known to have been created here: its size is told (0 bytes).
    assert_eq!(w.tracker.take(), [Told::Removed(node, 0)]);
}

#[test]
fn what_is_renamed_over_is_gone() {
    let w = World::new();
    let ((new, new_fh), (old, old_fh)) = (w.create("new"), w.create("old"));
    w.fs.release(new_fh);
    w.tracker.take();
    w.rename((ROOT, "new"), (ROOT, "old"), 0).unwrap();
    w.fs.forget(old, 1);
    assert_eq!(w.tracker.take(), []);
    w.fs.release(old_fh);
    assert_eq!(w.tracker.take(), [Told::Removed(old, 0)]);
    assert_eq!(w.find("old").attr.ino, new);
}

#[test]
fn copies_and_allocations_learn_the_target() {
    let w = World::new();
    std::fs::write(w.backing("a"), [1; 4096]).unwrap();
    std::fs::write(w.backing("b"), "").unwrap();
    let (a, b) = (w.find("a").attr.ino, w.find("b").attr.ino);
    let (from, to) = (w.open(a, RDONLY).unwrap(), w.open(b, RDWR).unwrap());
    let end = |fh| CopyEnd { fh, offset: 0 };
    assert_eq!(ask(|r| w.fs.copy_file_range(DAEMON, end(from), end(to), 4096, r)), Ok(4096));
    assert_eq!(w.tracker.take(), [Told::Learned(b, vec![])]);
    let fh = w.open(a, RDWR).unwrap();
    ask(|r| w.fs.fallocate(DAEMON, a, fh, 0, 8192, 0, r)).unwrap();
    assert_eq!(w.tracker.take(), [Told::Learned(a, vec![ByteRange::at(0, 4096)])]);
}

#[test]
fn an_identity_is_of_the_path_and_the_same_in_every_session() {
    let identities = |paths: [&str; 2]| {
        let w = World::new();
        std::fs::create_dir(w.backing("d")).unwrap();
        for path in paths {
            std::fs::write(w.backing(path), "x").unwrap();
            w.truncate(w.find(path).attr.ino, 0).unwrap();
        }
        std::mem::take(&mut *w.tracker.identities.lock())
    };
    let (first, second) = (identities(["a", "d/a"]), identities(["d/a", "a"]));
    assert_eq!((first[0], first[1]), (second[1], second[0]));
    assert_ne!(first[0], first[1]);
    let w = World::new();
    w.create("a");
    assert_eq!(w.tracker.identities.lock()[0], first[0], "made or found: the same");
}

#[test]
fn only_one_of_many_writers_learns() {
    let w = World::new();
    std::fs::write(w.backing("a"), [1; 4096]).unwrap();
    let node = w.find("a").attr.ino;
    let fh = w.open(node, RDWR).unwrap();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let w = &w;
            scope.spawn(move || w.write(node, fh, n * 100, b"x").unwrap());
        }
    });
    assert_eq!(w.tracker.take(), [Told::Learned(node, vec![ByteRange::at(0, 4096)])]);
}
