//! What of freezing this machine can do: for `stunfs doctor`.
//!
//! Must not know: how it is printed. Invariant: what it tries, it tries on an empty control group of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::docker;
use super::freeze_set::{FreezeSet, Surroundings};
use super::hierarchy::{Version, hierarchies};
use super::target::FreezeTarget;
use crate::time::Deadline;

/// The longest that an empty group takes to freeze.
const WITHIN: Duration = Duration::from_secs(5);

/// For each kind of target whether it can be frozen here, and why not. `qmp:` depends on nothing but a QEMU with a socket.
pub fn probe() -> Vec<(&'static str, Result<(), String>)> {
    vec![
        ("cgroup: (v1 freezer)", cgroup(Version::One)),
        ("cgroup: (v2 cgroup.freeze)", cgroup(Version::Two)),
        ("pid:", pid()),
        ("docker:", engines(&Surroundings::from_env().engines)),
        ("qmp:", Ok(())),
    ]
}

fn cgroup(version: Version) -> Result<(), String> {
    let root = hierarchies().into_iter().find(|(found, _)| *found == version);
    let (_, root) = root.ok_or("its hierarchy is not mounted")?;
    let group =
        tempfile::Builder::new().prefix("stunfs-probe-").tempdir_in(&root).map_err(|error| error.to_string())?;
    // Kept: what removes a temporary directory would try the kernel's files in it first.
    let group = group.keep();
    let tried = freeze_empty(&group);
    let removed = fs::remove_dir(&group).map_err(|error| format!("{}: {error}", group.display()));
    tried.and(removed)
}

fn freeze_empty(group: &Path) -> Result<(), String> {
    let target = FreezeTarget::Cgroup(group.to_owned());
    let around = Surroundings { spared: Vec::new(), engines: Vec::new(), accept_waiting: false };
    let mut set = FreezeSet::open_in(&[target], around).map_err(|error| error.to_string())?;
    let frozen = set.freeze(Deadline::after(WITHIN));
    frozen.and(set.thaw(Deadline::after(WITHIN))).map_err(|error| error.to_string())
}

fn pid() -> Result<(), String> {
    let opened =
        pidfd_open(getpid(), PidfdFlags::empty()).map_err(|error| format!("no process descriptors: {error}"))?;
    drop(opened);
    fs::metadata("/proc/self/stat").map(drop).map_err(|error| format!("/proc/self/stat: {error}"))
}

fn engines(sockets: &[PathBuf]) -> Result<(), String> {
    let mut failures = Vec::new();
    for socket in sockets {
        match docker::ping(socket) {
            Ok(()) => return Ok(()),
            Err(why) => failures.push(format!("{}: {why}", socket.display())),
        }
    }
    Err(format!("no engine answers ({})", failures.join("; ")))
}
