//! A process that waits in the kernel for a file system's reply, as one does that a stun holds, cannot acknowledge.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyEntry, Request,
};
use parking_lot::Mutex;
use stunfs::internal::freeze::{FreezeError, FreezeSet, FreezeTarget, Surroundings};
use stunfs::internal::time::{Deadline, wait_until, wall_now};

use crate::support::{Counter, Group, V1, around, pid, soon, v2, watchdog};

/// A file system with one file, `held`, whose readers wait.
#[derive(Default, Clone)]
struct Holding(Arc<Mutex<Vec<ReplyData>>>);

fn attributes(ino: u64) -> FileAttr {
    let (kind, size) = if ino == 1 { (FileType::Directory, 0) } else { (FileType::RegularFile, 4096) };
    let now = wall_now();
    FileAttr {
        ino: INodeNo(ino),
        size,
        blocks: 8,
        atime: now,
        mtime: now,
        ctime: now,
        crtime: now,
        kind,
        perm: 0o755,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Filesystem for Holding {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == "held" {
            reply.entry(&Duration::from_secs(9), &attributes(2), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&Duration::from_secs(9), &attributes(ino.0));
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.0.lock().push(reply);
    }
}

struct Mounted {
    holding: Holding,
    directory: tempfile::TempDir,
    _session: BackgroundSession,
}

impl Mounted {
    fn new() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let holding = Holding::default();
        match fuser::spawn_mount(holding.clone(), directory.path(), &Config::default()) {
            Ok(session) => Some(Self { holding, directory, _session: session }),
            Err(error) => {
                eprintln!("LEFT OUT: no FUSE mount: {error}");
                None
            }
        }
    }

    fn release(&self) {
        self.holding.0.lock().drain(..).for_each(|reply| reply.data(&[b'\n'; 4096]));
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.release();
    }
}

/// Starts a reader that waits for the reply; `freeze` makes the set for it.
fn with_a_held_reader(group: Option<&Group>, set: impl Fn(&Counter, Surroundings) -> FreezeSet) {
    let Some(mounted) = Mounted::new() else { return };
    let (_watchdog, directory) = (watchdog(), tempfile::tempdir().unwrap());
    let file = mounted.directory.path().join("held");
    let script = format!(
        r#"until [ -e "$0.go" ]; do sleep 0.01; done; (while printf x >>"$0"; do sleep 0.01; done) & cat {} >/dev/null; while printf y >>"$0"; do sleep 0.01; done"#,
        file.display()
    );
    let counter = Counter::run(directory.path(), &script);
    if let Some(group) = group {
        group.put(counter.id());
    }
    counter.go();
    let waits = || !mounted.holding.0.lock().is_empty();
    assert!(wait_until(Duration::from_secs(10), Duration::from_millis(5), waits), "the reader did not come");

    // Not acknowledged: thawed again.
    let mut strict = set(&counter, Surroundings { accept_waiting: false, ..around() });
    let error = strict.freeze(Deadline::after(Duration::from_millis(500))).unwrap_err();
    assert!(matches!(error, FreezeError::NotFrozen { .. }), "{error}");
    eprintln!("{error}");
    assert!(error.to_string().contains("cat"), "{error}");
    counter.assert_moves();
    drop(strict);

    // Accepted: it stands still, also after the reply that it waits for, until it is thawed.
    let mut lenient = set(&counter, around());
    lenient.freeze(soon()).unwrap();
    assert!(lenient.waiting().iter().any(|thread| thread.comm == "cat"), "{:?}", lenient.waiting());
    counter.assert_still();
    mounted.release();
    counter.assert_still();
    lenient.thaw(soon()).unwrap();
    counter.assert_moves();
    drop(counter);
}

#[test]
fn a_held_reader_in_a_tree() {
    with_a_held_reader(None, |counter, around| {
        FreezeSet::open_in(&[FreezeTarget::Pid(pid(counter.id()))], around).unwrap()
    });
}

#[test]
fn a_held_reader_in_a_v1_group() {
    let Some(group) = Group::new(V1) else { return };
    with_a_held_reader(Some(&group), |_, around| FreezeSet::open_in(&[group.target()], around).unwrap());
}

#[test]
fn a_held_reader_in_a_v2_group() {
    let Some(group) = Group::new(v2()) else { return };
    with_a_held_reader(Some(&group), |_, around| FreezeSet::open_in(&[group.target()], around).unwrap());
}
