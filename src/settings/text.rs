//! Options as structured text: JSON objects (`ctl set`) and YAML mappings.
//!
//! Must not know: which option means what. Invariant: what is written out reads back as the same [`Settings`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::SettingsError;
use super::option::ValueKind;
use super::{Opt, Settings, known};

/// A value as JSON or YAML has it. Numbers and booleans are taken as their text; null as `none`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// `null`: back to "not set".
    Null,
    /// `true`
    Bool(bool),
    /// `8`
    Whole(u64),
    /// `-1` (no option allows one; kept for the error)
    Signed(i64),
    /// `0.5`
    Fraction(f64),
    /// `"20ms"`
    Text(String),
    /// `["path=*.log", "uid=0"]`
    List(Vec<String>),
}

impl Scalar {
    /// The texts that it stands for.
    pub fn texts(self) -> Vec<String> {
        match self {
            Self::Null => vec!["none".to_owned()],
            Self::Bool(value) => vec![value.to_string()],
            Self::Whole(value) => vec![value.to_string()],
            Self::Signed(value) => vec![value.to_string()],
            Self::Fraction(value) => vec![value.to_string()],
            Self::Text(text) => vec![text],
            Self::List(list) => list,
        }
    }
}

impl TryFrom<BTreeMap<String, Scalar>> for Settings {
    type Error = SettingsError;

    fn try_from(map: BTreeMap<String, Scalar>) -> Result<Self, Self::Error> {
        let mut settings = Self::new();
        for (name, value) in map {
            settings.set_scalar(&name, value)?;
        }
        Ok(settings)
    }
}

impl From<Settings> for BTreeMap<String, Scalar> {
    fn from(settings: Settings) -> Self {
        settings.values.into_iter().map(|(option, values)| (option.name().to_owned(), scalar(option, values))).collect()
    }
}

fn scalar(option: Opt, mut values: Vec<String>) -> Scalar {
    match option.spec().kind {
        ValueKind::Many => Scalar::List(values),
        ValueKind::One | ValueKind::Flag => Scalar::Text(values.pop().unwrap_or_default()),
    }
}

impl Settings {
    /// Takes over a value as JSON or YAML has it. A list is allowed only for a repeatable option.
    pub fn set_scalar(&mut self, name: &str, value: Scalar) -> Result<(), SettingsError> {
        let option = known(name)?;
        if matches!(value, Scalar::List(_)) && option.spec().kind != ValueKind::Many {
            return Err(SettingsError::value(option, format!("is one value ({}), not a list", option.spec().value)));
        }
        let texts = value.texts();
        if texts.is_empty() {
            self.values.insert(option, texts);
            return Ok(());
        }
        texts.iter().for_each(|text| self.put(option, text));
        Ok(())
    }
}
