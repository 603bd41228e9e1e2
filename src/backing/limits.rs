//! The process's limits: descriptors, size of files, processor time, address space.
//!
//! Must not know: what is done with them. Invariant: a limit is only ever raised.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::sys::sysctl;

/// How many descriptors this process may hold now.
pub fn nofile_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Raises the limit on descriptors as far as the process may; what holds then.
pub fn raise_nofile_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let most = sysctl::number("fs.nr_open");
    let beyond = most.max(limit.maximum);
    // Beyond the hard limit needs CAP_SYS_RESOURCE; up to it needs nothing.
    if setrlimit(Resource::Nofile, Rlimit { current: beyond, maximum: beyond }).is_err() {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    nofile_limit()
}

/// Raises the limits on the size of files, processor time and address space as far as the process may. They were those of the shell that
/// started it, not of those who write to the volume: the kernel asks for theirs itself.
pub fn raise_work_limits() {
    for resource in [Resource::Fsize, Resource::Cpu, Resource::As, Resource::Data] {
        let limit = getrlimit(resource);
        // Beyond the hard limit needs CAP_SYS_RESOURCE; up to it needs nothing.
        if setrlimit(resource, Rlimit { current: None, maximum: None }).is_err() {
            let _ = setrlimit(resource, Rlimit { current: limit.maximum, maximum: limit.maximum });
        }
    }
}
