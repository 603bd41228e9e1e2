//! Every kind of target through a mounted volume, and every ending: frozen for real before, and nothing frozen after.
//!
//! `STUNFS_FREEZE_TIMES` says how often each (`tests/freeze-matrix.sh` makes the table).

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use stunfs::internal::freeze::FreezeTarget;
use stunfs::internal::time::{Clock, SimTime, pause, wait_until};

use crate::common::{need_fuse, state_of};
use crate::daemon::Daemon;
use crate::machines::{Container, Machine};
use crate::support::{Counter, Group, V1, pid, signal, v2, watchdog_of};

/// How often each ending.
const TIMES: u32 = 1;
/// All counters count about every 10 ms.
const STILL: Duration = Duration::from_millis(100);
const SOON: Duration = Duration::from_secs(10);

/// What ends a stun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Resume,
    MaxHold,
    Ttl,
    Release,
    Signal(Signal),
    KilledWhileItFreezes,
}

const ENDINGS: [(&str, Ending); 8] = [
    ("resume", Ending::Resume),
    ("max-hold", Ending::MaxHold),
    ("ttl", Ending::Ttl),
    ("SIGTERM", Ending::Signal(Signal::TERM)),
    ("SIGINT", Ending::Signal(Signal::INT)),
    ("release", Ending::Release),
    ("SIGKILL", Ending::Signal(Signal::KILL)),
    ("SIGKILL during stun", Ending::KilledWhileItFreezes),
];

/// Something that counts, how to freeze it, and what the program that froze it says.
struct Row<'a, T> {
    name: &'static str,
    target: FreezeTarget,
    victim: &'a T,
    count: fn(&T) -> u64,
    is_frozen: fn(&T) -> bool,
    directory: &'a Path,
}

/// Whether it does not count for a while.
pub(crate) fn stands_still(count: &dyn Fn() -> u64) -> bool {
    let before = count();
    pause(STILL);
    count() == before
}

/// How long until it counts, if it does.
pub(crate) fn moves(count: &dyn Fn() -> u64) -> Option<Duration> {
    let (before, clock) = (count(), Clock::start());
    let moved = wait_until(SOON, Duration::from_millis(1), || count() > before);
    moved.then(|| clock.now().since(SimTime::ZERO))
}

impl<T> Row<'_, T> {
    /// One stun and its end; how long it took to go on, or what was wrong.
    fn once(&self, ending: Ending, part: f64) -> Result<Duration, String> {
        let options: &[&str] = match ending {
            Ending::MaxHold => &["--max-hold", "1500ms"],
            Ending::Ttl => &["--ttl", "5s"],
            _ => &[],
        };
        let mut daemon = Daemon::freezing(self.directory, std::slice::from_ref(&self.target), options);
        let count = || (self.count)(self.victim);
        moves(&count).ok_or("it did not count before")?;
        if ending == Ending::KilledWhileItFreezes {
            let mut stun = daemon.ctl("stun").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            // From before it has begun until after it is done.
            pause(Duration::from_millis(60).mul_f64(part));
            signal(daemon.id(), Signal::KILL);
            stun.wait().unwrap();
        } else {
            daemon.stun();
            if !stands_still(&count) {
                return Err("it is not frozen".to_owned());
            }
        }
        match ending {
            Ending::Resume => daemon.told("resume"),
            Ending::Release => daemon.told("release"),
            Ending::Signal(which) => signal(daemon.id(), which),
            // No process does anything.
            Ending::MaxHold | Ending::Ttl | Ending::KilledWhileItFreezes => {}
        }
        let went_on = moves(&count).ok_or("it stays frozen")?;
        signal(daemon.id(), Signal::TERM);
        daemon.assert_gone();
        if (self.is_frozen)(self.victim) { Err("its state says frozen".to_owned()) } else { Ok(went_on) }
    }

    /// All endings, and a line of a table.
    fn run(&self) {
        let times = std::env::var("STUNFS_FREEZE_TIMES").ok().and_then(|times| times.parse().ok()).unwrap_or(TIMES);
        let _watchdog = watchdog_of(Duration::from_secs(60 + 40 * u64::from(times)));
        let (mut line, mut wrong) = (format!("| {} |", self.name), Vec::new());
        for (name, ending) in ENDINGS {
            let (mut went_well, mut slowest) = (0, Duration::ZERO);
            for round in 0..times {
                match self.once(ending, (f64::from(round) + 0.5) / f64::from(times)) {
                    Ok(took) => (went_well, slowest) = (went_well + 1, slowest.max(took)),
                    Err(why) => wrong.push(format!("{name}, round {round}: {why}")),
                }
            }
            line.push_str(&format!(" {went_well}/{times}, {} ms |", slowest.as_millis()));
        }
        println!("{line}");
        assert!(wrong.is_empty(), "{}: {wrong:?}", self.name);
    }
}

fn group(name: &'static str, root: &str) {
    need_fuse!();
    let Some(group) = Group::new(root) else { return };
    let directory = tempfile::tempdir().unwrap();
    let counter = Counter::start(directory.path());
    group.put(counter.id());
    assert!(!is_frozen(&group));
    let victim = &(counter, group);
    let row = Row {
        name,
        target: victim.1.target(),
        victim,
        count: |victim| victim.0.count(),
        is_frozen: |victim| is_frozen(&victim.1),
        directory: directory.path(),
    };
    row.run();
}

fn is_frozen(group: &Group) -> bool {
    let state = |file: &str| fs::read_to_string(group.0.join(file)).unwrap_or_default();
    !matches!(state("freezer.state").trim(), "THAWED" | "") || state("cgroup.freeze").trim() == "1"
}

#[test]
fn cgroup_v1() {
    group("cgroup v1", V1);
}

#[test]
fn cgroup_v2() {
    group("cgroup v2", v2());
}

#[test]
fn process_tree() {
    need_fuse!();
    let directory = tempfile::tempdir().unwrap();
    let counter = Counter::start_tree(directory.path());
    let target = FreezeTarget::Pid(pid(counter.id()));
    let is_frozen = |counter: &Counter| state_of(counter.id()) == Some('T');
    let (victim, directory) = (&counter, directory.path());
    Row { name: "pid", target, victim, count: Counter::count, is_frozen, directory }.run();
}

#[test]
fn docker_container() {
    need_fuse!();
    let directory = tempfile::tempdir().unwrap();
    let Some(container) = Container::start(directory.path()) else { return };
    let target = FreezeTarget::Docker(container.name.clone());
    let (victim, directory) = (&container, directory.path());
    Row { name: "docker", target, victim, count: Container::count, is_frozen: Container::is_paused, directory }.run();
}

#[test]
fn qemu_machine() {
    need_fuse!();
    let directory = tempfile::tempdir().unwrap();
    let Some(machine) = Machine::start(directory.path()) else { return };
    let target = FreezeTarget::Qmp(machine.monitor.clone());
    let is_frozen = |machine: &Machine| !machine.is_running();
    let (victim, directory) = (&machine, directory.path());
    Row { name: "qmp", target, victim, count: Machine::count, is_frozen, directory }.run();
}
