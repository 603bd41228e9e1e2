//! Stopping a virtual machine through QEMU's monitor protocol (QMP).
//!
//! Must not know: what the machine is for. Invariant: a machine that did not run before is neither stopped nor started.
//!
//! A connection lasts as long as one command: a QMP socket serves one client at a time, and the guard needs it when stunfs
//! is dead. The guest's clock stops with the machine, so its kernel sees no gap: for that, freeze QEMU's control group.

use std::ffi::CString;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, access};
use rustix::io::Errno;
use serde_json::{Value, json};

use super::freeze_set::{Freezer, Surroundings, UndoArmer};
use super::undo_action::UndoAction;
use super::undo_exec::connect_unix;
use crate::time::{Deadline, pause};

/// A look at a machine is given up after this.
const CHECK_WITHIN: Duration = Duration::from_secs(5);
/// How often the status is read back.
const POLL: Duration = Duration::from_millis(10);
/// A longer line is not QMP.
const LONGEST_LINE: usize = 1 << 20;

/// A connection on which commands may be given.
#[derive(Debug)]
struct Monitor {
    stream: UnixStream,
    /// Received and not read yet.
    buffer: Vec<u8>,
    commands: u32,
}

impl Monitor {
    fn connect(path: &Path, deadline: Deadline) -> Result<Self, String> {
        let address = socket(path)?;
        let stream = connect_unix(&address, deadline).map_err(|error| format!("{}: {error}", path.display()))?;
        let stream = UnixStream::from(stream);
        stream.set_nonblocking(false).map_err(|error| error.to_string())?;
        let mut monitor = Self { stream, buffer: Vec::new(), commands: 0 };
        let greeting = monitor.message(deadline);
        let greeting =
            greeting.map_err(|why| format!("no QMP greeting ({why}): does another client hold the socket?"))?;
        if greeting.get("QMP").is_none() {
            return Err("what answers there does not speak QMP".to_owned());
        }
        monitor.command("qmp_capabilities", deadline)?;
        Ok(monitor)
    }

    /// Gives a command and waits for its answer.
    fn command(&mut self, name: &str, deadline: Deadline) -> Result<Value, String> {
        let failed = |why: &str| format!("QEMU did not do '{name}': {why}");
        self.commands += 1;
        let id = json!(format!("stunfs-{}", self.commands));
        let line = format!("{}\n", json!({ "execute": name, "id": id }));
        let sent =
            self.stream.set_write_timeout(Some(left(deadline))).and_then(|()| self.stream.write_all(line.as_bytes()));
        sent.map_err(|error| failed(&error.to_string()))?;
        loop {
            let mut message = self.message(deadline).map_err(|why| failed(&why))?;
            if message.get("id").is_some_and(|other| *other != id) {
                continue;
            }
            if let Some(error) = message.get("error") {
                return Err(failed(error["desc"].as_str().unwrap_or("it says no more than that it failed")));
            }
            if let Some(answer) = message.get_mut("return") {
                return Ok(answer.take());
            }
        }
    }

    /// The next message, whatever it is.
    fn message(&mut self, deadline: Deadline) -> Result<Value, String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return serde_json::from_slice(&line).map_err(|error| format!("not JSON: {error}"));
            }
            self.receive(deadline)?;
        }
    }

    fn receive(&mut self, deadline: Deadline) -> Result<(), String> {
        if self.buffer.len() > LONGEST_LINE {
            return Err("the line is too long".to_owned());
        }
        if deadline.passed() {
            return Err("no answer in time".to_owned());
        }
        let mut part = [0; 4096];
        let received = self.stream.set_read_timeout(Some(left(deadline))).and_then(|()| self.stream.read(&mut part));
        match received {
            Ok(0) => Err("the connection was closed".to_owned()),
            Ok(length) => {
                self.buffer.extend_from_slice(&part[..length]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn is_running(&mut self, deadline: Deadline) -> Result<bool, String> {
        let status = self.command("query-status", deadline)?;
        status["running"].as_bool().ok_or_else(|| format!("a status that is not understood: {status}"))
    }

    /// Waits until the machine runs or does not.
    fn await_running(&mut self, wanted: bool, deadline: Deadline) -> Result<(), String> {
        while self.is_running(deadline)? != wanted {
            pause(POLL);
        }
        Ok(())
    }
}

/// What is left as a socket's timeout, which must not be zero.
fn left(deadline: Deadline) -> Duration {
    deadline.left().max(Duration::from_millis(1))
}

fn socket(path: &Path) -> Result<CString, String> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| "its path has a zero byte".to_owned())
}

#[derive(Debug)]
pub(super) struct Machine {
    path: PathBuf,
    ours: bool,
    /// The connection on which `stop` was given and not answered: `cont` must follow on the same one, so that QEMU does
    /// them in this order.
    unanswered: Option<Monitor>,
}

impl Machine {
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let path = std::path::absolute(path).map_err(|error| error.to_string())?;
        Ok(Self { path, ours: false, unanswered: None })
    }

    fn action(&self) -> Result<UndoAction, String> {
        Ok(UndoAction::Qmp { socket: socket(&self.path)? })
    }

    fn stop(monitor: &mut Monitor, deadline: Deadline) -> Result<(), String> {
        monitor.command("stop", deadline)?;
        monitor.await_running(false, deadline)
    }

    fn go_on(monitor: &mut Monitor, deadline: Deadline) -> Result<(), String> {
        monitor.command("cont", deadline)?;
        monitor.await_running(true, deadline)
    }

    /// Whether QEMU has ended: then nothing listens on its socket.
    fn is_gone(&self) -> bool {
        matches!(access(&self.path, Access::EXISTS), Err(Errno::NOENT))
            || socket(&self.path).is_ok_and(|path| {
                matches!(connect_unix(&path, Deadline::after(POLL)), Err(Errno::CONNREFUSED | Errno::NOENT))
            })
    }
}

impl Freezer for Machine {
    fn check(&self, _: &Surroundings) -> Result<(), String> {
        let deadline = Deadline::after(CHECK_WITHIN);
        Monitor::connect(&self.path, deadline)?.is_running(deadline).map(drop)
    }

    fn freeze(&mut self, _: &Surroundings, deadline: Deadline, arm: &mut UndoArmer<'_>) -> Result<(), String> {
        let mut monitor = Monitor::connect(&self.path, deadline)?;
        if !monitor.is_running(deadline)? {
            return Ok(());
        }
        arm(&self.action()?).map_err(|error| format!("the guard does not answer: {error}"))?;
        self.ours = true;
        let stopped = Self::stop(&mut monitor, deadline);
        if stopped.is_err() {
            self.unanswered = Some(monitor);
        }
        stopped
    }

    fn thaw(&mut self, deadline: Deadline) -> Result<(), String> {
        if !self.ours {
            return Ok(());
        }
        let mut monitor = match self.unanswered.take() {
            Some(monitor) => monitor,
            None if self.is_gone() => {
                self.ours = false;
                return Ok(());
            }
            None => Monitor::connect(&self.path, deadline)?,
        };
        let thawed = Self::go_on(&mut monitor, deadline);
        match &thawed {
            Ok(()) => self.ours = false,
            Err(_) if self.is_gone() => self.ours = false,
            Err(_) => self.unanswered = Some(monitor),
        }
        thawed
    }

    fn actions(&self) -> Vec<UndoAction> {
        self.action().ok().filter(|_| self.ours).into_iter().collect()
    }
}
