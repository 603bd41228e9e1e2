//! Which requests each operation costs, by fuser's own log: none may be added unnoticed.
//!
//! One test only: the log is the whole process's. Needs /dev/fuse; left out (with a word why) without it, unless
//! `STUNFS_REQUIRE_FUSE` is set.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use common::Mounted;
use parking_lot::Mutex;
use stunfs::internal::fs::CacheMode;
use stunfs::internal::time::{Deadline, pause};

/// fuser's log, and the names of the requests in it.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// The requests since the last call. FORGET is left out: it comes when the kernel likes.
    fn take(&self) -> Vec<String> {
        pause(Duration::from_millis(15));
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock())).unwrap();
        text.lines().filter_map(request).filter(|name| !name.contains("FORGET")).collect()
    }

    /// As [`Log::take`], after a close: `close(2)` does not wait for RELEASE, so this does.
    fn take_with_release(&self) -> Vec<String> {
        let deadline = Deadline::after(Duration::from_secs(10));
        while !String::from_utf8_lossy(&self.0.lock()).lines().any(|line| request(line).as_deref() == Some("RELEASE"))
            && !deadline.passed()
        {
            pause(Duration::from_millis(1));
        }
        self.take()
    }
}

/// `... FUSE(RequestId(5) ino 0x1 LOOKUP name "x" thread=fuser-0`: the first word in capitals after the inode number.
fn request(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("FUSE(")?;
    let is_name = |word: &&str| word.len() > 3 && word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    rest.split_whitespace().find(is_name).map(str::to_owned)
}

/// What each operation costs: write-through, write-back, direct. The GETATTR of the directory (in `create`, `stat`,
/// `unlink`) is the price of `default_permissions`: the kernel forgets a directory's attributes when its entries
/// change, and looks at them to check the caller's rights. GETXATTR asks for `security.capability`, once per
/// file and change of its attributes.
const EXPECTED: [(&str, [&str; 3]); 16] = [
    ("create", ["GETATTR LOOKUP CREATE"; 3]),
    ("first write", ["GETXATTR WRITE", "GETXATTR", "WRITE"]),
    ("second write", ["WRITE", "", "WRITE"]),
    ("fsync", ["FSYNC", "WRITE SETATTR FSYNC", "FSYNC"]),
    ("close after write", ["RELEASE", "FLUSH RELEASE", "RELEASE"]),
    ("stat after write", ["GETATTR GETATTR"; 3]),
    ("open for reading", ["OPEN"; 3]),
    ("read", ["", "", "READ"]),
    ("close after read", ["RELEASE"; 3]),
    ("open for writing", ["OPEN"; 3]),
    ("rewrite", ["GETXATTR WRITE", "GETXATTR", "WRITE"]),
    ("close after rewrite", ["RELEASE", "WRITE SETATTR RELEASE", "RELEASE"]),
    ("open with O_TRUNC, close", ["OPEN RELEASE", "OPEN SETATTR RELEASE", "OPEN GETXATTR RELEASE"]),
    ("rename", ["LOOKUP RENAME", "LOOKUP RENAME SETATTR", "LOOKUP RENAME"]),
    ("unlink", ["GETATTR UNLINK", "GETATTR UNLINK SETATTR", "GETATTR UNLINK"]),
    ("stat, missing", ["GETATTR LOOKUP"; 3]),
];

/// Does every operation once; what each cost, in the order of [`EXPECTED`].
fn costs(log: &Log, mounted: &Mounted) -> Vec<Vec<String>> {
    let path = mounted.path("file");
    let mut costs = Vec::new();
    let note = |costs: &mut Vec<_>| costs.push(log.take());
    let note_close = |costs: &mut Vec<_>| costs.push(log.take_with_release());
    let mut file = File::create(&path).unwrap();
    note(&mut costs);
    file.write_all(&[1; 4096]).unwrap();
    note(&mut costs);
    file.write_all(&[1; 4096]).unwrap();
    note(&mut costs);
    file.sync_all().unwrap();
    note(&mut costs);
    drop(file);
    note_close(&mut costs);
    fs::metadata(&path).unwrap();
    note(&mut costs);
    let mut file = File::open(&path).unwrap();
    note(&mut costs);
    file.read_exact(&mut [0; 4096]).unwrap();
    note(&mut costs);
    drop(file);
    note_close(&mut costs);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    note(&mut costs);
    file.write_all_at(&[2; 4096], 0).unwrap();
    note(&mut costs);
    drop(file);
    note_close(&mut costs);
    drop(OpenOptions::new().write(true).truncate(true).open(&path).unwrap());
    note_close(&mut costs);
    fs::rename(&path, mounted.path("renamed")).unwrap();
    note(&mut costs);
    fs::remove_file(mounted.path("renamed")).unwrap();
    note(&mut costs);
    fs::metadata(&path).unwrap_err();
    note(&mut costs);
    costs
}

/// The smallest cost of each operation in a few rounds: others may look into the mount, and attributes expire.
fn least_costs(log: &Log, cache: CacheMode) -> Option<Vec<Vec<String>>> {
    let rounds = (0..4).map(|_| {
        let mounted = Mounted::new(cache, 1)?;
        log.take();
        Some(costs(log, &mounted))
    });
    let least = |one: Vec<Vec<String>>, other: Vec<Vec<String>>| {
        one.into_iter().zip(other).map(|(one, other)| if other.len() < one.len() { other } else { one }).collect()
    };
    rounds.collect::<Option<Vec<_>>>()?.into_iter().reduce(least)
}

#[test]
fn no_operation_costs_more_requests_than_it_must() {
    let log = Log::default();
    let writer = log.clone();
    let make = move || writer.clone();
    tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing::Level::DEBUG).with_writer(make).init();
    for (column, cache) in [CacheMode::Through, CacheMode::Back, CacheMode::Direct].into_iter().enumerate() {
        let Some(costs) = least_costs(&log, cache) else { return };
        assert_eq!(costs.len(), EXPECTED.len());
        for ((what, expected), cost) in EXPECTED.iter().zip(costs) {
            assert_eq!(cost.join(" "), expected[column], "{what}, {cache:?}");
        }
    }
}
