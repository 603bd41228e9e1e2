//! Open files: contents, cache modes, attributes, set-id bits, extended attributes.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::*;

#[test]
fn what_is_written_is_read() {
    let w = World::new();
    let (node, fh) = w.create("a");
    assert_eq!(w.write(node, fh, 3, b"stun"), Ok(4));
    assert_eq!(w.read(node, fh, 0, 4096).unwrap(), b"\0\0\0stun");
    assert_eq!(w.read(node, fh, 7, 10).unwrap(), b"");
    let big = vec![7; 3 << 20];
    assert_eq!(w.write(node, fh, 0, &big), Ok(3 << 20));
    assert_eq!(w.read(node, fh, 0, 3 << 20).unwrap(), big);
    ask(|r| w.fs.fsync(DAEMON, fh, true, true, r)).unwrap();
    ask(|r| w.fs.fsync(DAEMON, fh, false, false, r)).unwrap();
    w.fs.release(fh);
    assert_eq!(w.read(node, fh, 0, 1), Err(FsError::UnknownHandle));
    assert_eq!(w.write(node, fh, 0, b"x"), Err(FsError::UnknownHandle));
}

#[test]
fn create_opens_what_is_there_unless_it_must_be_new() {
    let w = World::new();
    std::fs::write(w.backing("a"), "12345").unwrap();
    assert_eq!(w.create_as(DAEMON, "a", 0o644, 0, RDWR | EXCL).unwrap_err().errno(), 17);
    let (entry, opened) = w.create_as(DAEMON, "a", 0o644, 0, RDWR).unwrap();
    assert_eq!(w.read(entry.attr.ino, opened.fh, 0, 10).unwrap(), b"12345");
    w.create_as(DAEMON, "a", 0o644, 0, RDWR | TRUNC).unwrap();
    assert_eq!(std::fs::metadata(w.backing("a")).unwrap().len(), 0);
    std::os::unix::fs::symlink("a", w.backing("link")).unwrap();
    assert_eq!(w.create_as(DAEMON, "link", 0o644, 0, RDWR), Err(FsError::Replaced));
    let link = w.lookup(ROOT, "link").unwrap().attr.ino;
    w.fs.forget(link, 1);
    assert_eq!(w.getattr(link, None), Err(FsError::UnknownNode), "a failed create counts no look-up");
}

#[test]
fn open_truncates_if_the_kernel_leaves_it_to_us() {
    let w = World::new();
    std::fs::write(w.backing("a"), "12345").unwrap();
    let node = w.find("a").attr.ino;
    w.open(node, RDONLY | TRUNC).unwrap();
    assert_eq!(w.getattr(node, None).unwrap().size, 0);
}

#[test]
fn only_regular_files_are_opened() {
    let w = World::new();
    let fifo = ask(|r| w.fs.mknod(DAEMON, ROOT, name("fifo"), 0o010_644, 0, 0, r)).unwrap().attr.ino;
    assert_eq!(w.open(fifo, RDONLY), Err(FsError::NotRegular));
    assert_eq!(w.open(ROOT, RDONLY), Err(FsError::NotRegular));
}

#[test]
fn cache_modes_decide_how_files_are_opened() {
    let opened = |options: FsOptions, flags: i32| {
        let w = World::with(options);
        w.create("a");
        let node = w.find("a").attr.ino;
        let opened: Opened = ask(|r| w.fs.open(DAEMON, node, flags, r)).unwrap();
        (opened.keep_cache, opened.direct_io, opened.parallel_direct_writes, w.read(node, opened.fh, 0, 1).is_ok())
    };
    let cache = |cache| FsOptions { cache, ..FsOptions::default() };
    assert_eq!(opened(cache(CacheMode::Through), WRONLY), (true, false, false, false));
    assert_eq!(opened(cache(CacheMode::Back), WRONLY), (true, false, false, true));
    assert_eq!(opened(cache(CacheMode::Direct), RDWR), (false, true, true, true));
    let images = FsOptions { direct_io_for_o_direct: true, ..FsOptions::default() };
    let o_direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap();
    assert_eq!(opened(images, RDWR | o_direct), (false, true, true, true));
    assert_eq!(opened(images, RDWR), (true, false, false, true));
}

#[test]
fn appending_writes_go_where_the_kernel_says() {
    let w = World::new();
    w.create("a");
    let node = w.find("a").attr.ino;
    let append = i32::try_from(rustix::fs::OFlags::APPEND.bits()).unwrap();
    let fh = w.open(node, WRONLY | append).unwrap();
    w.write(node, fh, 0, b"12345").unwrap();
    w.write(node, fh, 1, b"X").unwrap();
    assert_eq!(std::fs::read(w.backing("a")).unwrap(), b"1X345");
}

#[test]
fn attributes_are_set_to_the_nanosecond() {
    let w = World::new();
    let (node, _) = w.create("a");
    let (atime, mtime) = (UNIX_EPOCH + Duration::new(1_600_000_000, 123_456_789), UNIX_EPOCH - Duration::new(5, 1));
    let set = SetAttr {
        mode: Some(0o640),
        size: Some(1 << 20),
        atime: Some(SetTime::At(atime)),
        mtime: Some(SetTime::At(mtime)),
        ..SetAttr::default()
    };
    let attr = w.setattr_as(DAEMON, node, set).unwrap();
    assert_eq!((attr.perm, attr.size, attr.atime, attr.mtime), (0o640, 1 << 20, atime, mtime));
    let backing = std::fs::metadata(w.backing("a")).unwrap();
    assert_eq!((backing.mode() & 0o7777, backing.len(), backing.mtime_nsec()), (0o640, 1 << 20, 999_999_999));
    let set = SetAttr { mtime: Some(SetTime::Now), ..SetAttr::default() };
    let attr = w.setattr_as(DAEMON, node, set).unwrap();
    assert!(attr.mtime > UNIX_EPOCH + Duration::from_secs(1_600_000_000) && attr.atime == atime);
    assert!(attr.ctime > SystemTime::UNIX_EPOCH);
}

#[test]
fn symbolic_links_have_times_and_owners_of_their_own() {
    let w = World::new();
    w.create("a");
    let link = ask(|r| w.fs.symlink(DAEMON, ROOT, name("link"), name("a"), r)).unwrap().attr.ino;
    let mtime = Some(SetTime::At(UNIX_EPOCH + Duration::from_secs(1)));
    let uid = is_root().then_some(7);
    let attr = w.setattr_as(DAEMON, link, SetAttr { mtime, uid, ..SetAttr::default() }).unwrap();
    assert_eq!(attr.mtime, UNIX_EPOCH + Duration::from_secs(1));
    let target = std::fs::metadata(w.backing("a")).unwrap();
    assert!(target.mtime() > 1 && target.uid() != 7);
}

#[test]
fn foreign_writes_and_truncations_cost_the_set_id_bits() {
    let w = World::new();
    let (node, fh) = w.create("a");
    let mode = || std::fs::metadata(w.backing("a")).unwrap().permissions().mode() & 0o7777;
    let set = |mode: u32| w.setattr_as(DAEMON, node, SetAttr { mode: Some(mode), ..SetAttr::default() }).unwrap();
    let write = |kind| ask(|r| w.fs.write(USER, false, fh, 0, b"x", kind, r)).unwrap();
    set(0o6755);
    write(WriteKind::WithFsetid);
    assert_eq!(mode(), 0o6755);
    write(WriteKind::WithoutFsetid);
    assert_eq!(mode(), 0o755);
    set(0o6745);
    write(WriteKind::WithoutFsetid);
    assert_eq!(mode(), 0o745, "without group execution it goes too, if the writer is not in the group");
    let member =
        Caller { gid: std::os::unix::fs::MetadataExt::gid(&std::fs::metadata(w.backing("a")).unwrap()), ..USER };
    set(0o6745);
    ask(|r| w.fs.write(member, false, fh, 0, b"x", WriteKind::WithoutFsetid, r)).unwrap();
    assert_eq!(mode(), 0o2745, "but not for one who is");
    set(0o4755);
    w.setattr_as(DAEMON, node, SetAttr { size: Some(0), ..SetAttr::default() }).unwrap();
    assert_eq!(mode(), 0o4755);
    let attr = w.setattr_as(USER, node, SetAttr { size: Some(0), ..SetAttr::default() }).unwrap();
    assert_eq!((mode(), attr.perm), (0o755, 0o755));
}

#[test]
fn attributes_beside_the_contents_are_the_backings() {
    let w = World::new();
    let (node, _) = w.create("a");
    let set = |name: &str, value: &[u8], flags| ask(|r| w.fs.setxattr(DAEMON, node, name.as_ref(), value, flags, r));
    let get = |name: &str, size| ask(|r| w.fs.getxattr(DAEMON, node, name.as_ref(), size, r));
    set("user.k", b"value", 0).unwrap();
    assert_eq!(set("user.k", b"", 1).unwrap_err().errno(), 17);
    assert_eq!(set("user.none", b"", 2).unwrap_err().errno(), 61);
    assert_eq!(get("user.k", 0), Ok(Xattr::Len(5)));
    assert_eq!(get("user.k", 5), Ok(Xattr::Data(b"value".to_vec())));
    assert_eq!(get("user.k", 4).unwrap_err().errno(), 34);
    assert_eq!(get("security.capability", 20).unwrap_err().errno(), 61);
    if is_root() {
        set("trusted.t", b"", 0).unwrap();
        let list = |c| ask(|r| w.fs.listxattr(c, node, 1000, r)).unwrap();
        assert_eq!(list(USER), Xattr::Data(b"user.k\0".to_vec()));
        assert!(matches!(list(DAEMON), Xattr::Data(names) if names.len() == 17));
    }
    assert_eq!(ask(|r| w.fs.listxattr(DAEMON, node, 3, r)).unwrap_err().errno(), 34);
    ask(|r| w.fs.removexattr(DAEMON, node, name("user.k"), r)).unwrap();
    assert_eq!(get("user.k", 0).unwrap_err().errno(), 61);
    // An object behind an O_PATH descriptor goes another way.
    let dir = w.mkdir(ROOT, "d").unwrap().attr.ino;
    ask(|r| w.fs.setxattr(DAEMON, dir, name("user.d"), b"1", 0, r)).unwrap();
    assert_eq!(ask(|r| w.fs.getxattr(DAEMON, dir, name("user.d"), 10, r)), Ok(Xattr::Data(b"1".to_vec())));
    assert_eq!(ask(|r| w.fs.listxattr(DAEMON, dir, 0, r)), Ok(Xattr::Len(7)));
}

#[test]
fn the_kernel_is_told_what_it_need_not_ask() {
    let w = World::new();
    let (node, _) = w.create("a");
    assert_eq!(ask(|r| w.fs.flush(DAEMON, node, r)), Err(FsError::NotNeeded));
    assert_eq!(ask(|r| w.fs.access(DAEMON, node, r)), Err(FsError::NotNeeded));
    assert_eq!(FsError::NotNeeded.errno(), 38);
}
