//! Pausing a container through the Engine API that docker and podman serve on a Unix socket.
//!
//! Must not know: what runs in it. Invariant: the container is named by its id from the first look on, so one that takes
//! over its name is not touched; one that another program paused is left alone.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{ContainerFailure, EngineError, FreezeCause, one_line};
use super::freezer::{Freezer, Surroundings, UndoArmer, tell};
use super::undo_action::UndoAction;
use crate::sys::cgroup::FreezerGroups;
use crate::time::{Deadline, pause};
use bollard::errors::Error;
use bollard::models::ContainerState;
use bollard::{API_DEFAULT_VERSION, Docker};

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
        let path = socket.to_str().ok_or(EngineError::NotUtf8)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let talk = async {
                let seconds = deadline.left().as_secs() + 1;
                let docker = Docker::connect_with_unix(path, seconds, API_DEFAULT_VERSION)?.negotiate_version().await?;
                work(&docker).await
            };
            let answered = tokio::time::timeout(deadline.left(), talk).await;
            answered.map_err(|_| EngineError::NoAnswer)?.map_err(EngineError::from)
        })
    };
    let answer = std::thread::scope(|scope| scope.spawn(talk).join());
    answer.unwrap_or(Err(EngineError::ThreadEnded))
}

impl From<Error> for EngineError {
    fn from(error: Error) -> Self {
        match error {
            Error::DockerResponseServerError { status_code: status, message } => {
                Self::Refused { status, message: one_line(&message) }
            }
            error => Self::Client(Box::new(error)),
        }
    }
}

#[derive(Debug)]
pub(super) struct Container {
    id: String,
    engine: PathBuf,
    ours: bool,
}

impl Container {
    pub(super) fn open(name: &str, around: &Surroundings) -> Result<Self, FreezeCause> {
        let mut failures = Vec::new();
        for socket in &around.engines {
            match find(socket, name) {
                Ok(id) => return Ok(Self { id, engine: socket.clone(), ours: false }),
                Err(cause) => failures.push((socket.clone(), cause)),
            }
        }
        Err(ContainerFailure::NotFound { failures }.into())
    }

    fn state(&self, deadline: Deadline) -> Result<ContainerState, EngineError> {
        let inspect = async |docker: &Docker| docker.inspect_container(&self.id, None).await;
        let state = engine(&self.engine, deadline, inspect)?.state;
        state.ok_or(EngineError::Incomplete("the container's state"))
    }

    fn is_paused(&self, deadline: Deadline) -> Result<bool, EngineError> {
        self.state(deadline)?.paused.ok_or(EngineError::Incomplete("whether the container is paused"))
    }

    fn failed(&self, cause: EngineError) -> ContainerFailure {
        ContainerFailure::Engine { socket: self.engine.clone(), cause }
    }

    fn action(&self) -> Result<UndoAction, FreezeCause> {
        let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| FreezeCause::ZeroByte);
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
                Err(EngineError::Refused { status: 500, .. }) if !deadline.passed() => pause(POLL),
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

fn find(socket: &Path, name: &str) -> Result<String, EngineError> {
    if !socket.is_absolute() {
        return Err(EngineError::NotUnix);
    }
    // Asked first, because the engine's client would only say that it could not connect.
    fs::metadata(socket)?;
    let inspect = async |docker: &Docker| docker.inspect_container(name, None).await;
    let answer = engine(socket, Deadline::after(CHECK_WITHIN), inspect)?;
    let id = answer.id.filter(|id| !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric()));
    id.ok_or(EngineError::Incomplete("the container's id"))
}

/// Whether a process is in a container, by the control groups of both: it is in that of the container's first process,
/// or in one whose path has the container's id.
fn runs_inside(process: &FreezerGroups, first: &FreezerGroups, id: &str) -> bool {
    process.share_one_with(first) || process.mention(id)
}

impl Freezer for Container {
    fn check(&self, around: &Surroundings) -> Result<(), FreezeCause> {
        let state = self.state(Deadline::after(CHECK_WITHIN)).map_err(|cause| self.failed(cause))?;
        if state.running != Some(true) {
            return Err(ContainerFailure::NotRunning.into());
        }
        let first = state.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0);
        let first = first.map(FreezerGroups::of).unwrap_or_default();
        let inside = |pid: &i32| runs_inside(&FreezerGroups::of(*pid), &first, &self.id);
        match around.untouchable().map(|pid| pid.as_raw_pid()).find(inside) {
            Some(pid) => Err(ContainerFailure::HoldsSpared { pid }.into()),
            None => Ok(()),
        }
    }

    fn freeze(
        &mut self,
        around: &Surroundings,
        deadline: Deadline,
        arm: &mut UndoArmer<'_>,
    ) -> Result<(), FreezeCause> {
        self.check(around)?;
        if self.is_paused(deadline).map_err(|cause| self.failed(cause))? {
            return Ok(());
        }
        tell(arm, &self.action()?)?;
        self.ours = true;
        self.pause(deadline).map_err(|cause| self.failed(cause))?;
        match self.is_paused(deadline).map_err(|cause| self.failed(cause))? {
            true => Ok(()),
            false => Err(ContainerFailure::NotPaused { socket: self.engine.clone() }.into()),
        }
    }

    fn thaw(&mut self, deadline: Deadline) -> Result<(), FreezeCause> {
        while self.ours {
            match self.unpause(deadline) {
                Ok(true) => self.ours = false,
                Err(cause) if deadline.passed() => return Err(self.failed(cause).into()),
                Ok(false) if deadline.passed() => {
                    return Err(ContainerFailure::StillPaused { socket: self.engine.clone() }.into());
                }
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
pub(super) fn ping(socket: &Path) -> Result<(), EngineError> {
    fs::metadata(socket)?;
    let ping = async |docker: &Docker| docker.ping().await.map(drop);
    engine(socket, Deadline::after(CHECK_WITHIN), ping)
}
