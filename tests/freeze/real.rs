//! The real QEMU and the real docker, where there are any.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use stunfs::freeze::{FreezeSet, FreezeTarget, Surroundings, execute_raw};
use stunfs::time::{pause, wait_until};

use crate::support::{ROUNDS, around, soon, watchdog};

struct Qemu {
    child: Child,
    ours: PathBuf,
    /// A second monitor: what QEMU itself says.
    theirs: PathBuf,
}

impl Qemu {
    fn start(directory: &Path) -> Option<Self> {
        let (ours, theirs) = (directory.join("ours"), directory.join("theirs"));
        let monitor = |path: &Path| format!("unix:{},server=on,wait=off", path.display());
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-nodefaults", "-display", "none", "-machine", "none"]);
        command.arg("-qmp").arg(monitor(&ours)).arg("-qmp").arg(monitor(&theirs)).stdin(Stdio::null());
        let Ok(child) = command.spawn() else {
            eprintln!("LEFT OUT: no qemu-system-x86_64");
            return None;
        };
        let qemu = Self { child, ours, theirs };
        let there = || UnixStream::connect(&qemu.theirs).is_ok();
        assert!(wait_until(Duration::from_secs(20), Duration::from_millis(20), there), "QEMU does not answer");
        Some(qemu)
    }

    fn status(&self) -> String {
        let mut stream = UnixStream::connect(&self.theirs).unwrap();
        stream.write_all(b"{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"query-status\"}\n").unwrap();
        BufReader::new(stream).lines().map(Result::unwrap).find(|line| line.contains("\"status\"")).unwrap()
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_real_qemu() {
    let (_watchdog, directory) = (watchdog(), tempfile::tempdir().unwrap());
    let Some(qemu) = Qemu::start(directory.path()) else { return };
    let mut set = FreezeSet::open_in(&[FreezeTarget::Qmp(qemu.ours.clone())], around()).unwrap();
    for round in 0..ROUNDS {
        assert!(qemu.status().contains("running\": true"), "{}", qemu.status());
        set.freeze(soon()).unwrap();
        assert!(qemu.status().contains("paused"), "{}", qemu.status());
        if round % 2 == 1 {
            set.recipes().iter().for_each(|recipe| execute_raw(recipe.as_raw()).unwrap());
            assert!(qemu.status().contains("running\": true"), "{}", qemu.status());
        }
        set.thaw(soon()).unwrap();
    }
    set.freeze(soon()).unwrap();
    drop(qemu);
    set.thaw(soon()).unwrap();
}

/// `STUNFS_TEST_CONTAINER` names a running container that is never idle for 0.3 s and may be paused; `DOCKER_HOST` its engine.
#[test]
fn the_real_docker() {
    let _watchdog = watchdog();
    let Ok(name) = std::env::var("STUNFS_TEST_CONTAINER") else {
        eprintln!("LEFT OUT: STUNFS_TEST_CONTAINER does not name a container that may be paused");
        return;
    };
    let inspect = |what: &str| {
        let output = Command::new("docker").args(["inspect", "-f", what, &name]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let paused = || inspect("{{.State.Paused}}") == "true";
    let status = format!("/proc/{}/status", inspect("{{.State.Pid}}"));
    let moves = || {
        let switches = || std::fs::read_to_string(&status).unwrap().split_once("voluntary_ctxt").unwrap().1.to_owned();
        let before = switches();
        pause(Duration::from_millis(300));
        switches() != before
    };
    let target = FreezeTarget::Docker(name.clone());
    let mut set = FreezeSet::open_in(&[target], Surroundings::from_env()).unwrap();
    for round in 0..ROUNDS {
        set.freeze(soon()).unwrap();
        assert!(paused() && !moves());
        if round % 2 == 1 {
            set.recipes().iter().for_each(|recipe| execute_raw(recipe.as_raw()).unwrap());
            assert!(!paused());
        }
        set.thaw(soon()).unwrap();
        assert!(!paused() && moves());
    }
}
