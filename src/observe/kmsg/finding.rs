//! What was found in a kernel's log, and the event that tells of it.
//!
//! Must not know: how it was found. Invariant: the kernel's own words come along.

use super::hung::HungTask;
use super::lockup::SoftLockup;
use super::nfs::NfsServer;
use super::rule::Notice;
use super::storage::StorageError;
use crate::telemetry::event::EventBody;
use crate::time::SimTime;

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
                waits_for: hung.waits_for().map(str::to_owned),
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
