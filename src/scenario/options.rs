//! Maps that hold keys of their own beside names of another table: volume options, writers, commands.
//!
//! Must not know: YAML. Invariant: a key that is in neither table is refused where it stands, with the nearest that is.

use serde::de::{DeserializeSeed, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::settings::{Opt, Scalar, Settings, nearest};

/// A key that is one of `known`, as that; read in place so that the error has its line.
#[derive(Debug, Clone, Copy)]
pub(super) struct OneOf<'a>(pub(super) &'a [&'static str]);

impl<'de> DeserializeSeed<'de> for OneOf<'_> {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<&'static str, D::Error> {
        source.deserialize_str(self)
    }
}

// The key is judged while it is read: only then an error has its place.
impl Visitor<'_> for OneOf<'_> {
    type Value = &'static str;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<&'static str, E> {
        let found = self.0.iter().find(|known| **known == key || **known == key.replace('_', "-"));
        found.copied().ok_or_else(|| E::custom(unknown_key(key, self.0)))
    }
}

/// One line about a key that does not exist.
pub(super) fn unknown_key(key: &str, known: &[&'static str]) -> String {
    let key: String = key.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect();
    match nearest(&key, known.iter().copied()) {
        Some(near) => format!("unknown key '{key}'; did you mean '{near}'?"),
        None if known.len() <= 16 => format!("unknown key '{key}'; there are {}", known.join(", ")),
        None => format!("unknown key '{key}'; there are {}, and the volume options", known[..8].join(", ")),
    }
}

/// The names of volume options after `own` keys.
pub(super) fn with_volume_options(own: &[&'static str]) -> Vec<&'static str> {
    own.iter().copied().chain(crate::settings::OPTIONS.iter().map(|spec| spec.name)).collect()
}

/// Takes the value of the volume option `key`.
pub(super) fn take_option<'de, A: MapAccess<'de>>(
    settings: &mut Settings,
    key: &'static str,
    map: &mut A,
) -> Result<(), A::Error> {
    let value: Scalar = map.next_value()?;
    if Opt::named(key) == Some(Opt::Events) || Opt::named(key) == Some(Opt::Control) {
        return Err(A::Error::custom(format!("{key}: the run itself sets this; leave it out")));
    }
    settings.set_scalar(key, value).map_err(A::Error::custom)
}

/// Options of one's own table: names and plain values.
pub(super) type Options = Vec<(String, Scalar)>;

/// A map of plain values in the order in which they were written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OptionList(pub(super) Options);

impl OptionList {
    /// As command-line arguments: `--name=value`; `true` is the bare flag, `false` no flag.
    pub fn arguments(&self) -> Vec<String> {
        self.0.iter().flat_map(|(name, value)| argument(name, value)).collect()
    }

    /// The value of `name` as text, if there is exactly one.
    pub fn get(&self, name: &str) -> Option<String> {
        let value = self.0.iter().find(|(key, _)| key == name)?.1.clone();
        value.texts().pop()
    }
}

fn argument(name: &str, value: &Scalar) -> Vec<String> {
    let name = name.replace('_', "-");
    match value {
        Scalar::Bool(true) => vec![format!("--{name}")],
        Scalar::Bool(false) | Scalar::Null => Vec::new(),
        value => value.clone().texts().into_iter().map(|text| format!("--{name}={text}")).collect(),
    }
}

impl<'de> Deserialize<'de> for OptionList {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct ListVisitor;

        impl<'de> Visitor<'de> for ListVisitor {
            type Value = OptionList;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("options, such as {rate: 100/s}")
            }

            fn visit_unit<E>(self) -> Result<OptionList, E> {
                Ok(OptionList::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<OptionList, A::Error> {
                let mut options: Options = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    if options.iter().any(|(known, _)| *known == key) {
                        return Err(A::Error::custom(format!("'{key}' is there twice")));
                    }
                    options.push((key, map.next_value()?));
                }
                Ok(OptionList(options))
            }
        }
        source.deserialize_any(ListVisitor)
    }
}

impl serde::Serialize for OptionList {
    fn serialize<S: serde::Serializer>(&self, target: S) -> Result<S::Ok, S::Error> {
        target.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}
