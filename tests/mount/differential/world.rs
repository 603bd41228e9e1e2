//! One side of the comparison: a directory, open files, and what operations on them answer.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, FlockOperation, Gid, Mode, OFlags, RenameFlags, SeekFrom, Stat, Timespec,
    Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags};

use super::ops::{MODES, Op, P, PATHS, TARGETS, XATTRS};
use crate::common::user;

/// What an operation answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Done,
    Number(u64),
    Bytes(Vec<u8>),
    Names(Vec<(Vec<u8>, FileType)>),
    Attributes(Attributes),
    /// There is nothing to do it on, or no answer that must be the same.
    Nothing,
}

/// What must be the same of an object's attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attributes {
    mode: u32,
    nlink: u64,
    owner: (u32, u32),
    size: i64,
    /// As it was set by hand; `None`: it is about now.
    mtime: Option<(i64, u64)>,
}

pub(super) type Outcome = Result<Answer, Errno>;

const OPEN_FLAGS: [OFlags; 15] = [
    OFlags::RDONLY,
    OFlags::WRONLY,
    OFlags::RDWR,
    OFlags::RDWR.union(OFlags::CREATE),
    OFlags::RDWR.union(OFlags::CREATE).union(OFlags::EXCL),
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::TRUNC),
    OFlags::RDWR.union(OFlags::APPEND),
    OFlags::RDWR.union(OFlags::CREATE).union(OFlags::APPEND),
    OFlags::RDWR.union(OFlags::TRUNC),
    OFlags::RDONLY.union(OFlags::DIRECTORY),
    OFlags::RDONLY.union(OFlags::NOFOLLOW),
    OFlags::RDWR.union(OFlags::CREATE).union(OFlags::DSYNC),
    OFlags::RDWR.union(OFlags::CREATE),
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL),
    OFlags::RDONLY.union(OFlags::TRUNC).union(OFlags::CREATE),
];
const MOST_OPEN: usize = 8;
const USERS: [(u32, u32); 6] = [(0, 0), (1000, 1000), (0, 0), (1001, 1000), (0, 0), (1000, 1001)];
const OWNERS: [Option<u32>; 5] = [None, Some(0), Some(1000), Some(1001), Some(70_000)];

/// A directory and its open files.
#[derive(Debug)]
pub(super) struct World {
    root: PathBuf,
    /// Where the data really is.
    backing: PathBuf,
    files: Vec<OwnedFd>,
    /// Holes are shown (not with a write-back cache).
    shows_holes: bool,
    /// Space was allocated without writing: what is a hole then depends on the backing's mood.
    allocated: bool,
}

impl World {
    pub(super) fn new(root: PathBuf, backing: PathBuf, shows_holes: bool) -> Self {
        Self { root, backing, files: Vec::new(), shows_holes, allocated: false }
    }

    fn path(&self, path: P) -> PathBuf {
        self.root.join(PATHS[usize::from(path) % PATHS.len()])
    }

    fn file(&self, number: u8) -> Result<&OwnedFd, Answer> {
        match self.files.len() {
            0 => Err(Answer::Nothing),
            open => Ok(&self.files[usize::from(number) % open]),
        }
    }

    fn on_file(&self, number: u8, act: impl FnOnce(&OwnedFd) -> Outcome) -> Outcome {
        match self.file(number) {
            Ok(file) => act(file),
            Err(nothing) => Ok(nothing),
        }
    }

    /// Does `op`.
    pub(super) fn apply(&mut self, op: &Op) -> Outcome {
        match *op {
            Op::Open(path, flags, mode) => self.open(path, flags, mode),
            Op::Close(number) if !self.files.is_empty() => {
                drop(self.files.remove(usize::from(number) % self.files.len()));
                Ok(Answer::Done)
            }
            Op::Close(_) => Ok(Answer::Nothing),
            Op::User(who) => {
                let (uid, gid) = USERS[usize::from(who) % USERS.len()];
                user::become_user(uid, gid);
                Ok(Answer::Done)
            }
            Op::Umask(mask) => {
                rustix::process::umask(Mode::from_raw_mode([0o022, 0o077, 0o002, 0o000][usize::from(mask) % 4]));
                Ok(Answer::Done)
            }
            Op::Fallocate(number, mode, offset, len) => {
                self.allocated |= mode % 6 != 2;
                self.on_file(number, |file| done(allocate(file, mode, offset, len)))
            }
            _ => self.apply_data(op),
        }
    }

    fn open(&mut self, path: P, flags: u8, mode: u8) -> Outcome {
        let flags = OPEN_FLAGS[usize::from(flags) % OPEN_FLAGS.len()] | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(self.path(path), flags, mode_of(mode))?;
        if self.files.len() == MOST_OPEN {
            self.files.remove(0);
        }
        self.files.push(file);
        Ok(Answer::Done)
    }

    fn apply_data(&self, op: &Op) -> Outcome {
        match *op {
            Op::Read(number, len) => self.on_file(number, |file| {
                let mut buffer = vec![0; size(len)];
                let read = rustix::io::read(file, &mut buffer)?;
                buffer.truncate(read);
                Ok(Answer::Bytes(buffer))
            }),
            Op::Pread(number, offset, len) => self.on_file(number, |file| {
                let mut buffer = vec![0; size(len)];
                let read = rustix::io::pread(file, &mut buffer, offset.into())?;
                buffer.truncate(read);
                Ok(Answer::Bytes(buffer))
            }),
            Op::Write(number, len, seed) => {
                self.on_file(number, |file| count(rustix::io::write(file, &pattern(len, seed))))
            }
            Op::Pwrite(number, offset, len, seed) => {
                self.on_file(number, |file| count(rustix::io::pwrite(file, &pattern(len, seed), offset.into())))
            }
            Op::Writev(number, lens, seed) => self.on_file(number, |file| {
                let parts = lens.map(|len| pattern(u32::from(len) % 9000, seed));
                let slices = parts.each_ref().map(|part| std::io::IoSlice::new(part));
                count(rustix::io::writev(file, &slices))
            }),
            Op::Seek(number, offset) => {
                self.on_file(number, |file| Ok(Answer::Number(rustix::fs::seek(file, SeekFrom::Start(offset.into()))?)))
            }
            Op::Ftruncate(number, size) => self.on_file(number, |file| done(rustix::fs::ftruncate(file, size.into()))),
            Op::FtruncateFar(number) => self.on_file(number, |file| done(rustix::fs::ftruncate(file, 1 << 45))),
            Op::Fsync(number, data) => self
                .on_file(number, |file| done(if data { rustix::fs::fdatasync(file) } else { rustix::fs::fsync(file) })),
            Op::Copy(from, offset, to, to_offset, len) => self.on_file(from, |source| {
                let target = self.file(to).unwrap_or(source);
                let (mut offset, mut to_offset) = (u64::from(offset), u64::from(to_offset));
                count(rustix::fs::copy_file_range(source, Some(&mut offset), target, Some(&mut to_offset), size(len)))
            }),
            Op::SeekHole(number, offset, data) => self.on_file(number, |file| self.seek_hole(file, offset, data)),
            Op::MapShared(number, offset, len, seed) => {
                self.on_file(number, |file| map_shared(file, offset, len, seed))
            }
            Op::MapPrivate(number, offset, len) => self.on_file(number, |file| map_private(file, offset, len)),
            Op::Flock(number, kind) => self.on_file(number, |file| done(rustix::fs::flock(file, lock_kind(kind)))),
            Op::Lock(number, kind, start, len) => self.on_file(number, |file| lock_range(file, kind, start, len)),
            Op::DirectWrite(path, page, pages, seed) => self.direct_write(path, page, pages, seed),
            Op::DirectRead(path, page, pages) => self.direct_read(path, page, pages),
            _ => self.apply_names(op),
        }
    }

    fn apply_names(&self, op: &Op) -> Outcome {
        match *op {
            Op::Truncate(path, size) => done(truncate(&self.path(path), size.into())),
            Op::Unlink(path) => done(rustix::fs::unlinkat(CWD, self.path(path), AtFlags::empty())),
            Op::Rmdir(path) => done(rustix::fs::unlinkat(CWD, self.path(path), AtFlags::REMOVEDIR)),
            Op::Mkdir(path, mode) => {
                done(rustix::fs::mkdir(self.path(path), mode_of(mode) | Mode::from_raw_mode(0o111)))
            }
            Op::Rename(from, to, flags) => {
                done(rustix::fs::renameat_with(CWD, self.path(from), CWD, self.path(to), rename_flags(flags)))
            }
            Op::Link(from, to) => done(rustix::fs::linkat(CWD, self.path(from), CWD, self.path(to), AtFlags::empty())),
            Op::Symlink(target, path) => {
                done(rustix::fs::symlink(TARGETS[usize::from(target) % TARGETS.len()], self.path(path)))
            }
            Op::Readlink(path) => Ok(Answer::Bytes(rustix::fs::readlink(self.path(path), Vec::new())?.into_bytes())),
            Op::Mknod(path, kind, mode) => {
                let kind = [FileType::Fifo, FileType::Socket, FileType::RegularFile][usize::from(kind) % 3];
                done(rustix::fs::mknodat(CWD, self.path(path), kind, mode_of(mode), 0))
            }
            Op::Readdir(path) => list(&self.path(path)),
            Op::Access(path, bits) => {
                let bits = rustix::fs::Access::from_bits_truncate(u32::from(bits) % 8);
                done(rustix::fs::accessat(CWD, self.path(path), bits, AtFlags::EACCESS))
            }
            _ => self.apply_attributes(op),
        }
    }

    fn apply_attributes(&self, op: &Op) -> Outcome {
        match *op {
            Op::Chmod(path, mode) => done(rustix::fs::chmod(self.path(path), mode_of(mode))),
            Op::Fchmod(number, mode) => self.on_file(number, |file| done(rustix::fs::fchmod(file, mode_of(mode)))),
            Op::Chown(path, uid, gid) => done(chown(&self.path(path), uid, gid, AtFlags::empty())),
            Op::Lchown(path, uid, gid) => done(chown(&self.path(path), uid, gid, AtFlags::SYMLINK_NOFOLLOW)),
            Op::Utimens(path, seconds, nanos) => {
                let path = self.path(path);
                rustix::fs::utimensat(CWD, &path, &times(seconds, nanos), AtFlags::SYMLINK_NOFOLLOW)?;
                exact_times(&rustix::fs::lstat(&path)?)
            }
            Op::Futimens(number, seconds, nanos) => self.on_file(number, |file| {
                rustix::fs::futimens(file, &times(seconds, nanos))?;
                exact_times(&rustix::fs::fstat(file)?)
            }),
            Op::Stat(path) => attributes(&rustix::fs::lstat(self.path(path))?),
            Op::Fstat(number) => self.on_file(number, |file| attributes(&rustix::fs::fstat(file)?)),
            Op::Statvfs => {
                let space = rustix::fs::statvfs(&self.root)?;
                let all = [space.f_frsize, space.f_blocks, space.f_files, space.f_namemax];
                Ok(Answer::Bytes(all.iter().flat_map(|number| number.to_ne_bytes()).collect()))
            }
            _ => self.apply_xattrs(op),
        }
    }

    fn apply_xattrs(&self, op: &Op) -> Outcome {
        match *op {
            Op::SetXattr(path, name, len, flags) => {
                let flags = [XattrFlags::empty(), XattrFlags::CREATE, XattrFlags::REPLACE][usize::from(flags) % 3];
                done(rustix::fs::lsetxattr(self.path(path), xattr(name), &pattern(len.into(), name), flags))
            }
            Op::GetXattr(path, name, len) => get_xattr(&self.path(path), xattr(name), len),
            Op::ListXattr(path) => list_xattr(&self.path(path)),
            Op::RemoveXattr(path, name) => done(rustix::fs::lremovexattr(self.path(path), xattr(name))),
            Op::SetAcl(path, which, default) => {
                done(rustix::fs::lsetxattr(self.path(path), acl_name(default), &acl(which), XattrFlags::empty()))
            }
            Op::GetAcl(path, default) => get_xattr(&self.path(path), acl_name(default), 200),
            _ => unreachable!("{op:?}"),
        }
    }

    /// Looks for data or a hole when everything has been written back, on the backing too.
    fn seek_hole(&self, file: &OwnedFd, offset: u32, data: bool) -> Outcome {
        let stat = rustix::fs::fstat(file)?;
        if !self.shows_holes || stat.st_nlink == 0 || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(Answer::Nothing);
        }
        let Some(backing) = self.settle(file) else { return Ok(Answer::Nothing) };
        let from = if data { SeekFrom::Data(offset.into()) } else { SeekFrom::Hole(offset.into()) };
        let position = rustix::fs::seek(file, SeekFrom::Current(0))?;
        let found = rustix::fs::seek(file, from);
        assert_eq!(found, rustix::fs::seek(&backing, from), "the backing says otherwise");
        rustix::fs::seek(file, SeekFrom::Start(position))?;
        if self.allocated { Ok(Answer::Nothing) } else { Ok(Answer::Number(found?)) }
    }

    /// Writes back what the caches hold of a file; its backing. `None`: it has another name by now.
    fn settle(&self, file: &OwnedFd) -> Option<OwnedFd> {
        user::as_root(|| {
            write_back(file);
            let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
            let below = path.strip_prefix(&self.root).ok()?;
            let backing = rustix::fs::open(self.backing.join(below), OFlags::RDONLY, Mode::empty()).ok()?;
            write_back(&backing);
            Some(backing)
        })
    }

    fn direct_write(&self, path: P, page: u8, pages: u8, seed: u8) -> Outcome {
        let file =
            rustix::fs::open(self.path(path), OFlags::WRONLY | OFlags::DIRECT | OFlags::NONBLOCK, Mode::empty())?;
        let data = pattern(u32::from(pages) * 4096, seed);
        let len = data.len();
        let mut aligned = vec![0; len + 4096];
        let skip = aligned.as_ptr().align_offset(4096);
        aligned[skip..skip + len].copy_from_slice(&data);
        count(rustix::io::pwrite(&file, &aligned[skip..skip + len], u64::from(page) * 4096))
    }

    fn direct_read(&self, path: P, page: u8, pages: u8) -> Outcome {
        let file =
            rustix::fs::open(self.path(path), OFlags::RDONLY | OFlags::DIRECT | OFlags::NONBLOCK, Mode::empty())?;
        let len = usize::from(pages) * 4096;
        let mut aligned = vec![0; len + 4096];
        let skip = aligned.as_ptr().align_offset(4096);
        let read = rustix::io::pread(&file, &mut aligned[skip..skip + len], u64::from(page) * 4096)?;
        Ok(Answer::Bytes(aligned[skip..skip + read].to_vec()))
    }
}

/// Half of the renames have no flag; a few have both, which is refused.
fn rename_flags(flags: u8) -> RenameFlags {
    match flags {
        0..128 => RenameFlags::empty(),
        128..190 => RenameFlags::NOREPLACE,
        190..250 => RenameFlags::EXCHANGE,
        _ => RenameFlags::NOREPLACE | RenameFlags::EXCHANGE,
    }
}

fn size(len: u32) -> usize {
    usize::try_from(len).unwrap()
}

fn done(result: Result<(), Errno>) -> Outcome {
    result.map(|()| Answer::Done)
}

fn count(result: Result<usize, Errno>) -> Outcome {
    result.map(|count| Answer::Number(count as u64))
}

/// Bytes that differ from place to place and from write to write.
fn pattern(len: u32, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at % 251).to_le_bytes()[0].wrapping_mul(7).wrapping_add(seed)).collect()
}

fn mode_of(mode: u8) -> Mode {
    Mode::from_raw_mode(MODES[usize::from(mode) % MODES.len()])
}

fn truncate(path: &Path, size: i64) -> Result<(), Errno> {
    let path = CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: the path is a NUL-terminated string that outlives the call.
    match unsafe { libc::truncate(path.as_ptr(), size) } {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap()),
    }
}

fn chown(path: &Path, uid: u8, gid: u8, flags: AtFlags) -> Result<(), Errno> {
    let owner = |number: u8| OWNERS[usize::from(number) % OWNERS.len()];
    rustix::fs::chownat(CWD, path, owner(uid).map(Uid::from_raw), owner(gid).map(Gid::from_raw), flags)
}

fn times(seconds: i32, nanos: u32) -> Timestamps {
    let time = Timespec { tv_sec: seconds.into(), tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: Timespec { tv_nsec: i64::from(nanos / 2), ..time } }
}

fn exact_times(stat: &Stat) -> Outcome {
    let nanos = [stat.st_atime_nsec, stat.st_mtime_nsec].map(u64::cast_signed);
    let times = [stat.st_atime, nanos[0], stat.st_mtime, nanos[1]];
    Ok(Answer::Bytes(times.iter().flat_map(|number| number.to_ne_bytes()).collect()))
}

fn attributes(stat: &Stat) -> Outcome {
    Ok(Answer::Attributes(Attributes::of(stat)))
}

impl Attributes {
    pub(super) fn of(stat: &Stat) -> Self {
        let now =
            i64::try_from(stunfs::internal::time::wall_now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs())
                .unwrap();
        let by_hand = (now - stat.st_mtime).abs() > 3600;
        let kind = FileType::from_raw_mode(stat.st_mode);
        Self {
            mode: stat.st_mode,
            nlink: stat.st_nlink,
            owner: (stat.st_uid, stat.st_gid),
            size: if kind == FileType::Directory { 0 } else { stat.st_size },
            // What is written to a FIFO never reaches a FUSE file system, so it notes no time.
            mtime: (by_hand && kind != FileType::Fifo).then_some((stat.st_mtime, stat.st_mtime_nsec)),
        }
    }
}

pub(super) fn list(path: &Path) -> Outcome {
    let dir = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(&dir)? {
        let entry = entry?;
        names.push((entry.file_name().to_bytes().to_vec(), entry.file_type()));
    }
    names.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(Answer::Names(names))
}

fn xattr(name: u8) -> &'static str {
    XATTRS[usize::from(name) % XATTRS.len()]
}

pub(super) fn get_xattr(path: &Path, name: &str, len: u16) -> Outcome {
    let mut value = vec![0; usize::from(len)];
    let len = rustix::fs::lgetxattr(path, name, &mut value)?;
    value.truncate(len);
    if value.is_empty() { Ok(Answer::Number(len as u64)) } else { Ok(Answer::Bytes(value)) }
}

pub(super) fn list_xattr(path: &Path) -> Outcome {
    let mut names = vec![0; 1000];
    let len = rustix::fs::llistxattr(path, &mut names)?;
    names.truncate(len);
    let mut names: Vec<&[u8]> = names.split_inclusive(|byte| *byte == 0).collect();
    names.sort_unstable();
    Ok(Answer::Bytes(names.concat()))
}

const fn acl_name(default: bool) -> &'static str {
    if default { "system.posix_acl_default" } else { "system.posix_acl_access" }
}

/// The ACLs that `setfacl` would write: version 2, then tag, permissions and id of each entry.
fn acl(which: u8) -> Vec<u8> {
    let entry = |tag: u16, permissions: u16, id: u32| {
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes()[..], &id.to_le_bytes()[..]].concat()
    };
    let (nobody, user) = (u32::MAX, entry(2, 6, 1000));
    let (owner, group, other) = (entry(1, 6, nobody), entry(4, 4, nobody), entry(32, 0, nobody));
    let mut acl = 2_u32.to_le_bytes().to_vec();
    match which % 4 {
        0 => acl.extend([owner, user, group, entry(16, 6, nobody), other].concat()),
        1 => acl.extend([owner, group, other].concat()),
        2 => acl.extend([owner, group, entry(8, 5, 1001), entry(16, 4, nobody), entry(32, 5, nobody)].concat()),
        // No mask, which named entries need: refused.
        _ => acl.extend([owner, user, group, other].concat()),
    }
    acl
}

fn allocate(file: &OwnedFd, mode: u8, offset: u32, len: u32) -> Result<(), Errno> {
    let mode = match mode % 6 {
        0 => FallocateFlags::empty(),
        1 => FallocateFlags::KEEP_SIZE,
        2 => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        3 => FallocateFlags::ZERO_RANGE,
        4 => FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
        // Without KEEP_SIZE: refused.
        _ => FallocateFlags::PUNCH_HOLE,
    };
    rustix::fs::fallocate(file, mode, offset.into(), len.into())
}

fn write_back(file: &OwnedFd) {
    let whole = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: no memory is involved.
    unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, whole) };
    rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

/// The part of a file from the page of `offset` on that can be mapped; `None`: it has none.
fn mappable(file: &OwnedFd, offset: u32, len: u32) -> Result<Option<(u64, usize)>, Errno> {
    let stat = rustix::fs::fstat(file)?;
    let offset = u64::from(offset) / 4096 * 4096;
    let left = u64::try_from(stat.st_size).unwrap().saturating_sub(offset).min(len.into());
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    Ok((regular && left > 0).then_some((offset, usize::try_from(left).unwrap())))
}

fn map_shared(file: &OwnedFd, offset: u32, len: u32, seed: u8) -> Outcome {
    let Some((offset, len)) = mappable(file, offset, len)? else { return Ok(Answer::Nothing) };
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let data = pattern(u32::try_from(len).unwrap(), seed);
    // SAFETY: a new mapping, used only here, within the size of a file that no other thread changes meanwhile.
    unsafe {
        let map = rustix::mm::mmap(std::ptr::null_mut(), len, protection, MapFlags::SHARED, file.as_fd(), offset)?;
        std::ptr::copy_nonoverlapping(data.as_ptr(), map.cast(), len);
        let synced = rustix::mm::msync(map, len, MsyncFlags::SYNC);
        rustix::mm::munmap(map, len)?;
        done(synced)
    }
}

fn map_private(file: &OwnedFd, offset: u32, len: u32) -> Outcome {
    let Some((offset, len)) = mappable(file, offset, len)? else { return Ok(Answer::Nothing) };
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let mut seen = vec![0_u8; len];
    // SAFETY: as above.
    unsafe {
        let map = rustix::mm::mmap(std::ptr::null_mut(), len, protection, MapFlags::PRIVATE, file.as_fd(), offset)?;
        std::ptr::copy_nonoverlapping(map.cast_const().cast(), seen.as_mut_ptr(), len);
        map.cast::<u8>().write_bytes(0xee, len);
        rustix::mm::munmap(map, len)?;
    }
    Ok(Answer::Bytes(seen))
}

fn lock_kind(kind: u8) -> FlockOperation {
    [FlockOperation::NonBlockingLockShared, FlockOperation::NonBlockingLockExclusive, FlockOperation::Unlock]
        [usize::from(kind) % 3]
}

fn lock_range(file: &OwnedFd, kind: u8, start: u16, len: u16) -> Outcome {
    let kind = [libc::F_RDLCK, libc::F_WRLCK, libc::F_UNLCK][usize::from(kind) % 3];
    let lock = libc::flock {
        l_type: i16::try_from(kind).unwrap(),
        l_whence: 0,
        l_start: i64::from(start % 64),
        l_len: i64::from(len % 64) + 1,
        l_pid: 0,
    };
    // SAFETY: `lock` has the layout that the call wants, and outlives it.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock) } {
        -1 => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap()),
        _ => Ok(Answer::Done),
    }
}
