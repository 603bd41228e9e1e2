//! Follows a kernel's log: the host's through `/dev/kmsg`, a guest's through its console, and stamps what it finds with
//! the volume's clock.
//!
//! Must not know: what messages mean. Invariant: reading never blocks for longer than asked; what is there when a log is
//! followed no more is read to its end, and what the kernel overwrote before it was read is counted.

mod console;
mod lines;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use console::Begin;
use console::{Console, ReadProgress, open_nonblocking, retry, wait_readable};

use super::finding::Finding;
use super::parser::Parser;
use crate::time::{Clock, Deadline, SimTime, pause, since_boot};

/// Where the host's kernel log is.
pub const KMSG: &str = "/dev/kmsg";

/// A report is taken for complete when no line of it has come for so long.
const QUIET: Duration = Duration::from_millis(500);

/// A report of which more is to come is waited for so long: a machine may stand still in the middle of it.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often a file is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// How long a log that never falls silent is read after its end was asked for.
const DRAIN: Duration = Duration::from_secs(1);

/// A log cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It cannot be opened.
    #[error("cannot open the kernel log {path}: {cause}; {}", advice(cause))]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// It cannot be read any more.
    #[error("cannot read the kernel log {path}: {cause}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

fn advice(cause: &io::Error) -> String {
    match cause.kind() {
        ErrorKind::IsADirectory => {
            "name the file, device, pipe or socket that the guest's console is written to".into()
        }
        _ => format!("reading it needs root, or kernel.dmesg_restrict=0 for {KMSG}"),
    }
}

/// What is being read.
#[derive(Debug)]
enum Input {
    /// `/dev/kmsg`: one record per read. `offset` is the clock's start in the kernel's time.
    Kmsg {
        device: File,
        offset: Duration,
    },
    Console(Console),
}

/// Follows one kernel's log.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    input: Input,
    clock: Clock,
    parser: Parser,
    /// When a report took its last line.
    grown: SimTime,
    overruns: u64,
}

impl Follower {
    /// Follows this machine's kernel log. Needs root where `kernel.dmesg_restrict` is 1.
    pub fn host(clock: Clock, begin: Begin) -> Result<Self, SourceError> {
        let path = PathBuf::from(KMSG);
        let open = || -> io::Result<File> {
            let mut device = open_nonblocking(&path)?;
            device.seek(if begin == Begin::Now { SeekFrom::End(0) } else { SeekFrom::Start(0) })?;
            Ok(device)
        };
        let device = open().map_err(|cause| SourceError::Open { path: path.clone(), cause })?;
        let offset = since_boot().saturating_sub(clock.now().since(SimTime::ZERO));
        Ok(Self::new(path, Input::Kmsg { device, offset }, clock))
    }

    /// Follows a guest's console: a file (also one that does not exist yet), a device, a pipe or a Unix socket.
    pub fn console(path: &Path, clock: Clock, begin: Begin) -> Result<Self, SourceError> {
        let console = Console::open(path, begin).map_err(|cause| SourceError::Open { path: path.to_owned(), cause })?;
        Ok(Self::new(path.to_owned(), Input::Console(console), clock))
    }

    fn new(path: PathBuf, input: Input, clock: Clock) -> Self {
        let grown = clock.now();
        Self { path, input, clock, parser: Parser::new(), grown, overruns: 0 }
    }

    /// How often the kernel overwrote records before they were read.
    pub const fn overruns(&self) -> u64 {
        self.overruns
    }

    /// What was found, waiting up to `within` for something to read.
    pub fn poll(&mut self, within: Duration) -> Result<Vec<Finding>, SourceError> {
        let deadline = Deadline::after(within);
        loop {
            let mut found = Vec::new();
            let read = self.read_some(deadline.left(), &mut found)?;
            let patience = if self.parser.expects_more() { PATIENCE } else { QUIET };
            if self.parser.is_open() && self.clock.now().since(self.grown) >= patience {
                found.extend(self.parser.flush());
            }
            if read || !found.is_empty() || deadline.passed() {
                return Ok(found);
            }
        }
    }

    /// What is there now, read to its end, and the report that is still being read.
    pub fn finish(&mut self) -> Result<Vec<Finding>, SourceError> {
        let deadline = Deadline::after(DRAIN);
        let mut found = Vec::new();
        while self.read_some(Duration::ZERO, &mut found)? && !deadline.passed() {}
        let mut lines = Vec::new();
        if let Input::Console(console) = &mut self.input {
            console.finish(&mut lines);
        }
        self.take(&lines, &mut found);
        found.extend(self.parser.flush());
        Ok(found)
    }

    /// Hands every finding to `sink` until `stop`; what is there then is read to its end.
    pub fn follow(&mut self, stop: &AtomicBool, mut sink: impl FnMut(Finding)) -> Result<(), SourceError> {
        while !stop.load(Ordering::Relaxed) {
            self.poll(Duration::from_millis(200))?.into_iter().for_each(&mut sink);
        }
        self.finish()?.into_iter().for_each(sink);
        Ok(())
    }

    /// Reads once; whether there was anything.
    fn read_some(&mut self, wait: Duration, found: &mut Vec<Finding>) -> Result<bool, SourceError> {
        // Short waits, so that a report is flushed when its log falls silent.
        let wait = wait.min(QUIET);
        let mut lines = Vec::new();
        let read = match &mut self.input {
            Input::Kmsg { device, .. } => read_record(device, wait, &mut lines),
            Input::Console(console) => read_console(console, &self.path, wait, &mut lines),
        };
        let read = read.map_err(|cause| SourceError::Read { path: self.path.clone(), cause })?;
        match (read, &self.input) {
            (ReadProgress::Restarted, Input::Kmsg { .. }) => self.overruns += 1,
            (ReadProgress::Restarted, Input::Console(_)) => self.parser.restarted(),
            (ReadProgress::Read | ReadProgress::Nothing, _) => {}
        }
        self.take(&lines, found);
        Ok(read != ReadProgress::Nothing)
    }

    fn take(&mut self, lines: &[Vec<u8>], found: &mut Vec<Finding>) {
        let now = self.clock.now();
        for line in lines {
            let taken = self.parser.taken();
            let at = match self.input {
                Input::Kmsg { offset, .. } => record_time(line, offset, now),
                Input::Console(_) => now,
            };
            found.extend(self.parser.bytes(line, Some(at)));
            if self.parser.taken() != taken {
                self.grown = now;
            }
        }
    }
}

/// Reads one record of `/dev/kmsg`; [`ReadProgress::Restarted`]: records were overwritten.
fn read_record(device: &File, wait: Duration, lines: &mut Vec<Vec<u8>>) -> io::Result<ReadProgress> {
    wait_readable(device.as_fd(), wait)?;
    let mut buffer = [0; 16 * 1024];
    let mut device = device;
    match retry(|| device.read(&mut buffer)) {
        Ok(length) => {
            // What follows the first line of a record are its fields (` SUBSYSTEM=block`).
            let record = buffer.get(..length).unwrap_or_default();
            lines.extend(record.split(|b| *b == b'\n').next().map(<[u8]>::to_vec));
            Ok(if length > 0 { ReadProgress::Read } else { ReadProgress::Nothing })
        }
        Err(cause) if cause.kind() == ErrorKind::WouldBlock => Ok(ReadProgress::Nothing),
        Err(cause) if cause.kind() == ErrorKind::BrokenPipe => Ok(ReadProgress::Restarted),
        Err(cause) => Err(cause),
    }
}

/// Reads what a console has; waits only if it has nothing.
fn read_console(
    console: &mut Console,
    path: &Path,
    wait: Duration,
    lines: &mut Vec<Vec<u8>>,
) -> io::Result<ReadProgress> {
    let mut read = console.read(path, lines)?;
    if read == ReadProgress::Nothing && lines.is_empty() && !wait.is_zero() {
        if !console.wait(wait)? {
            pause(LOOK.min(wait));
        }
        read = console.read(path, lines)?;
    }
    Ok(read)
}

/// When a record was printed, on the volume's clock: never later than now, zero if it was before the clock's start.
fn record_time(record: &[u8], offset: Duration, now: SimTime) -> SimTime {
    let field = record.split(|b| *b == b',').nth(2).and_then(|field| std::str::from_utf8(field).ok());
    let Some(micros) = field.and_then(|field| field.parse().ok()) else { return now };
    let printed = SimTime::ZERO + Duration::from_micros(micros).saturating_sub(offset);
    printed.min(now)
}
