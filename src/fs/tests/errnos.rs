//! The same mistakes on the file system and on the backing: the same errno.

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};

use super::*;

fn direct<T>(result: Result<T, Errno>) -> i32 {
    result.err().map_or(0, Errno::raw_os_error)
}

fn through<T>(result: FsResult<T>) -> i32 {
    result.err().map_or(0, |error| error.errno())
}

#[test]
fn mistakes_with_names_get_the_backings_errno() {
    let w = World::new();
    std::fs::create_dir_all(w.backing("full/sub")).unwrap();
    std::fs::write(w.backing("file"), "").unwrap();
    let (full, file) = (w.find("full").attr.ino, w.find("file").attr.ino);
    let long = "x".repeat(256);
    let at = |path: &str| w.backing(path);
    let empty = Mode::empty();
    let none = AtFlags::empty();
    let flags = RenameFlags::NOREPLACE;
    let pairs = [
        (through(w.lookup(ROOT, "no")), direct(rustix::fs::lstat(at("no")))),
        (through(w.lookup(ROOT, &long)), direct(rustix::fs::lstat(at(&long)))),
        (through(w.lookup(file, "x")), direct(rustix::fs::lstat(at("file/x")))),
        (through(w.mkdir(ROOT, "full")), direct(rustix::fs::mkdir(at("full"), empty))),
        (through(w.mkdir(ROOT, &long)), direct(rustix::fs::mkdir(at(&long), empty))),
        (through(w.unlink(ROOT, "full")), direct(rustix::fs::unlink(at("full")))),
        (through(w.unlink(ROOT, "no")), direct(rustix::fs::unlink(at("no")))),
        (through(ask(|r| w.fs.rmdir(DAEMON, ROOT, name("file"), r))), direct(rustix::fs::rmdir(at("file")))),
        (through(ask(|r| w.fs.rmdir(DAEMON, ROOT, name("full"), r))), direct(rustix::fs::rmdir(at("full")))),
        (through(w.rename((ROOT, "no"), (ROOT, "x"), 0)), direct(rustix::fs::rename(at("no"), at("x")))),
        (through(w.rename((ROOT, "full"), (full, "sub"), 0)), direct(rustix::fs::rename(at("full"), at("full/sub")))),
        (through(w.rename((ROOT, "file"), (ROOT, "full"), 0)), direct(rustix::fs::rename(at("file"), at("full")))),
        (
            through(w.rename((ROOT, "file"), (ROOT, "full"), 1)),
            direct(rustix::fs::renameat_with(CWD, at("file"), CWD, at("full"), flags)),
        ),
        (through(w.link(full, ROOT, "x")), direct(rustix::fs::linkat(CWD, at("full"), CWD, at("x"), none))),
        (through(w.link(file, ROOT, "full")), direct(rustix::fs::linkat(CWD, at("file"), CWD, at("full"), none))),
    ];
    for (number, (through, direct)) in pairs.into_iter().enumerate() {
        assert!(through == direct && direct != 0, "{number}: {through} instead of {direct}");
    }
}

#[test]
fn mistakes_with_contents_get_the_backings_errno() {
    let w = World::new();
    let (node, _) = w.create("file");
    let (reading, writing) = (w.open(node, RDONLY).unwrap(), w.open(node, WRONLY).unwrap());
    let open = |flags| rustix::fs::open(w.backing("file"), flags, Mode::empty()).unwrap();
    let (reader, writer) = (open(OFlags::RDONLY), open(OFlags::WRONLY));
    let far = 1 << 62;
    let mut byte = [0];
    let pairs = [
        (through(w.write(node, reading, 0, b"x")), direct(rustix::io::pwrite(&reader, b"x", 0))),
        (through(w.read(node, writing, 0, 1)), direct(rustix::io::pread(&writer, &mut byte, 0))),
        (through(w.write(node, writing, far, b"x")), direct(rustix::io::pwrite(&writer, b"x", far))),
        (through(w.truncate(node, far)), direct(rustix::fs::ftruncate(&writer, far))),
        (
            through(ask(|r| w.fs.fallocate(DAEMON, node, reading, 0, 1, 0, r))),
            direct(rustix::fs::fallocate(&reader, rustix::fs::FallocateFlags::empty(), 0, 1)),
        ),
        (
            through(ask(|r| w.fs.setxattr(DAEMON, node, name("what.ever"), b"", 0, r))),
            direct(rustix::fs::setxattr(w.backing("file"), "what.ever", b"", rustix::fs::XattrFlags::empty())),
        ),
    ];
    for (number, (through, direct)) in pairs.into_iter().enumerate() {
        assert!(through == direct && direct != 0, "{number}: {through} instead of {direct}");
    }
}
