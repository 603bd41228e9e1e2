//! A directory's entries, with the backing's own positions (`d_off`).
//!
//! Must not know: inodes, FUSE. Invariant: an entry's position stays valid while others come and go, as far as the
//! backing's file system keeps it so.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, SeekFrom};

use super::object::last_error;
use super::{Errno, Result};

const BUFFER_BYTES: usize = 32 << 10;
/// `struct linux_dirent64`: inode, position of the next entry, length, type, name.
const NAME_AT: usize = 19;

/// An entry as `getdents64(2)` gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawEntry<'a> {
    /// The backing's inode number.
    pub ino: u64,
    /// The position after this entry.
    pub next: u64,
    /// Its type; `FileType::Unknown` if the file system does not say.
    pub kind: FileType,
    /// Its name; `.` and `..` are among them.
    pub name: &'a OsStr,
}

/// Reads a directory, one buffer at a time.
#[derive(Debug)]
pub struct DirStream {
    fd: OwnedFd,
    buffer: Box<[u8]>,
    /// What of the buffer is still to be given out.
    at: usize,
    filled: usize,
    /// Position of the entry at `at`.
    position: u64,
}

impl DirStream {
    /// Reads from the start of the directory behind `fd`, which must be open for reading.
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd, buffer: Box::default(), at: 0, filled: 0, position: 0 }
    }

    /// Goes to `position`: 0, or an entry's `next`. Position 0 always reads the directory anew.
    pub fn seek(&mut self, position: u64) -> Result<()> {
        if position == self.position && (position != 0 || self.filled == 0) {
            return Ok(());
        }
        rustix::fs::seek(&self.fd, SeekFrom::Start(position))?;
        (self.at, self.filled, self.position) = (0, 0, position);
        Ok(())
    }

    /// The entry at the position, which stays where it is; `None` at the end.
    pub fn peek(&mut self) -> Result<Option<RawEntry<'_>>> {
        if self.at >= self.filled && !self.fill()? {
            return Ok(None);
        }
        parse(&self.buffer[self.at..self.filled]).map(|(entry, _)| Some(entry))
    }

    /// Moves past the entry that [`DirStream::peek`] showed.
    pub fn advance(&mut self) {
        if let Ok((entry, len)) = parse(&self.buffer[self.at..self.filled]) {
            self.position = entry.next;
            self.at += len;
        }
    }

    fn fill(&mut self) -> Result<bool> {
        if self.buffer.is_empty() {
            self.buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        }
        (self.at, self.filled) = (0, 0);
        self.filled = get_entries(self.fd.as_fd(), &mut self.buffer)?;
        Ok(self.filled > 0)
    }
}

impl AsFd for DirStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The first entry in `bytes` and its length.
fn parse(bytes: &[u8]) -> Result<(RawEntry<'_>, usize)> {
    let eight = |at: usize| bytes.get(at..at + 8).and_then(|part| part.try_into().ok()).map(u64::from_ne_bytes);
    let len = bytes.get(16..18).and_then(|part| part.try_into().ok()).map(u16::from_ne_bytes).map(usize::from);
    let (Some(ino), Some(next), Some(len)) = (eight(0), eight(8), len) else { return Err(Errno::IO) };
    let name = bytes.get(NAME_AT..len).ok_or(Errno::IO)?;
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    // Directory entries carry the type bits of a mode, shifted down by 12.
    let kind = match u32::from(bytes[18]) {
        0 => FileType::Unknown,
        kind => FileType::from_raw_mode(kind << 12),
    };
    Ok((RawEntry { ino, next, kind, name: OsStr::from_bytes(&name[..end]) }, len))
}

fn get_entries(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes to a buffer that is borrowed for the call.
    let filled = unsafe { libc::syscall(libc::SYS_getdents64, fd.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) };
    usize::try_from(filled).map_err(|_| last_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &std::path::Path) -> DirStream {
        DirStream::new(super::super::open_root(path).unwrap())
    }

    fn rest(stream: &mut DirStream) -> Vec<(String, u64)> {
        let mut seen = Vec::new();
        while let Some(entry) = stream.peek().unwrap() {
            seen.push((entry.name.to_str().unwrap().to_owned(), entry.next));
            stream.advance();
        }
        seen
    }

    #[test]
    fn positions_lead_back_to_where_they_were_taken() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..2000 {
            std::fs::write(dir.path().join(format!("file-with-a-longer-name-{n}")), "").unwrap();
        }
        let mut stream = open(dir.path());
        let all = rest(&mut stream);
        assert_eq!(all.len(), 2002);
        stream.seek(all[1000].1).unwrap();
        assert_eq!(rest(&mut stream), all[1001..]);
        stream.seek(0).unwrap();
        assert_eq!(rest(&mut stream), all);
    }

    #[test]
    fn rewinding_reads_anew() {
        let dir = tempfile::tempdir().unwrap();
        let mut stream = open(dir.path());
        stream.seek(0).unwrap();
        assert!(stream.peek().unwrap().is_some());
        std::fs::write(dir.path().join("late"), "").unwrap();
        stream.seek(0).unwrap();
        assert!(rest(&mut stream).iter().any(|(name, _)| name == "late"));
    }

    #[test]
    fn what_is_not_an_entry_is_an_error() {
        assert_eq!(parse(&[0; 10]), Err(Errno::IO));
        assert_eq!(parse(&[255; 24]), Err(Errno::IO));
    }
}
