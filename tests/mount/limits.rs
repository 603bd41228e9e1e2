//! Many files: open at once, and looked at. The limits are a process's, so daemon and user are processes of their own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use stunfs::internal::backing::raise_nofile_limit;
use stunfs::internal::time::{pause, wait_until};

use crate::common::{SOON, TICK, is_mounted};

const OPEN_AT: &str = "STUNFS_TEST_OPEN_AT";

/// A volume in a process of its own. Dropped, it is unmounted.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) backing: tempfile::TempDir,
    mountpoint: tempfile::TempDir,
}

impl Daemon {
    /// With at most `descriptors`, if that is given.
    fn start(descriptors: Option<u32>) -> Self {
        Self::start_with(descriptors, &[])
    }

    /// Started by `wrap`: a command that takes another one.
    pub(crate) fn start_with(descriptors: Option<u32>, wrap: &[&str]) -> Self {
        Self::start_with_options(descriptors, wrap, &[])
    }

    pub(crate) fn start_with_options(descriptors: Option<u32>, wrap: &[&str], options: &[&str]) -> Self {
        let (backing, mountpoint) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let limit = descriptors.map_or(String::new(), |most| format!("ulimit -n {most}; "));
        let script = format!("{limit}exec \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh"]).args(wrap).args([env!("CARGO_BIN_EXE_stunfs"), "mount"]);
        command.arg(backing.path()).arg(mountpoint.path()).args(["--state", "none"]).args(options);
        command.stderr(Stdio::null());
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        let daemon = Self { child, backing, mountpoint };
        assert!(wait_until(Duration::from_secs(20), TICK, || is_mounted(daemon.path())));
        daemon
    }

    pub(crate) fn path(&self) -> &Path {
        self.mountpoint.path()
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        if !wait_until(Duration::from_secs(20), TICK, || self.child.try_wait().is_ok_and(|status| status.is_some())) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Where the kernel lets the limit be raised, all 30,000 are open at once; where it does not, the caller gets EMFILE,
/// and nothing else suffers.
#[test]
fn thirty_thousand_files_open_at_once_or_emfile() {
    crate::common::need_fuse!();
    let daemon = Daemon::start(None);
    fs::write(daemon.path().join("bystander"), "x").unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "limits::open_many", "--include-ignored", "--nocapture"])
        .env(OPEN_AT, daemon.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text} {}", String::from_utf8_lossy(&output.stderr));
    text.lines().filter(|line| line.contains("files open")).for_each(|line| println!("{line}"));
    // Closed again a moment after their user has ended.
    assert!(wait_until(SOON, TICK, || daemon.descriptors() < 20_000), "{} left", daemon.descriptors());
    assert_eq!(fs::read(daemon.path().join("bystander")).unwrap(), b"x");
    fs::write(daemon.path().join("new"), "x").unwrap();
}

#[test]
#[ignore = "opens all files that it may; another test starts it"]
fn open_many() {
    let Some(root) = std::env::var_os(OPEN_AT).map(PathBuf::from) else { return };
    raise_nofile_limit();
    let mut open = Vec::new();
    let error = loop {
        match File::create(root.join(open.len().to_string())) {
            Ok(file) => open.push(file),
            Err(error) => break Some(error),
        }
        if open.len() == 30_000 {
            break None;
        }
    };
    println!("{} files open at once, then {error:?}", open.len());
    let code = error.and_then(|error| error.raw_os_error());
    assert!(code.is_none_or(|code| [libc::EMFILE, libc::ENFILE].contains(&code)), "{code:?}");
    assert!(open.len() >= 30_000 || open.len() + 1000 > usize::try_from(raise_nofile_limit()).unwrap());
    fs::metadata(root.join("bystander")).unwrap();
}

#[test]
fn a_hundred_thousand_files_are_looked_at_with_two_thousand_descriptors() {
    crate::common::need_fuse!();
    let daemon = Daemon::start(Some(2000));
    for dir in 0..100 {
        let at = daemon.backing.path().join(dir.to_string());
        fs::create_dir(&at).unwrap();
        (0..1000).for_each(|n| drop(File::create(at.join(n.to_string())).unwrap()));
    }
    let look = |dir: u32, n: u32| assert!(fs::metadata(daemon.path().join(format!("{dir}/{n}"))).is_ok(), "{dir}/{n}");
    (0..100).for_each(|dir| (0..1000).for_each(|n| look(dir, n)));
    pause(Duration::from_millis(10));
    println!("{} descriptors for 100000 files", daemon.descriptors());
    assert!(daemon.descriptors() < 2000);
    (0..100).for_each(|dir| look(dir, 999 - dir));
    fs::write(daemon.path().join("7/7"), "x").unwrap();
}
