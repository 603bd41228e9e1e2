//! Names in a directory: look up, make, link, rename, remove.
//!
//! Must not know: callers, what a name is wanted for. Invariant: a name is one component, and no call here follows a
//! symbolic link.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Stat};

use super::object::ProcPath;
use super::{Errno, Object, Result};

/// Refuses what is not a single component that names an entry: empty, `.`, `..`, with a slash or a NUL in it.
pub fn check_name(name: &OsStr) -> Result<()> {
    let bytes = name.as_bytes();
    let special = bytes.is_empty() || bytes == b"." || bytes == b"..";
    if special || bytes.contains(&b'/') || bytes.contains(&0) { Err(Errno::INVAL) } else { Ok(()) }
}

/// Opens the directory that becomes the root of a volume. Here, and only here, a path is resolved.
pub fn open_root(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Names the entry `name` of `dir` with a descriptor.
pub fn open_path(dir: &Object, name: &OsStr) -> Result<OwnedFd> {
    check_name(name)?;
    rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// The attributes of the entry `name` of `dir`.
pub fn stat_name(dir: &Object, name: &OsStr) -> Result<Stat> {
    check_name(name)?;
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// Makes a file and opens it; `EEXIST` if the name is taken. `flags`: how it is opened.
pub fn create(dir: &Object, name: &OsStr, flags: OFlags, mode: u32) -> Result<OwnedFd> {
    check_name(name)?;
    let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(mode & 0o7777))
}

/// Makes a directory.
pub fn make_dir(dir: &Object, name: &OsStr, mode: u32) -> Result<()> {
    check_name(name)?;
    rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode & 0o7777))
}

/// Makes a file, FIFO, socket or device. `mode` holds the type.
pub fn make_node(dir: &Object, name: &OsStr, mode: u32, rdev: u64) -> Result<()> {
    check_name(name)?;
    rustix::fs::mknodat(dir, name, FileType::from_raw_mode(mode), Mode::from_raw_mode(mode & 0o7777), rdev)
}

/// Makes a symbolic link. Its target is stored, never looked at.
pub fn make_symlink(dir: &Object, name: &OsStr, target: &OsStr) -> Result<()> {
    check_name(name)?;
    rustix::fs::symlinkat(target, dir, name)
}

/// Gives an object one more name.
pub fn link(object: &Object, dir: &Object, name: &OsStr) -> Result<()> {
    check_name(name)?;
    // The link below /proc leads to the object itself, be it a symbolic link: that is what is followed here, no more.
    let path = ProcPath::of(object.as_fd());
    rustix::fs::linkat(CWD, path.as_c_str(), dir, name, AtFlags::SYMLINK_FOLLOW)
}

/// Removes a name; `directory` says which kind it must be.
pub fn remove(dir: &Object, name: &OsStr, directory: bool) -> Result<()> {
    check_name(name)?;
    let flags = if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    rustix::fs::unlinkat(dir, name, flags)
}

/// Renames. `flags` as `renameat2(2)` has them.
pub fn rename(from: &Object, name: &OsStr, to: &Object, new_name: &OsStr, flags: u32) -> Result<()> {
    check_name(name)?;
    check_name(new_name)?;
    if flags == 0 {
        return rustix::fs::renameat(from, name, to, new_name);
    }
    rustix::fs::renameat_with(from, name, to, new_name, RenameFlags::from_bits_retain(flags))
}
