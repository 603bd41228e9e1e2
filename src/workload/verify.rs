//! Reads back what writers left, and says what is missing.
//!
//! Must not know: how it was written. Invariant: a record counts as found only if all of it is there; files of others
//! are not touched, and nothing is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};

use super::appender::parse_name;
use super::record::decode;
use super::report::{Kept, ranges};

/// Ranges of lost records that are listed; the count is of all.
const MAX_LISTED: usize = 100;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Files of writers.
    pub files: u64,
    /// Records found, each once.
    pub records: u64,
    /// Records found again.
    pub duplicates: u64,
    /// Pieces that are no whole record (torn, zeroed, mixed).
    pub damaged: u64,
    /// Records that should be there and are not.
    pub lost: u64,
    /// Records that are there although no writer was told so: of writes that failed or never came back, such as one
    /// that the file system's server carried out and was killed before it answered. They are no loss.
    #[serde(default)]
    pub unacknowledged: u64,
    /// Which are lost, up to 100 ranges.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub lost_records: Vec<Kept>,
}

/// Reads all writers' files in `dir`. `kept` says which records must be there (from a [`super::WorkloadReport`]); without it
/// only what is missing inside a file, before a later record, is known to be lost.
pub fn verify(dir: &Path, kept: Option<&[Kept]>) -> io::Result<Verified> {
    let mut verified = Verified::default();
    let mut found: BTreeMap<String, RoaringTreemap> = BTreeMap::new();
    let mut expected: BTreeMap<String, RoaringTreemap> = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some((writer, first)) = name.to_str().and_then(parse_name) else { continue };
        verified.files += 1;
        let numbers = read_file(&entry.path(), writer, &mut verified)?;
        if let Some(last) = numbers.max().filter(|_| kept.is_none()) {
            expected.entry(writer.to_owned()).or_default().insert_range(first..=last);
        }
        let all = found.entry(writer.to_owned()).or_default();
        verified.duplicates += all.intersection_len(&numbers);
        *all |= numbers;
    }
    for Kept { writer, records } in kept.unwrap_or_default() {
        let set = expected.entry(writer.clone()).or_default();
        for (first, last) in records {
            set.insert_range(*first..=*last);
        }
    }
    verified.records = found.values().map(RoaringTreemap::len).sum();
    if kept.is_some() {
        let none = RoaringTreemap::new();
        let beside = |(writer, found): (&String, &RoaringTreemap)| {
            found.len() - found.intersection_len(expected.get(writer).unwrap_or(&none))
        };
        verified.unacknowledged = found.iter().map(beside).sum();
    }
    verified.count_lost(expected, &found);
    Ok(verified)
}

impl Verified {
    fn count_lost(&mut self, expected: BTreeMap<String, RoaringTreemap>, found: &BTreeMap<String, RoaringTreemap>) {
        for (writer, mut missing) in expected {
            if let Some(found) = found.get(&writer) {
                missing -= found;
            }
            self.lost += missing.len();
            let listed: usize = self.lost_records.iter().map(|lost| lost.records.len()).sum();
            let records: Vec<_> = ranges(&missing).take(MAX_LISTED.saturating_sub(listed)).collect();
            if !records.is_empty() {
                self.lost_records.push(Kept { writer, records });
            }
        }
    }
}

/// The numbers of the writer's records in a file.
fn read_file(path: &Path, writer: &str, verified: &mut Verified) -> io::Result<RoaringTreemap> {
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut numbers = BTreeSet::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(numbers.into_iter().collect());
        }
        // Blocks that never reached the disk read as zeroes; what comes after them may be whole.
        let written = line.rsplit(|byte| *byte == 0).next().unwrap_or_default();
        verified.damaged += u64::from(written.len() < line.len());
        if written.is_empty() {
            continue;
        }
        match written.strip_suffix(b"\n").and_then(decode).filter(|(by, _)| *by == writer) {
            Some((_, number)) => verified.duplicates += u64::from(!numbers.insert(number)),
            None => verified.damaged += 1,
        }
    }
}
