//! The file system without a mount: operations go straight in, replies are collected, the backing is looked at beside.

mod dirs;
mod errnos;
mod escape;
mod files;
mod limits;
mod names;
mod provisioning;
mod rights;
mod space;
mod stress;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use parking_lot::Mutex;
use tempfile::TempDir;

use super::*;
use crate::backing::{open_path, open_root};

const ROOT: u64 = 1;
const DAEMON: Caller = Caller { pid: 1, uid: 0, gid: 0 };
const USER: Caller = Caller { pid: 2, uid: 1000, gid: 1001 };
const RDWR: i32 = 2;
const WRONLY: i32 = 1;
const RDONLY: i32 = 0;
const TRUNC: i32 = 0o1000;
const EXCL: i32 = 0o200;

/// A backing, a file system on it, and what its tracker was told.
struct World {
    dir: TempDir,
    fs: Arc<FileSystem>,
    tracker: Arc<TrackerRecorder>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Created(u64),
    Learned(u64, Vec<ByteRange>),
    Freed(u64, ByteRange),
    Removed(u64, u64),
}

#[derive(Debug, Default)]
struct TrackerRecorder {
    told: Mutex<Vec<Told>>,
    identities: Mutex<Vec<u64>>,
    learned_reads: AtomicBool,
}

impl TrackerRecorder {
    fn take(&self) -> Vec<Told> {
        std::mem::take(&mut self.told.lock())
    }
    fn tell(&self, told: Told) {
        self.told.lock().push(told);
    }
}

impl ProvisioningTracker for TrackerRecorder {
    fn created(&self, file: FileKey, identity: u64) {
        self.identities.lock().push(identity);
        self.tell(Told::Created(file.ino));
    }
    fn learn(&self, file: FileKey, identity: u64, data: &[ByteRange]) {
        self.identities.lock().push(identity);
        self.tell(Told::Learned(file.ino, data.to_vec()));
    }
    fn free(&self, file: FileKey, range: ByteRange) {
        self.tell(Told::Freed(file.ino, range));
    }
    fn remove(&self, file: FileKey, unlearned_bytes: u64) {
        self.tell(Told::Removed(file.ino, unlearned_bytes));
    }
    fn virtual_space(&self) -> Option<(u64, u64)> {
        Some((1 << 40, 1 << 30))
    }
    fn wants_learned_reads(&self) -> bool {
        self.learned_reads.load(Ordering::Relaxed)
    }
}

type Reply<T> = Box<dyn FnOnce(FsResult<T>) + Send>;

/// Does an operation and waits for its reply.
fn ask<T: Send + 'static>(operation: impl FnOnce(Reply<T>)) -> FsResult<T> {
    let (send, receive) = mpsc::channel();
    operation(Box::new(move |result| send.send(result).unwrap()));
    receive.try_recv().expect("an engine that holds nothing answers at once")
}

impl World {
    fn new() -> Self {
        Self::with(FsOptions::default())
    }

    fn with(options: FsOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tracker = Arc::new(TrackerRecorder::default());
        let root = open_root(dir.path()).unwrap();
        let fs = FileSystem::with_tracker(root, Engine::pass_through(), tracker.clone(), options).unwrap();
        Self { dir, fs, tracker }
    }

    fn backing(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn lookup(&self, parent: u64, name: &str) -> FsResult<Entry> {
        ask(|r| self.fs.lookup(DAEMON, parent, name.as_ref(), r))
    }

    /// Looks up a path, component by component.
    fn find(&self, path: &str) -> Entry {
        path.split('/')
            .fold(None, |at: Option<Entry>, name| {
                Some(self.lookup(at.map_or(ROOT, |entry| entry.attr.ino), name).unwrap())
            })
            .unwrap()
    }

    fn create_as(&self, c: Caller, name: &str, mode: u32, umask: u32, flags: i32) -> FsResult<(Entry, Opened)> {
        ask(|r| self.fs.create(c, ROOT, name.as_ref(), mode, umask, flags, r))
    }

    fn create(&self, name: &str) -> (u64, u64) {
        let (entry, opened) = self.create_as(DAEMON, name, 0o644, 0, RDWR).unwrap();
        (entry.attr.ino, opened.fh)
    }

    fn mkdir(&self, parent: u64, name: &str) -> FsResult<Entry> {
        ask(|r| self.fs.mkdir(DAEMON, parent, name.as_ref(), 0o755, 0, r))
    }

    fn open(&self, node: u64, flags: i32) -> FsResult<u64> {
        ask(|r| self.fs.open(DAEMON, node, flags, r)).map(|opened: Opened| opened.fh)
    }

    fn write(&self, _node: u64, fh: u64, offset: u64, data: &[u8]) -> FsResult<u32> {
        ask(|r| self.fs.write(DAEMON, false, fh, offset, data, WriteKind::WithFsetid, r))
    }

    fn read(&self, _node: u64, fh: u64, offset: u64, size: u32) -> FsResult<Vec<u8>> {
        ask(|r| self.fs.read(DAEMON, false, fh, offset, size, move |bytes| r(bytes.map(<[u8]>::to_vec))))
    }

    fn getattr(&self, node: u64, fh: Option<u64>) -> FsResult<Attr> {
        ask(|r| self.fs.getattr(DAEMON, node, fh, r))
    }

    fn setattr_as(&self, c: Caller, node: u64, set: SetAttr) -> FsResult<Attr> {
        ask(|r| self.fs.setattr(c, node, set, r))
    }

    fn truncate(&self, node: u64, size: u64) -> FsResult<Attr> {
        self.setattr_as(DAEMON, node, SetAttr { size: Some(size), ..SetAttr::default() })
    }

    fn unlink(&self, parent: u64, name: &str) -> FsResult<()> {
        ask(|r| self.fs.unlink(DAEMON, parent, name.as_ref(), r))
    }

    fn rename(&self, from: (u64, &str), to: (u64, &str), flags: u32) -> FsResult<()> {
        ask(|r| self.fs.rename(DAEMON, from.0, from.1.as_ref(), to.0, to.1.as_ref(), flags, r))
    }

    fn link(&self, node: u64, parent: u64, name: &str) -> FsResult<Entry> {
        ask(|r| self.fs.link(DAEMON, node, parent, name.as_ref(), r))
    }

    fn path(&self, node: u64) -> String {
        self.fs.path_if_linked(&self.fs.inode(node).unwrap()).to_string()
    }

    /// Everything in a directory, `room` entries at a time.
    fn list(&self, node: u64, plus: bool, room: usize) -> Vec<(String, u64)> {
        let fh = ask(|r| self.fs.opendir(DAEMON, node, r)).unwrap().fh;
        let (mut all, mut offset) = (Vec::new(), 0);
        loop {
            let page = self.page(node, fh, offset, plus, room).unwrap();
            let Some(last) = page.last() else { break };
            offset = last.offset;
            all.extend(page.into_iter().map(|entry| (entry.name, entry.ino)));
        }
        self.fs.releasedir(fh);
        all
    }

    fn page(&self, node: u64, fh: u64, offset: u64, plus: bool, room: usize) -> FsResult<Vec<Shown>> {
        ask(|done| self.fs.readdir(DAEMON, node, fh, offset, plus, Page { room, entries: Vec::new(), done }))
    }
}

/// An entry as it was given.
#[derive(Debug, Clone)]
struct Shown {
    name: String,
    ino: u64,
    offset: u64,
    kind: FileKind,
    looked_up: bool,
}

struct Page {
    room: usize,
    entries: Vec<Shown>,
    done: Reply<Vec<Shown>>,
}

impl DirSink for Page {
    fn add(&mut self, entry: &DirEntry<'_>) -> bool {
        if self.entries.len() == self.room {
            return true;
        }
        self.entries.push(Shown {
            name: entry.name.to_str().unwrap().to_owned(),
            ino: entry.ino,
            offset: entry.offset,
            kind: entry.kind,
            looked_up: entry.entry.is_some(),
        });
        false
    }

    fn finish(self, result: FsResult<()>) {
        (self.done)(result.map(|()| self.entries));
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn name(text: &str) -> &OsStr {
    OsStr::new(text)
}
