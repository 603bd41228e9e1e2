//! A log that is appended to and rotated, as rsyslog and logrotate do it, or a container runtime and the kubelet.
//!
//! Must not know: threads. Invariant: after an error, or a crash, the next record begins on a line of its own, and its number was never
//! acknowledged.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::files::make_dir;
use crate::time::SimTime;
use crate::workload::crew::Worker;
use crate::workload::measure::{Meter, WriterOp};
use crate::workload::record::{encode, find};
use crate::workload::{RotateStyle, WorkloadOptions};

/// Bytes that are copied at a time.
const COPY: usize = 8 << 10;

/// How a log looks and when it is rotated.
#[derive(Debug, Clone)]
pub(super) struct LogLayout {
    /// The file's name.
    pub(super) file: &'static str,
    /// What stands before each record.
    pub(super) prefix: &'static str,
    pub(super) record_bytes: usize,
    /// It is rotated when it is as large as this.
    pub(super) limit: u64,
    /// Its size is looked at so often.
    pub(super) check: Duration,
    /// Rotated files that are kept.
    pub(super) keep: usize,
    pub(super) style: RotateStyle,
    /// Whether the program that rotates keeps a state file.
    pub(super) has_state: bool,
}

/// Writes one log.
#[derive(Debug)]
pub(super) struct Rotating {
    layout: LogLayout,
    dir: PathBuf,
    seed: u64,
    fsync: bool,
    /// None after an error: it is opened again, and what is there is read anew.
    file: Option<File>,
    bytes: u64,
    next: u64,
    checked: SimTime,
    /// Records by generation; 0 is the file that is written.
    generations: BTreeMap<usize, RangeInclusive<u64>>,
}

impl Rotating {
    /// Goes on with the log of an earlier run, if there is one.
    pub(super) fn new(options: &WorkloadOptions, name: &str, layout: LogLayout, meter: &Meter) -> io::Result<Self> {
        let dir = options.dir.join(name);
        make_dir(&dir)?;
        let (seed, fsync, next, checked) = (options.seed, options.fsync, meter.first_free(), meter.now());
        let generations = BTreeMap::new();
        let mut log = Self { layout, dir, seed, fsync, file: None, bytes: 0, next, checked, generations };
        log.open(meter)?;
        Ok(log)
    }

    fn path(&self, generation: usize) -> PathBuf {
        match generation {
            0 => self.dir.join(self.layout.file),
            _ => self.dir.join(format!("{}.{generation}", self.layout.file)),
        }
    }

    /// Reads what is there, and opens the log to append to it.
    fn open(&mut self, meter: &Meter) -> io::Result<()> {
        self.generations.clear();
        for generation in 0..=self.layout.keep + 1 {
            if let Some(records) = self.records_of(generation, meter)? {
                self.next = self.next.max(records.end().saturating_add(1));
                self.generations.insert(generation, records);
            }
        }
        // A copy whose original was not truncated any more.
        if let (Some(log), Some(copy)) = (self.generations.get(&0), self.generations.get(&1))
            && log.contains(copy.start())
        {
            meter.time(WriterOp::Unlink, || fs::remove_file(self.path(1)))?;
            self.generations.remove(&1);
        }
        let mut file = self.append_to(meter)?;
        self.bytes = file.metadata()?.len();
        if self.ends_inside_a_line()? {
            meter.time(WriterOp::Write, || file.write_all(b"\n"))?;
        }
        self.file = Some(file);
        Ok(())
    }

    fn append_to(&self, meter: &Meter) -> io::Result<File> {
        meter.time(WriterOp::Open, || OpenOptions::new().append(true).create(true).open(self.path(0)))
    }

    fn ends_inside_a_line(&self) -> io::Result<bool> {
        use std::os::unix::fs::FileExt;

        let mut last = [b'\n'];
        if let Some(at) = self.bytes.checked_sub(1) {
            File::open(self.path(0))?.read_exact_at(&mut last, at)?;
        }
        Ok(last != [b'\n'])
    }

    /// First and last record of a generation.
    fn records_of(&self, generation: usize, meter: &Meter) -> io::Result<Option<RangeInclusive<u64>>> {
        let file = match File::open(self.path(generation)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => meter.time(WriterOp::Open, || file)?,
        };
        let mut records: Option<RangeInclusive<u64>> = None;
        for line in BufReader::with_capacity(1 << 20, file).split(b'\n') {
            let line = meter.time(WriterOp::Read, || line)?;
            if let Some((_, number)) = find(&line) {
                records = Some(records.map_or(number, |records| *records.start())..=number);
            }
        }
        Ok(records)
    }

    fn append(&mut self, file: &mut File, number: u64, meter: &Meter) -> io::Result<()> {
        let mut line = self.layout.prefix.as_bytes().to_vec();
        line.extend(encode(self.seed, meter.name(), number, self.layout.record_bytes));
        meter.time(WriterOp::Write, || file.write_all(&line))?;
        if self.fsync {
            meter.time(WriterOp::Fsync, || file.sync_all())?;
        }
        let first = self.generations.get(&0).map_or(number, |records| *records.start());
        self.generations.insert(0, first..=number);
        self.bytes += u64::try_from(line.len()).unwrap_or(0);
        meter.written(number..=number);
        Ok(())
    }

    /// Moves every generation on by one, and deletes the one that is too old.
    fn rotate(&mut self, file: File, meter: &Meter) -> io::Result<File> {
        let keep = self.layout.keep;
        for generation in (1..=keep).rev().filter(|generation| self.generations.contains_key(generation)) {
            meter.time(WriterOp::Rename, || fs::rename(self.path(generation), self.path(generation + 1)))?;
        }
        let shifted = std::mem::take(&mut self.generations).into_iter();
        self.generations = shifted.map(|(generation, records)| (generation + 1, records)).collect();
        let file = self.renew(file, meter)?;
        self.bytes = 0;
        if let Some(old) = self.generations.remove(&(keep + 1)) {
            meter.retired(old);
            meter.time(WriterOp::Unlink, || fs::remove_file(self.path(keep + 1)))?;
        }
        if self.layout.has_state {
            self.save_state(meter)?;
        }
        Ok(file)
    }

    /// The log becomes generation 1, and a new one begins.
    fn renew(&self, file: File, meter: &Meter) -> io::Result<File> {
        if self.layout.style == RotateStyle::Copytruncate {
            self.copy(meter)?;
            meter.time(WriterOp::Truncate, || file.set_len(0))?;
            return Ok(file);
        }
        meter.time(WriterOp::Rename, || fs::rename(self.path(0), self.path(1)))?;
        if self.layout.style == RotateStyle::Create {
            let mut create = OpenOptions::new();
            create.read(true).write(true).create_new(true);
            meter.time(WriterOp::Create, || create.open(self.path(0)))?;
        }
        // What postrotate asks of the writer: to close its file and to open the new one.
        meter.time(WriterOp::Close, || {
            drop(file);
            Ok(())
        })?;
        self.append_to(meter)
    }

    fn copy(&self, meter: &Meter) -> io::Result<()> {
        let mut from = meter.time(WriterOp::Open, || File::open(self.path(0)))?;
        let mut to = meter.time(WriterOp::Create, || File::create(self.path(1)))?;
        let mut block = vec![0; COPY];
        loop {
            let length = meter.time(WriterOp::Read, || from.read(&mut block))?;
            if length == 0 {
                return Ok(());
            }
            meter.time(WriterOp::Write, || to.write_all(&block[..length]))?;
        }
    }

    fn save_state(&self, meter: &Meter) -> io::Result<()> {
        let (new, state) = (self.dir.join("logrotate.status.tmp"), self.dir.join("logrotate.status"));
        let mut file = meter.time(WriterOp::Create, || File::create(&new))?;
        let text = format!("logrotate state -- version 2\n\"{}\" {}\n", self.layout.file, self.next);
        meter.time(WriterOp::Write, || file.write_all(text.as_bytes()))?;
        meter.time(WriterOp::Fsync, || file.sync_all())?;
        meter.time(WriterOp::Rename, || fs::rename(&new, &state))
    }

    fn write_next(&mut self, number: u64, meter: &Meter) -> io::Result<()> {
        if self.file.is_none() {
            self.open(meter)?;
        }
        let Some(mut file) = self.file.take() else { return Ok(()) };
        // Whatever fails: the file stays closed, and is read anew.
        self.append(&mut file, number, meter)?;
        let now = meter.now();
        if now.since(self.checked) >= self.layout.check {
            self.checked = now;
            if self.bytes >= self.layout.limit {
                file = self.rotate(file, meter)?;
            }
        }
        self.file = Some(file);
        Ok(())
    }
}

impl Worker for Rotating {
    fn step(&mut self, meter: &Meter) -> io::Result<()> {
        let number = self.next;
        // Also after an error: a piece of the record may be there.
        self.next += 1;
        self.write_next(number, meter)
    }

    fn end(&mut self, meter: &Meter) -> io::Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        meter.time(WriterOp::Close, || {
            drop(file);
            Ok(())
        })
    }
}
