//! What the kernel keeps of files: nothing of it is older than the last write or change that was answered.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stunfs::Volume;
use stunfs::internal::fs::CacheMode;
use stunfs::internal::time::pause;

const BLOCK: usize = 64 << 10;
const BLOCKS: usize = 10;

/// Linux's own asynchronous I/O: each request is under way when the call returns.
struct Aio(libc::c_ulong);

/// `struct iocb`.
#[repr(C)]
#[derive(Default)]
struct Request {
    data: u64,
    key: u32,
    rw_flags: i32,
    opcode: u16,
    priority: i16,
    fd: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    event_fd: u32,
}

/// `IOCB_CMD_PWRITE`.
const PWRITE: u16 = 1;

impl Aio {
    fn new() -> Self {
        let mut context: libc::c_ulong = 0;
        // SAFETY: the kernel writes one number to where `context` is.
        let made = unsafe { libc::syscall(libc::SYS_io_setup, BLOCKS, &raw mut context) };
        assert_eq!(made, 0, "io_setup: {}", std::io::Error::last_os_error());
        Self(context)
    }

    /// Writes `data` in blocks, all at once, and waits for all of them.
    fn write(&self, file: &File, data: &Aligned) {
        let fd = u32::try_from(file.as_raw_fd()).unwrap();
        let requests = data.0.iter().enumerate().map(|(block, bytes)| Request {
            opcode: PWRITE,
            fd,
            buffer: bytes.0.as_ptr() as u64,
            bytes: BLOCK as u64,
            offset: i64::try_from(block * BLOCK).unwrap(),
            ..Request::default()
        });
        let mut requests: Vec<Request> = requests.collect();
        let pointers: Vec<*mut Request> = requests.iter_mut().map(std::ptr::from_mut).collect();
        // SAFETY: the requests and what they write live until their events have been taken, below.
        let sent = unsafe { libc::syscall(libc::SYS_io_submit, self.0, pointers.len(), pointers.as_ptr()) };
        assert_eq!(usize::try_from(sent), Ok(BLOCKS), "io_submit: {}", std::io::Error::last_os_error());
        let mut events = [[0u64; 4]; BLOCKS];
        let none = std::ptr::null::<libc::timespec>();
        // SAFETY: there is room for as many events as are asked for.
        let taken = unsafe { libc::syscall(libc::SYS_io_getevents, self.0, BLOCKS, BLOCKS, events.as_mut_ptr(), none) };
        assert_eq!(usize::try_from(taken), Ok(BLOCKS));
        assert!(events.iter().all(|event| event[2] == BLOCK as u64), "written in part: {events:?}");
    }
}

impl Drop for Aio {
    fn drop(&mut self) {
        // SAFETY: nothing is under way: `write` has waited for it.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.0) };
    }
}

/// `O_DIRECT` wants aligned memory.
#[repr(align(4096))]
#[derive(Clone, Copy)]
struct Block([u8; BLOCK]);

struct Aligned(Vec<Block>);

impl Aligned {
    fn of(byte: u8) -> Self {
        Self(vec![Block([byte; BLOCK]); BLOCKS])
    }
}

fn open_direct(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(path).unwrap()
}

/// Sets a flag when it goes, also if the test has failed.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_buffered_read_sees_what_asynchronous_direct_writes_wrote() {
    crate::common::need_fuse!();
    for cache in [CacheMode::Through, CacheMode::Back] {
        let volume = Volume::builder().cache(cache).mount().unwrap();
        let path = volume.path().join("f");
        fs::write(&path, vec![0x55; BLOCK * BLOCKS]).unwrap();
        File::open(&path).unwrap().sync_all().unwrap();
        let (direct, cached, aio) = (open_direct(&path), File::open(&path).unwrap(), Aio::new());
        let over = AtomicBool::new(false);
        let stale = std::thread::scope(|scope| {
            let over_at_end = Over(&over);
            // Another reader brings pages back at any moment.
            scope.spawn(|| {
                let (cached, mut buffer) = (File::open(&path).unwrap(), vec![0; BLOCK * BLOCKS]);
                while !over.load(Ordering::SeqCst) {
                    cached.read_exact_at(&mut buffer, 0).unwrap();
                }
            });
            let mut buffer = vec![0; BLOCK * BLOCKS];
            let stale = (0..100u8).filter(|round| {
                aio.write(&direct, &Aligned::of(*round));
                cached.read_exact_at(&mut buffer, 0).unwrap();
                buffer.iter().any(|byte| byte != round)
            });
            let stale = stale.count();
            drop(over_at_end);
            stale
        });
        assert_eq!(stale, 0, "{cache:?}: of 100 reads");
        drop((direct, cached));
        volume.unmount().unwrap();
    }
}

#[test]
fn times_are_those_after_a_held_asynchronous_direct_write() {
    crate::common::need_fuse!();
    let volume = Volume::builder().first_write("50ms".parse().unwrap()).mount().unwrap();
    let aio = Aio::new();
    let over = AtomicBool::new(false);
    let names = ["a", "b", "c", "d"];
    for name in names {
        let size = u64::try_from(BLOCK * BLOCKS).unwrap();
        File::create(volume.path().join(name)).unwrap().set_len(size).unwrap();
    }
    std::thread::scope(|scope| {
        let _over_at_end = Over(&over);
        // While the writes are held, it learns the times before them.
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                for name in names {
                    fs::metadata(volume.path().join(name)).unwrap();
                }
            }
        });
        for name in names {
            aio.write(&open_direct(&volume.path().join(name)), &Aligned::of(1));
            // A `stat` that began before the write was answered may still bring its times.
            pause(Duration::from_millis(5));
            let [seen, there] = [volume.path(), volume.backing()].map(|root| fs::metadata(root.join(name)).unwrap());
            let times = |data: &fs::Metadata| (data.mtime(), data.mtime_nsec(), data.ctime(), data.ctime_nsec());
            assert_eq!(times(&seen), times(&there), "{name}");
        }
    });
    volume.unmount().unwrap();
}

#[test]
fn chattr_changes_the_change_time_that_stat_shows() {
    crate::common::need_fuse!();
    let volume = Volume::builder().mount().unwrap();
    let path = volume.path().join("f");
    File::create(&path).unwrap().write_all(b"x").unwrap();
    let before = fs::metadata(&path).unwrap();
    pause(Duration::from_millis(20));
    let done = Command::new("chattr").arg("+A").arg(&path).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let after = fs::metadata(&path).unwrap();
    assert!((after.ctime(), after.ctime_nsec()) > (before.ctime(), before.ctime_nsec()));
    volume.unmount().unwrap();
}
