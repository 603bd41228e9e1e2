//! Control groups: where their hierarchies are mounted, which directory a user's path means, who is in which group.
//!
//! Must not know: what is done to a group. Invariant: a group that it finds is a directory on a cgroup file system, never
//! any other file.

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FsWord, Mode, OFlags, fstatfs, openat, statfs};
use rustix::io::{Errno, write};

use super::mountinfo::{self, Mount};
use super::process::PROC;

/// Which generation of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupVersion {
    /// A hierarchy per controller; here: the freezer's.
    V1,
    /// The unified hierarchy.
    V2,
}

impl fmt::Display for CgroupVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1 freezer",
            Self::V2 => "v2 cgroup.freeze",
        })
    }
}

const CGROUP_MAGIC: FsWord = 0x0027_e0eb;
const CGROUP2_MAGIC: FsWord = 0x6367_7270;

/// Why a path means no control group that can be frozen.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The mount table cannot be read.
    #[error("{path}: {cause}", path = mountinfo::TABLE)]
    MountTable {
        /// What the system said.
        cause: io::Error,
    },
    /// No hierarchy with a freezer is mounted.
    #[error("no control groups that can freeze are mounted on this machine; mount -t cgroup2 none /sys/fs/cgroup")]
    NotMounted,
    /// There is no such group.
    #[error("there is no such control group (looked at {})", list(.looked_at))]
    NotFound {
        /// Where it was looked for.
        looked_at: Vec<PathBuf>,
    },
    /// The group belongs to another controller of v1.
    #[error("{path} is not in the freezer's hierarchy, only that one can freeze")]
    OtherController {
        /// The group.
        path: PathBuf,
    },
    /// The group is all of a hierarchy.
    #[error("the root of a hierarchy cannot be frozen: name a group below {path}")]
    Root {
        /// The root.
        path: PathBuf,
    },
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// The mounted hierarchies that can freeze, the v1 freezer's first.
pub(crate) fn hierarchies() -> io::Result<Vec<(CgroupVersion, PathBuf)>> {
    Ok(hierarchies_in(mountinfo::read()?))
}

fn hierarchies_in(mounts: Vec<Mount>) -> Vec<(CgroupVersion, PathBuf)> {
    let version = |mount: &Mount| match mount.fstype.as_str() {
        "cgroup2" => Some(CgroupVersion::V2),
        "cgroup" if mount.has_super_option("freezer") => Some(CgroupVersion::V1),
        _ => None,
    };
    let mut found: Vec<_> = mounts.into_iter().filter_map(|mount| Some((version(&mount)?, mount.mountpoint))).collect();
    found.sort_by_key(|(version, _)| *version == CgroupVersion::V2);
    found
}

/// The control group that a path means: an absolute one as it stands, else (as in `/proc/PID/cgroup`) below a hierarchy.
pub(crate) fn find(path: &Path) -> Result<(CgroupVersion, PathBuf), CgroupError> {
    let hierarchies = hierarchies().map_err(|cause| CgroupError::MountTable { cause })?;
    if hierarchies.is_empty() {
        return Err(CgroupError::NotMounted);
    }
    let relative = path.strip_prefix("/").unwrap_or(path);
    let as_it_stands = path.is_absolute().then(|| path.to_owned());
    let below = hierarchies.iter().map(|(_, root)| root.join(relative));
    let looked_at: Vec<_> = as_it_stands.into_iter().chain(below).collect();
    let Some((version, path)) = looked_at.iter().find_map(|candidate| group(candidate)) else {
        return Err(CgroupError::NotFound { looked_at });
    };
    let is_freezer =
        |(version, root): &(CgroupVersion, PathBuf)| *version == CgroupVersion::V1 && path.starts_with(root);
    if version == CgroupVersion::V1 && !hierarchies.iter().any(is_freezer) {
        return Err(CgroupError::OtherController { path });
    }
    if hierarchies.iter().any(|(_, root)| *root == path) {
        return Err(CgroupError::Root { path });
    }
    Ok((version, path))
}

fn group(candidate: &Path) -> Option<(CgroupVersion, PathBuf)> {
    let group = candidate.canonicalize().ok().filter(|path| path.is_dir())?;
    match statfs(&group).ok()?.f_type {
        CGROUP_MAGIC => Some((CgroupVersion::V1, group)),
        CGROUP2_MAGIC => Some((CgroupVersion::V2, group)),
        _ => None,
    }
}

/// The groups of a process that a freezer can reach: v2's, and the one in the v1 freezer's hierarchy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FreezerGroups(Vec<Membership>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Membership {
    version: CgroupVersion,
    /// Below the hierarchy's root.
    path: Vec<u8>,
}

impl FreezerGroups {
    /// Those of a process; empty if it is gone.
    pub(crate) fn of(pid: i32) -> Self {
        Self::parse(&std::fs::read(format!("{PROC}/{pid}/cgroup")).unwrap_or_default())
    }

    /// Parses `/proc/PID/cgroup`: lines of `NUMBER:CONTROLLERS:PATH`, v2's with number 0 and no controllers.
    fn parse(text: &[u8]) -> Self {
        let membership = |line: &[u8]| {
            let mut fields = line.splitn(3, |byte| *byte == b':');
            let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?.to_owned());
            let freezes = || controllers.split(|byte| *byte == b',').any(|controller| controller == b"freezer");
            match number {
                b"0" if controllers.is_empty() => Some(Membership { version: CgroupVersion::V2, path }),
                _ => freezes().then_some(Membership { version: CgroupVersion::V1, path }),
            }
        };
        Self(text.split(|byte| *byte == b'\n').filter_map(membership).collect())
    }

    /// Whether both are in one group, other than a hierarchy's root.
    pub(crate) fn share_one_with(&self, other: &Self) -> bool {
        self.0.iter().any(|group| group.path != b"/" && other.0.contains(group))
    }

    /// Whether the path of a group contains this text.
    pub(crate) fn mention(&self, text: &str) -> bool {
        let text = text.as_bytes();
        !text.is_empty() && self.0.iter().any(|group| group.path.windows(text.len()).any(|part| part == text))
    }
}

/// Writes a value into a file of a control group, with system calls only: allocates nothing, so that it may run in a
/// process forked from one with threads.
///
/// # Errors
/// `PERM` if the file is not a control group's, else the system call's error.
pub(crate) fn write_raw(file: &CStr, value: &CStr) -> Result<(), Errno> {
    let file = openat(CWD, file, OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?;
    if !matches!(fstatfs(&file)?.f_type, CGROUP_MAGIC | CGROUP2_MAGIC) {
        return Err(Errno::PERM);
    }
    write(&file, value.to_bytes()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_freezer_and_the_unified_hierarchy_are_found() {
        let table = b"41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
                      35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                      37 31 0:34 / /sys/fs/cg\\040roup/freezer rw,relatime shared:9 - cgroup cgroup rw,freezer\n\
                      12 1 0:1 / /tmp rw - tmpfs freezer rw,freezer\nnonsense\n";
        let found = hierarchies_in(mountinfo::parse(table));
        assert_eq!(found[0], (CgroupVersion::V1, PathBuf::from("/sys/fs/cg roup/freezer")));
        assert_eq!(found[1], (CgroupVersion::V2, PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn what_is_no_control_group_is_not_found() {
        for path in ["/tmp", "../../../tmp", "no/such/group", "/proc/self"] {
            let error = find(Path::new(path)).unwrap_err().to_string();
            assert!(!error.contains('\n'), "{path}: {error}");
        }
    }

    #[test]
    fn groups_of_a_process_are_compared_by_hierarchy_and_path() {
        let groups = |text: &str| FreezerGroups::parse(text.as_bytes());
        let first = groups("6:freezer:/docker/abc\n4:memory:/x\n0::/\n");
        assert!(groups("7:cpu:/\n6:freezer:/docker/abc\n0::/\n").share_one_with(&first));
        assert!(groups("6:freezer:/docker/abc/kubelet\n").mention("abc"));
        assert!(groups("0::/a:b\n").share_one_with(&groups("0::/a:b\n")));
        assert!(!groups("0::/docker/abc\n").share_one_with(&first), "another hierarchy");
        assert!(!groups("6:freezer:/\n4:memory:/x\n0::/\n").share_one_with(&first), "roots hold everything");
        assert!(!groups("4:memory:/abc\n").mention("abc"), "its controller does not freeze");
        assert!(!groups("0::/a\n").mention(""));
        assert_eq!(groups("0:\n\n::\n"), FreezerGroups::default());
    }

    #[test]
    fn only_files_of_control_groups_are_written() {
        assert_eq!(write_raw(c"/dev/null", c"0"), Err(Errno::PERM));
        assert_eq!(write_raw(c"/no/such/file", c"0"), Err(Errno::NOENT));
    }
}
