//! SIGKILL of the daemon at random moments under load.
//!
//! What must hold, whatever the moment: every writer comes back (with an error, if its write was under way), no byte of
//! an acknowledged write is missing from the backing, a write whose hold was not over is not in it, the mount is gone
//! within two seconds and its guard with it, and the next mount works and uses at least as much of the pool.
//!
//! One thing cannot be had: a write whose hold *is* over may be in the backing without its writer knowing, if the daemon
//! is killed between its `pwrite` and its reply. As on a disk whose power fails, such a write may be there or not. The
//! test allows exactly that, and prints how often it came to pass.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use stunfs::internal::time::{Clock, SimTime, pause, wait_until};

use crate::common::{SOON, TICK, need_fuse, timed};
use crate::support::Place;

const ROUNDS: u64 = 50;
const RECORD: usize = 512;
/// Records in a block, which is a grain here: the first of them is a first write, and held.
const PER_GRAIN: u64 = 8;
const HOLD: Duration = Duration::from_millis(30);
const SLOTS: u64 = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Appends; every eighth record is held.
    Append,
    /// The same, with an fsync after each.
    Fsync,
    /// Only first writes: each record in a block of its own.
    Sparse,
    /// Writes the same sixteen records again and again; never held but for the first round.
    Rewrite,
}

/// What a writer knows when it has come back.
struct Account {
    kind: Kind,
    path: PathBuf,
    /// Writes that returned success.
    acknowledged: u64,
    /// When the one was issued that did not.
    last_issued: SimTime,
}

/// A record: round, number, and a sum over both in every other word.
fn record(round: u64, number: u64) -> Vec<u8> {
    let sum = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number.wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    let words = [round, number].into_iter().chain(std::iter::repeat(sum));
    words.take(RECORD / 8).flat_map(u64::to_le_bytes).collect()
}

fn offset(kind: Kind, number: u64) -> u64 {
    let place = match kind {
        Kind::Append | Kind::Fsync => number,
        Kind::Sparse => number * PER_GRAIN,
        Kind::Rewrite => number % SLOTS,
    };
    place * RECORD as u64
}

fn start_writer(kind: Kind, path: PathBuf, round: u64, clock: Clock) -> JoinHandle<Account> {
    std::thread::spawn(move || {
        let mut account = Account { kind, path, acknowledged: 0, last_issued: SimTime::ZERO };
        let Ok(file) = File::create(&account.path) else { return account };
        loop {
            let number = account.acknowledged;
            account.last_issued = clock.now();
            if file.write_all_at(&record(round, number), offset(kind, number)).is_err() {
                return account;
            }
            account.acknowledged += 1;
            if kind == Kind::Fsync && file.sync_data().is_err() {
                return account;
            }
        }
    })
}

/// What the backing has at a record's place.
fn found(file: &File, kind: Kind, number: u64) -> Option<Vec<u8>> {
    let mut data = vec![0; RECORD];
    file.read_exact_at(&mut data, offset(kind, number)).ok()?;
    data.iter().any(|byte| *byte != 0).then_some(data)
}

/// How the writes that were under way were found.
#[derive(Debug, Default)]
struct Tally {
    acknowledged: u64,
    held_and_absent: u64,
    due_and_absent: u64,
    due_and_there: u64,
}

impl Tally {
    fn check(&mut self, account: &Account, backing: &Path, round: u64, killed: SimTime) {
        let Account { kind, acknowledged, .. } = *account;
        let name = account.path.file_name().unwrap();
        let Ok(file) = OpenOptions::new().read(true).open(backing.join(name)) else {
            return assert_eq!(acknowledged, 0, "{kind:?}: the file is gone");
        };
        self.acknowledged += acknowledged;
        match kind {
            Kind::Rewrite => return check_slots(&file, acknowledged, round),
            _ => (0..acknowledged).for_each(|number| {
                let data = found(&file, kind, number);
                assert!(data == Some(record(round, number)), "round {round}, {kind:?}: record {number} is lost");
            }),
        }
        let under_way = found(&file, kind, acknowledged);
        assert!(under_way.is_none() || under_way == Some(record(round, acknowledged)), "{kind:?}: a torn record");
        assert!(found(&file, kind, acknowledged + 1).is_none(), "{kind:?}: a record that was never written");
        let is_first_write = kind == Kind::Sparse || acknowledged.is_multiple_of(PER_GRAIN);
        let held = is_first_write && killed.since(account.last_issued) < HOLD;
        match (held, under_way.is_some()) {
            (true, true) => panic!("round {round}, {kind:?}: a held write is in the backing"),
            (true, false) => self.held_and_absent += 1,
            (false, false) => self.due_and_absent += 1,
            (false, true) => self.due_and_there += 1,
        }
    }
}

/// Each slot has the last acknowledged record, or the one that was under way.
fn check_slots(file: &File, acknowledged: u64, round: u64) {
    for slot in 0..SLOTS.min(acknowledged) {
        let last = (acknowledged - 1 - slot) / SLOTS * SLOTS + slot;
        let data = found(file, Kind::Rewrite, slot);
        let allowed = [last, last + SLOTS].map(|number| Some(record(round, number)));
        assert!(data == allowed[0] || (last + SLOTS == acknowledged && data == allowed[1]), "slot {slot} is lost");
    }
}

/// A generator that is good enough for moments.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[test]
fn sigkill_at_fifty_random_moments() {
    need_fuse!();
    let place = Place::new();
    let kinds = [Kind::Append, Kind::Append, Kind::Sparse, Kind::Sparse, Kind::Sparse, Kind::Fsync, Kind::Rewrite];
    let options = ["--first-write", "30ms", "--grain", "4KiB", "--lanes", "64"];
    let (mut tally, mut moment, mut used, clock) = (Tally::default(), 20_260_101, 0, Clock::start());
    let mut slowest = Duration::ZERO;
    for round in 1..=ROUNDS {
        let mut daemon = place.mount(&options);
        if round > 1 {
            check_rebuilt(&place, used);
        }
        let path = |n: usize, kind| daemon.path(&format!("r{round}-{n}-{kind:?}"));
        let writers: Vec<_> =
            kinds.iter().enumerate().map(|(n, kind)| start_writer(*kind, path(n, kind), round, clock)).collect();
        pause(Duration::from_micros(5_000 + next(&mut moment) % 250_000));
        used = daemon.used();
        daemon.kill();
        let killed = clock.now();
        let ((), gone) = timed(|| {
            let ended = || writers.iter().all(|writer| writer.is_finished());
            assert!(wait_until(SOON, TICK, ended), "round {round}: a writer hangs");
            place.assert_clean(Duration::from_secs(2));
        });
        slowest = slowest.max(gone);
        for writer in writers {
            tally.check(&writer.join().unwrap(), &place.backing(), round, killed);
        }
        clear(&place.backing(), round);
    }
    println!("measured: {ROUNDS} kills: {tally:?}, slowest cleaning {slowest:?}");
    assert!(tally.held_and_absent > ROUNDS, "the load was not held when it was killed: {tally:?}");
    let daemon = place.mount(&options);
    check_rebuilt(&place, used);
    daemon.end();
    // The end was clean: nothing has to be rebuilt any more.
    place.mount(&options).end();
    assert!(place.events().iter().all(|event| event["event"] != "rebuilt"));
}

/// The event says so, and the pool's use is not less than what was seen last.
fn check_rebuilt(place: &Place, used: u64) {
    let found = || place.events().into_iter().find(|event| event["event"] == "rebuilt");
    assert!(wait_until(SOON, TICK, || found().is_some()), "no event says that the pool was counted again");
    let rebuilt = found().unwrap()["used_bytes"].as_u64().unwrap();
    assert!(rebuilt >= used, "the pool's use was {used} and is {rebuilt} after the crash");
}

/// Keeps the test's disk use small; outside of the volume, so that the pool keeps what it has.
fn clear(backing: &Path, round: u64) {
    let prefix = format!("r{round}-");
    for entry in fs::read_dir(backing).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with(&prefix) {
            fs::remove_file(path).unwrap();
        }
    }
}

/// The floor of pool use was written by a clock, every 100 ms: a burst that came and went between two ticks was forgotten.
#[test]
fn a_burst_just_before_the_kill_is_not_forgotten() {
    need_fuse!();
    let place = Place::new();
    let mut daemon = place.mount(&["--grain", "4KiB", "--pool", "1GiB"]);
    let path = daemon.path("burst");
    fs::write(&path, vec![7; 32 << 20]).unwrap();
    let used = daemon.used();
    assert!(used >= 32 << 20);
    fs::remove_file(&path).unwrap();
    daemon.kill();
    place.assert_clean(Duration::from_secs(2));
    let daemon = place.mount(&["--grain", "4KiB", "--pool", "1GiB"]);
    check_rebuilt(&place, used);
    assert!(daemon.used() >= used && daemon.used() < used + (32 << 20));
    daemon.end();
}

#[test]
fn a_kill_with_held_writers_who_are_being_killed_too() {
    need_fuse!();
    let place = Place::new();
    let mut daemon = place.mount(&["--first-write", "5m"]);
    let mut writers: Vec<_> = (0..8)
        .map(|n| {
            let file = daemon.path(&format!("f{n}"));
            let output = format!("of={}", file.display());
            let mut command = std::process::Command::new("dd");
            command.args(["if=/dev/zero", "bs=4k", "count=1", &output]);
            command.stderr(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    daemon.wait_held(8);
    for writer in &mut writers {
        writer.kill().unwrap();
    }
    daemon.kill();
    for writer in &mut writers {
        assert!(wait_until(SOON, TICK, || writer.try_wait().unwrap().is_some()), "a killed writer is still there");
    }
    place.assert_clean(Duration::from_secs(2));
    for n in 0..8 {
        assert_eq!(fs::metadata(place.backing().join(format!("f{n}"))).unwrap().len(), 0);
    }
}
