//! What a volume imitates, fully resolved: the model's input, and what the first event prints.
//!
//! Must not know: command lines, profiles, files. Invariant: a [`CheckedConfig`], the only one that a model takes,
//! makes one that never fails. Written out, its times are whole microseconds in fields that end in `_us`.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration_micros;
use super::latency::{Exact, LONGEST, Latency};
use crate::units::{BLOCK_BYTES, Bytes, GrainSize, ParseUnitError, Rate, parse_duration};

/// A setting is out of its range, or cannot change any more; one line that says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// How a file's offset becomes an address on the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// A file's offset is the logical block address; every file is a LUN of its own. For disk images.
    Direct,
    /// A file system on one virtual disk: newly allocated 4 KiB blocks take the next free addresses.
    Packed,
}

/// What happens to a write that needs space when the pool has none. Text form as in `--on-full`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum OnFull {
    /// The writer gets `ENOSPC` at once.
    Enospc,
    /// The writer waits until the pool grows; everybody else goes on (VAAI thin-provisioning stun).
    Stun,
    /// The writer waits this long, then gets `ENOSPC` (dm-thin's `no_space_timeout`).
    Queue(Duration),
}

impl fmt::Display for OnFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enospc => f.write_str("enospc"),
            Self::Stun => f.write_str("stun"),
            Self::Queue(wait) => write!(f, "queue:{}", Exact(*wait)),
        }
    }
}

impl From<OnFull> for String {
    fn from(on_full: OnFull) -> Self {
        on_full.to_string()
    }
}

impl FromStr for OnFull {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.strip_prefix("queue:")) {
            ("enospc", _) => Ok(Self::Enospc),
            ("stun", _) => Ok(Self::Stun),
            ("queue", _) => Err(ParseUnitError::new("'queue' needs a time; write queue:60s".to_owned())),
            (_, Some(wait)) => match parse_duration(wait)? {
                Duration::ZERO => {
                    Err(ParseUnitError::new(format!("'{wait}' is no time limit; write a time such as 30s or 10m")))
                }
                wait => Ok(Self::Queue(wait)),
            },
            _ => Err(ParseUnitError::new(format!("'{text}' is not one of enospc, stun, queue:60s"))),
        }
    }
}

impl TryFrom<String> for OnFull {
    type Error = ParseUnitError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// Who waits while a grain is being provisioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Only who touches the grain.
    Op,
    /// Every operation queues behind it.
    Volume,
}

/// Stuns that come by themselves. Each lasts `duration`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StunTrigger {
    /// After every `grains` provisioned grains.
    Every {
        /// How many grains.
        grains: u64,
        /// How long the stun lasts.
        #[serde(rename = "duration_us", with = "duration_micros")]
        duration: Duration,
    },
    /// With this probability at each provisioned grain.
    Chance {
        /// From 0 to 1.
        probability: f64,
        /// How long the stun lasts.
        #[serde(rename = "duration_us", with = "duration_micros")]
        duration: Duration,
    },
    /// When a first write would wait longer than this in the pool's queue.
    QueueWait {
        /// The limit.
        #[serde(rename = "over_us", with = "duration_micros")]
        over: Duration,
        /// How long the stun lasts.
        #[serde(rename = "duration_us", with = "duration_micros")]
        duration: Duration,
    },
}

/// What a volume imitates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// The one seed that every random choice is drawn from.
    pub seed: u64,
    /// How offsets become addresses.
    pub placement: Placement,
    /// The unit of provisioning.
    pub grain: GrainSize,
    /// The wait of one grain's provisioning, queue and zeroing aside.
    pub first_write: Latency,
    /// How fast a new grain is zeroed; `None`: no zeroing.
    pub zeroing: Option<Rate>,
    /// How many grains are provisioned at the same time (1: a single metadata lock). From 1 to 65536.
    pub lanes: u32,
    /// The wait of the first read of a grain whose data was there at mount; `None`: no wait.
    pub first_read: Option<Latency>,
    /// Physical space; `None`: without limit.
    pub pool: Option<Bytes>,
    /// The size that `statfs` shows; `None`: what the backing's file system shows.
    pub virtual_size: Option<Bytes>,
    /// What happens when the pool is full.
    pub on_full: OnFull,
    /// An event is written when less than this share of the pool (percent) is free.
    pub low_water_percent: u8,
    /// Stuns that come by themselves.
    pub stuns: Vec<StunTrigger>,
    /// Who waits.
    pub scope: Scope,
    /// Share of operations that are hit, percent, 0 to 100.
    pub share_percent: f64,
    /// Whether freed grains of a packed volume go back to the pool.
    pub discard: bool,
    /// Whether `fallocate` provisions what it allocates.
    pub fallocate_provisions: bool,
    /// Every grain is provisioned from the start: no penalty.
    pub thick: bool,
    /// What the backing holds at mount does not count as provisioned.
    pub cold: bool,
    /// Whether injection is on from the start.
    pub armed: bool,
    /// No operation is held and no stun lasts longer than this.
    #[serde(rename = "max_hold_us", with = "duration_micros")]
    pub max_hold: Duration,
    /// Injection ends by itself after this time; `None`: it does not.
    #[serde(rename = "ttl_us", with = "duration_micros::optional", default)]
    pub ttl: Option<Duration>,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            placement: Placement::Packed,
            grain: GrainSize::MIB,
            first_write: Latency::Constant(Duration::ZERO),
            zeroing: None,
            lanes: 1,
            first_read: None,
            pool: None,
            virtual_size: None,
            on_full: OnFull::Enospc,
            low_water_percent: 10,
            stuns: Vec::new(),
            scope: Scope::Op,
            share_percent: 100.0,
            discard: false,
            fallocate_provisions: false,
            thick: false,
            cold: false,
            armed: true,
            max_hold: Duration::from_secs(600),
            ttl: None,
        }
    }
}

/// A configuration whose values and combinations are allowed: the only one that a model takes.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedConfig(ModelConfig);

impl Deref for CheckedConfig {
    type Target = ModelConfig;

    fn deref(&self) -> &ModelConfig {
        &self.0
    }
}

impl From<CheckedConfig> for ModelConfig {
    fn from(config: CheckedConfig) -> Self {
        config.0
    }
}

impl ModelConfig {
    /// Checks every range and combination; the error names the setting and what is allowed.
    pub fn check(self) -> Result<CheckedConfig, ConfigError> {
        self.check_all()?;
        Ok(CheckedConfig(self))
    }

    fn check_all(&self) -> Result<(), ConfigError> {
        self.first_write.check().map_err(|why| ConfigError(format!("first write: {why}")))?;
        if let Some(first_read) = &self.first_read {
            first_read.check().map_err(|why| ConfigError(format!("first read: {why}")))?;
        }
        require(!(self.thick && self.cold), || {
            "thick (all has space) and cold (nothing has space) exclude each other".into()
        })?;
        self.check_sizes()?;
        self.check_shares()?;
        self.check_times()?;
        self.stuns.iter().try_for_each(check_trigger)
    }

    fn check_sizes(&self) -> Result<(), ConfigError> {
        if let Some(pool) = self.pool {
            require(pool.0 >= self.grain.bytes().0, || {
                format!("pool {pool} is smaller than one grain of {}", self.grain)
            })?;
        }
        if let Some(size) = self.virtual_size {
            require(size.0 >= BLOCK_BYTES, || format!("virtual size {size} is smaller than one block of 4KiB"))?;
        }
        if let (true, Some(pool), Some(size)) = (self.thick, self.pool, self.virtual_size) {
            require(pool >= size, || format!("thick: the pool ({pool}) must hold the whole virtual size ({size})"))?;
        }
        require((1..=65536).contains(&self.lanes), || format!("{} lanes: write a number from 1 to 65536", self.lanes))
    }

    fn check_shares(&self) -> Result<(), ConfigError> {
        let low_water = self.low_water_percent;
        require(low_water <= 100, || format!("low water {low_water}%: a share is from 0% to 100%"))?;
        let share = self.share_percent;
        require((0.0..=100.0).contains(&share), || format!("share {share}%: a share is from 0% to 100%"))
    }

    fn check_times(&self) -> Result<(), ConfigError> {
        check_time("max hold", self.max_hold)?;
        if let OnFull::Queue(wait) = self.on_full {
            check_time("on full: queue", wait)?;
        }
        match self.ttl {
            Some(ttl) => require(!ttl.is_zero(), || "ttl: a time limit of 0 injects nothing; leave it out".into()),
            None => Ok(()),
        }
    }

    /// Whether `next` may take this configuration's place while the volume is mounted.
    pub(super) fn allows(&self, next: &Self) -> Result<(), ConfigError> {
        let fixed = [
            (self.placement == next.placement, "placement"),
            (self.grain == next.grain, "grain"),
            (self.seed == next.seed, "seed"),
            (self.thick == next.thick, "thick"),
            (self.cold == next.cold, "cold"),
        ];
        match fixed.iter().find(|(same, _)| !same) {
            Some((_, name)) => Err(ConfigError(format!("{name} cannot change while the volume is mounted"))),
            None => Ok(()),
        }
    }
}

fn check_trigger(trigger: &StunTrigger) -> Result<(), ConfigError> {
    match *trigger {
        StunTrigger::Every { grains, duration } => {
            require(grains > 0, || "stun every 0 grains: write a number from 1".into())?;
            check_time("stun every", duration)
        }
        StunTrigger::Chance { probability, duration } => {
            require((0.0..=1.0).contains(&probability), || {
                format!("stun chance {probability}: a probability is from 0 to 1")
            })?;
            check_time("stun chance", duration)
        }
        StunTrigger::QueueWait { over, duration } => {
            require(over <= LONGEST, || "stun when wait: a wait is at most 24h".into())?;
            check_time("stun when", duration)
        }
    }
}

fn check_time(name: &str, time: Duration) -> Result<(), ConfigError> {
    require(!time.is_zero() && time <= LONGEST, || format!("{name}: write a time above 0 and up to 24h"))
}

fn require(holds: bool, message: impl FnOnce() -> String) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError(message())) }
}
