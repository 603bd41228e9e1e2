//! Figures with their units, and the bounds that conditions and expectations set on them.
//!
//! Must not know: where a figure comes from. Invariant: figures of different units are never compared.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::units::{Bytes, parse_duration};

/// A measured figure. In JSON: `{"micros": 5000000}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MetricValue {
    /// How many; also an exit code or a status.
    Count(f64),
    /// A time, in microseconds.
    Micros(u64),
    /// A rate, per second.
    PerSecond(f64),
    /// A size, in bytes.
    Bytes(u64),
    /// True or false.
    Flag(bool),
    /// A text: a command's output.
    Text(String),
}

impl MetricValue {
    /// A count.
    #[expect(clippy::cast_precision_loss, reason = "counts past 2^53 are not met here")]
    pub const fn count(n: u64) -> Self {
        Self::Count(n as f64)
    }

    /// How it compares with `other`; `None` if they have different units.
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Count(one), Self::Count(other)) | (Self::PerSecond(one), Self::PerSecond(other)) => {
                one.partial_cmp(other)
            }
            (Self::Micros(one), Self::Micros(other)) | (Self::Bytes(one), Self::Bytes(other)) => Some(one.cmp(other)),
            (Self::Flag(one), Self::Flag(other)) => Some(one.cmp(other)),
            (Self::Text(one), Self::Text(other)) => Some(one.cmp(other)),
            _ => None,
        }
    }

    /// The unit in words, for messages.
    pub const fn unit(&self) -> &'static str {
        match self {
            Self::Count(_) => "a count",
            Self::Micros(_) => "a time",
            Self::PerSecond(_) => "a rate",
            Self::Bytes(_) => "a size",
            Self::Flag(_) => "true or false",
            Self::Text(_) => "a text",
        }
    }

    /// Whether it has an order, so that `atLeast` and `atMost` mean something.
    pub const fn is_ordered(&self) -> bool {
        !matches!(self, Self::Flag(_) | Self::Text(_))
    }
}

impl fmt::Display for MetricValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(n) => write!(f, "{n}"),
            Self::Micros(us) => write!(f, "{}", humantime::format_duration(rounded(Duration::from_micros(*us)))),
            Self::PerSecond(rate) => write!(f, "{:.1}/s", rate),
            Self::Bytes(bytes) => Bytes(*bytes).fmt(f),
            Self::Flag(flag) => flag.fmt(f),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

/// To the millisecond, if it is longer than that.
fn rounded(time: Duration) -> Duration {
    let millis = time.as_millis();
    u64::try_from(millis).ok().filter(|millis| *millis > 0).map_or(time, Duration::from_millis)
}

/// A bound as a scenario writes it: `500ms`, `1900/s`, `4GiB`, `3`, `true`, or a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound(pub MetricValue);

impl Bound {
    fn of_text(text: &str) -> MetricValue {
        let rate = text.strip_suffix("/s").and_then(|number| number.trim().parse().ok());
        if let Some(rate) = rate.filter(|rate: &f64| rate.is_finite()) {
            return MetricValue::PerSecond(rate);
        }
        let micros = |time: Duration| MetricValue::Micros(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        let time = parse_duration(text).ok().map(micros);
        let size = || text.parse::<Bytes>().ok().map(|size| MetricValue::Bytes(size.0));
        time.or_else(size).unwrap_or_else(|| MetricValue::Text(text.to_owned()))
    }
}

impl Serialize for Bound {
    fn serialize<S: Serializer>(&self, target: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            MetricValue::Count(n) => target.serialize_f64(*n),
            MetricValue::Flag(flag) => target.serialize_bool(*flag),
            MetricValue::Text(text) => target.serialize_str(text),
            MetricValue::Micros(us) => target.collect_str(&humantime::format_duration(Duration::from_micros(*us))),
            MetricValue::PerSecond(rate) => target.collect_str(&format_args!("{rate}/s")),
            MetricValue::Bytes(bytes) => target.collect_str(&Bytes(*bytes)),
        }
    }
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(BoundVisitor).map(Self)
    }
}

struct BoundVisitor;

impl Visitor<'_> for BoundVisitor {
    type Value = MetricValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, a text, true or false")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<MetricValue, E> {
        Ok(MetricValue::Flag(flag))
    }

    fn visit_u64<E>(self, n: u64) -> Result<MetricValue, E> {
        Ok(MetricValue::count(n))
    }

    #[expect(clippy::cast_precision_loss, reason = "bounds past 2^53 are not met here")]
    fn visit_i64<E>(self, n: i64) -> Result<MetricValue, E> {
        Ok(MetricValue::Count(n as f64))
    }

    fn visit_f64<E: serde::de::Error>(self, n: f64) -> Result<MetricValue, E> {
        if n.is_finite() { Ok(MetricValue::Count(n)) } else { Err(E::custom("a bound must be a finite number")) }
    }

    fn visit_str<E>(self, text: &str) -> Result<MetricValue, E> {
        Ok(Bound::of_text(text))
    }
}

impl JsonSchema for Bound {
    fn schema_name() -> Cow<'static, str> {
        "Bound".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "number", "boolean"],
            "description": "A figure in the metric's unit: 500ms, 1900/s, 4GiB, 3, true, or a text",
        })
    }
}

/// What a figure must be; at least one of the three.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bounds {
    /// Not less than this.
    pub at_least: Option<MetricValue>,
    /// Not more than this.
    pub at_most: Option<MetricValue>,
    /// Exactly this.
    pub equals: Option<MetricValue>,
}

impl Bounds {
    pub(super) fn new(at_least: Option<&Bound>, at_most: Option<&Bound>, equals: Option<&Bound>) -> Self {
        let value = |bound: Option<&Bound>| bound.map(|bound| bound.0.clone());
        Self { at_least: value(at_least), at_most: value(at_most), equals: value(equals) }
    }

    /// Each bound with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &MetricValue)> {
        let named = [("atLeast", &self.at_least), ("atMost", &self.at_most), ("equals", &self.equals)];
        named.into_iter().filter_map(|(name, bound)| Some((name, bound.as_ref()?)))
    }

    /// What is wrong with the bounds themselves.
    pub(super) fn fault(&self) -> Option<&'static str> {
        let ordered = |bound: &Option<MetricValue>| bound.as_ref().is_none_or(MetricValue::is_ordered);
        if self.iter().next().is_none() {
            Some("has no bound; write atLeast, atMost or equals")
        } else if !ordered(&self.at_least) || !ordered(&self.at_most) {
            Some("atLeast and atMost take a number with the metric's unit, such as 500ms, 1900/s, 4GiB or 3")
        } else {
            None
        }
    }

    /// Whether `value` keeps all of them; `None` if a bound has another unit.
    pub fn hold(&self, value: &MetricValue) -> Option<bool> {
        let check = |bound: &Option<MetricValue>, fits: fn(Ordering) -> bool| match bound {
            Some(bound) => value.compare(bound).map(fits),
            None => Some(true),
        };
        let least = check(&self.at_least, Ordering::is_ge)?;
        let most = check(&self.at_most, Ordering::is_le)?;
        let exact = check(&self.equals, Ordering::is_eq)?;
        Some(least && most && exact)
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (name, bound)) in self.iter().enumerate() {
            let words = match name {
                "atLeast" => "at least",
                "atMost" => "at most",
                _ => "exactly",
            };
            write!(f, "{}{words} {bound}", if n > 0 { " and " } else { "" })?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Bounds {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let raw = RawBounds::deserialize(source)?;
        let bounds = Self { at_least: raw.at_least, at_most: raw.at_most, equals: raw.equals };
        if bounds.iter().next().is_none() { Err(D::Error::custom("no bound")) } else { Ok(bounds) }
    }
}

impl Serialize for Bounds {
    fn serialize<S: Serializer>(&self, target: S) -> Result<S::Ok, S::Error> {
        let raw = self.clone();
        RawBounds { at_least: raw.at_least, at_most: raw.at_most, equals: raw.equals }.serialize(target)
    }
}

/// Bounds in a result.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RawBounds {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    at_least: Option<MetricValue>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    at_most: Option<MetricValue>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    equals: Option<MetricValue>,
}

impl JsonSchema for Bounds {
    fn schema_name() -> Cow<'static, str> {
        "Bounds".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        RawBounds::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(text: &str) -> MetricValue {
        serde_norway::from_str::<Bound>(text).unwrap().0
    }

    #[test]
    fn a_bound_has_the_unit_that_was_written() {
        let values = ["500ms", "1900/s", "4GiB", "3", "-1", "0.5", "true", "Ready"].map(bound);
        let expected = [
            MetricValue::Micros(500_000),
            MetricValue::PerSecond(1900.0),
            MetricValue::Bytes(4 << 30),
            MetricValue::Count(3.0),
            MetricValue::Count(-1.0),
            MetricValue::Count(0.5),
            MetricValue::Flag(true),
            MetricValue::Text("Ready".into()),
        ];
        assert_eq!(values, expected);
        for value in values {
            assert_eq!(bound(&serde_norway::to_string(&Bound(value.clone())).unwrap()), value);
        }
        assert!(serde_norway::from_str::<Bound>(".inf").is_err());
        assert!(serde_norway::from_str::<Bound>("[1]").is_err());
    }

    #[test]
    fn bounds_are_inclusive_and_never_mix_units() {
        let bounds = Bounds { at_least: Some(MetricValue::Micros(5)), ..Bounds::default() };
        assert_eq!([4, 5, 6].map(|us| bounds.hold(&MetricValue::Micros(us))), [Some(false), Some(true), Some(true)]);
        assert_eq!(bounds.hold(&MetricValue::Count(9.0)), None);
        let both = Bounds { at_most: Some(MetricValue::Micros(6)), ..bounds };
        assert_eq!([6, 7].map(|us| both.hold(&MetricValue::Micros(us))), [Some(true), Some(false)]);
        assert_eq!(both.to_string(), "at least 5us and at most 6us");
        let exact = Bounds { equals: Some(MetricValue::Count(0.0)), ..Bounds::default() };
        assert_eq!([0, 1].map(|n| exact.hold(&MetricValue::count(n))), [Some(true), Some(false)]);
    }
}
