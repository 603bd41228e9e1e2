//! File handles: a known object without an open descriptor.
//!
//! Must not know: which objects, when. Invariant: a handle names the same object until that is gone, then `ESTALE`;
//! an inode number that is used again is told apart.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::object::last_error;
use super::{Errno, Result};

/// The largest handle that the kernel gives out.
const MOST_BYTES: usize = 128;

/// `FILEID_INO32_GEN`: inode number and generation, 32 bits each.
const INODE_AND_GENERATION: i32 = 1;
/// `FUSE_SUPER_MAGIC`
const FUSE_MAGIC: rustix::fs::FsWord = 0x6573_5546;

/// An object's handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHandle {
    kind: i32,
    bytes: Box<[u8]>,
}

impl FileHandle {
    /// A number for it: the same for the same object, another one for most others.
    pub fn number(&self) -> u32 {
        let bytes = self.kind.to_le_bytes().into_iter().chain(self.bytes.iter().copied());
        // FNV-1a.
        bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    }

    /// As text, for a file.
    pub fn to_text(&self) -> String {
        let bytes: String = self.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}:{bytes}", self.kind)
    }

    /// What [`FileHandle::to_text`] wrote; `None` if it is something else.
    pub fn from_text(text: &str) -> Option<Self> {
        let (kind, bytes) = text.split_once(':')?;
        let bytes = bytes.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        let bytes: Box<[u8]> = bytes.collect::<Option<_>>()?;
        (bytes.len() <= MOST_BYTES).then_some(Self { kind: kind.parse().ok()?, bytes })
    }
}

/// `struct file_handle`, with room for the largest.
#[repr(C)]
struct Raw {
    len: u32,
    kind: i32,
    bytes: [u8; MOST_BYTES],
}

/// The file system whose handles can be opened.
#[derive(Debug)]
pub struct HandleSource {
    mount: OwnedFd,
}

impl HandleSource {
    /// The file system that `mount` (open, not `O_PATH`) is on; `None` if its handles cannot be made, or not be opened
    /// by this process (that needs CAP_DAC_READ_SEARCH), or end when the kernel drops its caches (FUSE).
    pub fn new(mount: OwnedFd) -> Option<Self> {
        if rustix::fs::fstatfs(&mount).ok()?.f_type == FUSE_MAGIC {
            return None;
        }
        let source = Self { mount };
        let handle = Self::handle_of(source.mount.as_fd()).ok()?;
        source.open(&handle).ok()?;
        Some(source)
    }

    /// The handle of the object behind a descriptor.
    pub fn handle_of(fd: impl AsFd) -> Result<FileHandle> {
        let mut raw = Raw { len: 128, kind: 0, bytes: [0; MOST_BYTES] };
        let mut mount_id = 0;
        // SAFETY: `raw` has the layout of `struct file_handle` with `len` bytes of room; the path is empty and static.
        let done = unsafe {
            libc::syscall(
                libc::SYS_name_to_handle_at,
                fd.as_fd().as_raw_fd(),
                c"".as_ptr(),
                std::ptr::from_mut(&mut raw),
                std::ptr::from_mut::<libc::c_int>(&mut mount_id),
                libc::AT_EMPTY_PATH,
            )
        };
        if done != 0 {
            return Err(last_error());
        }
        let len = usize::try_from(raw.len).map_err(|_| Errno::OVERFLOW)?;
        let bytes = raw.bytes.get(..len).ok_or(Errno::OVERFLOW)?.into();
        Ok(FileHandle { kind: raw.kind, bytes })
    }

    /// Names the object with an `O_PATH` descriptor; `ESTALE` if it is gone.
    pub fn open(&self, handle: &FileHandle) -> Result<OwnedFd> {
        let len = u32::try_from(handle.bytes.len()).map_err(|_| Errno::OVERFLOW)?;
        let mut raw = Raw { len, kind: handle.kind, bytes: [0; MOST_BYTES] };
        raw.bytes.get_mut(..handle.bytes.len()).ok_or(Errno::OVERFLOW)?.copy_from_slice(&handle.bytes);
        open_raw(self.mount.as_fd(), &mut raw)
    }

    /// Names the object that has this inode number now, where the file system opens handles without a generation (ext4);
    /// `ESTALE` elsewhere, and if there is none.
    pub fn open_number(&self, ino: u64) -> Result<OwnedFd> {
        let number = u32::try_from(ino).map_err(|_| Errno::STALE)?.to_ne_bytes();
        let bytes: Vec<u8> = number.into_iter().chain([0; 4]).collect();
        self.open(&FileHandle { kind: INODE_AND_GENERATION, bytes: bytes.into() })
    }
}

fn open_raw(mount: BorrowedFd<'_>, raw: &mut Raw) -> Result<OwnedFd> {
    let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: `raw` has the layout of `struct file_handle` and is borrowed for the call.
    let fd = unsafe { libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), std::ptr::from_mut(raw), flags) };
    let fd = i32::try_from(fd).map_err(|_| Errno::BADF)?;
    if fd < 0 {
        return Err(last_error());
    }
    // SAFETY: the kernel has just given us this descriptor; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_as_text_is_the_same_handle() {
        let handle = FileHandle { kind: 1, bytes: [0, 255, 16].into() };
        assert_eq!(handle.to_text(), "1:00ff10");
        assert_eq!(FileHandle::from_text("1:00ff10"), Some(handle));
        for wrong in ["", "1", "x:00", "1:0g", &format!("1:{}", "00".repeat(MOST_BYTES + 1))] {
            assert_eq!(FileHandle::from_text(wrong), None, "{wrong}");
        }
    }
    use crate::backing::{Object, open_path, open_root};

    #[test]
    fn a_handle_finds_its_object_until_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let Some(source) = HandleSource::new(open_root(dir.path()).unwrap()) else { return };
        std::fs::write(dir.path().join("a"), "x").unwrap();
        let root = Object::named(open_root(dir.path()).unwrap());
        let fd = open_path(&root, "a".as_ref()).unwrap();
        let ino = rustix::fs::fstat(&fd).unwrap().st_ino;
        let handle = HandleSource::handle_of(&fd).unwrap();
        drop(fd);
        std::fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        assert_eq!(rustix::fs::fstat(source.open(&handle).unwrap()).unwrap().st_ino, ino);
        std::fs::remove_file(dir.path().join("b")).unwrap();
        assert_eq!(source.open(&handle).unwrap_err(), Errno::STALE);
    }
}
