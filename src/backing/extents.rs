//! Where a file has data.
//!
//! Must not know: why one asks. Invariant: the ranges are in order, apart from each other, and leave out no data.

use std::os::fd::AsFd;

use super::{Errno, Result, seek_data, seek_hole};
use crate::units::ByteRange;

/// The ranges of an open file that hold data. A file system that cannot tell holes apart has data everywhere.
pub fn data_extents(fd: impl AsFd) -> Result<Vec<ByteRange>> {
    Ok(data_extents_up_to(fd, usize::MAX)?.unwrap_or_default())
}

/// As [`data_extents`]; `None`: there are more than `most`.
pub fn data_extents_up_to(fd: impl AsFd, most: usize) -> Result<Option<Vec<ByteRange>>> {
    let fd = fd.as_fd();
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        let start = match seek_data(fd, at) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(Some(found)),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return whole(fd).map(Some),
            Err(error) => return Err(error),
        };
        let end = match seek_hole(fd, start) {
            Ok(end) => end,
            // Truncated between the two calls.
            Err(Errno::NXIO) => return Ok(Some(found)),
            Err(error) => return Err(error),
        };
        push(&mut found, ByteRange { start, end });
        if end <= at {
            return Ok(Some(found));
        }
        if found.len() > most {
            return Ok(None);
        }
        at = end;
    }
}

/// Adds a range at the end, or lengthens the last one if they touch.
fn push(found: &mut Vec<ByteRange>, range: ByteRange) {
    match found.last_mut() {
        Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
        _ if range.is_empty() => {}
        _ => found.push(range),
    }
}

fn whole(fd: impl AsFd) -> Result<Vec<ByteRange>> {
    let size = u64::try_from(rustix::fs::fstat(fd)?.st_size).unwrap_or(0);
    Ok(if size == 0 { Vec::new() } else { vec![ByteRange::at(0, size)] })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn data_and_holes_are_told_apart() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(data_extents(&file).unwrap(), []);
        file.write_all_at(&[1; 4096], 0).unwrap();
        file.write_all_at(&[1; 8192], 1 << 20).unwrap();
        file.set_len(10 << 20).unwrap();
        assert_eq!(data_extents(&file).unwrap(), [ByteRange::at(0, 4096), ByteRange::at(1 << 20, 8192)]);
    }

    #[test]
    fn a_look_with_a_limit_ends_early() {
        let file = tempfile::tempfile().unwrap();
        (0..10).for_each(|n| file.write_all_at(b"x", n << 20).unwrap());
        assert_eq!(data_extents_up_to(&file, 9).unwrap(), None);
        assert_eq!(data_extents_up_to(&file, 10).unwrap().map(|found| found.len()), Some(10));
    }

    #[test]
    fn what_is_allocated_but_not_written_is_no_data() {
        let file = tempfile::tempfile().unwrap();
        if super::super::allocate(&file, 0, 0, 1 << 20).is_ok() {
            assert_eq!(data_extents(&file).unwrap(), []);
        }
    }

    #[test]
    fn ranges_that_touch_become_one() {
        let mut found = Vec::new();
        for range in [ByteRange::at(0, 10), ByteRange::at(10, 5), ByteRange::at(15, 0), ByteRange::at(20, 1)] {
            push(&mut found, range);
        }
        assert_eq!(found, [ByteRange::at(0, 15), ByteRange::at(20, 1)]);
    }
}
