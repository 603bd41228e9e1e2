//! A profile's file: YAML, option names as on the command line, each a plain value or `{value, source, estimate}`.
//!
//! Must not know: which profiles exist. Invariant: a key that is not known is refused with the nearest one that is.

use serde_norway::Value;

use super::{Figure, Profile};
use crate::settings::{OPTIONS, Opt, Scalar, Settings, SettingsError, nearest};

/// Reads the profile `name` from its text.
pub(super) fn parse(name: &str, text: &str) -> Result<Profile, SettingsError> {
    let wrong = |reason: &str| SettingsError::profile(name, reason);
    let document: Value = serde_norway::from_str(text).map_err(|error| wrong(&format!("is not YAML: {error}")))?;
    let Value::Mapping(map) = document else {
        return Err(wrong("is not a list of 'option: value' lines"));
    };
    let mut profile = Profile {
        name: name.to_owned(),
        description: String::new(),
        figures: Vec::new(),
        text: text.to_owned(),
        settings: Settings::new(),
    };
    for (key, value) in map {
        let key = key.as_str().ok_or_else(|| wrong("has a key that is not text"))?.to_owned();
        take(&mut profile, &key, value).map_err(|reason| wrong(&reason))?;
    }
    Ok(profile)
}

fn take(profile: &mut Profile, key: &str, value: Value) -> Result<(), String> {
    if key == "description" {
        let text = value.as_str().ok_or("description is not text")?;
        text.trim().clone_into(&mut profile.description);
        return Ok(());
    }
    match Opt::named(key) {
        None => Err(unknown_key(key)),
        Some(Opt::Profile) => Err("a profile cannot refer to another one".to_owned()),
        Some(option) => {
            let figure = figure(option, value)?;
            profile.settings.set_scalar(option.name(), figure.scalar).map_err(|error| error.to_string())?;
            profile.figures.push(Figure {
                option: option.name(),
                value: profile.settings.all(option).unwrap_or_default().join(" "),
                source: figure.source,
                estimate: figure.estimate,
            });
            Ok(())
        }
    }
}

fn unknown_key(key: &str) -> String {
    let known = OPTIONS.iter().map(|spec| spec.name).chain(["description"]);
    match nearest(&key.replace('_', "-"), known) {
        Some(near) => format!("has the unknown key '{key}'; did you mean '{near}'?"),
        None => format!("has the unknown key '{key}'; allowed are description and the volume options"),
    }
}

/// A figure as the file has it.
struct Written {
    scalar: Scalar,
    source: Option<String>,
    estimate: bool,
}

fn figure(option: Opt, value: Value) -> Result<Written, String> {
    let name = option.name();
    let Value::Mapping(map) = value else {
        return Ok(Written { scalar: scalar(name, value)?, source: None, estimate: false });
    };
    let mut written = Written { scalar: Scalar::Null, source: None, estimate: false };
    let mut has_value = false;
    for (key, value) in map {
        match key.as_str() {
            Some("value") => {
                written.scalar = scalar(name, value)?;
                has_value = true;
            }
            Some("source") => written.source = Some(text(name, "source", &value)?),
            Some("estimate") => {
                written.estimate = value.as_bool().ok_or(format!("{name}: estimate is true or false"))?
            }
            other => return Err(format!("{name}: '{}' is not one of value, source, estimate", other.unwrap_or("?"))),
        }
    }
    if has_value { Ok(written) } else { Err(format!("{name}: has no value")) }
}

fn text(name: &str, key: &str, value: &Value) -> Result<String, String> {
    value.as_str().map(|text| text.trim().to_owned()).ok_or(format!("{name}: {key} is not text"))
}

fn scalar(name: &str, value: Value) -> Result<Scalar, String> {
    serde_norway::from_value(value)
        .map_err(|_| format!("{name}: the value is not a text, a number, or a list of texts"))
}
