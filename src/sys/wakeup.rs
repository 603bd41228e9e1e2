//! A thread that sleeps until another thread or the kernel wakes it, without a timer.
//!
//! Must not know: why. Invariant: a `Wakeup::wake` before `Wakeup::sleep` is not lost.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use crate::time::pause;

/// How long a thread sleeps where there is nothing to sleep on.
const BLIND: Duration = Duration::from_millis(100);

/// What one thread sleeps on.
#[derive(Debug)]
pub(crate) struct Wakeup {
    /// `None`: no descriptor was left for it.
    event: Option<OwnedFd>,
}

impl Wakeup {
    pub(crate) fn new() -> Self {
        Self { event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok() }
    }

    /// Ends the sleep, or the next one.
    pub(crate) fn wake(&self) {
        if let Some(event) = &self.event {
            // It fails only if it has been woken 2^64 times since the last sleep.
            let _is_awake = rustix::io::write(event, &1u64.to_ne_bytes());
        }
    }

    /// Sleeps until it is woken, one of `others` reports what is expected of it, or `within` is over. `POLLHUP` and `POLLERR` are
    /// always expected.
    pub(crate) fn sleep(&self, others: &[(BorrowedFd<'_>, PollFlags)], within: Option<Duration>) {
        let Some(event) = &self.event else { return pause(within.unwrap_or(BLIND).min(BLIND)) };
        let mut polled = vec![PollFd::from_borrowed_fd(event.as_fd(), PollFlags::IN)];
        polled.extend(others.iter().map(|&(fd, events)| PollFd::from_borrowed_fd(fd, events)));
        let within = within.map(|within| Timespec::try_from(within).unwrap_or_default());
        match poll(&mut polled, within.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => pause(BLIND),
        }
        let _was_not_woken = rustix::io::read(event, &mut [0; 8]);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_wakeup_before_the_sleep_ends_it() {
        let wakeup = Wakeup::new();
        wakeup.wake();
        wakeup.wake();
        // Without a limit: it would sleep for ever.
        wakeup.sleep(&[], None);
        wakeup.sleep(&[], Some(Duration::from_millis(1)));
    }

    #[test]
    fn another_thread_or_a_descriptor_ends_the_sleep() {
        let wakeup = Arc::new(Wakeup::new());
        let other = Arc::clone(&wakeup);
        let thread = std::thread::spawn(move || other.wake());
        wakeup.sleep(&[], None);
        thread.join().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        drop(write);
        wakeup.sleep(&[(read.as_fd(), PollFlags::empty())], None);
    }
}
