//! A real virtual machine and a real container that count, where there are QEMU and docker.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use stunfs::internal::time::wait_until;

/// What booting may take on a busy machine.
const BOOT: Duration = Duration::from_secs(60);

/// A boot sector that sets the timer to 100 Hz and, at each tick, writes a letter to QEMU's debug console:
///
/// ```text
/// mov al,34h; out 43h,al; mov al,9Ch; out 40h,al; mov al,2Eh; out 40h,al; sti
/// next: hlt; mov al,'x'; out E9h,al; jmp next
/// ```
const COUNTS: [u8; 20] = [
    0xb0, 0x34, 0xe6, 0x43, 0xb0, 0x9c, 0xe6, 0x40, 0xb0, 0x2e, 0xe6, 0x40, 0xfb, 0xf4, 0xb0, 0x78, 0xe6, 0xe9, 0xeb,
    0xf9,
];

fn length(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |found| found.len())
}

/// A machine without a disk whose guest counts.
pub(crate) struct Machine {
    child: Child,
    /// The monitor that is frozen by.
    pub(crate) monitor: PathBuf,
    /// A second one: what QEMU itself says.
    other: PathBuf,
    count: PathBuf,
}

impl Machine {
    pub(crate) fn start(directory: &Path) -> Option<Self> {
        let file = |name: &str| directory.join(name);
        let mut sector = COUNTS.to_vec();
        sector.resize(510, 0);
        sector.extend([0x55, 0xaa]);
        sector.resize(1_474_560, 0);
        fs::write(file("floppy"), sector).unwrap();
        let monitor = |name: &str| format!("unix:{},server=on,wait=off", file(name).display());
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-accel", "tcg", "-m", "16", "-nodefaults", "-display", "none", "-no-reboot"]);
        command.arg("-drive").arg(format!("file={},format=raw,if=floppy,readonly=on", file("floppy").display()));
        command.arg("-debugcon").arg(format!("file:{}", file("guest-count").display()));
        command.arg("-qmp").arg(monitor("ours")).arg("-qmp").arg(monitor("theirs"));
        let Ok(child) = command.stdin(Stdio::null()).spawn() else {
            eprintln!("LEFT OUT: no qemu-system-x86_64");
            return None;
        };
        let machine = Self { child, monitor: file("ours"), other: file("theirs"), count: file("guest-count") };
        assert!(wait_until(BOOT, Duration::from_millis(20), || machine.count() > 0), "the guest does not count");
        Some(machine)
    }

    pub(crate) fn count(&self) -> u64 {
        length(&self.count)
    }

    /// Whether QEMU says that it runs.
    pub(crate) fn is_running(&self) -> bool {
        let mut stream = UnixStream::connect(&self.other).unwrap();
        stream.write_all(b"{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"query-status\"}\n").unwrap();
        let line = BufReader::new(stream).lines().map(Result::unwrap).find(|line| line.contains("\"status\"")).unwrap();
        assert!(line.contains("running\": true") || line.contains("paused"), "{line}");
        line.contains("running\": true")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A container that counts in a file of the host's. Its image is made here: no registry is asked.
pub(crate) struct Container {
    pub(crate) name: String,
    image: String,
    count: PathBuf,
}

impl Container {
    pub(crate) fn start(directory: &Path) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if docker(&["version", "--format", "{{.Server.Version}}"]).is_err() {
            eprintln!("LEFT OUT: no docker engine answers (DOCKER_HOST says where it is)");
            return None;
        }
        let places = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new);
        let is_static = |file: &&Path| Command::new("ldd").arg(file).output().is_ok_and(|it| !it.status.success());
        let Some(busybox) = places.into_iter().filter(|file| file.exists()).find(is_static) else {
            eprintln!("LEFT OUT: no statically linked busybox (package busybox-static)");
            return None;
        };
        let name = format!("stunfs-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let (tree, counts) = (directory.join("tree"), directory.join("counts"));
        fs::create_dir_all(tree.join("bin")).unwrap();
        fs::create_dir(&counts).unwrap();
        for as_name in ["sh", "busybox"] {
            fs::copy(busybox, tree.join("bin").join(as_name)).unwrap();
        }
        let archive = directory.join("image.tar");
        assert!(Command::new("tar").arg("-C").arg(&tree).arg("-cf").arg(&archive).arg(".").status().unwrap().success());
        docker(&["import", archive.to_str().unwrap(), &name]).unwrap();
        let container = Self { image: name.clone(), name, count: counts.join("n") };
        let shared = format!("{}:/counts", counts.display());
        let script = "while printf x >>/counts/n; do /bin/busybox sleep 0.01; done";
        let run = ["run", "--detach", "--network", "none", "--name", &container.name, "--volume", &shared];
        docker(&[&run[..], &[&container.image, "/bin/sh", "-c", script]].concat()).unwrap();
        assert!(wait_until(BOOT, Duration::from_millis(20), || container.count() > 0), "the container does not count");
        Some(container)
    }

    pub(crate) fn count(&self) -> u64 {
        length(&self.count)
    }

    /// Whether the engine says that it is paused.
    pub(crate) fn is_paused(&self) -> bool {
        docker(&["inspect", "--format", "{{.State.Paused}}", &self.name]).unwrap() == "true"
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // An engine does not remove a paused one; if it is not paused, that is as well.
        let _ = docker(&["unpause", &self.name]);
        let _ = docker(&["rm", "--force", &self.name]);
        let _ = docker(&["rmi", &self.image]);
    }
}

/// What `docker` says, or why it does not do it.
fn docker(args: &[&str]) -> Result<String, String> {
    let output = Command::new("docker").args(args).stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}
