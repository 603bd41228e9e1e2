//! How many descriptors the process may hold.
//!
//! Must not know: what they are used for. Invariant: a limit is only ever raised.

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
