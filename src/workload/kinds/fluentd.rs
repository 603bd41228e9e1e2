//! A fluentd with several tailed inputs and a file buffer: the lock structure and the system calls of fluentd 1.19, under which one
//! stalled first write stops every input.
//!
//! Must not know: how threads run. Invariant: chunks are created, enqueued and purged under the buffer's lock, appended to under their
//! own; a record is acknowledged when its chunk's metadata is written.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::chunk::{Chunk, ChunkName};
use super::files::make_dir;
use crate::time::{Clock, SimTime};
use crate::workload::collect::Shown;
use crate::workload::crew::{Beat, Crew, Make, Role, Worker};
use crate::workload::lock::{LockWatch, NamedLock};
use crate::workload::measure::{Meter, WriterOp};
use crate::workload::record::{encode, find};
use crate::workload::{WorkloadOptions, WriterKind};

/// Bytes of a record, and of a chunk that is enqueued because it is full.
const RECORD: usize = 300;
const CHUNK_LIMIT: u64 = 2 << 20;

/// A chunk that is older is enqueued (`flush_interval`).
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// A flush thread looks for a chunk so often.
const FLUSH_THREAD_INTERVAL: Duration = Duration::from_millis(200);

/// A flush that takes longer is slow (`slow_flush_log_threshold`).
const SLOW_FLUSH: Duration = Duration::from_secs(20);

/// Enqueued chunks of an input that its receiver has not taken yet.
const KEPT_QUEUED: usize = 8;

/// Bytes before the offset in a position file: `/var/log/containers/0000.log` and a tab.
const OFFSET_AT: u64 = 29;

/// What the buffer's lock protects.
#[derive(Debug, Default)]
struct ChunkBuffer {
    /// By input.
    staged: BTreeMap<usize, Arc<NamedLock<Chunk>>>,
    queued: VecDeque<Arc<NamedLock<Chunk>>>,
}

/// The next record's number by writer, from the chunks of an earlier run.
type NextNumbers = BTreeMap<String, u64>;

/// What all threads share.
#[derive(Debug)]
struct Fluentd {
    dir: PathBuf,
    seed: u64,
    record_bytes: usize,
    fsync: bool,
    inputs: usize,
    /// fluentd opens its position files and loads its buffer on one thread, before the inputs run.
    startup: NamedLock<Option<NextNumbers>>,
    buffer: NamedLock<ChunkBuffer>,
    chunk_watches: Vec<Arc<LockWatch>>,
    slow_flushes: Arc<AtomicU64>,
}

/// The threads of a fluentd: inputs, one that enqueues, some that flush.
pub(super) fn crew(options: &WorkloadOptions, _clock: Clock) -> Crew {
    let inputs = usize::from(options.threads);
    let name = |input: usize| format!("{}-{input}", WriterKind::Fluentd);
    let fluentd = Arc::new(Fluentd {
        dir: options.dir.join(WriterKind::Fluentd.name()),
        seed: options.seed,
        record_bytes: options.record_bytes.unwrap_or(RECORD),
        fsync: options.fsync,
        inputs,
        startup: NamedLock::new("startup", None),
        buffer: NamedLock::new("buffer", ChunkBuffer::default()),
        chunk_watches: (0..inputs).map(|input| LockWatch::new(&format!("chunk of {}", name(input)))).collect(),
        slow_flushes: Arc::new(AtomicU64::new(0)),
    });
    let mut locks = vec![fluentd.startup.watch(), fluentd.buffer.watch()];
    locks.extend(fluentd.chunk_watches.iter().cloned());
    let mut roles = Vec::new();
    for input in 0..inputs {
        let shared = Arc::clone(&fluentd);
        let make: Make = Box::new(move |meter| Ok(Box::new(Input::new(shared, input, meter)?)));
        roles.push(Role { name: name(input), beat: Beat::Records, make });
    }
    let enqueuing = Enqueuing { fluentd: Arc::clone(&fluentd) };
    let make: Make = Box::new(move |_| Ok(Box::new(enqueuing)));
    roles.push(Role { name: "fluentd-enqueue".to_owned(), beat: Beat::Background(FLUSH_INTERVAL / 2), make });
    for number in 0..options.flush_threads {
        let flushing = Flushing { fluentd: Arc::clone(&fluentd) };
        let make: Make = Box::new(move |_| Ok(Box::new(flushing)));
        roles.push(Role {
            name: format!("fluentd-flush-{number}"),
            beat: Beat::Background(FLUSH_THREAD_INTERVAL),
            make,
        });
    }
    let slow_flushes = Some(Arc::clone(&fluentd.slow_flushes));
    Crew { roles, shown: Shown { locks, slow_flushes, heartbeats: None } }
}

/// One tailed file.
#[derive(Debug)]
struct Input {
    fluentd: Arc<Fluentd>,
    input: usize,
    positions: File,
    /// How far its file has been read.
    offset: u64,
    next: u64,
}

impl Input {
    fn new(fluentd: Arc<Fluentd>, input: usize, meter: &Meter) -> io::Result<Self> {
        let mut startup = fluentd.startup.lock(meter);
        make_dir(&fluentd.dir)?;
        let loaded = match startup.take() {
            Some(loaded) => loaded,
            None => fluentd.load(meter)?,
        };
        let next = loaded.get(meter.name()).copied().unwrap_or(0).max(meter.first_free());
        *startup = Some(loaded);
        let path = fluentd.dir.join(format!("{input}.pos"));
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut positions = meter.time(WriterOp::Open, open)?;
        let mut line = String::new();
        meter.time(WriterOp::Read, || positions.read_to_string(&mut line))?;
        if line.is_empty() {
            let line = format!("/var/log/containers/{input:04}.log\t{:016x}\t{:016x}\n", 0, input);
            meter.time(WriterOp::Write, || positions.write_all(line.as_bytes()))?;
        }
        drop(startup);
        let offset = line.split('\t').nth(1).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0);
        Ok(Self { fluentd, input, positions, offset, next })
    }

    /// The chunk that the input's records go to; a new one is created under the buffer's lock.
    fn staged(&self, number: u64, meter: &Meter) -> io::Result<Arc<NamedLock<Chunk>>> {
        let mut buffer = self.fluentd.buffer.lock(meter);
        if let Some(chunk) = buffer.staged.get(&self.input) {
            return Ok(Arc::clone(chunk));
        }
        let name = ChunkName::new(self.fluentd.seed, self.input, number);
        let chunk = Chunk::create(&self.fluentd.dir, &name, self.input, meter)?;
        let chunk = Arc::new(NamedLock::watched(&self.fluentd.chunk_watches[self.input], chunk));
        buffer.staged.insert(self.input, Arc::clone(&chunk));
        Ok(chunk)
    }

    fn emit(&mut self, number: u64, meter: &Meter) -> io::Result<()> {
        let record = encode(self.fluentd.seed, meter.name(), number, self.fluentd.record_bytes);
        loop {
            let staged = self.staged(number, meter)?;
            let mut chunk = staged.lock(meter);
            // It may have been enqueued since.
            if !chunk.is_staged() {
                continue;
            }
            let appended = chunk.append(&record, number, self.fluentd.fsync, meter);
            let is_full = chunk.bytes() >= CHUNK_LIMIT;
            drop(chunk);
            if is_full || appended.is_err() {
                self.fluentd.enqueue(self.input, Duration::ZERO, meter)?;
            }
            self.offset += u64::try_from(record.len()).unwrap_or(0);
            return appended;
        }
    }

    fn save_position(&mut self, meter: &Meter) -> io::Result<()> {
        let offset = format!("{:016x}", self.offset);
        self.positions.seek(SeekFrom::Start(OFFSET_AT))?;
        meter.time(WriterOp::Write, || self.positions.write_all(offset.as_bytes()))
    }
}

impl Worker for Input {
    fn step(&mut self, meter: &Meter) -> io::Result<()> {
        let number = self.next;
        // Also after an error: a piece of the record may be there.
        self.next += 1;
        self.emit(number, meter)?;
        self.save_position(meter)
    }

    fn end(&mut self, _meter: &Meter) -> io::Result<()> {
        Ok(())
    }
}

impl Fluentd {
    /// Moves an input's chunk to the queue if it is older than `age`: two renames under the buffer's lock.
    fn enqueue(&self, input: usize, age: Duration, meter: &Meter) -> io::Result<()> {
        let mut buffer = self.buffer.lock(meter);
        let Some(staged) = buffer.staged.get(&input).cloned() else { return Ok(()) };
        let mut chunk = staged.lock(meter);
        if chunk.is_empty() || meter.now().since(chunk.created()) < age {
            return Ok(());
        }
        // Also if a rename fails: nothing is appended to it any more.
        let moved = chunk.enqueue(meter);
        drop(chunk);
        buffer.staged.remove(&input);
        buffer.queued.push_back(staged);
        moved
    }

    /// Takes over the chunks of an earlier run. Those that were staged are enqueued, so that nothing follows half a record.
    fn load(&self, meter: &Meter) -> io::Result<NextNumbers> {
        let mut buffer = self.buffer.lock(meter);
        let mut numbers = NextNumbers::new();
        let mut paths = Vec::new();
        for entry in meter.time(WriterOp::List, || fs::read_dir(&self.dir))? {
            paths.push(entry?.path());
        }
        paths.retain(|path| path.extension().is_some_and(|end| end == "log"));
        paths.sort_unstable();
        for path in paths {
            let text = meter.time(WriterOp::Read, || fs::read(&path))?;
            let records: Vec<(&str, u64)> = text.split(|byte| *byte == b'\n').filter_map(find).collect();
            let (Some((writer, first)), Some((_, last))) = (records.first(), records.last()) else {
                // fluentd sets empty and broken chunks aside, too.
                meter.time(WriterOp::Unlink, || fs::remove_file(&path))?;
                continue;
            };
            let next = numbers.entry((*writer).to_owned()).or_insert(0);
            *next = (*next).max(last.saturating_add(1));
            let input = writer.rsplit('-').next().and_then(|n| n.parse::<usize>().ok()).unwrap_or(0) % self.inputs;
            let mut chunk = Chunk::earlier(&path, writer, *first..=*last, meter)?;
            if chunk.is_staged() {
                chunk.enqueue(meter)?;
            }
            buffer.queued.push_back(Arc::new(NamedLock::watched(&self.chunk_watches[input], chunk)));
        }
        Ok(numbers)
    }
}

/// Enqueues chunks that are old enough.
#[derive(Debug)]
struct Enqueuing {
    fluentd: Arc<Fluentd>,
}

impl Worker for Enqueuing {
    fn step(&mut self, meter: &Meter) -> io::Result<()> {
        (0..self.fluentd.inputs).try_for_each(|input| self.fluentd.enqueue(input, FLUSH_INTERVAL, meter))
    }

    fn end(&mut self, _meter: &Meter) -> io::Result<()> {
        Ok(())
    }
}

/// Sends chunks and purges them.
#[derive(Debug)]
struct Flushing {
    fluentd: Arc<Fluentd>,
}

impl Worker for Flushing {
    fn step(&mut self, meter: &Meter) -> io::Result<()> {
        let begun: SimTime = meter.now();
        let Some(queued) = self.dequeue(meter) else { return Ok(()) };
        let flushed = self.flush(&queued, meter);
        if meter.now().since(begun) >= SLOW_FLUSH {
            self.fluentd.slow_flushes.fetch_add(1, Ordering::Relaxed);
        }
        if flushed.is_err() && !queued.lock(meter).is_purged() {
            // It is tried again.
            self.fluentd.buffer.lock(meter).queued.push_front(queued);
        }
        flushed
    }

    fn end(&mut self, _meter: &Meter) -> io::Result<()> {
        Ok(())
    }
}

impl Flushing {
    fn dequeue(&self, meter: &Meter) -> Option<Arc<NamedLock<Chunk>>> {
        let mut buffer = self.fluentd.buffer.lock(meter);
        if buffer.queued.len() > KEPT_QUEUED * self.fluentd.inputs { buffer.queued.pop_front() } else { None }
    }

    /// Reads a chunk, as if to send it, and purges it under the buffer's lock.
    fn flush(&self, queued: &NamedLock<Chunk>, meter: &Meter) -> io::Result<()> {
        queued.lock(meter).read(meter)?;
        let _buffer = self.fluentd.buffer.lock(meter);
        queued.lock(meter).purge(meter)
    }
}
