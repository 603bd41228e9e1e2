//! A database: a write-ahead log in segments that are allocated beforehand, each record synced, and a checkpoint now and then.
//!
//! Must not know: threads. Invariant: a record is acknowledged after its fdatasync; a segment is deleted only after a checkpoint.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, fallocate};

use super::files::make_dir;
use crate::workload::WorkloadOptions;
use crate::workload::crew::Worker;
use crate::workload::measure::{Meter, WriterOp};
use crate::workload::record::{encode, find, mix};

/// Bytes of a record, and of a segment of the log.
const RECORD: usize = 512;
const SEGMENT: u64 = 1 << 20;

/// Segments that are kept after a checkpoint.
const KEPT: usize = 4;

/// A page of the data file, its pages, and how many of them a checkpoint writes.
const PAGE: usize = 8192;
const PAGES: u64 = 1024;
const PAGES_A_CHECKPOINT: u64 = 16;

/// One database.
#[derive(Debug)]
pub(super) struct Database {
    dir: PathBuf,
    seed: u64,
    record_bytes: usize,
    data: File,
    segment: Option<Segment>,
    full: VecDeque<(PathBuf, RangeInclusive<u64>)>,
    next: u64,
    checkpoints: u64,
}

#[derive(Debug)]
struct Segment {
    file: File,
    path: PathBuf,
    first: u64,
    end: u64,
}

impl Database {
    /// Goes on behind the log of an earlier run.
    pub(super) fn new(options: &WorkloadOptions, name: &str, meter: &Meter) -> io::Result<Self> {
        let dir = options.dir.join(name);
        make_dir(&dir)?;
        let mut open = OpenOptions::new();
        open.read(true).write(true).create(true).truncate(false);
        let data = meter.time(WriterOp::Open, || open.open(dir.join("base.db")))?;
        let mut segments = Vec::new();
        for entry in meter.time(WriterOp::List, || fs::read_dir(&dir))? {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "wal") {
                let text = meter.time(WriterOp::Read, || fs::read(&path))?;
                let mut numbers = text.split(|byte| *byte == b'\n').filter_map(find).map(|(_, number)| number);
                let first = numbers.next();
                segments.extend(first.map(|first| (path, first..=numbers.next_back().unwrap_or(first))));
            }
        }
        segments.sort_by_key(|(_, records)| *records.start());
        let next = segments.last().map_or(0, |(_, records)| records.end().saturating_add(1)).max(meter.first_free());
        let record_bytes = options.record_bytes.unwrap_or(RECORD);
        let full = segments.into();
        Ok(Self { dir, seed: options.seed, record_bytes, data, segment: None, full, next, checkpoints: 0 })
    }

    /// A new segment, allocated beforehand, so that appends do not change its size. Its name is free: no earlier record has its number.
    fn create(&self, first: u64, meter: &Meter) -> io::Result<Segment> {
        let path = self.dir.join(format!("{first:016x}.wal"));
        let mut create = OpenOptions::new();
        create.read(true).write(true).create(true).truncate(true);
        let file = meter.time(WriterOp::Create, || create.open(&path))?;
        let length = SEGMENT.max(u64::try_from(self.record_bytes).unwrap_or(SEGMENT));
        meter.time(WriterOp::Allocate, || Ok(fallocate(&file, FallocateFlags::empty(), 0, length)?))?;
        meter.time(WriterOp::Fsync, || file.sync_all())?;
        Ok(Segment { file, path, first, end: 0 })
    }

    fn append(&self, segment: &mut Segment, number: u64, meter: &Meter) -> io::Result<()> {
        let record = encode(self.seed, meter.name(), number, self.record_bytes);
        meter.time(WriterOp::Write, || segment.file.write_all_at(&record, segment.end))?;
        meter.time(WriterOp::Fdatasync, || segment.file.sync_data())?;
        segment.end += u64::try_from(record.len()).unwrap_or(0);
        meter.written(number..=number);
        Ok(())
    }

    /// Writes pages back, syncs the data file, and deletes segments that it makes needless.
    fn checkpoint(&mut self, meter: &Meter) -> io::Result<()> {
        self.checkpoints += 1;
        for page in 0..PAGES_A_CHECKPOINT {
            let number = mix(self.seed ^ mix(self.checkpoints * PAGES_A_CHECKPOINT + page)) % PAGES;
            let at = number * u64::try_from(PAGE).unwrap_or(0);
            meter.time(WriterOp::Write, || self.data.write_all_at(&[b'p'; PAGE], at))?;
        }
        meter.time(WriterOp::Fdatasync, || self.data.sync_data())?;
        while self.full.len() > KEPT {
            let Some((path, records)) = self.full.pop_front() else { break };
            meter.retired(records);
            meter.time(WriterOp::Unlink, || fs::remove_file(&path))?;
        }
        Ok(())
    }
}

impl Worker for Database {
    fn step(&mut self, meter: &Meter) -> io::Result<()> {
        let number = self.next;
        // Also after an error: a piece of the record may be there.
        self.next += 1;
        let mut segment = match self.segment.take() {
            Some(segment) => segment,
            None => self.create(number, meter)?,
        };
        // After an error the next record goes to a new segment.
        let written = self.append(&mut segment, number, meter);
        let room = SEGMENT.saturating_sub(segment.end) >= u64::try_from(self.record_bytes).unwrap_or(u64::MAX);
        if room && written.is_ok() {
            self.segment = Some(segment);
            return Ok(());
        }
        self.full.push_back((segment.path, segment.first..=number));
        written?;
        self.checkpoint(meter)
    }

    fn end(&mut self, _meter: &Meter) -> io::Result<()> {
        self.segment = None;
        Ok(())
    }
}
