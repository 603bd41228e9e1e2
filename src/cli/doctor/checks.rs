//! What `doctor` looks at, one function each.
//!
//! Must not know: how findings are shown. Invariant: looking changes nothing (an empty control group comes and goes), and
//! nothing waits for long.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::path::PathBuf;

use rustix::process::{Resource, geteuid, getrlimit};
use rustix::system::uname;
use stunfs::internal::backing::{self, Favour};
use stunfs::internal::freeze::{self, FreezeKind, FreezeProbe};
use stunfs::internal::sys::process::TaskStatus;
use stunfs::internal::sys::{mountinfo, pm_qos, sysctl};

use super::{Check, CheckState};

/// Everything, what is needed first.
pub(super) fn all() -> Vec<Check> {
    let privileged = can_mount_by_itself();
    let mut checks = vec![dev_fuse(), rights(privileged), fusermount(privileged)];
    if !geteuid().is_root() {
        checks.push(allow_other());
    }
    checks.extend([kernel(), request_timeout(), open_files(), priority(), wake_latency(), fusectl()]);
    checks.push(loop_devices());
    checks.extend(freezing());
    checks.extend([kernel_log(), hung_tasks()]);
    checks.extend(TOOLS.map(|(program, purpose, package)| tool(program, purpose, package)));
    checks
}

/// Programs, what they are for, and their Debian packages.
const TOOLS: [(&str, &str, &str); 4] = [
    ("mkfs.xfs", "for XFS disks", "xfsprogs"),
    ("mkfs.ext4", "for ext4 disks", "e2fsprogs"),
    ("losetup", "for disks on loop devices", "mount"),
    ("qemu-system-x86_64", "for guests whose disk is on a volume", "qemu-system-x86"),
];

fn dev_fuse() -> Check {
    let check = match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        Ok(_) => Check::ok("/dev/fuse", "can be opened"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Check::missing(
            "/dev/fuse",
            "is not there",
            "modprobe fuse (in a container: run it with --device /dev/fuse)",
        ),
        Err(error) => Check::missing(
            "/dev/fuse",
            format!("cannot be opened: {error}"),
            "chmod 666 /dev/fuse (in a container: run it with --device /dev/fuse --cap-add SYS_ADMIN)",
        ),
    };
    check.required()
}

/// Whether this process has CAP_SYS_ADMIN, which mount(2) needs.
fn can_mount_by_itself() -> bool {
    const SYS_ADMIN: u32 = 21;
    let mask = TaskStatus::of_this_process().and_then(|status| status.mask("CapEff"));
    mask.is_some_and(|mask| mask >> SYS_ADMIN & 1 == 1)
}

fn rights(privileged: bool) -> Check {
    let root = geteuid().is_root();
    match (privileged, root) {
        (true, _) => Check::ok("rights", "may mount (CAP_SYS_ADMIN)"),
        (false, true) => {
            Check::missing("rights", "root, but without CAP_SYS_ADMIN", "run the container with --cap-add SYS_ADMIN")
                .required()
        }
        (false, false) => Check::limited(
            "rights",
            "mounts through fusermount3; --queue-depth and owners are limited",
            "sudo stunfs ...",
        ),
    }
}

fn fusermount(privileged: bool) -> Check {
    match find("fusermount3") {
        Some(path) => Check::ok("fusermount3", path.display().to_string()),
        None if privileged => {
            Check::limited("fusermount3", "is needed by users other than root only", "apt-get install fuse3")
        }
        None => Check::missing("fusermount3", "without it only root can mount", "apt-get install fuse3").required(),
    }
}

fn allow_other() -> Check {
    let conf = fs::read_to_string("/etc/fuse.conf").unwrap_or_default();
    if conf.lines().any(|line| line.trim() == "user_allow_other") {
        return Check::ok("user_allow_other", "--allow-other may be used");
    }
    let mend = "echo user_allow_other | sudo tee -a /etc/fuse.conf";
    Check::limited("user_allow_other", "--allow-other is refused to users other than root", mend)
}

fn kernel() -> Check {
    const TESTED: (u32, u32) = (5, 15);
    let uname = uname();
    let release = uname.release().to_string_lossy().into_owned();
    match version(&release) {
        Some(version) if version < TESTED => {
            let mend = "use a kernel from 5.15 on";
            Check::limited("kernel", format!("{release}; older than what stunfs is tested with"), mend)
        }
        _ => Check::ok("kernel", release),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Sites can make the kernel abort mounts whose requests take long.
fn request_timeout() -> Check {
    let limits = ["fs.fuse.default_request_timeout", "fs.fuse.max_request_timeout"]
        .map(|name| (name, sysctl::number::<u64>(name).unwrap_or(0)));
    match limits.iter().find(|(_, seconds)| *seconds > 0) {
        None => Check::ok("request timeout", "none: holds may last"),
        Some((name, seconds)) => Check::limited(
            "request timeout",
            format!("the kernel ends mounts that hold an operation for {seconds} s"),
            format!("sysctl {name}=0"),
        ),
    }
}

fn open_files() -> Check {
    const COMFORTABLE: u64 = 65_536;
    match getrlimit(Resource::Nofile).maximum {
        Some(most) if most < COMFORTABLE => Check::limited(
            "open files",
            format!("at most {most}; each file that is open on the volume takes one"),
            format!("ulimit -Hn {COMFORTABLE} as root (systemd: LimitNOFILE={COMFORTABLE})"),
        ),
        Some(most) => Check::ok("open files", format!("up to {most}")),
        None => Check::ok("open files", "without limit"),
    }
}

/// Whether a busy volume may keep idle processors awake (`--low-latency auto`).
fn wake_latency() -> Check {
    const NAME: &str = "wake latency";
    match pm_qos::can_request() {
        Ok(()) => Check::ok(
            NAME,
            "idle processors of the whole machine stay awake while requests come quickly (power); --low-latency off: never",
        ),
        Err(error) => Check::limited(
            NAME,
            format!("{}: {error}: small requests of one program are slower", pm_qos::DEVICE),
            "run it as root (container: --device /dev/cpu_dma_latency)",
        ),
    }
}

/// Tried on a thread of its own, which ends with it.
fn priority() -> Check {
    const NAME: &str = "priority";
    const MEND: &str =
        "run it as root, or: setcap cap_sys_nice+ep $(command -v stunfs) (container: --cap-add SYS_NICE)";
    match std::thread::spawn(backing::favour_this_thread).join() {
        Ok(Favour::RealTime) => Check::ok(NAME, "real-time class: releases are on time on a busy machine, too"),
        Ok(Favour::Nice) => {
            Check::limited(NAME, "only a better nice value: thousands of releases at once take longer", MEND)
        }
        _ => Check::limited(NAME, "none: on a busy machine releases are late", MEND),
    }
}

/// Where a wedged mount can be aborted.
fn fusectl() -> Check {
    if mountinfo::read().unwrap_or_default().iter().any(|mount| mount.fstype == "fusectl") {
        return Check::ok("fusectl", "is mounted: a wedged volume can be aborted");
    }
    let mend = "mount -t fusectl none /sys/fs/fuse/connections";
    Check::limited("fusectl", "is not mounted: a wedged volume cannot be aborted from outside", mend)
}

fn loop_devices() -> Check {
    let detail = "for thin disks with a file system of their own";
    match OpenOptions::new().read(true).write(true).open("/dev/loop-control") {
        Ok(_) => Check::ok("loop devices", detail),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Check::missing("loop devices", detail, "sudo stunfs ...")
        }
        Err(_) => Check::missing("loop devices", detail, "modprobe loop (in a container: run it with --privileged)"),
    }
}

/// What a stun can freeze here, tried out.
fn freezing() -> Vec<Check> {
    let (groups, others): (Vec<_>, Vec<_>) =
        freeze::probe().into_iter().partition(|probe| probe.kind == FreezeKind::Cgroup);
    let mut checks = vec![freeze_groups(&groups)];
    checks.extend(others.into_iter().filter_map(|probe| match probe.kind {
        FreezeKind::Cgroup => None,
        FreezeKind::Pid => {
            Some(freeze_check("freeze pid", "processes can be stopped", probe, "mount -t proc proc /proc"))
        }
        FreezeKind::Docker => Some(freeze_check(
            "freeze docker",
            "containers (and kind nodes) can be paused",
            probe,
            "apt-get install docker.io && service docker start",
        )),
        FreezeKind::Qmp => {
            Some(freeze_check("freeze qmp", "needs a QEMU with -qmp unix:SOCKET,server,nowait", probe, ""))
        }
    }));
    checks
}

/// One hierarchy that freezes is enough.
fn freeze_groups(groups: &[FreezeProbe]) -> Check {
    let name = |probe: &FreezeProbe| probe.version.map(|version| version.to_string()).unwrap_or_default();
    let working: Vec<_> = groups.iter().filter(|probe| probe.outcome.is_ok()).map(name).collect();
    if working.is_empty() {
        let failed = |probe: &FreezeProbe| Some(format!("{}: {}", name(probe), probe.outcome.as_ref().err()?));
        let why = groups.iter().filter_map(failed).collect::<Vec<_>>().join("; ");
        return Check::missing("freeze cgroup", why, "sudo stunfs ..., or mount -t cgroup2 none /sys/fs/cgroup");
    }
    Check::ok("freeze cgroup", working.join(", "))
}

fn freeze_check(name: &'static str, detail: &str, probe: FreezeProbe, mend: &str) -> Check {
    match probe.outcome {
        Ok(()) => Check::ok(name, detail),
        Err(why) => Check::missing(name, why.to_string(), mend),
    }
}

fn kernel_log() -> Check {
    match File::open("/dev/kmsg") {
        Ok(_) => Check::ok("/dev/kmsg", "hung-task and lockup reports can be read"),
        Err(_) => Check::missing(
            "/dev/kmsg",
            "hung-task and lockup reports cannot be read",
            "sysctl kernel.dmesg_restrict=0, or run as root",
        ),
    }
}

/// What `--hung-task-timeout` sets.
fn hung_tasks() -> Check {
    match sysctl::read("kernel.hung_task_timeout_secs") {
        Ok(seconds) if seconds == "0" => Check::limited(
            "hung tasks",
            "the kernel reports none",
            "--hung-task-timeout 5s, or sysctl kernel.hung_task_timeout_secs=120",
        ),
        Ok(seconds) => Check::ok("hung tasks", format!("are reported after {seconds} s")),
        Err(_) => Check::missing(
            "hung tasks",
            "this kernel does not report them",
            "use a kernel with CONFIG_DETECT_HUNG_TASK",
        ),
    }
}

fn tool(program: &'static str, purpose: &str, package: &str) -> Check {
    match find(program) {
        Some(path) => Check {
            name: program,
            state: CheckState::Ok,
            required: false,
            detail: path.display().to_string(),
            mend: None,
        },
        None => Check::missing(program, purpose, format!("apt-get install {package}")),
    }
}

/// The program in `$PATH`, or where administrators' programs lie.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    dirs.map(|dir| dir.join(OsStr::new(program))).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_are_read() {
        assert_eq!(version("6.18.5-arch1"), Some((6, 18)));
        assert_eq!(version("5.4"), Some((5, 4)));
        assert_eq!(version("x"), None);
    }
}
