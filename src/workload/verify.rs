//! Reads back what writers left, and says what is lost, torn, doubled or out of order.
//!
//! Must not know: how it was written. Invariant: a record counts as found only if all of it is there; files of others
//! are not touched, and nothing is changed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};

use super::kept::Kept;
use super::names::{first_of, is_data_file};
use super::ranges::ranges;
use super::record::{find, header};

/// Ranges of lost records that are listed; the count is of all.
const MAX_LISTED: usize = 100;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Files of writers.
    pub files: u64,
    /// Records found, each once.
    pub records: u64,
    /// Records that were acknowledged and not deleted by their writer; none: it is not known which these are.
    #[serde(default)]
    pub acknowledged: Option<u64>,
    /// Records found again.
    pub duplicates: u64,
    /// Records that stand behind a later one of their writer in the same file.
    #[serde(default)]
    pub out_of_order: u64,
    /// Pieces that are no whole record (torn, zeroed, mixed).
    pub damaged: u64,
    /// Records that should be there and are not.
    pub lost: u64,
    /// Those among the lost of which a piece is there.
    #[serde(default)]
    pub torn: u64,
    /// Records that are there although no writer was told so: of writes that failed or never came back, such as one
    /// that the file system's server carried out and was killed before it answered. They are no loss.
    #[serde(default)]
    pub unacknowledged: u64,
    /// Which are lost, up to 100 ranges.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub lost_records: Vec<Kept>,
}

impl Verified {
    /// Whether no acknowledged record is lost, torn, doubled or out of order. Where it is not known which were acknowledged, a piece
    /// of a record is taken for one.
    pub const fn is_clean(&self) -> bool {
        let whole = self.acknowledged.is_some() || self.damaged == 0;
        self.lost == 0 && self.duplicates == 0 && self.out_of_order == 0 && whole
    }
}

/// Records by writer.
type Numbers = BTreeMap<String, RoaringTreemap>;

/// What the files say.
#[derive(Debug, Default)]
struct FoundRecords {
    verified: Verified,
    whole: Numbers,
    /// Numbers of which there is a damaged piece.
    pieces: Numbers,
    /// Numbers that a later record of the same file proves to have been there.
    proven: Numbers,
}

/// Reads all writers' files in `dir`. `kept` says which records must be there (from a [`super::WorkloadReport`] or an acknowledgement
/// log); without it only what is missing inside a file, before a later record, is known to be lost.
pub fn verify(dir: &Path, kept: Option<&[Kept]>) -> io::Result<Verified> {
    let mut found = FoundRecords::default();
    let mut files = Vec::new();
    data_files(dir, dir, &mut files)?;
    for path in files {
        found.read_file(&path)?;
    }
    let FoundRecords { mut verified, whole, pieces, proven } = found;
    let mut expected = if kept.is_some() { Numbers::new() } else { proven };
    for Kept { writer, records } in kept.unwrap_or_default() {
        let set = expected.entry(writer.clone()).or_default();
        for (first, last) in records {
            set.insert_range(*first..=*last);
        }
    }
    verified.records = whole.values().map(RoaringTreemap::len).sum();
    if kept.is_some() {
        verified.acknowledged = Some(expected.values().map(RoaringTreemap::len).sum());
        let none = RoaringTreemap::new();
        let beside = |(writer, found): (&String, &RoaringTreemap)| {
            found.len() - found.intersection_len(expected.get(writer).unwrap_or(&none))
        };
        verified.unacknowledged = whole.iter().map(beside).sum();
    }
    verified.count_lost(expected, &whole, &pieces);
    Ok(verified)
}

/// Files with records in `dir` and below it, in order.
fn data_files(top: &Path, dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let entries = fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
    let mut entries: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    entries.sort_unstable();
    for path in entries {
        // Not through symbolic links.
        let kind = fs::symlink_metadata(&path)?;
        let below = path.strip_prefix(top).unwrap_or(&path);
        if kind.is_dir() && below.components().count() <= 3 {
            data_files(top, &path, files)?;
        } else if kind.is_file() && is_data_file(below) {
            files.push(path);
        }
    }
    Ok(())
}

impl Verified {
    fn count_lost(&mut self, expected: Numbers, found: &Numbers, pieces: &Numbers) {
        for (writer, mut missing) in expected {
            if let Some(found) = found.get(&writer) {
                missing -= found;
            }
            self.lost += missing.len();
            self.torn += pieces.get(&writer).map_or(0, |pieces| pieces.intersection_len(&missing));
            let listed: usize = self.lost_records.iter().map(|lost| lost.records.len()).sum();
            let records: Vec<_> = ranges(&missing).take(MAX_LISTED.saturating_sub(listed)).collect();
            if !records.is_empty() {
                self.lost_records.push(Kept { writer, records });
            }
        }
    }
}

impl FoundRecords {
    fn read_file(&mut self, path: &Path) -> io::Result<()> {
        self.verified.files += 1;
        let mut reader = BufReader::with_capacity(1 << 20, File::open(path)?);
        // First and last number by writer.
        let mut seen: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        let mut line = Vec::new();
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            self.read_line(&line, first_of(path), &mut seen);
        }
        for (writer, (first, last)) in seen {
            self.proven.entry(writer).or_default().insert_range(first..=last);
        }
        Ok(())
    }

    fn read_line(&mut self, line: &[u8], first: Option<u64>, seen: &mut BTreeMap<String, (u64, u64)>) {
        // Blocks that never reached the disk read as zeroes, and so does space that was allocated before it is used; what comes
        // after them may be whole.
        let written = line.rsplit(|byte| *byte == 0).next().unwrap_or_default();
        let zeroed = written.len() < line.len();
        let all_zero = line.iter().all(|byte| *byte == 0);
        self.verified.damaged += u64::from(zeroed && !all_zero);
        if written.is_empty() {
            return;
        }
        let Some((writer, number)) = written.strip_suffix(b"\n").and_then(find) else {
            self.verified.damaged += 1;
            if let Some((writer, number)) = header(written) {
                self.pieces.entry(writer.to_owned()).or_default().insert(number);
            }
            return;
        };
        let again = !self.whole.entry(writer.to_owned()).or_default().insert(number);
        self.verified.duplicates += u64::from(again);
        let (_, last) = seen.entry(writer.to_owned()).or_insert((first.unwrap_or(number).min(number), number));
        self.verified.out_of_order += u64::from(number < *last);
        *last = number.max(*last);
    }
}
