//! What a stall looks like to those who wait in it, and to those who do not.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, StatxFlags};
use stunfs::Volume;
use stunfs::internal::fs::CacheMode;
use stunfs::internal::model::{Latency, OnFull, Scope};
use stunfs::internal::telemetry::event::EventBody;
use stunfs::internal::time::{pause, wait_until};
use stunfs::internal::units::{Bytes, GrainSize};
use stunfs::internal::volume::VolumeBuilder;

use crate::common::{SOON, TICK, state_of, timed};

const LATE: Duration = Duration::from_secs(30);
/// Longer than any test.
const NEVER: Latency = Latency::Constant(Duration::from_secs(500));
const GRAIN: u64 = 64 << 10;

fn builder() -> VolumeBuilder {
    Volume::builder().grain(GrainSize::new(Bytes(GRAIN)).unwrap()).configure(|options| options.threads = 1)
}

/// A process that writes 4 KiB to a file and ends.
fn writer(path: &Path) -> Child {
    let script = r#"exec head -c 4096 /dev/zero > "$1""#;
    Command::new("sh").args(["-c", script, "writer"]).arg(path).spawn().unwrap()
}

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}

/// Something on a thread; done when the receiver gets its value.
fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> mpsc::Receiver<T> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    receiver
}

fn write_grain(path: PathBuf, grain: u64) -> mpsc::Receiver<std::io::Result<()>> {
    spawn(move || open(&path).write_all_at(&[1; 4096], grain * GRAIN))
}

/// `n` files of one grain each, data in them.
fn furnish(volume: &Volume, n: usize) -> Vec<File> {
    volume.disarm();
    let files = (0..n).map(|n| open(&volume.path().join(format!("old-{n}"))));
    let files = files.inspect(|file| file.write_all_at(&vec![1; 64 << 10], 0).unwrap()).collect();
    volume.arm();
    files
}

#[test]
fn a_stalled_writer_is_in_state_d_from_its_first_stall_on_and_dies_after_its_reply() {
    crate::common::need_fuse!();
    let volume = builder().first_write(NEVER).mount().unwrap();
    let mut child = writer(&volume.path().join("file"));
    assert!(volume.wait_held(1, SOON));
    assert!(wait_until(SOON, TICK, || state_of(child.id()) == Some('D')), "state {:?}", state_of(child.id()));
    let task = fs::read_dir(format!("/proc/{}/task", child.id())).unwrap().next().unwrap().unwrap().file_name();
    assert_eq!(state_of(task.to_str().unwrap().parse().unwrap()), Some('D'));
    child.kill().unwrap();
    pause(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "it must not die before its reply");
    assert_eq!(state_of(child.id()), Some('D'));
    volume.release();
    let status = child.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    volume.unmount().unwrap();
}

/// The time at which 99 of 100 of `samples` were over.
fn p99(mut samples: Vec<Duration>) -> Duration {
    samples.sort_unstable();
    samples[samples.len() * 99 / 100]
}

/// The p99 of operations that need nothing new, each a request to the daemon: `stat`, direct read, rewrite.
fn bystanders(volume: &Volume, files: &[File]) -> [Duration; 3] {
    use std::os::unix::fs::OpenOptionsExt;
    let path = volume.path().join("old-0");
    let direct = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path).unwrap();
    let sample = |work: &dyn Fn()| p99((0..600).map(|_| timed(work).1).collect());
    let flags = AtFlags::STATX_FORCE_SYNC;
    [
        sample(&|| assert!(rustix::fs::statx(CWD, &path, flags, StatxFlags::BASIC_STATS).is_ok())),
        sample(&|| direct.read_exact_at(&mut [0; 4096], 8192).unwrap()),
        sample(&|| files[1].write_all_at(&[2; 4096], 4096).unwrap()),
    ]
}

#[test]
fn regression_a_delay_for_one_stalls_all() {
    crate::common::need_fuse!();
    let volume = builder().first_write(NEVER).mount().unwrap();
    let files = furnish(&volume, 2);
    let idle = bystanders(&volume, &files);
    let writers: Vec<_> = (0..300).map(|n| write_grain(volume.path().join(format!("new-{n}")), 0)).collect();
    assert!(volume.wait_held(300, LATE), "{} held", volume.status().model.held);
    let stalled = bystanders(&volume, &files);
    println!("p99 of stat, read, rewrite: idle {idle:?}, with 300 held and one FUSE thread {stalled:?}");
    for (idle, stalled) in idle.iter().zip(stalled) {
        // Generous: the machine is shared. The benchmark holds it to a factor of two.
        assert!(stalled < *idle * 10 + Duration::from_millis(50), "{idle:?} became {stalled:?}");
    }
    assert_eq!(volume.status().model.held, 300, "no operation was let go meanwhile");
    let (released, took) = timed(|| volume.release());
    println!("300 held writes answered in {took:?}");
    assert_eq!((released.operations, released.answered), (300, true));
    writers.iter().for_each(|writer| writer.recv_timeout(SOON).unwrap().unwrap());
    drop(files);
    volume.unmount().unwrap();
}

#[test]
fn with_scope_volume_everything_queues() {
    crate::common::need_fuse!();
    let wait = Duration::from_millis(600);
    let volume = builder().first_write(Latency::Constant(wait)).scope(Scope::Volume).mount().unwrap();
    let files = furnish(&volume, 2);
    let (path, old) = (volume.path().join("new"), volume.path().join("old-0"));
    let (_, took) = timed(|| {
        let writer = write_grain(path, 0);
        assert!(volume.wait_held(1, SOON));
        files[1].write_all_at(&[3; 4096], 0).unwrap();
        fs::metadata(old).unwrap();
        writer.recv_timeout(SOON).unwrap().unwrap();
    });
    assert!(took >= wait);
    let held = || volume.summary().held;
    assert!(wait_until(SOON, TICK, || held() >= 2), "the rewrite was held too: {}", held());
    drop(files);
    volume.unmount().unwrap();
}

#[test]
fn filters_narrow_who_is_hit() {
    crate::common::need_fuse!();
    let hit = |change: &dyn Fn(&mut stunfs::internal::volume::VolumeOptions), path: &str| {
        let volume =
            builder().first_write(Latency::Constant(Duration::from_millis(20))).configure(change).mount().unwrap();
        fs::create_dir(volume.path().join("log")).unwrap();
        let mut child = writer(&volume.path().join(path));
        assert!(child.wait().unwrap().success());
        volume.unmount().unwrap().held
    };
    assert_eq!(hit(&|options| options.filter.paths = vec!["log/**".into()], "log/a"), 1);
    assert_eq!(hit(&|options| options.filter.paths = vec!["log/**".into()], "a"), 0);
    assert_eq!(hit(&|options| options.filter.comms = vec!["head".into()], "a"), 1);
    assert_eq!(hit(&|options| options.filter.comms = vec!["tail".into()], "a"), 0);
    let own = rustix::process::geteuid().as_raw();
    assert_eq!(hit(&|options| options.filter.uids = vec![own], "a"), 1);
    assert_eq!(hit(&|options| options.filter.uids = vec![own + 1], "a"), 0);
    assert_eq!(hit(&|options| options.model.share_percent = 0.0, "a"), 0);
}

#[test]
fn a_stun_holds_reads_and_stat_and_resume_lets_them_go() {
    crate::common::need_fuse!();
    let volume = builder().mount().unwrap();
    let files = furnish(&volume, 1);
    let path = volume.path().join("old-0");
    volume.stun(None);
    let uncached = files[0].try_clone().unwrap();
    let missing = volume.path().join("missing");
    let stat = spawn(move || fs::metadata(missing).is_err());
    let sync = spawn(move || uncached.sync_all());
    let write = spawn(move || open(&path).write_all_at(&[1; 4096], 0));
    assert!(volume.wait_held(3, SOON));
    pause(Duration::from_millis(100));
    assert!(stat.try_recv().is_err() && sync.try_recv().is_err() && write.try_recv().is_err());
    assert!(volume.resume().answered);
    assert!(stat.recv_timeout(SOON).unwrap());
    sync.recv_timeout(SOON).unwrap().unwrap();
    write.recv_timeout(SOON).unwrap().unwrap();
    drop(files);
    volume.unmount().unwrap();
}

#[test]
fn the_first_read_of_what_was_there_waits_once() {
    crate::common::need_fuse!();
    let backing = tempfile::tempdir().unwrap();
    fs::write(backing.path().join("old"), vec![7; 4096]).unwrap();
    let wait = Duration::from_millis(200);
    let volume = builder().backing(backing.path()).first_read(Latency::Constant(wait)).mount().unwrap();
    let (data, first) = timed(|| fs::read(volume.path().join("old")).unwrap());
    assert_eq!(data, vec![7; 4096]);
    assert!(first >= wait, "{first:?}");
    fs::write(volume.path().join("new"), "new").unwrap();
    fs::read(volume.path().join("new")).unwrap();
    fs::read(volume.path().join("old")).unwrap();
    assert_eq!(volume.unmount().unwrap().held, 1);
}

/// As with a disk whose queue is full of writes: the kernel sends no more than `--queue-depth` requests that no process waits
/// for, and a read's are among those.
#[test]
fn once_the_queue_is_full_even_reads_wait() {
    crate::common::need_fuse!();
    let backing = tempfile::tempdir().unwrap();
    fs::write(backing.path().join("old"), vec![7; 256 << 10]).unwrap();
    let builder = builder().backing(backing.path()).first_write(NEVER).cache(CacheMode::Back);
    let volume = builder.configure(|options| options.queue_depth = 2).mount().unwrap();
    let writers: Vec<_> = (0..4)
        .map(|n| {
            let path = volume.path().join(format!("new-{n}"));
            spawn(move || open(&path).write_all_at(&[1; 4096], 0).and_then(|()| open(&path).sync_all()))
        })
        .collect();
    assert!(volume.wait_held(2, SOON));
    let path = volume.path().join("old");
    let reader = spawn(move || fs::read(path));
    pause(Duration::from_millis(300));
    assert_eq!(volume.status().model.held, 2, "the queue holds no more than that");
    assert!(reader.try_recv().is_err(), "a read of old data went past a full queue");
    volume.release();
    assert_eq!(reader.recv_timeout(SOON).unwrap().unwrap(), vec![7; 256 << 10]);
    writers.iter().for_each(|writer| writer.recv_timeout(SOON).unwrap().unwrap());
    volume.unmount().unwrap();
}

#[test]
fn held_data_past_the_memory_budget_goes_to_a_file_and_comes_back() {
    crate::common::need_fuse!();
    let volume = builder().first_write(NEVER).configure(|options| options.held_memory = Bytes::mib(1)).mount().unwrap();
    let data = |n: u8| (0..64 << 10).map(|at: u32| at.to_le_bytes()[0] ^ at.to_le_bytes()[1] ^ n).collect::<Vec<u8>>();
    let writers: Vec<_> = (0..48)
        .map(|n| {
            let path = volume.path().join(format!("new-{n}"));
            spawn(move || open(&path).write_all_at(&data(n), 0))
        })
        .collect();
    assert!(volume.wait_held(48, LATE));
    let now = volume.status();
    assert!(now.held_memory <= 1 << 20 && now.held_memory + now.held_spilled == 48 << 16, "{now:?}");
    volume.release();
    writers.iter().for_each(|writer| writer.recv_timeout(SOON).unwrap().unwrap());
    (0..48).for_each(|n| assert!(fs::read(volume.backing().join(format!("new-{n}"))).unwrap() == data(n), "new-{n}"));
    volume.unmount().unwrap();
}

#[test]
fn no_hold_is_longer_than_max_hold() {
    crate::common::need_fuse!();
    let limit = Duration::from_millis(200);
    let volume = builder().first_write(NEVER).configure(|options| options.model.max_hold = limit).mount().unwrap();
    let (_, took) = timed(|| fs::write(volume.path().join("file"), "x").unwrap());
    assert!(took >= limit && took < LATE, "{took:?}");
    volume.unmount().unwrap();
}

/// A volume whose pool has room for four grains, with four of data in it.
fn full(on_full: OnFull) -> Volume {
    let change = |options: &mut stunfs::internal::volume::VolumeOptions| {
        options.model.low_water_percent = 30;
        options.model.virtual_size = Some(Bytes::mib(100));
    };
    let volume = builder().pool(Bytes(4 * GRAIN), on_full).configure(change).mount().unwrap();
    let file = open(&volume.path().join("old"));
    (0..4).for_each(|grain| file.write_all_at(&vec![1; 64 << 10], grain * GRAIN).unwrap());
    volume
}

fn told(volume: &Volume, is_it: impl Fn(&EventBody) -> bool) -> bool {
    wait_until(SOON, TICK, || volume.recent_events().iter().any(|event| is_it(&event.body)))
}

#[test]
fn a_full_pool_fails_the_writer() {
    crate::common::need_fuse!();
    let volume = full(OnFull::Enospc);
    assert!(told(&volume, |body| matches!(body, EventBody::LowWater { .. })), "low water comes before");
    let file = open(&volume.path().join("old"));
    let error = file.write_all_at(&[1; 4096], 4 * GRAIN).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert!(told(&volume, |body| matches!(body, EventBody::PoolFull { .. })));
    file.write_all_at(&[2; 4096], 0).unwrap();
    let space = rustix::fs::statvfs(volume.path()).unwrap();
    assert_eq!(space.f_blocks * space.f_frsize, 100 << 20, "statfs shows the virtual size");
    assert!(space.f_bavail * space.f_frsize > 90 << 20, "that is the trap");
    volume.grow(Bytes(8 * GRAIN)).unwrap();
    file.write_all_at(&[1; 4096], 4 * GRAIN).unwrap();
    drop(file);
    volume.unmount().unwrap();
}

#[test]
fn a_full_pool_stuns_writers_that_need_space_until_it_grows() {
    crate::common::need_fuse!();
    let volume = full(OnFull::Stun);
    let (sender, order) = mpsc::channel();
    for grain in 4..8 {
        // Each to a file of its own: the kernel lets only one write to a file at a time.
        let (path, sender) = (volume.path().join(format!("new-{grain}")), sender.clone());
        std::thread::spawn(move || {
            open(&path).write_all_at(&vec![1; 64 << 10], 0).unwrap();
            sender.send(grain).unwrap();
        });
        assert!(wait_until(SOON, TICK, || volume.status().model.waiting_for_space == grain - 3));
    }
    let file = open(&volume.path().join("old"));
    let rewrite_and_read = spawn(move || {
        file.write_all_at(&[2; 4096], 2 * GRAIN)?;
        file.read_exact_at(&mut [0; 4096], GRAIN)
    });
    rewrite_and_read.recv_timeout(SOON).unwrap().unwrap();
    assert!(order.try_recv().is_err());
    for next in 4..8 {
        volume.grow(Bytes((next + 1) * GRAIN)).unwrap();
        assert_eq!(order.recv_timeout(SOON).unwrap(), next, "in order of arrival");
        pause(Duration::from_millis(20));
        assert!(order.try_recv().is_err(), "there was room for one");
    }
    volume.unmount().unwrap();
}

#[test]
fn a_full_pool_queues_writers_for_a_time() {
    crate::common::need_fuse!();
    let limit = Duration::from_millis(300);
    let volume = full(OnFull::Queue(limit));
    let file = open(&volume.path().join("old"));
    let (error, took) = timed(|| file.write_all_at(&[1; 4096], 4 * GRAIN).unwrap_err());
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert!(took >= limit && took < LATE, "{took:?}");
    drop(file);
    volume.unmount().unwrap();
}
