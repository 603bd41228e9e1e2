//! The process that froze is killed with SIGKILL; a child that it forked before carries out the actions.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::{IntoRawFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use stunfs::internal::freeze::{
    FreezeSet, FreezeTarget, RawUndoAction, Surroundings, UndoAction, UndoLog, execute_raw,
};
use stunfs::internal::time::{pause, wait_until};

use crate::fakes::{Engine, Manners, Qemu};
use crate::support::{Counter, Group, ROUNDS, V1, around, pid, signal, soon, v2, watchdog};

/// The directory in which the killed process reports; set for that process only.
const ROLE: &str = "STUNFS_TEST_FREEZER";

/// Not a test of its own: what the process does that is killed. It freezes each line of `targets`, over and over.
#[test]
fn role_freezer() {
    let Some(directory) = std::env::var_os(ROLE) else { return };
    let directory = Path::new(&directory);
    let mut guard = start_guard(&directory.join("guard"));
    let lines = fs::read_to_string(directory.join("targets")).unwrap();
    let targets: Vec<FreezeTarget> = lines.lines().map(|line| line.parse().unwrap()).collect();
    let around = Surroundings { engines: vec![directory.join("engine.sock")], ..around() };
    let mut set = FreezeSet::open_in(&targets, around).unwrap();
    File::create(directory.join("opened")).unwrap();
    set.freeze_armed(soon(), &mut |action| writeln!(guard, "{action}")).unwrap();
    File::create(directory.join("frozen")).unwrap();
    pause(Duration::from_secs(60));
    panic!("the parent did not kill this process");
}

/// Forks a child that waits for the end of the pipe and then thaws. It neither allocates nor locks: this process has
/// threads.
fn start_guard(report: &Path) -> File {
    let report = File::create(report).unwrap();
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let mut ledger = UndoLog::with_capacity(1 << 20);
    // SAFETY: the child does system calls only, on what was made before, and never returns.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: the child's copy is closed here and nowhere else; it does not return.
            unsafe { libc::close(write.into_raw_fd()) };
            thaw_when_closed(&read, &report, &mut ledger)
        }
        child => assert!(child > 0),
    }
    File::from(write)
}

fn thaw_when_closed(pipe: &OwnedFd, report: &File, ledger: &mut UndoLog) -> ! {
    let (mut line, mut length) = ([0; 4096], 0);
    while let Ok(1) = rustix::io::read(pipe, &mut line[length..=length]) {
        if line[length] == b'\n' {
            ledger.note(&line[..length]);
            length = 0;
        } else {
            length += 1;
        }
    }
    let done: &[u8] = if ledger.execute() == 0 { b"all thawed\n" } else { b"some failed\n" };
    let _ = rustix::io::write(report, done);
    // SAFETY: ends the child without running anything of its parent's.
    unsafe { libc::_exit(0) }
}

/// What the killed process freezes: one of each kind that this machine has.
struct Victims {
    counters: Vec<Counter>,
    _groups: Vec<Group>,
    _engine: Engine,
    _qemu: Qemu,
    directory: tempfile::TempDir,
}

impl Victims {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let groups: Vec<_> = [V1, v2()].into_iter().filter_map(Group::new).collect();
        let busy = || Counter::run(directory.path(), r#"while printf x >>"$0"; do sleep 0.01; done"#);
        let mut counters: Vec<_> = groups.iter().map(|_| busy()).collect();
        groups.iter().zip(&counters).for_each(|(group, counter)| group.put(counter.id()));
        let (tree, contained, virtual_one) = (Counter::start_tree(directory.path()), busy(), busy());
        let engine = Engine::start(directory.path(), contained.id(), Manners::Good);
        let qemu = Qemu::start(directory.path(), virtual_one.id(), Manners::Good);
        let mut targets: Vec<_> = groups.iter().map(Group::target).collect();
        targets.push(FreezeTarget::Pid(pid(tree.id())));
        targets.push("docker:web".parse().unwrap());
        targets.push(FreezeTarget::Qmp(qemu.socket.clone()));
        counters.extend([tree, contained, virtual_one]);
        let targets: String = targets.iter().map(|target| format!("{target}\n")).collect();
        fs::write(directory.path().join("targets"), targets).unwrap();
        Self { directory, counters, _groups: groups, _engine: engine, _qemu: qemu }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn start_freezer(&self) -> Child {
        for name in ["opened", "frozen", "guard"] {
            let _ = fs::remove_file(self.file(name));
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "killed::role_freezer", "--nocapture"]).env(ROLE, self.directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
    }

    fn await_file(&self, name: &str) {
        let there = wait_until(Duration::from_secs(20), Duration::from_millis(1), || self.file(name).exists());
        assert!(there, "the freezing process did not get to '{name}'");
    }

    /// The guard has ended and everything goes on.
    fn assert_thawed(&self) {
        let report = || fs::read_to_string(self.file("guard")).unwrap_or_default();
        let ended = wait_until(Duration::from_secs(40), Duration::from_millis(5), || report().ends_with('\n'));
        assert!(ended && report() == "all thawed\n", "the guard's report: {}", report());
        self.counters.iter().for_each(Counter::assert_moves);
    }
}

fn kill(mut freezer: Child) {
    signal(freezer.id(), Signal::KILL);
    freezer.wait().unwrap();
}

#[test]
fn killed_while_everything_is_frozen() {
    let (_watchdog, victims) = (watchdog(), Victims::start());
    for _ in 0..ROUNDS {
        let freezer = victims.start_freezer();
        victims.await_file("frozen");
        victims.counters.iter().for_each(Counter::assert_still);
        kill(freezer);
        victims.assert_thawed();
    }
}

#[test]
fn killed_in_the_middle_of_freezing() {
    let (_watchdog, victims) = (watchdog(), Victims::start());
    for round in 0..ROUNDS {
        let freezer = victims.start_freezer();
        victims.await_file("opened");
        pause(Duration::from_millis(3 * u64::try_from(round).unwrap()));
        kill(freezer);
        victims.assert_thawed();
    }
}

#[test]
fn a_process_id_that_was_reused_is_not_touched() {
    let (_watchdog, directory) = (watchdog(), tempfile::tempdir().unwrap());
    let counter = Counter::run(directory.path(), r#"while printf x >>"$0"; do :; done"#);
    let mut set = FreezeSet::open_in(&[FreezeTarget::Pid(pid(counter.id()))], around()).unwrap();
    set.freeze(soon()).unwrap();
    let UndoAction::Cont { pid, start } = set.actions()[0] else { panic!("{:?}", set.actions()) };
    execute_raw(RawUndoAction::Cont { pid, start: start + 1 }).unwrap();
    counter.assert_still();
    execute_raw(RawUndoAction::Cont { pid, start }).unwrap();
    counter.assert_moves();
}
