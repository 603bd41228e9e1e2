//! Small questions to the system: which process runs, which ones use a mount, where a program lies; and a call with a
//! time limit.
//!
//! Must not know: disks. Invariant: nothing here sends a request to a file system that may stand still.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::sys::process::{self, TaskStat};
use crate::sys::sysctl;

/// What `work` returns if it does within `within`. Else the thread goes on alone: it hangs in the kernel.
pub(super) fn in_time<T: Send + 'static>(
    within: Duration,
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (tell, answer) = channel();
    let body = move || {
        // The caller has given up if it took too long.
        let _ = tell.send(work());
    };
    std::thread::Builder::new().name(format!("stunfs-{name}")).spawn(body).ok()?;
    answer.recv_timeout(within).ok()
}

/// A process, told apart from a later one with its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: u32,
    /// Clock ticks from boot to its start.
    pub(super) started: u64,
}

impl ProcessId {
    /// The process that has this number now.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let stat = stat(pid)?;
        (!stat.is_over()).then_some(Self { pid, started: stat.start })
    }

    /// Whether it is there, and not only waits to be reaped.
    pub(super) fn is_running(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Whether it was stopped by a signal.
    pub(super) fn is_stopped(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.start == self.started && stat.is_stopped())
    }
}

fn stat(pid: u32) -> Option<TaskStat> {
    TaskStat::read(pid.try_into().ok()?)
}

/// Processes with a file or their working directory below `place`: `fluentd (134)`. At most `most`.
pub(super) fn users_of(place: &Path, most: usize) -> Vec<String> {
    process::pids().into_iter().filter(|pid| uses(*pid, place)).take(most).map(named).collect()
}

fn uses(pid: i32, place: &Path) -> bool {
    let base = PathBuf::from(format!("/proc/{pid}"));
    let below = |link: PathBuf| fs::read_link(link).is_ok_and(|target| target.starts_with(place));
    let open = fs::read_dir(base.join("fd")).into_iter().flatten().flatten();
    below(base.join("cwd")) || below(base.join("root")) || open.map(|entry| entry.path()).any(below)
}

fn named(pid: i32) -> String {
    format!("{} ({pid})", process::command_name(pid))
}

/// Where a program lies.
pub(super) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(usual).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Which boot of the machine this is.
pub(super) fn boot() -> String {
    sysctl::read("kernel.random.boot_id").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known_by_number_and_start() {
        let me = ProcessId::of(std::process::id()).unwrap();
        assert!(me.is_running() && !me.is_stopped());
        assert!(!ProcessId { started: me.started + 1, ..me }.is_running());
        assert!(ProcessId::of(u32::MAX).is_none());
    }

    #[test]
    fn who_has_a_file_open_uses_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let _open = fs::File::create(dir.path().join("file")).unwrap();
        let users = users_of(&dir.path().canonicalize().unwrap(), 8);
        assert!(users.iter().any(|user| user.ends_with(&format!("({})", std::process::id()))), "{users:?}");
    }

    #[test]
    fn what_hangs_is_left_alone() {
        assert_eq!(in_time(Duration::from_secs(5), "test", || 7), Some(7));
        let (_keep, never) = channel::<()>();
        assert_eq!(in_time(Duration::from_millis(5), "test", move || never.recv().is_ok()), None);
    }
}
