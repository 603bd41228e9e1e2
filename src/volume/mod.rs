//! A mounted volume: the rooms put together, from the options to the last event.
//!
//! Must not know: command lines. Invariant: whatever ends a volume, its held operations are answered first and
//! nothing stays mounted; dropping a [`Volume`] can never wedge.

mod builder;
mod commands;
mod control_target;
mod error;
mod freezer_thread;
mod inner;
mod mount;
mod observer;
mod panics;
mod path_checks;
mod shutdown;
mod state;
mod state_collection;
mod state_lock;
mod stopper;
mod stun_freezer;
mod watch;

pub use crate::options::{CacheMode, FilterOptions, StateFile, VolumeOptions};
pub use builder::VolumeBuilder;
pub use error::{ErrorKind, VolumeError};
pub use observer::{HoldParts, Summary};
pub use panics::Panics;
pub use stopper::{Stop, Stopper};

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Receiver;
use tempfile::TempDir;

use crate::control::{Command, ControlRefusal, Reply, SETTLE};
use crate::engine::{EngineStatus, HeldOperation, Released, Stunned};
use crate::model::{ConfigError, ModelConfig};
use crate::settings::Settings;
use crate::telemetry::event::Event;
use crate::time::wait_until;
use crate::units::Bytes;
use inner::Inner;

/// A mounted volume. Dropping it releases what is held and unmounts it.
pub struct Volume {
    inner: Arc<Inner>,
    notices: Vec<String>,
    life: Option<JoinHandle<Result<Summary, VolumeError>>>,
    // Removed after the unmount: fields drop in this order.
    _owned: Owned,
}

/// Directories that go with the volume.
#[derive(Debug, Default)]
struct Owned {
    mountpoint: Option<TempDir>,
    backing: Option<TempDir>,
}

impl Volume {
    /// Starts to describe a volume.
    pub fn builder() -> VolumeBuilder {
        VolumeBuilder::default()
    }

    /// Whether this machine lets this user mount a volume: for tests that leave themselves out where it does not.
    ///
    /// # Errors
    /// One line that says what is missing, and what to do.
    pub fn check_machine() -> Result<(), VolumeError> {
        crate::fuse::check_machine(false)?;
        Ok(())
    }

    /// Mounts a volume. It is usable when this returns.
    ///
    /// # Errors
    /// One line that says what was wrong, where, and what to do; nothing is mounted then.
    pub fn mount(options: VolumeOptions) -> Result<Self, VolumeError> {
        Self::mount_owned(options, Owned::default())
    }

    fn mount_owned(options: VolumeOptions, owned: Owned) -> Result<Self, VolumeError> {
        let mounted = mount::mount(options)?;
        Ok(Self { inner: mounted.inner, notices: mounted.notices, life: Some(mounted.life), _owned: owned })
    }

    /// Lines for the user: what is limited here, what was cleaned up.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.inner.options.mountpoint
    }

    /// Where it is mounted.
    pub fn mountpoint(&self) -> &Path {
        self.path()
    }

    /// The real directory.
    pub fn backing(&self) -> &Path {
        &self.inner.options.backing
    }

    /// The control socket, if there is one.
    pub fn control_socket(&self) -> Option<&Path> {
        self.inner.options.control.as_deref()
    }

    /// The model, its configuration, and the memory of held data, now.
    pub fn status(&self) -> EngineStatus {
        self.inner.engine.status()
    }

    /// The first `limit` held operations in order of arrival.
    pub fn held(&self, limit: usize) -> Vec<HeldOperation> {
        self.inner.engine.held(limit).0
    }

    /// Waits until at least `n` operations are held; whether they are within `within`.
    pub fn wait_held(&self, n: usize, within: Duration) -> bool {
        wait_until(within, Duration::from_millis(1), || self.inner.engine.held_count() >= n)
    }

    /// Carries out a command, as `stunfs ctl` and the control socket do.
    ///
    /// # Errors
    /// The volume does not do it, and says why in one line.
    pub fn execute(&self, command: Command) -> Result<Reply, ControlRefusal> {
        commands::execute(&self.inner, command)
    }

    /// Changes options of the volume; either all of them hold from now on, or none. The configuration that holds then.
    ///
    /// # Errors
    /// An option is fixed at mount, a value cannot be read, or the options contradict each other.
    pub fn set(&self, settings: &Settings) -> Result<ModelConfig, ControlRefusal> {
        commands::set(&self.inner, settings)
    }

    /// Stuns the volume until the returned time, [`Volume::resume`] or `max_hold`; in force when it returns. If what
    /// `freeze` names cannot be frozen, only the volume stops, and a `warning` event says why: see [`Volume::try_stun`].
    pub fn stun(&self, duration: Option<Duration>) -> Stunned {
        self.try_stun(duration).unwrap_or_else(|_| self.inner.engine.stun(duration, SETTLE))
    }

    /// As [`Volume::stun`], but all or nothing: what `freeze` names stands still when it returns.
    ///
    /// # Errors
    /// Something did not stand still within ten seconds; then all goes on and nothing is stunned.
    pub fn try_stun(&self, duration: Option<Duration>) -> Result<Stunned, VolumeError> {
        self.inner.stun(duration, SETTLE)
    }

    /// Ends a stun. When it returns, the operations that the stun held are answered and what it froze runs again.
    pub fn resume(&self) -> Released {
        self.inner.resume()
    }

    /// Ends all injection at once; what was held has been answered, with success, when it returns.
    pub fn release(&self) -> Released {
        self.inner.release_all()
    }

    /// Switches injection on.
    pub fn arm(&self) {
        self.inner.engine.set_armed(true);
    }

    /// Switches injection off; what is held comes out at its time.
    pub fn disarm(&self) {
        self.inner.disarm();
    }

    /// Hands whole freed grains back to the pool; how many.
    pub fn discard(&self) -> u64 {
        self.inner.engine.discard()
    }

    /// Gives the pool another size.
    ///
    /// # Errors
    /// If it is smaller than what is provisioned.
    pub fn grow(&self, pool: Bytes) -> Result<(), ConfigError> {
        self.inner.engine.grow(pool)
    }

    /// Events from now on. A receiver that falls far behind loses some.
    pub fn events(&self) -> Receiver<Arc<Event>> {
        self.inner.observer.log.subscribe()
    }

    /// The last events so far.
    pub fn recent_events(&self) -> Vec<Arc<Event>> {
        self.inner.observer.log.recent()
    }

    /// What it has done so far.
    pub fn summary(&self) -> Summary {
        self.inner.summary()
    }

    /// Asks for the end, from any thread.
    pub fn stopper(&self) -> Stopper {
        Stopper::clone(&self.inner.stopper)
    }

    /// Waits until it has ended: unmounted, stopped, or cut off.
    ///
    /// # Errors
    /// If the pool checkpoint could not be saved, or the backing hangs.
    pub fn wait(mut self) -> Result<Summary, VolumeError> {
        self.join()
    }

    /// Releases what is held, unmounts, and waits until that is done.
    ///
    /// # Errors
    /// As [`Volume::wait`].
    pub fn unmount(mut self) -> Result<Summary, VolumeError> {
        self.end("unmounted by the library")
    }

    /// As [`Volume::unmount`]; what is left can only be looked at.
    pub(crate) fn end(&mut self, reason: &str) -> Result<Summary, VolumeError> {
        self.stopper().request_stop_for(Stop::Drain, reason);
        self.join()
    }

    fn join(&mut self) -> Result<Summary, VolumeError> {
        match self.life.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(VolumeError::new(ErrorKind::Software, "the thread that ends the volume panicked")),
            None => Ok(self.summary()),
        }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.life.is_some() {
            self.stopper().request_stop_for(Stop::Drain, "dropped");
            if let Err(error) = self.join() {
                tracing::error!("{error}");
            }
        }
    }
}

impl fmt::Debug for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Volume")
            .field("backing", &self.backing())
            .field("mountpoint", &self.mountpoint())
            .finish_non_exhaustive()
    }
}
