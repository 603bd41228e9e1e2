//! A profile's file: YAML, option names as on the command line, each a plain value or `{value, source, estimate}`.
//!
//! Must not know: which profiles exist. Invariant: a key that is not known is refused with the nearest one that is.

use serde_norway::Value;
use thiserror::Error;

use super::{Figure, Profile};
use crate::settings::{OPTIONS, Opt, Scalar, Settings, SettingsError, nearest};

/// What is wrong with a profile's file; the caller adds which file it is.
#[derive(Debug, Error)]
enum ProfileFault {
    #[error("is not YAML: {0}")]
    NotYaml(#[from] serde_norway::Error),
    #[error("is not a list of 'option: value' lines")]
    NotMapping,
    #[error("has a key that is not text")]
    KeyNotText,
    #[error("description is not text")]
    DescriptionNotText,
    #[error("a profile cannot refer to another one")]
    Nested,
    #[error("has the unknown key '{key}'; {}", hint(.key))]
    UnknownKey { key: String },
    #[error("{option}: '{key}' is not one of value, source, estimate")]
    UnknownPart { option: &'static str, key: String },
    #[error("{option}: estimate is true or false")]
    NotBoolean { option: &'static str },
    #[error("{option}: {key} is not text")]
    NotText { option: &'static str, key: &'static str },
    #[error("{option}: the value is not a text, a number, or a list of texts")]
    NotScalar { option: &'static str },
    #[error("{option}: has no value")]
    NoValue { option: &'static str },
    #[error(transparent)]
    Setting(#[from] SettingsError),
}

/// Reads the profile `name` from its text.
pub(super) fn parse(name: &str, text: &str) -> Result<Profile, SettingsError> {
    read(name, text).map_err(|fault| SettingsError::profile(name, fault.to_string()))
}

fn read(name: &str, text: &str) -> Result<Profile, ProfileFault> {
    let Value::Mapping(map) = serde_norway::from_str(text)? else {
        return Err(ProfileFault::NotMapping);
    };
    let mut profile = Profile {
        name: name.to_owned(),
        description: String::new(),
        figures: Vec::new(),
        text: text.to_owned(),
        settings: Settings::new(),
    };
    for (key, value) in map {
        let key = key.as_str().ok_or(ProfileFault::KeyNotText)?.to_owned();
        take(&mut profile, &key, value)?;
    }
    Ok(profile)
}

fn take(profile: &mut Profile, key: &str, value: Value) -> Result<(), ProfileFault> {
    if key == "description" {
        let text = value.as_str().ok_or(ProfileFault::DescriptionNotText)?;
        text.trim().clone_into(&mut profile.description);
        return Ok(());
    }
    match Opt::named(key) {
        None => Err(ProfileFault::UnknownKey { key: key.to_owned() }),
        Some(Opt::Profile) => Err(ProfileFault::Nested),
        Some(option) => {
            let figure = figure(option, value)?;
            profile.settings.set_scalar(option.name(), figure.scalar)?;
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

/// The known key that an unknown one may have been meant to be.
fn hint(key: &str) -> String {
    let known = OPTIONS.iter().map(|spec| spec.name).chain(["description"]);
    match nearest(&key.replace('_', "-"), known) {
        Some(near) => format!("did you mean '{near}'?"),
        None => "allowed are description and the volume options".to_owned(),
    }
}

/// A figure as the file has it.
struct Written {
    scalar: Scalar,
    source: Option<String>,
    estimate: bool,
}

fn figure(spec: Opt, value: Value) -> Result<Written, ProfileFault> {
    let option = spec.name();
    let Value::Mapping(map) = value else {
        return Ok(Written { scalar: scalar(option, value)?, source: None, estimate: false });
    };
    let mut written = Written { scalar: Scalar::Null, source: None, estimate: false };
    let mut has_value = false;
    for (key, value) in map {
        match key.as_str() {
            Some("value") => {
                written.scalar = scalar(option, value)?;
                has_value = true;
            }
            Some("source") => written.source = Some(text(option, "source", &value)?),
            Some("estimate") => written.estimate = value.as_bool().ok_or(ProfileFault::NotBoolean { option })?,
            other => return Err(ProfileFault::UnknownPart { option, key: other.unwrap_or("?").to_owned() }),
        }
    }
    if has_value { Ok(written) } else { Err(ProfileFault::NoValue { option }) }
}

fn text(option: &'static str, key: &'static str, value: &Value) -> Result<String, ProfileFault> {
    value.as_str().map(|text| text.trim().to_owned()).ok_or(ProfileFault::NotText { option, key })
}

fn scalar(option: &'static str, value: Value) -> Result<Scalar, ProfileFault> {
    serde_norway::from_value(value).map_err(|_| ProfileFault::NotScalar { option })
}
