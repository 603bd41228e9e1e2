//! A disk for a test, brought up by the program itself, that cannot wedge it; and writers whose waits are measured.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use stunfs::internal::time::{Clock, Deadline, pause, wait_until};

/// No call of the program takes longer; what does is killed.
const CALL_LIMIT: Duration = Duration::from_secs(90);

/// Leaves a test out where disks cannot be had, and says why. `STUNFS_REQUIRE_DISK=1` makes that a failure.
macro_rules! need_disks {
    ($($program:literal),*) => {
        if !$crate::support::can_have_disks(&[$($program),*]) {
            return;
        }
    };
}
pub(crate) use need_disks;

pub(crate) fn can_have_disks(programs: &[&str]) -> bool {
    let open = |path: &str| OpenOptions::new().read(true).write(true).open(path).err();
    let missing = if !rustix::process::geteuid().is_root() {
        Some("it needs root".to_owned())
    } else if let Some(error) = open("/dev/fuse") {
        Some(format!("/dev/fuse: {error}"))
    } else if let Some(error) = open("/dev/loop-control") {
        Some(format!("/dev/loop-control: {error}"))
    } else {
        programs.iter().find(|program| !has(program)).map(|program| format!("{program} is not installed"))
    };
    let Some(why) = missing else { return true };
    assert!(std::env::var_os("STUNFS_REQUIRE_DISK").is_none(), "disks are required: {why}");
    eprintln!("left out: {why}");
    false
}

fn has(program: &str) -> bool {
    ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].iter().any(|dir| Path::new(dir).join(program).exists())
}

/// Runs the program; it must come back.
pub(crate) fn stunfs(args: &[&str]) -> Output {
    run(Command::new(env!("CARGO_BIN_EXE_stunfs")).args(args))
}

/// Runs a command to its end, within a limit.
pub(crate) fn run(command: &mut Command) -> Output {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a child");
    let ended = wait_until(CALL_LIMIT, Duration::from_millis(5), || child.try_wait().unwrap().is_some());
    if !ended {
        let _ = child.kill();
        panic!("{command:?} takes longer than {CALL_LIMIT:?}");
    }
    child.wait_with_output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// It went well; what it said.
pub(crate) fn fine(args: &[&str]) -> String {
    let output = stunfs(args);
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// It was refused with `code`, in one line that has `part`.
pub(crate) fn refused(args: &[&str], code: i32, part: &str) {
    let output = stunfs(args);
    let line = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {line}");
    assert!(line.starts_with("stunfs: ") && line.lines().count() == 1 && line.contains(part), "{args:?}: {line}");
}

/// A disk with an image and a mount point of its own. Dropped, it is taken down, whatever state it is in.
pub(crate) struct TestDisk {
    pub(crate) base: tempfile::TempDir,
    pub(crate) record: Value,
}

impl TestDisk {
    /// Brings one up; `args` are words.
    pub(crate) fn up(args: &str) -> Self {
        let base = tempfile::Builder::new().prefix("stunfs-disk-test-").tempdir().unwrap();
        let mut disk = Self { base, record: Value::Null };
        disk.again(args);
        disk
    }

    /// Brings it up again.
    pub(crate) fn again(&mut self, args: &str) {
        let (place, mount) = (self.place(), self.base.path().join("mnt"));
        let mut all = vec!["disk", "up", place.to_str().unwrap(), "--json"];
        all.extend(args.split(' ').filter(|word| !word.is_empty()));
        if !args.contains("--fs none") {
            all.extend(["--mount", mount.to_str().unwrap()]);
        }
        self.record = serde_json::from_str(&fine(&all)).unwrap();
    }

    /// The image's directory.
    pub(crate) fn place(&self) -> PathBuf {
        self.base.path().join("image")
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.place().join("disk.img")
    }

    /// Where the file system is mounted.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.base.path().join("mnt").join(name)
    }

    pub(crate) fn device(&self) -> PathBuf {
        PathBuf::from(format!("/dev/loop{}", self.record["device"]["number"]))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.record["process"]["pid"].as_u64().unwrap().try_into().unwrap()
    }

    /// Calls `disk ACTION` on it.
    pub(crate) fn disk(&self, action: &str) -> Output {
        stunfs(&["disk", action, self.place().to_str().unwrap()])
    }

    pub(crate) fn down(&self) {
        let output = self.disk("down");
        assert!(output.status.success(), "{}", text(&output.stderr));
        self.assert_nothing_left();
    }

    /// Calls `ctl` on its volume.
    pub(crate) fn ctl(&self, args: &str) -> Value {
        let socket = self.record["control"].as_str().unwrap();
        let mut all = vec!["ctl", "--socket", socket, "--json"];
        all.extend(args.split(' '));
        serde_json::from_str(&fine(&all)).unwrap()
    }

    /// What its pool has given out, in bytes.
    pub(crate) fn used(&self) -> u64 {
        self.ctl("status")["pool"]["used_bytes"].as_u64().unwrap()
    }

    /// How many operations its volume has held so far.
    pub(crate) fn held(&self) -> u64 {
        self.ctl("status")["counters"]["held"].as_u64().unwrap()
    }

    /// Waits until an operation is held.
    pub(crate) fn wait_held(&self) {
        let held = || self.ctl("status")["held"]["total"].as_u64().unwrap() > 0;
        assert!(wait_until(Duration::from_secs(10), Duration::from_millis(20), held), "no operation is held");
    }

    /// Kills its daemon as an operator would not.
    pub(crate) fn kill_daemon(&self) {
        let pid = rustix::process::Pid::from_raw(self.pid().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let gone = || !Path::new(&format!("/proc/{}", self.pid())).exists();
        assert!(wait_until(Duration::from_secs(5), Duration::from_millis(5), gone), "the daemon survives SIGKILL");
    }

    /// No mount, device, process, record.
    pub(crate) fn assert_nothing_left(&self) {
        let base = self.base.path().to_str().unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let id = self.record["id"].as_str().unwrap_or("no such disk");
        assert!(!mounts.contains(base) && !mounts.contains(id), "still mounted:\n{mounts}");
        assert!(!loop_files().iter().any(|file| file.contains(id)), "{:?}", loop_files());
        let kept = |end: &str| Path::new("/run/stunfs/disks").join(format!("{id}{end}")).exists();
        assert!(!kept("") && !kept(".json") && !kept(".lock"), "its record or its lock is still there");
        if self.record["process"]["pid"].is_u64() {
            let command = fs::read_to_string(format!("/proc/{}/cmdline", self.pid())).unwrap_or_default();
            assert!(!command.contains(base), "its daemon runs");
        }
    }
}

impl Drop for TestDisk {
    fn drop(&mut self) {
        let output = self.disk("down");
        if !output.status.success() && !std::thread::panicking() {
            // It is down already in most tests.
            let line = text(&output.stderr);
            assert!(line.contains("no disk of"), "{line}");
        }
    }
}

/// What all loop devices have.
pub(crate) fn loop_files() -> Vec<String> {
    let devices = fs::read_dir("/sys/block").unwrap().flatten();
    devices.filter_map(|device| fs::read_to_string(device.path().join("loop/backing_file")).ok()).collect()
}

/// Writes one block past the page cache; how long it took.
pub(crate) fn write_direct(path: &Path, offset: u64, len: usize) -> Duration {
    let mut options = OpenOptions::new();
    let direct = rustix::fs::OFlags::DIRECT.bits().cast_signed();
    let file = options.create(true).truncate(false).write(true).custom_flags(direct).open(path).unwrap();
    let buffer = vec![7_u8; len + 4096];
    let start = buffer.as_ptr().align_offset(4096);
    let clock = Clock::start();
    file.write_all_at(&buffer[start..start + len], offset).unwrap();
    clock.now().since(stunfs::internal::time::SimTime::ZERO)
}

/// Appends numbered records, each synced, until told to stop or refused; how many were acknowledged.
pub(crate) fn append_synced(path: &Path, stop: &std::sync::atomic::AtomicBool) -> u64 {
    let Ok(file) = File::create(path) else { return 0 };
    for number in 0_u64.. {
        let record = number.to_le_bytes().repeat(64);
        let ended = stop.load(std::sync::atomic::Ordering::Relaxed);
        if ended || file.write_all_at(&record, number * 512).and_then(|()| file.sync_data()).is_err() {
            return number;
        }
    }
    0
}

/// How many whole records from the start are there.
pub(crate) fn count_records(path: &Path) -> u64 {
    let data = fs::read(path).unwrap();
    let whole =
        data.chunks_exact(512).zip(0_u64..).take_while(|(record, number)| **record == number.to_le_bytes().repeat(64));
    u64::try_from(whole.count()).unwrap()
}

/// What a thread returns, which it must do soon.
pub(crate) fn finished<T>(thread: std::thread::JoinHandle<T>, within: Duration) -> T {
    let deadline = Deadline::after(within);
    while !thread.is_finished() {
        assert!(!deadline.passed(), "a thread hangs");
        pause(Duration::from_millis(5));
    }
    thread.join().unwrap()
}
