//! How much memory this process may use: the limits of its control groups, and of its address space.
//!
//! Must not know: what it is used for. Invariant: a limit that cannot be read is none.

use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

/// Where control groups are mounted: version 2 first.
const UNIFIED: &[&str] = &["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
const VERSION_1: &str = "/sys/fs/cgroup/memory";

/// The least of the memory limits that the control groups of this process set, in bytes.
pub fn cgroup_limit() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    files(&own).filter_map(|file| limit(&std::fs::read_to_string(file).ok()?)).min()
}

/// What is left of the address space, if that is limited (`ulimit -v`).
pub fn address_space_left() -> Option<u64> {
    let limit = getrlimit(Resource::As).current?;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let used = status.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    let used: u64 = used.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(limit.saturating_sub(used.saturating_mul(1024)))
}

/// The files that may limit the groups of `/proc/self/cgroup`, and all groups above them. In a container only those above
/// can be there.
fn files(own: &str) -> impl Iterator<Item = PathBuf> {
    own.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, group) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let (mounts, names): (Vec<&str>, &[&str]) = if controllers.is_empty() {
            (UNIFIED.to_vec(), &["memory.max", "memory.high"])
        } else if controllers.split(',').any(|name| name == "memory") {
            (vec![VERSION_1], &["memory.limit_in_bytes"])
        } else {
            (Vec::new(), &[])
        };
        mounts.into_iter().flat_map(move |mount| files_of(mount, group, names)).collect::<Vec<_>>()
    })
}

fn files_of(mount: &str, group: &str, names: &[&str]) -> Vec<PathBuf> {
    let below = Path::new(group.trim_start_matches('/'));
    let groups = below.ancestors().map(|above| Path::new(mount).join(above));
    groups.flat_map(|group| names.iter().map(move |name| group.join(name))).collect()
}

/// `max`, or bytes. Version 1 says "none" with a number that no machine has.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes < 1 << 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_and_all_groups_above_count() {
        let found = |own: &str| -> Vec<String> { files(own).map(|path| path.display().to_string()).collect() };
        assert_eq!(
            found("5:cpu,cpuacct:/x\n4:memory:/a/b\n"),
            ["a/b/", "a/", ""].map(|group| format!("/sys/fs/cgroup/memory/{group}memory.limit_in_bytes"))
        );
        let unified = found("0::/a\n");
        assert!(unified.contains(&"/sys/fs/cgroup/a/memory.max".to_owned()), "{unified:?}");
        assert!(unified.contains(&"/sys/fs/cgroup/memory.high".to_owned()), "{unified:?}");
        assert_eq!((found("::\n").len(), found("").len()), (4, 0));
    }

    #[test]
    fn no_limit_has_many_spellings() {
        assert_eq!([limit("max\n"), limit("9223372036854771712\n"), limit(""), limit("-1")], [None; 4]);
        assert_eq!(limit("134217728\n"), Some(128 << 20));
    }
}
