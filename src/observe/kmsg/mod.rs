//! The kernel's log, line by line, as typed findings that keep the kernel's own words.
//!
//! Must not know: where lines come from ([`source`] does), files, clocks. Invariant: any bytes are taken without a
//! panic, and a report that was begun comes out exactly once, at the latest by [`Parser::flush`].
//!
//! ```
//! use stunfs::observe::kmsg::{Parser, What};
//!
//! let mut parser = Parser::new();
//! let line = "[  300.123456] watchdog: BUG: soft lockup - CPU#0 stuck for 223s! [swapper/0:0]";
//! let findings = parser.line(line, None);
//! assert!(matches!(&findings[0].what, What::SoftLockup(lockup) if lockup.seconds == 223));
//! ```

mod hung;
mod lockup;
mod nfs;
mod prefix;
pub mod source;
mod stack;
mod storage;
#[cfg(test)]
mod tests;

pub use hung::HungTask;
pub use lockup::{Notice, SoftLockup};
pub use nfs::NfsServer;
pub use stack::{frame_name, waits_in};
pub use storage::StorageError;

use hung::{Report, Taken};
use prefix::{Line, cut};

use crate::telemetry::event::EventBody;
use crate::time::SimTime;

/// Bytes that a line keeps; what goes beyond is cut off.
const MAX_LINE: usize = 2048;

/// What a kernel reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A task that waits too long.
    HungTask(HungTask),
    /// A CPU that did not schedule.
    SoftLockup(SoftLockup),
    /// An NFS server that is gone or back.
    NfsServer(NfsServer),
    /// A device or file system in trouble.
    Storage(StorageError),
    /// Something that casts doubt on the rest.
    Notice(Notice),
}

/// A finding in the kernel's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The time that came with the (first) line.
    pub at: Option<SimTime>,
    /// The kernel's own time stamp, microseconds since its boot.
    pub kernel_us: Option<u64>,
    /// What it is.
    pub what: What,
    /// The kernel's own line; for a hung task the header and, after a line feed, the task's line.
    pub raw: String,
}

impl Finding {
    /// The event that tells of it; `source` says whose kernel (`host`, or a console's name).
    pub fn into_event(self, source: &str) -> EventBody {
        let (source, raw, at_us) = (source.to_owned(), self.raw, self.at.map(SimTime::as_micros));
        match self.what {
            What::HungTask(hung) => EventBody::HungTask {
                waits_in: hung.waits_in().map(str::to_owned),
                task: hung.task,
                pid: hung.pid,
                seconds: hung.seconds,
                state: hung.state,
                frames: hung.frames,
                source,
                raw,
                at_us,
            },
            What::SoftLockup(SoftLockup { cpu, seconds, task, pid }) => {
                EventBody::SoftLockup { cpu, seconds, task, pid, source, raw, at_us }
            }
            What::NfsServer(NfsServer { server, state }) => EventBody::NfsServer { server, state, source, raw, at_us },
            What::Storage(StorageError { fault, device, sector }) => {
                EventBody::StorageError { fault, device, sector, source, raw, at_us }
            }
            What::Notice(_) => EventBody::Warning { message: format!("kernel of {source}: {raw}") },
        }
    }
}

/// Reads a kernel's log line by line.
#[derive(Debug, Default)]
pub struct Parser {
    open: Option<Report>,
}

impl Parser {
    /// A parser at the beginning of a log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a line, with or without its line end, in any of the forms in which kernel logs are kept. `at`: when it
    /// was printed or came in, on the volume's clock.
    pub fn line(&mut self, line: &str, at: Option<SimTime>) -> Vec<Finding> {
        let line = Line::parse(cut(line, MAX_LINE));
        let mut found = Vec::new();
        match self.open.as_mut().map(|report| report.take(&line)) {
            Some(Taken::Mine) => return found,
            Some(Taken::Last) => {
                found.extend(self.flush());
                return found;
            }
            Some(Taken::Over) => found.extend(self.flush()),
            Some(Taken::Other) | None => {}
        }
        if let Some(report) = Report::begin(&line, at) {
            found.extend(self.flush());
            self.open = Some(report);
        } else if let Some(what) = single_line(&line.text) {
            found.push(Finding { at, kernel_us: line.kernel_us, what, raw: line.raw });
        }
        found
    }

    /// As [`Self::line`], for bytes that may not be UTF-8.
    pub fn bytes(&mut self, line: &[u8], at: Option<SimTime>) -> Vec<Finding> {
        self.line(&String::from_utf8_lossy(line), at)
    }

    /// The report that is still being read, as it is: at the log's end, or when no line has come for a while.
    pub fn flush(&mut self) -> Option<Finding> {
        let Report { task, at, kernel_us, raw, .. } = self.open.take()?;
        Some(Finding { at, kernel_us, what: What::HungTask(task), raw })
    }

    /// Whether a report is being read, so that [`Self::flush`] would give one.
    pub const fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

/// What one line says by itself.
fn single_line(text: &str) -> Option<What> {
    lockup::soft_lockup(text)
        .map(What::SoftLockup)
        .or_else(|| nfs::nfs(text).map(What::NfsServer))
        .or_else(|| storage::storage(text).map(What::Storage))
        .or_else(|| lockup::notice(text).map(What::Notice))
}
