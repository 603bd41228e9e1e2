//! No way around the model: whatever gives a file data shows the hold of a first write, or its absence.
//!
//! A grain is 64 KiB and every step writes one grain, so a step either provisions one grain and waits, or none.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::FallocateFlags;
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags};
use stunfs::Volume;
use stunfs::internal::fs::CacheMode;
use stunfs::internal::model::{Latency, Placement};
use stunfs::internal::units::GrainSize;

use crate::common::timed;

const WAIT: Duration = Duration::from_millis(30);
const GRAIN: u64 = 64 << 10;
const GRAIN_LEN: usize = 64 << 10;

/// A volume and what its steps cost.
struct Routes {
    volume: Volume,
    what: String,
}

impl Routes {
    fn new(cache: CacheMode, placement: Placement, discard: bool) -> Self {
        Self::with(cache, placement, discard, false)
    }

    fn with(cache: CacheMode, placement: Placement, discard: bool, fallocate: bool) -> Self {
        let configure = |options: &mut stunfs::internal::volume::VolumeOptions| {
            options.model.discard = discard;
            options.model.fallocate_provisions = fallocate;
        };
        let grain = GrainSize::new(stunfs::internal::units::Bytes(GRAIN)).unwrap();
        let latency = Latency::Constant(WAIT);
        let builder = Volume::builder().cache(cache).placement(placement).grain(grain).first_write(latency);
        let volume = builder.configure(configure).mount().unwrap();
        Self { volume, what: format!("{cache:?} {placement:?} discard {discard}") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.volume.path().join(name)
    }

    fn open(&self, name: &str) -> File {
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(self.path(name)).unwrap()
    }

    /// Does `step`, which must provision `grains`, and wait if and only if that is not 0.
    fn costs<T>(&self, grains: u64, name: &str, step: impl FnOnce() -> T) -> T {
        let provisioned = || self.volume.status().model.provisioned;
        let before = provisioned();
        let (value, took) = timed(step);
        assert_eq!(provisioned() - before, grains, "{}: {name}: grains provisioned", self.what);
        assert!(grains == 0 || took >= WAIT, "{}: {name} waited only {took:?}", self.what);
        value
    }

    fn fill(&self, grains: u64, name: &str) -> File {
        let file = self.open(name);
        self.costs(grains, name, || file.write_all_at(&[1; GRAIN_LEN], 0).unwrap());
        file
    }

    fn unmount(self) {
        self.volume.unmount().unwrap();
    }
}

/// Every placement, with discard and without, where `write(2)` itself waits.
fn everywhere(test: impl Fn(&Routes, bool)) {
    crate::common::need_fuse!();
    for cache in [CacheMode::Through, CacheMode::Direct] {
        for (placement, discard) in [
            (Placement::Packed, false),
            (Placement::Packed, true),
            (Placement::Direct, false),
            (Placement::Direct, true),
        ] {
            let routes = Routes::new(cache, placement, discard);
            // What is freed on a packed disk that is not trimmed is used again without a wait.
            let reused = placement == Placement::Packed && !discard;
            test(&routes, reused);
            routes.unmount();
        }
    }
}

fn map_and_write(file: &File, offset: u64) {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping, used only here, within the size of the file.
    unsafe {
        let map = rustix::mm::mmap(std::ptr::null_mut(), GRAIN_LEN, protection, MapFlags::SHARED, file.as_fd(), offset);
        let map = map.unwrap();
        map.cast::<u8>().write_bytes(9, GRAIN_LEN);
        rustix::mm::msync(map, GRAIN_LEN, MsyncFlags::SYNC).unwrap();
        rustix::mm::munmap(map, GRAIN_LEN).unwrap();
    }
}

#[test]
fn writes_appends_and_holes() {
    everywhere(|routes, _| {
        let file = routes.fill(1, "new");
        routes.costs(0, "rewrite", || file.write_all_at(&[2; GRAIN_LEN], 0).unwrap());
        routes.costs(0, "read", || file.read_exact_at(&mut [0; GRAIN_LEN], 0).unwrap());
        routes.costs(1, "append", || file.write_all_at(&[1; GRAIN_LEN], GRAIN).unwrap());
        routes.costs(0, "truncate up", || file.set_len(8 * GRAIN).unwrap());
        routes.costs(0, "read a hole", || file.read_exact_at(&mut [0; GRAIN_LEN], 5 * GRAIN).unwrap());
        routes.costs(1, "write into a hole", || file.write_all_at(&[1; GRAIN_LEN], 5 * GRAIN).unwrap());
        routes.costs(0, "fsync", || file.sync_all().unwrap());
        let direct = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(routes.path("new")).unwrap();
        routes.costs(1, "O_DIRECT", || direct.write_all_at(&[1; GRAIN_LEN], 6 * GRAIN).unwrap());
        routes.costs(0, "O_DIRECT, rewrite", || direct.write_all_at(&[2; GRAIN_LEN], 6 * GRAIN).unwrap());
        let synced = OpenOptions::new().append(true).custom_flags(libc::O_SYNC).open(routes.path("new")).unwrap();
        routes.costs(1, "O_SYNC, O_APPEND", || (&synced).write_all(&[1; GRAIN_LEN]).unwrap());
    });
}

#[test]
fn what_is_freed_and_written_again() {
    everywhere(|routes, reused| {
        let again = u64::from(!reused);
        let file = routes.fill(1, "file");
        routes.costs(0, "truncate", || file.set_len(0).unwrap());
        routes.costs(again, "write after truncate", || file.write_all_at(&[1; GRAIN_LEN], 0).unwrap());
        let truncated = || OpenOptions::new().write(true).truncate(true).open(routes.path("file")).unwrap();
        let file = routes.costs(0, "O_TRUNC", truncated);
        routes.costs(again, "write after O_TRUNC", || file.write_all_at(&[1; GRAIN_LEN], 0).unwrap());
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        routes.costs(0, "punch", || rustix::fs::fallocate(&file, punch, 0, GRAIN).unwrap());
        routes.costs(again, "write into the punched hole", || file.write_all_at(&[1; GRAIN_LEN], 0).unwrap());
        routes.costs(0, "zero", || rustix::fs::fallocate(&file, FallocateFlags::ZERO_RANGE, 0, GRAIN).unwrap());
        routes.costs(again, "write over zeroes", || file.write_all_at(&[1; GRAIN_LEN], 0).unwrap());
    });
}

#[test]
fn rename_over_and_unlink_free() {
    everywhere(|routes, reused| {
        let again = u64::from(!reused);
        drop(routes.fill(1, "old"));
        drop(routes.fill(1, "new"));
        frees(routes, "rename over", || fs::rename(routes.path("new"), routes.path("old")).unwrap());
        drop(routes.fill(again, "after rename"));
        let open = routes.open("after rename");
        routes.costs(0, "unlink", || fs::remove_file(routes.path("after rename")).unwrap());
        drop(routes.fill(1, "while it is open"));
        frees(routes, "close", || drop(open));
        drop(routes.fill(again, "when it is closed"));
    });
}

/// Does what frees a file's grain. The kernel closes and forgets files a moment after the last user does.
fn frees<T>(routes: &Routes, name: &str, step: impl FnOnce() -> T) {
    let pool = || routes.volume.status().model.pool;
    let before = pool();
    routes.costs(0, name, step);
    let freed = || pool().used_bytes < before.used_bytes || pool().reusable_bytes > before.reusable_bytes;
    assert!(
        stunfs::internal::time::wait_until(Duration::from_secs(10), Duration::from_millis(2), freed),
        "{name} freed nothing"
    );
}

#[test]
fn fallocate_provisions_only_if_it_is_told_to() {
    crate::common::need_fuse!();
    for placement in [Placement::Packed, Placement::Direct] {
        for provisions in [false, true] {
            let routes = Routes::with(CacheMode::Through, placement, false, provisions);
            let file = routes.open("file");
            let grains = u64::from(provisions);
            let allocate = || rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, GRAIN).unwrap();
            routes.costs(grains, "fallocate", allocate);
            routes.costs(1 - grains, "write", || file.write_all_at(&[1; GRAIN_LEN], 0).unwrap());
            routes.unmount();
        }
    }
}

#[test]
fn copies_inside_the_kernel() {
    everywhere(|routes, _| {
        let source = routes.fill(1, "source");
        let copy = routes.open("copy");
        routes.costs(1, "copy_file_range", || {
            let (mut from, mut to) = (0, 0);
            let copied =
                rustix::fs::copy_file_range(&source, Some(&mut from), &copy, Some(&mut to), GRAIN_LEN).unwrap();
            assert_eq!(copied, GRAIN_LEN);
        });
        let sent = routes.open("sent");
        routes.costs(1, "sendfile", || send_all(&source, &sent));
        assert_eq!(fs::read(routes.path("sent")).unwrap(), vec![1; GRAIN_LEN]);
        let spliced = routes.open("spliced");
        routes.costs(1, "splice", || splice_all(&source, &spliced));
        assert_eq!(fs::read(routes.path("spliced")).unwrap(), vec![1; GRAIN_LEN]);
    });
}

fn send_all(from: &File, to: &File) {
    let mut offset = 0;
    while offset < GRAIN {
        let left = usize::try_from(GRAIN - offset).unwrap();
        assert!(rustix::fs::sendfile(to, from, Some(&mut offset), left).unwrap() > 0);
    }
}

fn splice_all(from: &File, to: &File) {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let flags = rustix::pipe::SpliceFlags::empty();
    let (mut read, mut written) = (0, 0);
    while written < GRAIN {
        let taken = rustix::pipe::splice(from, Some(&mut read), &writer, None, GRAIN_LEN, flags).unwrap();
        let mut left = taken;
        while left > 0 {
            left -= rustix::pipe::splice(&reader, None, to, Some(&mut written), left, flags).unwrap();
        }
    }
}

#[test]
fn mapped_pages_wait_when_they_are_written_back() {
    crate::common::need_fuse!();
    for cache in [CacheMode::Through, CacheMode::Back, CacheMode::Direct] {
        for placement in [Placement::Packed, Placement::Direct] {
            let routes = Routes::new(cache, placement, false);
            let file = routes.open("file");
            file.set_len(4 * GRAIN).unwrap();
            routes.costs(1, "msync of a hole", || map_and_write(&file, GRAIN));
            routes.costs(0, "msync of data", || map_and_write(&file, GRAIN));
            routes.unmount();
        }
    }
}

#[test]
fn the_write_back_cache_waits_at_fsync() {
    crate::common::need_fuse!();
    for placement in [Placement::Packed, Placement::Direct] {
        let routes = Routes::new(CacheMode::Back, placement, false);
        let file = routes.open("file");
        routes.costs(0, "write", || file.write_all_at(&[1; GRAIN_LEN], 0).unwrap());
        routes.costs(1, "fsync", || file.sync_all().unwrap());
        routes.costs(0, "rewrite and fsync", || {
            file.write_all_at(&[2; GRAIN_LEN], 0).unwrap();
            file.sync_all().unwrap();
        });
        drop(file);
        let copy = routes.open("copy");
        let source = routes.open("file");
        routes.costs(1, "copy_file_range", || {
            rustix::fs::copy_file_range(&source, Some(&mut 0), &copy, Some(&mut 0), GRAIN_LEN).unwrap();
        });
        drop((source, copy));
        routes.unmount();
    }
}

#[test]
fn the_backing_shows_a_write_only_when_it_is_acknowledged() {
    crate::common::need_fuse!();
    let volume = Volume::builder().first_write(Latency::Constant(Duration::from_secs(60))).mount().unwrap();
    let path = volume.path().join("file");
    let writer = std::thread::spawn(move || fs::write(path, "held").unwrap());
    assert!(volume.wait_held(1, Duration::from_secs(10)));
    assert_eq!(fs::read(volume.backing().join("file")).unwrap(), b"");
    volume.release();
    writer.join().unwrap();
    assert_eq!(fs::read(volume.backing().join("file")).unwrap(), b"held");
    volume.unmount().unwrap();
}
