//! Kernel settings that an experiment needs, put back afterwards.
//!
//! Must not know: what they are for. Invariant: what was there before is put back when [`Sysctls`] is dropped, or by
//! whoever holds a copy of [`Sysctls::saved`] when that never happens (SIGKILL); two users of one machine do not
//! change settings at the same time, so that nobody saves what another has set.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::sys::sysctl::{self, PROC_SYS};
use crate::time::wait_until;

/// The lock that says who changes settings on this machine.
pub const LOCK: &str = "/run/stunfs-sysctl.lock";

/// A setting cannot be changed or put back.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// Another process changes settings.
    #[error("kernel settings are in use by another stunfs ({path} is locked); wait for it to end, or stop it")]
    Busy {
        /// The lock.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("cannot {what} kernel setting {path}: {cause}; changing settings needs root, and a kernel that has them")]
    Access {
        /// `read`, `secure`, `set`, `put back` or `lock`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// A setting as it was before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedSysctl {
    /// Its file.
    pub path: PathBuf,
    /// Its text.
    pub value: String,
}

impl SavedSysctl {
    /// Puts it back. May be called any number of times, from any process.
    pub fn restore(&self) -> Result<(), SysctlError> {
        sysctl::write_file(&self.path, &self.value).map_err(|cause| access("put back", &self.path, cause))
    }
}

/// Called with what a setting was just before it is changed: to tell the guard process.
pub type SysctlArmer<'a> = dyn FnMut(&SavedSysctl) -> io::Result<()> + 'a;

/// Settings that are changed as long as this lives. Keep it until the experiment's end, and give [`Self::saved`] to
/// the guard process; a guard that holds [`Self::as_fd`] also keeps others out until it is done.
#[derive(Debug)]
pub struct Sysctls {
    root: PathBuf,
    saved: Vec<SavedSysctl>,
    lock: File,
}

impl Sysctls {
    /// The right to change this machine's settings, waiting up to `within` for others to end.
    pub fn acquire(within: Duration) -> Result<Self, SysctlError> {
        Self::acquire_at(Path::new(PROC_SYS), Path::new(LOCK), within)
    }

    /// As [`Self::acquire`], for settings below another directory, with a lock of their own.
    pub fn acquire_at(root: &Path, lock: &Path, within: Duration) -> Result<Self, SysctlError> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(lock);
        let file = file.map_err(|cause| access("lock", lock, cause))?;
        let locked = wait_until(within, Duration::from_millis(50), || {
            flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        });
        if !locked {
            return Err(SysctlError::Busy { path: lock.to_owned() });
        }
        Ok(Self { root: root.to_owned(), saved: Vec::new(), lock: file })
    }

    /// Sets `name` (`kernel.hung_task_timeout_secs`) and remembers what it was the first time; that is told to `arm`
    /// before the change, and if `arm` fails, nothing is changed.
    pub fn set(&mut self, name: &str, value: &str, arm: &mut SysctlArmer<'_>) -> Result<(), SysctlError> {
        let path = sysctl::path_below(&self.root, name);
        let before = sysctl::read_file(&path).map_err(|cause| access("read", &path, cause))?;
        if !self.saved.iter().any(|saved| saved.path == path) {
            let saved = SavedSysctl { path: path.clone(), value: before };
            arm(&saved).map_err(|cause| access("secure", &path, cause))?;
            self.saved.push(saved);
        }
        sysctl::write_file(&path, value).map_err(|cause| access("set", &path, cause))
    }

    /// Makes the hung-task detector report a task after `timeout` (whole seconds, at least one), looking as often,
    /// without a limit on the number of reports. Settings that an older kernel lacks are left out, except the timeout.
    pub fn report_hung_tasks_after(&mut self, timeout: Duration, arm: &mut SysctlArmer<'_>) -> Result<(), SysctlError> {
        let seconds = timeout.as_secs().max(1).to_string();
        self.set("kernel.hung_task_timeout_secs", &seconds, arm)?;
        for (name, value) in [
            ("kernel.hung_task_check_interval_secs", seconds.as_str()),
            ("kernel.hung_task_warnings", "-1"),
            ("kernel.hung_task_panic", "0"),
        ] {
            match self.set(name, value, arm) {
                Err(SysctlError::Access { cause, .. }) if cause.kind() == ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// What has to be put back, in the order in which it was changed.
    pub fn saved(&self) -> &[SavedSysctl] {
        &self.saved
    }

    /// Puts everything back, the last change first; what fails is kept for another try, and the first error told.
    pub fn restore(&mut self) -> Result<(), SysctlError> {
        let mut first = Ok(());
        let mut failed = Vec::new();
        for saved in self.saved.drain(..).rev() {
            if let Err(error) = saved.restore() {
                failed.insert(0, saved);
                first = first.and(Err(error));
            }
        }
        self.saved = failed;
        first
    }
}

impl AsFd for Sysctls {
    /// The lock.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }
}

impl Drop for Sysctls {
    fn drop(&mut self) {
        if let Err(error) = self.restore() {
            tracing::error!("{error}");
        }
    }
}

fn access(what: &'static str, path: &Path, cause: io::Error) -> SysctlError {
    SysctlError::Access { what, path: path.to_owned(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 2] = ["kernel.hung_task_timeout_secs", "kernel.hung_task_warnings"];

    struct Fake(tempfile::TempDir);

    impl Fake {
        fn new() -> Self {
            let fake = Self(tempfile::tempdir().unwrap());
            std::fs::create_dir(fake.0.path().join("kernel")).unwrap();
            for (name, value) in NAMES.iter().zip(["120\n", "10\n"]) {
                std::fs::write(fake.path(name), value).unwrap();
            }
            fake
        }
        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name.replace('.', "/"))
        }
        fn values(&self) -> [String; 2] {
            NAMES.map(|name| std::fs::read_to_string(self.path(name)).unwrap().trim().to_owned())
        }
        fn acquire(&self) -> Result<Sysctls, SysctlError> {
            Sysctls::acquire_at(self.0.path(), &self.0.path().join("lock"), Duration::from_millis(60))
        }
    }

    #[test]
    fn put_back_at_drop_even_after_two_changes() {
        let fake = Fake::new();
        let mut sysctls = fake.acquire().unwrap();
        sysctls.report_hung_tasks_after(Duration::from_secs(5), &mut |_| Ok(())).unwrap();
        sysctls.set(NAMES[0], "7", &mut |_| Ok(())).unwrap();
        assert_eq!(fake.values(), ["7", "-1"]);
        drop(sysctls);
        assert_eq!(fake.values(), ["120", "10"]);
    }

    #[test]
    fn a_guard_can_put_back_what_was_saved() {
        let fake = Fake::new();
        let mut sysctls = fake.acquire().unwrap();
        sysctls.report_hung_tasks_after(Duration::from_secs(5), &mut |_| Ok(())).unwrap();
        let told = serde_json::to_string(sysctls.saved()).unwrap();
        std::mem::forget(sysctls);
        let saved: Vec<SavedSysctl> = serde_json::from_str(&told).unwrap();
        saved.iter().for_each(|saved| saved.restore().unwrap());
        assert_eq!(fake.values(), ["120", "10"]);
    }

    #[test]
    fn nothing_is_changed_that_the_guard_does_not_know_of() {
        let fake = Fake::new();
        let mut sysctls = fake.acquire().unwrap();
        let mut told = Vec::new();
        let error = sysctls.set(NAMES[0], "5", &mut |saved| {
            told.push(saved.clone());
            Err(ErrorKind::BrokenPipe.into())
        });
        assert!(error.is_err());
        assert_eq!((told.len(), told[0].value.as_str()), (1, "120"));
        assert_eq!(fake.values(), ["120", "10"]);
        assert!(sysctls.saved().is_empty());
    }

    #[test]
    fn one_at_a_time() {
        let fake = Fake::new();
        let first = fake.acquire().unwrap();
        assert!(matches!(fake.acquire(), Err(SysctlError::Busy { .. })));
        drop(first);
        assert!(fake.acquire().is_ok());
    }

    #[test]
    fn what_cannot_be_set_is_an_error_and_leaves_nothing() {
        let fake = Fake::new();
        let mut sysctls = fake.acquire().unwrap();
        let error = sysctls.set("kernel.no_such_thing", "1", &mut |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("no_such_thing") && !error.contains('\n'));
        assert!(sysctls.saved().is_empty());
        assert!(!fake.path("kernel.no_such_thing").exists());
    }

    #[test]
    fn what_fails_is_kept_for_another_try() {
        let fake = Fake::new();
        let mut sysctls = fake.acquire().unwrap();
        NAMES.iter().for_each(|name| sysctls.set(name, "1", &mut |_| Ok(())).unwrap());
        std::fs::remove_file(fake.path(NAMES[1])).unwrap();
        assert!(sysctls.restore().is_err());
        assert_eq!(sysctls.saved().len(), 1);
        std::fs::write(fake.path(NAMES[1]), "").unwrap();
        sysctls.restore().unwrap();
        assert_eq!(fake.values(), ["120", "10"]);
    }
}
