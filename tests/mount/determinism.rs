//! The same seed gives the same penalties, whatever the threads do.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use stunfs::Volume;
use stunfs::internal::model::{Latency, Placement};
use stunfs::internal::options::CacheMode;
use stunfs::internal::settings::{Env, Settings};
use stunfs::internal::telemetry::event::{Event, EventBody};
use stunfs::internal::units::{Bytes, GrainSize};

const GRAIN: u64 = 64 << 10;
const WORK_AT: &str = "STUNFS_TEST_WORK_AT";

fn volume(placement: Placement, events: &Path, threads: usize) -> Volume {
    let latency = Latency::Exponential { mean: Duration::from_millis(2) };
    let builder = Volume::builder().seed(7).placement(placement).first_write(latency).lanes(8);
    let events = events.to_path_buf();
    builder
        .grain(GrainSize::new(Bytes(GRAIN)).unwrap())
        .configure(|options| {
            options.events = Some(events);
            options.threads = threads;
        })
        .mount()
        .unwrap()
}

fn write(root: &Path, file: u64, grain: u64) {
    let path = root.join(format!("file-{file}"));
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap();
    file.write_all_at(&vec![1; 64 << 10], grain * GRAIN).unwrap();
}

/// The events in order of arrival, without what may differ: times, processes, inodes, where it was mounted.
fn events(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let mut events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for event in &mut events {
        let fields = event.as_object_mut().unwrap();
        let differing =
            ["seq", "t_us", "requested_us", "due_us", "released_us", "pid", "ino", "backing", "mountpoint", "started"];
        fields.retain(|name, _| !differing.contains(&name.as_str()));
        if let Some(penalty) = fields.get_mut("penalty") {
            // Waiting for a lane depends on when one comes.
            penalty.as_object_mut().unwrap().remove("queue_us");
        }
    }
    // A hold is told of after its answer, so the next operation's may be told of first.
    events.sort_by_key(|event| event["id"].as_u64());
    events
}

/// What each grain cost: by path and offset for LUNs, by address on a packed disk.
fn penalties(events: &[Value], placement: Placement) -> BTreeMap<String, u64> {
    let held = events.iter().filter(|event| event["event"] == "held");
    held.map(|event| {
        let penalty = &event["penalty"];
        let grain = match placement {
            Placement::Direct => format!("{} {}", event["path"], event["offset"]),
            Placement::Packed => penalty["first_grain"].to_string(),
        };
        (grain, penalty["latency_us"].as_u64().unwrap())
    })
    .collect()
}

/// With one FUSE thread: the kernel does not wait for the end of a close, so with more of them an unlink may overtake the
/// close before it, and the next write finds the space free or not yet.
#[test]
fn same_seed_and_workload_same_events() {
    crate::common::need_fuse!();
    for placement in [Placement::Packed, Placement::Direct] {
        let run = || {
            let log = tempfile::NamedTempFile::new().unwrap();
            let volume = volume(placement, log.path(), 1);
            // In a process of its own: another test's fork would hold the files open a moment longer.
            let this = std::env::current_exe().unwrap();
            let args = ["--exact", "determinism::workload", "--include-ignored"];
            let status = Command::new(this).args(args).env(WORK_AT, volume.path()).stdout(Stdio::null()).status();
            assert!(status.unwrap().success());
            volume.unmount().unwrap();
            events(log.path())
        };
        let (one, other) = (run(), run());
        assert!(one.len() > 25, "{} events", one.len());
        for (one, other) in one.iter().zip(&other) {
            assert_eq!(one, other);
        }
        assert_eq!(one.len(), other.len());
    }
}

#[test]
#[ignore = "another test starts it, on a volume"]
fn workload() {
    let Some(root) = std::env::var_os(WORK_AT).map(PathBuf::from) else { return };
    for n in 0..60 {
        write(&root, n % 5, n % 7);
        if n % 11 == 10 {
            fs::remove_file(root.join(format!("file-{}", n % 5))).unwrap();
        }
    }
}

#[test]
fn shuffled_threads_same_penalty_per_grain() {
    crate::common::need_fuse!();
    for placement in [Placement::Packed, Placement::Direct] {
        let run = |step: u64| {
            let log = tempfile::NamedTempFile::new().unwrap();
            let volume = volume(placement, log.path(), 4);
            let root = volume.path();
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    // Each step, prime to 10, is another order of the same files.
                    scope.spawn(move || (0..10).for_each(|n| write(root, thread * 10 + n * step % 10, 0)));
                }
            });
            volume.unmount().unwrap();
            penalties(&events(log.path()), placement)
        };
        let one = run(1);
        assert_eq!(one.len(), 40);
        assert_eq!(one, run(3));
        assert_eq!(one, run(7));
    }
}

/// `only`, `cache` and `threads` were not in the first event.
#[test]
fn regression_a_run_repeated_from_its_first_event_gives_the_same_events() {
    crate::common::need_fuse!();
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let work = |root: &Path| {
        for grain in 0..6 {
            write(root, 0, grain);
            write(root, 1, grain);
        }
    };
    let original = Volume::builder()
        .seed((1 << 53) - 1)
        .first_write(Latency::Exponential { mean: Duration::from_millis(2) })
        .grain(GrainSize::new(Bytes(GRAIN)).unwrap())
        .cache(CacheMode::Direct)
        .configure(|options| {
            options.events = Some(first.clone());
            options.threads = 2;
            options.filter.paths = vec!["file-1".to_owned()];
        })
        .mount()
        .unwrap();
    work(original.path());
    original.unmount().unwrap();

    let started = fs::read_to_string(&first).unwrap().lines().next().unwrap().to_owned();
    let EventBody::Started { options: told, config, .. } = serde_json::from_str::<Event>(&started).unwrap().body else {
        panic!("{started}")
    };
    let mut settings = Settings::new();
    told.only.iter().for_each(|only| settings.set("only", only).unwrap());
    settings.set("cache", &told.cache).unwrap();
    settings.set("threads", &told.threads.to_string()).unwrap();
    let env = Env { backing: "/".into(), mountpoint: "/".into(), seed: 0, profiles: |_| unreachable!() };
    let resolved = settings.resolve(&env).unwrap();
    let repeated = Volume::builder().configure(|options| {
        options.model = *config;
        (options.filter, options.cache, options.threads) = (resolved.filter, resolved.cache, resolved.threads);
        options.events = Some(second.clone());
    });
    let repeated = repeated.mount().unwrap();
    work(repeated.path());
    repeated.unmount().unwrap();
    let (first, second) = (events(&first), events(&second));
    assert!(first.iter().filter(|event| event["event"] == "held").count() >= 6, "{first:?}");
    assert_eq!(first, second);
}
