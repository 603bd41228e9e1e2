//! Writers: files that are created, appended to record by record, renamed when full, unlinked when old.
//!
//! Must not know: threads, time. Invariant: a record is told as written only after the calls that make it so have
//! succeeded, and as gone before its file is unlinked; after an error the next record goes to a new file, so that no
//! record follows half another.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::workload::crew::Worker;
use crate::workload::measure::{Meter, WriterOp};
use crate::workload::names::first_of;
use crate::workload::record::encode;
use crate::workload::{WorkloadOptions, WriterKind};

/// Bytes that tar writes at a time.
const TAR_RECORD: usize = 10 << 10;

/// When records are synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sync {
    Never,
    EachRecord,
    EachFile,
}

/// What a writer's files look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileLayout {
    record_bytes: usize,
    records_per_file: u64,
    /// Full files beyond this number are unlinked, the oldest first.
    keep: Option<usize>,
    /// Files are written under another name, and get their own when they are full.
    rename: bool,
    sync: Sync,
}

impl FileLayout {
    fn of(options: &WorkloadOptions) -> Self {
        let (record_bytes, records_per_file, keep, rename) = match options.kind {
            WriterKind::Churn => (4096, 1, Some(64), false),
            _ => (1 << 20, 64, None, true),
        };
        let sync = match options.kind {
            _ if !options.fsync => Sync::Never,
            WriterKind::Churn => Sync::EachRecord,
            _ => Sync::EachFile,
        };
        let record_bytes = options.record_bytes.unwrap_or(record_bytes);
        Self { record_bytes, records_per_file, keep, rename, sync }
    }
}

/// The file that is being written.
#[derive(Debug)]
struct Open {
    file: File,
    path: PathBuf,
    first: u64,
}

/// A file that is not written any more.
#[derive(Debug)]
struct Full {
    path: PathBuf,
    records: RangeInclusive<u64>,
}

/// One writer.
#[derive(Debug)]
pub(crate) struct Appender {
    shape: FileLayout,
    seed: u64,
    dir: PathBuf,
    name: String,
    /// The next record's number.
    next: u64,
    open: Option<Open>,
    full: VecDeque<Full>,
}

impl Appender {
    /// A writer called `name`, which goes on where an earlier one of that name ended.
    pub(crate) fn new(options: &WorkloadOptions, name: &str, meter: &Meter) -> io::Result<Self> {
        let shape = FileLayout::of(options);
        let mut full = VecDeque::new();
        for (first, path) in meter.time(WriterOp::List, || earlier_files(&options.dir, name))? {
            full.push_back(Full { path, records: first..=first.saturating_add(shape.records_per_file - 1) });
        }
        let next = full.back().map_or(0, |file| file.records.end().saturating_add(1)).max(meter.first_free());
        let (dir, name) = (options.dir.clone(), name.to_owned());
        Ok(Self { shape, seed: options.seed, dir, name, next, open: None, full })
    }

    /// Writes the next record, with all that is due before and after it.
    fn write_next(&mut self, meter: &Meter) -> io::Result<()> {
        let number = self.next;
        // Also after an error: a file that could not be created may be there all the same.
        self.next += 1;
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.create(number, meter)?,
        };
        let written = self.append(&mut open, number, meter);
        let is_full = self.next - open.first >= self.shape.records_per_file;
        match written {
            Ok(()) if is_full => self.finish(open, meter),
            Ok(()) => {
                self.open = Some(open);
                Ok(())
            }
            Err(error) => {
                self.put_away(open.path, open.first);
                Err(error)
            }
        }
    }

    fn create(&self, first: u64, meter: &Meter) -> io::Result<Open> {
        let path = self.path(first, if self.shape.rename { "open" } else { "log" });
        let file = meter.time(WriterOp::Create, || OpenOptions::new().append(true).create_new(true).open(&path))?;
        Ok(Open { file, path, first })
    }

    fn append(&self, open: &mut Open, number: u64, meter: &Meter) -> io::Result<()> {
        let record = encode(self.seed, &self.name, number, self.shape.record_bytes);
        for block in record.chunks(TAR_RECORD) {
            meter.time(WriterOp::Write, || open.file.write_all(block))?;
        }
        if self.shape.sync == Sync::EachRecord {
            meter.time(WriterOp::Fsync, || open.file.sync_all())?;
        }
        if self.shape.sync != Sync::EachFile {
            meter.written(number..=number);
        }
        Ok(())
    }

    /// Syncs, closes and renames a file, and unlinks what is too old.
    fn finish(&mut self, open: Open, meter: &Meter) -> io::Result<()> {
        let Open { file, path, first } = open;
        let done = self.close(file, &path, first, meter);
        let path = if done.is_ok() { self.path(first, "log") } else { path };
        self.put_away(path, first);
        done?;
        self.expire(meter)
    }

    fn close(&self, file: File, path: &Path, first: u64, meter: &Meter) -> io::Result<()> {
        if self.shape.sync == Sync::EachFile {
            meter.time(WriterOp::Fsync, || file.sync_all())?;
            meter.written(first..=self.next - 1);
        }
        meter.time(WriterOp::Close, || {
            drop(file);
            Ok(())
        })?;
        if self.shape.rename {
            meter.time(WriterOp::Rename, || fs::rename(path, self.path(first, "log")))?;
        }
        Ok(())
    }

    fn put_away(&mut self, path: PathBuf, first: u64) {
        self.full.push_back(Full { path, records: first..=self.next - 1 });
    }

    fn expire(&mut self, meter: &Meter) -> io::Result<()> {
        let Some(keep) = self.shape.keep else { return Ok(()) };
        while self.full.len() > keep {
            let Some(old) = self.full.pop_front() else { break };
            meter.retired(old.records);
            meter.time(WriterOp::Unlink, || fs::remove_file(&old.path))?;
        }
        Ok(())
    }

    fn path(&self, first: u64, end: &str) -> PathBuf {
        self.dir.join(format!("{}.{first:012}.{end}", self.name))
    }
}

impl Worker for Appender {
    fn step(&mut self, meter: &Meter) -> io::Result<()> {
        self.write_next(meter)
    }

    /// Closes the file that is open; where files are synced, this one is, too.
    fn end(&mut self, meter: &Meter) -> io::Result<()> {
        self.open.take().map_or(Ok(()), |open| self.finish(open, meter))
    }
}

/// The files of writer `name`, with the number of the first record in each, in order.
fn earlier_files(dir: &Path, name: &str) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        let of_writer =
            entry.file_name().to_str().and_then(|file| file.split_once('.')).is_some_and(|(it, _)| it == name);
        if let Some(first) = first_of(&path).filter(|_| of_writer) {
            found.push((first, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}
