//! From options to a mounted volume, in an order in which every failure leaves nothing behind.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::StatVfsMountFlags;

use super::control_target;
use super::error::{ErrorKind, VolumeError};
use super::inner::{Inner, Scan, Servers};
use super::observer::{Summary, VolumeObserver};
use super::path_checks;
use super::state::{Left, StateStore};
use super::stopper::{Requests, Stopper};
use super::stun_freezer::StunFreezer;
use super::watch::Watch;
use super::{freezer_thread, shutdown};
use crate::backing;
use crate::control::is_of_an_ending_volume;
use crate::engine::{Engine, EngineObserver, EngineParts, Filter};
use crate::fs::{FileSystem, FsOptions};
use crate::fuse::{self, MountSpec, Session};
use crate::model::{CheckedConfig, FileKey, Model, Placement};
use crate::options::{CacheMode, LowLatency, StateFile, VolumeOptions};
use crate::sys::memory;
use crate::telemetry::event::EventBody;
use crate::telemetry::events::EventLog;
use crate::time::{Clock, wait_until};
use crate::units::Bytes;

/// `umount` returns before the daemon has saved its pool checkpoint: so long may the last volume of the same backing, or at the same
/// place, take to end before the next one is refused.
const PREDECESSOR: Duration = Duration::from_secs(3);
/// The longest string that fsconfig(2) takes.
const MOST_SOURCE: usize = 255;
/// The part of the memory that this process may use which data of held writes may take.
const MEMORY_SHARE: u64 = 4;
/// How often to look whether it has.
const LOOK: Duration = Duration::from_millis(10);

/// A volume that is usable.
pub(super) struct Mounted {
    pub(super) inner: Arc<Inner>,
    pub(super) notices: Vec<String>,
    pub(super) life: Life,
}

/// The model as the last session left it, and what there is to say of that.
struct Restored {
    model: Model,
    rebuilt: Option<String>,
}

pub(super) fn mount(mut options: VolumeOptions) -> Result<Mounted, VolumeError> {
    let (config, filter) = check(&options)?;
    let checked = fuse::check(&options.backing, &options.mountpoint, options.allow_other)?;
    fuse::check_request_timeout(options.model.max_hold)?;
    options.backing = checked.backing;
    options.mountpoint = checked.mountpoint;
    path_checks::check(&options)?;
    let _while_threads_start = IoFlusher::of(&options);
    let freezer = Arc::new(StunFreezer::open(&options.freeze)?);
    backing::raise_nofile_limit();
    backing::raise_work_limits();
    let root = open_backing(&options.backing)?;
    let state = Arc::new(open_state(&options)?);
    wait_for_predecessor(&options);
    let Restored { model, rebuilt } = restore(&config, &state)?;
    let clock = Clock::start();
    let watch = Watch::open(&options, clock)?;
    let log = EventLog::open(options.events.as_deref(), clock).map_err(|error| {
        VolumeError::io("events cannot be written to", path_or_dot(options.events.as_deref()), &error)
    })?;
    let observer = Arc::new(VolumeObserver::new(log, Arc::clone(&state), Arc::clone(&freezer)));
    let engine = start_engine(&options, model, clock, filter, &observer)?;
    let (stopper, requests) = Stopper::new(engine.clone());
    let inner = Arc::new(Inner {
        filter: Mutex::new(options.filter.clone()),
        options,
        clock,
        engine,
        observer,
        stopper,
        state,
        after_crash: rebuilt.is_some(),
        scan: Scan::default(),
        freezer,
        watch,
        mounted: OnceLock::new(),
        guard: Mutex::new(None),
        helper: fuse::find_fusermount(),
        servers: Mutex::new(Servers::default()),
    });
    let (warnings, life) = come_up(&inner, root, rebuilt, requests).inspect_err(|_| undo(&inner))?;
    let notices = checked.notices.into_iter().chain(warnings).collect();
    Ok(Mounted { inner, notices, life })
}

/// A file system on a disk image, and the write-back cache, may need this volume to write before memory becomes free: so its
/// threads must not wait for that, nor be slowed down for what others have dirtied. They inherit it from the one that starts
/// them, which is as it was when this is dropped. Needs `CAP_SYS_RESOURCE`.
struct IoFlusher {
    before: bool,
}

impl IoFlusher {
    fn of(options: &VolumeOptions) -> Option<Self> {
        let needed = options.model.placement == Placement::Direct || options.cache == CacheMode::Back;
        let before = if needed { rustix::process::is_io_flusher() } else { return None };
        let set = before.and_then(|before| {
            rustix::process::configure_io_flusher_behavior(true)?;
            Ok(Self { before })
        });
        set.inspect_err(|error| tracing::debug!("not an I/O flusher: {error}")).ok()
    }
}

impl Drop for IoFlusher {
    fn drop(&mut self) {
        // What could be set can be set again.
        let _ = rustix::process::configure_io_flusher_behavior(self.before);
    }
}

type Life = JoinHandle<Result<Summary, VolumeError>>;

/// All that leaves traces; what fails has to be followed by [`undo`]. Warnings, and the thread that will end the volume.
fn come_up(
    inner: &Arc<Inner>,
    root: OwnedFd,
    rebuilt: Option<String>,
    requests: Requests,
) -> Result<(Vec<String>, Life), VolumeError> {
    begin(inner, rebuilt)?;
    begin_around(inner)?;
    let session = attach(inner, root)?;
    let warnings = session.warnings().to_vec();
    // A process that found the mount in the meantime may be held already: it is let go before the session ends by its drop.
    control_target::start_servers(inner).inspect_err(|_| {
        inner.engine.release_all();
    })?;
    start_scan(inner);
    inner.state.collect_others();
    Ok((warnings, start_life(inner, session, requests)?))
}

fn check(options: &VolumeOptions) -> Result<(CheckedConfig, Filter), VolumeError> {
    let config = options.model.clone().check().map_err(|error| VolumeError::usage(error.to_string()))?;
    if !(1..=64).contains(&options.threads) {
        return Err(VolumeError::usage(format!("threads {} is not from 1 to 64", options.threads)));
    }
    if let Some(name) = options.fsname.as_ref().filter(|name| name.len() > MOST_SOURCE) {
        return Err(VolumeError::usage(format!(
            "fsname has {} bytes; the kernel takes at most {MOST_SOURCE}",
            name.len()
        )));
    }
    if options.queue_depth == 0 {
        return Err(VolumeError::usage("queue-depth 0 lets nothing through; write 1 to 65535"));
    }
    Ok((config, path_checks::filter(&options.filter, options)?))
}

fn open_backing(path: &Path) -> Result<OwnedFd, VolumeError> {
    File::open(path).map(OwnedFd::from).map_err(|error| VolumeError::io("the backing cannot be opened:", path, &error))
}

/// The socket may still be that of a volume that was unmounted a moment ago. (If that goes on to use it, or another one does,
/// it is refused when it is its turn.)
fn wait_for_predecessor(options: &VolumeOptions) {
    let Some(socket) = &options.control else { return };
    // On a thread of its own: the caller may be within an asynchronous runtime, where one must not wait for another.
    std::thread::scope(|scope| {
        scope.spawn(|| wait_until(PREDECESSOR, LOOK, || !is_of_an_ending_volume(socket)));
    });
}

fn open_state(options: &VolumeOptions) -> Result<StateStore, VolumeError> {
    let open = || StateStore::open(&options.state, &options.backing);
    let is_taken = |opened: &std::io::Result<StateStore>| {
        opened.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    let mut opened = open();
    wait_until(PREDECESSOR, LOOK, || {
        if is_taken(&opened) {
            opened = open();
        }
        !is_taken(&opened)
    });
    opened.map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => VolumeError::new(ErrorKind::Unavailable, error.to_string()),
        std::io::ErrorKind::InvalidInput => VolumeError::usage(error.to_string()),
        _ => match &options.state {
            StateFile::At(path) => VolumeError::io("no state can be kept in", path, &error),
            _ => VolumeError::io("no state can be kept (choose --state FILE or none) for", &options.backing, &error),
        },
    })
}

fn restore(config: &CheckedConfig, state: &StateStore) -> Result<Restored, VolumeError> {
    let fresh = || Restored { model: Model::new(config.clone()), rebuilt: None };
    let rebuild = |floor: Bytes, reason: String| {
        let mut model = Model::new(config.clone());
        model.floor_use(floor);
        Ok(Restored { model, rebuilt: Some(reason) })
    };
    match state.load() {
        Left::Anothers { refusal } => Err(VolumeError::usage(refusal)),
        // Nothing is taken over that could be rebuilt.
        _ if config.cold => Ok(fresh()),
        Left::Nothing => Ok(fresh()),
        Left::Crashed { floor, reason } => rebuild(floor, reason),
        Left::Clean(checkpoint) => {
            let used = checkpoint.used();
            match Model::restore(config.clone(), *checkpoint) {
                Ok(model) => Ok(Restored { model, rebuilt: None }),
                Err(error) => rebuild(used, format!("what was kept does not fit this configuration: {error}")),
            }
        }
    }
}

fn start_engine(
    options: &VolumeOptions,
    model: Model,
    clock: Clock,
    filter: Filter,
    observer: &Arc<VolumeObserver>,
) -> Result<Engine, VolumeError> {
    let parts = EngineParts {
        model,
        clock,
        filter,
        held_memory: held_memory(options.held_memory),
        observer: Arc::clone(observer) as Arc<dyn EngineObserver>,
        on_thread_start: || {
            fuse::block_file_size_signal();
            backing::favour_this_thread();
        },
        on_worker_start: fuse::block_file_size_signal,
    };
    Engine::start(parts).map_err(|error| VolumeError::new(ErrorKind::Os, format!("no thread can be started: {error}")))
}

/// What is asked for, as far as the process may have it: what it uses besides needs room, too.
fn held_memory(asked: Bytes) -> Bytes {
    let limits = [memory::cgroup_limit(), memory::address_space_left()];
    limits.into_iter().flatten().fold(asked, |budget, limit| budget.min(Bytes(limit / MEMORY_SHARE)))
}

/// Everything before the mount that it needs: the first event, the floor on disk, the guard.
fn begin(inner: &Inner, rebuilt: Option<String>) -> Result<(), VolumeError> {
    let options = &inner.options;
    inner.observer.log.emit(EventBody::Started {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        backing: options.backing.display().to_string(),
        mountpoint: options.mountpoint.display().to_string(),
        profile: options.profile.clone(),
        started: humantime::format_rfc3339_micros(inner.clock.started_wall()).to_string(),
        options: inner.run_options(),
        config: Box::new(options.model.clone()),
    });
    let used = inner.engine.record_usage();
    if let Some(reason) = rebuilt {
        inner.observer.log.emit(EventBody::Rebuilt { reason, used_bytes: used.0 });
    }
    inner
        .state
        .mark_open(used)
        .map_err(|error| VolumeError::io("no state can be kept for", &options.backing, &error))?;
    let mut set = inner.freezer.set();
    inner
        .start_guard(&mut set)
        .map_err(|error| VolumeError::new(ErrorKind::Os, format!("the guard process cannot be started: {error}")))
}

/// What the guard has to be there for.
fn begin_around(inner: &Arc<Inner>) -> Result<(), VolumeError> {
    inner.watch.start(&inner.options, &inner.observer.log, |action| inner.arm_guard(action))?;
    freezer_thread::start(inner)
        .map_err(|error| VolumeError::new(ErrorKind::Os, format!("no thread can be started: {error}")))
}

/// Whether nothing can be written to a backing. The kernel then refuses on the mount, too, what it refuses there: by `access(2)`
/// it asks the volume nothing.
fn is_read_only(backing: &OwnedFd) -> bool {
    rustix::fs::fstatvfs(backing).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY))
}

fn attach(inner: &Inner, root: OwnedFd) -> Result<Session, VolumeError> {
    let options = &inner.options;
    let read_only = options.read_only || is_read_only(&root);
    if read_only && !options.read_only {
        inner.warn(format!("the backing {} is read-only, and so is the volume", options.backing.display()));
    }
    let fs_options = FsOptions {
        cache: options.cache,
        direct_io_for_o_direct: options.model.placement == Placement::Direct,
        zero_by_punching: options.model.placement == Placement::Direct,
        idle_descriptors: None,
    };
    let fs = FileSystem::new(root, inner.engine.clone(), fs_options)
        .map_err(|error| VolumeError::io("the backing cannot be used:", &options.backing, &error))?;
    let spec = MountSpec {
        mountpoint: options.mountpoint.clone(),
        fsname: options.fsname.clone().unwrap_or_else(|| mount_source(&options.backing)),
        cache: options.cache,
        queue_depth: options.queue_depth,
        threads: options.threads,
        low_latency: options.low_latency == LowLatency::Auto,
        allow_other: options.allow_other,
        read_only,
    };
    Session::mount(&fs, &spec, |identity| {
        // A guard that is posted later has to know it, too.
        let identity = inner.mounted.get_or_init(|| identity);
        match &*inner.guard.lock() {
            Some(guard) => guard.watch_mount(identity.connection.get(), identity.mount_id),
            None => Ok(()),
        }
    })
    .map_err(VolumeError::from)
}

/// The backing's path; its beginning, if it is longer than a name in the mount table may be.
fn mount_source(backing: &Path) -> String {
    let path = backing.display().to_string();
    if path.len() <= MOST_SOURCE {
        return path;
    }
    let ends = path.char_indices().map(|(start, character)| start + character.len_utf8());
    let end = ends.take_while(|end| *end <= MOST_SOURCE - 3).last().unwrap_or(0);
    format!("{}...", path.get(..end).unwrap_or_default())
}

/// Reads in the background how much the backing holds, so that a mount does not wait for it. After a clean end, too:
/// what was put there meanwhile has its space, and `statfs` shows it.
fn start_scan(inner: &Arc<Inner>) {
    let (engine, stop) = (inner.engine.clone(), Arc::clone(&inner.scan.stop));
    let (path, log) = (inner.options.backing.clone(), inner.observer.log.clone());
    engine.scanning();
    let thread = Builder::new().name("stunfs-scan".into()).spawn(move || {
        let _ = backing::set_nice(19);
        let counted = scan(&path, &engine, &stop);
        if let Err(error) = counted {
            tracing::warn!("what {} holds could not be counted: {error}", path.display());
        }
        engine.scanned();
        if let Some(message) = too_small(&engine) {
            tracing::warn!("{message}");
            log.emit(EventBody::Warning { message });
        }
    });
    *inner.scan.thread.lock() = thread.ok();
}

/// Only what was there before can use more than the pool has.
fn too_small(engine: &Engine) -> Option<String> {
    let pool = engine.status().model.pool;
    let size = pool.size_bytes.filter(|size| pool.used_bytes > *size)?;
    let (used, size) = (Bytes(pool.used_bytes), Bytes(size));
    Some(format!(
        "the pool ({size}) is smaller than what the backing holds already ({used}): it is full from the start"
    ))
}

fn scan(path: &Path, engine: &Engine, stop: &AtomicBool) -> std::io::Result<()> {
    let root = OwnedFd::from(File::open(path)?);
    backing::scan(&root, stop, |file| {
        engine.found(FileKey { dev: file.dev, ino: file.ino }, file.data_bytes);
    })?;
    Ok(())
}

fn start_life(inner: &Arc<Inner>, session: Session, requests: Requests) -> Result<Life, VolumeError> {
    let shared = Arc::clone(inner);
    Builder::new()
        .name("stunfs-life".into())
        .spawn(move || shutdown::run(&shared, &session, &requests))
        .map_err(|error| VolumeError::new(ErrorKind::Os, format!("no thread can be started: {error}")))
}

/// Takes back what [`come_up`] did for a mount that failed.
fn undo(inner: &Inner) {
    inner.freezer.finish();
    inner.stop_watch();
    inner.stop_scan();
    inner.stop_servers();
    inner.engine.shut_down();
    if !inner.after_crash {
        // What a crash left is left for the mount that succeeds, which will tell of it.
        let _ = inner.save_state();
    }
    inner.observer.log.close("the mount failed", 0, Duration::from_secs(2));
    inner.dismiss_guard();
    inner.state.unlock();
}

fn path_or_dot(path: Option<&Path>) -> &Path {
    path.unwrap_or(Path::new("."))
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_a_long_backing_path_was_refused() {
        assert_eq!(mount_source(Path::new("/srv/data")), "/srv/data");
        // A character of two bytes stands across the limit.
        let source = mount_source(&Path::new("/").join("\u{e4}".repeat(200)));
        assert!((MOST_SOURCE - 1..=MOST_SOURCE).contains(&source.len()) && source.ends_with("\u{e4}..."), "{source}");
    }

    #[test]
    fn held_memory_is_never_more_than_asked_for() {
        assert!(held_memory(Bytes::mib(1)) <= Bytes::mib(1));
    }
}
