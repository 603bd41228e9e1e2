//! What is agreed with the kernel when a mount begins.
//!
//! Must not know: requests. Invariant: only what the kernel offers is asked for, so that old kernels mount too.

use fuser::{FopenFlags, InitFlags, KernelConfig};

use crate::fs::CacheMode;

/// The largest write in one request, in bytes: what Linux carries with its default `fs.fuse.max_pages_limit`.
pub(crate) const MAX_WRITE_BYTES: u32 = 1 << 20;

/// What every volume asks for.
///
/// Not asked for, and why: `POSIX_LOCKS` and `FLOCK_LOCKS` (locks that the kernel keeps are right for one machine and cost
/// no request); `AUTO_INVAL_DATA` (only the volume changes the data; it would drop caches whenever a time changes);
/// `OVER_IO_URING`, `ALLOW_IDMAP`, `REQUEST_TIMEOUT` (fuser 0.18 has no code for them).
///
/// `HANDLE_KILLPRIV_V2`: without it the kernel asks for `security.capability` before every write. The file system takes
/// set-user-id bits away itself: on a write with `FUSE_WRITE_KILL_SUIDGID`, and on truncation and change of owner.
///
/// `ATOMIC_O_TRUNC`: an open with `O_TRUNC` is one request, and told apart from `truncate(2)`, which leaves the time of an empty file.
///
/// `EXPORT_SUPPORT`: the kernel asks for a node that it has forgotten by looking up `.` in it, instead of answering `ESTALE` to an
/// NFS server.
///
/// `DONT_MASK` goes with `POSIX_ACL`: a default ACL takes the place of the umask, which only the file system knows.
const ALWAYS: InitFlags = InitFlags::FUSE_ASYNC_READ
    .union(InitFlags::FUSE_BIG_WRITES)
    .union(InitFlags::FUSE_MAX_PAGES)
    .union(InitFlags::FUSE_PARALLEL_DIROPS)
    .union(InitFlags::FUSE_DO_READDIRPLUS)
    .union(InitFlags::FUSE_READDIRPLUS_AUTO)
    .union(InitFlags::FUSE_ASYNC_DIO)
    .union(InitFlags::FUSE_DONT_MASK)
    .union(InitFlags::FUSE_POSIX_ACL)
    .union(InitFlags::FUSE_CACHE_SYMLINKS)
    .union(InitFlags::FUSE_ATOMIC_O_TRUNC)
    .union(InitFlags::FUSE_EXPORT_SUPPORT)
    .union(InitFlags::FUSE_HANDLE_KILLPRIV_V2);

/// Agrees with the kernel on capabilities and limits. `queue_depth` becomes its `max_background`.
pub(crate) fn negotiate(config: &mut KernelConfig, cache: CacheMode, queue_depth: u16) {
    let wanted = ALWAYS | for_cache(cache);
    // An error names what is not offered; nothing of it is then asked for.
    if let Err(missing) = config.add_capabilities(wanted) {
        let _offered = config.add_capabilities(wanted - missing);
    }
    let _at_least_one = config.set_max_background(queue_depth.max(1));
    let _within_fusers_limit = config.set_max_write(MAX_WRITE_BYTES);
    // The read-ahead stays as large as the kernel offers; see `kernel::tune_bdi` for more.
}

/// Flags of every file that is opened.
///
/// Without the write-back cache a close has nothing to write, so FUSE_FLUSH would be a request that does nothing. (With
/// it the kernel ignores the flag.)
pub(crate) const fn open_flags(cache: CacheMode) -> FopenFlags {
    match cache {
        CacheMode::Through | CacheMode::Direct => FopenFlags::FOPEN_NOFLUSH,
        CacheMode::Back => FopenFlags::empty(),
    }
}

const fn for_cache(cache: CacheMode) -> InitFlags {
    match cache {
        CacheMode::Through => InitFlags::empty(),
        CacheMode::Back => InitFlags::FUSE_WRITEBACK_CACHE,
        CacheMode::Direct => InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
    }
}
