//! What can be wrong with options, each as one line that names the option, the value and what is allowed.
//!
//! Must not know: where the options came from. Invariant: the text has no line break.

use std::io;

use super::option::{OPTIONS, Opt};

/// What is wrong with a set of options. Exit code 2 on the command line, status 400 over the control socket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// There is no option of this name.
    #[error("no option is called '{name}'{hint}")]
    UnknownOption {
        /// What was written.
        name: String,
        /// `; did you mean ...?`
        hint: String,
    },
    /// There is no profile of this name.
    #[error("profile: no profile is called '{name}'{hint}")]
    UnknownProfile {
        /// What was written.
        name: String,
        /// `; did you mean ...?`
        hint: String,
    },
    /// A value cannot be understood, or is not allowed.
    #[error("{option}: {reason}")]
    Value {
        /// The option's name.
        option: &'static str,
        /// The value and what is allowed.
        reason: String,
    },
    /// The option cannot change while the volume is mounted.
    #[error("{option}: cannot change while the volume is mounted, since {reason}")]
    Fixed {
        /// The option's name.
        option: &'static str,
        /// Why it cannot change.
        reason: &'static str,
    },
    /// Each option is fine, together they are not.
    #[error("{0}")]
    Conflict(String),
    /// A profile file cannot be read, or is not a profile.
    #[error("profile {file}: {reason}")]
    Profile {
        /// The file, or the profile's name.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A list of options is not well formed.
    #[error("options: {0}")]
    Syntax(String),
}

/// Why the text of a file cannot be had; the caller knows which file it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadTextError {
    /// It cannot be read.
    #[error("{0}")]
    System(#[from] io::Error),
    /// It is a directory, a device or a pipe.
    #[error("it is not a regular file")]
    NotRegular,
    /// It is too large for what it should hold.
    #[error("it is larger than 16MiB")]
    TooLarge,
}

impl SettingsError {
    /// There is no option `name`; the nearest is suggested.
    pub fn unknown_option(name: &str) -> Self {
        let names = OPTIONS.iter().map(|spec| spec.name);
        let hint = match nearest(&name.replace('_', "-"), names) {
            Some(near) => format!("; did you mean '{near}'?"),
            None => "; see 'stunfs mount --help'".to_owned(),
        };
        Self::UnknownOption { name: one_line(name), hint }
    }

    /// There is no profile `name`; the nearest of `known` is suggested, or all are listed.
    pub fn unknown_profile<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Self {
        let hint = match nearest(name, known.clone()) {
            Some(near) => format!("; did you mean '{near}'?"),
            None => format!("; there are {}, or write a file as ./FILE.yaml", known.collect::<Vec<_>>().join(", ")),
        };
        Self::UnknownProfile { name: one_line(name), hint }
    }

    pub(super) fn value(option: Opt, reason: impl AsRef<str>) -> Self {
        Self::Value { option: option.name(), reason: one_line(reason.as_ref()) }
    }

    /// A profile that is not well formed.
    pub fn profile(file: impl Into<String>, reason: impl AsRef<str>) -> Self {
        Self::Profile { file: file.into(), reason: one_line(reason.as_ref()) }
    }
}

/// The candidate that `name` was most likely meant to be, if one is near enough.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    candidates
        .map(|candidate| (strsim::jaro_winkler(&name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// The text without line breaks and control characters, cut to a length that fits a terminal.
fn one_line(text: &str) -> String {
    const LONGEST: usize = 300;
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
    if line.chars().count() < text.chars().count() { line + "..." } else { line }
}
