//! After a request, a short look whether the next one comes at once.
//!
//! A program that works alone sends its next request some microseconds after the answer to the last one. A thread that has
//! gone to sleep meanwhile, on a processor that has, too, must be woken from another one: that takes longer than most
//! requests (in a virtual machine several times as long). So one thread looks for the next request for some microseconds
//! before it sleeps, as long as that mostly pays. On two processors there is something better: [`Company`].
//!
//! Must not know: requests. Invariant: a volume that is not in use costs nothing; one whose requests come one by one in
//! leisure costs next to nothing.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::company::Company;
use super::credit::Credit;
use crate::time::{Clock, SimTime};

/// How long to look.
const WINDOW: Duration = Duration::from_micros(50);

/// What is done between two requests.
#[derive(Debug)]
pub(super) struct Linger {
    device: OwnedFd,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// One processor: the program needs it.
    Sleep,
    Company(Company),
    Look(Look),
}

/// The look, when the request is over.
#[derive(Debug)]
pub(super) struct Then<'a> {
    linger: &'a Linger,
    client: u32,
    begun: SimTime,
}

impl Linger {
    /// `device`: a descriptor of the connection. `threads`: how many serve it.
    pub(super) fn on(device: OwnedFd, threads: usize) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let company = if threads == 1 { Company::on_two_processors() } else { None };
        let way = match company {
            Some(company) => Way::Company(company),
            None if processors > 1 => Way::Look(Look::new()),
            None => Way::Sleep,
        };
        Self { device, way }
    }

    /// At the beginning of a request of the thread `client`; 0: of the kernel.
    pub(super) fn then(&self, client: u32) -> Then<'_> {
        let begun = if let Way::Company(company) = &self.way { company.begins() } else { SimTime::ZERO };
        Then { linger: self, client, begun }
    }

    /// Whether no request is there that has not been taken.
    pub(super) fn nobody_waits(&self) -> bool {
        !is_readable(&self.device)
    }
}

impl Drop for Then<'_> {
    fn drop(&mut self) {
        match &self.linger.way {
            Way::Sleep => {}
            Way::Company(company) => company.ends(self.begun, self.client),
            Way::Look(look) => look.at(&self.linger.device),
        }
    }
}

/// The FUSE thread looks itself. One looks at a time.
#[derive(Debug)]
struct Look {
    clock: Clock,
    looking: AtomicBool,
    credit: Credit,
}

impl Look {
    fn new() -> Self {
        Self { clock: Clock::start(), looking: AtomicBool::new(false), credit: Credit::full() }
    }

    fn at(&self, device: &OwnedFd) {
        if self.credit.lasts() && !self.looking.swap(true, Relaxed) {
            self.credit.settle(self.comes(device));
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

#[cfg(test)]
mod tests {
    use rustix::pipe::pipe;

    use super::*;

    #[test]
    fn a_device_that_is_silent_is_left_alone_after_a_few_looks() {
        let ((read, write), look) = (pipe().unwrap(), Look::new());
        let looks = (0..10).filter(|_| look.credit.lasts()).map(|_| look.at(&read)).count();
        assert!(looks < 10);
        rustix::io::write(&write, b"x").unwrap();
        assert!((0..1000).any(|_| look.credit.lasts()), "tried again");
        assert!(look.comes(&read));
    }
}
