//! How the end of a volume, or of its injection, is asked for.
//!
//! Must not know: how the end is carried out. Invariant: asking never waits.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use crate::engine::Engine;
use crate::sys::wakeup::Wakeup;

/// How a volume is asked to end. Held operations succeed in either case, and nothing is mounted at once in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Files that are open may be used for five seconds more.
    Drain,
    /// Files that are open lose their file system now.
    AtOnce,
}

/// Ends a volume or its injection, from any thread.
#[derive(Debug, Clone)]
pub struct Stopper {
    requests: Sender<(Stop, String)>,
    wakeup: Arc<Wakeup>,
    engine: Engine,
}

impl Stopper {
    pub(super) fn new(engine: Engine) -> (Self, Requests) {
        let (requests, receiver) = crossbeam_channel::unbounded();
        (Self { requests, wakeup: Arc::new(Wakeup::new()), engine }, receiver)
    }

    /// Asks for the end and returns at once; a second request can only hurry it.
    pub fn request_stop(&self, how: Stop) {
        self.request_stop_for(how, "asked to end");
    }

    /// As [`Stopper::request_stop`]; `reason` goes into the last event.
    pub fn request_stop_for(&self, how: Stop, reason: impl Into<String>) {
        // No client listens any more once the end is under way.
        let _ = self.requests.send((how, reason.into()));
        self.wakeup.wake();
    }

    /// What the thread that waits for the end sleeps on.
    pub(super) const fn wakeup(&self) -> &Arc<Wakeup> {
        &self.wakeup
    }

    /// Has the thread that waits for the end look around.
    pub(super) fn wake(&self) {
        self.wakeup.wake();
    }

    /// Ends all injection and answers what is held; the volume stays mounted as a plain pass-through.
    pub fn release(&self) {
        self.engine.release_all();
    }
}

pub(super) type Requests = Receiver<(Stop, String)>;
