//! What a user may ask to be frozen, as text: `cgroup:PATH`, `docker:NAME`, `pid:N`, `qmp:SOCKET`.
//!
//! Must not know: whether the target exists. Invariant: what is displayed parses to the same target.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use thiserror::Error;

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
#[error("cannot freeze '{text}': {why}; allowed are cgroup:PATH, docker:NAME, pid:N and qmp:SOCKET")]
pub struct FreezeTargetError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
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
    match kind {
        "cgroup" => path(value).map(FreezeTarget::Cgroup),
        "qmp" => path(value).map(FreezeTarget::Qmp),
        "docker" => container(value).map(FreezeTarget::Docker),
        "pid" => process(value).map(FreezeTarget::Pid),
        _ => Err("there is no such kind"),
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
        match self {
            Self::Cgroup(path) => write!(f, "cgroup:{}", path.display()),
            Self::Docker(name) => write!(f, "docker:{name}"),
            Self::Pid(pid) => write!(f, "pid:{}", pid.as_raw_nonzero()),
            Self::Qmp(path) => write!(f, "qmp:{}", path.display()),
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
