//! The control socket of a real volume under load and abuse.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use stunfs::Volume;
use stunfs::internal::control::Client;
use stunfs::internal::model::Latency;
use stunfs::internal::settings::OPTIONS;
use stunfs::internal::time::{Deadline, pause, wait_until};
use stunfs::internal::units::{Bytes, GrainSize};

use crate::common::{SOON, TICK, timed};

const LATE: Duration = Duration::from_secs(60);
const HELD: usize = 2000;

fn volume(dir: &Path, latency: Latency) -> Volume {
    let socket = dir.join("control.sock");
    let grain = GrainSize::new(Bytes(64 << 10)).unwrap();
    let builder = Volume::builder().first_write(latency).grain(grain);
    builder.configure(|options| options.control = Some(socket)).mount().unwrap()
}

/// `n` writers of 4 KiB, each to a file of its own, on small stacks.
fn hold(volume: &Volume, n: usize) -> Vec<std::thread::JoinHandle<()>> {
    let writers = (0..n).map(|n| {
        let path = volume.path().join(format!("file-{n}"));
        let builder = std::thread::Builder::new().stack_size(64 << 10);
        builder.spawn(move || fs::File::create(path).unwrap().write_all_at(&[1; 4096], 0).unwrap()).unwrap()
    });
    let writers: Vec<_> = writers.collect();
    assert!(volume.wait_held(n, LATE), "{} held", volume.status().model.held);
    writers
}

#[test]
fn a_hundred_requests_a_second_while_many_are_held() {
    crate::common::need_fuse!();
    let dir = tempfile::tempdir().unwrap();
    let volume = volume(dir.path(), Latency::Constant(Duration::from_secs(500)));
    let writers = hold(&volume, HELD);
    let client = Client::connect(volume.control_socket().unwrap()).unwrap();
    let mut took: Vec<Duration> = (0..300)
        .map(|_| {
            let next = Deadline::after(Duration::from_millis(10));
            let (reply, took) = timed(|| client.get("/v1/status").unwrap().ok().unwrap());
            assert_eq!(reply["held"]["total"], json!(HELD));
            pause(next.left());
            took
        })
        .collect();
    took.sort_unstable();
    println!("status with {HELD} held, 100/s: p50 {:?}, p99 {:?}", took[took.len() / 2], took[took.len() * 99 / 100]);
    // The benchmark holds it to 50 ms on an idle machine.
    assert!(took[took.len() * 99 / 100] < Duration::from_millis(500));
    let (reply, took) = timed(|| client.post("/v1/release", &json!({})).unwrap().ok().unwrap());
    println!("release answered all in {took:?}");
    assert_eq!(reply["released"], json!(HELD));
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    volume.unmount().unwrap();
}

fn status_of(reply: &str) -> Option<u16> {
    reply.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// What the socket answers to raw bytes, until it closes or 2 s are over.
fn send(socket: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let _may_be_cut_off = stream.write_all(bytes);
    let mut reply = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        reply.extend_from_slice(&buffer[..read]);
        if reply.windows(4).any(|window| window == b"\r\n\r\n") {
            break;
        }
    }
    String::from_utf8_lossy(&reply).into_owned()
}

#[test]
fn abuse_is_refused_and_the_volume_unharmed() {
    crate::common::need_fuse!();
    let dir = tempfile::tempdir().unwrap();
    let volume = volume(dir.path(), Latency::Constant(Duration::from_secs(500)));
    let socket = volume.control_socket().unwrap().to_path_buf();
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let writers = hold(&volume, 3);
    let garbage: Vec<u8> = (0..100_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    assert!(status_of(&send(&socket, &garbage)).is_none_or(|status| status == 400));
    let mut huge =
        b"POST /v1/set HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 10000000\r\n\r\n"
            .to_vec();
    huge.resize(huge.len() + 10_000_000, b' ');
    let reply = send(&socket, &huge);
    assert!(status_of(&reply).is_none_or(|status| status == 413), "{reply}");
    for bad in ["{", "[]", "null", r#"{"for":"30"}"#, r#"{"for":[]}"#] {
        let request = format!(
            "POST /v1/stun HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{bad}",
            bad.len()
        );
        assert_eq!(status_of(&send(&socket, request.as_bytes())), Some(400), "{bad}");
    }
    let mut half: Vec<UnixStream> = Vec::new();
    for _ in 0..1000 {
        // A full backlog makes a connection wait; one refused is as good.
        let Ok(mut stream) = UnixStream::connect(&socket) else { break };
        let _may_be_closed = stream.write_all(b"POST /v1/stun HTTP/1.1\r\nhost");
        half.push(stream);
    }
    fs::metadata(volume.path()).unwrap();
    assert_eq!(volume.status().model.held, 3);
    drop(half);
    let answers =
        || Client::connect(&socket).and_then(|client| client.get("/v1/status")).is_ok_and(|reply| reply.status == 200);
    assert!(wait_until(Duration::from_secs(20), Duration::from_millis(20), answers), "it must answer again");
    assert_eq!(volume.status().model.stunned_until, None);
    volume.release();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    volume.unmount().unwrap();
}

/// Requests from noise to nearly right ones, for every route that does not end the volume.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let near = "(none|wait>|lognormal:|uniform:|bimodal:|exp:|file:|queue:|path=|comm=|share=|uid=)?[-0-9.e]{0,6}(ms|s|%|KiB|MiB/s|@1%|:|,p99=)?";
    let text = prop_oneof![near.prop_map(|text| json!(text)), any::<String>().prop_map(|text| json!(text))];
    let value = prop_oneof![4 => text, 1 => any::<f64>().prop_map(|n| json!(n)), 1 => any::<i64>().prop_map(|n| json!(n)),
        1 => any::<bool>().prop_map(|b| json!(b)), 1 => Just(json!([[], {}, null]))];
    let name = prop_oneof![3 => (0..OPTIONS.len()).prop_map(|n| OPTIONS[n].name.to_owned()), 1 => "for|pool|\\PC{0,8}"];
    let object = vec((name, value), 0..4).prop_map(|pairs| Value::Object(pairs.into_iter().collect()).to_string());
    let body = prop_oneof![4 => object.prop_map(String::into_bytes), 1 => vec(any::<u8>(), 0..100)];
    let route = prop::sample::select(&[
        "set", "set", "set", "stun", "grow", "arm", "disarm", "resume", "discard", "status", "no",
    ]);
    let post = (route, body).prop_map(|(route, body)| {
        let head = format!("POST /v1/{route} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n");
        let length = format!("connection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        [head.into_bytes(), length.into_bytes(), body].concat()
    });
    let get =
        ("/v1/(status|events|schema)\\?(limit|since|follow)=[-0-9a-z%]{0,12}", Just(())).prop_map(|(path, ())| {
            format!("GET {path}&follow=false HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").into_bytes()
        });
    prop_oneof![6 => post, 2 => get, 1 => vec(any::<u8>(), 0..300)]
}

/// The status of the answer to raw bytes, after which nothing comes; `None` if there is none.
fn answer(socket: &Path, bytes: &[u8]) -> Option<u16> {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(LATE)).unwrap();
    let _may_be_cut_off = stream.write_all(bytes).and_then(|()| stream.shutdown(std::net::Shutdown::Write));
    let mut head = [0; 16];
    stream.read_exact(&mut head).ok()?;
    status_of(std::str::from_utf8(&head).ok()?)
}

#[test]
fn ten_thousand_random_requests_do_a_real_volume_no_harm() {
    crate::common::need_fuse!();
    let dir = tempfile::tempdir().unwrap();
    let volume = volume(dir.path(), Latency::Constant(Duration::from_millis(1)));
    let socket = volume.control_socket().unwrap();
    let ask = |seed: u8| {
        let mut runner =
            TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]));
        let requests = request();
        let mut answers = [0_u32; 6];
        for _ in 0..2500 {
            let request = requests.new_tree(&mut runner).unwrap().current();
            let status = answer(socket, &request).unwrap_or(0);
            assert_ne!(status, 500, "{}", String::from_utf8_lossy(&request));
            answers[usize::from(status / 100)] += 1;
        }
        answers
    };
    let answers = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|seed| scope.spawn(move || ask(seed))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let of = |class: usize| answers.iter().map(|counts| counts[class]).sum::<u32>();
    println!("10,000 requests: {} done, {} refused, {} without an answer", of(2), of(4), of(0));
    assert!(of(2) > 500 && of(4) > 500, "{answers:?}");
    volume.release();
    volume.stun(None);
    assert!(volume.resume().answered);
    fs::write(volume.path().join("file"), [1; 4096]).unwrap();
    volume.unmount().unwrap();
}

#[test]
fn the_event_stream_has_one_line_a_hold_and_ends_complete() {
    crate::common::need_fuse!();
    let dir = tempfile::tempdir().unwrap();
    let volume = volume(dir.path(), Latency::Constant(Duration::from_millis(1)));
    let socket = volume.control_socket().unwrap().to_path_buf();
    let follower = std::thread::spawn(move || {
        let lines = Client::connect(&socket).unwrap().timeout(None).events(0, true).unwrap();
        lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap()).collect::<Vec<_>>()
    });
    let file = fs::File::create(volume.path().join("file")).unwrap();
    (0..200).for_each(|grain| file.write_all_at(&[1; 4096], grain * (1 << 20)).unwrap());
    drop(file);
    assert!(wait_until(SOON, TICK, || volume.summary().held > 0));
    let summary = volume.unmount().unwrap();
    let events = follower.join().unwrap();
    check_stream(&events, summary.held);
}

fn check_stream(events: &[Value], held: u64) {
    let schema: Value = serde_json::from_str(include_str!("../../docs/events.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for (number, event) in events.iter().enumerate() {
        assert!(validator.is_valid(event), "{event}");
        assert_eq!(event["seq"], json!(number + 1), "no gap");
    }
    assert_eq!(events[0]["event"], "started");
    let last = events.last().unwrap();
    assert_eq!((last["event"].as_str(), &last["held"], &last["dropped"]), (Some("stopped"), &json!(held), &json!(0)));
    let ids: Vec<u64> =
        events.iter().filter(|event| event["event"] == "held").map(|event| event["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len() as u64, held);
    let mut once = ids.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), ids.len(), "each hold once");
}
