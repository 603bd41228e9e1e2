//! What a thread may do, as `/proc/TID` shows it: user, groups, capabilities, and in which user namespace they count.
//!
//! Must not know: what is to be done with it. Invariant: a capability counts only where the kernel's own check would let
//! it count: everywhere in the first user namespace, and in another one for what has a number there.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use super::process::{PROC, TaskStatus};

/// The link of the user namespace that exists from the start.
const FIRST_NAMESPACE: &str = "user:[4026531837]";

static OWN_NAMESPACE: LazyLock<Option<PathBuf>> = LazyLock::new(|| fs::read_link("/proc/self/ns/user").ok());

/// The credentials of a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// The user that counts for file systems.
    pub(crate) user: u32,
    /// The supplementary groups.
    pub(crate) groups: Vec<u32>,
    /// The effective capabilities, by number.
    pub(crate) capabilities: u64,
    /// Where they count.
    pub(crate) namespace: Namespace,
}

/// The user namespace of a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Namespace {
    /// The first one of the machine.
    First,
    /// This process's own, which is not the first one.
    Own,
    /// Another one.
    Other {
        /// The users that have a number there.
        users: IdMap,
        /// The groups that have one.
        groups: IdMap,
    },
}

/// Which numbers of this process's user namespace have a number in another one: first and count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct IdMap(Vec<(u32, u32)>);

impl IdMap {
    /// Lines of `INSIDE OUTSIDE COUNT`.
    pub(crate) fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let mut words = line.split_whitespace().skip(1).map(str::parse);
            Some((words.next()?.ok()?, words.next()?.ok()?))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// Whether it has a number there.
    pub(crate) fn has(&self, id: u32) -> bool {
        self.0.iter().any(|&(first, count)| id.checked_sub(first).is_some_and(|at| at < count))
    }
}

impl Credentials {
    /// Reads those of a thread of this machine.
    pub(crate) fn read(tid: u32) -> Option<Self> {
        let status = TaskStatus::read(tid.try_into().ok()?)?;
        Some(Self {
            user: status.file_system_user()?,
            groups: status.groups(),
            capabilities: status.mask("CapEff")?,
            namespace: Namespace::read(tid),
        })
    }
}

impl Namespace {
    fn read(tid: u32) -> Self {
        let own = OWN_NAMESPACE.as_deref();
        let map = |file: &str| fs::read_to_string(format!("{PROC}/{tid}/{file}")).unwrap_or_default();
        let shared = match fs::read_link(format!("{PROC}/{tid}/ns/user")) {
            Ok(link) => own == Some(&*link),
            // It takes the right to trace the thread. Two namespaces with the same map are rare.
            Err(_) => fs::read_to_string("/proc/self/uid_map").is_ok_and(|own| own == map("uid_map")),
        };
        match own.and_then(|own| own.to_str()) {
            Some(FIRST_NAMESPACE) if shared => Self::First,
            _ if shared => Self::Own,
            _ => Self::Other { users: IdMap::parse(&map("uid_map")), groups: IdMap::parse(&map("gid_map")) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known() {
        let own = Credentials::read(std::process::id()).unwrap();
        let groups = rustix::process::getgroups().unwrap();
        assert_eq!(own.user, rustix::process::geteuid().as_raw());
        assert!(groups.iter().all(|group| own.groups.contains(&group.as_raw())));
        assert!(matches!(own.namespace, Namespace::First | Namespace::Own));
        assert_eq!(Credentials::read(u32::MAX), None);
    }

    #[test]
    fn a_map_says_who_has_a_number() {
        let map = IdMap::parse("         0     100000      65536\n     65536       1000          1\n");
        let outside = [0, 1000, 1001, 99_999, 100_000, 165_535, 165_536];
        assert_eq!(outside.map(|id| map.has(id)), [false, true, false, false, true, true, false]);
        assert!(IdMap::parse("0 0 4294967295").has(0) && !IdMap::parse("").has(0) && !IdMap::parse("0 x 1").has(0));
    }
}
