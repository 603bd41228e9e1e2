//! What the threads of a mounted volume share, and the steps of its life that need more than one room.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::Pid;

use super::error::{ErrorKind, VolumeError};
use super::observer::{Summary, VolumeObserver};
use super::state::StateStore;
use super::stopper::Stopper;
use super::stun_freezer::StunFreezer;
use super::watch::Watch;
use crate::control::{ControlServer, MetricsServer};
use crate::engine::{Engine, Released, Stunned};
use crate::freeze::{FreezeSet, Guard, UndoAction};
use crate::fuse::MountIdentity;
use crate::options::{FilterOptions, VolumeOptions};
use crate::telemetry::event::{EventBody, RunOptions};
use crate::time::{Clock, Deadline, wait_until};

/// How long the scan may take to end.
const SCAN_STOP: Duration = Duration::from_secs(2);

/// How long a server may take to end.
const SERVER_STOP: Duration = Duration::from_secs(2);

/// How long the guard may take to go.
const GUARD_STOP: Duration = Duration::from_secs(2);

/// What the threads of a mounted volume share.
pub(super) struct Inner {
    pub(super) options: VolumeOptions,
    pub(super) clock: Clock,
    pub(super) engine: Engine,
    pub(super) observer: Arc<VolumeObserver>,
    pub(super) stopper: Stopper,
    pub(super) state: Arc<StateStore>,
    /// The last session did not end cleanly; nor does one that never came up after it.
    pub(super) after_crash: bool,
    pub(super) scan: Scan,
    pub(super) freezer: Arc<StunFreezer>,
    pub(super) watch: Watch,
    pub(super) mounted: OnceLock<MountIdentity>,
    pub(super) guard: Mutex<Option<Guard>>,
    /// `fusermount3`, for users whom the kernel does not let unmount.
    pub(super) helper: Option<PathBuf>,
    pub(super) servers: Mutex<Servers>,
    /// Which operations are hit now; `ctl set only=` changes it.
    pub(super) filter: Mutex<FilterOptions>,
}

/// The servers that answer questions from outside.
#[derive(Debug, Default)]
pub(super) struct Servers {
    pub(super) control: Option<ControlServer>,
    pub(super) metrics: Option<MetricsServer>,
}

/// The thread that reads how much the backing holds.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) stop: Arc<AtomicBool>,
    pub(super) thread: Mutex<Option<JoinHandle<()>>>,
}

impl Inner {
    /// The options beside the model's that a repetition of this run needs, as they hold now.
    pub(super) fn run_options(&self) -> RunOptions {
        RunOptions {
            only: self.filter.lock().texts(),
            cache: self.options.cache.name().to_owned(),
            threads: self.options.threads,
        }
    }

    pub(super) fn summary(&self) -> Summary {
        self.observer.summary(&self.engine.status())
    }

    /// Stuns the volume, and waits for operations that began before it, at most for `settle`. What is to be frozen stands
    /// still before anything is held, since QEMU cannot stop while a request of its guest is. If that fails nothing is
    /// stunned.
    pub(super) fn stun(&self, duration: Option<Duration>, settle: Duration) -> Result<Stunned, VolumeError> {
        let frozen = self.freezer.stand_still();
        let _until_it_has_begun = frozen.map_err(|why| VolumeError::new(ErrorKind::Unavailable, why.to_string()))?;
        Ok(self.engine.stun(duration, settle))
    }

    /// Ends a stun, with all that it froze.
    pub(super) fn resume(&self) -> Released {
        self.thawed(Engine::resume)
    }

    /// Ends all injection, with all that it froze.
    pub(super) fn release_all(&self) -> Released {
        self.thawed(Engine::release_all)
    }

    /// Switches injection off, and ends a stun with all that it froze.
    pub(super) fn disarm(&self) -> Released {
        self.thawed(|engine| engine.set_armed(false))
    }

    fn thawed(&self, end: impl FnOnce(&Engine) -> Released) -> Released {
        let released = end(&self.engine);
        self.freezer.wait_thawed();
        released
    }

    pub(super) fn save_state(&self) -> Result<(), VolumeError> {
        let used = self.engine.provisioned();
        self.state
            .save(self.engine.save(), used)
            .map_err(|error| VolumeError::io("the state could not be kept for", &self.options.backing, &error))
    }

    pub(super) fn stop_scan(&self) {
        self.scan.stop.store(true, Relaxed);
        if let Some(thread) = self.scan.thread.lock().take()
            && !wait_until(SCAN_STOP, Duration::from_millis(1), || thread.is_finished())
        {
            tracing::warn!("the backing does not answer; the thread that counts what it holds is left behind");
        }
    }

    pub(super) fn stop_servers(&self) {
        let servers = std::mem::take(&mut *self.servers.lock());
        if let Some(mut control) = servers.control {
            control.stop(Deadline::after(SERVER_STOP));
        }
        if let Some(mut metrics) = servers.metrics {
            metrics.stop(Deadline::after(SERVER_STOP));
        }
    }

    pub(super) fn stop_watch(&self) {
        if let Err(error) = self.watch.stop() {
            self.warn(error.to_string());
        }
    }

    /// A guard for this volume, told of all that has to be undone by now.
    pub(super) fn start_guard(&self, set: &mut FreezeSet) -> io::Result<()> {
        let helper = self.helper.as_deref();
        let guard = self.watch.with_lock(|lock| Guard::spawn_with_lock(&self.options.mountpoint, helper, lock))?;
        if let Some(mount) = self.mounted.get() {
            guard.watch_mount(mount.connection.get(), mount.mount_id)?;
        }
        for action in self.watch.actions()?.iter().chain(&set.actions()) {
            guard.arm(action)?;
        }
        if let Some(pid) = i32::try_from(guard.pid()).ok().and_then(Pid::from_raw) {
            set.spare(pid);
        }
        *self.guard.lock() = Some(guard);
        // Its death is watched from now on.
        self.stopper.wake();
        Ok(())
    }

    /// A descriptor that reports `POLLHUP` when the guard dies; `None`: there is none now.
    pub(super) fn living_guard(&self) -> Option<OwnedFd> {
        let guard = self.guard.lock();
        guard.as_ref().filter(|guard| guard.alive())?.watch_fd().try_clone_to_owned().ok()
    }

    pub(super) fn guard_alive(&self) -> bool {
        self.guard.lock().as_ref().is_some_and(Guard::alive)
    }

    /// Posts another guard if the first was killed; whether there is one now.
    pub(super) fn ensure_guard(&self, set: &mut FreezeSet) -> bool {
        if self.guard_alive() {
            return true;
        }
        let posted = self.start_guard(set);
        self.warn(match &posted {
            Ok(()) => "the guard process was killed; another one has taken its place".to_owned(),
            Err(error) => format!("the guard process was killed, and no other can be started: {error}"),
        });
        posted.is_ok()
    }

    /// As [`Inner::ensure_guard`], unless something is being frozen just now: then that sees to it.
    pub(super) fn check_guard(&self) {
        if let Some(mut set) = self.freezer.try_set() {
            self.ensure_guard(&mut set);
        }
    }

    /// Tells the guard how to undo what is about to be done.
    pub(super) fn arm_guard(&self, action: &UndoAction) -> io::Result<()> {
        self.guard.lock().as_ref().map_or(Err(io::ErrorKind::NotConnected.into()), |guard| guard.arm(action))
    }

    /// Thaws everything that was frozen. A guard that is dead is not told.
    pub(super) fn tell_guard_thawed(&self) {
        let _ = self.guard.lock().as_ref().map(Guard::thawed);
    }

    /// Tells, in one line, the user who runs the volume and the readers of its events what they must know.
    pub(super) fn warn(&self, message: String) {
        tracing::warn!("{message}");
        self.observer.log.emit(EventBody::Warning { message });
    }

    pub(super) fn dismiss_guard(&self) {
        let guard = self.guard.lock().take();
        // One that is not dismissed does what there is left to do.
        let guard = guard.filter(|_| self.freezer.is_thawed());
        if guard.is_some_and(|guard| !guard.dismiss(GUARD_STOP)) {
            tracing::warn!("the guard process does not end");
        }
    }
}
