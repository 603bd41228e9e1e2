//! The acknowledgement log: what a writer has told its client is written, in a file that is not on the storage under test.
//!
//! Must not know: what records look like. Invariant: a record stands there as acknowledged only after its write (with fsync: its sync)
//! has succeeded, and as retired before its file is unlinked; half a line, left by a crash, says nothing.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use roaring::RoaringTreemap;

use super::kept::Kept;
use super::ranges::ranges;

/// An acknowledgement log that is being written.
#[derive(Debug)]
pub(super) struct AckLog {
    file: File,
    /// The last record of each writer that an earlier run has acknowledged, deleted ones included.
    earlier: BTreeMap<String, u64>,
    /// Lines that could not be written.
    failed: AtomicU64,
}

/// Why an acknowledgement log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AckLogError {
    /// The system refuses it.
    #[error("cannot use the acknowledgement log {path}: {cause}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Something else stands there.
    #[error(
        "{path}, line {line}, is no line of an acknowledgement log (such as 'ack fluentd-0 17 17;'); name the file that --ack-log wrote"
    )]
    Line {
        /// Which.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
    },
}

impl AckLog {
    /// Opens a log, and goes on with one that is there.
    pub(super) fn open(path: &Path) -> Result<Self, AckLogError> {
        let wrong = |cause| AckLogError::Io { path: path.to_owned(), cause };
        let mut earlier = BTreeMap::new();
        if path.exists() {
            read_lines(path, |_, writer, numbers| {
                let last = earlier.entry(writer.to_owned()).or_insert(0);
                *last = (*last).max(*numbers.end());
            })?;
        }
        let mut file = OpenOptions::new().append(true).create(true).open(path).map_err(wrong)?;
        // The line that a crash has cut off ends here.
        if file.metadata().map_err(wrong)?.len() > 0 {
            file.write_all(b"\n").map_err(wrong)?;
        }
        Ok(Self { file, earlier, failed: AtomicU64::new(0) })
    }

    pub(super) fn acknowledged(&self, writer: &str, numbers: &RangeInclusive<u64>) {
        self.line("ack", writer, numbers);
    }

    pub(super) fn retired(&self, writer: &str, numbers: &RangeInclusive<u64>) {
        self.line("gone", writer, numbers);
    }

    /// The first number that no earlier run has acknowledged.
    pub(super) fn first_free(&self, writer: &str) -> u64 {
        self.earlier.get(writer).map_or(0, |last| last.saturating_add(1))
    }

    /// How many lines could not be written.
    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// One write(2) for a line, so that lines of several threads do not mix. It is not synced: it outlives this process, not the machine.
    fn line(&self, what: &str, writer: &str, numbers: &RangeInclusive<u64>) {
        let line = format!("{what} {writer} {} {};\n", numbers.start(), numbers.end());
        if (&self.file).write_all(line.as_bytes()).is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Which records must be there by what a log says.
pub fn read_ack_log(path: &Path) -> Result<Vec<Kept>, AckLogError> {
    let mut acknowledged: BTreeMap<String, RoaringTreemap> = BTreeMap::new();
    read_lines(path, |acknowledges, writer, numbers| {
        let set = acknowledged.entry(writer.to_owned()).or_default();
        if acknowledges {
            set.insert_range(numbers);
        } else {
            set.remove_range(numbers);
        }
    })?;
    Ok(acknowledged.into_iter().map(|(writer, set)| Kept { writer, records: ranges(&set).collect() }).collect())
}

/// Calls `each` with every whole line: whether it acknowledges, the writer, the numbers.
fn read_lines(path: &Path, mut each: impl FnMut(bool, &str, RangeInclusive<u64>)) -> Result<(), AckLogError> {
    let text = std::fs::read(path).map_err(|cause| AckLogError::Io { path: path.to_owned(), cause })?;
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    for (at, line) in text[..whole].split(|byte| *byte == b'\n').enumerate() {
        match std::str::from_utf8(line).ok().and_then(parse_line) {
            Some((what, writer, numbers)) => each(what == "ack", writer, numbers),
            None if line.is_empty() || is_cut_off(line) => {}
            None => return Err(AckLogError::Line { path: path.to_owned(), line: at + 1 }),
        }
    }
    Ok(())
}

/// Whether `line` is the beginning of one that a crash has cut off.
fn is_cut_off(line: &[u8]) -> bool {
    let begins = |word: &[u8]| line.starts_with(word) || word.starts_with(line);
    !line.ends_with(b";") && (begins(b"ack ") || begins(b"gone "))
}

fn parse_line(line: &str) -> Option<(&str, &str, RangeInclusive<u64>)> {
    // The end shows that a number has all its digits.
    let mut fields = line.strip_suffix(';')?.split(' ');
    let what = fields.next().filter(|what| ["ack", "gone"].contains(what))?;
    let writer = fields.next()?;
    let (first, last) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    fields.next().is_none().then_some((what, writer, first..=last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_says_what_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acks");
        let log = AckLog::open(&path).unwrap();
        log.acknowledged("a-0", &(0..=9));
        log.acknowledged("b-0", &(5..=5));
        log.retired("a-0", &(0..=3));
        // A crash cuts a line off, and the next run goes on.
        (&log.file).write_all(b"ack a-0 10 1").unwrap();
        let kept = |writer: &str, records: &[(u64, u64)]| Kept { writer: writer.into(), records: records.to_vec() };
        assert_eq!(read_ack_log(&path).unwrap(), [kept("a-0", &[(4, 9)]), kept("b-0", &[(5, 5)])]);
        let log = AckLog::open(&path).unwrap();
        log.acknowledged("a-0", &(20..=20));
        assert_eq!(read_ack_log(&path).unwrap()[0], kept("a-0", &[(4, 9), (20, 20)]));
        assert_eq!((log.first_free("a-0"), log.first_free("c-0"), log.failed()), (10, 0, 0));
    }

    #[test]
    fn another_file_is_refused_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acks");
        std::fs::write(&path, "ack a-0 1 2;\nhello\nack a-0 3 3;\n").unwrap();
        let error = read_ack_log(&path).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
        assert!(read_ack_log(&dir.path().join("none")).unwrap_err().to_string().contains("none"));
    }
}
