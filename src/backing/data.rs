//! The contents of an open file: read, write, allocate, seek, copy, sync.
//!
//! Must not know: which file it is, who asks. Invariant: no call here uses or depends on the descriptor's position, and none
//! fails because a signal came: a backing that is FUSE or NFS itself may answer EINTR for one that has a handler.

use std::os::fd::AsFd;

use std::io::IoSliceMut;

use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::{ReadWriteFlags, retry_on_intr};

use super::{Errno, Result};

/// Reads at `offset`; how many bytes. Less than asked for: the end of the file.
pub fn read_at(fd: impl AsFd, buffer: &mut [u8], offset: u64) -> Result<usize> {
    retry_on_intr(|| rustix::io::pread(&fd, &mut *buffer, offset))
}

/// As [`read_at`], if the backing has the bytes in memory; `None`: the read would wait for the disk. `EOPNOTSUPP`: this
/// file system cannot tell.
pub fn read_at_once(fd: impl AsFd, buffer: &mut [u8], offset: u64) -> Result<Option<usize>> {
    let now = |buffer: &mut [u8], offset| {
        retry_on_intr(|| rustix::io::preadv2(&fd, &mut [IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT))
    };
    let waits = |error| if error == Errno::AGAIN { Ok(None) } else { Err(error) };
    match now(buffer, offset) {
        Ok(read) if read == buffer.len() => Ok(Some(read)),
        // The end of the file, or of what is in memory.
        Ok(read) => match now(&mut buffer[read..], offset + read as u64) {
            Ok(more) => Ok((more == 0).then_some(read)),
            Err(error) => waits(error),
        },
        Err(error) => waits(error),
    }
}

/// Writes at `offset`; how many bytes.
pub fn write_at(fd: impl AsFd, data: &[u8], offset: u64) -> Result<usize> {
    retry_on_intr(|| rustix::io::pwrite(&fd, data, offset))
}

/// `fallocate(2)` with its modes.
pub fn allocate(fd: impl AsFd, mode: u32, offset: u64, len: u64) -> Result<()> {
    retry_on_intr(|| rustix::fs::fallocate(&fd, FallocateFlags::from_bits_retain(mode), offset, len))
}

/// Sets the size.
pub fn truncate(fd: impl AsFd, size: u64) -> Result<()> {
    retry_on_intr(|| rustix::fs::ftruncate(&fd, size))
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
pub fn copy_range(from: impl AsFd, offset: u64, to: impl AsFd, to_offset: u64, len: usize) -> Result<usize> {
    retry_on_intr(|| {
        let (mut offset, mut to_offset) = (offset, to_offset);
        rustix::fs::copy_file_range(&from, Some(&mut offset), &to, Some(&mut to_offset), len)
    })
}

/// Brings a file or directory to the disk; `data_only`: without attributes that do not matter for reading it.
pub fn sync(fd: impl AsFd, data_only: bool) -> Result<()> {
    retry_on_intr(|| if data_only { rustix::fs::fdatasync(&fd) } else { rustix::fs::fsync(&fd) })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn a_read_at_once_is_whole_or_declined() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[7; 5000], 0).unwrap();
        let at_once = |file: &File, len: usize, offset| {
            let mut buffer = vec![0; len];
            read_at_once(file, &mut buffer, offset).map(|read| read.map(|read| buffer[..read].to_vec()))
        };
        for (len, offset, bytes) in [(100, 0, 100), (5000, 0, 5000), (8192, 0, 5000), (4096, 4096, 904), (10, 9000, 0)]
        {
            match at_once(&file, len, offset) {
                Ok(Some(data)) => assert_eq!(data, vec![7; bytes], "{len} at {offset}"),
                // Written back and dropped meanwhile, or a file system that cannot tell.
                Ok(None) | Err(Errno::OPNOTSUPP) => {}
                Err(error) => panic!("{error}"),
            }
        }
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        assert!(matches!(at_once(&file, 5000, 0), Ok(None | Some(_)) | Err(Errno::OPNOTSUPP)));
    }
}
