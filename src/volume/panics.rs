//! A panic on any thread of a program whose purpose is one volume: the volume ends as it does on a signal.
//!
//! Must not know: what panicked. Invariant: every held operation gets its answer, and nothing stays mounted.

use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::stopper::{Stop, Stopper};

/// Tells whether a thread has panicked.
#[derive(Debug, Clone, Default)]
pub struct Panics {
    seen: Arc<AtomicBool>,
}

impl Panics {
    /// From now on a panic on any thread of this process ends the volume of `stopper`, after the hook in force so far has
    /// reported it. For programs; a library leaves the process's one hook alone.
    #[must_use]
    pub fn end(stopper: Stopper) -> Self {
        let panics = Self::default();
        let seen = Arc::clone(&panics.seen);
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            report(info);
            seen.store(true, SeqCst);
            let place = info.location().map(|place| format!(" at {place}")).unwrap_or_default();
            stopper.request_stop_for(Stop::Drain, format!("a thread panicked{place}: a bug in this program"));
        }));
        panics
    }

    /// Whether there was one.
    pub fn seen(&self) -> bool {
        self.seen.load(SeqCst)
    }
}
