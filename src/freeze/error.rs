//! Why a target cannot be frozen or thawed: for each kind of target, what was wrong, where, and what to do.
//!
//! Must not know: how a target is frozen. Invariant: every text is one line, and an error of the system is kept with the
//! path, the process or the socket that it is about.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::PathBuf;

use rustix::io::Errno;
use thiserror::Error;

use super::stuck_thread::StuckThread;
use super::target::FreezeTarget;
use crate::sys::cgroup::CgroupError;

/// Why a set cannot be frozen or thawed.
#[derive(Debug, Error)]
pub enum FreezeError {
    /// Before anything was frozen: it does not exist, there are no rights, or it holds stunfs itself.
    #[error("cannot freeze {target}: {cause}")]
    Refused {
        /// The target.
        target: FreezeTarget,
        /// The reason.
        cause: FreezeCause,
    },
    /// It did not acknowledge; all that was frozen before it is thawed again, unless `thaw` says otherwise.
    #[error("{target} was not frozen: {cause}{}", and(.thaw.as_deref()))]
    NotFrozen {
        /// The target.
        target: FreezeTarget,
        /// The reason.
        cause: FreezeCause,
        /// Why what was frozen before it could not be thawed.
        thaw: Option<Box<Self>>,
    },
    /// It did not acknowledge that it runs again; thawing can be tried again.
    #[error("{target} may still be frozen: {cause}")]
    NotThawed {
        /// The target.
        target: FreezeTarget,
        /// The reason.
        cause: FreezeCause,
    },
}

fn and(error: Option<&FreezeError>) -> String {
    error.map(|error| format!("; and {error}")).unwrap_or_default()
}

/// The reason why one target cannot be frozen or thawed.
#[derive(Debug, Error)]
pub enum FreezeCause {
    /// It is a control group.
    #[error(transparent)]
    Cgroup(#[from] CgroupFailure),
    /// It is a container.
    #[error(transparent)]
    Container(#[from] ContainerFailure),
    /// It is a process tree.
    #[error(transparent)]
    Process(#[from] ProcessFailure),
    /// It is a virtual machine.
    #[error(transparent)]
    Machine(#[from] QmpFailure),
    /// The guard process cannot be told how to thaw it.
    #[error("the guard does not answer: {cause}")]
    Guard {
        /// What the system said.
        cause: io::Error,
    },
    /// The guard could not be given its path.
    #[error("its path has a zero byte")]
    ZeroByte,
}

/// Why a control group cannot be frozen or thawed.
#[derive(Debug, Error)]
pub enum CgroupFailure {
    /// The path means no group that can be frozen.
    #[error(transparent)]
    Group(#[from] CgroupError),
    /// A file or directory cannot be opened, read or written.
    #[error("{path}: {cause}")]
    Access {
        /// The group.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The file that freezes is missing.
    #[error("{path} has no {file}: gone, or the kernel is too old")]
    NoFreezer {
        /// The group.
        path: PathBuf,
        /// The missing file.
        file: &'static str,
    },
    /// This user may not freeze it.
    #[error("no right to write {path}: {cause}; run stunfs as root, or name a delegated group")]
    NoRight {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: Errno,
    },
    /// A process that must keep running is in it.
    #[error(
        "it holds process {pid} ({comm}), which has to thaw it again; start stunfs in another group, or name one below"
    )]
    HoldsSpared {
        /// The process.
        pid: i32,
        /// Its command name.
        comm: String,
    },
    /// Some threads did not freeze.
    #[error("the kernel did not acknowledge it in time; among those not frozen may be {}", list(.threads))]
    Unacknowledged {
        /// Some of the threads.
        threads: Vec<StuckThread>,
    },
    /// It stays frozen.
    #[error("the kernel did not acknowledge the thaw of {path} in time")]
    StillFrozen {
        /// The group.
        path: PathBuf,
    },
}

/// Why a container cannot be paused or unpaused.
#[derive(Debug, Error)]
pub enum ContainerFailure {
    /// No engine knows it, or none answers.
    #[error("no engine has this container ({})", engines(.failures))]
    NotFound {
        /// The engines' sockets, with what each said.
        failures: Vec<(PathBuf, EngineError)>,
    },
    /// An engine failed at a request.
    #[error("{socket}: {cause}")]
    Engine {
        /// The engine's socket.
        socket: PathBuf,
        /// What it said.
        cause: EngineError,
    },
    /// There is nothing to pause.
    #[error("the container is not running")]
    NotRunning,
    /// A process that must keep running is in it.
    #[error("process {pid}, which has to thaw it again, runs in it; start stunfs outside the container")]
    HoldsSpared {
        /// The process.
        pid: i32,
    },
    /// The engine answered that it paused the container, and did not.
    #[error("the engine at {socket} said yes, but the container is not paused")]
    NotPaused {
        /// The engine's socket.
        socket: PathBuf,
    },
    /// It stays paused.
    #[error("the engine at {socket} still says that it is paused")]
    StillPaused {
        /// The engine's socket.
        socket: PathBuf,
    },
}

/// What a container engine answered instead of doing what it was asked.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The address is no path.
    #[error("not a Unix socket (DOCKER_HOST must be unix:///PATH: the guard speaks nothing else)")]
    NotUnix,
    /// The client library takes text only.
    #[error("the socket's path is not UTF-8")]
    NotUtf8,
    /// Its socket cannot be looked at, or the client cannot be started.
    #[error("{0}")]
    System(#[from] io::Error),
    /// No answer came before the deadline.
    #[error("no answer in time")]
    NoAnswer,
    /// That thread panicked, which is a bug.
    #[error("the thread that talks to the engine ended early")]
    ThreadEnded,
    /// The engine answered with an error.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The engine's words, in one line.
        message: String,
    },
    /// The engine's answer could not be had.
    #[error("{}", chain(.0.as_ref()))]
    Client(Box<dyn StdError + Send + Sync>),
    /// The answer lacks something.
    #[error("the engine does not tell {0}")]
    Incomplete(&'static str),
}

impl EngineError {
    /// Whether the engine says that the container does not exist.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}

/// Why a process tree cannot be stopped or continued.
#[derive(Debug, Error)]
pub enum ProcessFailure {
    /// It must never be frozen.
    #[error("it is stunfs itself, its guard or process 1")]
    Spared,
    /// It is gone, or never was.
    #[error("there is no such process")]
    NotFound,
    /// It ended after it was named.
    #[error("the process is gone")]
    Gone,
    /// A thread of the kernel cannot be stopped.
    #[error("it is a thread of the kernel")]
    KernelThread,
    /// No descriptor of it can be had.
    #[error("process {pid} cannot be opened: {cause}")]
    Open {
        /// The process.
        pid: i32,
        /// What the system said.
        cause: Errno,
    },
    /// This user may not stop it.
    #[error("no right to stop process {pid} ({comm}): {cause}; run stunfs as root, or as the process's user")]
    NoRight {
        /// The process.
        pid: i32,
        /// Its command name.
        comm: String,
        /// What the system said.
        cause: Errno,
    },
    /// A signal could not be sent.
    #[error("no signal to process {pid} ({comm}): {cause}")]
    Signal {
        /// The process.
        pid: i32,
        /// Its command name.
        comm: String,
        /// What the system said.
        cause: Errno,
    },
    /// Some threads did not stop.
    #[error("not every thread stopped in time: {}", list(.threads))]
    Unacknowledged {
        /// Some of those threads.
        threads: Vec<StuckThread>,
    },
    /// It stays stopped.
    #[error("process {pid} ({comm}) does not go on")]
    StillStopped {
        /// The process.
        pid: i32,
        /// Its command name.
        comm: String,
    },
}

/// Why a virtual machine cannot be stopped or continued.
#[derive(Debug, Error)]
pub enum QmpFailure {
    /// The socket cannot be reached.
    #[error("{socket}: {cause}")]
    Connect {
        /// The monitor's socket.
        socket: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// QEMU does not greet.
    #[error("{socket}: no QMP greeting ({cause}): does another client hold the socket?")]
    NoGreeting {
        /// The monitor's socket.
        socket: PathBuf,
        /// What came instead.
        cause: MonitorError,
    },
    /// Another program listens there.
    #[error("what answers at {socket} does not speak QMP")]
    NotQmp {
        /// The socket.
        socket: PathBuf,
    },
    /// A command was not carried out.
    #[error("QEMU did not do '{command}': {cause}")]
    Command {
        /// The QMP command.
        command: &'static str,
        /// What came instead of its answer.
        cause: MonitorError,
    },
    /// An answer of a form that this version does not know.
    #[error("a status that is not understood: {status}")]
    Status {
        /// The answer.
        status: String,
    },
}

/// What came over a monitor's socket instead of an answer.
#[derive(Debug, Error)]
pub enum MonitorError {
    /// Something else than JSON.
    #[error("not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    /// A line without an end.
    #[error("the line is too long")]
    TooLong,
    /// Nothing before the deadline.
    #[error("no answer in time")]
    NoAnswer,
    /// QEMU closed the connection.
    #[error("the connection was closed")]
    Closed,
    /// The socket failed.
    #[error("{0}")]
    System(#[from] io::Error),
    /// QEMU answered with an error.
    #[error("{}", .0.as_deref().unwrap_or("it says no more than that it failed"))]
    Refused(Option<String>),
}

/// Why a kind of target cannot be frozen on this machine.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The hierarchies cannot be found.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// This generation of control groups is not there.
    #[error("its hierarchy is not mounted")]
    NotMounted,
    /// No group can be made or removed.
    #[error("{path}: {cause}")]
    Group {
        /// The group, or the one above it.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The group that was made for the test cannot be frozen.
    #[error(transparent)]
    Freeze(#[from] FreezeError),
    /// The kernel is too old to stop a process for certain.
    #[error("no process descriptors: {cause}")]
    NoDescriptors {
        /// What the system said.
        cause: Errno,
    },
    /// `/proc` is not mounted.
    #[error("{path}: {cause}")]
    NoProc {
        /// The file that was looked at.
        path: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// None of the engines answers.
    #[error("no engine answers ({})", engines(.failures))]
    NoEngine {
        /// The engines' sockets, with what each said.
        failures: Vec<(PathBuf, EngineError)>,
    },
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn engines(failures: &[(PathBuf, EngineError)]) -> String {
    let failures = failures.iter().map(|(socket, cause)| format!("{}: {cause}", socket.display()));
    failures.collect::<Vec<_>>().join("; ")
}

/// An error with its causes in one line: an HTTP client's own message says little.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    let mut texts: Vec<_> = causes.map(|error| one_line(&error.to_string())).collect();
    texts.dedup();
    texts.join(": ")
}

/// The text in one line.
pub(super) fn one_line(text: &str) -> String {
    text.trim().replace(|c: char| c.is_control(), " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> FreezeTarget {
        FreezeTarget::Docker("web".into())
    }

    #[test]
    fn an_error_names_the_target_the_place_and_what_the_system_said() {
        let cause = QmpFailure::Connect { socket: "/run/q".into(), cause: Errno::NOENT.into() }.into();
        let error = FreezeError::Refused { target: FreezeTarget::Qmp("/run/q".into()), cause };
        assert_eq!(error.to_string(), "cannot freeze qmp:/run/q: /run/q: No such file or directory (os error 2)");
    }

    #[test]
    fn a_failed_thaw_is_told_with_the_failed_freeze() {
        let thaw = FreezeError::NotThawed { target: target(), cause: FreezeCause::ZeroByte };
        let cause = ContainerFailure::NotRunning.into();
        let error = FreezeError::NotFrozen { target: target(), cause, thaw: Some(Box::new(thaw)) };
        assert_eq!(
            error.to_string(),
            "docker:web was not frozen: the container is not running; and docker:web may still be frozen: its path has \
             a zero byte"
        );
    }

    #[test]
    fn causes_of_a_client_are_one_line() {
        let inner = io::Error::other("first\nsecond");
        let outer = io::Error::other(inner);
        assert_eq!(EngineError::Client(Box::new(outer)).to_string(), "first second");
    }
}
