//! A file-system object held by a descriptor: attributes, owner, times, extended attributes, reopening.
//!
//! Must not know: names, directories' contents, callers. Invariant: whatever is renamed or replaced meanwhile, an
//! [`Object`] is the one that was opened.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Stat, StatVfs, StatxFlags, Timestamps, Uid, XattrFlags, statx};

use super::{Errno, Result};

/// When an object was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Birth {
    seconds: i64,
    nanos: u32,
}

/// A file-system object, held open. Clones share the descriptor.
#[derive(Debug, Clone)]
pub struct Object {
    fd: Arc<OwnedFd>,
    /// The descriptor only names the object (`O_PATH`).
    path_only: bool,
}

impl Object {
    /// An object named by an `O_PATH` descriptor.
    pub fn named(fd: OwnedFd) -> Self {
        Self { fd: Arc::new(fd), path_only: true }
    }

    /// An object that was opened for reading or writing.
    pub const fn opened(fd: Arc<OwnedFd>) -> Self {
        Self { fd, path_only: false }
    }

    /// Its attributes.
    pub fn stat(&self) -> Result<Stat> {
        rustix::fs::fstat(&self.fd)
    }

    /// When it was made; `None`: the file system does not keep that.
    pub fn birth(&self) -> Option<Birth> {
        let stat = statx(&self.fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BTIME).ok()?;
        let said = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
        said.then_some(Birth { seconds: stat.stx_btime.tv_sec, nanos: stat.stx_btime.tv_nsec })
    }

    /// Size and free space of the file system that it is on.
    pub fn stat_vfs(&self) -> Result<StatVfs> {
        rustix::fs::fstatvfs(&self.fd)
    }

    /// Opens it anew. `flags` must not create; `O_NOFOLLOW` makes no sense here, since the object is known.
    pub fn reopen(&self, flags: OFlags) -> Result<OwnedFd> {
        rustix::fs::open(ProcPath::of(self.fd.as_fd()).as_c_str(), flags | OFlags::CLOEXEC, Mode::empty())
    }

    /// Opens the directory above a directory, which may lie outside of the backing.
    pub fn parent(&self) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, c"..", flags, Mode::empty())
    }

    /// Sets the permission bits, set-id bits included.
    pub fn chmod(&self, mode: u32) -> Result<()> {
        let mode = Mode::from_raw_mode(mode & 0o7777);
        if self.path_only {
            rustix::fs::chmod(ProcPath::of(self.fd.as_fd()).as_c_str(), mode)
        } else {
            rustix::fs::fchmod(&self.fd, mode)
        }
    }

    /// Sets owner and group; `None` leaves one as it is. The kernel clears set-id bits of files.
    pub fn chown(&self, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        rustix::fs::chownat(&self.fd, c"", uid, gid, AtFlags::EMPTY_PATH)
    }

    /// Sets the size of a file.
    pub fn truncate(&self, size: u64) -> Result<()> {
        let size = libc::off_t::try_from(size).map_err(|_| Errno::FBIG)?;
        // SAFETY: the path is a NUL-terminated string that outlives the call.
        let done = unsafe { libc::truncate(ProcPath::of(self.fd.as_fd()).as_c_str().as_ptr(), size) };
        if done == 0 { Ok(()) } else { Err(last_error()) }
    }

    /// Sets access and modification time.
    pub fn set_times(&self, times: &Timestamps) -> Result<()> {
        rustix::fs::utimensat(&self.fd, c"", times, AtFlags::EMPTY_PATH)
    }

    /// The target of a symbolic link.
    pub fn read_link(&self) -> Result<Vec<u8>> {
        rustix::fs::readlinkat(&self.fd, c"", Vec::with_capacity(256)).map(std::ffi::CString::into_bytes)
    }

    /// Reads an extended attribute into `buffer`; its length. `ERANGE` if it does not fit.
    pub fn get_xattr(&self, name: &OsStr, buffer: &mut [u8]) -> Result<usize> {
        if self.path_only {
            rustix::fs::getxattr(ProcPath::of(self.fd.as_fd()).as_c_str(), name, buffer)
        } else {
            rustix::fs::fgetxattr(&self.fd, name, buffer)
        }
    }

    /// The length of an extended attribute.
    pub fn xattr_len(&self, name: &OsStr) -> Result<usize> {
        if self.path_only {
            rustix::fs::getxattr_query(ProcPath::of(self.fd.as_fd()).as_c_str(), name)
        } else {
            rustix::fs::fgetxattr_query(&self.fd, name)
        }
    }

    /// Sets an extended attribute. `flags`: `XATTR_CREATE`, `XATTR_REPLACE`.
    pub fn set_xattr(&self, name: &OsStr, value: &[u8], flags: u32) -> Result<()> {
        let flags = XattrFlags::from_bits_retain(flags);
        if self.path_only {
            rustix::fs::setxattr(ProcPath::of(self.fd.as_fd()).as_c_str(), name, value, flags)
        } else {
            rustix::fs::fsetxattr(&self.fd, name, value, flags)
        }
    }

    /// Removes an extended attribute.
    pub fn remove_xattr(&self, name: &OsStr) -> Result<()> {
        if self.path_only {
            rustix::fs::removexattr(ProcPath::of(self.fd.as_fd()).as_c_str(), name)
        } else {
            rustix::fs::fremovexattr(&self.fd, name)
        }
    }

    /// The names of its extended attributes, each ended by a NUL.
    pub fn list_xattr(&self) -> Result<Vec<u8>> {
        loop {
            let mut names = vec![0; self.list_xattr_into(&mut [])?];
            if names.is_empty() {
                return Ok(names);
            }
            match self.list_xattr_into(&mut names) {
                // Another process added one between the two calls.
                Err(Errno::RANGE) => {}
                Err(error) => return Err(error),
                Ok(len) => {
                    names.truncate(len);
                    return Ok(names);
                }
            }
        }
    }

    fn list_xattr_into(&self, buffer: &mut [u8]) -> Result<usize> {
        let path = ProcPath::of(self.fd.as_fd());
        match (self.path_only, buffer.is_empty()) {
            (true, true) => rustix::fs::listxattr_query(path.as_c_str()),
            (true, false) => rustix::fs::listxattr(path.as_c_str(), buffer),
            (false, true) => rustix::fs::flistxattr_query(&self.fd),
            (false, false) => rustix::fs::flistxattr(&self.fd, buffer),
        }
    }
}

impl AsFd for Object {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `/proc/self/fd/N`: the way to an object behind an `O_PATH` descriptor for calls that take no such descriptor.
pub(super) struct ProcPath([u8; Self::SIZE]);

impl ProcPath {
    const PREFIX: &'static [u8] = b"/proc/self/fd/";
    const SIZE: usize = 32;

    pub(super) fn of(fd: BorrowedFd<'_>) -> Self {
        let mut path = [0; Self::SIZE];
        path[..Self::PREFIX.len()].copy_from_slice(Self::PREFIX);
        let mut number = fd.as_raw_fd().unsigned_abs();
        let digits = usize::try_from(number.checked_ilog10().unwrap_or(0)).unwrap_or(0) + 1;
        for at in (Self::PREFIX.len()..Self::PREFIX.len() + digits).rev() {
            path[at] = b'0' + u8::try_from(number % 10).unwrap_or(0);
            number /= 10;
        }
        Self(path)
    }

    pub(super) fn as_c_str(&self) -> &CStr {
        // The longest number has ten digits: a NUL always follows.
        CStr::from_bytes_until_nul(&self.0).unwrap_or(c"")
    }
}

/// The error of the `libc` call that has just failed on this thread.
pub(super) fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_has_its_proc_path() {
        for (number, path) in
            [(0, c"/proc/self/fd/0"), (10, c"/proc/self/fd/10"), (1_234_567, c"/proc/self/fd/1234567")]
        {
            // SAFETY: the descriptor is only printed, never used.
            let fd = unsafe { BorrowedFd::borrow_raw(number) };
            assert_eq!(ProcPath::of(fd).as_c_str(), path);
        }
    }
}
