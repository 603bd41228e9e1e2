//! Errors to the one line that the user reads, and to an exit code: each is of an [`ErrorKind`], which has the code.
//!
//! Must not know: what was run. Invariant: an error is one line, and its code is 2 or one of sysexits (1 is left for expectations that fail).

use std::fmt::Write;
use std::io;

use clap::error::{ContextKind, ContextValue, ErrorKind as ClapKind};
use stunfs::internal::control::{ClientError, FindError};
use stunfs::internal::scenario::result::Verdict;
use stunfs::internal::settings::{SettingsError, nearest};
use stunfs::internal::volume::{ErrorKind, VolumeError};
use stunfs::internal::workload::WorkloadError;

use super::output;

/// All is well.
pub(crate) const FINE: u8 = 0;
/// An expectation failed.
pub(crate) const FAILED: u8 = 1;
/// Nothing can be concluded.
pub(crate) const INCONCLUSIVE: u8 = Verdict::Inconclusive.exit_code();
/// Something that is needed is missing.
pub(crate) const UNAVAILABLE: u8 = ErrorKind::Unavailable.exit_code();
/// A bug.
pub(crate) const SOFTWARE: u8 = ErrorKind::Software.exit_code();

/// What is wrong with the command line, beyond what clap and the settings find.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);

/// An error whose code is already known (a daemon's, seen by the process that started it).
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ErrorWithCode {
    pub(crate) code: u8,
    pub(crate) message: String,
}

/// Tells the user of an error; the process's exit code.
pub(crate) fn finish(outcome: anyhow::Result<u8>) -> u8 {
    match outcome {
        Ok(code) => code,
        Err(error) => match error.downcast_ref::<clap::Error>() {
            Some(error) if !error.use_stderr() => show_help(error),
            _ => {
                output::say(message(&error));
                code(&error)
            }
        },
    }
}

/// Help and version are no errors. A reader that went away is none either.
fn show_help(error: &clap::Error) -> u8 {
    match error.print() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ErrorKind::Io.exit_code(),
        _ => FINE,
    }
}

/// The error in one line.
pub(crate) fn message(error: &anyhow::Error) -> String {
    let text = match error.downcast_ref::<clap::Error>() {
        Some(error) => clap_line(error),
        None => format!("{error:#}"),
    };
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The exit code that goes with the error.
pub(crate) fn code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(code_of).unwrap_or(SOFTWARE)
}

fn code_of(error: &(dyn std::error::Error + 'static)) -> Option<u8> {
    match error.downcast_ref::<ErrorWithCode>() {
        Some(error) => Some(error.code),
        None => kind_of(error).map(ErrorKind::exit_code),
    }
}

fn kind_of(error: &(dyn std::error::Error + 'static)) -> Option<ErrorKind> {
    if error.is::<clap::Error>() || error.is::<SettingsError>() || error.is::<UsageError>() {
        return Some(ErrorKind::Usage);
    }
    let volume = error.downcast_ref::<VolumeError>().map(VolumeError::kind);
    let client = error.downcast_ref::<ClientError>().map(client_kind);
    let find = error.downcast_ref::<FindError>().map(find_kind);
    let file = error.downcast_ref::<io::Error>().map(io_kind);
    let workload = error.downcast_ref::<WorkloadError>().map(workload_kind);
    volume.or(client).or(find).or(file).or(workload)
}

fn workload_kind(error: &WorkloadError) -> ErrorKind {
    match error {
        WorkloadError::Options(_) | WorkloadError::AckLog(_) => ErrorKind::Usage,
        WorkloadError::Directory { cause, .. } => io_kind(cause),
        WorkloadError::Thread(_) => ErrorKind::Os,
    }
}

const fn find_kind(error: &FindError) -> ErrorKind {
    match error {
        FindError::Several(_) | FindError::Anothers { .. } => ErrorKind::Usage,
        FindError::None | FindError::NotFound(_) => ErrorKind::Unavailable,
    }
}

const fn client_kind(error: &ClientError) -> ErrorKind {
    match error {
        ClientError::Refused { status: 403, .. } | ClientError::Denied(_) => ErrorKind::NoPermission,
        // What was asked is wrong, or does not go with the volume's state.
        ClientError::Refused { status: 400..=499, .. } => ErrorKind::Usage,
        ClientError::Refused { status: 500, .. } => ErrorKind::Software,
        ClientError::NotListening(_) | ClientError::TimedOut { .. } | ClientError::Refused { .. } => {
            ErrorKind::Unavailable
        }
        ClientError::Broken { .. } => ErrorKind::Io,
        ClientError::Local(_) => ErrorKind::Os,
    }
}

fn io_kind(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::NoPermission,
        io::ErrorKind::AlreadyExists => ErrorKind::CantCreate,
        _ => ErrorKind::Io,
    }
}

/// clap's error without its usage paragraph.
fn clap_line(error: &clap::Error) -> String {
    if error.kind() == ClapKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "a sub-command is missing; see 'stunfs --help'".to_owned();
    }
    let rendered = error.render().to_string();
    let is_about_usage = |line: &&str| line.starts_with("Usage:") || line.starts_with("For more information");
    let lines = rendered.lines().take_while(|line| !is_about_usage(line)).map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("tip:"));
    let mut text = lines.collect::<Vec<_>>().join(" ").trim_start_matches("error: ").to_owned();
    if rendered.contains("stunfs run") && error.kind() == ClapKind::UnknownArgument && is_word(error) {
        text.push_str("; write -- before the command");
    } else if let Some(near) = suggestion(error) {
        // A string takes any text.
        let _ = write!(text, "; did you mean '{near}'?");
    }
    text
}

/// Whether what was not expected is no option.
fn is_word(error: &clap::Error) -> bool {
    matches!(error.get(ContextKind::InvalidArg), Some(ContextValue::String(word)) if !word.starts_with('-'))
}

/// What was meant; of several that clap finds, the likeliest.
fn suggestion(error: &clap::Error) -> Option<String> {
    let kinds = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue];
    kinds.into_iter().find_map(|kind| match error.get(kind)? {
        ContextValue::String(near) => Some(near.clone()),
        ContextValue::Strings(near) => nearest(invalid(error)?, near.iter().map(String::as_str)).map(str::to_owned),
        _ => None,
    })
}

/// What was written instead.
fn invalid(error: &clap::Error) -> Option<&str> {
    let kinds = [ContextKind::InvalidSubcommand, ContextKind::InvalidValue];
    kinds.into_iter().find_map(|kind| match error.get(kind)? {
        ContextValue::String(name) => Some(name.as_str()),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
