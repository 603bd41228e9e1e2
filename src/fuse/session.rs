//! A mount with a running daemon: how it comes, how it is ended.
//!
//! Must not know: what is injected. Invariant: no call here blocks longer than the time it is given, and a [`Session`]
//! that is gone leaves nothing in the mount table.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::attach::{Detach, MountTableOptions, Unattached, detach};
use super::error::{MountError, UnmountError};
use super::kernel::{self, MountIdentity, identity_at};
use super::mount_spec::MountSpec;
use super::mountpoint::is_dead;
use super::notify::Notify;
use super::signal::block_file_size_signal;
use super::{Adapter, ConnectionId, interrupt};

use crate::fs::{FileSystem, KernelCache};
use crate::sys::mountinfo;
use crate::time::Deadline;

/// What [`Drop`] grants an unmount that was not asked for.
const DROP_LIMIT: Duration = Duration::from_secs(5);
/// How long the daemon's threads may take to see that their connection was aborted.
const ABORT_LIMIT: Duration = Duration::from_secs(1);

/// How an unmount went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnmountOutcome {
    /// No process used it.
    Clean,
    /// It was used: detached at once, and its users were done in time.
    Detached,
    /// It was used or stood still until the time was over: the connection was cut, its users got errors.
    Aborted,
    /// Another process had unmounted it.
    Gone,
}

/// Where a mount can be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// Where it was put.
    InPlace,
    /// In this mount namespace, but moved, bound to another directory, or below another mount.
    Elsewhere,
    /// In the mount namespace of another process only.
    OtherNamespace,
    /// In no mount table that this process can read: unmounted lazily while it was in use, or unmounted for good.
    Nowhere,
}

/// Why the daemon's threads ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The kernel closed the connection: unmounted or aborted.
    Closed,
    /// The threads that serve requests failed.
    Failed(String),
}

/// A mount with a running daemon.
pub struct Session {
    mountpoint: PathBuf,
    identity: MountIdentity,
    warnings: Vec<String>,
    end: Arc<End>,
}

impl Session {
    /// Mounts. `on_identity` is called when it is known which mount it will be, before anybody can see it (as root;
    /// `fusermount3` puts it in place at once): what a guard needs to hear. An error from it ends the attempt.
    pub fn mount(
        fs: &Arc<FileSystem>,
        spec: &MountSpec,
        on_identity: impl FnOnce(MountIdentity) -> io::Result<()>,
    ) -> Result<Self, MountError> {
        let adapter = |device| Adapter::new(Arc::clone(fs), spec, device);
        let tell_kernel = |notify: &Arc<Notify>| fs.set_kernel_cache(Arc::downgrade(notify) as Weak<dyn KernelCache>);
        Self::mount_any(adapter, tell_kernel, spec, on_identity)
    }

    fn mount_any<F: fuser::Filesystem>(
        filesystem: impl FnOnce(OwnedFd) -> F,
        on_notify: impl FnOnce(&Arc<Notify>),
        spec: &MountSpec,
        on_identity: impl FnOnce(MountIdentity) -> io::Result<()>,
    ) -> Result<Self, MountError> {
        let options =
            MountTableOptions { fsname: spec.fsname.clone(), allow_other: spec.allow_other, read_only: spec.read_only };
        let unattached = Unattached::new(&spec.mountpoint, &options)?;
        let identity = unattached.identity();
        on_identity(identity).map_err(|cause| failed(spec, "guard", cause))?;
        let device = unattached.device().try_clone_to_owned().map_err(|cause| failed(spec, "device", cause))?;
        let session =
            fuse_session(filesystem(device), spec, &unattached).map_err(|cause| failed(spec, "handshake", cause))?;
        let notify = Arc::new(Notify::new(session.notifier()));
        on_notify(&notify);
        let warnings = warnings(spec, interrupt::disable(unattached.device(), unattached.root()));
        let end = Arc::new(End::default());
        serve(session, notify, Arc::clone(&end)).map_err(|cause| failed(spec, "threads", cause))?;
        unattached.attach()?;
        kernel::tune_bdi(identity.connection, spec.cache);
        Ok(Self { mountpoint: spec.mountpoint.clone(), identity, warnings, end })
    }

    /// Where it is mounted.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// The connection's number.
    pub const fn connection_id(&self) -> ConnectionId {
        self.identity.connection
    }

    /// Which mount it is.
    pub const fn identity(&self) -> MountIdentity {
        self.identity
    }

    /// What is not as it should be, one line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Why the daemon's threads ended; `None` while they run.
    pub fn ending(&self) -> Option<Ending> {
        self.end.state.lock().ending.clone()
    }

    /// Waits until the daemon's threads have ended, for example because of an unmount; whether they have.
    pub fn wait_ended(&self, within: Duration) -> bool {
        self.end.wait(within)
    }

    /// Has `call` called once when the daemon's threads have ended, on a thread of the session; at once if they have.
    pub fn on_ended(&self, call: impl FnOnce(Ending) + Send + 'static) {
        self.end.on_ended(Box::new(call));
    }

    /// Cuts the connection: every process that waits in it gets an error at once. It stays in the mount table.
    pub fn abort(&self) -> io::Result<()> {
        kernel::abort(self.identity.connection)
    }

    /// Unmounts within `within` and one second more: plainly if no process uses it, else lazily; a process that still uses it or stands
    /// still at the end of the time is cut off. Held operations must have been released before.
    ///
    /// An error says whether it is still in the mount table, or threads of the daemon hang in the backing.
    pub fn unmount(&self, within: Duration) -> Result<UnmountOutcome, UnmountError> {
        let deadline = Deadline::after(within);
        let is_alive = self.ending().is_none();
        let detached = detach_in_time(&self.mountpoint, self.identity, is_alive, deadline);
        if self.wait_ended(deadline.left()) {
            return detached.unwrap_or(Ok(UnmountOutcome::Aborted)).map_err(|cause| self.still_mounted(cause));
        }
        let aborted = self.abort();
        let retry = !matches!(detached, Some(Ok(_))) && self.is_in_place();
        let detached = if retry { detach(&self.mountpoint, Detach::Lazily) } else { Ok(()) };
        let ended = self.wait_ended(ABORT_LIMIT);
        detached.map_err(|cause| self.still_mounted(cause))?;
        if ended {
            return Ok(UnmountOutcome::Aborted);
        }
        let cause = aborted.err().unwrap_or_else(|| io::ErrorKind::TimedOut.into());
        Err(UnmountError::ThreadsHang { mountpoint: self.mountpoint.clone(), cause })
    }

    fn still_mounted(&self, cause: io::Error) -> UnmountError {
        UnmountError::StillMounted { mountpoint: self.mountpoint.clone(), cause }
    }

    /// Whether it is still in the mount table where it was put.
    pub fn is_in_place(&self) -> bool {
        is_in_place(&self.mountpoint, self.identity)
    }

    /// Where it can be seen now. It may be in use wherever that is: only [`Session::ending`] says that it is not.
    pub fn visibility(&self) -> Visibility {
        let connection = self.identity.connection;
        if self.is_in_place() {
            Visibility::InPlace
        } else if !places(connection, self.ending().is_none()).is_empty() {
            Visibility::Elsewhere
        } else if self.ending().is_none() && mountinfo::is_seen_in_other_namespace((0, connection.get())) {
            Visibility::OtherNamespace
        } else {
            Visibility::Nowhere
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.ending().is_none() || self.is_in_place() {
            let _no_one_to_tell = self.unmount(DROP_LIMIT);
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("mountpoint", &self.mountpoint)
            .field("identity", &self.identity)
            .field("ending", &self.ending())
            .finish_non_exhaustive()
    }
}

/// The end of the daemon's threads, for those who wait for it. A panic under its lock leaves nothing half done.
#[derive(Default)]
struct End {
    state: Mutex<EndState>,
    changed: Condvar,
}

#[derive(Default)]
struct EndState {
    ending: Option<Ending>,
    call: Option<Box<dyn FnOnce(Ending) + Send>>,
}

impl End {
    fn wait(&self, within: Duration) -> bool {
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, |state| state.ending.is_none(), within);
        state.ending.is_some()
    }

    fn set(&self, ending: Ending) {
        let mut state = self.state.lock();
        state.ending = Some(ending.clone());
        let call = state.call.take();
        drop(state);
        self.changed.notify_all();
        if let Some(call) = call {
            call(ending);
        }
    }

    fn on_ended(&self, call: Box<dyn FnOnce(Ending) + Send>) {
        let mut state = self.state.lock();
        match state.ending.clone() {
            Some(ending) => {
                drop(state);
                call(ending);
            }
            None => state.call = Some(call),
        }
    }
}

fn fuse_session<F: fuser::Filesystem>(
    filesystem: F,
    spec: &MountSpec,
    unattached: &Unattached,
) -> io::Result<fuser::Session<F>> {
    let mut config = fuser::Config::default();
    config.n_threads = Some(spec.threads);
    // Each thread has its own queue of requests under way: no common lock between their replies.
    config.clone_fd = spec.threads > 1;
    // Who may enter is the kernel's to decide. fuser's own check would also refuse what the kernel sends in its own
    // name, such as the times of a file at write-back.
    let device = unattached.device().as_fd().try_clone_to_owned()?;
    fuser::Session::from_fd(filesystem, device, fuser::SessionACL::All, config)
}

/// Runs the daemon's threads, and one that waits for their end.
fn serve<F: fuser::Filesystem>(session: fuser::Session<F>, notify: Arc<Notify>, end: Arc<End>) -> io::Result<()> {
    std::thread::Builder::new().name("stunfs-session".into()).spawn(move || {
        // fuser's threads inherit that.
        block_file_size_signal();
        let ending = match session.run() {
            Ok(()) => Ending::Closed,
            Err(cause) => Ending::Failed(cause.to_string()),
        };
        // It has a descriptor of the connection, which must not outlive the session.
        drop(notify);
        end.set(ending);
    })?;
    Ok(())
}

/// Detaches on a thread of its own, since unmounting waits for write-back; `None` if it is not done in time.
fn detach_in_time(
    mountpoint: &Path,
    identity: MountIdentity,
    is_alive: bool,
    deadline: Deadline,
) -> Option<io::Result<UnmountOutcome>> {
    let (tell, result) = channel();
    let path = mountpoint.to_owned();
    let started = std::thread::Builder::new().name("stunfs-unmount".into()).spawn(move || {
        let places = places(identity.connection, is_alive);
        let detached = detach_ours(&path, identity);
        let _caller_may_be_gone = tell.send(detach_elsewhere(identity.connection, &places, detached));
    });
    if let Err(cause) = started {
        return Some(Err(cause));
    }
    result.recv_timeout(deadline.left()).ok()
}

fn detach_ours(mountpoint: &Path, identity: MountIdentity) -> io::Result<UnmountOutcome> {
    if !is_in_place(mountpoint, identity) {
        return Ok(UnmountOutcome::Gone);
    }
    match detach(mountpoint, Detach::IfUnused) {
        Ok(()) => Ok(UnmountOutcome::Clean),
        Err(cause) if cause.kind() == io::ErrorKind::ResourceBusy => {
            detach(mountpoint, Detach::Lazily).map(|()| UnmountOutcome::Detached)
        }
        Err(cause) => Err(cause),
    }
}

/// Where the file system of this connection is mounted, the last mount first. Once the connection has ended its number
/// may be that of another program's next mount: only dead mounts count then.
fn places(connection: ConnectionId, is_alive: bool) -> Vec<PathBuf> {
    let mounts = mountinfo::read().unwrap_or_default().into_iter().rev();
    let ours = mounts.filter(|mount| mount.device == (0, connection.get())).map(|mount| mount.mountpoint);
    ours.filter(|place| is_alive || is_dead(place)).collect()
}

/// Takes it out of the table where it was bound to, or moved along with a directory above it.
fn detach_elsewhere(
    connection: ConnectionId,
    places: &[PathBuf],
    detached: io::Result<UnmountOutcome>,
) -> io::Result<UnmountOutcome> {
    let is_ours = |path: &Path| matches!(identity_at(path), Ok(Some(found)) if found.connection == connection);
    let mut result = detached;
    for place in places {
        if is_ours(place) {
            let gone = detach(place, Detach::Lazily).map(|()| UnmountOutcome::Detached);
            result = result.and(gone);
        } else if matches!(result, Ok(UnmountOutcome::Gone)) {
            let place = place.display();
            tracing::warn!("the volume stays in the mount table below what is mounted over {place}: umount that twice");
        }
    }
    result
}

fn is_in_place(mountpoint: &Path, identity: MountIdentity) -> bool {
    matches!(identity_at(mountpoint), Ok(Some(found)) if found == identity)
}

fn failed(spec: &MountSpec, step: &'static str, cause: io::Error) -> MountError {
    MountError::Failed { mountpoint: spec.mountpoint.clone(), step, cause }
}

fn warnings(spec: &MountSpec, interrupts: io::Result<()>) -> Vec<String> {
    let interrupts = interrupts.err().map(|cause| {
        format!("processes that wait for this volume may show state S instead of D until the first signal ({cause})")
    });
    let mut warnings: Vec<String> = interrupts.into_iter().collect();
    if !rustix::process::getuid().is_root() {
        warnings.extend(limits_of_users(spec, kernel::max_user_background()));
    }
    warnings
}

/// What is different for users other than root. `granted`: the largest `max_background` that the kernel gives them.
fn limits_of_users(spec: &MountSpec, granted: Option<u32>) -> Vec<String> {
    let owners = if spec.allow_other {
        "not root: whatever others make on the volume belongs to you, and no user can chown"
    } else {
        "not root: only you can use the volume (--allow-other changes that), and no user can chown"
    };
    let depth = granted
        .filter(|granted| u32::from(spec.queue_depth) > *granted)
        .map(|granted| format!("not root: queue depth {} is limited to {granted}", spec.queue_depth));
    std::iter::once(owners.to_owned()).chain(depth).collect()
}

#[cfg(test)]
mod tests;
