//! The contents of an open file: read, write, allocate, seek, copy, sync.
//!
//! Must not know: which file it is, who asks. Invariant: no call here uses or depends on the descriptor's position.

use std::os::fd::AsFd;

use rustix::fs::{FallocateFlags, SeekFrom};

use super::Result;

/// Reads at `offset`; how many bytes. Less than asked for: the end of the file.
pub fn read_at(fd: impl AsFd, buffer: &mut [u8], offset: u64) -> Result<usize> {
    rustix::io::pread(fd, buffer, offset)
}

/// Writes at `offset`; how many bytes.
pub fn write_at(fd: impl AsFd, data: &[u8], offset: u64) -> Result<usize> {
    rustix::io::pwrite(fd, data, offset)
}

/// `fallocate(2)` with its modes.
pub fn allocate(fd: impl AsFd, mode: u32, offset: u64, len: u64) -> Result<()> {
    rustix::fs::fallocate(fd, FallocateFlags::from_bits_retain(mode), offset, len)
}

/// Sets the size.
pub fn truncate(fd: impl AsFd, size: u64) -> Result<()> {
    rustix::fs::ftruncate(fd, size)
}

/// Where the next data at or after `offset` begins; `ENXIO` if there is none.
pub fn seek_data(fd: impl AsFd, offset: u64) -> Result<u64> {
    rustix::fs::seek(fd, SeekFrom::Data(offset))
}

/// Where the next hole at or after `offset` begins (the end of the file counts as one).
pub fn seek_hole(fd: impl AsFd, offset: u64) -> Result<u64> {
    rustix::fs::seek(fd, SeekFrom::Hole(offset))
}

/// Copies a range between files; how many bytes.
pub fn copy_range(from: impl AsFd, mut offset: u64, to: impl AsFd, mut to_offset: u64, len: usize) -> Result<usize> {
    rustix::fs::copy_file_range(from, Some(&mut offset), to, Some(&mut to_offset), len)
}

/// Brings a file or directory to the disk; `data_only`: without attributes that do not matter for reading it.
pub fn sync(fd: impl AsFd, data_only: bool) -> Result<()> {
    if data_only { rustix::fs::fdatasync(fd) } else { rustix::fs::fsync(fd) }
}
