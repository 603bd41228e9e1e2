//! Workloads on a temporary directory; hanging and failing file systems are played by other workers.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use super::collect::Shown;
use super::crew::{Beat, Crew, Role, Worker};
use super::measure::Meter;
use super::run::run_crew;
use super::*;
use crate::time::{Clock, SimTime, pause};

static NOT_STOPPED: AtomicBool = AtomicBool::new(false);

fn options(kind: WriterKind, dir: &Path, count: u64) -> WorkloadOptions {
    WorkloadOptions { count: Some(count), every: None, seed: 7, ..WorkloadOptions::new(kind, dir) }
}

fn run_here(options: &WorkloadOptions) -> WorkloadReport {
    run(options, &NOT_STOPPED, |_| ()).unwrap()
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

#[test]
fn a_fluentd_writes_chunks_with_metadata_and_positions() {
    let dir = tempfile::tempdir().unwrap();
    let options = WorkloadOptions { threads: 3, ..options(WriterKind::Fluentd, dir.path(), 100) };
    let report = run_here(&options);
    assert_eq!((report.records, report.is_clean()), (300, true), "{report:?}");
    let names: Vec<_> = files(&dir.path().join("fluentd")).into_keys().collect();
    let of = |end: &str| names.iter().filter(|name| name.ends_with(end)).count();
    assert_eq!((of(".log"), of(".log.meta"), of(".pos"), names.len()), (3, 3, 3, 9), "{names:?}");
    assert!(names[3].starts_with("buffer.b"), "{names:?}");
    assert_eq!(report.slow_flushes, Some(0));
    let position = fs::read_to_string(dir.path().join("fluentd/0.pos")).unwrap();
    assert_eq!(position.split('\t').nth(1), Some(format!("{:016x}", 100 * 300).as_str()), "{position}");
    assert_eq!(report.kept[0], Kept { writer: "fluentd-0".into(), records: vec![(0, 99)] });
}

#[test]
fn a_full_buffer_is_flushed_in_order_and_its_records_are_not_missed() {
    let dir = tempfile::tempdir().unwrap();
    let big = WorkloadOptions { record_bytes: Some(1 << 20), ..options(WriterKind::Fluentd, dir.path(), 40) };
    let every = Some(Duration::from_millis(20));
    let report = run_here(&WorkloadOptions { every, ..big });
    assert_eq!((report.records, report.is_clean()), (40, true), "{report:?}");
    let names: Vec<_> = files(&dir.path().join("fluentd")).into_keys().collect();
    assert!(names.iter().any(|name| name.starts_with("buffer.q")), "{names:?}");
    assert!(report.ops[&WriterOp::Rename].count >= 20 && report.ops[&WriterOp::Unlink].count >= 2, "{report:?}");
    assert!(report.kept[0].records[0].0 > 0, "the oldest are sent: {:?}", report.kept);
    assert_eq!(report.verified.unwrap().acknowledged, Some(40 - report.kept[0].records[0].0));
}

#[test]
fn every_kind_runs_clean_and_goes_on_where_it_ended() {
    for kind in WriterKind::ALL {
        for fsync in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let count = if kind == WriterKind::Backup { 3 } else { 70 };
            let options = WorkloadOptions { threads: 2, fsync, ..options(kind, dir.path(), count) };
            for _ in 0..2 {
                let report = run_here(&options);
                assert_eq!((report.records, report.is_clean()), (2 * count, true), "{report:?}");
                assert_eq!(report.verified.as_ref().map(|verified| verified.damaged), Some(0));
                let text = serde_json::to_string(&report).unwrap();
                assert_eq!(serde_json::from_str::<WorkloadReport>(&text).unwrap(), report);
            }
            assert_eq!(verify(dir.path(), None).unwrap().lost, 0);
        }
    }
}

#[test]
fn the_same_seed_writes_the_same_bytes() {
    let written = [7, 7, 8].map(|seed| {
        let dir = tempfile::tempdir().unwrap();
        run_here(&WorkloadOptions { seed, ..options(WriterKind::Logger, dir.path(), 50) });
        files(&dir.path().join("logger-0"))
    });
    assert_eq!(written[0], written[1]);
    assert_ne!(written[0], written[2]);
}

/// Five files of 20 records each, all of them acknowledged.
fn five_files(dir: &Path) -> Vec<Kept> {
    for file in 0..5 {
        let records = (file * 20..(file + 1) * 20).flat_map(|n| super::record::encode(7, "churn-0", n, 300));
        fs::write(dir.join(format!("churn-0.{:012}.log", file * 20)), records.collect::<Vec<_>>()).unwrap();
    }
    vec![Kept { writer: "churn-0".into(), records: vec![(0, 99)] }]
}

#[test]
fn what_is_lost_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let kept = five_files(dir.path());
    let chunk = |first: u64| dir.path().join(format!("churn-0.{first:012}.log"));
    fs::remove_file(chunk(40)).unwrap();
    let torn = fs::read(chunk(80)).unwrap();
    fs::write(chunk(80), &torn[..torn.len() - 450]).unwrap();
    let mut zeroed = fs::read(chunk(0)).unwrap();
    zeroed[300..900].fill(0);
    fs::write(chunk(0), zeroed).unwrap();
    fs::write(dir.path().join("of-others.log"), "not ours").unwrap();

    let verified = verify(dir.path(), Some(&kept)).unwrap();
    let lost = vec![(1, 2), (40, 59), (98, 99)];
    assert_eq!(verified.lost_records, [Kept { writer: "churn-0".into(), records: lost }]);
    assert_eq!((verified.lost, verified.torn, verified.records, verified.files), (24, 1, 76, 4));
    assert_eq!(verified.damaged, 2, "a tear, and zeroes");
    assert_eq!(verify(dir.path(), None).unwrap().lost, 2, "only what a later record of the file proves");
    assert!(!verified.is_clean());
}

#[test]
fn what_is_doubled_or_out_of_order_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let kept = five_files(dir.path());
    assert!(verify(dir.path(), Some(&kept)).unwrap().is_clean());
    let file = dir.path().join(format!("churn-0.{:012}.log", 20));
    let text = fs::read(&file).unwrap();
    fs::write(&file, [&text[300..600], &text[..300], &text[600..]].concat()).unwrap();
    let verified = verify(dir.path(), Some(&kept)).unwrap();
    assert_eq!((verified.out_of_order, verified.duplicates, verified.is_clean()), (1, 0, false));
    fs::write(&file, [&text[..], &text[5700..]].concat()).unwrap();
    let verified = verify(dir.path(), Some(&kept)).unwrap();
    assert_eq!((verified.out_of_order, verified.duplicates, verified.is_clean()), (0, 1, false));
}

/// A record that was written and not acknowledged, since the server was killed in between, is no record that must be there.
#[test]
fn a_record_that_was_never_acknowledged_is_told_from_a_lost_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut kept = five_files(dir.path());
    kept[0].records = vec![(0, 97)];
    let verified = verify(dir.path(), Some(&kept)).unwrap();
    assert_eq!((verified.records, verified.lost, verified.unacknowledged), (100, 0, 2));
    fs::remove_file(dir.path().join(format!("churn-0.{:012}.log", 80))).unwrap();
    let verified = verify(dir.path(), Some(&kept)).unwrap();
    assert_eq!((verified.records, verified.lost, verified.unacknowledged), (80, 18, 0));
}

#[test]
fn time_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::start();
    let options = WorkloadOptions {
        duration: Duration::from_millis(300),
        every: Some(Duration::from_millis(10)),
        progress: Duration::from_millis(50),
        ..WorkloadOptions::new(WriterKind::Churn, dir.path())
    };
    let mut told = Vec::new();
    let report = run(&options, &NOT_STOPPED, |progress| told.push(progress.clone())).unwrap();
    assert!((1..=report.elapsed_us / 10_000 + 1).contains(&report.records), "no faster than asked: {report:?}");
    assert!(clock.now().since(SimTime::ZERO) >= Duration::from_millis(300));
    assert!(told.len() >= 2 && told.is_sorted_by_key(|progress| progress.records), "{told:?}");
    assert!(report.longest_gap_us >= 9_000);
}

#[test]
fn stop_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let options = WorkloadOptions {
        duration: Duration::from_secs(3600),
        progress: Duration::from_millis(20),
        ..WorkloadOptions::new(WriterKind::Logger, dir.path())
    };
    let stop = AtomicBool::new(false);
    let report = run(&options, &stop, |_| stop.store(true, Ordering::Relaxed)).unwrap();
    assert!(report.is_clean() && report.elapsed_us < 60_000_000);
}

#[test]
fn a_directory_that_is_not_there_is_an_error_in_one_line() {
    let options = options(WriterKind::Fluentd, Path::new("/nonexistent/dir"), 1);
    let error = run(&options, &NOT_STOPPED, |_| ()).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/dir") && !error.contains('\n'), "{error}");
    let none = WorkloadOptions { threads: 0, ..options };
    assert!(matches!(run(&none, &NOT_STOPPED, |_| ()), Err(WorkloadError::Options(_))));
}

fn crew_of<W: Worker + 'static>(worker: impl FnOnce() -> W + Send + 'static) -> Crew {
    let make = Box::new(move |_: &Meter| Ok(Box::new(worker()) as Box<dyn Worker>));
    let role = Role { name: "fluentd-0".to_owned(), beat: Beat::Records, make };
    Crew { roles: vec![role], shown: Shown::default() }
}

/// Hangs in its third write for far longer than anybody waits.
struct Hanging(u64);

impl Worker for Hanging {
    fn step(&mut self, meter: &Meter) -> io::Result<()> {
        self.0 += 1;
        let long = if self.0 == 3 { Duration::from_secs(600) } else { Duration::ZERO };
        meter.time(WriterOp::Write, || {
            pause(long);
            Ok(())
        })?;
        meter.written(self.0..=self.0);
        Ok(())
    }
    fn end(&mut self, _meter: &Meter) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_thread_that_hangs_is_told_of_and_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let options = WorkloadOptions {
        count: None,
        duration: Duration::from_millis(200),
        patience: Duration::from_millis(200),
        progress: Duration::from_millis(50),
        ..options(WriterKind::Fluentd, dir.path(), 1)
    };
    let mut waits = Vec::new();
    let (clock, crew) = (Clock::start(), crew_of(|| Hanging(0)));
    let report =
        run_crew(&options, clock, &NOT_STOPPED, |told| waits.extend(told.waiting.first().cloned()), crew).unwrap();
    assert!(report.elapsed_us < 30_000_000, "{report:?}");
    assert_eq!((report.records, report.stuck.len(), report.is_clean()), (2, 1, false));
    assert_eq!((report.stuck[0].op, report.stuck[0].writer.as_str()), (Some(WriterOp::Write), "fluentd-0"));
    assert!(report.stuck[0].for_us >= 300_000);
    assert!(report.ops[&WriterOp::Write].max_us >= 300_000 && report.longest_gap_us >= 300_000);
    assert!(report.unverified.is_some());
    assert!(waits.len() >= 2 && waits.is_sorted_by_key(|wait| wait.for_us), "{waits:?}");
}

/// Every other write fails.
struct Failing(u64);

impl Worker for Failing {
    fn step(&mut self, meter: &Meter) -> io::Result<()> {
        self.0 += 1;
        let fails = self.0.is_multiple_of(2);
        meter.time(WriterOp::Write, || if fails { Err(rustix::io::Errno::IO.into()) } else { Ok(()) })
    }
    fn end(&mut self, _meter: &Meter) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn errors_are_counted_by_name_and_do_not_end_it() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(WriterKind::Fluentd, dir.path(), 4);
    let report = run_crew(&options, Clock::start(), &NOT_STOPPED, |_| (), crew_of(|| Failing(0))).unwrap();
    assert_eq!(report.errors, [Trouble { op: WriterOp::Write, error: "EIO".into(), count: 2 }]);
    assert!(!report.is_clean());
}

#[test]
fn an_error_does_not_tear_the_next_record() {
    // The writer's directory disappears and comes back.
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("logs");
    fs::create_dir(&inner).unwrap();
    let meter = Meter::new("churn-0", Clock::start(), None);
    let mut appender = super::kinds::Appender::new(&options(WriterKind::Churn, &inner, 1), "churn-0", &meter).unwrap();
    appender.step(&meter).unwrap();
    fs::remove_dir_all(&inner).unwrap();
    assert!(appender.step(&meter).is_err());
    fs::create_dir(&inner).unwrap();
    appender.step(&meter).unwrap();
    assert_eq!(meter.stats().written.iter().collect::<Vec<_>>(), [0, 2]);
    assert_eq!(verify(&inner, None).unwrap().records, 1);
}

#[test]
fn kinds_have_names() {
    for kind in WriterKind::ALL {
        assert_eq!(kind.name().parse(), Ok(kind));
    }
    assert!("nginx".parse::<WriterKind>().unwrap_err().contains("fluentd"));
}

/// Its third record takes 300 ms.
struct Stalled(u64);

impl Worker for Stalled {
    fn step(&mut self, meter: &Meter) -> io::Result<()> {
        self.0 += 1;
        meter.time(WriterOp::Write, || {
            pause(if self.0 == 3 { Duration::from_millis(300) } else { Duration::ZERO });
            Ok(())
        })?;
        meter.written(self.0..=self.0);
        Ok(())
    }
    fn end(&mut self, _meter: &Meter) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn records_that_were_due_during_a_stall_count_with_their_wait() {
    let dir = tempfile::tempdir().unwrap();
    let every = Some(Duration::from_millis(10));
    let options = WorkloadOptions { every, ..options(WriterKind::Fluentd, dir.path(), 10) };
    let report = run_crew(&options, Clock::start(), &NOT_STOPPED, |_| (), crew_of(|| Stalled(0))).unwrap();
    // 300 ms are 30 beats: one was under way, the last one is late, the others are left out.
    assert!(report.missed >= 28 && report.records == 10, "{report:?}");
    assert_eq!(report.ack_latency.count, report.records + report.missed);
    let latency = &report.ack_latency;
    assert!(latency.max_us >= 300_000 && latency.p50_us >= 100_000, "{latency:?}");
    let WriterMetric::Micros(p50) = report.metrics()["ack_latency.p50"] else { panic!("no time") };
    assert_eq!(p50, latency.p50_us);
}

#[test]
fn a_record_that_still_hangs_counts_and_so_do_those_due_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let options = WorkloadOptions {
        count: None,
        duration: Duration::from_millis(300),
        patience: Duration::from_millis(100),
        every: Some(Duration::from_millis(10)),
        progress: Duration::from_millis(50),
        ..options(WriterKind::Fluentd, dir.path(), 1)
    };
    let mut told = Vec::new();
    let crew = crew_of(|| Hanging(0));
    let report = run_crew(&options, Clock::start(), &NOT_STOPPED, |now| told.push(now.clone()), crew).unwrap();
    assert!(report.ack_latency.max_us >= 350_000 && report.ack_latency.count >= 30, "{:?}", report.ack_latency);
    let waits: Vec<_> = told.iter().map(|now| now.interval.ack_max_us).collect();
    assert!(waits.last() >= Some(&150_000), "an interval shows what waits in it: {waits:?}");
    assert_eq!(told.iter().map(|now| now.interval.records).sum::<u64>(), 2);
}

#[test]
fn the_histogram_can_be_read_by_others() {
    use base64::Engine;
    let dir = tempfile::tempdir().unwrap();
    let report = run_here(&options(WriterKind::Churn, dir.path(), 50));
    let packed = base64::engine::general_purpose::STANDARD.decode(&report.ack_latency.hdr).unwrap();
    let read: hdrhistogram::Histogram<u64> =
        hdrhistogram::serialization::Deserializer::new().deserialize(&mut packed.as_slice()).unwrap();
    assert_eq!((read.len(), read.max()), (50, report.ack_latency.max_us));
}

#[test]
fn logs_are_rotated_in_every_way_and_nothing_is_lost() {
    for rotate in [RotateStyle::Create, RotateStyle::Rename, RotateStyle::Copytruncate] {
        let dir = tempfile::tempdir().unwrap();
        let options = WorkloadOptions { rotate, ..options(WriterKind::Logger, dir.path(), 6000) };
        let report = run_here(&options);
        assert_eq!((report.records, report.is_clean()), (6000, true), "{rotate:?} {report:?}");
        let names: Vec<_> = files(&dir.path().join("logger-0")).into_keys().collect();
        assert_eq!(names, ["messages", "messages.1", "messages.2", "messages.3", "messages.4"], "{rotate:?}");
        assert!(report.kept[0].records[0].0 > 0, "the oldest is deleted: {:?}", report.kept);
        assert_eq!(report.ops.contains_key(&WriterOp::Truncate), rotate == RotateStyle::Copytruncate);
    }
}

/// A crash leaves half a line, and a copy whose original was not truncated any more.
#[test]
fn a_log_goes_on_behind_half_a_record_and_half_a_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(WriterKind::Logrotate, dir.path(), 50);
    run_here(&options);
    let log = dir.path().join("logrotate-0/messages");
    let mut text = fs::read(&log).unwrap();
    fs::write(dir.path().join("logrotate-0/messages.1"), &text).unwrap();
    text.truncate(text.len() - 100);
    fs::write(&log, &text).unwrap();
    let report = run_here(&options);
    assert!(report.is_clean(), "{report:?}");
    let found = verify(dir.path(), Some(&[Kept { writer: "logrotate-0".into(), records: vec![(0, 48)] }])).unwrap();
    assert_eq!((found.lost, found.damaged, found.duplicates, found.out_of_order), (0, 1, 0, 0), "{found:?}");
}

#[test]
fn a_kubelet_has_two_hearts() {
    let dir = tempfile::tempdir().unwrap();
    // For a second: on a loaded machine the threads of the heartbeats may start late.
    let options =
        WorkloadOptions { every: Some(Duration::from_millis(5)), ..options(WriterKind::Kubelet, dir.path(), 200) };
    let report = run_here(&options);
    assert!(report.is_clean(), "{report:?}");
    let hearts = report.heartbeats.clone().unwrap();
    assert!(hearts.disk.beats >= 1 && hearts.lease.beats >= 1 && !hearts.disk.lost && !hearts.lease.lost, "{hearts:?}");
    assert_eq!((hearts.disk.limit_us, hearts.lease.limit_us), (180_000_000, 40_000_000));
    assert!(dir.path().join("kubelet/checkpoint.state").exists());
    assert!(report.metrics().contains_key("heartbeat_gap") && report.metrics().contains_key("lease_gap"));
    let line = fs::read_to_string(dir.path().join("kubelet-0/0.log")).unwrap();
    assert!(line.lines().all(|line| line.split(' ').nth(1) == Some("stdout")), "{line}");
}

#[test]
fn a_database_acknowledges_after_its_sync_and_allocates_before() {
    let dir = tempfile::tempdir().unwrap();
    let options = WorkloadOptions { record_bytes: Some(64 << 10), ..options(WriterKind::Database, dir.path(), 100) };
    let report = run_here(&options);
    assert!(report.is_clean(), "{report:?}");
    assert!(report.ops[&WriterOp::Fdatasync].count >= 100 && report.ops[&WriterOp::Allocate].count >= 6, "{report:?}");
    assert!(report.ops[&WriterOp::Unlink].count >= 1 && report.kept[0].records[0].0 > 0);
}
