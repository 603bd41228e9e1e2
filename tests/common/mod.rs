//! A volume without injection, mounted for a test, that cannot wedge it.

#![allow(dead_code, unused_imports, unused_macros, reason = "each test binary uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

pub(crate) mod user;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stunfs::internal::backing::open_root;
use stunfs::internal::engine::Engine;
use stunfs::internal::freeze::Guard;
use stunfs::internal::fs::{CacheMode, FileSystem, FsOptions};
use stunfs::internal::fuse::{MountSpec, Session, check, check_machine, find_fusermount};

/// What has not happened after this will not happen.
pub(crate) const SOON: Duration = Duration::from_secs(5);
/// How often to look.
pub(crate) const TICK: Duration = Duration::from_millis(2);

/// A mounted volume on a backing of its own. Dropped, it is unmounted within a few seconds whatever hangs.
pub(crate) struct Mounted {
    pub(crate) session: Session,
    pub(crate) guard: Option<Guard>,
    pub(crate) backing: tempfile::TempDir,
    pub(crate) mountpoint: tempfile::TempDir,
}

impl Mounted {
    /// `None`, with a word why, where nothing can be mounted.
    pub(crate) fn new(cache: CacheMode, threads: usize) -> Option<Self> {
        if !can_mount() {
            return None;
        }
        let (backing, mountpoint) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (session, guard) = mount(backing.path(), mountpoint.path(), cache, threads);
        Some(Self { session, guard: Some(guard), backing, mountpoint })
    }

    /// A path on the mount.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.session.mountpoint().join(name)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _nothing_to_tell = self.session.unmount(SOON);
        self.guard.take().map(|guard| guard.dismiss(SOON));
    }
}

/// Mounts `backing` with a guard.
pub(crate) fn mount(backing: &Path, mountpoint: &Path, cache: CacheMode, threads: usize) -> (Session, Guard) {
    let checked = check(backing, mountpoint, false).unwrap();
    let spec = MountSpec {
        mountpoint: checked.mountpoint,
        fsname: checked.backing.display().to_string(),
        cache,
        queue_depth: 128,
        threads,
        low_latency: false,
        allow_other: false,
        read_only: false,
    };
    let guard = Guard::spawn(&spec.mountpoint, find_fusermount().as_deref()).unwrap();
    let fs = filesystem(&checked.backing, cache);
    let session =
        Session::mount(&fs, &spec, |identity| guard.watch_mount(identity.connection.get(), identity.mount_id)).unwrap();
    (session, guard)
}

fn filesystem(backing: &Path, cache: CacheMode) -> Arc<FileSystem> {
    let options = FsOptions { cache, ..FsOptions::default() };
    FileSystem::new(open_root(backing).unwrap(), Engine::pass_through(), options).unwrap()
}

/// Whether mounts can be tested here; says so if not. With `STUNFS_REQUIRE_FUSE` in the environment it must be.
pub(crate) fn can_mount() -> bool {
    match check_machine(false) {
        Ok(()) => true,
        Err(cause) if std::env::var_os("STUNFS_REQUIRE_FUSE").is_none() => {
            eprintln!("left out: {cause}");
            false
        }
        Err(cause) => panic!("{cause}"),
    }
}

/// Whether something is mounted at `path`, by the mount table.
pub(crate) fn is_mounted(path: &Path) -> bool {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().any(|line| line.split(' ').nth(4) == path.to_str())
}

/// Whether a process or thread is there and not only waits to be reaped.
pub(crate) fn is_running(pid: u32) -> bool {
    !matches!(state_of(pid), None | Some('Z'))
}

/// The state letter of a process or thread.
pub(crate) fn state_of(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Leaves a test out where nothing can be mounted; see [`can_mount`].
macro_rules! need_fuse {
    () => {
        if !$crate::common::can_mount() {
            return;
        }
    };
}
pub(crate) use need_fuse;

/// What `work` returns, and how long it took.
#[expect(clippy::disallowed_methods, reason = "tests measure")]
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = std::time::Instant::now();
    let value = work();
    (value, start.elapsed())
}
