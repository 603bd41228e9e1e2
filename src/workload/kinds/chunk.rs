//! A chunk of fluentd's file buffer: `buffer.b<id>.log` while it is staged, `buffer.q<id>.log` once it is enqueued, each with its `.meta`.
//!
//! Must not know: locks. Invariant: what is committed stands in whole records; after an append that failed, nothing is appended any more.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::time::SimTime;
use crate::workload::measure::{Meter, WriterOp};
use crate::workload::record::mix;

/// Bytes read at a time.
const READ: usize = 16 << 10;

/// Bytes of a chunk's metadata.
const META: usize = 79;

/// A chunk's id.
#[derive(Debug)]
pub(super) struct ChunkName(String);

impl ChunkName {
    /// That of the chunk which begins with an input's record `number`. No two chunks of a buffer have the same.
    pub(super) fn new(seed: u64, input: usize, number: u64) -> Self {
        let input = u64::try_from(input).unwrap_or(u64::MAX);
        Self(format!("{:016x}{number:016x}", mix(seed ^ mix(input))))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChunkState {
    Staged,
    Queued,
    Purged,
}

/// One chunk.
#[derive(Debug)]
pub(super) struct Chunk {
    state: ChunkState,
    path: PathBuf,
    log: File,
    meta: File,
    input: usize,
    writer: String,
    /// The numbers of its records.
    records: Option<RangeInclusive<u64>>,
    bytes: u64,
    created: SimTime,
}

fn meta_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".meta");
    name.into()
}

impl Chunk {
    pub(super) fn create(dir: &Path, name: &ChunkName, input: usize, meter: &Meter) -> io::Result<Self> {
        let path = dir.join(format!("buffer.b{}.log", name.0));
        let mut create = OpenOptions::new();
        create.write(true).create(true).truncate(true);
        let log = meter.time(WriterOp::Create, || create.clone().read(true).open(&path))?;
        let meta = meter.time(WriterOp::Create, || create.open(meta_path(&path)))?;
        let (writer, created) = (meter.name().to_owned(), meter.now());
        let mut chunk =
            Self { state: ChunkState::Staged, path, log, meta, input, writer, records: None, bytes: 0, created };
        match chunk.write_meta(meter) {
            Ok(()) => Ok(chunk),
            Err(error) => {
                // As fluentd does; the error that led here is the one to tell.
                let _ = fs::remove_file(&chunk.path);
                let _ = fs::remove_file(meta_path(&chunk.path));
                Err(error)
            }
        }
    }

    /// A chunk that an earlier run left.
    pub(super) fn earlier(path: &Path, writer: &str, records: RangeInclusive<u64>, meter: &Meter) -> io::Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let state = if name.starts_with("buffer.b") { ChunkState::Staged } else { ChunkState::Queued };
        let log = meter.time(WriterOp::Open, || OpenOptions::new().read(true).write(true).open(path))?;
        // A crash may have come between the two files' creation.
        let mut open = OpenOptions::new();
        open.write(true).create(true).truncate(false);
        let meta = meter.time(WriterOp::Open, || open.open(meta_path(path)))?;
        let bytes = log.metadata()?.len();
        let (path, writer, created) = (path.to_owned(), writer.to_owned(), meter.now());
        Ok(Self { state, path, log, meta, input: 0, writer, records: Some(records), bytes, created })
    }

    pub(super) fn is_staged(&self) -> bool {
        self.state == ChunkState::Staged
    }

    pub(super) fn is_purged(&self) -> bool {
        self.state == ChunkState::Purged
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) const fn created(&self) -> SimTime {
        self.created
    }

    /// Appends one record, and commits it: the metadata is written anew.
    pub(super) fn append(&mut self, record: &[u8], number: u64, fsync: bool, meter: &Meter) -> io::Result<()> {
        let committed = self.bytes;
        let written = meter.time(WriterOp::Write, || self.log.write_all(record)).and_then(|()| self.write_meta(meter));
        let written =
            written.and_then(|()| if fsync { meter.time(WriterOp::Fsync, || self.log.sync_all()) } else { Ok(()) });
        if let Err(error) = written {
            self.roll_back(committed, meter);
            return Err(error);
        }
        self.bytes = self.log.stream_position()?;
        let first = self.records.as_ref().map_or(number, |records| *records.start());
        self.records = Some(first..=number);
        meter.written(number..=number);
        Ok(())
    }

    /// Cuts off what was not committed; if that fails, too, the piece stays, and is no acknowledged record.
    fn roll_back(&mut self, committed: u64, meter: &Meter) {
        if self.log.seek(SeekFrom::Start(committed)).is_ok() {
            let _ = meter.time(WriterOp::Truncate, || self.log.set_len(committed));
        }
    }

    fn write_meta(&mut self, meter: &Meter) -> io::Result<()> {
        let head =
            format!("timekey - tag in.{} id - s {} c {} m {}", self.input, self.bytes, self.created.0, meter.now().0);
        let mut meta = head.into_bytes();
        meta.resize(META, b' ');
        self.meta.seek(SeekFrom::Start(0))?;
        meter.time(WriterOp::Write, || self.meta.write_all(&meta))
    }

    /// Renames both files from staged to queued, and opens them again for reading.
    pub(super) fn enqueue(&mut self, meter: &Meter) -> io::Result<()> {
        self.state = ChunkState::Queued;
        self.write_meta(meter)?;
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let queued = self.path.with_file_name(name.replacen("buffer.b", "buffer.q", 1));
        self.log = rename_open(&mut self.log, &self.path, &queued, meter)?;
        let (old, new) = (meta_path(&self.path), meta_path(&queued));
        self.path = queued;
        self.meta = rename_open(&mut self.meta, &old, &new, meter)?;
        Ok(())
    }

    /// Reads all of it, as a flush does.
    pub(super) fn read(&mut self, meter: &Meter) -> io::Result<()> {
        self.log.seek(SeekFrom::Start(0))?;
        let mut block = vec![0; READ];
        while meter.time(WriterOp::Read, || self.log.read(&mut block))? > 0 {}
        Ok(())
    }

    /// Deletes both files.
    pub(super) fn purge(&mut self, meter: &Meter) -> io::Result<()> {
        if let Some(records) = self.records.take() {
            meter.retired_of(&self.writer, records);
        }
        meter.time(WriterOp::Unlink, || fs::remove_file(&self.path))?;
        self.state = ChunkState::Purged;
        meter.time(WriterOp::Unlink, || fs::remove_file(meta_path(&self.path)))
    }
}

/// Renames a file, and opens it again at the same place.
fn rename_open(file: &mut File, old: &Path, new: &Path, meter: &Meter) -> io::Result<File> {
    let at = file.stream_position()?;
    meter.time(WriterOp::Rename, || fs::rename(old, new))?;
    let mut file = meter.time(WriterOp::Open, || File::open(new))?;
    file.seek(SeekFrom::Start(at))?;
    Ok(file)
}
