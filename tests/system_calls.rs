//! The system calls of writers under strace, against those of the programs that they stand for (docs/writers.md). Where there is no
//! strace, each test says that it was left out.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::Command;

/// `write .log`, `rename .meta` and so on, in order, of calls that concern `dir`; none without strace.
fn calls(kind: &str, dir: &Path, args: &[&str]) -> Option<Vec<String>> {
    let trace = dir.join("trace");
    let mut strace = Command::new("strace");
    let traced = "trace=openat,write,lseek,rename,unlink,fsync,fdatasync,ftruncate,fallocate,pwrite64";
    strace.args(["-f", "-y", "-qq", "-e", "signal=none", "-e", traced, "-o"]).arg(&trace);
    strace.arg(env!("CARGO_BIN_EXE_stunfs")).args(["write", kind]).arg(dir.join("logs")).args([
        "-q",
        "--json",
        "--no-verify",
    ]);
    std::fs::create_dir(dir.join("logs")).unwrap();
    let done = match strace.args(args).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("left out: there is no strace");
            return None;
        }
        done => done.unwrap(),
    };
    if !trace.exists() || String::from_utf8_lossy(&done.stderr).contains("ptrace") {
        println!("left out: strace may not trace here");
        return None;
    }
    assert!(done.status.success(), "{done:?}");
    let text = std::fs::read_to_string(trace).unwrap();
    let lines = text.lines().filter(|line| line.contains("/logs/") && !line.contains("ENOENT"));
    Some(lines.map(call).collect())
}

/// `7 write(5</x/logs/a.log>, "..", 2) = 2` -> `write a.log`; ids in names are left out.
fn call(line: &str) -> String {
    let (_, line) = line.split_once(' ').unwrap();
    let name = line.trim_start().split('(').next().unwrap();
    let end = line.find("/logs/").map_or(line.len(), |at| at + "/logs/".len());
    let path = line[end..].split(['>', '"']).next().unwrap();
    let file = path.rsplit('/').next().unwrap();
    let file = match file.strip_prefix("buffer.") {
        Some(chunk) => format!("{}{}", &chunk[..1], &chunk[33..]),
        None => file.to_owned(),
    };
    format!("{name} {file}")
}

/// As fluentd 1.19 under the same strace: a chunk and its metadata are created, each record is one write and new metadata, then the
/// position.
#[test]
fn fluentd_makes_the_calls_of_fluentd() {
    let dir = tempfile::tempdir().unwrap();
    let Some(calls) = calls("fluentd", dir.path(), &["--count", "2", "--rate", "max"]) else { return };
    let begin = calls.iter().position(|call| call == "openat b.log").unwrap();
    let record = ["write b.log", "lseek b.log.meta", "write b.log.meta", "lseek b.log", "lseek 0.pos", "write 0.pos"];
    let chunk = ["openat b.log", "openat b.log.meta", "lseek b.log.meta", "write b.log.meta"];
    assert_eq!(calls[begin..], [&chunk[..], &record, &record].concat(), "{calls:?}");
}

/// As logrotate with `create`, and rsyslog, which opens its file anew.
#[test]
fn logrotate_makes_the_calls_of_logrotate() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--count", "4", "--rate", "max", "--record-size", "512KiB"];
    let Some(calls) = calls("logrotate", dir.path(), &args) else { return };
    let begin = calls.iter().position(|call| call == "rename messages").unwrap();
    let state = ["openat logrotate.status.tmp", "write logrotate.status.tmp", "fsync logrotate.status.tmp"];
    let rotation = ["rename messages", "openat messages", "openat messages"];
    let rest = ["rename logrotate.status.tmp", "write messages"];
    let expected = [&rotation[..], &state, &rest].concat();
    assert_eq!(calls[begin..begin + expected.len()], expected, "{calls:?}");
}

#[test]
fn a_database_syncs_each_record() {
    let dir = tempfile::tempdir().unwrap();
    let Some(calls) = calls("database", dir.path(), &["--count", "2", "--rate", "max"]) else { return };
    let begin = calls.iter().position(|call| call.starts_with("fallocate")).unwrap();
    let kinds: Vec<_> = calls[begin..].iter().map(|call| call.split(' ').next().unwrap()).collect();
    assert_eq!(kinds, ["fallocate", "fsync", "pwrite64", "fdatasync", "pwrite64", "fdatasync"], "{calls:?}");
}

#[test]
fn backup_writes_blocks_of_10_kib() {
    let dir = tempfile::tempdir().unwrap();
    let Some(calls) = calls("backup", dir.path(), &["--count", "1", "--rate", "max", "--record-size", "40KiB"]) else {
        return;
    };
    assert_eq!(calls.iter().filter(|call| call.starts_with("write ")).count(), 4, "{calls:?}");
}
