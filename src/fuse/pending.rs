//! What the FUSE thread does between two requests: it reports them as work, and can see whether more are queued.
//!
//! Must not know: what a request asks. Invariant: nothing here waits.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::sys::pm_qos::WakeLatencyRequest;

/// The connection's queue, seen from the threads that serve it.
#[derive(Debug)]
pub(super) struct PendingRequests {
    device: OwnedFd,
    latency: Option<WakeLatencyRequest>,
}

impl PendingRequests {
    /// `device`: a descriptor of the connection. `low_latency`: processors may be kept awake while requests come quickly.
    pub(super) fn new(device: OwnedFd, low_latency: bool) -> Self {
        Self { device, latency: low_latency.then(WakeLatencyRequest::new).and_then(Result::ok) }
    }

    /// A request has come.
    pub(super) fn note_request(&self) {
        if let Some(latency) = &self.latency {
            latency.note();
        }
    }

    /// Whether no other request is queued. A connection that has ended counts as one that has.
    pub(super) fn is_empty(&self) -> bool {
        let mut wanted = [PollFd::new(&self.device, PollFlags::IN)];
        poll(&mut wanted, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(0)
    }
}
