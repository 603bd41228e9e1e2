//! What a user may ask to be frozen, as text: `cgroup:PATH`, `docker:NAME`, `pid:N`, `qmp:SOCKET`.
//!
//! This is the only file that reads or writes that text: options, events and replies carry [`FreezeTarget`].
//!
//! Must not know: whether the target exists. Invariant: what is displayed parses to the same target, if its path is UTF-8.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The kinds of things that can be frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FreezeKind {
    /// A control group.
    Cgroup,
    /// A container.
    Docker,
    /// A process tree.
    Pid,
    /// A virtual machine.
    Qmp,
}

impl FreezeKind {
    /// All kinds, in the order in which they are listed.
    pub const ALL: [Self; 4] = [Self::Cgroup, Self::Docker, Self::Pid, Self::Qmp];

    /// The word before the colon.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Docker => "docker",
            Self::Pid => "pid",
            Self::Qmp => "qmp",
        }
    }

    /// How a target of this kind is written.
    pub const fn form(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup:PATH",
            Self::Docker => "docker:NAME",
            Self::Pid => "pid:N",
            Self::Qmp => "qmp:SOCKET",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for FreezeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One thing to freeze.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum FreezeTarget {
    /// A control group with everything below it: a path under `/sys/fs/cgroup`, or relative to the freezer's hierarchy.
    Cgroup(PathBuf),
    /// A container of docker or podman, by name or id.
    Docker(String),
    /// A process with everything it started.
    Pid(Pid),
    /// A QEMU machine, by its QMP socket.
    Qmp(PathBuf),
}

/// Why a text is not a target.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("cannot freeze '{text}': {why}; allowed are {}", forms())]
pub struct FreezeTargetError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// `cgroup:PATH, docker:NAME, pid:N and qmp:SOCKET`
fn forms() -> String {
    let [first @ .., last] = FreezeKind::ALL.map(FreezeKind::form);
    format!("{} and {last}", first.join(", "))
}

impl FreezeTarget {
    /// The kind of thing that it is.
    pub const fn kind(&self) -> FreezeKind {
        match self {
            Self::Cgroup(_) => FreezeKind::Cgroup,
            Self::Docker(_) => FreezeKind::Docker,
            Self::Pid(_) => FreezeKind::Pid,
            Self::Qmp(_) => FreezeKind::Qmp,
        }
    }

    /// The same target, whatever the working directory: a socket's path is made absolute. That of a control group is below
    /// its hierarchy and stays as it is.
    ///
    /// # Errors
    /// The working directory cannot be read.
    pub fn absolute(self) -> io::Result<Self> {
        match self {
            Self::Qmp(path) => std::path::absolute(path).map(Self::Qmp),
            target => Ok(target),
        }
    }
}

impl FromStr for FreezeTarget {
    type Err = FreezeTargetError;

    fn from_str(text: &str) -> Result<Self, FreezeTargetError> {
        parse(text).map_err(|why| FreezeTargetError { text: text.escape_debug().to_string(), why })
    }
}

impl TryFrom<String> for FreezeTarget {
    type Error = FreezeTargetError;

    fn try_from(text: String) -> Result<Self, FreezeTargetError> {
        text.parse()
    }
}

impl From<FreezeTarget> for String {
    fn from(target: FreezeTarget) -> Self {
        target.to_string()
    }
}

fn parse(text: &str) -> Result<FreezeTarget, &'static str> {
    let (kind, value) = text.split_once(':').ok_or("it does not say of what kind it is")?;
    match FreezeKind::named(kind).ok_or("there is no such kind")? {
        FreezeKind::Cgroup => path(value).map(FreezeTarget::Cgroup),
        FreezeKind::Qmp => path(value).map(FreezeTarget::Qmp),
        FreezeKind::Docker => container(value).map(FreezeTarget::Docker),
        FreezeKind::Pid => process(value).map(FreezeTarget::Pid),
    }
}

fn path(value: &str) -> Result<PathBuf, &'static str> {
    match value {
        "" => Err("the path is missing"),
        _ if value.contains('\0') => Err("the path contains a zero byte"),
        _ => Ok(PathBuf::from(value)),
    }
}

/// Container names end up in a URL: nothing but what docker itself allows.
fn container(value: &str) -> Result<String, &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    match value.chars().next() {
        None => Err("the container's name is missing"),
        Some(first) if first.is_ascii_alphanumeric() && value.chars().all(allowed) => Ok(value.to_owned()),
        Some(_) => Err("a container's name has letters, digits, '_', '.' and '-' only"),
    }
}

fn process(value: &str) -> Result<Pid, &'static str> {
    let number = value.parse::<i32>().ok().filter(|n| *n > 0).ok_or("the process id is not a positive number")?;
    Pid::from_raw(number).ok_or("the process id is not a positive number")
}

impl fmt::Display for FreezeTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.kind())?;
        match self {
            Self::Cgroup(path) | Self::Qmp(path) => write!(f, "{}", path.display()),
            Self::Docker(name) => f.write_str(name),
            Self::Pid(pid) => write!(f, "{}", pid.as_raw_nonzero()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_kind_parses_and_displays() {
        for text in ["cgroup:/sys/fs/cgroup/a b", "cgroup:x/y", "docker:kind-worker_1.a", "pid:4711", "qmp:/tmp/q:1"] {
            assert_eq!(text.parse::<FreezeTarget>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_form_begins_with_its_kind_and_the_guide_lists_all() {
        let guide = include_str!("../../docs/freezing.md");
        for kind in FreezeKind::ALL {
            assert!(kind.form().starts_with(&format!("{kind}:")));
            assert!(guide.contains(&format!("| `{}` |", kind.form())), "{kind}");
        }
    }

    #[test]
    fn only_a_socket_depends_on_the_working_directory() {
        let absolute = |text: &str| text.parse::<FreezeTarget>().unwrap().absolute().unwrap();
        assert_eq!(absolute("qmp:q"), FreezeTarget::Qmp(std::path::absolute("q").unwrap()));
        assert_eq!(absolute("cgroup:a/b"), FreezeTarget::Cgroup("a/b".into()));
    }

    #[test]
    fn errors_are_one_line_that_names_what_is_allowed() {
        for text in
            ["", "cgroup", "cgroup:", "qmp:", "docker:", "docker:../x", "docker:-a", "pid:0", "pid:-1", "pid:x", "a:\n"]
        {
            let error = text.parse::<FreezeTarget>().unwrap_err().to_string();
            assert!(
                error.contains("cgroup:PATH, docker:NAME, pid:N and qmp:SOCKET") && !error.contains('\n'),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_target_or_an_error(text in "(cgroup|docker|pid|qmp|)(:|)\\PC{0,12}") {
            if let Ok(target) = text.parse::<FreezeTarget>() {
                let json = serde_json::to_string(&target).unwrap();
                prop_assert_eq!(&serde_json::from_str::<FreezeTarget>(&json).unwrap(), &target);
                prop_assert_eq!(target.to_string().parse::<FreezeTarget>().unwrap(), target);
            }
        }
    }
}
