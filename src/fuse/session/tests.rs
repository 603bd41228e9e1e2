use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;

use fuser::{Errno, FileAttr, FileHandle, FileType, FopenFlags, Generation, INodeNo, Request};
use rustix::fs::getxattr;

use super::super::negotiate::negotiate;
use super::*;
use crate::options::CacheMode;
use crate::sys::{mountinfo, process};
use crate::time::wait_until;

const TICK: Duration = Duration::from_millis(2);
const SOON: Duration = Duration::from_secs(5);
const TTL: Duration = Duration::ZERO;

/// A root with one file in it. Attributes named `user.hold` are not answered until they are let go.
#[derive(Default, Clone)]
struct TestFs {
    held: Arc<Mutex<Vec<fuser::ReplyXattr>>>,
}

fn attr(ino: INodeNo) -> FileAttr {
    let (kind, perm) = if ino == INodeNo::ROOT { (FileType::Directory, 0o755) } else { (FileType::RegularFile, 0o644) };
    let epoch = std::time::UNIX_EPOCH;
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    FileAttr {
        ino,
        size: 0,
        blocks: 0,
        atime: epoch,
        mtime: epoch,
        ctime: epoch,
        crtime: epoch,
        kind,
        perm,
        nlink: 1,
        uid,
        gid,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl fuser::Filesystem for TestFs {
    fn init(&mut self, _req: &Request, config: &mut fuser::KernelConfig) -> io::Result<()> {
        negotiate(config, CacheMode::Through, 128);
        Ok(())
    }

    fn lookup(&self, _req: &Request, _parent: INodeNo, name: &OsStr, reply: fuser::ReplyEntry) {
        match name.to_str() {
            Some("file") => reply.entry(&TTL, &attr(INodeNo(2)), Generation(0)),
            _ => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: fuser::ReplyAttr) {
        reply.attr(&TTL, &attr(ino));
    }

    fn getxattr(&self, _req: &Request, _ino: INodeNo, name: &OsStr, _size: u32, reply: fuser::ReplyXattr) {
        match name.to_str() {
            Some("user.hold") => self.held.lock().push(reply),
            _ => reply.error(Errno::ENODATA),
        }
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: fuser::OpenFlags, reply: fuser::ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_NOFLUSH);
    }
}

impl TestFs {
    fn wait_for_held(&self) {
        assert!(wait_until(SOON, TICK, || !self.held.lock().is_empty()));
    }

    fn release(&self) {
        self.held.lock().drain(..).for_each(|reply| reply.error(Errno::ENODATA));
    }
}

/// Whether mounts can be tested here; says so if not.
fn can_mount() -> bool {
    match super::super::check_machine(false) {
        Ok(()) => true,
        Err(cause) if std::env::var_os("STUNFS_REQUIRE_FUSE").is_none() => {
            eprintln!("left out: {cause}");
            false
        }
        Err(cause) => panic!("{cause}"),
    }
}

fn mounted(threads: usize) -> Option<(Session, TestFs, tempfile::TempDir)> {
    if !can_mount() {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let spec = MountSpec {
        mountpoint: dir.path().canonicalize().unwrap(),
        fsname: "/a test, with space".into(),
        cache: CacheMode::Through,
        queue_depth: 128,
        threads,
        low_latency: false,
        allow_other: false,
        read_only: false,
    };
    let fs = TestFs::default();
    let session = Session::mount_any(|_| fs.clone(), |_| (), &spec, |_identity| Ok(())).unwrap();
    Some((session, fs, dir))
}

fn in_table(path: &Path) -> bool {
    mountinfo::at(&mountinfo::read().unwrap(), path).is_some()
}

/// Starts a thread whose request is held; its thread number.
fn hold(path: &Path) -> (u32, std::thread::JoinHandle<rustix::io::Errno>) {
    let (tell, tid) = channel();
    let path = path.to_owned();
    let thread = std::thread::spawn(move || {
        tell.send(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()).unwrap();
        getxattr(&path, "user.hold", &mut [0_u8; 8][..]).unwrap_err()
    });
    (tid.recv().unwrap(), thread)
}

fn state_of(tid: u32) -> char {
    process::TaskStat::read(tid.try_into().unwrap()).unwrap().state.into()
}

#[test]
fn the_first_waiter_is_in_state_d_with_any_number_of_threads() {
    for threads in [1, 2, 4] {
        let Some((session, fs, _dir)) = mounted(threads) else { return };
        assert_eq!(session.warnings(), [""; 0]);
        let (tid, waiter) = hold(session.mountpoint());
        fs.wait_for_held();
        let in_d = wait_until(SOON, TICK, || state_of(tid) == 'D');
        fs.release();
        waiter.join().unwrap();
        assert!(in_d, "{threads} threads");
    }
}

#[test]
fn a_mount_says_what_it_is() {
    let Some((session, _fs, _dir)) = mounted(2) else { return };
    let mounts = mountinfo::read().unwrap();
    let mount = mountinfo::at(&mounts, session.mountpoint()).unwrap();
    assert!(mount.is_stunfs());
    assert_eq!(mount.source, Path::new("/a test, with space"));
    assert_eq!(session.mountpoint().metadata().unwrap().dev(), session.connection_id().device());
    assert!(matches!(
        super::super::check(Path::new("/proc"), session.mountpoint(), false),
        Err(MountError::Busy { .. })
    ));
}

#[test]
fn an_unused_mount_goes_cleanly() {
    let Some((session, _fs, _dir)) = mounted(2) else { return };
    assert_eq!(std::fs::metadata(session.mountpoint().join("file")).unwrap().len(), 0);
    assert_eq!(session.unmount(SOON).unwrap(), UnmountOutcome::Clean);
    assert_eq!(session.ending(), Some(Ending::Closed));
    assert!(!in_table(session.mountpoint()));
}

#[test]
fn open_files_are_cut_off_when_the_time_is_over() {
    let Some((session, _fs, _dir)) = mounted(2) else { return };
    let file = std::fs::File::open(session.mountpoint().join("file")).unwrap();
    assert_eq!(session.unmount(Duration::from_millis(100)).unwrap(), UnmountOutcome::Aborted);
    assert!(!in_table(session.mountpoint()));
    drop(file);
}

#[test]
fn open_files_that_are_closed_in_time_are_waited_for() {
    let Some((session, _fs, _dir)) = mounted(2) else { return };
    let file = std::fs::File::open(session.mountpoint().join("file")).unwrap();
    let closer = std::thread::spawn(move || {
        crate::time::pause(Duration::from_millis(50));
        drop(file);
    });
    assert_eq!(session.unmount(SOON).unwrap(), UnmountOutcome::Detached);
    closer.join().unwrap();
}

#[test]
fn a_held_request_does_not_hold_up_the_end() {
    let Some((session, fs, _dir)) = mounted(1) else { return };
    let (_tid, waiter) = hold(session.mountpoint());
    fs.wait_for_held();
    assert_eq!(session.unmount(Duration::from_millis(100)).unwrap(), UnmountOutcome::Aborted);
    assert!(matches!(waiter.join().unwrap(), rustix::io::Errno::NOTCONN | rustix::io::Errno::CONNABORTED));
    fs.release();
}

#[test]
fn an_unmount_from_outside_is_noticed() {
    let Some((session, _fs, _dir)) = mounted(2) else { return };
    let (tell, ended) = channel();
    session.on_ended(move |ending| tell.send(ending).unwrap());
    assert!(!session.wait_ended(Duration::from_millis(20)));
    detach(session.mountpoint(), Detach::IfUnused).unwrap();
    assert_eq!(ended.recv_timeout(SOON).unwrap(), Ending::Closed);
    assert_eq!(session.unmount(SOON).unwrap(), UnmountOutcome::Gone);
}

#[test]
fn an_aborted_session_is_taken_out_of_the_table_when_dropped() {
    let Some((session, _fs, _dir)) = mounted(2) else { return };
    let mountpoint = session.mountpoint().to_owned();
    session.abort().unwrap();
    assert!(session.wait_ended(SOON));
    assert!(in_table(&mountpoint));
    drop(session);
    assert!(!in_table(&mountpoint));
}

#[test]
fn a_dead_mount_is_cleaned_away_with_a_notice() {
    let Some((session, _fs, dir)) = mounted(1) else { return };
    let backing = tempfile::tempdir().unwrap();
    session.abort().unwrap();
    assert!(session.wait_ended(SOON));
    let checked = super::super::check(backing.path(), dir.path(), false).unwrap();
    assert!(checked.notices[0].contains("unmounted"), "{:?}", checked.notices);
    assert!(!in_table(&checked.mountpoint));
}

#[test]
fn an_error_from_the_guard_mounts_nothing() {
    if !can_mount() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let spec = MountSpec {
        mountpoint: dir.path().canonicalize().unwrap(),
        fsname: "x".into(),
        cache: CacheMode::Through,
        queue_depth: 1,
        threads: 1,
        low_latency: false,
        allow_other: false,
        read_only: true,
    };
    let refused = Session::mount_any(|_| TestFs::default(), |_| (), &spec, |_| Err(io::Error::other("no guard")));
    assert!(matches!(refused, Err(MountError::Failed { step: "guard", .. })));
    assert!(!in_table(&spec.mountpoint));
}
