//! Things to freeze, and the certainty that none of them stays frozen: each cleans up when dropped, and a watchdog does if
//! the test hangs.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, getuid, kill_process, kill_process_group};
use stunfs::internal::freeze::Surroundings;
use stunfs::internal::time::{Deadline, pause, wait_until};

/// How often each kind of target is frozen.
pub(crate) const ROUNDS: usize = 20;
/// A test that takes longer is ended, and what it froze is thawed.
const LIMIT: Duration = Duration::from_secs(150);

/// The counters' process groups and the control groups that may be frozen.
static STARTED: Mutex<Vec<u32>> = Mutex::new(Vec::new());
static GROUPS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal);
}

pub(crate) fn pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

/// Ends the whole test binary if it is not dropped in time.
pub(crate) struct Watchdog(#[expect(dead_code, reason = "dropping it is what counts")] mpsc::Sender<()>);

pub(crate) fn watchdog() -> Watchdog {
    watchdog_of(LIMIT)
}

pub(crate) fn watchdog_of(limit: Duration) -> Watchdog {
    let (alive, gone) = mpsc::channel();
    std::thread::spawn(move || {
        if gone.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("a test hangs: thawing everything");
            GROUPS.lock().iter().for_each(|group| thaw_by_hand(group));
            STARTED.lock().iter().for_each(|group| end_group(*group));
            std::process::abort();
        }
    });
    Watchdog(alive)
}

fn end_group(group: u32) {
    let _ = kill_process_group(pid(group), Signal::KILL);
    let _ = kill_process_group(pid(group), Signal::CONT);
}

fn thaw_by_hand(group: &Path) {
    let _ = fs::write(group.join("freezer.state"), "THAWED");
    let _ = fs::write(group.join("cgroup.freeze"), "0");
}

/// A shell that counts in a file's length, in a process group of its own. It forks all the time.
pub(crate) struct Counter {
    child: Child,
    file: PathBuf,
}

impl Counter {
    pub(crate) fn start(directory: &Path) -> Self {
        Self::run(directory, r#"while printf x >>"$0"; do sleep 0.01; done"#)
    }

    /// A tree: a shell whose children and grandchildren come and go, and count.
    pub(crate) fn start_tree(directory: &Path) -> Self {
        Self::run(
            directory,
            r#"for n in 1 2; do (while :; do (printf x >>"$0"; (printf y >>"$0"; sleep 0.002)); done) & done
               while printf z >>"$0"; do sleep 0.005; done"#,
        )
    }

    pub(crate) fn run(directory: &Path, script: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let file = directory.join(format!("count-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        fs::write(&file, "").unwrap();
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(script)
            .arg(&file)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().unwrap();
        STARTED.lock().push(child.id());
        Self { child, file }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Makes the file that a script may wait for: its count's name with `.go` behind it.
    pub(crate) fn go(&self) {
        fs::write(self.file.with_extension("go"), "").unwrap();
    }

    pub(crate) fn count(&self) -> u64 {
        fs::metadata(&self.file).unwrap().len()
    }

    pub(crate) fn assert_still(&self) {
        let before = self.count();
        pause(Duration::from_millis(60));
        assert_eq!(self.count(), before, "the counter is not frozen");
    }

    pub(crate) fn assert_moves(&self) {
        let before = self.count();
        let moved = wait_until(Duration::from_secs(10), Duration::from_millis(2), || self.count() > before);
        assert!(moved, "the counter stands still");
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        end_group(self.child.id());
        let _ = self.child.wait();
    }
}

/// A control group of this test's own.
pub(crate) struct Group(pub(crate) PathBuf);

impl Group {
    /// Below `root`; none if this machine lacks it.
    pub(crate) fn new(root: &str) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let control = if root.ends_with("freezer") { "freezer.state" } else { "cgroup.freeze" };
        let name = format!("stunfs-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(root).join(name);
        if !getuid().is_root() || fs::create_dir(&path).is_err() {
            eprintln!("LEFT OUT: no control groups below {root}, or no rights");
            return None;
        }
        let group = Self(path);
        GROUPS.lock().push(group.0.clone());
        if !group.0.join(control).exists() {
            eprintln!("LEFT OUT: {root} has no {control}");
            return None;
        }
        Some(group)
    }

    pub(crate) fn child(&self, name: &str) -> Self {
        let path = self.0.join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn put(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    pub(crate) fn target(&self) -> stunfs::internal::freeze::FreezeTarget {
        format!("cgroup:{}", self.0.display()).parse().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        thaw_by_hand(&self.0);
        let list = || fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        wait_until(Duration::from_secs(5), Duration::from_millis(10), || {
            list().lines().filter_map(|line| line.parse().ok()).for_each(|pid| signal(pid, Signal::KILL));
            fs::remove_dir(&self.0).is_ok() || !self.0.exists()
        });
    }
}

pub(crate) const V1: &str = "/sys/fs/cgroup/freezer";

/// Where v2 is mounted: alone, or beside v1.
pub(crate) fn v2() -> &'static str {
    let unified = "/sys/fs/cgroup/unified";
    if Path::new(unified).exists() { unified } else { "/sys/fs/cgroup" }
}

/// Surroundings that do not depend on the environment.
pub(crate) fn around() -> Surroundings {
    Surroundings { spared: Vec::new(), engines: Vec::new(), accept_waiting: true }
}
