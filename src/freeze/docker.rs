//! Pausing a container through the Engine API that docker and podman serve on a Unix socket.
//!
//! Must not know: what runs in it. Invariant: the container is named by its id from the first look on, so one that takes
//! over its name is not touched; one that somebody else paused is left alone.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::ContainerState;
use bollard::{API_DEFAULT_VERSION, Docker};
use rustix::process::Pid;

use super::freeze_set::{Freezer, Surroundings, UndoArmer};
use super::undo_action::UndoAction;
use crate::time::{Deadline, pause};

/// A look at a container is given up after this.
const CHECK_WITHIN: Duration = Duration::from_secs(10);
/// How often the state is read back.
const POLL: Duration = Duration::from_millis(20);

/// Talks to an engine, on a thread of its own: the caller may be in an asynchronous context itself.
fn engine<T: Send>(
    socket: &Path,
    deadline: Deadline,
    work: impl AsyncFnOnce(&Docker) -> Result<T, Error> + Send,
) -> Result<T, EngineError> {
    let talk = || {
        let path = socket.to_str().ok_or("the socket's path is not UTF-8")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        runtime.block_on(async {
            let talk = async {
                let seconds = deadline.left().as_secs() + 1;
                let docker = Docker::connect_with_unix(path, seconds, API_DEFAULT_VERSION)?.negotiate_version().await?;
                work(&docker).await
            };
            let answered = tokio::time::timeout(deadline.left(), talk).await;
            answered.map_err(|_| EngineError::from("no answer in time"))?.map_err(EngineError::from)
        })
    };
    let answer = std::thread::scope(|scope| scope.spawn(talk).join());
    answer.unwrap_or_else(|_| Err(EngineError::from("the thread that talks to the engine ended early")))
}

/// What an engine answered instead of doing it.
#[derive(Debug)]
struct EngineError {
    /// HTTP status, if it answered at all.
    status: Option<u16>,
    why: String,
}

impl EngineError {
    fn is_gone(&self) -> bool {
        self.status == Some(404)
    }
}

impl From<Error> for EngineError {
    fn from(error: Error) -> Self {
        match error {
            Error::DockerResponseServerError { status_code, message } => {
                Self { status: Some(status_code), why: message }
            }
            error => Self { status: None, why: chain(&error) },
        }
    }
}

impl From<&str> for EngineError {
    fn from(why: &str) -> Self {
        Self::from(why.to_owned())
    }
}

impl From<String> for EngineError {
    fn from(why: String) -> Self {
        Self { status: None, why }
    }
}

/// An error with what caused it: an HTTP client's own message says little.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut texts: Vec<_> = causes.map(|error| error.to_string().replace('\n', " ")).collect();
    texts.dedup();
    texts.join(": ")
}

#[derive(Debug)]
pub(super) struct Container {
    id: String,
    engine: PathBuf,
    ours: bool,
}

impl Container {
    pub(super) fn open(name: &str, around: &Surroundings) -> Result<Self, String> {
        let mut failures = Vec::new();
        for socket in &around.engines {
            match find(socket, name) {
                Ok(id) => return Ok(Self { id, engine: socket.clone(), ours: false }),
                Err(why) => failures.push(format!("{}: {why}", socket.display())),
            }
        }
        Err(format!("no engine has this container ({})", failures.join("; ")))
    }

    fn state(&self, deadline: Deadline) -> Result<ContainerState, EngineError> {
        let inspect = async |docker: &Docker| docker.inspect_container(&self.id, None).await;
        let state = engine(&self.engine, deadline, inspect)?.state;
        state.ok_or_else(|| EngineError::from("the engine does not tell the container's state"))
    }

    fn is_paused(&self, deadline: Deadline) -> Result<bool, EngineError> {
        let state = self.state(deadline)?;
        state.paused.ok_or_else(|| EngineError::from("the engine does not tell whether the container is paused"))
    }

    fn action(&self) -> Result<UndoAction, String> {
        let text =
            |bytes: &[u8]| CString::new(bytes).map_err(|_| "a zero byte in the engine's socket or answer".to_owned());
        let request = format!(
            "POST /containers/{}/unpause HTTP/1.1\r\nHost: stunfs\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            self.id
        );
        let socket = text(self.engine.as_os_str().as_bytes())?;
        Ok(UndoAction::Http { socket, request: text(request.as_bytes())? })
    }

    /// Pauses. An engine that failed at it is asked again: runc gives up after some milliseconds where processes of the
    /// container start faster than it can freeze them ("unable to freeze"), and the next try goes well.
    fn pause(&self, deadline: Deadline) -> Result<(), EngineError> {
        loop {
            match engine(&self.engine, deadline, async |docker: &Docker| docker.pause_container(&self.id).await) {
                Err(error) if error.status == Some(500) && !deadline.passed() => pause(POLL),
                answered => return answered,
            }
        }
    }

    /// Unpauses; whether it is known not to be paused.
    fn unpause(&self, deadline: Deadline) -> Result<bool, EngineError> {
        // An engine that refuses has not paused it or is busy: its state tells.
        let refused = engine(&self.engine, deadline, async |docker| docker.unpause_container(&self.id).await);
        match self.is_paused(deadline) {
            Err(error) if error.is_gone() => Ok(true),
            Ok(true) => refused.map(|()| false),
            paused => paused.map(|paused| !paused),
        }
    }
}

fn find(socket: &Path, name: &str) -> Result<String, String> {
    if !socket.is_absolute() {
        return Err("not a Unix socket (DOCKER_HOST must be unix:///PATH: the guard speaks nothing else)".to_owned());
    }
    // Asked first, because the engine's client would only say that it could not connect.
    fs::metadata(socket).map_err(|error| error.to_string())?;
    let inspect = async |docker: &Docker| docker.inspect_container(name, None).await;
    let answer = engine(socket, Deadline::after(CHECK_WITHIN), inspect).map_err(|error| error.why)?;
    let id = answer.id.filter(|id| !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric()));
    id.ok_or_else(|| "the engine does not tell the container's id".to_owned())
}

/// Whether a process is in a container, by the control groups of both: it is in that of the container's first process
/// (unless that is a hierarchy's root), or in one below that bears the container's id.
fn runs_inside(process: &str, first: &str, id: &str) -> bool {
    let freezing = |line: &&str| line.starts_with("0::") || line.split(':').nth(1) == Some("freezer");
    let same = |line: &str| !line.ends_with(":/") && first.lines().any(|other| other == line);
    process.lines().filter(freezing).any(|line| same(line) || line.contains(id))
}

impl Freezer for Container {
    fn check(&self, around: &Surroundings) -> Result<(), String> {
        let state = self.state(Deadline::after(CHECK_WITHIN)).map_err(|error| error.why)?;
        if state.running != Some(true) {
            return Err("the container is not running".to_owned());
        }
        let groups = |pid: i64| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let first = state.pid.filter(|pid| *pid > 0).map(groups).unwrap_or_default();
        let inside = |pid: &Pid| runs_inside(&groups(pid.as_raw_pid().into()), &first, &self.id);
        match around.untouchable().find(inside) {
            Some(pid) => Err(format!("process {}, which has to thaw it again, runs in it", pid.as_raw_nonzero())),
            None => Ok(()),
        }
    }

    fn freeze(&mut self, around: &Surroundings, deadline: Deadline, arm: &mut UndoArmer<'_>) -> Result<(), String> {
        self.check(around)?;
        if self.is_paused(deadline).map_err(|error| error.why)? {
            return Ok(());
        }
        arm(&self.action()?).map_err(|error| format!("the guard does not answer: {error}"))?;
        self.ours = true;
        self.pause(deadline).map_err(|error| error.why)?;
        match self.is_paused(deadline) {
            Ok(true) => Ok(()),
            Ok(false) => Err("the engine said yes, but the container is not paused".to_owned()),
            Err(error) => Err(error.why),
        }
    }

    fn thaw(&mut self, deadline: Deadline) -> Result<(), String> {
        while self.ours {
            match self.unpause(deadline) {
                Ok(true) => self.ours = false,
                Err(error) if deadline.passed() => return Err(error.why),
                Ok(false) if deadline.passed() => return Err("the engine still says that it is paused".to_owned()),
                Ok(false) | Err(_) => pause(POLL),
            }
        }
        Ok(())
    }

    fn actions(&self) -> Vec<UndoAction> {
        self.action().ok().filter(|_| self.ours).into_iter().collect()
    }
}

/// Whether an engine answers on a socket.
pub(super) fn ping(socket: &Path) -> Result<(), String> {
    fs::metadata(socket).map_err(|error| error.to_string())?;
    let ping = async |docker: &Docker| docker.ping().await.map(drop);
    engine(socket, Deadline::after(CHECK_WITHIN), ping).map_err(|error| error.why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_in_the_container_is_recognised() {
        let first = "6:freezer:/docker/abc\n4:memory:/x\n0::/\n";
        assert!(runs_inside("7:cpu:/\n6:freezer:/docker/abc\n0::/\n", first, "abc"));
        assert!(runs_inside("6:freezer:/docker/abc/kubelet\n", "", "abc"));
        assert!(runs_inside("0::/a\n", "0::/a\n", "abc"));
        assert!(!runs_inside("6:freezer:/\n4:memory:/x\n0::/\n", first, "abc"));
        assert!(!runs_inside("0::/a\n", "", "abc"));
    }
}
