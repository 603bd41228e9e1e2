//! The real QEMU and the real docker, where there are any.

use stunfs::internal::freeze::{FreezeSet, FreezeTarget, Surroundings, execute_raw};

use crate::machines::{Container, Machine};
use crate::matrix::{moves, stands_still};
use crate::support::{ROUNDS, around, soon, watchdog};

#[test]
fn the_real_qemu() {
    let (_watchdog, directory) = (watchdog(), tempfile::tempdir().unwrap());
    let Some(machine) = Machine::start(directory.path()) else { return };
    let mut set = FreezeSet::open_in(&[FreezeTarget::Qmp(machine.monitor.clone())], around()).unwrap();
    for round in 0..ROUNDS {
        assert!(machine.is_running());
        set.freeze(soon()).unwrap();
        assert!(!machine.is_running() && stands_still(&|| machine.count()));
        if round % 2 == 1 {
            set.actions().iter().for_each(|action| execute_raw(action.as_raw()).unwrap());
            assert!(machine.is_running());
        }
        set.thaw(soon()).unwrap();
        assert!(moves(&|| machine.count()).is_some());
    }
    set.freeze(soon()).unwrap();
    drop(machine);
    set.thaw(soon()).unwrap();
}

#[test]
fn the_real_docker() {
    let (_watchdog, directory) = (watchdog(), tempfile::tempdir().unwrap());
    let Some(container) = Container::start(directory.path()) else { return };
    let target = FreezeTarget::Docker(container.name.clone());
    let mut set = FreezeSet::open_in(&[target], Surroundings::from_env()).unwrap();
    for round in 0..ROUNDS {
        set.freeze(soon()).unwrap();
        assert!(container.is_paused() && stands_still(&|| container.count()));
        if round % 2 == 1 {
            set.actions().iter().for_each(|action| execute_raw(action.as_raw()).unwrap());
            assert!(!container.is_paused());
        }
        set.thaw(soon()).unwrap();
        assert!(!container.is_paused() && moves(&|| container.count()).is_some());
    }
}
