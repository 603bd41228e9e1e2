//! One side of the comparison of rights: a file in a directory, what is done with it, and how it looks then.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, fchown};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, FallocateFlags, Timespec, Timestamps, UTIME_NOW, XattrFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags};

const CAPABILITY: &str = "security.capability";
const ACCESS_ACL: &str = "system.posix_acl_access";
/// Attributes that are set and removed.
const XATTRS: [&str; 4] = ["user.k", "trusted.k", CAPABILITY, "security.k"];
const SIZE: usize = 20_000;
/// Where the capabilities of a file, and a `trusted.` attribute, stand in [`XATTRS`].
pub(super) const CAPABILITIES: usize = 2;
pub(super) const TRUSTED: usize = 1;
/// No owner, no group: `-1` of chown(2).
pub(super) const NEVER: u32 = u32::MAX;

/// What a case begins with.
#[derive(Debug, Clone)]
pub(super) struct Start {
    pub(super) mode: u32,
    pub(super) owner: u32,
    pub(super) group: u32,
    pub(super) capabilities: bool,
    pub(super) acl: bool,
    /// The file is open for writing, by root.
    pub(super) open: bool,
    pub(super) directory_mode: u32,
    pub(super) directory_owner: u32,
}

/// A step. Those with `Open` use the file that root has opened for writing, if there is one.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Chown(u32, u32),
    ChownOpen(u32, u32),
    Chmod(u32),
    Write,
    WriteOpen,
    Append,
    Truncate(u16),
    TruncateOpen(u16),
    TruncatingOpen,
    FallocateOpen(u8),
    CopyOpen,
    MapOpen,
    SetAcl(bool),
    RemoveAcl,
    SetXattr(usize),
    RemoveXattr(usize),
    ListXattr,
    Touch,
    SetTimes,
    Link,
    Rename,
    Unlink,
    Create(u32),
    MakeDirectory(u32),
}

/// How the file looks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shown {
    mode: u32,
    owner: (u32, u32),
    links: u64,
    attributes: Vec<(String, Option<Vec<u8>>)>,
}

impl Start {
    /// Root's, open for writing, in a directory for all.
    pub(super) const fn with_mode(mode: u32) -> Self {
        Self {
            mode,
            owner: 0,
            group: 0,
            capabilities: false,
            acl: false,
            open: true,
            directory_mode: 0o777,
            directory_owner: 0,
        }
    }
}

impl Shown {
    pub(super) const fn mode(&self) -> u32 {
        self.mode & 0o7777
    }

    pub(super) fn has_capabilities(&self) -> bool {
        self.attributes.iter().any(|(name, _)| name == CAPABILITY)
    }
}

type Outcome = Result<Vec<u8>, Errno>;

pub(super) fn start() -> impl Strategy<Value = Start> {
    let modes = prop::sample::select(vec![
        0o644, 0o666, 0o755, 0o4755, 0o6755, 0o2755, 0o2745, 0o4644, 0o2644, 0o6644, 0o6777, 0o2666, 0o4777, 0o6666,
    ]);
    let file = (modes, owner(), owner(), any::<bool>(), prop::bool::weighted(0.2), prop::bool::weighted(0.7));
    let directory = (prop::sample::select(vec![0o777, 0o1777, 0o755, 0o2777]), owner());
    (file, directory).prop_map(|((mode, owner, group, capabilities, acl, open), (directory_mode, directory_owner))| {
        Start { mode, owner, group, capabilities, acl, open, directory_mode, directory_owner }
    })
}

fn owner() -> impl Strategy<Value = u32> + Clone {
    prop::sample::select(vec![0, 1000, 1001, 1002])
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let id = prop_oneof![2 => Just(NEVER), 1 => owner()];
    let mode = prop::sample::select(vec![0o644, 0o666, 0o4755, 0o2755, 0o6745, 0o2644, 0o6777]);
    prop_oneof![
        3 => (id.clone(), id.clone()).prop_map(|(uid, gid)| Op::Chown(uid, gid)),
        3 => (id.clone(), id).prop_map(|(uid, gid)| Op::ChownOpen(uid, gid)),
        4 => mode.clone().prop_map(Op::Chmod),
        2 => Just(Op::Write),
        3 => Just(Op::WriteOpen),
        1 => Just(Op::Append),
        1 => any::<u16>().prop_map(Op::Truncate),
        2 => any::<u16>().prop_map(Op::TruncateOpen),
        1 => Just(Op::TruncatingOpen),
        3 => (0_u8..4).prop_map(Op::FallocateOpen),
        2 => Just(Op::CopyOpen),
        2 => Just(Op::MapOpen),
        3 => any::<bool>().prop_map(Op::SetAcl),
        1 => Just(Op::RemoveAcl),
        4 => (0..XATTRS.len()).prop_map(Op::SetXattr),
        2 => (0..XATTRS.len()).prop_map(Op::RemoveXattr),
        2 => Just(Op::ListXattr),
        1 => Just(Op::Touch),
        1 => Just(Op::SetTimes),
        1 => Just(Op::Link),
        1 => Just(Op::Rename),
        1 => Just(Op::Unlink),
        1 => mode.clone().prop_map(Op::Create),
        1 => mode.prop_map(Op::MakeDirectory),
    ]
}

/// A directory with a file in it.
pub(super) struct Side {
    root: PathBuf,
    file: PathBuf,
    source: File,
    open: Option<File>,
}

impl Side {
    pub(super) fn new(root: &Path, start: &Start) -> Self {
        fs::create_dir(root).unwrap();
        let file = root.join("file");
        fs::write(&file, vec![1; SIZE]).unwrap();
        fs::write(root.join("source"), vec![2; SIZE]).unwrap();
        chown(root, Some(start.directory_owner), None).unwrap();
        fs::set_permissions(root, Permissions::from_mode(start.directory_mode)).unwrap();
        chown(&file, Some(start.owner), Some(start.group)).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(start.mode)).unwrap();
        if start.acl {
            set_xattr(&file, ACCESS_ACL, &acl(true)).unwrap();
        }
        if start.capabilities {
            set_xattr(&file, CAPABILITY, &capability()).unwrap();
        }
        let open = start.open.then(|| File::options().read(true).write(true).open(&file).unwrap());
        // The kernel checks hard links by the mode that it knows, which an ACL has changed behind its back.
        fs::metadata(&file).unwrap();
        Self { root: root.to_owned(), source: File::open(root.join("source")).unwrap(), file, open }
    }

    /// Does a step; what it answers.
    pub(super) fn apply(&self, op: &Op) -> Outcome {
        let (root, file) = (&self.root, &self.file);
        match *op {
            Op::Chown(uid, gid) => done(chown(file, id(uid), id(gid))),
            Op::Chmod(mode) => done(fs::set_permissions(file, Permissions::from_mode(mode))),
            Op::Write => done(File::options().write(true).open(file).and_then(|file| file.write_all_at(b"w", 10))),
            Op::Append => done(
                OpenOptions::new()
                    .append(true)
                    .open(file)
                    .and_then(|mut file| std::io::Write::write_all(&mut file, b"a")),
            ),
            Op::Truncate(size) => {
                let path = std::ffi::CString::new(file.as_os_str().as_encoded_bytes()).unwrap();
                // SAFETY: the path outlives the call.
                let result = unsafe { libc::truncate(path.as_ptr(), size.into()) };
                if result == 0 { Ok(vec![]) } else { done(Err(std::io::Error::last_os_error())) }
            }
            Op::TruncatingOpen => done(File::options().write(true).truncate(true).open(file).map(drop)),
            Op::SetAcl(long) => none(set_xattr(file, ACCESS_ACL, &acl(long))),
            Op::RemoveAcl => none(rustix::fs::removexattr(file, ACCESS_ACL)),
            Op::SetXattr(which) => {
                let value = if XATTRS[which] == CAPABILITY { capability() } else { b"value".to_vec() };
                none(set_xattr(file, XATTRS[which], &value))
            }
            Op::RemoveXattr(which) => none(rustix::fs::removexattr(file, XATTRS[which])),
            Op::ListXattr => Ok(names(file)?.join("\n").into_bytes()),
            Op::Touch => none(set_times(file, Timespec { tv_sec: 0, tv_nsec: UTIME_NOW })),
            Op::SetTimes => none(set_times(file, Timespec { tv_sec: 1_000_000_000, tv_nsec: 7 })),
            Op::Link => done(fs::hard_link(file, root.join("link"))),
            Op::Rename => {
                done(fs::rename(file, root.join("renamed")).and_then(|()| fs::rename(root.join("renamed"), file)))
            }
            Op::Unlink => done(fs::remove_file(file)),
            Op::Create(mode) => {
                done(File::options().write(true).create_new(true).mode(mode).open(root.join("new")).map(drop))
            }
            Op::MakeDirectory(mode) => none(rustix::fs::mkdir(root.join("dir"), rustix::fs::Mode::from_raw_mode(mode))),
            _ => self.open.as_ref().map_or(Ok(vec![]), |open| self.apply_open(open, op)),
        }
    }

    fn apply_open(&self, open: &File, op: &Op) -> Outcome {
        match *op {
            Op::ChownOpen(uid, gid) => done(fchown(open, id(uid), id(gid))),
            Op::WriteOpen => done(open.write_all_at(b"x", 5000)),
            Op::TruncateOpen(size) => done(open.set_len(size.into())),
            Op::FallocateOpen(which) => {
                let mode = match which {
                    0 => FallocateFlags::empty(),
                    1 => FallocateFlags::KEEP_SIZE,
                    2 => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                    _ => FallocateFlags::ZERO_RANGE,
                };
                none(rustix::fs::fallocate(open, mode, 100, 30_000))
            }
            Op::CopyOpen => {
                let (mut from, mut to) = (0, 3);
                let copied = rustix::fs::copy_file_range(&self.source, Some(&mut from), open, Some(&mut to), 6000)?;
                Ok(copied.to_le_bytes().to_vec())
            }
            _ => none(write_through_a_mapping(open)),
        }
    }

    /// How everything that the steps may have made looks now.
    pub(super) fn shown(&self) -> Vec<Option<Shown>> {
        shown_at(&self.root)
    }

    /// Brings everything to the backing; how it looks then.
    pub(super) fn end(self) -> Vec<Option<Shown>> {
        if let Some(open) = &self.open {
            open.sync_all().unwrap();
        }
        // Opened by path: what was written back through another descriptor counts, too.
        let _gone = File::open(&self.file).and_then(|file| file.sync_all());
        self.shown()
    }
}

/// How the files of a case look in this directory.
pub(super) fn shown_at(root: &Path) -> Vec<Option<Shown>> {
    ["file", "new", "dir"].iter().map(|name| shown(&root.join(name))).collect()
}

fn shown(path: &Path) -> Option<Shown> {
    let meta = fs::symlink_metadata(path).ok()?;
    let value = |name: &String| {
        let mut value = vec![0; 200];
        let length = rustix::fs::getxattr(path, name.as_str(), &mut value).ok()?;
        value.truncate(length);
        Some(value)
    };
    let attributes = names(path).unwrap().into_iter().map(|name| (name.clone(), value(&name))).collect();
    Some(Shown { mode: meta.mode(), owner: (meta.uid(), meta.gid()), links: meta.nlink(), attributes })
}

fn names(path: &Path) -> Result<Vec<String>, Errno> {
    let mut names = vec![0; 1000];
    let length = rustix::fs::listxattr(path, &mut names)?;
    let names = names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let mut names: Vec<String> = names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    names.sort_unstable();
    Ok(names)
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) -> Result<(), Errno> {
    rustix::fs::setxattr(path, name, value, XattrFlags::empty())
}

fn set_times(path: &Path, time: Timespec) -> Result<(), Errno> {
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::empty())
}

/// Changes a byte of the file through a shared mapping, if it has one.
fn write_through_a_mapping(file: &File) -> Result<(), Errno> {
    if file.metadata().unwrap().len() == 0 {
        return Ok(());
    }
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping, used only here; the file has a first byte, and no other thread changes it.
    unsafe {
        let map = rustix::mm::mmap(std::ptr::null_mut(), 4096, protection, MapFlags::SHARED, file.as_fd(), 0)?;
        map.cast::<u8>().write(b'm');
        let synced = rustix::mm::msync(map, 4096, MsyncFlags::SYNC);
        rustix::mm::munmap(map, 4096)?;
        synced
    }
}

fn id(id: u32) -> Option<u32> {
    (id != NEVER).then_some(id)
}

fn done(result: std::io::Result<()>) -> Outcome {
    result.map(|()| vec![]).map_err(|error| Errno::from_io_error(&error).unwrap())
}

fn none(result: Result<(), Errno>) -> Outcome {
    result.map(|()| vec![])
}

/// `cap_net_raw+ep`.
fn capability() -> Vec<u8> {
    [0x0200_0001_u32, 1 << 13, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The ACL that `setfacl` would write: with a named user, or no more than a mode says.
fn acl(long: bool) -> Vec<u8> {
    let entry = |tag: u16, permissions: u16, id: u32| {
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes()[..], &id.to_le_bytes()[..]].concat()
    };
    let (owner, group, other) = (entry(1, 7, NEVER), entry(4, 5, NEVER), entry(32, 4, NEVER));
    let more = if long { [entry(2, 6, 1002), group, entry(16, 7, NEVER)].concat() } else { group };
    [2_u32.to_le_bytes().to_vec(), owner, more, other].concat()
}
