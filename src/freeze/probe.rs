//! What of freezing this machine can do: for `stunfs doctor`.
//!
//! Must not know: how it is printed. Invariant: what it tries, it tries on an empty control group of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::docker;
use super::error::ProbeError;
use super::freeze_set::FreezeSet;
use super::freezer::Surroundings;
use super::target::{FreezeKind, FreezeTarget};
use crate::sys::cgroup::{CgroupError, CgroupVersion, hierarchies};
use crate::time::Deadline;

/// The longest that an empty group takes to freeze.
const WITHIN: Duration = Duration::from_secs(5);

/// Whether a kind of target can be frozen here.
#[derive(Debug)]
pub struct FreezeProbe {
    /// The kind of target.
    pub kind: FreezeKind,
    /// The generation of control groups, for [`FreezeKind::Cgroup`].
    pub version: Option<CgroupVersion>,
    /// The reason why not.
    pub outcome: Result<(), ProbeError>,
}

/// Tries each kind of target, and each generation of control groups. A machine (`qmp:`) depends on nothing but a QEMU with
/// a socket.
pub fn probe() -> Vec<FreezeProbe> {
    let groups =
        [CgroupVersion::V1, CgroupVersion::V2].map(|version| (FreezeKind::Cgroup, Some(version), cgroup(version)));
    let others = [
        (FreezeKind::Pid, None, pid()),
        (FreezeKind::Docker, None, engines(&Surroundings::from_env().engines)),
        (FreezeKind::Qmp, None, Ok(())),
    ];
    let probed = groups.into_iter().chain(others);
    probed.map(|(kind, version, outcome)| FreezeProbe { kind, version, outcome }).collect()
}

fn cgroup(version: CgroupVersion) -> Result<(), ProbeError> {
    let root = hierarchies()
        .map_err(|cause| CgroupError::MountTable { cause })?
        .into_iter()
        .find(|(found, _)| *found == version);
    let (_, root) = root.ok_or(ProbeError::NotMounted)?;
    let group = tempfile::Builder::new().prefix("stunfs-probe-").tempdir_in(&root);
    let group = group.map_err(|cause| ProbeError::Group { path: root, cause })?;
    // Kept: what removes a temporary directory would try the kernel's files in it first.
    let group = group.keep();
    let tried = freeze_empty(&group);
    let removed = fs::remove_dir(&group).map_err(|cause| ProbeError::Group { path: group, cause });
    tried.and(removed)
}

fn freeze_empty(group: &Path) -> Result<(), ProbeError> {
    let target = FreezeTarget::Cgroup(group.to_owned());
    let around = Surroundings { spared: Vec::new(), engines: Vec::new(), accept_waiting: false };
    let mut set = FreezeSet::open_in(&[target], around)?;
    let frozen = set.freeze(Deadline::after(WITHIN));
    Ok(frozen.and(set.thaw(Deadline::after(WITHIN)))?)
}

fn pid() -> Result<(), ProbeError> {
    pidfd_open(getpid(), PidfdFlags::empty()).map_err(|cause| ProbeError::NoDescriptors { cause })?;
    let path = "/proc/self/stat";
    fs::metadata(path).map(drop).map_err(|cause| ProbeError::NoProc { path, cause })
}

fn engines(sockets: &[PathBuf]) -> Result<(), ProbeError> {
    let mut failures = Vec::new();
    for socket in sockets {
        match docker::ping(socket) {
            Ok(()) => return Ok(()),
            Err(cause) => failures.push((socket.clone(), cause)),
        }
    }
    Err(ProbeError::NoEngine { failures })
}
