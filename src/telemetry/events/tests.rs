use std::os::fd::AsRawFd;

use serde_json::{Value, json};

use super::*;
use crate::model::{ModelConfig, Penalty, ReleaseCause, StunCause};
use crate::op::OpKind;
use crate::telemetry::event::{NfsState, OpRecord, RunOptions, StorageFault};
use crate::time::wait_until;

const LONG: Duration = Duration::from_secs(10);

fn warning(text: &str) -> EventBody {
    EventBody::Warning { message: text.into() }
}

fn record(op: OpKind) -> OpRecord {
    OpRecord {
        op,
        ino: 12,
        path: "log/messages".into(),
        offset: Some(1 << 40),
        length: Some(4096),
        pid: 7,
        uid: 0,
        comm: "rsyslogd".into(),
    }
}

fn held(error: Option<&str>) -> EventBody {
    EventBody::Held {
        id: 3,
        op: record(OpKind::Write),
        requested_us: 1,
        due_us: 20_001,
        released_us: 20_090,
        late_us: error.map(|_| 100_001),
        cause: ReleaseCause::Due,
        penalty: Penalty { latency: Duration::from_millis(20), grains: 1, first_grain: Some(0), ..Penalty::default() }
            .into(),
        error: error.map(Into::into),
    }
}

/// Its place in [`samples`]: whoever adds an event is led here, then to the sample and the schema.
fn place(body: &EventBody) -> usize {
    match body {
        EventBody::Started { .. } => 0,
        EventBody::Held { .. } => 1,
        EventBody::Refused { .. } => 2,
        EventBody::StunBegan { .. } => 3,
        EventBody::StunEnded {} => 4,
        EventBody::LowWater { .. } => 5,
        EventBody::PoolFull { .. } => 6,
        EventBody::Discarded { .. } => 7,
        EventBody::Grown { .. } => 8,
        EventBody::Armed { .. } => 9,
        EventBody::Released { .. } => 10,
        EventBody::Changed { .. } => 11,
        EventBody::Expired {} => 12,
        EventBody::Rebuilt { .. } => 13,
        EventBody::Warning { .. } => 14,
        EventBody::Stopped { .. } => 15,
        EventBody::HungTask { .. } => 16,
        EventBody::SoftLockup { .. } => 17,
        EventBody::NfsServer { .. } => 18,
        EventBody::StorageError { .. } => 19,
        EventBody::Frozen { .. } => 20,
        EventBody::Thawed { .. } => 21,
    }
}

fn samples() -> Vec<EventBody> {
    let config = || Box::new(ModelConfig::default());
    vec![
        EventBody::Started {
            version: "0.1.0".into(),
            pid: 1,
            backing: "/b".into(),
            mountpoint: "/m".into(),
            profile: Some("vmware-thin".into()),
            started: "2026-01-01T00:00:00Z".into(),
            options: RunOptions { only: vec!["comm=tar".into()], cache: "back".into(), threads: 2 },
            config: config(),
        },
        held(None),
        EventBody::Refused { op: record(OpKind::Fallocate), error: "ENOSPC".into() },
        EventBody::StunBegan { cause: StunCause::QueueWait, until_us: 5 },
        EventBody::StunEnded {},
        EventBody::LowWater { used_bytes: 9, size_bytes: 10 },
        EventBody::PoolFull { size_bytes: 10 },
        EventBody::Discarded { grains: 4 },
        EventBody::Grown { size_bytes: 20 },
        EventBody::Armed { armed: false },
        EventBody::Released { held: 8 },
        EventBody::Changed { config: config() },
        EventBody::Expired {},
        EventBody::Rebuilt { reason: "killed".into(), used_bytes: 1 << 30 },
        warning("look"),
        EventBody::Stopped { reason: "SIGTERM".into(), held: 1000, dropped: 0 },
    ]
}

/// What is around a volume.
fn samples_around() -> Vec<EventBody> {
    vec![
        EventBody::HungTask {
            task: "fluentd".into(),
            pid: 134,
            seconds: Some(5),
            state: Some('D'),
            waits_in: Some("xfs_buf_lock".into()),
            waits_for: Some("XFS buffer lock".into()),
            frames: vec!["down".into(), "xfs_buf_lock".into()],
            source: "host".into(),
            raw: "INFO: task fluentd:134 blocked for more than 5 seconds.".into(),
            at_us: Some(7),
        },
        EventBody::SoftLockup {
            cpu: 0,
            seconds: 223,
            task: "swapper/0".into(),
            pid: 0,
            source: "host".into(),
            raw: "watchdog: BUG: soft lockup".into(),
            at_us: None,
        },
        EventBody::NfsServer {
            server: "10.0.2.2".into(),
            state: NfsState::NotResponding,
            source: "host".into(),
            raw: "nfs: server 10.0.2.2 not responding, still trying".into(),
            at_us: Some(7),
        },
        EventBody::StorageError {
            fault: StorageFault::XfsShutdown,
            device: Some("loop0".into()),
            sector: None,
            source: "/tmp/console".into(),
            raw: "XFS (loop0): Filesystem has been shut down".into(),
            at_us: Some(7),
        },
        EventBody::Frozen {
            targets: vec!["cgroup:/x".parse().unwrap(), "pid:7".parse().unwrap()],
            took_us: 1500,
            waiting: vec!["sh (8) in request_wait_answer".into()],
        },
        EventBody::Thawed { targets: vec!["cgroup:/x".parse().unwrap()], took_us: 100 },
    ]
}

fn schema() -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(include_str!("../../../docs/events.schema.json")).unwrap();
    jsonschema::draft202012::meta::validate(&schema).unwrap();
    jsonschema::draft202012::new(&schema).unwrap()
}

fn line(body: EventBody) -> Value {
    serde_json::to_value(Event { v: SCHEMA_VERSION, seq: 1, t_us: 0, body }).unwrap()
}

#[test]
fn every_event_is_valid_by_the_schema_and_documented() {
    let (schema, text) = (schema(), include_str!("../../../docs/events.md"));
    for (index, body) in samples().into_iter().chain(samples_around()).chain([held(Some("ENOSPC"))]).enumerate() {
        assert!(index == place(&body) || index == 22, "{body:?} stands in the wrong place");
        let value = line(body.clone());
        if let Err(error) = schema.validate(&value) {
            panic!("{value}: {error}");
        }
        let name = value["event"].as_str().unwrap();
        assert!(text.contains(&format!("| `{name}` |")), "docs/events.md says nothing of {name}");
        assert_eq!(serde_json::from_value::<Event>(value).unwrap().body, body, "what is written can be read back");
    }
}

#[test]
fn every_operation_name_is_in_the_schema() {
    let schema = schema();
    for op in OpKind::ALL {
        let value = line(EventBody::Refused { op: record(op), error: "ENOSPC".into() });
        assert!(schema.is_valid(&value), "{value}");
        assert_eq!(OpKind::ALL[op.index()], op);
        assert_eq!(value["op"], op.name());
    }
}

#[test]
fn every_storage_fault_is_in_the_schema_and_documented() {
    let (schema, text) = (schema(), include_str!("../../../docs/kernel-log.md"));
    for fault in StorageFault::ALL {
        let (device, source, raw) = (None, "host".to_owned(), "x".to_owned());
        let value = line(EventBody::StorageError { fault, device, sector: None, source, raw, at_us: None });
        assert!(schema.is_valid(&value), "{value}");
        let name = value["fault"].as_str().unwrap();
        assert!(text.contains(&format!("| `{name}` |")), "docs/kernel-log.md says nothing of {name}");
    }
}

#[test]
fn what_is_no_event_is_refused_by_the_schema() {
    let schema = schema();
    let good = line(held(None));
    let garbage = [
        json!({}),
        json!("held"),
        json!([good]),
        json!({"v": 1, "seq": 1, "t_us": 0, "event": "no-such-event"}),
        json!({"v": 1, "seq": 1, "t_us": 0}),
        json!({"v": 1, "seq": 1, "t_us": 0, "event": "low-water"}),
        json!({"v": 1, "seq": -1, "t_us": 0, "event": "expired"}),
        json!({"v": 2, "seq": 1, "t_us": 0, "event": "expired"}),
    ];
    for value in &garbage {
        assert!(!schema.is_valid(value), "{value}");
    }
    for field in good.as_object().unwrap().keys().filter(|field| !["offset", "length"].contains(&field.as_str())) {
        let mut value = good.clone();
        value.as_object_mut().unwrap().remove(field);
        assert!(!schema.is_valid(&value), "without {field}");
        value[field] = json!([]);
        assert!(!schema.is_valid(&value), "{field} of the wrong type");
    }
}

#[test]
fn lines_are_complete_numbered_and_closed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    std::fs::write(&path, "an older session\n").unwrap();
    let log = EventLog::open(Some(&path), Clock::start()).unwrap();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let log = log.clone();
            std::thread::spawn(move || (0..2500).for_each(|_| log.emit(held(None))))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(log.close("done", 10_000, LONG));
    assert!(log.close("again", 0, LONG), "closing twice is harmless");
    log.emit(warning("too late"));

    let (text, schema) = (std::fs::read_to_string(&path).unwrap(), schema());
    let values: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(values.len(), 10_001);
    let mut last_us = 0;
    for (index, value) in values.iter().enumerate() {
        assert_eq!(value["seq"], index + 1);
        assert!(value["t_us"].as_u64().unwrap() >= last_us);
        last_us = value["t_us"].as_u64().unwrap();
        assert!(index % 1000 != 0 || schema.is_valid(value));
    }
    let last = values.last().unwrap();
    assert_eq!((&last["event"], &last["reason"], &last["dropped"]), (&json!("stopped"), &json!("done"), &json!(0)));
    assert_eq!(log.counts().dropped, 1, "what comes after the end is counted");
}

#[test]
fn a_full_queue_drops_counts_and_says_so() {
    // A pipe that nobody reads stops the writer after 64 KiB.
    let (reader, pipe) = std::io::pipe().unwrap();
    let path = format!("/proc/self/fd/{}", pipe.as_raw_fd());
    let capacity = Capacity { queue: 100, ..Capacity::default() };
    let log = EventLog::with_capacity(Some(Path::new(&path)), Clock::start(), capacity).unwrap();
    let clock = Clock::start();
    let mut sent = 0;
    while log.counts().dropped < 500 {
        log.emit(held(None));
        sent += 1;
    }
    assert!(clock.now() < SimTime::from_millis(10_000), "emit does not block");
    drop(pipe);
    let lines = std::thread::spawn(move || {
        use std::io::BufRead;
        let events = std::io::BufReader::new(reader).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap());
        events.take_while(|event: &Event| !matches!(event.body, EventBody::Stopped { .. })).count()
    });
    let dropped = log.counts().dropped;
    assert!(!log.close("done", 0, LONG), "an incomplete file is admitted");
    assert_eq!(log.counts().emitted, sent + 1);
    let recent = log.recent();
    let last = recent.last().unwrap();
    assert_eq!(last.body, EventBody::Stopped { reason: "done".into(), held: 0, dropped });
    assert_eq!(last.seq, sent + 1, "dropped events leave gaps in seq");
    assert_eq!(lines.join().unwrap() as u64, sent - dropped);
}

#[test]
fn a_broken_file_is_counted_and_stops_nobody() {
    let log = EventLog::open(Some(Path::new("/dev/full")), Clock::start()).unwrap();
    let live = log.subscribe();
    log.emit(warning("one"));
    assert_eq!(live.recv_timeout(LONG).unwrap().body, warning("one"));
    assert!(wait_until(LONG, POLL, || log.counts().file_errors > 0));
    assert!(!log.close("done", 0, LONG));
    assert!(log.counts().lost > 0);
    assert!(EventLog::open(Some(Path::new("/no/such/dir/events")), Clock::start()).is_err());
}

#[test]
fn subscribers_join_without_gap_and_slow_ones_miss_counted_events() {
    let capacity = Capacity { recent: 50, subscriber: 10, ..Capacity::default() };
    let log = EventLog::with_capacity(None, Clock::start(), capacity).unwrap();
    let slow = log.subscribe();
    (0..100).for_each(|n| log.emit(warning(&n.to_string())));
    assert!(wait_until(LONG, POLL, || log.recent().last().is_some_and(|event| event.seq == 100)));
    assert_eq!(log.recent().first().unwrap().seq, 51);
    let late = log.subscribe_since(90);
    (0..5).for_each(|n| log.emit(warning(&n.to_string())));
    let mut seqs: Vec<u64> = late.backlog.iter().map(|event| event.seq).collect();
    seqs.extend((0..5).map(|_| late.live.recv_timeout(LONG).unwrap().seq));
    assert_eq!(seqs, (91..=105).collect::<Vec<_>>());
    assert!(log.close("done", 0, LONG));
    assert_eq!(slow.iter().count(), 10);
    assert_eq!(log.counts().missed, 96);
    assert!(matches!(late.live.iter().last().unwrap().body, EventBody::Stopped { .. }));
    assert!(log.subscribe().recv().is_err(), "nothing comes after the end");
}

#[test]
fn dropping_the_last_handle_writes_everything() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    let log = EventLog::open(Some(&path), Clock::start()).unwrap();
    (0..100).for_each(|_| log.emit(warning("x")));
    drop(log);
    let written = || std::fs::read_to_string(&path).unwrap().lines().count() == 100;
    assert!(wait_until(LONG, POLL, written));
}

#[test]
#[ignore = "a measurement: cargo test --release --lib events::tests::cost -- --ignored --nocapture"]
fn cost() {
    let dir = tempfile::tempdir().unwrap();
    let log = EventLog::open(Some(&dir.path().join("events")), Clock::start()).unwrap();
    let bodies: Vec<_> = (0..50_000).map(|_| held(None)).collect();
    let clock = Clock::start();
    bodies.into_iter().for_each(|body| log.emit(body));
    let each = clock.now().0 / 50_000;
    println!("{each} ns per emit, {:?}", log.counts());
}
