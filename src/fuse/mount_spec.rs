//! How a volume is mounted.
//!
//! Must not know: sessions. Invariant: the mount point is a canonical path that was checked.

use std::path::PathBuf;

use crate::options::CacheMode;

/// How a volume is mounted.
#[derive(Debug, Clone)]
pub struct MountSpec {
    /// Where: a canonical path, checked by [`super::check`].
    pub mountpoint: PathBuf,
    /// The source in the mount table; the backing's path, so that overlapping volumes see each other.
    pub fsname: String,
    /// What the kernel caches.
    pub cache: CacheMode,
    /// The kernel's `max_background`.
    pub queue_depth: u16,
    /// FUSE threads. From 1 to 64.
    pub threads: usize,
    /// Idle processors may be kept awake while requests come in quick succession.
    pub low_latency: bool,
    /// Users other than the one who mounts may use it.
    pub allow_other: bool,
    /// Mounted read-only.
    pub read_only: bool,
}
