//! Child processes whose lines and end arrive as messages.
//!
//! Must not know: what they are for. Invariant: no call here waits for a child longer than it is told to.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// The longest line that is taken of a child.
const LINE_LIMIT: u64 = 4 << 20;
/// The most that is kept of what a short command says.
const OUTPUT_LIMIT: u64 = 1 << 16;

/// A line of a child, or its end.
#[derive(Debug)]
pub(super) enum ChildMessage {
    Line(String),
    Ended(ExitStatus),
}

/// A child in a process group of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChildGroup {
    pid: Pid,
}

impl ChildGroup {
    pub(super) fn pid(self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends a signal to the whole group. Its leader must not have been waited for.
    pub(super) fn signal(self, signal: Signal) {
        if kill_process_group(self.pid, signal).is_err() {
            // It may have ended meanwhile.
            let _ = kill_process(self.pid, signal);
        }
    }
}

/// `words` with `path` in place of each `{}`.
pub(super) fn with_path(words: &[String], path: &Path) -> Command {
    let path = path.to_string_lossy();
    let mut words = words.iter().map(|word| word.replace("{}", &path));
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).env("STUNFS_MOUNT", path.as_ref()).stdin(Stdio::null());
    command
}

/// Starts `command`; its lines (if `told`) and its end go to `tell`.
pub(super) fn start(
    mut command: Command,
    told: bool,
    tell: impl Fn(ChildMessage) + Send + 'static,
) -> io::Result<ChildGroup> {
    command.process_group(0).stdin(Stdio::null());
    command.stdout(if told { Stdio::piped() } else { Stdio::null() }).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let group = ChildGroup { pid: Pid::from_child(&child) };
    let body = move || {
        if let Some(output) = child.stdout.take() {
            lines(output, &tell);
        }
        if let Ok(status) = child.wait() {
            tell(ChildMessage::Ended(status));
        }
    };
    let started = std::thread::Builder::new().name("child".to_owned()).spawn(body);
    started.inspect_err(|_| group.signal(Signal::KILL)).map(|_| group)
}

fn lines(output: impl Read, tell: &impl Fn(ChildMessage)) {
    let mut reader = BufReader::new(output);
    loop {
        let mut line = Vec::new();
        match (&mut reader).take(LINE_LIMIT).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => tell(ChildMessage::Line(String::from_utf8_lossy(&line).trim_end().to_owned())),
        }
    }
}

/// What came of a short command.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) status: ExitStatus,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Finished {
    /// The exit code, or 128 + the signal.
    pub(super) fn code(&self) -> i32 {
        self.status.code().or_else(|| self.status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
    }

    /// The last line that it said.
    pub(super) fn last_words(&self) -> String {
        let said = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        said.lines().last().unwrap_or_default().trim_start_matches("stunfs: ").to_owned()
    }
}

/// Runs a command that should take less than `within`; `None`: it took longer, and was killed.
pub(super) fn finish(mut command: Command, within: Duration) -> io::Result<Option<Finished>> {
    let spawned =
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let group = ChildGroup { pid: Pid::from_child(&spawned) };
    let (send, receive): (Sender<io::Result<Finished>>, Receiver<_>) = bounded(1);
    let body = move || {
        // The receiver may have given up.
        let _ = send.send(collect(spawned));
    };
    std::thread::Builder::new().name("command".to_owned()).spawn(body)?;
    match receive.recv_timeout(within) {
        Ok(finished) => finished.map(Some),
        Err(_) => {
            group.signal(Signal::KILL);
            Ok(None)
        }
    }
}

fn collect(mut child: Child) -> io::Result<Finished> {
    let stderr = child.stderr.take();
    let errors = std::thread::Builder::new().name("stderr".to_owned()).spawn(move || stderr.map(read_some));
    let stdout = child.stdout.take().map(read_some).unwrap_or_default();
    let status = child.wait()?;
    // The pipe may be held open by a process that outlives the command; what it says is of no interest.
    let stderr = errors.ok().and_then(|thread| thread.join().ok()?).unwrap_or_default();
    Ok(Finished { status, stdout, stderr })
}

fn read_some(mut from: impl Read) -> String {
    let mut text = Vec::new();
    // What could be read is used.
    let _ = (&mut from).take(OUTPUT_LIMIT).read_to_end(&mut text);
    let _ = io::copy(&mut from, &mut io::sink());
    String::from_utf8_lossy(&text).into_owned()
}

/// The program itself, under the name that it expects.
pub(super) fn program(path: &Path, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(path);
    command.arg0("stunfs").args(arguments);
    command
}
