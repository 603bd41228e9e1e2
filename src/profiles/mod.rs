//! Profiles: sets of options that imitate real storage, each figure with its source.
//!
//! Must not know: the command line, volumes. Invariant: every built-in profile resolves, and each of its figures names
//! a source or says that it is an estimate.

mod file;

#[cfg(test)]
mod tests;

use std::path::Path;

use serde::Serialize;

use crate::settings::{Opt, Settings, SettingsError, read_text};

/// The built-in profiles' names and texts, in the order in which they are listed.
const BUILT_IN: [(&str, &str); 10] = [
    ("vmware-thin", include_str!("vmware-thin.yaml")),
    ("vmware-lazy-zeroed", include_str!("vmware-lazy-zeroed.yaml")),
    ("lvm-thin", include_str!("lvm-thin.yaml")),
    ("ovirt-block-thin", include_str!("ovirt-block-thin.yaml")),
    ("ceph-rbd", include_str!("ceph-rbd.yaml")),
    ("hyperv-vhdx", include_str!("hyperv-vhdx.yaml")),
    ("qcow2", include_str!("qcow2.yaml")),
    ("ebs-lazy", include_str!("ebs-lazy.yaml")),
    ("incident", include_str!("incident.yaml")),
    ("thick", include_str!("thick.yaml")),
];

/// One figure of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Figure {
    /// The option.
    pub option: &'static str,
    /// Its value as text.
    pub value: String,
    /// Where the value comes from; absent only in a user's own file.
    pub source: Option<String>,
    /// The value is an estimate, not a measurement.
    pub estimate: bool,
}

/// A profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Profile {
    /// Its name, or the file that it was read from.
    pub name: String,
    /// What it imitates, in a sentence.
    pub description: String,
    /// Its options, each with its source.
    pub figures: Vec<Figure>,
    /// The text of its file.
    #[serde(skip)]
    pub text: String,
    /// Its options.
    #[serde(skip)]
    pub settings: Settings,
}

impl Profile {
    /// The value that it sets for `option`.
    pub fn value(&self, option: Opt) -> Option<&str> {
        self.settings.get(option)
    }
}

/// The built-in profiles' names.
pub fn names() -> impl Iterator<Item = &'static str> + Clone {
    BUILT_IN.iter().map(|(name, _)| *name)
}

/// Every built-in profile.
pub fn built_in() -> Result<Vec<Profile>, SettingsError> {
    BUILT_IN.iter().map(|(name, text)| file::parse(name, text)).collect()
}

/// The profile of this name, or in this file: what has a `/` or ends in `.yaml` or `.yml` is a file.
pub fn find(name: &str) -> Result<Profile, SettingsError> {
    if let Some((name, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
        return file::parse(name, text);
    }
    let is_file = name.contains('/') || name.ends_with(".yaml") || name.ends_with(".yml");
    if !is_file {
        return Err(SettingsError::unknown_profile(name, names()));
    }
    let text =
        read_text(Path::new(name)).map_err(|error| SettingsError::profile(name, format!("cannot be read: {error}")))?;
    file::parse(name, &text)
}

/// The options of the profile `name`, for [`crate::settings::Env`].
pub fn lookup(name: &str) -> Result<Settings, SettingsError> {
    find(name).map(|profile| profile.settings)
}
