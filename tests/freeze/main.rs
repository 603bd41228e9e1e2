//! Freezes real processes: counters stand still while they are frozen and go on afterwards, whatever ends it.
//!
//! Needs root and control groups that can freeze; where the machine lacks something, the test says LEFT OUT.

#![expect(clippy::unwrap_used, reason = "a test that meets an error it does not expect fails")]

#[path = "../common/mod.rs"]
mod common;
mod daemon;
mod fakes;
mod held;
mod killed;
mod machines;
mod matrix;
mod real;
mod support;
mod volume;

use std::io;
use std::path::Path;
use std::time::Duration;

use fakes::{Engine, Manners, Qemu};
use rustix::process::{Signal, getpid};
use stunfs::internal::freeze::{FreezeError, FreezeSet, FreezeTarget, Surroundings, probe};
use stunfs::internal::sys::cgroup::CgroupVersion;
use stunfs::internal::time::{Deadline, wait_until};
use support::{Counter, Group, ROUNDS, V1, around, pid, signal, soon, v2, watchdog};

fn target(text: &str) -> FreezeTarget {
    text.parse().unwrap()
}

fn open(target: FreezeTarget) -> FreezeSet {
    FreezeSet::open_in(&[target], around()).unwrap()
}

fn refused(target: FreezeTarget, around: Surroundings) -> String {
    let error = FreezeSet::open_in(&[target], around).unwrap_err();
    assert!(matches!(error, FreezeError::Refused { .. }), "{error}");
    let line = error.to_string();
    assert!(!line.contains('\n'), "{line}");
    line
}

/// Frozen and thawed again and again; each time it stands still and goes on.
fn freeze_again_and_again(set: &mut FreezeSet, counters: &[&Counter]) {
    for _ in 0..ROUNDS {
        counters.iter().for_each(|counter| counter.assert_moves());
        set.freeze(soon()).unwrap();
        assert!(set.is_frozen() && !set.actions().is_empty());
        set.freeze(soon()).unwrap();
        counters.iter().for_each(|counter| counter.assert_still());
        set.thaw(soon()).unwrap();
        assert!(!set.is_frozen() && set.actions().is_empty());
        set.thaw(soon()).unwrap();
    }
    counters.iter().for_each(|counter| counter.assert_moves());
}

fn a_tree_of_groups(root: &str) {
    let Some(top) = Group::new(root) else { return };
    let (_watchdog, directory) = (watchdog(), tempfile::tempdir().unwrap());
    let below = top.child("below");
    let bottom = below.child("bottom");
    let counters = [&top, &below, &bottom].map(|group| {
        let counter = Counter::start(directory.path());
        group.put(counter.id());
        counter
    });
    freeze_again_and_again(&mut open(top.target()), &[&counters[0], &counters[1], &counters[2]]);

    // Only what is below stands still, and a name that is relative to the hierarchy means the same group.
    let name = below.0.strip_prefix(root).unwrap().display().to_string();
    for name in [name.clone(), format!("/{name}")] {
        let mut set = open(target(&format!("cgroup:{name}")));
        set.freeze(soon()).unwrap();
        counters[0].assert_moves();
        counters[1].assert_still();
        counters[2].assert_still();
        set.thaw(soon()).unwrap();
        counters[2].assert_moves();
    }

    // Frozen from above by another process: ours ends, theirs stays.
    let (mut theirs, mut ours) = (open(top.target()), open(below.target()));
    ours.freeze(soon()).unwrap();
    theirs.freeze(soon()).unwrap();
    ours.thaw(soon()).unwrap();
    counters[1].assert_still();
    theirs.thaw(soon()).unwrap();
    counters[1].assert_moves();

    // Frozen by another process: it counts as frozen, and is not thawed.
    let mut late = open(top.target());
    theirs.freeze(soon()).unwrap();
    late.freeze(soon()).unwrap();
    assert!(late.actions().is_empty());
    late.thaw(soon()).unwrap();
    counters[0].assert_still();
    drop(theirs);
    counters[0].assert_moves();
    drop(counters);
}

#[test]
fn cgroup_v1_with_everything_below_it() {
    a_tree_of_groups(V1);
}

#[test]
fn cgroup_v2_with_everything_below_it() {
    a_tree_of_groups(v2());
}

#[test]
fn a_process_with_children_that_come_and_go() {
    let (_watchdog, directory) = (watchdog(), tempfile::tempdir().unwrap());
    let counter = Counter::start_tree(directory.path());
    freeze_again_and_again(&mut open(FreezeTarget::Pid(pid(counter.id()))), &[&counter]);
}

#[test]
fn a_process_that_another_one_stopped_stays_stopped() {
    let (_watchdog, directory) = (watchdog(), tempfile::tempdir().unwrap());
    let counter = Counter::run(directory.path(), r#"while printf x >>"$0"; do :; done"#);
    let mut set = open(FreezeTarget::Pid(pid(counter.id())));
    signal(counter.id(), Signal::STOP);
    assert!(wait_until(Duration::from_secs(5), Duration::from_millis(1), || {
        std::fs::read_to_string(format!("/proc/{}/stat", counter.id())).unwrap().contains(") T ")
    }));
    set.freeze(soon()).unwrap();
    assert!(set.actions().is_empty());
    set.thaw(soon()).unwrap();
    counter.assert_still();
    signal(counter.id(), Signal::CONT);
    counter.assert_moves();
}

#[test]
fn a_spared_process_goes_on_while_its_parent_is_frozen() {
    let (_watchdog, directory) = (watchdog(), tempfile::tempdir().unwrap());
    let script = r#"sh -c 'echo $$ >"$0.pid"; while printf y >>"$0.spared"; do sleep 0.01; done' "$0" &
                    while printf x >>"$0"; do sleep 0.01; done"#;
    let counter = Counter::run(directory.path(), script);
    let find = |end: &str| {
        let mut files = std::fs::read_dir(directory.path()).unwrap().flatten().map(|entry| entry.path());
        files.find(|path| path.to_str().unwrap().ends_with(end))
    };
    let written = || find(".pid").and_then(|file| std::fs::read_to_string(file).ok()?.trim().parse::<u32>().ok());
    assert!(wait_until(Duration::from_secs(10), Duration::from_millis(5), || written().is_some()));
    let mut set = open(FreezeTarget::Pid(pid(counter.id())));
    set.spare(pid(written().unwrap()));
    set.freeze(soon()).unwrap();
    counter.assert_still();
    // Its `sleep` is frozen like the rest of the tree, so it gets no further than that; it is itself not stopped.
    let state = std::fs::read_to_string(format!("/proc/{}/stat", written().unwrap())).unwrap();
    assert!(!state.contains(") T "), "{state}");
    set.thaw(soon()).unwrap();
    counter.assert_moves();
}

#[test]
fn a_container_over_http() {
    let (_watchdog, directory) = (watchdog(), tempfile::tempdir().unwrap());
    let counter = Counter::run(directory.path(), r#"while printf x >>"$0"; do :; done"#);
    let engine = Engine::start(directory.path(), counter.id(), Manners::Good);
    let around = Surroundings { engines: vec!["/nonexistent/docker.sock".into(), engine.socket.clone()], ..around() };
    let mut set = FreezeSet::open_in(&[target("docker:web")], around.clone()).unwrap();
    freeze_again_and_again(&mut set, &[&counter]);

    engine.container.set(true);
    set.freeze(soon()).unwrap();
    set.thaw(soon()).unwrap();
    assert!(engine.container.is_paused(), "another client had paused it");
    engine.container.set(false);
    assert!(refused(target("docker:db"), around).contains("No such container"));
}

#[test]
fn an_engine_that_lies_or_does_not_answer_is_found_out() {
    let _watchdog = watchdog();
    for manners in [Manners::Lies, Manners::Mute] {
        let directory = tempfile::tempdir().unwrap();
        let counter = Counter::run(directory.path(), r#"while printf x >>"$0"; do :; done"#);
        let engine = Engine::start(directory.path(), counter.id(), manners);
        let around = Surroundings { engines: vec![engine.socket.clone()], ..around() };
        let mut set = FreezeSet::open_in(&[target("docker:web")], around).unwrap();
        let error = set.freeze(Deadline::after(Duration::from_secs(1))).unwrap_err();
        assert!(matches!(error, FreezeError::NotFrozen { .. }), "{error}");
        assert!(!set.is_frozen() && !engine.container.is_paused());
        counter.assert_moves();
    }
}

/// As runc does on a busy machine: seen once in 160 stuns.
#[test]
fn an_engine_that_fails_at_first_is_asked_again() {
    let (_watchdog, directory) = (watchdog(), tempfile::tempdir().unwrap());
    let counter = Counter::run(directory.path(), r#"while printf x >>"$0"; do :; done"#);
    let engine = Engine::start(directory.path(), counter.id(), Manners::Clumsy);
    let around = Surroundings { engines: vec![engine.socket.clone()], ..around() };
    let mut set = FreezeSet::open_in(&[target("docker:web")], around).unwrap();
    set.freeze(soon()).unwrap();
    assert_eq!(engine.container.attempts.load(std::sync::atomic::Ordering::SeqCst), 4);
    counter.assert_still();
    set.thaw(soon()).unwrap();
    counter.assert_moves();
}

#[test]
fn a_machine_over_qmp() {
    let (_watchdog, directory) = (watchdog(), tempfile::tempdir().unwrap());
    let counter = Counter::run(directory.path(), r#"while printf x >>"$0"; do :; done"#);
    let qemu = Qemu::start(directory.path(), counter.id(), Manners::Good);
    let mut set = open(FreezeTarget::Qmp(qemu.socket.clone()));
    freeze_again_and_again(&mut set, &[&counter]);

    qemu.machine.set(true);
    set.freeze(soon()).unwrap();
    set.thaw(soon()).unwrap();
    assert!(qemu.machine.is_paused(), "another client had stopped it");
    qemu.machine.set(false);
}

#[test]
fn a_machine_that_lies_or_does_not_answer_is_found_out() {
    let _watchdog = watchdog();
    for manners in [Manners::Lies, Manners::Mute] {
        let directory = tempfile::tempdir().unwrap();
        let counter = Counter::run(directory.path(), r#"while printf x >>"$0"; do :; done"#);
        let qemu = Qemu::start(directory.path(), counter.id(), manners);
        let mut set = open(FreezeTarget::Qmp(qemu.socket.clone()));
        let error = set.freeze(Deadline::after(Duration::from_secs(1))).unwrap_err();
        assert!(matches!(error, FreezeError::NotFrozen { .. }), "{error}");
        assert!(!set.is_frozen() && !qemu.machine.is_paused());
        counter.assert_moves();
    }
}

#[test]
fn a_monitor_that_serves_another_client_is_refused_in_time() {
    let (_watchdog, directory) = (watchdog(), tempfile::tempdir().unwrap());
    let socket = directory.path().join("silent.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let line = refused(FreezeTarget::Qmp(socket), around());
    assert!(line.contains("does another client hold the socket?"), "{line}");
}

#[test]
fn dropping_the_set_thaws() {
    let Some(group) = Group::new(V1).or_else(|| Group::new(v2())) else { return };
    let (_watchdog, directory) = (watchdog(), tempfile::tempdir().unwrap());
    let (one, two) = (Counter::start(directory.path()), Counter::start_tree(directory.path()));
    group.put(one.id());
    let mut set = FreezeSet::open_in(&[group.target(), FreezeTarget::Pid(pid(two.id()))], around()).unwrap();
    set.freeze(soon()).unwrap();
    one.assert_still();
    two.assert_still();
    drop(set);
    one.assert_moves();
    two.assert_moves();
    drop((one, two));
}

#[test]
fn if_one_is_not_frozen_all_are_thawed() {
    let Some(group) = Group::new(V1).or_else(|| Group::new(v2())) else { return };
    let (_watchdog, directory) = (watchdog(), tempfile::tempdir().unwrap());
    let (one, two) = (Counter::start(directory.path()), Counter::start(directory.path()));
    group.put(one.id());
    let mut set = FreezeSet::open_in(&[group.target(), FreezeTarget::Pid(pid(two.id()))], around()).unwrap();
    // The guard dies in between.
    let mut armed = Vec::new();
    let error = set.freeze_armed(soon(), &mut |action| {
        armed.push(action.to_string());
        if armed.len() == 1 { Ok(()) } else { Err(io::Error::from(io::ErrorKind::BrokenPipe)) }
    });
    assert!(error.unwrap_err().to_string().contains("the guard does not answer"));
    assert!(armed[0].starts_with("thaw-write ") && armed[1].starts_with(&format!("thaw-cont {} ", two.id())));
    one.assert_moves();
    two.assert_moves();
    // It is gone in between.
    drop(two);
    assert!(set.freeze(soon()).unwrap_err().to_string().contains("gone"));
    one.assert_moves();
    drop(one);
}

#[test]
fn what_must_not_or_cannot_be_frozen_is_refused() {
    let line = refused(target("pid:1"), around());
    assert!(line.starts_with("cannot freeze pid:1: ") && line.contains("process 1"), "{line}");
    assert!(refused(FreezeTarget::Pid(getpid()), around()).contains("stunfs itself"));
    assert!(refused(target("pid:2147483647"), around()).contains("no such process"));
    if Path::new("/proc/2/stat").exists() {
        assert!(refused(target("pid:2"), around()).contains("thread of the kernel"));
    }
    assert!(refused(target("cgroup:no/such/group"), around()).contains("no such control group"));
    assert!(refused(target("cgroup:/tmp"), around()).contains("no such control group"));
    assert!(refused(target("cgroup:/sys/fs/cgroup/../../../tmp"), around()).contains("no such control group"));
    assert!(refused(target("docker:web"), around()).contains("no engine has this container"));
    let nowhere = Surroundings { engines: vec!["/nonexistent/docker.sock".into()], ..around() };
    assert!(refused(target("docker:web"), nowhere).contains("/nonexistent/docker.sock: No such file"));
    let tcp = Surroundings { engines: vec!["tcp://127.0.0.1:2375".into()], ..around() };
    assert!(refused(target("docker:web"), tcp).contains("unix://"));
    assert!(refused(target("qmp:/nonexistent/qmp"), around()).contains("No such file"));
}

#[test]
fn a_group_that_holds_the_guard_is_refused() {
    let (_watchdog, directory) = (watchdog(), tempfile::tempdir().unwrap());
    for root in [V1, v2()] {
        assert!(refused(target(&format!("cgroup:{root}")), around()).contains("root"));
        let Some(group) = Group::new(root) else { continue };
        let below = group.child("below");
        let guard = Counter::start(directory.path());
        below.put(guard.id());
        let spared = Surroundings { spared: vec![pid(guard.id())], ..around() };
        let line = refused(group.target(), spared);
        assert!(line.contains(&format!("it holds process {}", guard.id())), "{line}");

        // Moved in after it was opened: looked at again before it is frozen.
        let mut set = open(group.target());
        set.spare(pid(guard.id()));
        assert!(set.freeze(soon()).unwrap_err().to_string().contains("it holds process"));
        guard.assert_moves();
        drop(guard);
    }
}

#[test]
fn a_group_of_another_controller_is_refused() {
    let path = Path::new("/sys/fs/cgroup/pids");
    if Path::new(V1).exists() && path.exists() {
        assert!(refused(target("cgroup:/sys/fs/cgroup/pids"), around()).contains("not in the freezer's hierarchy"));
    }
}

#[test]
fn the_probe_tells_of_each_kind() {
    let probed = probe();
    assert_eq!(probed.len(), 5);
    for found in &probed {
        eprintln!("{found:?}");
        assert!(found.outcome.as_ref().err().is_none_or(|why| !why.to_string().contains('\n')));
    }
    let groups = |version| &probed.iter().find(|found| found.version == Some(version)).unwrap().outcome;
    if Group::new(V1).is_some() {
        groups(CgroupVersion::V1).as_ref().unwrap();
    }
    if Group::new(v2()).is_some() {
        groups(CgroupVersion::V2).as_ref().unwrap();
    }
}
