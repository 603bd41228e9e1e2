//! The six forms of a latency, and how a sample is drawn from them.
//!
//! Must not know: what waits, or where a file of samples comes from. Invariant: every sample of a [`Latency`] that
//! [`Latency::check`] accepts is between 0 and [`LONGEST`], and the text form reads back as the same latency.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, RngExt};
use rand_distr::{Distribution, Exp, LogNormal};
use serde::{Deserialize, Serialize};

use crate::units::{ParseUnitError, parse_duration};

/// No sample is longer than this.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The 99th percentile of the standard normal distribution.
const Z99: f64 = 2.326_347_874_040_841;

const FORMS: &str =
    "20ms, uniform:1s..20s, exp:20ms, lognormal:8ms,p99=200ms, bimodal:5ms,2s@1% or file:PATH (one time per line)";

/// A latency: a constant or a distribution. Text form as in `--first-write`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Repr", into = "Repr")]
pub enum Latency {
    /// `20ms`
    Constant(Duration),
    /// `uniform:1s..20s`
    Uniform {
        /// The shortest.
        low: Duration,
        /// The longest.
        high: Duration,
    },
    /// `exp:20ms`
    Exponential {
        /// The mean.
        mean: Duration,
    },
    /// `lognormal:8ms,p99=200ms`
    LogNormal {
        /// Half of the samples are shorter.
        median: Duration,
        /// 99 of 100 samples are shorter; at least the median.
        p99: Duration,
    },
    /// `bimodal:5ms,2s@1%`
    Bimodal {
        /// Nearly always.
        usual: Duration,
        /// In `percent` of the cases.
        rare: Duration,
        /// From 0 to 100.
        percent: f64,
    },
    /// `file:F`: each sample is as likely as the next.
    Samples {
        /// The file's name.
        file: Arc<str>,
        /// What it holds; at least one.
        samples: Arc<[Duration]>,
    },
}

impl Latency {
    /// Reads the text form; `read` gives the content of the file that `file:F` names, or says why it cannot.
    pub fn parse_with<E: fmt::Display>(
        text: &str,
        read: impl FnOnce(&str) -> Result<String, E>,
    ) -> Result<Self, ParseUnitError> {
        let Some(file) = text.trim().strip_prefix("file:") else { return text.parse() };
        let content = read(file).map_err(|why| ParseUnitError::new(format!("samples file '{file}': {why}")))?;
        Self::from_samples(file, &content)
    }

    fn from_samples(file: &str, content: &str) -> Result<Self, ParseUnitError> {
        let mut samples = Vec::new();
        for (number, line) in content.lines().enumerate() {
            let time = line.split('#').next().unwrap_or_default().trim();
            if !time.is_empty() {
                let sample = parse_duration(time).and_then(within_a_day);
                samples.push(sample.map_err(|why| ParseUnitError::new(format!("{file}:{}: {why}", number + 1)))?);
            }
        }
        let latency = Self::Samples { file: file.into(), samples: samples.into() };
        latency.check().map(|()| latency)
    }

    /// Checks the ranges: nothing longer than 24 h, percentages from 0 to 100, bounds in order.
    pub fn check(&self) -> Result<(), ParseUnitError> {
        match self {
            Self::Constant(time) | Self::Exponential { mean: time } => within_a_day(*time).map(drop),
            Self::Uniform { low, high } if low > high => Err(ParseUnitError::new(format!(
                "{self}: the lower bound is above the upper one; write uniform:LOW..HIGH"
            ))),
            Self::Uniform { high, .. } => within_a_day(*high).map(drop),
            Self::LogNormal { median, .. } if median.is_zero() => {
                Err(ParseUnitError::new(format!("{self}: the median of a lognormal is more than 0")))
            }
            Self::LogNormal { median, p99 } if p99 < median => {
                Err(ParseUnitError::new(format!("{self}: p99 is below the median; write lognormal:MEDIAN,p99=LONGER")))
            }
            Self::LogNormal { p99, .. } => within_a_day(*p99).map(drop),
            Self::Bimodal { percent, .. } if !(0.0..=100.0).contains(percent) => {
                Err(ParseUnitError::new(format!("{self}: a share is from 0% to 100%")))
            }
            Self::Bimodal { usual, rare, .. } => within_a_day(*usual.max(rare)).map(drop),
            Self::Samples { file, samples } if samples.is_empty() => Err(ParseUnitError::new(format!(
                "samples file '{file}' holds no time; write one per line, such as 20ms"
            ))),
            Self::Samples { samples, .. } => samples.iter().try_for_each(|time| within_a_day(*time).map(drop)),
        }
    }

    /// One sample.
    pub fn sample(&self, rng: &mut impl Rng) -> Duration {
        match self {
            Self::Constant(time) => *time,
            Self::Uniform { low, high } => *low + (*high - *low).mul_f64(rng.random::<f64>()),
            Self::Exponential { mean } => Exp::new(1.0).map_or(*mean, |exp| scale(*mean, exp.sample(rng))),
            Self::LogNormal { median, p99 } => {
                let sigma = p99.div_duration_f64(*median).ln() / Z99;
                LogNormal::new(0.0, sigma).map_or(*median, |factor| scale(*median, factor.sample(rng)))
            }
            Self::Bimodal { usual, rare, percent } => {
                if rng.random::<f64>() * 100.0 < *percent {
                    *rare
                } else {
                    *usual
                }
            }
            Self::Samples { samples, .. } => {
                if samples.is_empty() {
                    Duration::ZERO
                } else {
                    samples[rng.random_range(0..samples.len())]
                }
            }
        }
    }
}

/// `time * factor`, at most [`LONGEST`].
fn scale(time: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(time.as_secs_f64() * factor).unwrap_or(LONGEST).min(LONGEST)
}

fn within_a_day(time: Duration) -> Result<Duration, ParseUnitError> {
    if time <= LONGEST { Ok(time) } else { Err(ParseUnitError::new(format!("{} is longer than 24h", Exact(time)))) }
}

impl FromStr for Latency {
    type Err = ParseUnitError;

    /// All forms but `file:F`, which needs [`Latency::parse_with`].
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let wrong = || ParseUnitError::new(format!("'{text}' is not a latency; write {FORMS}"));
        let latency = match text.split_once(':') {
            None => Self::Constant(parse_constant(text)?),
            Some(("uniform", rest)) => {
                let (low, high) = rest.split_once("..").ok_or_else(wrong)?;
                Self::Uniform { low: parse_duration(low)?, high: parse_duration(high)? }
            }
            Some(("exp", mean)) => Self::Exponential { mean: parse_duration(mean)? },
            Some(("lognormal", rest)) => {
                let (median, p99) = rest.split_once(",p99=").ok_or_else(wrong)?;
                Self::LogNormal { median: parse_duration(median)?, p99: parse_duration(p99)? }
            }
            Some(("bimodal", rest)) => parse_bimodal(rest).ok_or_else(wrong)??,
            Some(("file", _)) => {
                return Err(ParseUnitError::new(format!("'{text}': a file of samples cannot be given here")));
            }
            Some(_) => return Err(wrong()),
        };
        latency.check().map(|()| latency)
    }
}

/// A time alone; text without a digit is no attempt at a time, so all forms are named.
fn parse_constant(text: &str) -> Result<Duration, ParseUnitError> {
    if text.bytes().any(|byte| byte.is_ascii_digit()) {
        return parse_duration(text);
    }
    Err(ParseUnitError::new(format!("'{text}' is not a latency; write {FORMS}")))
}

/// `5ms,2s@1%`; `None` if it has not even this shape.
fn parse_bimodal(text: &str) -> Option<Result<Latency, ParseUnitError>> {
    let (usual, rest) = text.split_once(',')?;
    let (rare, share) = rest.split_once('@')?;
    let percent = share.trim().strip_suffix('%')?.trim().parse().ok()?;
    let times = parse_duration(usual).and_then(|usual| Ok((usual, parse_duration(rare)?)));
    Some(times.map(|(usual, rare)| Latency::Bimodal { usual, rare, percent }))
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(time) => Exact(*time).fmt(f),
            Self::Uniform { low, high } => write!(f, "uniform:{}..{}", Exact(*low), Exact(*high)),
            Self::Exponential { mean } => write!(f, "exp:{}", Exact(*mean)),
            Self::LogNormal { median, p99 } => write!(f, "lognormal:{},p99={}", Exact(*median), Exact(*p99)),
            Self::Bimodal { usual, rare, percent } => {
                write!(f, "bimodal:{},{}@{percent}%", Exact(*usual), Exact(*rare))
            }
            Self::Samples { file, .. } => write!(f, "file:{file}"),
        }
    }
}

/// A time in the largest unit that shows it exactly.
pub(super) struct Exact(pub(super) Duration);

impl fmt::Display for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u128, &str); 3] = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
        let nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0ms");
        }
        match UNITS.iter().find(|(size, _)| nanos.is_multiple_of(*size)) {
            Some((size, unit)) => write!(f, "{}{unit}", nanos / size),
            None => write!(f, "{nanos}ns"),
        }
    }
}

/// How a latency is written in configuration files and events.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Repr {
    Text(String),
    Samples { file: Arc<str>, samples: Vec<String> },
}

impl From<Latency> for Repr {
    fn from(latency: Latency) -> Self {
        match latency {
            Latency::Samples { file, samples } => {
                Self::Samples { file, samples: samples.iter().map(|time| Exact(*time).to_string()).collect() }
            }
            other => Self::Text(other.to_string()),
        }
    }
}

impl TryFrom<Repr> for Latency {
    type Error = ParseUnitError;

    fn try_from(repr: Repr) -> Result<Self, Self::Error> {
        match repr {
            Repr::Text(text) => text.parse(),
            Repr::Samples { file, samples } => Self::from_samples(&file, &samples.join("\n")),
        }
    }
}
