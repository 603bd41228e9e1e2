//! The disk's volume, seen from any process: asked over its control socket, and ended whatever state it is in.
//!
//! Must not know: devices, file systems. Invariant: a volume that does not answer is cut off from the kernel, and only a
//! daemon that is this disk's alone is ever killed.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::record::DiskRecord;
use super::{filesystem, loopdev};
use crate::control::{Client, ClientError};
use crate::fuse::{ConnectionId, abort};
use crate::sys::mountinfo;
use crate::time::wait_until;

/// How long held operations may take to be answered.
const RELEASE_LIMIT: Duration = Duration::from_millis(1500);
/// How long a volume may take to end by itself: its own grace for open files is five seconds.
const END_LIMIT: Duration = Duration::from_secs(7);
/// How long a volume may take to end that was cut off.
const CUT_LIMIT: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(10);

/// The volume of a disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct DiskVolume<'a>(pub(super) &'a DiskRecord);

impl DiskVolume<'_> {
    /// Asks the volume something.
    pub(super) fn post(self, path: &str, within: Duration) -> Result<Value, ClientError> {
        Client::connect(&self.0.control)?.timeout(Some(within)).post(path, &json!({}))?.ok()
    }

    /// Whether its process runs.
    pub(super) fn is_alive(self) -> bool {
        self.0.process.is_some_and(super::system::ProcessId::is_running)
    }

    /// Ends all injection: freezes are thawed, holds answered. Whether the volume still serves requests; one that is dead or
    /// stands still does not.
    pub(super) fn release(self) -> bool {
        let stands_still = || self.0.process.is_some_and(super::system::ProcessId::is_stopped);
        if !self.is_alive() || stands_still() {
            return false;
        }
        match self.post("/v1/release", RELEASE_LIMIT) {
            Ok(_) => true,
            // It is at it; what is written to a slow backing takes its time.
            Err(ClientError::TimedOut { .. }) => !stands_still(),
            Err(_) => false,
        }
    }

    /// Cuts the volume off from the kernel: every waiting process gets an error at once.
    pub(super) fn cut_off(self) {
        let mounted = self.mounted_connection();
        // A number on record may be another mount's by now, unless the device still holds the volume's file open.
        let held = || self.0.device.as_ref().is_some_and(|device| loopdev::holds(device) == loopdev::Holds::Ours);
        let recorded = || self.0.connection.and_then(|number| ConnectionId::of_device(0, number)).filter(|_| held());
        if let Some(connection) = mounted.or_else(recorded) {
            // It may have ended meanwhile.
            let _ = abort(connection);
        }
    }

    /// The number of the connection that is mounted at the disk's own place.
    pub(super) fn mounted_connection(self) -> Option<ConnectionId> {
        let mounts = mountinfo::read().ok()?;
        let mount = mountinfo::at(&mounts, &self.0.volume).filter(|mount| mount.is_stunfs())?;
        ConnectionId::of_device(mount.device.0, mount.device.1)
    }

    /// Ends the volume: as it likes to, else by force.
    pub(super) fn end(self) {
        let asked = self.is_alive() && self.post("/v1/stop", RELEASE_LIMIT).is_ok();
        if asked && wait_until(END_LIMIT, TICK, || self.is_gone()) {
            return;
        }
        self.cut_off();
        while mountinfo::is_mounted(&self.0.volume) {
            filesystem::detach(&self.0.volume);
        }
        if !wait_until(CUT_LIMIT, TICK, || self.is_gone()) {
            self.kill();
            wait_until(CUT_LIMIT, TICK, || self.is_gone());
        }
    }

    fn is_gone(self) -> bool {
        let daemon_runs = self.0.is_daemon && self.is_alive();
        !daemon_runs && !mountinfo::is_mounted(&self.0.volume)
    }

    fn kill(self) {
        let daemon = self.0.process.filter(|process| self.0.is_daemon && process.is_running());
        if let Some(pid) = daemon.and_then(|daemon| Pid::from_raw(daemon.pid.try_into().ok()?)) {
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
