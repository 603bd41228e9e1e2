//! `stunfs scenario`: what is built in, and whether a file is right.
//!
//! Must not know: how a scenario is run. Invariant: nothing is touched; a wrong file is one line and exit code 2.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use stunfs::internal::profiles;
use stunfs::internal::scenario::{self, Override, Scenario, shipped};

use super::exit::{FINE, UsageError};
use super::output::{self, TextTable};

const EXAMPLES: &str = "\
Examples:
  stunfs scenario list
  stunfs scenario show log-rotation-burst
  stunfs scenario check mine.yaml
  stunfs scenario schema";

/// `stunfs scenario`
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ScenarioArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// The scenarios that are built in
    List,
    /// The file of a scenario that is built in
    Show {
        /// Its name
        name: String,
    },
    /// Whether files are right, and what is wrong with them
    Check {
        /// Files, or names of scenarios that are built in
        #[arg(required = true)]
        scenarios: Vec<PathBuf>,
    },
    /// The JSON schema of a scenario's file
    Schema,
}

pub(crate) fn run(args: &ScenarioArgs) -> anyhow::Result<u8> {
    match &args.action {
        Action::List => {
            let mut table = TextTable::new(["NAME", "RUNS", "ARMS", "SHOWS"]);
            for (name, text) in shipped::SHIPPED {
                let scenario = scenario::read(name, text, &[], profiles::lookup).map_err(|error| usage(&error))?;
                let arms: Vec<&str> = scenario.spec.arms.0.iter().map(|(name, _)| name.as_str()).collect();
                let shows = scenario.metadata.description.split(". ").next().unwrap_or_default().to_owned();
                table.row([name.to_owned(), scenario.spec.duration.to_string(), arms.join(", "), shows]);
            }
            output::print(&table.text())?;
        }
        Action::Show { name } => {
            output::print(&source(Path::new(name))?.1)?;
        }
        Action::Check { scenarios } => {
            for path in scenarios {
                let scenario = load(path, &[], false)?;
                output::print(&format!("{}: {} is right\n", path.display(), scenario.metadata.name))?;
            }
        }
        Action::Schema => output::print_json(&scenario::schema())?,
    }
    Ok(FINE)
}

fn usage(error: &impl ToString) -> UsageError {
    UsageError(error.to_string())
}

/// The name and text of a scenario: built in, or a file.
fn source(path: &Path) -> anyhow::Result<(String, String)> {
    let name = path.display().to_string();
    if let Some(text) = shipped::text(&name) {
        return Ok((name, text.to_owned()));
    }
    let is_file = name.contains('/') || name.ends_with(".yaml") || name.ends_with(".yml") || path.exists();
    if !is_file {
        let known = shipped::SHIPPED.iter().map(|(name, _)| *name);
        let hint = match stunfs::internal::settings::nearest(&name, known.clone()) {
            Some(near) => format!("did you mean '{near}'?"),
            None => format!("there are {}, or write a file as ./FILE.yaml", known.collect::<Vec<_>>().join(", ")),
        };
        return Err(UsageError(format!("no scenario is called '{name}'; {hint}")).into());
    }
    if !path.is_file() {
        let what = if path.exists() { "this is no file" } else { "there is no such file" };
        return Err(UsageError(format!("{name}: {what}")).into());
    }
    let text = std::fs::read(path).with_context(|| format!("cannot read {name}"))?;
    let text = String::from_utf8(text).map_err(|_| UsageError(format!("{name}: is not UTF-8 text")))?;
    Ok((name, text))
}

/// Reads a scenario with what is set over it; with `short`, its short form's changes first.
pub(crate) fn load(path: &Path, changes: &[Override], short: bool) -> anyhow::Result<Scenario> {
    let (name, text) = source(path)?;
    let read =
        |changes: &[Override]| scenario::read(&name, &text, changes, profiles::lookup).map_err(|error| usage(&error));
    let whole = read(&[])?;
    let mut all = Vec::new();
    if short {
        if whole.spec.short.is_empty() {
            return Err(UsageError(format!("{name}: has no short form; write spec.short")).into());
        }
        let parsed: Result<Vec<Override>, _> = whole.spec.short.iter().map(|change| change.parse()).collect();
        all = parsed.map_err(|error| usage(&error))?;
    }
    all.extend_from_slice(changes);
    Ok(read(&all)?)
}
