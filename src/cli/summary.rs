//! What was injected, in a few lines for the end of `run` and `mount`.
//!
//! Must not know: where it is shown. Invariant: what did not happen takes no line.

use std::time::Duration;

use stunfs::internal::volume::{HoldParts, Summary};

use super::output::{count, size, time};

/// The lines, the first without an indent.
pub(crate) fn lines(summary: &Summary) -> Vec<String> {
    let mut lines = vec![held(summary)];
    let due = if let_go_early(summary) { "let go earlier than due; due for" } else { "waited for" };
    lines.extend(parts(&summary.parts).map(|parts| format!("{due} {parts}")));
    lines.extend(space(summary));
    if summary.events_dropped > 0 {
        lines.push(format!("the event log is incomplete: {} dropped", count(summary.events_dropped, "event")));
    }
    lines
}

/// The same as one text, each line under the first.
pub(crate) fn text(summary: &Summary) -> String {
    format!("stunfs: {}\n", lines(summary).join("\n        "))
}

fn held(summary: &Summary) -> String {
    let operations = count(summary.operations, "operation");
    if summary.held == 0 {
        return format!("{operations}, none held");
    }
    let (longest, total) = (time(summary.longest_hold), time(summary.total_hold));
    format!("{operations}, {} held: longest {longest}, together {total}", summary.held)
}

/// A `release`, a limit or the end came before some penalty was over: they add up to more than the holds.
fn let_go_early(summary: &Summary) -> bool {
    let HoldParts { latency, zeroing, queue, space, stun } = summary.parts;
    latency + zeroing + queue + space + stun > summary.total_hold
}

/// `queue 20 s, latency 1 s`: the parts that are not zero, the largest first.
fn parts(parts: &HoldParts) -> Option<String> {
    named(&[
        ("latency", parts.latency),
        ("zeroing", parts.zeroing),
        ("queue", parts.queue),
        ("space", parts.space),
        ("stun", parts.stun),
    ])
}

/// The times that are not zero, the largest first; `None` if all are.
pub(crate) fn named(parts: &[(&str, Duration)]) -> Option<String> {
    let mut parts: Vec<_> = parts.iter().filter(|(_, duration)| !duration.is_zero()).collect();
    parts.sort_by_key(|(_, duration)| std::cmp::Reverse(*duration));
    let texts: Vec<String> = parts.iter().map(|(name, duration)| format!("{name} {}", time(*duration))).collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}

fn space(summary: &Summary) -> Option<String> {
    let mut texts = Vec::new();
    if summary.grains > 0 {
        texts.push(format!("{} provisioned", count(summary.grains, "grain")));
    }
    if let Some(pool) = summary.pool.size_bytes {
        texts.push(format!("pool {} of {}", size(summary.pool.used_bytes), size(pool)));
    }
    if summary.stuns > 0 {
        texts.push(count(summary.stuns, "stun"));
    }
    if summary.refused > 0 {
        texts.push(format!("{} refused for want of space", summary.refused));
    }
    (!texts.is_empty()).then(|| texts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_happen_takes_no_line() {
        assert_eq!(text(&Summary { operations: 1, ..Summary::default() }), "stunfs: 1 operation, none held\n");
    }

    #[test]
    fn the_largest_part_comes_first() {
        let parts =
            HoldParts { latency: Duration::from_millis(20), queue: Duration::from_secs(20), ..HoldParts::default() };
        let total_hold = Duration::from_millis(20_020);
        let summary = Summary { operations: 9, held: 2, grains: 2, parts, total_hold, ..Summary::default() };
        assert_eq!(lines(&summary)[1..], ["waited for queue 20.0 s, latency 20 ms", "2 grains provisioned"]);
    }

    /// It said "waited for latency 60.0 s" of a write that was let go after 0.6 s.
    #[test]
    fn regression_who_was_let_go_early_did_not_wait_for_all_that_was_due() {
        let parts = HoldParts { latency: Duration::from_secs(60), ..HoldParts::default() };
        let summary = Summary { held: 1, parts, total_hold: Duration::from_millis(600), ..Summary::default() };
        assert_eq!(lines(&summary)[1], "let go earlier than due; due for latency 60.0 s");
    }
}
