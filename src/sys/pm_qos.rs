//! A PM QoS request that idle processors stay awake (`/dev/cpu_dma_latency`), in force only while work comes in quickly.
//!
//! To wake a halted processor takes longer than most small requests, above all in a virtual machine. While the request is
//! in force an idle processor polls instead of halting, and gives way at once to whatever wants to run. It costs power on
//! the whole machine, and needs the right to open the device (root).
//! <https://www.kernel.org/doc/html/latest/power/pm_qos_interface.html>
//!
//! Must not know: what the work is. Invariant: the request ends a few milliseconds after the work, with the value, and
//! with the process, however that ends; without work nothing here runs.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::thread::{Builder, JoinHandle, park, park_timeout};
use std::time::Duration;

use crate::time::{Clock, SimTime};

/// The interface: a 32-bit number of microseconds, in force while the file is open.
pub const DEVICE: &str = "/dev/cpu_dma_latency";

/// Work that begins this soon after the last is in quick succession. A halted processor takes 50 us to wake, so a program
/// that works alone stays well below this.
const QUICK: Duration = Duration::from_micros(500);
/// The request is made after so many pieces of work in quick succession.
const STREAK: u32 = 16;
/// The request is dropped when no work has come for this long.
const IDLE: Duration = Duration::from_millis(5);

/// Whether this process may make the request.
pub fn can_request() -> io::Result<()> {
    open(Path::new(DEVICE)).map(drop)
}

fn open(device: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(device)
}

/// Makes the request while [`Self::note`] is called in quick succession.
#[derive(Debug)]
pub struct WakeLatencyRequest {
    activity: Arc<Activity>,
    keeper: JoinHandle<()>,
}

#[derive(Debug)]
struct Activity {
    clock: Clock,
    /// When work came last, in microseconds.
    last: AtomicU64,
    streak: AtomicU32,
    in_force: AtomicBool,
    stopping: AtomicBool,
}

impl WakeLatencyRequest {
    /// Ready to make the request; the error says why this process may not.
    pub fn new() -> io::Result<Self> {
        can_request()?;
        Self::on(Path::new(DEVICE))
    }

    fn on(device: &Path) -> io::Result<Self> {
        let activity = Arc::new(Activity {
            clock: Clock::start(),
            last: AtomicU64::new(0),
            streak: AtomicU32::new(0),
            in_force: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        });
        let (own, device) = (Arc::clone(&activity), device.to_owned());
        let keeper = Builder::new().name("stunfs-pm-qos".into()).spawn(move || own.keep(&device))?;
        Ok(Self { activity, keeper })
    }

    /// A piece of work has come. Costs one look at the clock.
    pub fn note(&self) {
        if self.activity.note(self.activity.clock.now()) {
            self.keeper.thread().unpark();
        }
    }

    /// Whether the request is in force now.
    pub fn in_force(&self) -> bool {
        self.activity.in_force.load(Relaxed)
    }
}

impl Drop for WakeLatencyRequest {
    fn drop(&mut self) {
        self.activity.stopping.store(true, Relaxed);
        self.keeper.thread().unpark();
    }
}

impl Activity {
    /// Whether the request is to be made now.
    fn note(&self, now: SimTime) -> bool {
        let last = self.last.swap(now.as_micros(), Relaxed);
        if u128::from(now.as_micros().saturating_sub(last)) > QUICK.as_micros() {
            self.streak.store(0, Relaxed);
            return false;
        }
        // With several FUSE threads a count may be lost: the request comes one piece of work later.
        let streak = self.streak.load(Relaxed).saturating_add(1);
        self.streak.store(streak, Relaxed);
        streak >= STREAK && !self.in_force.load(Relaxed)
    }

    fn is_idle(&self) -> bool {
        let last = Duration::from_micros(self.last.load(Relaxed));
        self.clock.now().since(SimTime::ZERO).saturating_sub(last) > IDLE
    }

    /// The thread that holds the request. It sleeps while none is in force.
    fn keep(&self, device: &Path) {
        while !self.stopping.load(Relaxed) {
            park();
            if self.streak.load(Relaxed) >= STREAK && !self.stopping.load(Relaxed) {
                match request(device) {
                    Ok(request) => self.hold(request),
                    Err(error) => return tracing::warn!("{}: {error}; small requests may be slower", device.display()),
                }
            }
        }
    }

    fn hold(&self, request: File) {
        self.in_force.store(true, Relaxed);
        while !self.stopping.load(Relaxed) && !self.is_idle() {
            park_timeout(IDLE);
        }
        drop(request);
        self.streak.store(0, Relaxed);
        self.in_force.store(false, Relaxed);
    }
}

fn request(device: &Path) -> io::Result<File> {
    let mut file = open(device)?;
    file.write_all(&0_i32.to_ne_bytes())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::wait_until;

    const LONG: Duration = Duration::from_secs(10);
    const TICK: Duration = Duration::from_millis(1);

    fn activity() -> Activity {
        Activity {
            clock: Clock::start(),
            last: AtomicU64::new(0),
            streak: AtomicU32::new(0),
            in_force: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }
    }

    #[test]
    fn only_work_in_quick_succession_asks_for_the_request() {
        let (quick, slow) = (activity(), activity());
        let asked = |activity: &Activity, gap: u64| {
            (1..=40).map(|n| activity.note(SimTime::ZERO + Duration::from_micros(n * gap))).position(|asked| asked)
        };
        assert_eq!(asked(&quick, 50), Some(15));
        assert_eq!(asked(&slow, 501), None);
    }

    #[test]
    fn the_request_is_made_while_work_comes_and_dropped_when_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let device = dir.path().join("cpu_dma_latency");
        std::fs::write(&device, b"").unwrap();
        let request = WakeLatencyRequest::on(&device).unwrap();
        assert!(!request.in_force());
        assert!(wait_until(LONG, Duration::ZERO, || {
            request.note();
            request.in_force()
        }));
        assert_eq!(std::fs::read(&device).unwrap(), 0_i32.to_ne_bytes());
        assert!(wait_until(LONG, TICK, || !request.in_force()));
    }

    #[test]
    fn a_device_that_cannot_be_opened_ends_the_attempt() {
        let request = WakeLatencyRequest::on(Path::new("/nonexistent/device")).unwrap();
        assert!(wait_until(LONG, Duration::ZERO, || {
            request.note();
            request.keeper.is_finished()
        }));
        assert!(!request.in_force());
    }
}
