//! A volume's status and events as text for people.
//!
//! Must not know: sockets, requests. Invariant: a reply of a newer volume with more fields still shows.

use std::time::Duration;

use serde_json::Value;
use stunfs::internal::control::{HeldOp, Status, StatusReply, WaitsFor};
use stunfs::internal::model::PoolUse;
use stunfs::internal::telemetry::event::{Event, EventBody, OpRecord, PenaltyMicros};

use super::output::{self, TextTable, count, micros, size};
use super::summary::named;

/// Longer paths lose their beginning.
const PATH_SHOWN: usize = 40;

/// The whole status.
pub(crate) fn text(reply: &StatusReply) -> String {
    let status = &reply.status;
    let mut text = String::new();
    for (name, value) in rows(status) {
        text.push_str(&format!("{name:<10} {value}\n"));
    }
    let held = &reply.held;
    let waiting = match held.waiting_for_space {
        0 => String::new(),
        waiting => format!(", {waiting} of them for space in the pool"),
    };
    text.push_str(&format!("{:<10} {}{waiting}\n", "held now", count(held.total, "operation")));
    if !held.ops.is_empty() {
        text.push_str(&format!("\n{}", held_table(&held.ops, status.uptime_us)));
    }
    let more = held.total.saturating_sub(u64::try_from(held.ops.len()).unwrap_or(u64::MAX));
    if more > 0 && !held.ops.is_empty() {
        text.push_str(&format!("... and {more} more; --limit shows them\n"));
    }
    text
}

fn rows(status: &Status) -> Vec<(&'static str, String)> {
    let profile = status.profile.as_deref().map(|name| format!(", profile {name}")).unwrap_or_default();
    let counters = &status.counters;
    let mut rows = vec![
        ("volume", format!("{} on {}{profile}", status.backing, status.mountpoint)),
        ("running", format!("for {}, process {}, stunfs {}", micros(status.uptime_us), status.pid, status.version)),
        ("injection", injection(status)),
        ("pool", pool(status)),
        ("queue", format!("a first write would wait {} now", micros(status.queue_wait_us))),
        (
            "so far",
            format!(
                "{}, {} held, {} refused, {}, {}",
                count(counters.operations, "operation"),
                counters.held,
                counters.refused,
                count(counters.provisioned, "grain"),
                count(counters.stuns, "stun")
            ),
        ),
    ];
    if counters.filter_asked > 0 && counters.filter_selected == 0 {
        let asked = count(counters.filter_asked, "operation");
        rows.push(("filter", format!("--only has matched none of {asked} so far: is it what you mean?")));
    }
    if counters.late > 0 {
        let late = count(counters.late, "hold");
        rows.push((
            "late",
            format!("{late} taken up over 100 ms late: stunfs itself got no processor, or had too much to do"),
        ));
    }
    let missing = status.events.dropped + status.events.lost;
    if missing > 0 {
        rows.push(("events", format!("{missing} of {} are missing from the log", status.events.emitted)));
    }
    rows
}

fn injection(status: &Status) -> String {
    match (&status.stun, status.expired, status.armed) {
        (Some(stun), _, _) => {
            let frozen = if stun.frozen { ", with all that --freeze names" } else { "" };
            format!("STUNNED for another {}{frozen}", micros(stun.left_us))
        }
        (None, true, _) => "over: --ttl has passed".to_owned(),
        (None, false, true) => "on".to_owned(),
        (None, false, false) => "off; 'stunfs ctl arm' switches it on".to_owned(),
    }
}

/// `pool 1 GiB of 2 GiB`
pub(crate) fn pool_text(pool: &PoolUse) -> String {
    let used = size(pool.used_bytes);
    pool.size_bytes.map_or_else(|| format!("{used} provisioned"), |whole| format!("pool {used} of {}", size(whole)))
}

fn pool(status: &Status) -> String {
    let text = pool_text(&status.pool);
    let text = text.strip_prefix("pool ").unwrap_or(&text).to_owned();
    match status.pool.reusable_bytes {
        0 => text,
        reusable => format!("{text}, {} of that free for reuse", size(reusable)),
    }
}

fn held_table(ops: &[HeldOp], now_us: u64) -> String {
    let mut table = TextTable::new(["PID", "COMMAND", "OPERATION", "PATH", "HELD FOR", "STILL", "WAITS FOR"]);
    for held in ops {
        table.row([
            held.op.pid.to_string(),
            who(&held.op),
            what(&held.op),
            shorten(&held.op.path),
            micros(now_us.saturating_sub(held.since_us)),
            left(held, now_us),
            waits_for(held),
        ]);
    }
    table.text()
}

/// How long the operation is still held. A stun and a full pool may end earlier, but not later.
fn left(held: &HeldOp, now_us: u64) -> String {
    let may_end_earlier = held.waits_for.iter().any(|reason| *reason != WaitsFor::Penalty);
    match held.until_us {
        None => "?".to_owned(),
        Some(until) if may_end_earlier => format!("at most {}", micros(until.saturating_sub(now_us))),
        Some(until) => micros(until.saturating_sub(now_us)),
    }
}

/// `stun; queue 2.5 s, latency 20 ms`: what the operation waits for, and the parts of its penalty.
fn waits_for(held: &HeldOp) -> String {
    let reasons = held.waits_for.iter().filter_map(|reason| match reason {
        WaitsFor::Stun => Some("the stun's end".to_owned()),
        WaitsFor::Space => Some("space in the pool".to_owned()),
        WaitsFor::Penalty => None,
    });
    let has_penalty = held.waits_for.is_empty() || held.waits_for.contains(&WaitsFor::Penalty);
    let penalty = has_penalty.then(|| parts(&held.penalty));
    reasons.chain(penalty).collect::<Vec<_>>().join("; ")
}

fn who(op: &OpRecord) -> String {
    match (op.comm.is_empty(), op.pid) {
        (false, _) => printable(&op.comm),
        (true, 0) => "(write-back)".to_owned(),
        (true, _) => "?".to_owned(),
    }
}

fn what(op: &OpRecord) -> String {
    match (op.length, op.offset) {
        (Some(length), Some(offset)) => format!("{} {} at {}", op.op.name(), size(length), size(offset)),
        _ => op.op.name().to_owned(),
    }
}

fn parts(penalty: &PenaltyMicros) -> String {
    let us = Duration::from_micros;
    let parts = [
        ("latency", us(penalty.latency_us)),
        ("zeroing", us(penalty.zeroing_us)),
        ("queue", us(penalty.queue_us)),
        ("space", us(penalty.space_us)),
        ("stun", us(penalty.stun_us)),
    ];
    named(&parts).unwrap_or_else(|| "-".to_owned())
}

fn shorten(path: &str) -> String {
    let path = printable(path);
    let length = path.chars().count();
    if length <= PATH_SHOWN {
        path
    } else {
        format!("...{}", path.chars().skip(length - PATH_SHOWN + 3).collect::<String>())
    }
}

/// File names may hold anything; the terminal must not obey it.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// An event in a line; a line that is no known event as it is.
pub(crate) fn event_line(line: &str) -> String {
    let Ok(event) = serde_json::from_str::<Event>(line) else { return printable(line) };
    let when = Duration::from_micros(event.t_us).as_secs_f64();
    let told = match &event.body {
        EventBody::Held { op, requested_us, released_us, penalty, error, .. } => {
            let wait = micros(released_us.saturating_sub(*requested_us));
            let failed = error.as_deref().map(|error| format!(", failed with {error}")).unwrap_or_default();
            format!("held {wait}: {} ({}){failed}", operation(op), parts(penalty))
        }
        EventBody::Refused { op, error } => format!("refused with {error}: {}", operation(op)),
        _ => other_event(line),
    };
    format!("{when:>10.3}  {told}")
}

fn operation(op: &OpRecord) -> String {
    format!("{} of {} by {} ({})", what(op), printable(&op.path), who(op), op.pid)
}

/// `grown size_bytes=1073741824`: the name and the fields that are short.
fn other_event(line: &str) -> String {
    let Ok(Value::Object(fields)) = serde_json::from_str(line) else { return printable(line) };
    let mut text = fields.get("event").and_then(Value::as_str).unwrap_or("?").to_owned();
    for (name, value) in &fields {
        let is_frame = matches!(name.as_str(), "v" | "seq" | "t_us" | "event");
        match value {
            _ if is_frame => {}
            Value::Object(_) | Value::Array(_) | Value::Null => {}
            Value::String(value) => text.push_str(&format!(" {name}={}", printable(value))),
            Value::Number(bytes) if name.ends_with("_bytes") => {
                text.push_str(&format!(
                    " {}={}",
                    name.trim_end_matches("_bytes"),
                    output::size(bytes.as_u64().unwrap_or(0))
                ));
            }
            value => text.push_str(&format!(" {name}={value}")),
        }
    }
    text
}
