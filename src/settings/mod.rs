//! One set of option names, wherever they are written: command line, `mount -o`, profile, JSON, builder.
//!
//! Must not know: clap, sub-commands, how a volume works. Invariant: values stay the text that the user wrote until
//! [`Settings::resolve`] or [`Settings::apply_live`] reads them, so that an error can quote it.

mod error;
mod live;
mod mount;
mod option;
mod parse;
mod resolve;
mod text;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use error::{SettingsError, nearest};
pub use mount::{MountOptions, parse_mount_options};
pub use option::{Group, OPTIONS, Opt, OptionSpec, ValueKind};
pub use parse::DEFAULT_STUN;
pub(crate) use parse::read_text;
pub use resolve::Env;
pub use text::Scalar;

/// Options as a user wrote them. A name may be written `first-write` or `first_write`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Scalar>", into = "BTreeMap<String, Scalar>")]
pub struct Settings {
    values: BTreeMap<Opt, Vec<String>>,
}

impl Settings {
    /// No option at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes over `name`=`value`; a repeatable option gets one more value. An empty value switches a flag on.
    /// Fails for a name that is no option; the value is read later.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SettingsError> {
        self.put(known(name)?, value);
        Ok(())
    }

    /// As [`Settings::set`], by value and for an option that is known to exist.
    pub fn with(mut self, option: Opt, value: impl AsRef<str>) -> Self {
        self.put(option, value.as_ref());
        self
    }

    fn put(&mut self, option: Opt, value: &str) {
        let value = if value.is_empty() && option.spec().kind == ValueKind::Flag { "true" } else { value };
        let values = self.values.entry(option).or_default();
        if option.spec().kind != ValueKind::Many {
            values.clear();
        }
        values.push(value.to_owned());
    }

    /// The text given for `option`; the last one for a repeatable option.
    pub fn get(&self, option: Opt) -> Option<&str> {
        self.values.get(&option).and_then(|values| values.last()).map(String::as_str)
    }

    /// Every text given for a repeatable option; `None` if it was not given.
    pub fn all(&self, option: Opt) -> Option<&[String]> {
        self.values.get(&option).map(Vec::as_slice)
    }

    /// Whether no option was given.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Every option that was given, in the order of [`OPTIONS`], with its texts.
    pub fn iter(&self) -> impl Iterator<Item = (Opt, &[String])> {
        self.values.iter().map(|(option, values)| (*option, values.as_slice()))
    }

    /// This, with the options of `over` in place of those that both have.
    pub fn merge(&self, over: &Self) -> Self {
        let mut merged = self.clone();
        merged.values.extend(over.values.iter().map(|(option, values)| (*option, values.clone())));
        merged
    }
}

fn known(name: &str) -> Result<Opt, SettingsError> {
    Opt::named(name).ok_or_else(|| SettingsError::unknown_option(name))
}
