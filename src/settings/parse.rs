//! One reader per form of value. Each error quotes the value and says what is allowed.
//!
//! Must not know: which option a value belongs to. Invariant: no input panics.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::ReadTextError;
use crate::freeze::FreezeTarget;
use crate::model::{Latency, OnFull, Placement, Scope, StunTrigger};
use crate::options::{CacheMode, LowLatency};
use crate::units::{ParseUnitError, parse_duration};

/// How long a stun lasts when an option names no duration: long enough to be felt, below the 30 s command timeout of
/// Linux's SCSI layer.
pub const DEFAULT_STUN: Duration = Duration::from_secs(10);

/// The longest path that fits into the address of a Unix socket.
const SOCKET_PATH_MAX: usize = 107;

/// Says what is wrong with a value.
pub(super) type Parsed<T> = Result<T, ParseUnitError>;

fn wrong<T>(message: String) -> Parsed<T> {
    Err(ParseUnitError::new(message))
}

/// A time above zero.
pub(super) fn time_limit(text: &str) -> Parsed<Duration> {
    let time = parse_duration(text)?;
    if time.is_zero() { wrong(format!("'{text}' is no time limit; write a time such as 30s or 10m")) } else { Ok(time) }
}

/// On or off.
pub(super) fn flag(text: &str) -> Parsed<bool> {
    match text {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" | "none" => Ok(false),
        _ => wrong(format!("'{text}' is neither on nor off; write the option alone, or true or false")),
    }
}

/// A whole number from `least` to `most`.
pub(super) fn number<N>(text: &str, least: N, most: N) -> Parsed<N>
where
    N: std::str::FromStr + PartialOrd + fmt::Display + Copy,
{
    match text.parse::<N>() {
        Ok(number) if number >= least && number <= most => Ok(number),
        _ => wrong(format!("'{text}' is not a whole number from {least} to {most}")),
    }
}

/// A seed: decimal, or hexadecimal after `0x`.
pub(super) fn seed(text: &str) -> Parsed<u64> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.or_else(|_| wrong(format!("'{text}' is not a seed; write a whole number from 0 to {}", u64::MAX)))
}

/// `5%`, as percent from 0 to 100.
pub(super) fn percent(text: &str) -> Parsed<f64> {
    let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    match number {
        Some(number) if (0.0..=100.0).contains(&number) => Ok(number),
        _ => wrong(format!("'{text}' is not a share; write 0% to 100%, such as 5%")),
    }
}

/// `10%`, a whole percentage.
pub(super) fn whole_percent(text: &str) -> Parsed<u8> {
    match text.strip_suffix('%').and_then(|number| number.trim().parse::<u8>().ok()) {
        Some(number) if number <= 100 => Ok(number),
        _ => wrong(format!("'{text}' is not a whole share; write 0% to 100%, such as 10%")),
    }
}

/// One of a few words.
fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Parsed<T> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let allowed: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    wrong(format!("'{text}' is not one of {}", allowed.join(", ")))
}

/// `op` or `volume`.
pub(super) fn scope(text: &str) -> Parsed<Scope> {
    word(text, &[("op", Scope::Op), ("volume", Scope::Volume)])
}

/// `packed` or `direct`.
pub(super) fn placement(text: &str) -> Parsed<Placement> {
    word(text, &[("packed", Placement::Packed), ("direct", Placement::Direct)])
}

/// `through`, `back` or `direct`.
pub(super) fn cache(text: &str) -> Parsed<CacheMode> {
    word(text, &[("through", CacheMode::Through), ("back", CacheMode::Back), ("direct", CacheMode::Direct)])
}

/// `auto` or `off`.
pub(super) fn low_latency(text: &str) -> Parsed<LowLatency> {
    word(text, &[("auto", LowLatency::Auto), ("off", LowLatency::Off)])
}

/// Whether `fallocate` provisions.
pub(super) fn fallocate(text: &str) -> Parsed<bool> {
    word(text, &[("ignores", false), ("provisions", true)])
}

/// What happens when the pool is full.
pub(super) fn on_full(text: &str) -> Parsed<OnFull> {
    text.parse()
}

/// What stands before the first `:`, and the stun's duration after it.
fn with_duration(text: &str) -> Parsed<(&str, Duration)> {
    match text.split_once(':') {
        Some((head, duration)) => Ok((head, time_limit(duration)?)),
        None => Ok((text, DEFAULT_STUN)),
    }
}

/// `1000:30s`
pub(super) fn stun_every(text: &str) -> Parsed<StunTrigger> {
    let (grains, duration) = with_duration(text)?;
    match grains.parse() {
        Ok(grains) if grains > 0 => Ok(StunTrigger::Every { grains, duration }),
        _ => wrong(format!("'{text}' is not a number of grains above 0 and a time; write such as 1000:30s")),
    }
}

/// `0.1%:30s`
pub(super) fn stun_chance(text: &str) -> Parsed<StunTrigger> {
    let (chance, duration) = with_duration(text)?;
    let probability = percent(chance)? / 100.0;
    Ok(StunTrigger::Chance { probability, duration })
}

/// `wait>5s:30s`
pub(super) fn stun_when(text: &str) -> Parsed<StunTrigger> {
    let (wait, duration) = with_duration(text)?;
    match wait.strip_prefix("wait>") {
        Some(over) => Ok(StunTrigger::QueueWait { over: parse_duration(over)?, duration }),
        None => wrong(format!("'{text}' is not a condition; write such as 'wait>5s:30s'")),
    }
}

/// A latency; `file:F` is read from the disk.
pub(super) fn latency(text: &str) -> Parsed<Latency> {
    Latency::parse_with(text, |file| read_text(Path::new(file)))
}

/// The text of a regular file of at most 16 MiB: a device or a pipe might never end.
pub(crate) fn read_text(path: &Path) -> Result<String, ReadTextError> {
    const LARGEST: u64 = 16 << 20;
    let meta = std::fs::metadata(path)?;
    if !meta.is_file() {
        return Err(ReadTextError::NotRegular);
    }
    if meta.len() > LARGEST {
        return Err(ReadTextError::TooLarge);
    }
    Ok(std::fs::read_to_string(path)?)
}

/// An address to listen on: `127.0.0.1:9100`, `[::1]:9100`, or a port (`:9100`, `9100`) on loopback.
pub(super) fn address(text: &str) -> Parsed<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    match text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
        Ok(port) => Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
        Err(_) => wrong(format!("'{text}' is not an address; write such as 127.0.0.1:9100, or :9100 for loopback")),
    }
}

/// A part of `--only`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum FilterPart {
    /// Glob on the path below the mount point.
    Path(String),
    /// Command name.
    Comm(String),
    /// User ID of the caller.
    Uid(u32),
    /// Percent of operations.
    Share(f64),
}

/// `path=GLOB`, `comm=NAME`, `uid=N` or `share=PCT`.
pub(super) fn filter(text: &str) -> Parsed<FilterPart> {
    match text.split_once('=') {
        Some(("path", glob)) => path_glob(glob),
        Some(("comm", name)) => comm(name),
        Some(("uid", uid)) => number(uid, 0, u32::MAX).map(FilterPart::Uid),
        Some(("share", share)) => percent(share).map(FilterPart::Share),
        _ => wrong(format!("'{text}' is not one of path=GLOB, comm=NAME, uid=N, share=PCT")),
    }
}

fn path_glob(glob: &str) -> Parsed<FilterPart> {
    let below = glob.trim_start_matches('/');
    match globset::Glob::new(below) {
        Ok(_) if !below.is_empty() => Ok(FilterPart::Path(glob.to_owned())),
        Ok(_) => wrong(format!("path '{glob}' is empty; write a pattern below the mount point such as 'log/**'")),
        Err(error) => wrong(format!("path '{glob}' is not a pattern: {}; write such as 'log/**'", error.kind())),
    }
}

/// The kernel keeps 15 bytes of a command's name.
fn comm(name: &str) -> Parsed<FilterPart> {
    const KEPT: usize = 15;
    if name.is_empty() {
        return wrong("comm is empty; write a command's name such as comm=fluentd".to_owned());
    }
    if name.len() > KEPT {
        let kept: String = name.char_indices().filter(|(at, c)| at + c.len_utf8() <= KEPT).map(|(_, c)| c).collect();
        return wrong(format!(
            "comm '{name}' is longer than the {KEPT} bytes that the kernel keeps; write comm={kept}"
        ));
    }
    Ok(FilterPart::Comm(name.to_owned()))
}

/// A file's path, made absolute.
pub(super) fn file(text: &str) -> Parsed<PathBuf> {
    match std::path::absolute(text) {
        Ok(path) if !text.contains('\0') => Ok(path),
        _ => wrong(format!("'{text}' is not the path of a file")),
    }
}

/// Where events go: a file, or `-`, standard output.
pub(super) fn events(text: &str) -> Parsed<PathBuf> {
    if text == "-" { Ok(PathBuf::from(text)) } else { file(text) }
}

/// A socket that is to be made. Its path must fit into the kernel's address.
pub(super) fn socket(text: &str) -> Parsed<PathBuf> {
    let path = file(text)?;
    match path.as_os_str().len() {
        ..=SOCKET_PATH_MAX => Ok(path),
        _ => wrong(format!("'{text}' is too long for a socket, at most {SOCKET_PATH_MAX} bytes; write a shorter path")),
    }
}

/// A target to freeze, the same from any working directory.
pub(super) fn freeze(text: &str) -> Parsed<FreezeTarget> {
    let target = text.parse::<FreezeTarget>().map_err(|error| ParseUnitError::new(error.to_string()))?;
    target.absolute().or_else(|error| wrong(format!("the working directory, where '{text}' begins: {error}")))
}

/// `FILE` or `unix:SOCKET`: which it is shows when it is opened.
pub(super) fn console(text: &str) -> Parsed<PathBuf> {
    file(text.strip_prefix("unix:").unwrap_or(text))
}

/// Whole seconds, at least one: the kernel counts in them.
pub(super) fn whole_seconds(text: &str) -> Parsed<Duration> {
    match parse_duration(text)? {
        time if time.subsec_nanos() == 0 && (1..=1_000_000).contains(&time.as_secs()) => Ok(time),
        _ => wrong(format!("'{text}' is not a whole number of seconds, at least one; write such as 5s")),
    }
}

/// A name that the mount table can show.
pub(super) fn mount_name(text: &str) -> Parsed<String> {
    if text.is_empty() || text.contains([',', '\0', '\n']) {
        return wrong(format!("'{text}' is not a name for the mount table; write one without commas"));
    }
    Ok(text.to_owned())
}
