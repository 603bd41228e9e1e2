use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::socket::{find_in, socket_in};
use super::*;
use crate::model::{Penalty, PoolUse, Snapshot};
use crate::op::OpKind;
use crate::telemetry::event::{EventBody, OpRecord, RunOptions};
use crate::telemetry::events::EventLog;
use crate::telemetry::metrics::{Metrics, Mirrored};
use crate::time::{Clock, Deadline, wait_until};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);

/// A volume that only says that it did what it was asked.
struct Fake {
    log: EventLog,
    metrics: Metrics,
    held: u64,
    calls: Mutex<Vec<String>>,
    /// `release` waits for it.
    gate: Receiver<()>,
}

impl Fake {
    fn did(&self, call: impl Into<String>) {
        self.calls.lock().push(call.into());
    }
}

impl Fake {
    fn status(&self, limit: usize) -> StatusReply {
        let status = Status {
            version: "0".into(),
            pid: 1,
            backing: "/b".into(),
            mountpoint: "/m".into(),
            profile: None,
            started: "2026-01-01T00:00:00Z".into(),
            uptime_us: 5,
            armed: true,
            expired: false,
            stun: Some(StunStatus { until_us: 9, left_us: 4, frozen: false }),
            pool: PoolUse::default(),
            queue_wait_us: 0,
            counters: OperationCounters::default(),
            events: EventsStatus::default(),
            options: RunOptions::default(),
            config: json!({"first_write": "20ms"}),
        };
        StatusReply { status, held: self.held(limit) }
    }
    fn held(&self, limit: usize) -> HeldPage {
        let op = OpRecord {
            op: OpKind::Write,
            ino: 1,
            path: "log/messages".into(),
            offset: Some(0),
            length: Some(4096),
            pid: 7,
            uid: 0,
            comm: "rsyslogd".into(),
        };
        let one = |id| HeldOp {
            id,
            op: op.clone(),
            since_us: id,
            until_us: Some(id + 9),
            waits_for: vec![WaitsFor::Penalty],
            penalty: Penalty::default().into(),
        };
        HeldPage { total: self.held, waiting_for_space: 0, ops: (0..self.held).take(limit).map(one).collect() }
    }
    fn set(&self, changes: Map<String, Value>) -> Result<Reply, ControlRefusal> {
        if let Some(value) = changes.get("first_write").filter(|value| !value.is_string()) {
            return Err(ControlRefusal::Invalid(format!("first_write: {value}\nis not a time")));
        }
        self.did("set");
        Ok(Reply::Set(Value::Object(changes)))
    }
    fn release(&self) -> Reply {
        self.did("release begins");
        let _ = self.gate.recv_timeout(LONG);
        self.did("release done");
        Reply::Release(ReleaseReply { released: self.held })
    }
}

impl ControlHandler for Fake {
    fn execute(&self, command: Command) -> Result<Reply, ControlRefusal> {
        Ok(match command {
            Command::Status { limit } => Reply::Status(Box::new(self.status(limit))),
            Command::Set(changes) => return self.set(changes.into_inner()),
            Command::Arm {} => return Err(ControlRefusal::Conflict("the time limit has passed".into())),
            Command::Disarm {} => {
                self.did("disarm");
                Reply::Arm(ArmReply { armed: false })
            }
            Command::Stun { duration, .. } => {
                self.did(format!("stun {duration:?}"));
                Reply::Stun(StunReply { until_us: 7, for_us: 5, still_running: 0 })
            }
            Command::Resume {} => panic!("a bug in the volume"),
            Command::Release {} => self.release(),
            Command::Grow { pool } => {
                Reply::Grow(GrowReply { pool: PoolUse { size_bytes: Some(pool.0), ..PoolUse::default() }, released: 3 })
            }
            Command::WaitHeld { count, .. } => {
                Reply::WaitHeld(WaitHeldReply { held: self.held, reached: self.held >= count })
            }
            Command::Stop {} => {
                self.did("stop");
                Reply::Stop(StopReply { stopping: true })
            }
            // Discard, and every command that is added later.
            _ => return Err(ControlRefusal::Unavailable("the volume is ending".into())),
        })
    }
    fn events(&self) -> EventLog {
        self.log.clone()
    }
    fn metrics(&self) -> String {
        self.metrics.render(&Snapshot::default(), &Mirrored::default())
    }
}

struct Setup {
    server: ControlServer,
    fake: Arc<Fake>,
    open_gate: Sender<()>,
    dir: tempfile::TempDir,
}

impl Setup {
    fn new(held: u64, limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (open_gate, gate) = bounded(10);
        let log = EventLog::open(None, Clock::start()).unwrap();
        let fake = Arc::new(Fake { log, metrics: Metrics::new(), held, calls: Mutex::default(), gate });
        let target: Arc<dyn ControlHandler> = Arc::<Fake>::clone(&fake);
        let server = ControlServer::with_limits(&dir.path().join("run/control.sock"), target, limits).unwrap();
        Self { server, fake, open_gate, dir }
    }
    fn client(&self) -> Client {
        Client::connect(self.server.path()).unwrap()
    }
    fn raw(&self) -> UnixStream {
        let stream = UnixStream::connect(self.server.path()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        stream
    }
    /// What comes back for these bytes until the server closes.
    fn exchange(&self, request: &[u8]) -> String {
        let mut stream = self.raw();
        // The server may have refused and closed before all is written.
        let _ = stream.write_all(request);
        read_all(&mut stream)
    }
    fn is_well(&self) -> bool {
        self.client().get("/v1/status").unwrap().status == 200
    }
    fn calls(&self) -> Vec<String> {
        self.fake.calls.lock().clone()
    }
}

fn setup() -> Setup {
    Setup::new(250, Limits::default())
}

fn impatient() -> Setup {
    Setup::new(3, Limits { read: SHORT, ..Limits::default() })
}

fn read_all(stream: &mut impl Read) -> String {
    let mut answer = Vec::new();
    // A reset after a refusal counts as the end.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn every_route_answers() {
    let setup = setup();
    let client = setup.client();
    let get = |path: &str| client.get(path).unwrap().ok().unwrap();
    let post = |path: &str, body: Value| client.post(path, &body).unwrap();

    let status: StatusReply = serde_json::from_value(get("/v1/status")).unwrap();
    assert_eq!((status.held.total, status.held.ops.len(), status.status.stun.unwrap().left_us), (250, 100, 4));
    assert_eq!(get("/v1/status?limit=1")["held"]["ops"][0]["comm"], "rsyslogd");
    assert_eq!(get("/v1/status?limit=100000")["held"]["ops"].as_array().unwrap().len(), 250);
    let set = post("/v1/set", json!({"first-write": "5ms", "--on_full": "stun"})).ok().unwrap();
    assert_eq!(set, json!({"first_write": "5ms", "on_full": "stun"}));
    assert_eq!(post("/v1/disarm", json!({})).ok().unwrap(), json!({"armed": false}));
    assert_eq!(
        post("/v1/stun", json!({"for": "30s"})).ok().unwrap(),
        json!({"until_us": 7, "for_us": 5, "still_running": 0})
    );
    assert_eq!(post("/v1/stun", json!({})).status, 200);
    setup.open_gate.send(()).unwrap();
    assert_eq!(post("/v1/release", json!({})).ok().unwrap(), json!({"released": 250}));
    assert_eq!(post("/v1/grow", json!({"pool": "20GiB"})).ok().unwrap()["pool"]["size_bytes"], 20_u64 << 30);
    assert_eq!(post("/v1/stop", json!({})).ok().unwrap(), json!({"stopping": true}));
    assert!(get("/metrics").as_str().unwrap().contains("# TYPE stunfs_operations_total counter\n"));
    assert_eq!(get("/v1/schema")["$id"], "urn:stunfs:events:1");
    let calls = ["set", "disarm", "stun Some(30s)", "stun None", "release begins", "release done", "stop"];
    assert_eq!(setup.calls(), calls);
}

#[test]
fn every_route_is_documented() {
    let (routes, text) = (include_str!("routes.rs"), include_str!("../../docs/control.md"));
    let paths = routes.lines().filter_map(|line| line.trim().strip_prefix(".route(\"")?.split('"').next());
    let paths: Vec<_> = paths.collect();
    assert_eq!(paths.len(), 5);
    let commands = Command::NAMES.iter().map(|name| format!("/v1/{name}"));
    let paths = paths.into_iter().filter(|path| !path.contains('{')).map(str::to_owned).chain(commands);
    let missing: Vec<_> = paths.filter(|path| !text.contains(&format!("{path}`"))).collect();
    assert!(missing.is_empty(), "docs/control.md lacks {missing:?}");
}

#[test]
fn refusals_have_the_right_status_and_one_line() {
    let setup = setup();
    let client = setup.client();
    let wrong = [
        ("POST", "/v1/arm", json!({}), 409, "time limit"),
        ("POST", "/v1/discard", json!({}), 503, "ending"),
        ("POST", "/v1/resume", json!({}), 500, "inside stunfs"),
        ("POST", "/v1/disarm", json!({"x": 1}), 400, "unknown field"),
        ("POST", "/v1/set", json!({}), 400, "nothing to set"),
        ("POST", "/v1/set", json!([1]), 400, "expected"),
        ("POST", "/v1/set", json!({"first_write": 20}), 400, "is not a time"),
        ("POST", "/v1/set", json!({"first_write": "1s", "first-write": "2s"}), 400, "twice"),
        ("POST", "/v1/stun", json!({"for": "20"}), 400, "no unit"),
        ("POST", "/v1/stun", json!({"for": "0s"}), 400, "never begins"),
        ("POST", "/v1/stun", json!({"for": 20}), 400, "expected"),
        ("POST", "/v1/grow", json!({}), 400, "pool"),
        ("POST", "/v1/grow", json!({"pool": "big"}), 400, "not a size"),
        ("POST", "/v1/status", json!({}), 405, "POST"),
        ("GET", "/v1/stun", json!({}), 405, "GET"),
        ("GET", "/v2/status", json!({}), 404, "/v2/status"),
        ("GET", "/v1/nothing", json!({}), 404, "/v1/nothing"),
        ("POST", "/v1/nothing", json!({}), 404, "/v1/nothing"),
        ("POST", "/v1/events", json!({}), 405, "POST"),
        ("POST", "/v1/wait-held", json!({}), 400, "count"),
        ("POST", "/v1/stun", json!({"settle": "5"}), 400, "settle: '5' has no unit"),
        ("GET", "/v1/status?limit=100001", json!({}), 400, "limit"),
        ("GET", "/v1/status?limit=-1", json!({}), 400, "limit"),
        ("GET", "/v1/status?limt=1", json!({}), 400, "limt"),
        ("GET", "/v1/events?since=x", json!({}), 400, "since"),
        ("GET", "/v1/events?follow=perhaps", json!({}), 400, "follow"),
    ];
    for (method, path, body, status, says) in wrong {
        let reply = if method == "GET" { client.get(path) } else { client.post(path, &body) }.unwrap();
        assert_eq!(reply.status, status, "{method} {path} {body}: {reply:?}");
        let line = reply.ok().unwrap_err().to_string();
        assert!(line.contains(says) && !line.contains('\n'), "{method} {path} {body}: {line}");
    }
    assert!(setup.is_well());
}

#[test]
fn bodies_must_be_json_and_small() {
    let setup = impatient();
    let post = |head: &str, body: &[u8]| {
        let head = format!("POST /v1/stun HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{head}\r\n\r\n");
        setup.exchange(&[head.as_bytes(), body].concat())
    };
    assert!(post("content-length: 2", b"{}").starts_with("HTTP/1.1 200"), "no type is taken for JSON");
    let form = post("content-type: application/x-www-form-urlencoded\r\ncontent-length: 2", b"{}");
    assert!(form.starts_with("HTTP/1.1 415") && form.contains("--json"), "{form}");
    assert!(
        post("content-type: application/json; charset=utf-8\r\ncontent-length: 2", b"{}").starts_with("HTTP/1.1 200")
    );
    assert!(post("content-length: 2", b"{]").starts_with("HTTP/1.1 400"));
    let deep = vec![b'['; 100_000];
    assert!(post("content-length: 100000", &deep).starts_with("HTTP/1.1 400"));
    assert!(post("content-length: 10485760", b"{").starts_with("HTTP/1.1 413"), "refused before it comes");
    let chunk = [b"a00000\r\n".as_slice(), &vec![b' '; 10 << 20], b"\r\n0\r\n\r\n"].concat();
    let answer = post("transfer-encoding: chunked", &chunk);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(
        post("content-length: 10", b"{}").starts_with("HTTP/1.1 408"),
        "a body that does not come is not waited for"
    );
    assert!(setup.is_well());
}

#[test]
fn garbage_is_refused_and_half_requests_are_cut_off() {
    let setup = impatient();
    assert!(setup.exchange(b"\x00\xff\xfe garbage\r\n\r\n").starts_with("HTTP/1.1 400"));
    assert!(setup.exchange(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").starts_with("HTTP/1.1 400"));
    let head = format!("GET /v1/status HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    assert!(setup.exchange(head.as_bytes()).starts_with("HTTP/1.1 431"));
    let clock = Clock::start();
    assert_eq!(setup.exchange(b"GET /v1/sta"), "");
    assert_eq!(setup.exchange(b""), "", "a client that says nothing is cut off, too");
    let waited = Duration::from_nanos(clock.now().0);
    assert!(waited >= 2 * SHORT && waited < LONG, "{waited:?}");
    assert!(setup.is_well());
}

fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

#[test]
fn a_thousand_connections_do_no_harm() {
    let setup = impatient();
    raise_file_limit();
    let mut crowd: Vec<_> = (0..1000).map(|_| setup.raw()).collect();
    crowd.iter().for_each(|stream| stream.set_nonblocking(true).unwrap());
    assert!(wait_until(LONG, SHORT / 10, || {
        crowd.retain_mut(|stream| !matches!(stream.read(&mut [0]), Ok(0)));
        crowd.is_empty()
    }));
    assert!(wait_until(LONG, SHORT / 10, || {
        Client::connect(setup.server.path()).is_ok_and(|client| client.get("/v1/status").is_ok())
    }));
}

#[test]
fn an_excess_connection_is_closed_at_once_and_a_slot_comes_free() {
    let setup = Setup::new(0, Limits { connections: 2, ..Limits::default() });
    let (first, second) = (setup.raw(), setup.raw());
    assert_eq!(setup.exchange(b""), "");
    drop((first, second));
    let served = || setup.exchange(b"GET /v1/status HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 200");
    assert!(wait_until(LONG, SHORT / 10, served));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]
    #[test]
    fn random_requests_do_no_harm(
        requests in prop::collection::vec((prop::sample::select(vec!["", "POST /v1/set HTTP/1.1\r\n", "GET /v1/"]), prop::collection::vec(any::<u8>(), 0..200)), 40)
    ) {
        let setup = Setup::new(1, Limits { read: Duration::from_millis(5), ..Limits::default() });
        for (start, rest) in requests {
            setup.exchange(&[start.as_bytes(), &rest].concat());
        }
        prop_assert!(setup.client().get("/v1/schema").is_ok());
    }
}

#[test]
fn release_is_acknowledged_after_its_effect_and_others_are_served_meanwhile() {
    let setup = setup();
    let path = setup.server.path().to_owned();
    let (answered, is_answered) = bounded(1);
    let waiting = std::thread::spawn(move || {
        let reply = Client::connect(&path).unwrap().timeout(None).post("/v1/release", &json!({})).unwrap();
        answered.send(()).unwrap();
        reply
    });
    assert!(wait_until(LONG, SHORT / 10, || setup.calls() == ["release begins"]));
    assert!(setup.is_well(), "status does not queue behind release");
    assert!(is_answered.recv_timeout(SHORT).is_err(), "not acknowledged before the effect");
    let impatient = setup.client().timeout(Some(SHORT)).post("/v1/release", &json!({})).unwrap_err().to_string();
    assert!(impatient.contains("no answer within"), "{impatient}");
    (0..2).for_each(|_| setup.open_gate.send(()).unwrap());
    assert_eq!(waiting.join().unwrap().body["released"], 250);
}

#[test]
fn events_are_streamed_from_where_one_wants() {
    let setup = setup();
    let tell = |n: u64| setup.fake.log.emit(EventBody::Discarded { grains: n });
    (0..300).for_each(tell);
    assert!(wait_until(LONG, SHORT / 10, || setup.fake.log.recent().len() == 300));
    let lines = setup.client().events(290, false).unwrap().map(|line| line.unwrap());
    let seqs: Vec<u64> =
        lines.map(|line| serde_json::from_str::<Value>(&line).unwrap()["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (291..=300).collect::<Vec<_>>());
    let mut live = setup.client().timeout(Some(SHORT)).events(299, true).unwrap();
    assert!(live.next().unwrap().unwrap().contains("\"seq\":300"));
    tell(7);
    assert!(live.next().unwrap().unwrap().contains("\"grains\":7"));
    assert!(setup.fake.log.close("done", 0, LONG));
    assert!(live.next().unwrap().unwrap().contains("\"event\":\"stopped\""));
    assert!(live.next().is_none(), "the stream ends with the log");
}

#[test]
fn stop_lets_answers_out_but_waits_for_no_client_for_ever() {
    let mut setup = setup();
    let mut stream = setup.client().events(0, true).unwrap();
    let path = setup.server.path().to_owned();
    let idle = setup.raw();
    assert!(setup.server.stop(Deadline::after(LONG)), "streams and idle connections do not hold it up");
    assert!(stream.next().is_none());
    assert!(!path.exists());
    assert!(Client::connect(&path).unwrap_err().to_string().contains("no volume listens"));
    drop(idle);

    let mut setup = self::setup();
    let mut stuck = setup.raw();
    stuck.write_all(b"POST /v1/release HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").unwrap();
    assert!(wait_until(LONG, SHORT / 10, || setup.calls() == ["release begins"]));
    let clock = Clock::start();
    assert!(!setup.server.stop(Deadline::after(SHORT)));
    let took = Duration::from_nanos(clock.now().0);
    assert!((SHORT..LONG / 4).contains(&took), "{took:?}");
    assert_eq!(read_all(&mut stuck), "");
    setup.open_gate.send(()).unwrap();
}

#[test]
fn the_socket_is_private_from_the_start_and_goes_away() {
    let setup = setup();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let path = setup.server.path().to_owned();
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    let target: Arc<dyn ControlHandler> = Arc::<Fake>::clone(&setup.fake);
    let again = ControlServer::start(&path, Arc::clone(&target)).unwrap_err();
    assert!(matches!(again, ControlError::Live(_)), "{again}");
    assert!(setup.is_well(), "the refused one did no harm");

    // Another process's socket at our path is not ours to remove.
    std::fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    drop(setup.server);
    assert!(path.exists());

    // That one dies without removing it: stale.
    drop(other);
    let server = ControlServer::start(&path, Arc::clone(&target)).unwrap();
    assert!(Client::connect(&path).is_ok());
    drop(server);
    assert!(!path.exists());

    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(ControlServer::start(&path, Arc::clone(&target)), Err(ControlError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    let long = setup.dir.path().join("x".repeat(120));
    assert!(matches!(ControlServer::start(&long, target), Err(ControlError::TooLong(_))));
}

#[test]
fn of_many_that_start_at_once_one_gets_the_socket() {
    let setup = setup();
    let path = setup.dir.path().join("contested.sock");
    drop(UnixListener::bind(&path).unwrap());
    let start = |_| {
        let (path, target): (_, Arc<dyn ControlHandler>) = (path.clone(), Arc::<Fake>::clone(&setup.fake));
        std::thread::spawn(move || ControlServer::start(&path, target))
    };
    let threads: Vec<_> = (0..8).map(start).collect();
    let servers: Vec<_> = threads.into_iter().filter_map(|thread| thread.join().unwrap().ok()).collect();
    assert_eq!(servers.len(), 1);
    assert!(Client::connect(&path).is_ok());
}

#[test]
fn other_users_are_refused() {
    if !rustix::process::geteuid().is_root() || std::process::Command::new("curl").arg("--version").output().is_err() {
        eprintln!("skipped: needs root, to become another user, and curl");
        return;
    }
    let setup = setup();
    let path = setup.server.path();
    let curl = || {
        let mut curl = std::process::Command::new("curl");
        curl.uid(65534)
            .gid(65534)
            .args(["-sS", "--max-time", "10", "--unix-socket"])
            .arg(path)
            .arg("http://x/v1/status");
        let output = curl.output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let open = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    open(setup.dir.path(), 0o755);
    open(path.parent().unwrap(), 0o755);
    let by_mode = curl();
    assert!(by_mode.starts_with("curl: (7)"), "the mode of the socket keeps them out: {by_mode}");
    open(path, 0o666);
    let by_credentials = curl();
    assert!(by_credentials.contains("only root"), "so do their credentials: {by_credentials}");
    assert!(setup.is_well());
}

#[test]
fn sockets_are_found_by_mount_point_by_path_or_alone() {
    let setup = setup();
    let dir = setup.dir.path().join("runtime");
    let find = |arg: Option<&str>| find_in(&dir, &[], arg.map(Path::new));
    assert_eq!(find(None), Err(FindError::None));
    let target: Arc<dyn ControlHandler> = Arc::<Fake>::clone(&setup.fake);
    let place = |mountpoint: &str| socket_in(&dir, Path::new(mountpoint));
    let one = ControlServer::start(&place("/no/such/thin-1"), Arc::clone(&target)).unwrap();
    assert_eq!(one.path(), dir.join("no-such-thin\\x2d1.sock"));
    assert_eq!(find(None).as_deref(), Ok(one.path()));
    let two = ControlServer::start(&place("/no/such/thin/1"), target).unwrap();
    assert!(find(None).unwrap_err().to_string().contains("2 volumes"));
    assert_eq!(find(Some("/no/such/thin-1/")).as_deref(), Ok(one.path()));
    assert_eq!(find(Some("/no/such//thin/1")).as_deref(), Ok(two.path()));
    assert_eq!(find(two.path().to_str()).as_deref(), Ok(two.path()));
    for nothing in ["/", "/proc", "/no/such", "/etc/passwd"] {
        assert_eq!(find(Some(nothing)), Err(FindError::NotFound(PathBuf::from(nothing))));
    }
    let long = [format!("/{}/a", "x".repeat(300)), format!("/{}/b", "x".repeat(300))].map(|path| place(&path));
    assert!(long[0] != long[1] && long.iter().all(|path| path.file_name().unwrap().len() < 70));
    assert!(default_socket(Path::new("/mnt")).ends_with("stunfs/mnt.sock") || !rustix::process::geteuid().is_root());
}

/// Root was told "no volume listens" for a volume that another user runs.
#[test]
fn regression_a_volume_of_another_user_is_told_from_none() {
    let setup = setup();
    let (own, others) = (setup.dir.path().join("own"), setup.dir.path().join("others"));
    let target: Arc<dyn ControlHandler> = Arc::<Fake>::clone(&setup.fake);
    let theirs = ControlServer::start(&socket_in(&others, Path::new("/no/such/thin")), target).unwrap();
    let find = |path: &str| find_in(&own, std::slice::from_ref(&others), Some(Path::new(path)));
    let error = find("/no/such/thin").unwrap_err();
    let FindError::Anothers { socket, .. } = &error else { panic!("{error}") };
    assert_eq!(socket, theirs.path());
    assert!(error.to_string().contains(&format!("--socket {}", theirs.path().display())), "{error}");
    assert_eq!(find("/no/such/other"), Err(FindError::NotFound("/no/such/other".into())));
}

#[test]
fn a_link_to_a_mount_point_means_the_mount_point() {
    let dir = tempfile::tempdir().unwrap();
    let (real, link) = (dir.path().join("real"), dir.path().join("link"));
    std::fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    assert_eq!(socket_in(dir.path(), &link), socket_in(dir.path(), &real.canonicalize().unwrap()));
}

#[test]
fn the_metrics_port_serves_metrics_and_nothing_else() {
    let setup = setup();
    let target: Arc<dyn ControlHandler> = Arc::<Fake>::clone(&setup.fake);
    let mut server = MetricsServer::start("127.0.0.1:0".parse().unwrap(), Arc::clone(&target)).unwrap();
    let ask_as = |line: &str, head: &str| {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let request = format!("{line} HTTP/1.1\r\nhost: x\r\n{head}connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        read_all(&mut stream)
    };
    let ask = |line: &str| ask_as(line, "");
    let answer = ask("GET /metrics");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("text/plain; version=0.0.4"), "{answer}");
    let answer = ask_as("GET /metrics", "accept: application/openmetrics-text;version=1.0.0\r\n");
    assert!(answer.contains("application/openmetrics-text; version=1.0.0") && answer.contains("# EOF"), "{answer}");
    assert!(ask("GET /v1/status").starts_with("HTTP/1.1 404"));
    assert!(ask("POST /v1/stun").starts_with("HTTP/1.1 404"));
    assert!(ask("POST /metrics").starts_with("HTTP/1.1 405"));
    assert!(setup.calls().is_empty());
    let taken = MetricsServer::start(server.address(), target).unwrap_err().to_string();
    assert!(taken.starts_with("cannot serve metrics at 127.0.0.1:"), "{taken}");
    assert!(server.stop(Deadline::after(LONG)));
}

#[test]
fn a_hundred_requests_a_second_while_ten_thousand_are_held() {
    let setup = Setup::new(10_000, Limits::default());
    let (client, clock) = (setup.client(), Clock::start());
    let mut waits: Vec<Duration> = (0..100)
        .map(|_| {
            let before = clock.now();
            assert_eq!(client.get("/v1/status").unwrap().status, 200);
            let wait = clock.now().since(before);
            crate::time::pause(Duration::from_millis(10).saturating_sub(wait));
            wait
        })
        .collect();
    waits.sort_unstable();
    println!("status with 10,000 held: p50 {:?}, p99 {:?}", waits[50], waits[98]);
    assert!(waits[98] < Duration::from_secs(5), "p99 {:?}", waits[98]);
}
