//! Commands to a mounted volume: through the library, the control socket and the command line.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use stunfs::Volume;
use stunfs::internal::control::{Client, Command, Reply, WaitsFor};
use stunfs::internal::engine::HeldOperation;
use stunfs::internal::model::Latency;
use stunfs::internal::op::OpKind;
use stunfs::internal::settings::Settings;
use stunfs::internal::time::wait_until;
use stunfs::internal::units::Bytes;
use stunfs::internal::volume::Stopper;

use crate::common::{SOON, TICK, need_fuse};
use crate::support::stunfs;

fn ctl(socket: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = stunfs().arg("ctl").arg("--socket").arg(socket).args(args).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap())
}

/// Ends the injection of a volume when it is dropped.
struct ReleaseOnDrop(Stopper);

impl Drop for ReleaseOnDrop {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// The stun answered "stunned for 30s" although an fsync that began before it went on beneath it.
#[test]
fn regression_a_stun_says_how_many_earlier_operations_still_run() {
    need_fuse!();
    let lower = Volume::builder().mount().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let control = socket.clone();
    let upper = Volume::builder().backing(lower.path()).configure(|options| options.control = Some(control));
    let upper = upper.mount().unwrap();
    // Whatever fails, the fsync has to come out before the upper volume ends.
    let release_on_drop = ReleaseOnDrop(lower.stopper());
    let file = fs::File::create(upper.path().join("file")).unwrap();
    // What the upper volume lets pass now waits in its backing.
    lower.stun(None);
    let writer = std::thread::spawn(move || file.sync_all());
    let is_fsync = |held: &HeldOperation| held.operation.kind == OpKind::Fsync;
    assert!(wait_until(SOON, TICK, || lower.held(10).iter().any(is_fsync)));

    let command = Command::Stun { duration: None, settle: Duration::from_millis(50) };
    let Reply::Stun(stun) = upper.execute(command).unwrap() else { panic!("another command's reply") };
    assert_eq!(stun.still_running, 1);
    let (code, text) = ctl(&socket, &["stun", "30s", "--settle", "50ms"]);
    assert!(code == Some(0) && text.contains("1 operation that began before the stun still ran 50ms later"), "{text}");
    let (_, json) = ctl(&socket, &["stun", "--settle", "50ms", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["still_running"], 1);

    drop(release_on_drop);
    writer.join().unwrap().unwrap();
    let (code, text) = ctl(&socket, &["stun", "30s"]);
    assert!(code == Some(0) && !text.contains("began before"), "{text}");
    upper.release();
    upper.unmount().unwrap();
    lower.unmount().unwrap();
}

#[test]
fn the_library_sets_options_of_a_mounted_volume() {
    need_fuse!();
    let volume = Volume::builder().mount().unwrap();
    let mut settings = Settings::new();
    settings.set("first-write", "500s").unwrap();
    settings.set("lanes", "3").unwrap();
    let config = volume.set(&settings).unwrap();
    assert_eq!((config.first_write, config.lanes), (Latency::Constant(Duration::from_secs(500)), 3));
    assert_eq!(volume.status().config.lanes, 3);
    let path = volume.path().join("new");
    let writer = std::thread::spawn(move || fs::write(path, b"first"));
    assert!(volume.wait_held(1, SOON), "the new latency holds");

    let mut fixed = Settings::new();
    fixed.set("grain", "4KiB").unwrap();
    fixed.set("lanes", "9").unwrap();
    let refusal = volume.set(&fixed).unwrap_err().to_string();
    assert!(refusal.contains("grain"), "{refusal}");
    assert_eq!(volume.status().config.lanes, 3, "all or nothing");
    volume.release();
    writer.join().unwrap().unwrap();
}

#[test]
fn wait_held_answers_when_so_many_are_held_or_the_time_is_over() {
    need_fuse!();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let control = socket.clone();
    let builder = Volume::builder().first_write("500s".parse().unwrap());
    let volume = builder.configure(|options| options.control = Some(control)).mount().unwrap();
    let (code, text) = ctl(&socket, &["wait-held", "1", "--within", "50ms"]);
    assert_eq!((code, text.as_str()), (Some(1), "only 0 operations held when the time was over\n"));
    let path = volume.path().join("new");
    let writer = std::thread::spawn(move || fs::write(path, b"first"));
    let (code, text) = ctl(&socket, &["wait-held", "1"]);
    assert_eq!((code, text.as_str()), (Some(0), "1 operation held\n"));
    let (_, json) = ctl(&socket, &["wait-held", "1", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), json!({"held": 1, "reached": true}));
    volume.release();
    writer.join().unwrap().unwrap();
}

/// `ctl grow` gave 69, `ctl set pool=` 2, and `resume` without a stun 69, which is for what is missing.
#[test]
fn regression_the_same_refusal_has_the_same_exit_code() {
    need_fuse!();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let control = socket.clone();
    let volume = Volume::builder().configure(|options| options.control = Some(control)).mount().unwrap();
    fs::write(volume.path().join("new"), vec![1; 8 << 20]).unwrap();
    let (grow_code, grow_text) = ctl(&socket, &["grow", "4MiB"]);
    let (set_code, set_text) = ctl(&socket, &["set", "pool=4MiB"]);
    assert!(grow_text.contains("pool 4MiB is smaller than what is in use"), "{grow_text}");
    assert_eq!((grow_code, grow_text), (set_code, set_text));
    assert_eq!(grow_code, Some(2));
    let client = Client::connect(&socket).unwrap();
    for (path, body) in [("/v1/grow", json!({"pool": "4MiB"})), ("/v1/set", json!({"pool": "4MiB"}))] {
        assert_eq!(client.post(path, &body).unwrap().status, 409, "{path}");
    }
    assert_eq!(ctl(&socket, &["resume"]), (Some(2), "stunfs: no stun is in force\n".into()));
}

/// The table said `STILL 0 us` and `WAITS FOR -`, the JSON a moment in the past.
#[test]
fn regression_status_says_that_a_stun_holds_an_operation_and_until_when() {
    need_fuse!();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let control = socket.clone();
    let volume = Volume::builder().configure(|options| options.control = Some(control)).mount().unwrap();
    volume.stun(Some(Duration::from_secs(300)));
    let path = volume.path().to_owned();
    let reader = std::thread::spawn(move || fs::read_dir(path).map(Iterator::count));
    assert!(volume.wait_held(1, SOON));
    let Reply::Status(status) = volume.execute(Command::Status { limit: 10 }).unwrap() else { panic!("another reply") };
    let (held, stun) = (&status.held.ops[0], status.status.stun.unwrap());
    assert_eq!((&held.waits_for[..], held.until_us), (&[WaitsFor::Stun][..], Some(stun.until_us)));
    let (_, text) = ctl(&socket, &["status"]);
    assert!(text.contains("at most 4 m") && text.contains("the stun's end"), "{text}");
    volume.release();
    reader.join().unwrap().unwrap();
}

/// The table said `STILL ?` and `WAITS FOR -`.
#[test]
fn regression_status_says_that_a_full_pool_holds_a_write_and_until_when() {
    need_fuse!();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let control = socket.clone();
    let builder = Volume::builder().pool(Bytes::mib(1), "queue:400s".parse().unwrap());
    let volume = builder.configure(|options| options.control = Some(control)).mount().unwrap();
    fs::write(volume.path().join("fills"), vec![1; 1 << 20]).unwrap();
    let path = volume.path().join("more");
    let writer = std::thread::spawn(move || fs::write(path, [1; 4096]));
    assert!(volume.wait_held(1, SOON));
    let Reply::Status(status) = volume.execute(Command::Status { limit: 10 }).unwrap() else { panic!("another reply") };
    let held = &status.held.ops[0];
    assert_eq!((&held.waits_for[..], held.until_us), (&[WaitsFor::Space][..], Some(held.since_us + 400_000_000)));
    let (_, text) = ctl(&socket, &["status"]);
    assert!(text.contains("at most 6 m") && text.contains("space in the pool"), "{text}");
    volume.release();
    // A release lets the write go with success, whatever the pool has.
    writer.join().unwrap().unwrap();
}
