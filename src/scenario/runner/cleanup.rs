//! Clears away what a run left that was killed: from its undo list, and from the processes that it started.
//!
//! Must not know: scenarios. Invariant: works in whatever state the run was killed, in bounded time; what is not the run's is
//! left alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, getpid, getsid, kill_process, waitpid};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::command::{finish, program};
use crate::control::Client;
use crate::sys::mountinfo;
use crate::sys::process::processes;
use crate::time::{pause, wait_until};

const LIST: &str = "undo.jsonl";
const RELEASE_LIMIT: Duration = Duration::from_secs(3);
const END_LIMIT: Duration = Duration::from_secs(10);
const DOWN_LIMIT: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(20);

/// What has to go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Undo {
    /// A volume.
    Volume { control: PathBuf, mountpoint: PathBuf },
    /// A disk with its image in this directory.
    Disk { directory: PathBuf },
    /// A control group.
    Cgroup { path: PathBuf },
    /// A volume that goes on running, but is released.
    Attached { control: PathBuf },
}

/// The list, kept in the run's scratch directory.
#[derive(Debug)]
pub(super) struct UndoList(File);

impl UndoList {
    pub(super) fn open(scratch: &Path) -> io::Result<Self> {
        OpenOptions::new().create(true).append(true).open(scratch.join(LIST)).map(Self)
    }

    /// To be called before the thing is made.
    pub(super) fn add(&mut self, undo: &Undo) -> io::Result<()> {
        let line = serde_json::to_string(undo)? + "\n";
        self.0.write_all(line.as_bytes())
    }
}

fn entries(scratch: &Path) -> Vec<Undo> {
    let text = fs::read_to_string(scratch.join(LIST)).unwrap_or_default();
    text.lines().rev().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Clears away everything that the run with this scratch directory left; `session` is the run's session. The caller must be
/// the one that orphans of the run are handed to.
///
/// What could not be cleared away, one line each.
pub fn sweep(path: &Path, scratch: &Path, session: Option<u32>) -> Vec<String> {
    let entries = entries(scratch);
    // Until their storage is released, these do not end; but they start nothing more.
    let session = session.and_then(|session| Pid::from_raw(i32::try_from(session).ok()?));
    kill_children(|pid| session.is_some() && getsid(Some(pid)).ok() == session);
    entries.iter().for_each(release);
    let mut left: Vec<String> = entries.iter().filter_map(|entry| take_down(path, entry)).collect();
    wait_until(END_LIMIT, TICK, || kill_children(|_| true) == 0);
    left.extend(entries.iter().filter_map(remove_group));
    left.extend(remove_scratch(scratch));
    left
}

/// Kills the children of this process that are `meant`; how many there are.
fn kill_children(meant: impl Fn(Pid) -> bool) -> usize {
    while matches!(waitpid(None, WaitOptions::NOHANG), Ok(Some(_))) {}
    let own = getpid().as_raw_nonzero().get();
    let children = processes().into_iter().filter(|process| process.parent == own);
    let children: Vec<Pid> =
        children.filter_map(|process| Pid::from_raw(process.pid)).filter(|pid| meant(*pid)).collect();
    // One that has ended meanwhile is a zombie of ours: its number is not another's.
    children.iter().for_each(|child| _ = kill_process(*child, Signal::KILL));
    children.len()
}

fn post(control: &Path, what: &str, within: Duration) -> bool {
    let client = Client::connect(control).map(|client| client.timeout(Some(within)));
    client.and_then(|client| client.post(what, &json!({}))).is_ok()
}

fn release(entry: &Undo) {
    match entry {
        Undo::Volume { control, .. } | Undo::Attached { control } => _ = post(control, "/v1/release", RELEASE_LIMIT),
        Undo::Disk { .. } | Undo::Cgroup { .. } => {}
    }
}

fn take_down(path: &Path, entry: &Undo) -> Option<String> {
    match entry {
        Undo::Volume { control, mountpoint } => {
            // It may just be coming up.
            let gone = wait_until(END_LIMIT, TICK * 5, || {
                post(control, "/v1/stop", RELEASE_LIMIT);
                pause(TICK);
                !mountinfo::is_mounted(mountpoint)
            });
            (!gone).then(|| format!("a volume is left at {}", mountpoint.display()))
        }
        Undo::Disk { directory } => {
            let command = || program(path, ["disk".as_ref(), "down".as_ref(), directory.as_os_str()]);
            // Without a record there is no such disk, which the command says by failing.
            let _ = finish(command(), DOWN_LIMIT);
            let left = mountinfo::is_mounted(&directory.with_file_name("mnt"));
            left.then(|| format!("a disk of {} is left", directory.display()))
        }
        Undo::Cgroup { .. } | Undo::Attached { .. } => None,
    }
}

/// Removes a control group with what is left in it.
pub(super) fn remove_group(entry: &Undo) -> Option<String> {
    let Undo::Cgroup { path } = entry else { return None };
    let removed = wait_until(END_LIMIT, TICK, || {
        let members = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
        let pids = members.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?));
        pids.for_each(|pid| _ = kill_process(pid, Signal::KILL));
        fs::remove_dir(path).is_ok() || !path.exists()
    });
    (!removed).then(|| format!("the control group {} is left", path.display()))
}

/// Removes the scratch directory, unless something is still mounted in it.
fn remove_scratch(scratch: &Path) -> Option<String> {
    let inside = |mounts: &Vec<mountinfo::Mount>| mounts.iter().any(|mount| mount.mountpoint.starts_with(scratch));
    let free = || mountinfo::read().is_ok_and(|mounts| !inside(&mounts));
    if !wait_until(END_LIMIT, TICK, free) {
        return Some(format!("something is still mounted in {}", scratch.display()));
    }
    match fs::remove_dir_all(scratch) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Some(format!("{} is left: {error}", scratch.display()))
        }
        _ => None,
    }
}
