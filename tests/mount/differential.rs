//! The same random operations on a mount and on a plain directory: same answers, same tree, in every cache mode.
//!
//! Left out, since they differ and docs/conformance.md says why: `O_TMPFILE`, collapse and insert range, access times
//! after reads, device nodes.

#[path = "differential/ops.rs"]
mod ops;
#[path = "differential/tree.rs"]
mod tree;
#[path = "differential/world.rs"]
mod world;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::collection::vec;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rustix::process::umask;
use stunfs::Volume;
use stunfs::internal::fs::CacheMode;
use stunfs::internal::time::Deadline;

use crate::common::user;
use crate::support::volume_and_plain;
use ops::{Op, op};
use world::World;

const OPERATIONS: usize = 2000;
/// How long a failing case is made smaller.
const SHRINK_TIME: Duration = Duration::from_secs(45);

/// A mount and a plain directory on the backing's file system.
struct Pair {
    volume: Volume,
    plain: tempfile::TempDir,
    shows_holes: bool,
    cases: u32,
}

impl Pair {
    fn new(cache: CacheMode) -> Self {
        let (volume, plain) = volume_and_plain(cache);
        Self { volume, plain, shows_holes: cache != CacheMode::Back, cases: 0 }
    }

    /// Does the operations on both sides, in directories of their own.
    fn compare(&mut self, operations: &[Op]) -> Result<(), String> {
        self.cases += 1;
        let case = format!("{}/root", self.cases);
        let roots: [PathBuf; 2] = [self.volume.path().join(&case), self.plain.path().join(&case)];
        let backing = self.volume.backing().join(&case);
        roots.iter().for_each(|root| furnish(root));
        let mut mount = World::new(roots[0].clone(), backing.clone(), self.shows_holes);
        let mut plain = World::new(roots[1].clone(), roots[1].clone(), self.shows_holes);
        let compared = same_answers(&mut mount, &mut plain, operations);
        user::become_user(0, 0);
        umask(rustix::fs::Mode::from_raw_mode(0o022));
        drop((mount, plain));
        compared?;
        tree::compare(&roots[0], &roots[1], &backing, self.shows_holes)?;
        roots.iter().for_each(|root| fs::remove_dir_all(root.parent().unwrap()).unwrap());
        Ok(())
    }
}

/// Something to begin with, writable for all.
fn furnish(root: &Path) {
    for dir in ["", "d0", "d1", "d0/s"] {
        fs::create_dir_all(root.join(dir)).unwrap();
        fs::set_permissions(root.join(dir), Permissions::from_mode(0o777)).unwrap();
    }
    fs::write(root.join("a"), "a").unwrap();
    fs::write(root.join("d0/b"), vec![7; 30_000]).unwrap();
}

fn same_answers(mount: &mut World, plain: &mut World, operations: &[Op]) -> Result<(), String> {
    for (number, op) in operations.iter().enumerate() {
        let (ours, theirs) = (mount.apply(op), plain.apply(op));
        if ours != theirs {
            let (ours, theirs) = (shorten(&ours), shorten(&theirs));
            return Err(format!("{number}: {op:?}: the mount {ours}, a plain directory {theirs}"));
        }
    }
    Ok(())
}

fn shorten(outcome: &world::Outcome) -> String {
    let text = format!("{outcome:?}");
    text.chars().take(300).collect()
}

/// Takes out of a failing case what it does not need: ever smaller runs of operations, as long as it still fails.
fn shrink(pair: &mut Pair, mut operations: Vec<Op>, mut why: String) -> (Vec<Op>, String) {
    let deadline = Deadline::after(SHRINK_TIME);
    let mut chunk = operations.len() / 2;
    while chunk > 0 && !deadline.passed() {
        let mut at = 0;
        while at < operations.len() && !deadline.passed() {
            let mut fewer = operations.clone();
            fewer.drain(at..(at + chunk).min(fewer.len()));
            match pair.compare(&fewer) {
                Ok(()) => at += chunk,
                Err(failure) => (operations, why) = (fewer, failure),
            }
        }
        chunk /= 2;
    }
    (operations, why)
}

/// Runs `cases` seeded cases on a thread with its own user and umask; what differs.
fn run_cases(cache: CacheMode, seed: u8, cases: u32) -> Option<String> {
    user::prepare_thread();
    let mut pair = Pair::new(cache);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    for _ in 0..cases {
        let operations = vec(op(), OPERATIONS).new_tree(&mut runner).unwrap().current();
        if let Err(why) = pair.compare(&operations) {
            let (operations, why) = shrink(&mut pair, operations, why);
            let lines: Vec<String> = operations.iter().map(|operation| format!("  {operation:?}")).collect();
            return Some(format!("{cache:?}: {why}\nafter\n{}", lines.join("\n")));
        }
    }
    None
}

fn run(cache: CacheMode, seed: u8, cases: u32) {
    crate::common::need_fuse!();
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: needs root");
        return;
    }
    let differs = std::thread::spawn(move || run_cases(cache, seed, cases)).join().unwrap();
    assert!(differs.is_none(), "{}", differs.unwrap_or_default());
}

/// How many cases a run has; more with STUNFS_DIFFERENTIAL=N.
fn cases() -> u32 {
    std::env::var("STUNFS_DIFFERENTIAL").ok().and_then(|text| text.parse().ok()).unwrap_or(6)
}

#[test]
fn write_through_is_like_a_plain_directory() {
    run(CacheMode::Through, 1, cases());
}

#[test]
fn write_back_is_like_a_plain_directory() {
    run(CacheMode::Back, 2, cases());
}

#[test]
fn direct_is_like_a_plain_directory() {
    run(CacheMode::Direct, 3, cases());
}

/// `cp` looks for holes, and the backing has one where the kernel has not written back yet.
#[test]
fn regression_cp_took_what_was_not_written_back_for_a_hole() {
    crate::common::need_fuse!();
    let volume = Volume::builder().cache(CacheMode::Back).mount().unwrap();
    let (from, to) = (volume.path().join("from"), volume.path().join("to"));
    let file = fs::File::create(&from).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[7; 300_000], 1 << 20).unwrap();
    assert!(std::process::Command::new("cp").arg(&from).arg(&to).status().unwrap().success());
    assert!(fs::read(&from).unwrap() == fs::read(&to).unwrap());
    drop(file);
    volume.unmount().unwrap();
}
