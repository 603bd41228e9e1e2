//! After a request, a short look whether the next one comes at once.
//!
//! A program that works alone sends its next request some microseconds after the answer to the last one. A thread that has
//! gone to sleep meanwhile, on a processor that has, too, must be woken from another one: that takes longer than most
//! requests (in a virtual machine several times as long). So one thread looks for the next request for some microseconds
//! before it sleeps, as long as that mostly pays.
//!
//! Must not know: requests. Invariant: a volume that is not in use costs nothing; one whose requests come one by one in
//! leisure costs next to nothing.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::Relaxed};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::time::Clock;

/// How long to look.
const WINDOW: Duration = Duration::from_micros(50);
/// A look that paid adds one, one that did not takes as many; below zero there are no looks.
const MISS: i32 = 8;
/// The most that can be saved up.
const MOST: i32 = 32;
/// After too many in vain: how many requests go by until the next try.
const BACK_OFF: i32 = 256;

/// The device, and whether looking pays.
#[derive(Debug)]
pub(super) struct Linger {
    device: Option<OwnedFd>,
    clock: Clock,
    looking: AtomicBool,
    credit: AtomicI32,
}

/// The look, when the request is over.
#[derive(Debug)]
pub(super) struct Then<'a>(&'a Linger);

impl Linger {
    /// Looks at `device`, if there is a processor left for the program meanwhile.
    pub(super) fn on(device: OwnedFd) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let device = (processors > 1).then_some(device);
        Self { device, clock: Clock::start(), looking: AtomicBool::new(false), credit: AtomicI32::new(MOST) }
    }

    /// At the beginning of a request.
    pub(super) const fn then(&self) -> Then<'_> {
        Then(self)
    }

    /// Whether no request is there that has not been taken.
    pub(super) fn nobody_waits(&self) -> bool {
        self.device.as_ref().is_some_and(|device| !is_readable(device))
    }

    fn look(&self) {
        let Some(device) = &self.device else { return };
        let credit = self.credit.load(Relaxed);
        if credit < 0 {
            self.credit.store(if credit == -1 { MISS } else { credit + 1 }, Relaxed);
        } else if !self.looking.swap(true, Relaxed) {
            self.credit.store(settled(credit, self.comes(device)), Relaxed);
            self.looking.store(false, Relaxed);
        }
    }

    fn comes(&self, device: &OwnedFd) -> bool {
        let end = self.clock.now() + WINDOW;
        loop {
            if is_readable(device) {
                return true;
            }
            if self.clock.now() >= end {
                return false;
            }
            // Whoever else wants this processor goes first.
            std::thread::yield_now();
        }
    }
}

/// A device that is gone counts: there is something to read, namely that.
fn is_readable(device: &OwnedFd) -> bool {
    let mut wanted = [PollFd::new(device, PollFlags::IN)];
    poll(&mut wanted, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) != Ok(0)
}

const fn settled(credit: i32, paid: bool) -> i32 {
    if paid {
        if credit < MOST { credit + 1 } else { MOST }
    } else if credit < MISS {
        -BACK_OFF
    } else {
        credit - MISS
    }
}

impl Drop for Then<'_> {
    fn drop(&mut self) {
        self.0.look();
    }
}

#[cfg(test)]
mod tests {
    use rustix::pipe::pipe;

    use super::*;

    #[test]
    fn looks_that_mostly_pay_go_on_and_others_stop() {
        let mostly = |paid_of_ten: i32| {
            (0..1000).try_fold(MOST, |credit, n| Some(settled(credit, n % 10 < paid_of_ten)).filter(|left| *left >= 0))
        };
        assert!(mostly(10).is_some());
        assert!(mostly(9).is_some());
        assert!(mostly(8).is_none());
        assert!(mostly(0).is_none());
    }

    #[test]
    fn a_device_that_is_silent_is_left_alone_after_a_few_looks() {
        let (read, write) = pipe().unwrap();
        let linger = Linger { device: Some(read), ..Linger::on(pipe().unwrap().0) };
        (0..10).for_each(|_| drop(linger.then()));
        assert!(linger.credit.load(Relaxed) < 0);
        rustix::io::write(&write, b"x").unwrap();
        (0..BACK_OFF).for_each(|_| drop(linger.then()));
        assert!(linger.credit.load(Relaxed) > 0, "tried again, and it paid");
    }
}
