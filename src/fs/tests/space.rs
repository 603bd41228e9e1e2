//! Space: allocation, holes, copies, statfs, inode flags.

use std::os::unix::fs::{FileExt, MetadataExt};

use super::*;

fn allocate(w: &World, node: u64, fh: u64, mode: u32, range: ByteRange) -> FsResult<()> {
    ask(|r| w.fs.fallocate(DAEMON, node, fh, range.start, range.len(), mode, r))
}

#[test]
fn space_is_allocated_punched_and_zeroed() {
    let w = World::new();
    let (node, fh) = w.create("a");
    allocate(&w, node, fh, 0, ByteRange::at(0, 1 << 20)).unwrap();
    let attr = w.getattr(node, Some(fh)).unwrap();
    assert_eq!(attr.size, 1 << 20);
    assert!(attr.blocks >= 2048);
    allocate(&w, node, fh, 1, ByteRange::at(1 << 20, 1 << 20)).unwrap();
    assert_eq!(w.getattr(node, None).unwrap().size, 1 << 20);
    w.write(node, fh, 0, &[1; 16384]).unwrap();
    w.tracker.take();
    allocate(&w, node, fh, 3, ByteRange::at(4096, 4096)).unwrap();
    allocate(&w, node, fh, 0x10, ByteRange::at(8192, 4096)).unwrap();
    assert_eq!(w.read(node, fh, 4096, 8192).unwrap(), [0; 8192]);
    let freed = |start| Told::Freed(node, ByteRange::at(start, 4096));
    assert_eq!(w.tracker.take(), [freed(4096), freed(8192)]);
    assert_eq!(allocate(&w, node, fh, 2, ByteRange::at(0, 1)).unwrap_err().errno(), 95);
    assert_eq!(allocate(&w, node, fh, 0, ByteRange::at(0, 0)).unwrap_err().errno(), 22);
    assert_eq!(w.tracker.take(), []);
}

#[test]
fn ranges_are_not_collapsed_or_inserted() {
    let w = World::new();
    let (node, fh) = w.create("a");
    w.write(node, fh, 0, &[1; 4 * 65536]).unwrap();
    w.tracker.take();
    for mode in [0x08, 0x20] {
        assert_eq!(allocate(&w, node, fh, mode, ByteRange::at(0, 65536)).unwrap_err().errno(), 95);
    }
    assert_eq!(w.getattr(node, None).unwrap().size, 4 * 65536);
    assert_eq!(w.tracker.take(), []);
}

#[test]
fn data_and_holes_are_found() {
    let w = World::new();
    let (node, fh) = w.create("a");
    w.write(node, fh, 1 << 20, &[1; 4096]).unwrap();
    w.truncate(node, 4 << 20).unwrap();
    let seek = |offset, whence| ask(|r| w.fs.lseek(DAEMON, node, fh, offset, whence, r));
    assert_eq!(seek(0, 3), Ok(1 << 20));
    assert_eq!(seek(1 << 20, 4), Ok((1 << 20) + 4096));
    assert_eq!(seek(2 << 20, 3).unwrap_err().errno(), 6);
    assert_eq!(seek(-1, 3).unwrap_err().errno(), 6);
    assert_eq!(seek(0, 9).unwrap_err().errno(), 22);
}

#[test]
fn ranges_are_copied_as_far_as_the_source_goes() {
    let w = World::new();
    let ((_, from), (to_node, to)) = (w.create("a"), w.create("b"));
    w.write(0, from, 0, b"0123456789").unwrap();
    let copy = |offset, to_offset, len| {
        let ends = (CopyEnd { fh: from, offset }, CopyEnd { fh: to, offset: to_offset });
        ask(|r| w.fs.copy_file_range(DAEMON, ends.0, ends.1, len, r))
    };
    assert_eq!(copy(2, 1, 1 << 40), Ok(8));
    assert_eq!(w.read(to_node, to, 0, 100).unwrap(), b"\x0023456789");
    assert_eq!(copy(10, 0, 5), Ok(0));
    w.fs.release(from);
    assert_eq!(copy(0, 0, 5), Err(FsError::UnknownHandle));
}

#[test]
fn statfs_shows_the_virtual_disk() {
    let w = World::new();
    let space = ask(|r| w.fs.statfs(DAEMON, ROOT, r)).unwrap();
    let frsize = u64::from(space.frsize);
    assert_eq!(space.blocks * frsize, 1 << 40);
    assert_eq!(space.bavail * frsize, (1 << 40) - (1 << 30));
    assert_eq!(space.namelen, 255);
    let plain = FileSystem::new(open_root(w.dir.path()).unwrap(), Engine::pass_through(), FsOptions::default());
    let space = ask(|r| plain.unwrap().statfs(DAEMON, ROOT, r)).unwrap();
    assert!(space.blocks * frsize != 1 << 40 && space.blocks > space.bavail);
}

#[test]
fn inode_flags_pass_and_other_ioctls_do_not() {
    let w = World::new();
    let (node, fh) = w.create("a");
    let call = |node, fh, number, input: &[u8]| {
        ask(|r| w.fs.ioctl(DAEMON, node, fh, number, input, 28, r)).map(|answer: Vec<u8>| answer)
    };
    assert_eq!(call(node, fh, 0x5401, &[]), Err(FsError::UnknownIoctl));
    let Ok(flags) = call(node, fh, 0x8008_6601, &[]) else { return };
    // FS_NODUMP_FL
    let nodump = (u32::from_ne_bytes(flags.try_into().unwrap()) | 0x40).to_ne_bytes();
    assert_eq!(call(node, fh, 0x4008_6602, &nodump), Ok(Vec::new()));
    assert_eq!(call(node, fh, 0x8008_6601, &[]).unwrap(), nodump);
    let dir = ask(|r| w.fs.opendir(DAEMON, ROOT, r)).unwrap().fh;
    assert_eq!(call(ROOT, dir, 0x8008_6601, &[]).unwrap().len(), 4);
}

#[test]
fn sparse_files_stay_sparse() {
    let w = World::new();
    let (node, fh) = w.create("a");
    w.truncate(node, 1 << 40).unwrap();
    w.write(node, fh, 1 << 39, b"x").unwrap();
    let backing = std::fs::File::open(w.backing("a")).unwrap();
    let mut byte = [0];
    backing.read_exact_at(&mut byte, 1 << 39).unwrap();
    assert_eq!(byte, *b"x");
    assert!(backing.metadata().unwrap().blocks() < 100);
}
