//! Where this machine's control groups are mounted, and which directory a user's path means.
//!
//! Must not know: freezing. Invariant: what it finds is a directory on a cgroup file system, never any other file.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FsWord, statfs};

/// Which generation of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// A hierarchy per controller; here: the freezer's.
    One,
    /// The unified hierarchy.
    Two,
}

const CGROUP_MAGIC: FsWord = 0x0027_e0eb;
const CGROUP2_MAGIC: FsWord = 0x6367_7270;

/// Whether a file system is one of control groups, by `statfs`'s type.
pub(super) fn is_cgroup_magic(magic: FsWord) -> bool {
    matches!(magic, CGROUP_MAGIC | CGROUP2_MAGIC)
}

/// The mounted hierarchies that can freeze, the v1 freezer's first.
pub(super) fn hierarchies() -> Vec<(Version, PathBuf)> {
    parse(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

fn parse(mountinfo: &str) -> Vec<(Version, PathBuf)> {
    let mut found: Vec<_> = mountinfo.lines().filter_map(parse_line).collect();
    found.sort_by_key(|(version, _)| *version == Version::Two);
    found
}

fn parse_line(line: &str) -> Option<(Version, PathBuf)> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let point = unescape(mount.split(' ').nth(4)?);
    let mut fields = filesystem.split(' ');
    match fields.next()? {
        "cgroup2" => Some((Version::Two, point)),
        "cgroup" if fields.nth(1)?.split(',').any(|option| option == "freezer") => Some((Version::One, point)),
        _ => None,
    }
}

/// Mount points have `\040` for a space, and the like.
fn unescape(text: &str) -> PathBuf {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let [byte, tail @ ..] = rest {
        let code = tail.get(..3).and_then(|digits| str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(code) if *byte == b'\\' => {
                out.push(code);
                rest = &tail[3..];
            }
            _ => {
                out.push(*byte);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(out))
}

/// The control group that a path means: an absolute one as it stands, else (as in `/proc/PID/cgroup`) below a hierarchy.
///
/// # Errors
/// One line: where it was looked for.
pub(super) fn find(path: &Path) -> Result<(Version, PathBuf), String> {
    let hierarchies = hierarchies();
    if hierarchies.is_empty() {
        return Err("no control groups that can freeze are mounted on this machine".to_owned());
    }
    let relative = path.strip_prefix("/").unwrap_or(path);
    let as_it_stands = path.is_absolute().then(|| path.to_owned());
    let below = hierarchies.iter().map(|(_, root)| root.join(relative));
    let candidates: Vec<_> = as_it_stands.into_iter().chain(below).collect();
    let group = candidates.iter().find_map(|candidate| group(candidate));
    let (version, group) = group.ok_or_else(|| nowhere(&candidates))?;
    if version == Version::One && !hierarchies.iter().any(|(v, root)| *v == Version::One && group.starts_with(root)) {
        return Err(format!("{} is not in the freezer's hierarchy, only that one can freeze", group.display()));
    }
    if hierarchies.iter().any(|(_, root)| *root == group) {
        return Err("the root of a hierarchy cannot be frozen: name a group below it".to_owned());
    }
    Ok((version, group))
}

fn group(candidate: &Path) -> Option<(Version, PathBuf)> {
    let group = candidate.canonicalize().ok().filter(|path| path.is_dir())?;
    match statfs(&group).ok()?.f_type {
        CGROUP_MAGIC => Some((Version::One, group)),
        CGROUP2_MAGIC => Some((Version::Two, group)),
        _ => None,
    }
}

fn nowhere(candidates: &[PathBuf]) -> String {
    let looked: Vec<_> = candidates.iter().map(|path| path.display().to_string()).collect();
    format!("there is no such control group (looked at {})", looked.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_freezer_and_the_unified_hierarchy_are_found() {
        let text = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
                    35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                    37 31 0:34 / /sys/fs/cg\\040roup/freezer rw,relatime shared:9 - cgroup cgroup rw,freezer\n\
                    12 1 0:1 / /tmp rw - tmpfs freezer rw,freezer\nnonsense\n";
        let found = parse(text);
        assert_eq!(found[0], (Version::One, PathBuf::from("/sys/fs/cg roup/freezer")));
        assert_eq!(found[1], (Version::Two, PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn what_is_no_control_group_is_not_found() {
        for path in ["/tmp", "../../../tmp", "no/such/group", "/proc/self"] {
            assert!(find(Path::new(path)).is_err(), "{path}");
        }
    }
}
