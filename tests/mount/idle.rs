//! A volume at rest: it wakes no processor and asks for none to stay awake.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use stunfs::Volume;
use stunfs::internal::model::Latency;
use stunfs::internal::time::{pause, wait_until};

const WINDOW: Duration = Duration::from_millis(600);

/// How often each thread of the volume has gone to sleep, all together.
fn sleeps() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten().map(|task| task.path());
    let ours = |task: &PathBuf| {
        let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
        name.starts_with("stunfs") || name.starts_with("fuser")
    };
    let count = |task: PathBuf| {
        let status = fs::read_to_string(task.join("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:").map(str::to_owned));
        line.map_or(0, |number| number.trim().parse::<u64>().unwrap())
    };
    tasks.filter(ours).map(count).sum()
}

/// Whether no thread of the volume wakes for a while. Other tests may mount something meanwhile, which the volume looks at: so
/// several whiles are looked at, of which a timer of a tenth of a second would disturb each.
fn comes_to_rest() -> bool {
    (0..20).any(|_| {
        let before = sleeps();
        pause(WINDOW);
        sleeps() == before
    })
}

fn keeps_processors_awake() -> bool {
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
    open.into_iter().any(|file| file.ends_with("cpu_dma_latency"))
}

#[test]
fn an_idle_volume_sleeps_without_a_timer() {
    crate::common::need_fuse!();
    let volume = Volume::builder().mount().unwrap();
    for n in 0..300 {
        fs::write(volume.path().join(n.to_string()), b"x").unwrap();
    }
    assert!(wait_until(Duration::from_secs(5), Duration::from_millis(20), || !keeps_processors_awake()));
    assert!(comes_to_rest());
    volume.unmount().unwrap();
}

#[test]
fn a_volume_with_held_operations_sleeps_until_one_is_due() {
    crate::common::need_fuse!();
    let volume = Volume::builder().first_write(Latency::Constant(Duration::from_secs(500))).mount().unwrap();
    let writers: Vec<_> = (0..8)
        .map(|n| {
            let path = volume.path().join(n.to_string());
            std::thread::spawn(move || File::create(path).unwrap().write_all(b"x"))
        })
        .collect();
    assert!(wait_until(Duration::from_secs(10), Duration::from_millis(20), || volume.status().model.held == 8));
    assert!(wait_until(Duration::from_secs(5), Duration::from_millis(20), || !keeps_processors_awake()));
    assert!(comes_to_rest());
    volume.release();
    for writer in writers {
        writer.join().unwrap().unwrap();
    }
    volume.unmount().unwrap();
}
