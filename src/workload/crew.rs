//! Who works in a workload: threads that records are due from, and threads in the background.
//!
//! Must not know: how threads run, what they write. Invariant: a worker's calls to the file system go through its meter.

use std::fmt;
use std::io;
use std::time::Duration;

use super::collect::Shown;
use super::measure::Meter;

/// What a thread does over and over. Errors are in the meter's counts already.
pub(super) trait Worker {
    /// One record, one read, or one round in the background.
    fn step(&mut self, meter: &Meter) -> io::Result<()>;
    /// What has to be done at the end.
    fn end(&mut self, meter: &Meter) -> io::Result<()>;
}

/// Makes a worker, on its own thread.
pub(super) type Make = Box<dyn FnOnce(&Meter) -> io::Result<Box<dyn Worker>> + Send>;

/// When a worker's steps are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beat {
    /// At the rate of the workload; each step is a record.
    Records,
    /// Beside that, until all records are done.
    Background(Duration),
}

/// One thread to be.
pub(super) struct Role {
    pub(super) name: String,
    pub(super) beat: Beat,
    pub(super) make: Make,
}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Role").field("name", &self.name).field("beat", &self.beat).finish_non_exhaustive()
    }
}

/// All threads of a workload, and what they show beside.
#[derive(Debug)]
pub(super) struct Crew {
    pub(super) roles: Vec<Role>,
    pub(super) shown: Shown,
}
