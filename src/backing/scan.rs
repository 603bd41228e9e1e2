//! A walk over the whole backing that finds how much data each file holds.
//!
//! Must not know: what the figures are for. Invariant: it stays on the root's file system, follows no symbolic link,
//! and names each inode once.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags, makedev, openat, statx};

use super::{DirStream, Errno, Result};

/// A regular file that the walk came across.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundFile {
    /// Number of the device that the file is on.
    pub dev: u64,
    /// Number of the inode on that device.
    pub ino: u64,
    /// Bytes of data at most: what is allocated, and no more than the size.
    pub data_bytes: u64,
}

/// What a walk saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScanSummary {
    /// Regular files.
    pub files: u64,
    /// Their data bytes.
    pub data_bytes: u64,
    /// Directories that could not be read.
    pub skipped: u64,
    /// Whether it came to the end (it was not stopped).
    pub complete: bool,
}

/// The space that a file's data takes at most: what is allocated, and no more than its size in whole blocks of 4 KiB. (A
/// million files of one byte take 4 GB, not 1 MB.)
pub fn whole_blocks(sectors: u64, size: u64) -> u64 {
    sectors.saturating_mul(512).min(size.checked_next_multiple_of(4096).unwrap_or(u64::MAX))
}

/// Walks over everything below `root` and tells `found` of each regular file, until the end or until `stop` is set.
pub fn scan(root: impl AsFd, stop: &AtomicBool, mut found: impl FnMut(FoundFile)) -> Result<ScanSummary> {
    let top = open_dir(root, OsStr::new("."))?;
    let dev = rustix::fs::fstat(&top)?.st_dev;
    let mut walk = Walk { dev, linked: HashSet::new(), summary: ScanSummary::default() };
    let mut open = vec![DirStream::new(top)];
    while let Some(dir) = open.last_mut() {
        if stop.load(Ordering::Relaxed) {
            return Ok(walk.summary);
        }
        match walk.next_dir(dir, &mut found) {
            Ok(Some(below)) => open.push(DirStream::new(below)),
            Ok(None) => drop(open.pop()),
            Err(_) => {
                walk.summary.skipped += 1;
                open.pop();
            }
        }
    }
    Ok(ScanSummary { complete: true, ..walk.summary })
}

struct Walk {
    dev: u64,
    /// Inodes with several names that were seen already.
    linked: HashSet<u64>,
    summary: ScanSummary,
}

impl Walk {
    /// Reads `dir` up to the next directory in it; `None` after the last one.
    fn next_dir(&mut self, dir: &mut DirStream, found: &mut impl FnMut(FoundFile)) -> Result<Option<OwnedFd>> {
        loop {
            let Some(entry) = dir.peek()? else { return Ok(None) };
            let (kind, name) = (entry.kind, entry.name.to_owned());
            dir.advance();
            match kind {
                FileType::Directory | FileType::Unknown if name != "." && name != ".." => {
                    if let Some(below) = self.enter(dir, &name) {
                        return Ok(Some(below));
                    }
                    self.file(dir, &name, found);
                }
                FileType::RegularFile => self.file(dir, &name, found),
                _ => {}
            }
        }
    }

    /// Opens the directory `name`; `None` if it is none, or on another file system, or cannot be opened.
    fn enter(&mut self, dir: &DirStream, name: &OsStr) -> Option<OwnedFd> {
        match open_dir(dir, name) {
            Ok(below) => rustix::fs::fstat(&below).is_ok_and(|stat| stat.st_dev == self.dev).then_some(below),
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => None,
            Err(_) => {
                self.summary.skipped += 1;
                None
            }
        }
    }

    fn file(&mut self, dir: &DirStream, name: &OsStr, found: &mut impl FnMut(FoundFile)) {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let wanted = StatxFlags::TYPE | StatxFlags::NLINK | StatxFlags::INO | StatxFlags::SIZE | StatxFlags::BLOCKS;
        // Removed since: nothing to tell of.
        let Ok(stat) = statx(dir, name, flags, wanted) else { return };
        let dev = makedev(stat.stx_dev_major, stat.stx_dev_minor);
        let regular = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::RegularFile;
        if !regular || dev != self.dev || (stat.stx_nlink > 1 && !self.linked.insert(stat.stx_ino)) {
            return;
        }
        let data_bytes = whole_blocks(stat.stx_blocks, stat.stx_size);
        self.summary.files += 1;
        self.summary.data_bytes += data_bytes;
        found(FoundFile { dev, ino: stat.stx_ino, data_bytes });
    }
}

fn open_dir(dir: impl AsFd, name: &OsStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(dir, name.as_bytes(), flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::backing::open_root;

    #[test]
    fn regression_small_files_take_whole_blocks() {
        assert_eq!(whole_blocks(8, 1), 4096);
        assert_eq!(whole_blocks(0, 500 << 30), 0);
        assert_eq!(whole_blocks(u64::MAX, u64::MAX), u64::MAX);
    }

    #[test]
    fn each_file_is_counted_once_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("not-ours"), [1; 9000]).unwrap();
        let deep = dir.path().join("a/b/c");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("one"), [1; 5000]).unwrap();
        std::fs::hard_link(deep.join("one"), dir.path().join("two")).unwrap();
        std::fs::File::create(dir.path().join("hole")).unwrap().set_len(1 << 30).unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("not-ours"), dir.path().join("link2")).unwrap();
        let mut found = Vec::new();
        let root = open_root(dir.path()).unwrap();
        let summary = scan(&root, &AtomicBool::new(false), |file| found.push(file)).unwrap();
        assert_eq!(summary, ScanSummary { files: 2, data_bytes: 8192, skipped: 0, complete: true });
        let ino = std::fs::metadata(dir.path().join("two")).unwrap().ino();
        assert_eq!(found.iter().find(|file| file.ino == ino).unwrap().data_bytes, 8192);
    }

    #[test]
    fn it_stops_when_told_to() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "x").unwrap();
        let root = open_root(dir.path()).unwrap();
        let summary = scan(&root, &AtomicBool::new(true), |_| panic!("stopped")).unwrap();
        assert!(!summary.complete);
    }
}
