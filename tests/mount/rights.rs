//! Who may what: the same random operations by callers with different credentials and capabilities, on a mount and on a plain
//! directory beside it. Results and errors, modes, owners, file capabilities and ACLs must be the same after each step.

#[path = "rights/side.rs"]
mod side;

use std::fs;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use stunfs::Volume;
use stunfs::internal::fs::CacheMode;

use crate::common::user;
use crate::support::volume_and_plain;
use side::{CAPABILITIES, NEVER, Op, Shown, Side, Start, TRUSTED, op, start};

/// Cases for each cache mode; more with STUNFS_RIGHTS=N.
const CASES: u32 = 500;
const MOST_STEPS: usize = 8;

/// Who does a step: user, group, supplementary groups, and which capabilities.
#[derive(Debug, Clone, Copy)]
struct Caller {
    uid: u32,
    gid: u32,
    groups: &'static [u32],
    capabilities: Capabilities,
}

#[derive(Debug, Clone, Copy)]
enum Capabilities {
    Only(&'static [u32]),
    AllBut(&'static [u32]),
}

const CHOWN: u32 = 0;
const DAC_OVERRIDE: u32 = 1;
const FOWNER: u32 = 3;
const FSETID: u32 = 4;
const SYS_ADMIN: u32 = 21;
const SETFCAP: u32 = 31;

const fn caller(uid: u32, groups: &'static [u32], capabilities: Capabilities) -> Caller {
    Caller { uid, gid: uid, groups, capabilities }
}

const ROOT: usize = 0;
const ROOT_WITHOUT_FSETID: usize = 1;
const ROOT_WITHOUT_SYS_ADMIN: usize = 3;
const USER: usize = 7;
const USER_WITH_FSETID: usize = 11;

const CALLERS: [Caller; 17] = [
    caller(0, &[], Capabilities::AllBut(&[])),
    caller(0, &[], Capabilities::AllBut(&[FSETID])),
    caller(0, &[], Capabilities::AllBut(&[FOWNER])),
    caller(0, &[], Capabilities::AllBut(&[SYS_ADMIN])),
    caller(0, &[1001], Capabilities::AllBut(&[FSETID, FOWNER, SETFCAP])),
    caller(0, &[], Capabilities::Only(&[])),
    caller(0, &[], Capabilities::Only(&[CHOWN, DAC_OVERRIDE])),
    caller(1000, &[], Capabilities::Only(&[])),
    caller(1000, &[1001], Capabilities::Only(&[])),
    caller(1001, &[], Capabilities::Only(&[])),
    caller(1002, &[1000], Capabilities::Only(&[])),
    caller(1000, &[], Capabilities::Only(&[FSETID])),
    caller(1001, &[1000], Capabilities::Only(&[FOWNER, DAC_OVERRIDE])),
    caller(1002, &[], Capabilities::Only(&[CHOWN])),
    caller(1002, &[], Capabilities::Only(&[CHOWN, FOWNER])),
    caller(1000, &[], Capabilities::Only(&[SETFCAP, SYS_ADMIN])),
    caller(1002, &[], Capabilities::Only(&[DAC_OVERRIDE, FSETID, FOWNER, SETFCAP])),
];

impl Caller {
    /// Does `work` on this thread with these credentials.
    fn act<T>(&self, work: impl FnOnce() -> T) -> T {
        let set = |numbers: &[u32]| numbers.iter().fold(0_u64, |set, number| set | 1 << number);
        user::set_groups(self.groups);
        user::become_user(self.uid, self.gid);
        user::set_capabilities(match self.capabilities {
            Capabilities::Only(numbers) => set(numbers),
            Capabilities::AllBut(numbers) => !set(numbers),
        });
        let value = work();
        user::become_user(0, 0);
        user::set_capabilities(u64::MAX);
        value
    }
}

/// A file, and what is done with it.
#[derive(Debug, Clone)]
struct Case {
    start: Start,
    steps: Vec<(usize, Op)>,
}

fn case() -> impl Strategy<Value = Case> {
    let steps = vec((0..CALLERS.len(), op()), 1..=MOST_STEPS);
    (start(), steps).prop_map(|(start, steps)| Case { start, steps })
}

/// A mount and a plain directory on the backing's file system.
struct Pair {
    volume: Volume,
    plain: tempfile::TempDir,
    cases: u32,
}

impl Pair {
    fn new(cache: CacheMode) -> Self {
        let (volume, plain) = volume_and_plain(cache);
        Self { volume, plain, cases: 0 }
    }

    /// Does a case on both sides; how the file looks at the end.
    fn compare(&mut self, case: &Case) -> Result<Option<Shown>, TestCaseError> {
        self.cases += 1;
        let name = self.cases.to_string();
        let roots = [self.volume.path(), self.plain.path()].map(|root| root.join(&name));
        let [mut mount, mut plain] = roots.each_ref().map(|root| Side::new(root, &case.start));
        for (number, (who, op)) in case.steps.iter().enumerate() {
            let caller = CALLERS[*who];
            let [ours, theirs] = [&mut mount, &mut plain].map(|side| (caller.act(|| side.apply(op)), side.shown()));
            prop_assert_eq!(ours, theirs, "step {}: the mount is on the left; by {:?}", number, caller);
        }
        let mut theirs = plain.end();
        mount.end();
        prop_assert_eq!(&side::shown_at(&self.volume.backing().join(&name)), &theirs, "in the backing, at the end");
        roots.iter().for_each(|root| fs::remove_dir_all(root).unwrap());
        Ok(theirs.swap_remove(0))
    }
}

fn run(cache: CacheMode, seed: u8) {
    crate::common::need_fuse!();
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: needs root");
        return;
    }
    let cases = std::env::var("STUNFS_RIGHTS").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let compared = std::thread::spawn(move || {
        user::prepare_thread();
        let mut pair = Pair::new(cache);
        let cell = std::cell::RefCell::new(&mut pair);
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
        let result =
            TestRunner::new_with_rng(config, rng).run(&case(), |case| cell.borrow_mut().compare(&case).map(drop));
        pair.volume.unmount().unwrap();
        result.map_err(|error| error.to_string())
    });
    let compared = compared.join().unwrap();
    assert!(compared.is_ok(), "{cache:?}: {}", compared.unwrap_err());
}

#[test]
fn write_through_gives_and_takes_rights_like_a_plain_directory() {
    run(CacheMode::Through, 1);
}

#[test]
fn write_back_gives_and_takes_rights_like_a_plain_directory() {
    run(CacheMode::Back, 2);
}

#[test]
fn direct_gives_and_takes_rights_like_a_plain_directory() {
    run(CacheMode::Direct, 3);
}

/// A case, and the file's mode and whether it has capabilities at its end.
type Expected = (Case, u32, bool);

fn ends_with(start: &Start, steps: &[(usize, Op)], mode: u32, capabilities: bool) -> Expected {
    (Case { start: start.clone(), steps: steps.to_vec() }, mode, capabilities)
}

/// Does the cases in every cache mode, beside a plain directory.
fn expect(cases: Vec<Expected>) {
    crate::common::need_fuse!();
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: needs root");
        return;
    }
    let compared = std::thread::spawn(move || {
        user::prepare_thread();
        for cache in [CacheMode::Through, CacheMode::Back, CacheMode::Direct] {
            let mut pair = Pair::new(cache);
            for (case, mode, capabilities) in &cases {
                let end = pair.compare(case).unwrap_or_else(|error| panic!("{cache:?}, {case:?}: {error}")).unwrap();
                let (shown, expected) = ((end.mode(), end.has_capabilities()), (*mode, *capabilities));
                assert_eq!(shown, expected, "{cache:?}, {case:?}: {:o}, not {mode:o}", shown.0);
            }
            pair.volume.unmount().unwrap();
        }
    });
    compared.join().unwrap();
}

/// What changes a file's contents, by path and through a file that was opened before.
fn changes() -> Vec<Op> {
    let by_path = [Op::Write, Op::Append, Op::Truncate(9000), Op::TruncatingOpen];
    let through_open = [Op::WriteOpen, Op::TruncateOpen(8000), Op::CopyOpen];
    [&by_path[..], &through_open, &[0, 1, 2, 3].map(Op::FallocateOpen)].concat()
}

#[test]
fn regression_a_chown_to_nothing_new_took_set_id_bits_from_anybodys_file() {
    let nothing = [(USER, Op::Chown(NEVER, NEVER)), (USER, Op::ChownOpen(NEVER, NEVER))];
    let mut cases = vec![];
    for mode in [0o4755, 0o6755, 0o2755, 0o2745] {
        for open in [false, true] {
            let start = Start { open, ..Start::with_mode(mode) };
            cases.push(ends_with(&start, &nothing, mode, false));
            cases.push(ends_with(&Start { capabilities: true, ..start }, &nothing, mode, true));
        }
    }
    // Root's own takes them, also while the file is open for writing, when a write asks the volume the same.
    let capabilities = Start { capabilities: true, ..Start::with_mode(0o6755) };
    cases.push(ends_with(&capabilities, &[(ROOT, Op::ChownOpen(NEVER, NEVER))], 0o755, false));
    expect(cases);
}

#[test]
fn regression_roots_changes_took_set_id_bits_of_files_with_capabilities() {
    let start = Start { capabilities: true, ..Start::with_mode(0o6755) };
    expect(changes().into_iter().map(|change| ends_with(&start, &[(ROOT, change)], 0o6755, false)).collect());
}

#[test]
fn regression_uid_0_without_fsetid_left_set_id_bits() {
    let by_it = |change: &Op| [(ROOT_WITHOUT_FSETID, change.clone())];
    let executable =
        changes().iter().map(|op| ends_with(&Start::with_mode(0o6755), &by_it(op), 0o755, false)).collect();
    expect(executable);
    // It is in the file's group, which may not execute it.
    expect(changes().iter().map(|op| ends_with(&Start::with_mode(0o6745), &by_it(op), 0o2745, false)).collect());
}

#[test]
fn regression_a_user_with_fsetid_lost_set_id_bits() {
    let start = Start::with_mode(0o6777);
    expect(
        changes().into_iter().map(|change| ends_with(&start, &[(USER_WITH_FSETID, change)], 0o6777, false)).collect(),
    );
}

#[test]
fn regression_an_acl_left_the_set_group_id_bit() {
    let start = Start { owner: 1000, group: 1002, ..Start::with_mode(0o2775) };
    expect(vec![
        ends_with(&start, &[(USER, Op::SetAcl(true))], 0o774, false),
        ends_with(&start, &[(USER, Op::SetAcl(false))], 0o754, false),
        ends_with(&start, &[(USER_WITH_FSETID, Op::SetAcl(true))], 0o2774, false),
        ends_with(&Start { group: 1000, ..start }, &[(USER, Op::SetAcl(true))], 0o2774, false),
    ]);
}

#[test]
fn regression_names_of_trusted_attributes_were_shown_to_uid_0_without_sys_admin() {
    let list = [ROOT_WITHOUT_SYS_ADMIN, ROOT, USER].map(|who| (who, Op::ListXattr));
    let steps = [&[(ROOT, Op::SetXattr(TRUSTED))], &list[..]].concat();
    expect(vec![ends_with(&Start::with_mode(0o644), &steps, 0o644, false)]);
}

#[test]
fn regression_pages_that_were_written_back_took_capabilities() {
    let start = Start { capabilities: true, ..Start::with_mode(0o4755) };
    // With a write-back cache the data of a write reach the backing after the capabilities.
    let steps = [(ROOT, Op::WriteOpen), (ROOT, Op::SetXattr(CAPABILITIES))];
    expect(vec![
        ends_with(&start, &[(ROOT, Op::MapOpen), (USER, Op::MapOpen)], 0o4755, true),
        ends_with(&Start::with_mode(0o4755), &steps, 0o4755, true),
    ]);
}
