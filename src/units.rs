//! Sizes, rates and ranges as types, with the one parser for each.
//!
//! Must not know: what the numbers are used for. Invariant: a value typed in by a user carries a unit, and a
//! range is half-open with `start <= end`.

pub mod text;

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The allocation unit of a file system on a packed volume, in bytes.
pub const BLOCK_BYTES: u64 = 4096;

/// A value that a user typed cannot be understood; the text says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseUnitError(String);

impl ParseUnitError {
    /// An error whose text is `message`.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// A number of bytes. Text form: a number and a unit (`512B`, `4KiB`, `10MiB`, `1GiB`, `10GB`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// `n` kibibytes.
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }
    /// `n` mebibytes.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }
    /// `n` gibibytes.
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }
}

impl FromStr for Bytes {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'_') {
            return Err(ParseUnitError(format!("'{text}' has no unit; write a size such as 64KiB, 1MiB or 10GiB")));
        }
        match text.parse::<bytesize::ByteSize>().map(|size| size.as_u64()) {
            // What does not fit is cut off there.
            Ok(u64::MAX) => Err(ParseUnitError(format!("'{text}' is too large; write less than 16EiB"))),
            Ok(size) => Ok(Self(size)),
            Err(_) => Err(ParseUnitError(format!("'{text}' is not a size; write a size such as 64KiB, 1MiB or 10GiB"))),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        for (size, name) in UNITS {
            if self.0 >= size && self.0.is_multiple_of(size) {
                return write!(f, "{}{name}", self.0 / size);
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// A transfer rate. Text form: a size per second (`200MiB/s`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(u64);

impl Rate {
    /// A rate in bytes per second; `None` for zero.
    pub const fn per_second(bytes: u64) -> Option<Self> {
        if bytes == 0 { None } else { Some(Self(bytes)) }
    }
    /// Bytes per second.
    pub const fn bytes_per_second(self) -> u64 {
        self.0
    }
    /// How long `amount` takes at this rate, rounded up to the nanosecond.
    pub fn time_for(self, amount: Bytes) -> Duration {
        let nanos = (u128::from(amount.0) * 1_000_000_000).div_ceil(u128::from(self.0));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl FromStr for Rate {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseUnitError(format!("'{text}' is not a rate; write a size per second such as 200MiB/s"));
        let size = text.trim().strip_suffix("/s").ok_or_else(wrong)?;
        let bytes = size.parse::<Bytes>().map_err(|_| wrong())?;
        Self::per_second(bytes.0).ok_or_else(|| ParseUnitError("a rate of 0 never ends; leave the option out".into()))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", Bytes(self.0))
    }
}

/// The unit in which the pool provisions: a multiple of 4 KiB, at most 64 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GrainSize(u64);

impl GrainSize {
    /// One mebibyte, VMFS5's block size.
    pub const MIB: Self = Self(1 << 20);

    /// Checks that `size` is a multiple of 4 KiB between 4 KiB and 64 GiB.
    pub fn new(size: Bytes) -> Result<Self, ParseUnitError> {
        let in_range = (BLOCK_BYTES..=Bytes::gib(64).0).contains(&size.0);
        if in_range && size.0.is_multiple_of(BLOCK_BYTES) {
            return Ok(Self(size.0));
        }
        Err(ParseUnitError(format!("grain {size} is not a multiple of 4KiB from 4KiB to 64GiB")))
    }
    /// The size in bytes.
    pub const fn bytes(self) -> Bytes {
        Bytes(self.0)
    }
    /// How many 4 KiB blocks a grain has.
    pub const fn blocks(self) -> u64 {
        self.0 / BLOCK_BYTES
    }
}

impl FromStr for GrainSize {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text.parse()?)
    }
}

impl fmt::Display for GrainSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().fmt(f)
    }
}

/// The number of a grain: within its file (placement `direct`) or on the virtual disk (`packed`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GrainIndex(pub u64);

/// A half-open range of bytes in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

impl ByteRange {
    /// The `len` bytes from `start`; cut off at the largest offset.
    pub const fn at(start: u64, len: u64) -> Self {
        Self { start, end: start.saturating_add(len) }
    }
    /// From `start` to the largest offset.
    pub const fn from(start: u64) -> Self {
        Self { start, end: u64::MAX }
    }
    /// How many bytes.
    pub const fn len(self) -> u64 {
        self.end.saturating_sub(self.start)
    }
    /// Whether there is no byte in it.
    pub const fn is_empty(self) -> bool {
        self.end <= self.start
    }
    /// The units of `unit` bytes that it touches, even partly.
    pub const fn touched(self, unit: u64) -> Range<u64> {
        if self.is_empty() {
            return 0..0;
        }
        self.start / unit..self.end.div_ceil(unit)
    }
    /// The units of `unit` bytes that it covers entirely.
    pub const fn covered(self, unit: u64) -> Range<u64> {
        let (first, last) = (self.start.div_ceil(unit), self.end / unit);
        if first < last { first..last } else { 0..0 }
    }
    /// The grains that it touches.
    pub const fn grains(self, size: GrainSize) -> Range<u64> {
        self.touched(size.bytes().0)
    }
}

/// Parses a time with a unit (`20ms`, `1m 30s`).
pub fn parse_duration(text: &str) -> Result<Duration, ParseUnitError> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.') && text != "0" {
        return Err(ParseUnitError(format!("'{text}' has no unit; write a time such as {text}ms or {text}s")));
    }
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if let Some(duration) = parse_decimal(text) {
        return Ok(duration);
    }
    humantime::parse_duration(text)
        .map_err(|_| ParseUnitError(format!("'{text}' is not a time; write a time such as 500us, 20ms, 1.5s or 2m")))
}

/// `1.5s`, which humantime does not read.
fn parse_decimal(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(split);
    let (whole, fraction) = number.split_once('.')?;
    let nanos_per_unit: u128 = match unit.trim() {
        "ns" => 1,
        "us" | "µs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" | "min" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    if fraction.is_empty() || fraction.len() > 9 || whole.len() > 12 {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let nanos = whole * nanos_per_unit + fraction.parse::<u128>().ok()? * nanos_per_unit / scale;
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_units() {
        assert_eq!("64KiB".parse(), Ok(Bytes::kib(64)));
        assert_eq!("10GB".parse(), Ok(Bytes(10_000_000_000)));
        assert!("20".parse::<Bytes>().unwrap_err().to_string().contains("unit"));
        assert!("-1KiB".parse::<Bytes>().is_err());
        assert!("".parse::<Bytes>().is_err());
    }

    #[test]
    fn times_need_units() {
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert!(parse_duration("20").unwrap_err().to_string().contains("20ms"));
        assert!(parse_duration("").is_err());
        assert!(parse_duration("-5ms").is_err());
    }

    #[test]
    fn ranges_touch_and_cover() {
        let range = ByteRange::at(1000, 9000);
        assert_eq!(range.touched(4096), 0..3);
        assert_eq!(range.covered(4096), 1..2);
        assert_eq!(ByteRange::at(5, 0).touched(4096), 0..0);
    }

    #[test]
    fn grains_are_multiples_of_a_block() {
        assert!(GrainSize::new(Bytes(5000)).is_err());
        assert!(GrainSize::new(Bytes(0)).is_err());
        assert_eq!("1MiB".parse(), Ok(GrainSize::MIB));
    }

    #[test]
    fn rates_divide() {
        let rate: Rate = "100MiB/s".parse().unwrap();
        assert_eq!(rate.time_for(Bytes::mib(1)), Duration::from_millis(10));
        assert!("0B/s".parse::<Rate>().is_err());
        assert!("100MiB".parse::<Rate>().is_err());
    }
}
