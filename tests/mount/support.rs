//! A volume of the real program, in a process of its own, that cannot wedge the test: dropped, it is ended, killed, cut
//! off and unmounted, in that order, as far as it takes.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use stunfs::Volume;
use stunfs::internal::control::Client;
use stunfs::internal::fs::CacheMode;
use stunfs::internal::time::wait_until;

use crate::common::{SOON, TICK, is_mounted};

/// The program.
pub(crate) fn stunfs() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stunfs"));
    command.stdin(Stdio::null());
    command
}

/// Directories for one volume, with all its files next to them. They are removed at the end.
pub(crate) struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("stunfs-test-").tempdir().unwrap();
        fs::create_dir(dir.path().join("backing")).unwrap();
        fs::create_dir(dir.path().join("mnt")).unwrap();
        Self { dir }
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn backing(&self) -> PathBuf {
        self.at("backing")
    }

    pub(crate) fn mnt(&self) -> PathBuf {
        self.at("mnt")
    }

    /// `mount BACKING MNT` with a control socket, an event log and a state file, and `args`.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = stunfs();
        command.args(["mount", "--seed", "1"]);
        for option in ["events", "control", "state"] {
            if !args.contains(&format!("--{option}").as_str()) {
                command.arg(format!("--{option}")).arg(self.at(option));
            }
        }
        command.args(args).arg("--").arg(self.backing()).arg(self.mnt());
        command
    }

    /// Mounts; usable when it returns.
    pub(crate) fn mount(&self, args: &[&str]) -> Daemon<'_> {
        Daemon::start(self, self.command(args))
    }

    /// Tries to mount, for what must be refused.
    pub(crate) fn refused(&self, args: &[&str]) -> Refusal {
        Refusal::of(self, self.command(args))
    }

    /// The events of the last session.
    pub(crate) fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.at("events")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.at("control")).unwrap().timeout(Some(SOON))
    }

    pub(crate) fn ctl(&self, args: &[&str]) -> Output {
        stunfs().arg("ctl").arg("--socket").arg(self.at("control")).args(args).output().unwrap()
    }

    /// The guard processes of volumes here: forked from the daemon, they show its command line.
    pub(crate) fn guards(&self) -> Vec<u32> {
        let ours = self.dir.path().to_str().unwrap().as_bytes();
        let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(|pid: &u32| {
            let file = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
            file("comm") == b"stunfs-guard\n" && file("cmdline").windows(ours.len()).any(|part| part == ours)
        })
        .collect()
    }

    /// Nothing is mounted, and no guard process is left.
    pub(crate) fn assert_clean(&self, within: Duration) {
        let mnt = self.mnt();
        assert!(wait_until(within, TICK, || !is_mounted(&mnt)), "{} is still mounted", mnt.display());
        assert!(wait_until(within, TICK, || self.guards().is_empty()), "a guard is left: {:?}", self.guards());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for _ in 0..8 {
            if !is_mounted(&self.mnt()) {
                return;
            }
            cut_off(&self.mnt());
        }
    }
}

/// Ends the connection of the mount at `path` and takes it out of the mount table.
pub(crate) fn cut_off(path: &Path) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let of_path = |line: &&str| line.split(' ').nth(4) == path.to_str();
    let device = table.lines().rev().find(of_path).and_then(|line| line.split(' ').nth(2)).map(str::to_owned);
    let _there_already = Command::new("mount").args(["-t", "fusectl", "none", "/sys/fs/fuse/connections"]).output();
    if let Some((_, connection)) = device.as_deref().and_then(|device| device.split_once(':')) {
        let _gone = fs::write(format!("/sys/fs/fuse/connections/{connection}/abort"), "1");
    }
    let _gone = rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH);
}

/// A running `stunfs mount`.
pub(crate) struct Daemon<'a> {
    pub(crate) child: Child,
    place: &'a Place,
}

impl<'a> Daemon<'a> {
    pub(crate) fn start(place: &'a Place, mut command: Command) -> Self {
        let errors = File::create(place.at("stderr")).unwrap();
        let child = command.stdout(Stdio::piped()).stderr(errors).process_group(0).spawn().unwrap();
        let mut daemon = Self { child, place };
        let output = BufReader::new(daemon.child.stdout.take().unwrap());
        let (tell, told) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).for_each(|line| _ = tell.send(line)));
        let first = told.recv_timeout(Duration::from_secs(30));
        assert!(first.as_ref().is_ok_and(|line| line.contains(" is mounted on ")), "{first:?}: {}", daemon.stderr());
        daemon
    }

    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.place.at("stderr")).unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.place.mnt().join(name)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn post(&self, path: &str) -> Value {
        self.place.client().post(path, &serde_json::json!({})).unwrap().body
    }

    /// How many operations are held now.
    pub(crate) fn held(&self) -> u64 {
        let status = self.place.client().get("/v1/status").unwrap().body;
        status["held"]["total"].as_u64().unwrap_or_else(|| panic!("no held.total in {status}"))
    }

    pub(crate) fn wait_held(&self, n: u64) {
        assert!(wait_until(Duration::from_secs(30), Duration::from_millis(20), || self.held() >= n), "{}", self.held());
    }

    /// The pool's use, bytes.
    pub(crate) fn used(&self) -> u64 {
        self.place.client().get("/v1/status").unwrap().body["pool"]["used_bytes"].as_u64().unwrap()
    }

    /// Waits for its end; the exit code (128 + the signal that killed it).
    pub(crate) fn wait(&mut self, within: Duration) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt;

        let mut status = None;
        wait_until(within, TICK, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.map(|status| status.code().unwrap_or_else(|| 128 + status.signal().unwrap()))
    }

    /// SIGTERM; it must end well.
    pub(crate) fn end(mut self) {
        self.signal(Signal::TERM);
        let code = self.wait(Duration::from_secs(10));
        assert_eq!(code, Some(0), "{}", self.stderr());
        self.place.assert_clean(SOON);
    }

    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        assert_eq!(self.wait(SOON), Some(128 + 9));
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(Signal::TERM);
            if self.wait(Duration::from_secs(8)).is_none() {
                let _gone = self.child.kill();
                let _reaped = self.child.wait();
            }
        }
        if std::thread::panicking() {
            eprintln!("the daemon said: {}", self.stderr());
        }
    }
}

/// A mount that was refused.
pub(crate) struct Refusal {
    pub(crate) code: Option<i32>,
    pub(crate) text: String,
}

impl Refusal {
    pub(crate) fn of(place: &Place, mut command: Command) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut daemon = Daemon { child, place };
        let errors = daemon.child.stderr.take().unwrap();
        let code = daemon.wait(Duration::from_secs(20));
        assert!(code.is_some(), "it was not refused");
        let text = std::io::read_to_string(errors).unwrap();
        fs::write(place.at("stderr"), &text).unwrap();
        Self { code, text }
    }

    /// One line with `part`, this exit code, and nothing left behind.
    #[track_caller]
    pub(crate) fn expect(&self, place: &Place, code: i32, part: &str) {
        let Self { text, .. } = self;
        assert_eq!(self.code, Some(code), "{text}");
        assert!(text.starts_with("stunfs: ") && text.lines().count() == 1 && text.contains(part), "'{part}': {text}");
        place.assert_clean(SOON);
    }
}

/// Runs an ignored test of this program, as a child with `STUNFS_CHILD` set.
pub(crate) fn this_test(name: &str, value: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture"]).env("STUNFS_CHILD", value).stdin(Stdio::null());
    command
}

/// What [`this_test`]'s child was told; `None` if it was started by hand.
pub(crate) fn told() -> Option<PathBuf> {
    std::env::var_os("STUNFS_CHILD").map(PathBuf::from)
}

/// A volume that every user may use, and a plain directory on the backing's file system beside it.
pub(crate) fn volume_and_plain(cache: CacheMode) -> (Volume, tempfile::TempDir) {
    let volume = Volume::builder().cache(cache).configure(|options| options.allow_other = true).mount().unwrap();
    let plain = tempfile::tempdir().unwrap();
    for root in [volume.backing(), plain.path()] {
        fs::set_permissions(root, Permissions::from_mode(0o755)).unwrap();
    }
    (volume, plain)
}
