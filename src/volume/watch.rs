//! What the kernels around the volume report becomes events, and the settings that make them report are put back.
//!
//! Must not know: what messages mean. Invariant: whatever was changed is put back by [`Watch::stop`], or by the guard.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;

use super::error::{ErrorKind, VolumeError};
use crate::freeze::UndoAction;
use crate::observe::kmsg::source::{Begin, Follower};
use crate::observe::sysctl::{SavedSysctl, SysctlError, Sysctls};
use crate::options::VolumeOptions;
use crate::telemetry::event::EventBody;
use crate::telemetry::events::EventLog;
use crate::time::{Clock, wait_until};

/// How long another stunfs that changes kernel settings is waited for.
const SETTINGS_WITHIN: Duration = Duration::from_secs(2);

/// How long the threads may take to end.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// The logs that are followed and the settings that are changed.
#[derive(Debug)]
pub(super) struct Watch {
    /// Whose, and the log; until [`Watch::start`].
    logs: Mutex<Vec<(String, Follower)>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    stop: Arc<AtomicBool>,
    settings: Mutex<Option<Sysctls>>,
}

impl Watch {
    /// Opens the logs and claims the settings; changes nothing.
    pub(super) fn open(options: &VolumeOptions, clock: Clock) -> Result<Self, VolumeError> {
        let mut logs = Vec::new();
        if options.kernel_log {
            logs.push(("host".to_owned(), Follower::host(clock, Begin::Now)?));
        }
        for path in &options.guest_consoles {
            logs.push((path.display().to_string(), Follower::console(path, clock, Begin::Now)?));
        }
        let settings = options.hung_task_timeout.map(|_| Sysctls::acquire(SETTINGS_WITHIN)).transpose()?;
        Ok(Self {
            logs: Mutex::new(logs),
            threads: Mutex::default(),
            stop: Arc::default(),
            settings: Mutex::new(settings),
        })
    }

    /// Changes the settings, each after `arm` was told how to put it back, and begins to follow the logs.
    pub(super) fn start(
        &self,
        options: &VolumeOptions,
        log: &EventLog,
        arm: impl Fn(&UndoAction) -> io::Result<()>,
    ) -> Result<(), VolumeError> {
        if let (Some(timeout), Some(settings)) = (options.hung_task_timeout, &mut *self.settings.lock()) {
            settings.report_hung_tasks_after(timeout, &mut |saved| arm(&action(saved)?))?;
        }
        for (source, follower) in std::mem::take(&mut *self.logs.lock()) {
            let (log, stop) = (log.clone(), Arc::clone(&self.stop));
            let thread =
                Builder::new().name("stunfs-kernlog".into()).spawn(move || follow(&source, follower, &log, &stop));
            let thread = thread
                .map_err(|error| VolumeError::new(ErrorKind::Os, format!("no thread can be started: {error}")))?;
            self.threads.lock().push(thread);
        }
        Ok(())
    }

    /// How to put back what is changed now, for another guard.
    pub(super) fn actions(&self) -> io::Result<Vec<UndoAction>> {
        self.settings.lock().iter().flat_map(|settings| settings.saved()).map(action).collect()
    }

    /// Calls `with` with the lock that keeps others from changing settings, which the guard has to hold, too.
    pub(super) fn with_lock<T>(&self, with: impl FnOnce(Option<BorrowedFd<'_>>) -> T) -> T {
        with(self.settings.lock().as_ref().map(AsFd::as_fd))
    }

    /// Reads what there is to read, ends the threads, and puts the settings back. What cannot be put back is returned.
    pub(super) fn stop(&self) -> Result<(), SysctlError> {
        self.stop.store(true, Relaxed);
        let threads = std::mem::take(&mut *self.threads.lock());
        let ended = || threads.iter().all(JoinHandle::is_finished);
        if !wait_until(STOP_WITHIN, Duration::from_millis(2), ended) {
            tracing::warn!("a kernel log does not let go; the thread that reads it is left behind");
        }
        let mut settings = self.settings.lock();
        settings.as_mut().map_or(Ok(()), Sysctls::restore)?;
        // Lets others change them.
        *settings = None;
        Ok(())
    }
}

fn follow(source: &str, mut follower: Follower, log: &EventLog, stop: &AtomicBool) {
    let followed = follower.follow(stop, |finding| log.emit(finding.into_event(source)));
    if let Err(error) = followed {
        log.emit(EventBody::Warning { message: error.to_string() });
    }
    if follower.overruns() > 0 {
        let message =
            format!("kernel of {source}: {} times lines were lost before they were read", follower.overruns());
        log.emit(EventBody::Warning { message });
    }
}

fn action(saved: &SavedSysctl) -> io::Result<UndoAction> {
    let path = CString::new(saved.path.as_os_str().as_bytes())?;
    Ok(UndoAction::PutBack { path, value: CString::new(saved.value.as_str())? })
}
