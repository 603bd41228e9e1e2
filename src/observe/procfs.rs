//! Which tasks wait, and where in the kernel: `/proc/PID/task/TID/{stat,wchan,stack}`.
//!
//! Must not know: why they wait. Invariant: only files are read that never wait for the task's own locks (so not
//! `cmdline`, `environ` or `maps`), and a task that ends meanwhile is left out, not an error.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::stack::frame_name;
use super::waits::{waits_for, waits_in};
use crate::sys::process::{PROC, name_and_state, numbered_entries, state_and_threads, state_in, wait_channel_in};

/// Where a task waits for the answer of a FUSE server.
const FUSE_WAIT: &str = "request_wait_answer";

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
    /// How often it has been given a processor; the same number again: it has not run meanwhile.
    #[serde(skip)]
    pub runs: Option<u64>,
}

impl WaitingTask {
    /// What it waits for: in words, else the function that tells most.
    pub fn resource(&self) -> &str {
        waits_for(&self.frames).or(self.waits_in.as_deref()).unwrap_or("unknown")
    }
}

/// The tasks of `who` that are in state D now.
pub fn blocked(who: &Who) -> Vec<WaitingTask> {
    tasks_in(Path::new(PROC), who, |state| state == 'D')
}

/// The tasks of `who` that are in state D, or that wait for a FUSE server in state S as the first writer on a connection
/// does. A task in state S costs a read of its `wchan`, one in another state only of its `stat`.
pub fn waiting(who: &Who, fuse: bool) -> Vec<WaitingTask> {
    waiting_in(Path::new(PROC), who, fuse)
}

fn waiting_in(proc: &Path, who: &Who, fuse: bool) -> Vec<WaitingTask> {
    let waits = |thread: Thread| match thread.state()? {
        'D' => look(&thread, who, |state| state == 'D'),
        'S' if fuse && wait_channel_in(&thread.path)? == FUSE_WAIT => look(&thread, who, |state| state == 'S'),
        _ => None,
    };
    threads(proc, who).filter_map(waits).collect()
}

/// The tasks of `who`, whatever their state.
pub fn tasks(who: &Who) -> Vec<WaitingTask> {
    tasks_in(Path::new(PROC), who, |_| true)
}

fn tasks_in(proc: &Path, who: &Who, wanted: impl Fn(char) -> bool) -> Vec<WaitingTask> {
    threads(proc, who).filter_map(|thread| look(&thread, who, &wanted)).collect()
}

/// A thread, and what its `stat` begins with.
struct Thread {
    pid: u32,
    tid: u32,
    path: PathBuf,
    stat: Vec<u8>,
}

impl Thread {
    fn state(&self) -> Option<char> {
        state_in(&self.stat)
    }
}

/// All threads; only those of the processes meant where no names are given.
fn threads(proc: &Path, who: &Who) -> impl Iterator<Item = Thread> {
    let processes: Vec<_> = if who.comms.is_empty() && !who.pids.is_empty() {
        who.pids.iter().map(|pid| (*pid, proc.join(pid.to_string()))).collect()
    } else {
        numbered_entries(proc)
    };
    processes.into_iter().flat_map(|(pid, path)| threads_of(pid, path))
}

/// Most processes have one thread: their own `stat` says so, and is that thread's.
fn threads_of(pid: u32, path: PathBuf) -> Vec<Thread> {
    match beginning_of_stat(&path) {
        Some(stat) if state_and_threads(&stat).is_some_and(|(_, threads)| threads == 1) => {
            vec![Thread { pid, tid: pid, path, stat }]
        }
        _ => {
            let tasks = numbered_entries(&path.join("task")).into_iter();
            tasks.filter_map(|(tid, path)| Some(Thread { pid, tid, stat: beginning_of_stat(&path)?, path })).collect()
        }
    }
}

fn look(thread: &Thread, who: &Who, wanted: impl Fn(char) -> bool) -> Option<WaitingTask> {
    let Thread { pid, tid, ref path, ref stat } = *thread;
    let (comm, state) = name_and_state(stat)?;
    let everybody = who.pids.is_empty() && who.comms.is_empty();
    let meant = everybody || who.pids.contains(&pid) || who.comms.contains(&comm);
    if !meant || !wanted(state) {
        return None;
    }
    let stack = fs::read_to_string(path.join("stack")).unwrap_or_default();
    let frames: Vec<String> = stack.lines().filter_map(frame_name).map(str::to_owned).collect();
    let (wchan, runs) = (wait_channel_in(path), runs_in(path));
    Some(WaitingTask { pid, tid, comm, state, waits_in: waits_in(&frames).map(str::to_owned).or(wchan), frames, runs })
}

/// What `stat` begins with, command name and state included: a look at every task has to be cheap.
fn beginning_of_stat(path: &Path) -> Option<Vec<u8>> {
    let mut text = [0; 256];
    let length = fs::File::open(path.join("stat")).and_then(|mut file| file.read(&mut text)).ok()?;
    text.get(..length).map(<[u8]>::to_vec)
}

/// The third number of a thread's `schedstat`.
fn runs_in(path: &Path) -> Option<u64> {
    fs::read_to_string(path.join("schedstat")).ok()?.split_whitespace().nth(2)?.parse().ok()
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
    fn a_process_with_one_thread_is_read_from_its_own_stat() {
        let dir = tempfile::tempdir().unwrap();
        let proc = dir.path();
        let rest = "1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0";
        for (pid, threads) in [(10, 1), (20, 2)] {
            fs::create_dir_all(proc.join(pid.to_string())).unwrap();
            fs::write(proc.join(format!("{pid}/stat")), format!("{pid} (one) D {rest} {threads} 0 9")).unwrap();
        }
        fake(proc, 20, 20, "two", 'S', "");
        fake(proc, 20, 21, "two", 'D', "");
        let found = waiting_in(proc, &Who::default(), false);
        let mut tids: Vec<u32> = found.iter().map(|task| task.tid).collect();
        tids.sort_unstable();
        assert_eq!(tids, [10, 21]);
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
