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

use super::error::{FreezeCause, MonitorError, QmpFailure, one_line};
use super::freezer::{Freezer, Surroundings, UndoArmer, tell};
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
    fn connect(path: &Path, deadline: Deadline) -> Result<Self, FreezeCause> {
        let address = socket(path)?;
        let failed = |cause| QmpFailure::Connect { socket: path.to_owned(), cause };
        let stream = UnixStream::from(connect_unix(&address, deadline).map_err(|cause| failed(cause.into()))?);
        stream.set_nonblocking(false).map_err(failed)?;
        let mut monitor = Self { stream, buffer: Vec::new(), commands: 0 };
        let greeting = monitor.message(deadline);
        let greeting = greeting.map_err(|cause| QmpFailure::NoGreeting { socket: path.to_owned(), cause })?;
        if greeting.get("QMP").is_none() {
            return Err(QmpFailure::NotQmp { socket: path.to_owned() }.into());
        }
        monitor.command("qmp_capabilities", deadline)?;
        Ok(monitor)
    }

    /// Gives a command and waits for its answer.
    fn command(&mut self, command: &'static str, deadline: Deadline) -> Result<Value, QmpFailure> {
        self.answer_to(command, deadline).map_err(|cause| QmpFailure::Command { command, cause })
    }

    fn answer_to(&mut self, command: &str, deadline: Deadline) -> Result<Value, MonitorError> {
        self.commands += 1;
        let id = json!(format!("stunfs-{}", self.commands));
        let line = format!("{}\n", json!({ "execute": command, "id": id }));
        self.stream.set_write_timeout(Some(left(deadline)))?;
        self.stream.write_all(line.as_bytes())?;
        loop {
            let mut message = self.message(deadline)?;
            if message.get("id").is_some_and(|other| *other != id) {
                continue;
            }
            if let Some(error) = message.get("error") {
                return Err(MonitorError::Refused(error["desc"].as_str().map(one_line)));
            }
            if let Some(answer) = message.get_mut("return") {
                return Ok(answer.take());
            }
        }
    }

    /// The next message, whatever it is.
    fn message(&mut self, deadline: Deadline) -> Result<Value, MonitorError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Ok(serde_json::from_slice(&line)?);
            }
            self.receive(deadline)?;
        }
    }

    fn receive(&mut self, deadline: Deadline) -> Result<(), MonitorError> {
        if self.buffer.len() > LONGEST_LINE {
            return Err(MonitorError::TooLong);
        }
        if deadline.passed() {
            return Err(MonitorError::NoAnswer);
        }
        let mut part = [0; 4096];
        let received = self.stream.set_read_timeout(Some(left(deadline))).and_then(|()| self.stream.read(&mut part));
        match received {
            Ok(0) => Err(MonitorError::Closed),
            Ok(length) => {
                self.buffer.extend_from_slice(&part[..length]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn is_running(&mut self, deadline: Deadline) -> Result<bool, QmpFailure> {
        let status = self.command("query-status", deadline)?;
        status["running"].as_bool().ok_or_else(|| QmpFailure::Status { status: status.to_string() })
    }

    /// Waits until the machine runs or does not.
    fn await_running(&mut self, wanted: bool, deadline: Deadline) -> Result<(), QmpFailure> {
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

fn socket(path: &Path) -> Result<CString, FreezeCause> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| FreezeCause::ZeroByte)
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
    pub(super) fn open(path: &Path) -> Result<Self, FreezeCause> {
        let absolute = std::path::absolute(path);
        let path = absolute.map_err(|cause| QmpFailure::Connect { socket: path.to_owned(), cause })?;
        Ok(Self { path, ours: false, unanswered: None })
    }

    fn action(&self) -> Result<UndoAction, FreezeCause> {
        Ok(UndoAction::Qmp { socket: socket(&self.path)? })
    }

    fn stop(monitor: &mut Monitor, deadline: Deadline) -> Result<(), QmpFailure> {
        monitor.command("stop", deadline)?;
        monitor.await_running(false, deadline)
    }

    fn go_on(monitor: &mut Monitor, deadline: Deadline) -> Result<(), QmpFailure> {
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
    fn check(&self, _: &Surroundings) -> Result<(), FreezeCause> {
        let deadline = Deadline::after(CHECK_WITHIN);
        Monitor::connect(&self.path, deadline)?.is_running(deadline)?;
        Ok(())
    }

    fn freeze(&mut self, _: &Surroundings, deadline: Deadline, arm: &mut UndoArmer<'_>) -> Result<(), FreezeCause> {
        let mut monitor = Monitor::connect(&self.path, deadline)?;
        if !monitor.is_running(deadline)? {
            return Ok(());
        }
        tell(arm, &self.action()?)?;
        self.ours = true;
        let stopped = Self::stop(&mut monitor, deadline);
        if stopped.is_err() {
            self.unanswered = Some(monitor);
        }
        Ok(stopped?)
    }

    fn thaw(&mut self, deadline: Deadline) -> Result<(), FreezeCause> {
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
        Ok(thawed?)
    }

    fn actions(&self) -> Vec<UndoAction> {
        self.action().ok().filter(|_| self.ours).into_iter().collect()
    }
}
