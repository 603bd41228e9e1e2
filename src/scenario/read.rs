//! A scenario's text to a scenario: what is wrong with it is one line with file, line, column, key, and what to write instead.
//!
//! Must not know: where the text came from. Invariant: no text makes this panic, and a scenario that comes out can be run.

use std::collections::BTreeSet;

use serde_norway::Value;

use super::metric::Bounds;
use super::spec::{Action, OWN_FIGURES, Scenario, Spec, Storage};
use crate::settings::{Env, Settings, SettingsError, nearest};

/// Why a text is no scenario.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Something is wrong at a place of the file.
    #[error("{file}:{line}:{column}: {what}")]
    At {
        /// The file as it was named.
        file: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong there.
        what: String,
    },
    /// Something is wrong with the whole.
    #[error("{file}: {what}")]
    Whole {
        /// The file as it was named.
        file: String,
        /// What is wrong, with the keys that lead there.
        what: String,
    },
    /// Something is wrong with what was set over it.
    #[error("--set {assignment}: {what}")]
    Override {
        /// `KEY=VALUE`
        assignment: String,
        /// What is wrong with it.
        what: String,
    },
}

/// `KEY=VALUE`: sets one value of a scenario, such as `spec.arms.thin.pool=4GiB` or `spec.timeline.0.at=5s`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    path: Vec<String>,
    value: String,
}

impl std::fmt::Display for Override {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.path.join("."), self.value)
    }
}

impl std::str::FromStr for Override {
    type Err = ReadError;

    fn from_str(text: &str) -> Result<Self, ReadError> {
        let wrong = || ReadError::Override {
            assignment: one_line(text),
            what: "write KEY=VALUE, such as spec.arms.thin.pool=4GiB".to_owned(),
        };
        let (path, value) = text.split_once('=').ok_or_else(wrong)?;
        let path: Vec<String> = path.trim().split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) { Err(wrong()) } else { Ok(Self { path, value: value.to_owned() }) }
    }
}

impl Override {
    fn refused(&self, what: impl Into<String>) -> ReadError {
        ReadError::Override { assignment: one_line(&self.to_string()), what: what.into() }
    }

    fn apply(&self, root: &mut Value) -> Result<(), ReadError> {
        let value: Value =
            serde_norway::from_str(&self.value).map_err(|error| self.refused(one_line(&error.to_string())))?;
        let mut place = root;
        for (depth, key) in self.path.iter().enumerate() {
            place = self.below(place, key, &self.path[..depth])?;
        }
        *place = value;
        Ok(())
    }

    fn below<'a>(&self, place: &'a mut Value, key: &str, so_far: &[String]) -> Result<&'a mut Value, ReadError> {
        if place.is_null() {
            *place = Value::Mapping(serde_norway::Mapping::new());
        }
        match place {
            Value::Mapping(map) => Ok(map.entry(key.into()).or_insert(Value::Null)),
            Value::Sequence(list) => {
                let length = list.len();
                let named = |item: &Value| item.get("name").and_then(Value::as_str) == Some(key);
                let index = key.parse().ok().or_else(|| list.iter().position(named));
                index.and_then(|index: usize| list.get_mut(index)).ok_or_else(|| {
                    let text =
                        format!("{} has {length} items; write a number from 0, or an item's name", so_far.join("."));
                    self.refused(text)
                })
            }
            _ => Err(self.refused(format!("{} is a plain value, nothing is below it", so_far.join(".")))),
        }
    }
}

/// Reads the scenario `text` of `file`, with `overrides` set over it in their order.
///
/// # Errors
/// One line: what is wrong, where, and what to write instead.
pub fn read(
    file: &str,
    text: &str,
    overrides: &[Override],
    profiles: fn(&str) -> Result<Settings, SettingsError>,
) -> Result<Scenario, ReadError> {
    let written: Scenario = serde_norway::from_str(text).map_err(|error| located(file, &error))?;
    check(&written, profiles).map_err(|what| ReadError::Whole { file: file.to_owned(), what: one_line(&what) })?;
    if overrides.is_empty() {
        return Ok(written);
    }
    let mut value: Value = serde_norway::from_str(text).map_err(|error| located(file, &error))?;
    let mut scenario = written;
    for change in overrides {
        change.apply(&mut value)?;
        // As text again: only then an error says which key it is about.
        let changed = serde_norway::to_string(&value).map_err(|error| change.refused(one_line(&error.to_string())))?;
        scenario = serde_norway::from_str(&changed).map_err(|error| change.refused(described(&error).0))?;
    }
    let last = overrides.last().map(ToString::to_string).unwrap_or_default();
    let refused = |what: String| ReadError::Override { assignment: one_line(&last), what: one_line(&what) };
    check(&scenario, profiles).map_err(refused)?;
    Ok(scenario)
}

fn located(file: &str, error: &serde_norway::Error) -> ReadError {
    let (what, place) = described(error);
    match place {
        Some((line, column)) => ReadError::At { file: file.to_owned(), line, column, what },
        None => ReadError::Whole { file: file.to_owned(), what },
    }
}

/// What is wrong, in our words, and where.
fn described(error: &serde_norway::Error) -> (String, Option<(usize, usize)>) {
    let place = error.location().map(|place| (place.line(), place.column()));
    let text = one_line(&error.to_string());
    let text = match place {
        Some((line, column)) => text.replace(&format!(" at line {line} column {column}"), ""),
        None => text,
    };
    (with_hint(&text), place)
}

/// serde's list of the fields that there are, as the nearest of them.
fn with_hint(text: &str) -> String {
    let words = [("unknown field `", "key"), ("unknown variant `", "value")];
    let Some((start, what)) = words.into_iter().find_map(|(start, what)| Some((text.find(start)? + start.len(), what)))
    else {
        return text.to_owned();
    };
    let names: Vec<&str> = text[start..].split('`').step_by(2).collect();
    let Some((wrong, known)) = names.split_first() else { return text.to_owned() };
    let before = text[..start].rfind("unknown").map_or("", |at| &text[..at]);
    match nearest(wrong, known.iter().copied()) {
        Some(near) => format!("{before}unknown {what} '{wrong}'; did you mean '{near}'?"),
        None => format!("{before}unknown {what} '{wrong}'; there are {}", known.join(", ")),
    }
}

/// The text without line breaks and control characters, cut to a length that fits a terminal.
fn one_line(text: &str) -> String {
    const LONGEST: usize = 300;
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
    if line.chars().count() < text.chars().count() { line + "..." } else { line }
}

// ---- what belongs together -----------------------------------------------------------------------------------------------

fn check(scenario: &Scenario, profiles: fn(&str) -> Result<Settings, SettingsError>) -> Result<(), String> {
    let name = &scenario.metadata.name;
    if !is_name(name) {
        return Err(format!("metadata.name: '{name}' is no name; write lower-case letters, digits and hyphens"));
    }
    let spec = &scenario.spec;
    check_names(spec)?;
    check_times(spec)?;
    check_bounds(spec)?;
    check_figures(spec)?;
    check_probes(spec)?;
    check_storage(spec, profiles)?;
    spec.short
        .iter()
        .try_for_each(|change| change.parse::<Override>().map(|_| ()).map_err(|error| format!("spec.short: {error}")))
}

/// Fit for a folder's name.
fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    !name.is_empty()
        && name.len() <= 60
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(fits)
}

fn check_names(spec: &Spec) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    let workload = spec.workload.iter().map(|work| ("workload", &work.name));
    for (place, name) in workload.chain(spec.probes.iter().map(|probe| ("probes", &probe.name))) {
        if !is_name(name) {
            return Err(format!("spec.{place}: '{name}' is no name; write lower-case letters, digits and hyphens"));
        }
        if OWN_FIGURES.contains(&name.as_str()) {
            return Err(format!(
                "spec.{place}: the name '{name}' is taken by figures of the run itself; choose another"
            ));
        }
        if !seen.insert(name) {
            return Err(format!("spec.{place}: the name '{name}' is there twice"));
        }
    }
    for (name, _) in &spec.arms.0 {
        if !is_name(name) || name == "all" {
            return Err(format!(
                "spec.arms: '{name}' is no name for an arm; write lower-case letters, digits and hyphens, not 'all'"
            ));
        }
    }
    if spec.workload.is_empty() { Err("spec.workload: has nothing to run".to_owned()) } else { Ok(()) }
}

fn check_times(spec: &Spec) -> Result<(), String> {
    if spec.duration.0.is_zero() {
        return Err("spec.duration: a run of 0 measures nothing; write a time such as 3m".to_owned());
    }
    let late = |at: super::TimeText| at >= spec.duration;
    if let Some(work) = spec.workload.iter().find(|work| late(work.at)) {
        return Err(format!(
            "spec.workload: '{}' begins at {}, when the run of {} is over",
            work.name, work.at, spec.duration
        ));
    }
    let mut before = super::TimeText::default();
    for (n, step) in spec.timeline.iter().enumerate() {
        let Some(at) = step.at else { continue };
        if late(at) {
            return Err(format!("spec.timeline[{n}]: at {at} the run of {} is over", spec.duration));
        }
        if at < before {
            return Err(format!("spec.timeline[{n}]: at {at} comes after a step at {before}; put the steps in order"));
        }
        before = at;
    }
    let empty = |words: &Vec<String>| words.first().is_none_or(String::is_empty);
    let runs = spec.timeline.iter().filter_map(|step| match &step.action {
        Action::Run(words) => Some(words),
        _ => None,
    });
    let commands = spec.probes.iter().filter_map(|probe| probe.command.as_ref().map(|command| &command.run));
    let work = spec.workload.iter().filter_map(|work| match &work.work {
        super::spec::Work::Run(words) => Some(words),
        super::spec::Work::Writer(..) => None,
    });
    if runs.chain(commands).chain(work).any(empty) {
        return Err("run: has no command; write [PROGRAM, ARGUMENT, ...]".to_owned());
    }
    Ok(())
}

fn check_bounds(spec: &Spec) -> Result<(), String> {
    let steady = spec.steady_state.iter().map(|it| ("steadyState", &it.probe, it.bounds()));
    let stop = spec.stop_conditions.iter().map(|it| ("stopConditions", &it.probe, it.bounds()));
    let expect = spec.expect.iter().map(|it| ("expect", &it.metric, it.bounds()));
    let mut all: Vec<(&str, &String, Bounds)> = steady.chain(stop).chain(expect).collect();
    all.extend(spec.timeline.iter().filter_map(|step| match &step.action {
        Action::Wait(wait) => Some(("timeline", &wait.probe, wait.bounds())),
        _ => None,
    }));
    let fault = all.iter().find_map(|(place, figure, bounds)| Some((place, figure, bounds.fault()?)));
    fault.map_or(Ok(()), |(place, figure, fault)| Err(format!("spec.{place}: {figure}: {fault}")))
}

fn check_figures(spec: &Spec) -> Result<(), String> {
    let known = spec.figure_names();
    let waits = spec.timeline.iter().filter_map(|step| match &step.action {
        Action::Wait(wait) => Some(("timeline", wait.probe.as_str())),
        _ => None,
    });
    let steady = spec.steady_state.iter().map(|it| ("steadyState", it.probe.as_str()));
    let stop = spec.stop_conditions.iter().map(|it| ("stopConditions", it.probe.as_str()));
    let expect = spec.expect.iter().map(|it| ("expect", it.metric.as_str()));
    for (place, figure) in steady.chain(stop).chain(expect).chain(waits) {
        let owner = figure.split('.').next().unwrap_or_default();
        if !known.contains(owner) {
            let hint = match nearest(owner, known.iter().copied()) {
                Some(near) => format!("did you mean '{near}'?"),
                None => format!("there are {}", known.iter().copied().collect::<Vec<_>>().join(", ")),
            };
            return Err(format!("spec.{place}: '{figure}' belongs to nothing of this scenario; {hint}"));
        }
    }
    let arms: Vec<&str> = spec.arms.0.iter().map(|(name, _)| name.as_str()).chain(["all"]).collect();
    match spec.expect.iter().find(|it| !arms.contains(&it.arm.as_str())) {
        Some(it) => {
            let near = nearest(&it.arm, arms.iter().copied()).map(|near| format!("did you mean '{near}'?"));
            let hint = near.unwrap_or_else(|| format!("there are {}", arms.join(", ")));
            Err(format!("spec.expect: no arm is called '{}'; {hint}", it.arm))
        }
        None => Ok(()),
    }
}

fn check_probes(spec: &Spec) -> Result<(), String> {
    for probe in &spec.probes {
        let given = [
            probe.command.is_some(),
            probe.http.is_some(),
            probe.prometheus.is_some(),
            probe.kernel.is_some(),
            probe.tasks.is_some(),
        ];
        if given.into_iter().filter(|given| *given).count() != 1 {
            let text = "looks at one thing: command, http, prometheus, kernel or tasks";
            return Err(format!("spec.probes: '{}' {text}", probe.name));
        }
        if probe.every.0 < std::time::Duration::from_millis(100) {
            return Err(format!(
                "spec.probes: '{}': every {} is too often; write 100ms or more",
                probe.name, probe.every
            ));
        }
        let urls = [probe.http.as_ref().map(|it| &it.url), probe.prometheus.as_ref().map(|it| &it.url)];
        if let Some(url) = urls.into_iter().flatten().find(|url| !url.starts_with("http://")) {
            return Err(format!("spec.probes: '{}': '{url}' is not http://HOST[:PORT]/PATH", probe.name));
        }
    }
    Ok(())
}

fn check_storage(spec: &Spec, profiles: fn(&str) -> Result<Settings, SettingsError>) -> Result<(), String> {
    let (usual, is_disk) = match &spec.storage {
        Storage::Attach { .. } => {
            let own = |(_, arm): &(String, super::spec::Arm)| arm.warm.is_some() || !arm.settings.is_empty();
            let frozen = spec.workload.iter().any(|work| work.frozen);
            return if spec.arms.0.len() > 1 || spec.arms.0.iter().any(own) || frozen {
                Err("spec.storage: a volume that runs already has one arm without options, and 'frozen' is not for it"
                    .to_owned())
            } else {
                Ok(())
            };
        }
        Storage::Directory { settings } => (settings, false),
        Storage::Disk { settings, .. } => (settings, true),
    };
    for (name, arm) in &spec.arms.0 {
        let settings = usual.merge(&arm.settings);
        if is_disk && settings.get(crate::settings::Opt::Placement).is_some_and(|placement| placement != "direct") {
            return Err(format!("spec.arms.{name}: placement: a disk's is always direct"));
        }
        let env = Env { backing: "/".into(), mountpoint: "/".into(), seed: spec.seed, profiles };
        settings.resolve(&env).map_err(|error| format!("spec.arms.{name}: {error}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
