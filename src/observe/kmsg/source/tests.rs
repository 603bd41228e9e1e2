//! Consoles that come and go, lines that are cut, and the host's own log.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::thread;

use super::super::What;
use super::*;

const LOCKUP: &[u8] = b"[  300.000001] watchdog: BUG: soft lockup - CPU#0 stuck for 28s! [swapper/0:0]\r\n";
const HUNG: &[u8] = b"[  9.000001] INFO: task fluentd:134 blocked for more than 5 seconds.\r\n";

fn all(follower: &mut Follower, wanted: usize) -> Vec<Finding> {
    let deadline = Deadline::after(Duration::from_secs(10));
    let mut found = Vec::new();
    while found.len() < wanted && !deadline.passed() {
        found.extend(follower.poll(Duration::from_millis(100)).unwrap());
    }
    found
}

#[test]
fn a_console_file_that_comes_later_grows_and_starts_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("console");
    let clock = Clock::start();
    let mut follower = Follower::console(&path, clock, Begin::Now).unwrap();
    assert!(follower.poll(Duration::ZERO).unwrap().is_empty());
    let mut file = File::create(&path).unwrap();
    file.write_all(&LOCKUP[..30]).unwrap();
    assert!(follower.poll(Duration::from_millis(150)).unwrap().is_empty());
    file.write_all(&LOCKUP[30..]).unwrap();
    let found = all(&mut follower, 1);
    assert_eq!(found[0].kernel_us, Some(300_000_001));
    assert!(found[0].at.unwrap() <= clock.now());
    file.set_len(0).unwrap();
    drop(file);
    assert!(follower.poll(Duration::from_millis(100)).unwrap().is_empty());
    std::fs::write(&path, HUNG).unwrap();
    let found = all(&mut follower, 1);
    assert!(matches!(&found[0].what, What::HungTask(hung) if hung.task == "fluentd"), "flushed when quiet");
}

fn servers(found: &[Finding]) -> Vec<String> {
    let server = |finding: &Finding| match &finding.what {
        What::NfsServer(server) => server.server.clone(),
        other => panic!("{other:?}"),
    };
    found.iter().map(server).collect()
}

fn ok(server: &str) -> String {
    format!("[  1.000001] nfs: server {server} OK\n")
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn follow(path: &Path) -> Follower {
    Follower::console(path, Clock::start(), Begin::Now).unwrap()
}

#[test]
fn a_socket_that_closes_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("serial");
    let mut follower = follow(&path);
    for round in 0..2 {
        let listener = UnixListener::bind(&path).unwrap();
        let guest = thread::spawn(move || {
            let (mut guest, _) = listener.accept().unwrap();
            guest.write_all(LOCKUP).unwrap();
            guest.write_all(HUNG.trim_ascii_end()).unwrap();
        });
        let found = all(&mut follower, 2);
        guest.join().unwrap();
        assert_eq!(found.len(), 2, "round {round}");
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_socket_without_a_listener_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("serial");
    drop(UnixListener::bind(&path).unwrap());
    let mut follower = follow(&path);
    assert!(follower.poll(Duration::from_millis(100)).unwrap().is_empty());
    std::fs::remove_file(&path).unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    let guest = thread::spawn(move || listener.accept().unwrap().0.write_all(LOCKUP).unwrap());
    assert_eq!(all(&mut follower, 1).len(), 1);
    guest.join().unwrap();
}

#[test]
fn a_pipe_whose_writer_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let mut follower = follow(&path);
    for name in ["a", "b"] {
        OpenOptions::new().write(true).open(&path).unwrap().write_all(ok(name).trim_end().as_bytes()).unwrap();
        assert_eq!(servers(&all(&mut follower, 1)), [name]);
    }
}

#[test]
fn what_is_there_at_the_end_is_read_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("console");
    append(&path, "");
    let mut follower = follow(&path);
    append(&path, &"[  1.000000] usb 1-1: nothing is wrong here\n".repeat(5000));
    append(&path, &ok("a"));
    append(&path, ok("last").trim_end());
    assert_eq!(servers(&follower.finish().unwrap()), ["a", "last"]);
}

#[test]
fn a_log_that_is_cut_off_in_the_middle_of_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("console");
    append(&path, "");
    let mut follower = follow(&path);
    append(&path, &ok("a"));
    append(&path, "[  2.000000] nfs: server half not resp");
    assert_eq!(servers(&all(&mut follower, 1)), ["a"]);
    File::create(&path).unwrap();
    assert!(follower.poll(Duration::from_millis(200)).unwrap().is_empty());
    append(&path, &ok("b"));
    assert_eq!(servers(&all(&mut follower, 1)), ["b"]);
}

#[test]
fn a_log_that_was_cut_off_and_is_longer_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("console");
    append(&path, &ok("before"));
    let mut follower = follow(&path);
    append(&path, &ok("a"));
    assert_eq!(servers(&all(&mut follower, 1)), ["a"]);
    std::fs::write(&path, format!("{}{}", ok("b"), "x\n".repeat(100))).unwrap();
    assert_eq!(servers(&all(&mut follower, 1)), ["b"]);
}

#[test]
fn a_report_that_stands_still_in_its_middle_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("console");
    append(&path, "");
    let mut follower = follow(&path);
    append(
        &path,
        "[  9.000001] INFO: task x:1 blocked for more than 5 seconds.\n[  9.000002]  <TASK>\n[  9.000003]  schedule+0x1/0x2\n",
    );
    assert!(follower.poll(2 * QUIET).unwrap().is_empty());
    append(&path, "[  9.000004]  xfs_buf_lock+0x1/0x2\n[  9.000005]  </TASK>\n");
    let found = all(&mut follower, 1);
    assert!(matches!(&found[0].what, What::HungTask(hung) if hung.waits_in() == Some("xfs_buf_lock")));
}

#[test]
fn a_renamed_log_is_read_while_its_writer_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (path, old) = (dir.path().join("console"), dir.path().join("console.1"));
    append(&path, "");
    let mut follower = follow(&path);
    append(&path, &ok("a"));
    std::fs::rename(&path, &old).unwrap();
    append(&old, &ok("b"));
    assert_eq!(servers(&all(&mut follower, 2)), ["a", "b"]);
    append(&path, &ok("c"));
    assert_eq!(servers(&all(&mut follower, 1)), ["c"]);
    append(&old, &ok("d"));
    assert_eq!(servers(&all(&mut follower, 1)), ["d"]);
    append(&path, &ok("e"));
    assert_eq!(servers(&all(&mut follower, 1)), ["e"]);
}

#[test]
fn a_directory_is_no_console() {
    let dir = tempfile::tempdir().unwrap();
    let error = Follower::console(dir.path(), Clock::start(), Begin::Now).unwrap_err().to_string();
    assert!(error.contains("directory") && error.contains("guest's console"), "{error}");
}

#[test]
fn begin_now_leaves_out_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("console");
    std::fs::write(&path, LOCKUP).unwrap();
    let mut now = Follower::console(&path, Clock::start(), Begin::Now).unwrap();
    assert!(now.poll(Duration::from_millis(100)).unwrap().is_empty());
    let mut start = Follower::console(&path, Clock::start(), Begin::Start).unwrap();
    assert_eq!(all(&mut start, 1).len(), 1);
}

#[test]
fn kernel_time_is_the_volumes_time() {
    let offset = Duration::from_secs(1000);
    let now = SimTime::from_millis(60_000);
    let at = |record: &str| record_time(record.as_bytes(), offset, now);
    assert_eq!(at("6,1,1005000000,-;x"), SimTime::from_millis(5000));
    assert_eq!(at("6,1,5,-;x"), SimTime::ZERO);
    assert_eq!(at("6,1,2000000000,-;x"), now, "not in the future");
    assert_eq!(at("garbage"), now);
}

#[test]
fn what_a_program_writes_to_the_hosts_log_is_not_the_kernels() {
    let clock = Clock::start();
    let (Ok(mut follower), Ok(mut log)) =
        (Follower::host(clock, Begin::Now), OpenOptions::new().write(true).open(KMSG))
    else {
        return eprintln!("left out: {KMSG} cannot be read and written here");
    };
    log.write_all(b"<7>nfs: server stunfs.test OK\n").unwrap();
    let is_ours = |finding: &Finding| finding.raw.contains("stunfs.test");
    let read = follower.read_some(Duration::from_secs(5), &mut Vec::new()).unwrap();
    assert!(read);
    assert!(!follower.finish().unwrap().iter().any(is_ours));
}
