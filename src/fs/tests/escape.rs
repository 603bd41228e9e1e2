//! Attempts to get out of the backing.

use super::*;

#[test]
fn no_name_leads_out() {
    let w = World::new();
    std::fs::create_dir(w.backing("d")).unwrap();
    std::fs::write(w.backing("f"), "").unwrap();
    let d = w.find("d").attr.ino;
    for bad in ["", ".", "..", "../x", "a/b", "/etc", "d/../..", "a\0b"] {
        let n = name(bad);
        let refused = [
            ask(|r| w.fs.mkdir(DAEMON, d, n, 0o755, 0, r)).map(drop),
            ask(|r| w.fs.mknod(DAEMON, d, n, 0o100_644, 0, 0, r)).map(drop),
            ask(|r| w.fs.create(DAEMON, d, n, 0o644, 0, RDWR, r)).map(drop),
            ask(|r| w.fs.symlink(DAEMON, d, n, name("t"), r)).map(drop),
            ask(|r| w.fs.link(DAEMON, w.find("f").attr.ino, d, n, r)).map(drop),
            ask(|r| w.fs.unlink(DAEMON, d, n, r)),
            ask(|r| w.fs.rmdir(DAEMON, d, n, r)),
            w.rename((ROOT, "f"), (d, bad), 0),
            w.rename((d, bad), (ROOT, "g"), 0),
        ];
        assert!(refused.iter().all(|result| result.is_err_and(|error| error.errno() == 22)), "{bad:?}: {refused:?}");
        if !bad.is_empty() && bad != "." && bad != ".." {
            assert_eq!(w.lookup(d, bad).unwrap_err().errno(), 22, "{bad:?}");
        }
    }
}

#[test]
fn a_symbolic_link_is_an_object_not_a_way() {
    let w = World::new();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    std::os::unix::fs::symlink(outside.path(), w.backing("out")).unwrap();
    let link = w.lookup(ROOT, "out").unwrap().attr;
    assert_eq!(link.kind, FileKind::Symlink);
    assert_eq!(w.lookup(link.ino, "secret").unwrap_err().errno(), 20);
    assert!(w.open(link.ino, RDWR).is_err());
    assert!(w.truncate(link.ino, 0).is_err());
    assert!(w.setattr_as(DAEMON, link.ino, SetAttr { mode: Some(0o777), ..SetAttr::default() }).is_err());
    assert!(ask(|r| w.fs.opendir(DAEMON, link.ino, r)).is_err());
    assert!(ask(|r| w.fs.create(DAEMON, link.ino, name("x"), 0o644, 0, RDWR, r)).is_err());
    assert_eq!(std::fs::read(outside.path().join("secret")).unwrap(), b"secret");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn a_directory_swapped_for_a_link_stays_the_directory() {
    let w = World::new();
    let outside = tempfile::tempdir().unwrap();
    std::fs::create_dir(w.backing("d")).unwrap();
    let d = w.find("d").attr.ino;
    std::fs::rename(w.backing("d"), w.backing("moved")).unwrap();
    std::os::unix::fs::symlink(outside.path(), w.backing("d")).unwrap();
    ask(|r| w.fs.create(DAEMON, d, name("x"), 0o644, 0, RDWR, r)).unwrap();
    assert!(w.backing("moved/x").exists());
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    // A file swapped for a link after its look-up, too.
    std::fs::write(outside.path().join("target"), "12345").unwrap();
    std::fs::write(w.backing("f"), "1").unwrap();
    let f = w.find("f").attr.ino;
    std::fs::remove_file(w.backing("f")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("target"), w.backing("f")).unwrap();
    w.open(f, RDWR | TRUNC).unwrap();
    assert_eq!(std::fs::read(outside.path().join("target")).unwrap(), b"12345");
}

#[test]
fn a_directory_moved_out_does_not_lead_further_up() {
    let w = World::new();
    let outside = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(w.backing("a/b")).unwrap();
    let (a, b) = (w.find("a").attr.ino, w.find("a/b").attr.ino);
    if std::fs::rename(w.backing("a/b"), outside.path().join("b")).is_ok() {
        assert_eq!(w.lookup(b, "..").unwrap().attr.ino, a);
        let fh = ask(|r| w.fs.opendir(DAEMON, b, r)).unwrap().fh;
        let page = w.page(b, fh, 0, true, 10).unwrap();
        assert_eq!(page.iter().find(|entry| entry.name == "..").unwrap().ino, a);
    }
}
