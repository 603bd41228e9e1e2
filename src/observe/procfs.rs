//! Which tasks wait, and where in the kernel: `/proc/PID/task/TID/{stat,wchan,stack}`.
//!
//! Must not know: why they wait. Invariant: only files are read that never wait for the task's own locks (so not
//! `cmdline`, `environ` or `maps`), and a task that ends meanwhile is left out, not an error.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::stack::frame_name;
use super::waits::waits_in;
use crate::sys::process::{PROC, name_and_state, numbered_entries, wait_channel_in};

/// Whose tasks are looked at; both lists empty: everybody's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Who {
    /// Processes, with all their threads.
    pub pids: Vec<u32>,
    /// Command names (`comm`) of threads.
    pub comms: Vec<String>,
}

/// A task that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingTask {
    /// Its process.
    pub pid: u32,
    /// The thread; the same number for a process's first.
    pub tid: u32,
    /// The thread's command name.
    pub comm: String,
    /// The state's letter (`D`: cannot be interrupted).
    pub state: char,
    /// The frame that says most about what it waits for; from `wchan` where the stack cannot be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub waits_in: Option<String>,
    /// Functions on its kernel stack, the innermost first; empty without root.
    pub frames: Vec<String>,
}

/// The tasks of `who` that are in state D now.
pub fn blocked(who: &Who) -> Vec<WaitingTask> {
    tasks_in(Path::new(PROC), who, |state| state == 'D')
}

/// The tasks of `who`, whatever their state.
pub fn tasks(who: &Who) -> Vec<WaitingTask> {
    tasks_in(Path::new(PROC), who, |_| true)
}

fn tasks_in(proc: &Path, who: &Who, wanted: impl Fn(char) -> bool) -> Vec<WaitingTask> {
    let threads = numbered_entries(proc).into_iter().flat_map(|(pid, path)| {
        numbered_entries(&path.join("task")).into_iter().map(move |(tid, path)| (pid, tid, path))
    });
    threads.filter_map(|(pid, tid, path)| look(pid, tid, &path, who, &wanted)).collect()
}

fn look(pid: u32, tid: u32, path: &Path, who: &Who, wanted: impl Fn(char) -> bool) -> Option<WaitingTask> {
    let stat = fs::read(path.join("stat")).ok()?;
    let (comm, state) = name_and_state(&stat)?;
    let everybody = who.pids.is_empty() && who.comms.is_empty();
    let meant = everybody || who.pids.contains(&pid) || who.comms.contains(&comm);
    if !meant || !wanted(state) {
        return None;
    }
    let stack = fs::read_to_string(path.join("stack")).unwrap_or_default();
    let frames: Vec<String> = stack.lines().filter_map(frame_name).map(str::to_owned).collect();
    let wchan = wait_channel_in(path);
    Some(WaitingTask { pid, tid, comm, state, waits_in: waits_in(&frames).map(str::to_owned).or(wchan), frames })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fake(proc: &Path, pid: u32, tid: u32, comm: &str, state: char, stack: &str) {
        let dir = proc.join(format!("{pid}/task/{tid}"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("stat"), format!("{tid} ({comm}) {state} 1 2 3")).unwrap();
        fs::write(dir.join("stack"), stack).unwrap();
        fs::write(dir.join("wchan"), "folio_wait_bit_common").unwrap();
    }

    #[test]
    fn blocked_tasks_of_some_processes_and_names() {
        let dir = tempfile::tempdir().unwrap();
        let proc = dir.path();
        fake(proc, 10, 10, "main", 'S', "");
        fake(proc, 10, 11, "a) D (b", 'D', "[<0>] __down+0x1/0x2\n[<0>] xfs_buf_lock+0x2d/0xe0 [xfs]\n");
        fake(proc, 20, 20, "fluentd", 'D', "");
        fake(proc, 30, 30, "other", 'D', "");
        fs::create_dir(proc.join("self")).unwrap();
        let who = Who { pids: vec![10], comms: vec!["fluentd".into()] };
        let found = tasks_in(proc, &who, |state| state == 'D');
        assert_eq!(found.iter().map(|task| task.tid).collect::<Vec<_>>(), [11, 20]);
        assert_eq!(found[0].comm, "a) D (b");
        assert_eq!(found[0].waits_in.as_deref(), Some("xfs_buf_lock"));
        assert_eq!(found[1].waits_in.as_deref(), Some("folio_wait_bit_common"), "from wchan");
        assert_eq!(tasks_in(proc, &Who::default(), |_| true).len(), 4);
    }

    #[test]
    fn this_process() {
        let me = Who { pids: vec![std::process::id()], comms: Vec::new() };
        assert!(tasks(&me).iter().any(|task| task.state == 'R'));
    }
}
