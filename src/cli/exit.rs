//! Errors to exit codes and to the one line that the user reads. The only place that does so.
//!
//! Must not know: what was run. Invariant: an error is one line, and its code is 2 or one of sysexits (1 is left for expectations that fail).

use std::fmt::Write;
use std::io;

use clap::error::{ContextKind, ContextValue, ErrorKind as ClapKind};
use stunfs::control::{ClientError, FindError};
use stunfs::settings::{SettingsError, nearest};
use stunfs::volume::{ErrorKind, VolumeError};
use stunfs::workload::WorkloadError;

use super::output;

/// All is well.
pub(crate) const FINE: u8 = 0;
/// An expectation failed.
pub(crate) const FAILED: u8 = 1;
/// The command line, or an option in it, is wrong.
pub(crate) const USAGE: u8 = 2;
/// Something that is needed is missing.
pub(crate) const UNAVAILABLE: u8 = 69;
/// A bug.
pub(crate) const SOFTWARE: u8 = 70;
/// The system refused a resource.
pub(crate) const OS: u8 = 71;
/// A file cannot be made.
pub(crate) const CANT_CREATE: u8 = 73;
/// Reading or writing failed.
pub(crate) const IO: u8 = 74;
/// Rights are missing.
pub(crate) const NO_PERMISSION: u8 = 77;

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
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => IO,
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
    if error.is::<clap::Error>() || error.is::<SettingsError>() || error.is::<UsageError>() {
        return Some(USAGE);
    }
    if let Some(error) = error.downcast_ref::<ErrorWithCode>() {
        return Some(error.code);
    }
    let volume = error.downcast_ref::<VolumeError>().map(volume_code);
    let client = error.downcast_ref::<ClientError>().map(client_code);
    let find = error.downcast_ref::<FindError>().map(find_code);
    let file = error.downcast_ref::<io::Error>().map(io_code);
    let workload = error.downcast_ref::<WorkloadError>().map(workload_code);
    volume.or(client).or(find).or(file).or(workload)
}

fn workload_code(error: &WorkloadError) -> u8 {
    match error {
        WorkloadError::Options(_) => USAGE,
        WorkloadError::Directory { cause, .. } => io_code(cause),
        WorkloadError::Thread(_) => OS,
    }
}

const fn find_code(error: &FindError) -> u8 {
    match error {
        FindError::Several(_) => USAGE,
        FindError::None | FindError::NotFound(_) => UNAVAILABLE,
    }
}

fn volume_code(error: &VolumeError) -> u8 {
    match error.kind() {
        ErrorKind::Usage => USAGE,
        ErrorKind::Unavailable => UNAVAILABLE,
        ErrorKind::Software => SOFTWARE,
        ErrorKind::Os => OS,
        ErrorKind::CantCreate => CANT_CREATE,
        ErrorKind::Io => IO,
        ErrorKind::NoPermission => NO_PERMISSION,
    }
}

const fn client_code(error: &ClientError) -> u8 {
    match error {
        ClientError::Refused { status: 400, .. } => USAGE,
        ClientError::NotListening(_) | ClientError::TimedOut { .. } | ClientError::Refused { .. } => UNAVAILABLE,
        ClientError::Denied(_) => NO_PERMISSION,
        ClientError::Broken { .. } => IO,
        ClientError::Local(_) => OS,
    }
}

fn io_code(error: &io::Error) -> u8 {
    match error.kind() {
        io::ErrorKind::PermissionDenied => NO_PERMISSION,
        io::ErrorKind::AlreadyExists => CANT_CREATE,
        _ => IO,
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
