//! The end of a volume, whatever brings it about: one thread waits for it and carries it out, in one order.
//!
//! Thaw what is frozen, drain what is held, unmount, end the threads, save the pool checkpoint, write the last event, send the guard home. Invariant:
//! each step has a deadline, so the end always comes.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::PollFlags;

use super::error::{ErrorKind, VolumeError};
use super::inner::Inner;
use super::observer::Summary;
use super::stopper::{Requests, Stop};
use crate::fuse::{Ending, Session, UnmountOutcome, Visibility};
use crate::sys::mountinfo;
use crate::time::Deadline;

/// How often a volume is looked for that is not where it was mounted, and another guard is tried if none could be started. Otherwise
/// the kernel says when there is something to be seen.
const TICK: Duration = Duration::from_millis(100);

/// How often it is told of.
const ABSENT_TICK: Duration = Duration::from_secs(1);

/// How long processes that still use the detached volume may continue before the connection is cut.
const GRACE: Duration = Duration::from_secs(5);

/// The same for a user in a hurry.
const GRACE_AT_ONCE: Duration = Duration::from_millis(200);

/// Waits for the end and carries it out.
pub(super) fn run(inner: &Inner, session: &Session, requests: &Requests) -> Result<Summary, VolumeError> {
    let (how, reason) = wait_for_reason(inner, session, requests);
    tracing::debug!("the volume ends: {reason}");
    // First of all: a frozen process cannot close what it has open.
    inner.freezer.finish();
    if session.ending() == Some(Ending::Closed) && inner.engine.held_count() > 0 {
        // The connection was cut under held operations: no caller can be answered, and what was never acknowledged must
        // not reach the backing. (If only threads failed, those who wait can still be answered.)
        inner.engine.abandon();
    }
    inner.engine.release_all();
    let unmounted = unmount(session, how, requests);
    inner.stop_scan();
    inner.engine.shut_down();
    inner.stop_watch();
    let kept = inner.save_state();
    let summary = inner.summary();
    // The log first: clients that follow the events over the control socket must see the last one.
    inner.observer.log.close(reason, summary.held, Duration::from_secs(10));
    inner.stop_servers();
    inner.dismiss_guard();
    inner.state.unlock();
    unmounted.and(kept).map(|()| summary)
}

/// The end is asked for, or is the kernel's word: as long as the connection lives a process may use the volume, under
/// another path or without one.
fn wait_for_reason(inner: &Inner, session: &Session, requests: &Requests) -> (Stop, String) {
    let mut absence = Absence::default();
    // Opened before the first look: a change since then is reported.
    let mounts = File::open(mountinfo::TABLE).ok();
    let wakeup = Arc::clone(inner.stopper.wakeup());
    session.on_ended(move |_| wakeup.wake());
    loop {
        if let Ok(request) = requests.try_recv() {
            return request;
        }
        if session.ending().is_some() {
            return match session.visibility() {
                Visibility::Nowhere => (Stop::Drain, "unmounted from outside".into()),
                _ => (Stop::AtOnce, "the connection to the kernel was cut".into()),
            };
        }
        let in_place = absence.look(inner, session);
        inner.check_guard();
        sleep(inner, mounts.as_ref().filter(|_| in_place));
    }
}

/// Sleeps until the mount table changes, the guard dies, or the volume is asked for something. `mounts`: the table, if its changes
/// tell all there is to know.
fn sleep(inner: &Inner, mounts: Option<&File>) {
    let guard: Option<OwnedFd> = inner.living_guard();
    let within = (mounts.is_none() || guard.is_none()).then_some(TICK);
    let mounts = mounts.map(|mounts| (mounts.as_fd(), PollFlags::PRI));
    let guard = guard.as_ref().map(|guard| (guard.as_fd(), PollFlags::empty()));
    let others: Vec<_> = mounts.into_iter().chain(guard).collect();
    inner.stopper.wakeup().sleep(&others, within);
}

/// What has been done about a volume that is no longer where it was mounted.
#[derive(Debug, Default)]
struct Absence {
    next_look: Option<Deadline>,
    told: Option<Visibility>,
    unseen: bool,
    released: bool,
}

impl Absence {
    /// A volume that was unmounted everywhere and is still in use injects nothing any more. Its users are told nothing:
    /// the user of stunfs is, once for each way. Whether it is in its place.
    fn look(&mut self, inner: &Inner, session: &Session) -> bool {
        if self.next_look.as_ref().is_some_and(|look| !look.passed()) {
            return false;
        }
        let visibility = session.visibility();
        if visibility == Visibility::InPlace {
            *self = Self { released: self.released, ..Self::default() };
            return true;
        }
        if visibility == Visibility::Nowhere && !self.released {
            // The kernel's table may change while it is read: one look is not enough.
            if self.unseen {
                self.released = true;
                inner.release_all();
            }
            self.unseen = !self.unseen;
            return false;
        }
        if self.next_look.replace(Deadline::after(ABSENT_TICK)).is_some() && self.told != Some(visibility) {
            self.told = Some(visibility);
            inner.warn(absence_text(session.mountpoint(), visibility));
        }
        false
    }
}

fn absence_text(mountpoint: &Path, visibility: Visibility) -> String {
    let mountpoint = mountpoint.display();
    let (what, until) = match visibility {
        Visibility::Nowhere => ("was unmounted while it was in use", "nothing is injected any more; the volume ends"),
        Visibility::OtherNamespace => ("is mounted in another mount namespace only", "the volume goes on and ends"),
        _ => ("was moved, or is covered by another mount", "the volume goes on and ends"),
    };
    format!("what was mounted on {mountpoint} {what}: {until} with its last user, or on SIGTERM")
}

/// Unmounts; a request to hurry cuts off those who still use it.
fn unmount(session: &Session, how: Stop, requests: &Requests) -> Result<(), VolumeError> {
    let grace = if how == Stop::AtOnce { GRACE_AT_ONCE } else { GRACE };
    std::thread::scope(|scope| {
        let unmounting = scope.spawn(|| session.unmount(grace));
        while !unmounting.is_finished() {
            if let Ok((Stop::AtOnce, _)) = requests.recv_timeout(Duration::from_millis(20)) {
                // Without the right to do it, those who still use it keep their time.
                if let Err(error) = session.abort() {
                    tracing::warn!("the connection cannot be cut at once: {error}");
                }
            }
        }
        match unmounting.join() {
            Ok(Ok(UnmountOutcome::Aborted)) => {
                tracing::warn!("files on {} were still open; they were cut off", session.mountpoint().display());
                Ok(())
            }
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(VolumeError::new(ErrorKind::Io, error.to_string())),
            Err(_) => Err(VolumeError::new(ErrorKind::Software, "the thread that unmounts panicked")),
        }
    })
}
