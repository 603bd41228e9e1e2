//! `stunfs doctor`: can this machine run stunfs and its harness, and which line mends what is missing.
//!
//! Must not know: how volumes are mounted. Invariant: it changes nothing, and exit code 0 means that a volume can be
//! mounted.

mod checks;

use std::fmt::Write;

use clap::Args;
use serde::Serialize;

use super::exit::{FINE, UNAVAILABLE};
use super::output;

/// `stunfs doctor`
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum CheckState {
    Ok,
    /// It works with restrictions.
    Limited,
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    state: CheckState,
    /// Nothing can be mounted without it.
    required: bool,
    /// What was found, and what it is for.
    detail: String,
    /// The line that mends it.
    mend: Option<String>,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, state: CheckState::Ok, required: false, detail: detail.into(), mend: None }
    }

    fn limited(name: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, state: CheckState::Limited, required: false, detail: detail.into(), mend: Some(mend.into()) }
    }

    fn missing(name: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, state: CheckState::Missing, required: false, detail: detail.into(), mend: Some(mend.into()) }
    }

    fn required(self) -> Self {
        Self { required: true, ..self }
    }
}

/// The whole examination, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Findings {
    can_mount: bool,
    checks: Vec<Check>,
}

pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<u8> {
    let checks = checks::all();
    let can_mount = !checks.iter().any(|check| check.required && check.state == CheckState::Missing);
    let findings = Findings { can_mount, checks };
    if args.json {
        output::print_json(&findings)?
    } else {
        output::print(&text(&findings)).map(|_| ())?
    }
    Ok(if can_mount { FINE } else { UNAVAILABLE })
}

fn text(findings: &Findings) -> String {
    let width = findings.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for check in &findings.checks {
        let state = match check.state {
            CheckState::Ok => "ok",
            CheckState::Limited => "limited",
            CheckState::Missing => "MISSING",
        };
        // A string takes any text.
        let _ = writeln!(text, "{state:<8} {:<width$}  {}", check.name, check.detail);
        if let Some(mend) = &check.mend {
            let _ = writeln!(text, "{:<8} {:<width$}  -> {mend}", "", "");
        }
    }
    let verdict = if findings.can_mount { "Volumes can be mounted." } else { "No volume can be mounted yet." };
    format!("{text}\n{verdict}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_not_ok_has_a_line_that_mends_it() {
        for check in checks::all() {
            assert_eq!(check.mend.is_none(), check.state == CheckState::Ok, "{check:?}");
        }
    }

    #[test]
    fn columns_line_up() {
        let checks = vec![Check::ok("a", "x"), Check::missing("long", "y", "do it").required()];
        let text = text(&Findings { can_mount: false, checks });
        assert_eq!(
            text,
            "ok       a     x\nMISSING  long  y\n               -> do it\n\nNo volume can be mounted yet.\n"
        );
    }
}
