//! A mounted volume freezes for every kind of stun, and whatever ends the stun thaws.

use std::fs;
use std::time::Duration;

use stunfs::Volume;
use stunfs::internal::freeze::FreezeTarget;
use stunfs::internal::model::{Latency, StunTrigger};
use stunfs::internal::telemetry::event::EventBody;
use stunfs::internal::time::wait_until;
use stunfs::internal::volume::VolumeBuilder;

use crate::common::need_fuse;
use crate::support::{Counter, Group, ROUNDS, V1, pid, v2, watchdog};

const SOON: Duration = Duration::from_secs(20);

/// A counter in a control group, if this machine has one, and a tree of processes.
pub(crate) struct Victims {
    pub(crate) counters: Vec<Counter>,
    pub(crate) targets: Vec<FreezeTarget>,
    _groups: Vec<Group>,
    pub(crate) directory: tempfile::TempDir,
}

impl Victims {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let groups: Vec<_> = [V1, v2()].into_iter().filter_map(Group::new).take(1).collect();
        let mut counters: Vec<_> = groups.iter().map(|_| Counter::start(directory.path())).collect();
        groups.iter().zip(&counters).for_each(|(group, counter)| group.put(counter.id()));
        let tree = Counter::start_tree(directory.path());
        let mut targets: Vec<_> = groups.iter().map(Group::target).collect();
        targets.push(FreezeTarget::Pid(pid(tree.id())));
        counters.push(tree);
        Self { counters, targets, _groups: groups, directory }
    }

    pub(crate) fn assert_still(&self) {
        self.counters.iter().for_each(Counter::assert_still);
    }

    pub(crate) fn assert_moves(&self) {
        self.counters.iter().for_each(Counter::assert_moves);
    }

    fn volume(&self) -> VolumeBuilder {
        self.targets.iter().fold(Volume::builder(), |builder, target| builder.freeze(target.clone()))
    }
}

fn frozen_and_thawed(volume: &Volume) -> (usize, usize) {
    let events = volume.recent_events();
    let count = |wanted: fn(&EventBody) -> bool| events.iter().filter(|event| wanted(&event.body)).count();
    (count(|body| matches!(body, EventBody::Frozen { .. })), count(|body| matches!(body, EventBody::Thawed { .. })))
}

#[test]
fn every_command_that_ends_a_stun_thaws() {
    need_fuse!();
    let (_watchdog, victims) = (watchdog(), Victims::start());
    let volume = victims.volume().mount().unwrap();
    let endings: [fn(&Volume); 3] = [|v| _ = v.resume(), |v| _ = v.release(), Volume::disarm];
    for end in endings {
        for _ in 0..ROUNDS {
            volume.arm();
            volume.try_stun(None).unwrap();
            victims.assert_still();
            end(&volume);
            victims.assert_moves();
        }
    }
    let rounds = 3 * ROUNDS;
    assert!(wait_until(SOON, Duration::from_millis(5), || frozen_and_thawed(&volume) == (rounds, rounds)));
    volume.unmount().unwrap();
}

#[test]
fn a_stun_that_ends_by_itself_thaws() {
    need_fuse!();
    let (_watchdog, victims) = (watchdog(), Victims::start());
    let (longest, rounds) = (Duration::from_millis(800), ROUNDS / 4);
    let volume = victims.volume().configure(|options| options.model.max_hold = longest).mount().unwrap();
    for duration in [Some(longest / 2), None] {
        for _ in 0..rounds {
            volume.try_stun(duration).unwrap();
            victims.assert_still();
            victims.assert_moves();
        }
    }
    assert!(wait_until(SOON, Duration::from_millis(5), || frozen_and_thawed(&volume).1 == 2 * rounds));
}

#[test]
fn the_time_limit_of_all_injection_thaws() {
    need_fuse!();
    let (_watchdog, victims) = (watchdog(), Victims::start());
    let limit = Duration::from_millis(1500);
    for _ in 0..ROUNDS / 4 {
        let volume = victims.volume().configure(|options| options.model.ttl = Some(limit)).mount().unwrap();
        volume.try_stun(None).unwrap();
        victims.assert_still();
        assert_eq!(frozen_and_thawed(&volume), (1, 0));
        // No command releases, resumes or ends it.
        victims.assert_moves();
        assert!(wait_until(SOON, Duration::from_millis(5), || frozen_and_thawed(&volume) == (1, 1)));
        assert_eq!(volume.status().model.stunned_until, None);
    }
}

#[test]
fn the_end_of_a_volume_thaws() {
    need_fuse!();
    let (_watchdog, victims) = (watchdog(), Victims::start());
    let endings: [fn(Volume); 3] = [|v| _ = v.unmount().unwrap(), drop, |v| v.stopper().release()];
    for end in endings {
        for _ in 0..ROUNDS / 4 {
            let volume = victims.volume().mount().unwrap();
            volume.try_stun(None).unwrap();
            victims.assert_still();
            end(volume);
            victims.assert_moves();
        }
    }
}

#[test]
fn every_trigger_of_a_stun_freezes() {
    need_fuse!();
    let (_watchdog, victims) = (watchdog(), Victims::start());
    let duration = Duration::from_secs(60);
    for trigger in [
        StunTrigger::Every { grains: 2, duration },
        StunTrigger::Chance { probability: 1.0, duration },
        StunTrigger::QueueWait { over: Duration::from_millis(1), duration },
    ] {
        let builder = victims.volume().first_write(Latency::Constant(Duration::from_millis(20)));
        let volume = builder.configure(|options| options.model.stuns = vec![trigger]).mount().unwrap();
        // Several, so that there is a queue; held by the stun, until it is over.
        let write = |number| {
            let path = volume.path().join(format!("new-{number}"));
            std::thread::spawn(move || fs::write(path, vec![1; 4 << 20]))
        };
        let writers = [1, 2, 3].map(write);
        let frozen = wait_until(SOON, Duration::from_millis(2), || frozen_and_thawed(&volume).0 == 1);
        assert!(frozen, "{trigger:?}: {:?}", volume.recent_events());
        victims.assert_still();
        volume.release();
        victims.assert_moves();
        writers.into_iter().for_each(|writer| writer.join().unwrap().unwrap());
        volume.unmount().unwrap();
    }
}

#[test]
fn a_stun_by_hand_is_refused_if_something_cannot_be_frozen() {
    need_fuse!();
    let (_watchdog, victims) = (watchdog(), Victims::start());
    let gone = Counter::start(victims.directory.path());
    let volume = victims.volume().freeze(FreezeTarget::Pid(pid(gone.id()))).mount().unwrap();
    drop(gone);
    let error = volume.try_stun(None).unwrap_err().to_string();
    assert!(error.contains("was not frozen") && !error.contains('\n'), "{error}");
    assert_eq!(volume.status().model.stunned_until, None);
    victims.assert_moves();
    // The storage alone.
    volume.stun(None);
    assert!(volume.status().model.stunned_until.is_some());
    victims.assert_moves();
    volume.resume();
    let warned =
        |body: &EventBody| matches!(body, EventBody::Warning { message } if message.contains("was not frozen"));
    assert!(wait_until(SOON, Duration::from_millis(5), || {
        volume.recent_events().iter().any(|event| warned(&event.body))
    }));
    volume.unmount().unwrap();
}

#[test]
fn what_cannot_be_frozen_is_refused_before_anything_is_mounted() {
    need_fuse!();
    for target in ["cgroup:no/such/group", "pid:1", "pid:2147483647", "qmp:/no/such/socket"] {
        let error = Volume::builder().freeze(target.parse().unwrap()).mount().unwrap_err().to_string();
        assert!(error.contains(&format!("cannot freeze {target}")) && !error.contains('\n'), "{error}");
    }
}
