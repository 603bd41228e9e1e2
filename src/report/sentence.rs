//! The verdict in one sentence, for a reader who has never heard of grains and holds.
//!
//! Must not know: HTML. Invariant: it says nothing that was not measured.

use super::run::Run;
use crate::scenario::MetricValue;
use crate::scenario::result::{ArmResult, Outcome, RunResult, Verdict};
use crate::units::text;

/// The sentence of a run.
pub fn verdict_sentence(run: &Run) -> String {
    let result = &run.result;
    let worst = result.arms.iter().max_by_key(|arm| arm.verdict);
    let reason = worst.and_then(|arm| Some((arm, arm.reasons.first()?)));
    let why = reason.map_or_else(|| result.summary.clone(), |(arm, reason)| on(result, arm) + reason);
    let mut parts = match result.verdict {
        Verdict::Pass => vec!["Passed".to_owned()],
        Verdict::Fail => vec!["Failed".to_owned(), failed(result).unwrap_or(why)],
        Verdict::Inconclusive => vec!["The test cannot tell".to_owned(), why],
        Verdict::Aborted => vec!["Ended before its time".to_owned(), why],
        Verdict::Error => vec!["The test itself failed, not what it tests".to_owned(), why],
    };
    parts.extend(facts(result));
    if matches!(result.verdict, Verdict::Pass | Verdict::Fail) {
        parts.extend(expectations(result));
    }
    let lead = parts.remove(0);
    let rest = parts.join("; ");
    if rest.is_empty() { lead + "." } else { format!("{lead}: {}.", rest.trim_end_matches('.')) }
}

/// The arm in front of what is said of it, where there are several.
fn on(result: &RunResult, arm: &ArmResult) -> String {
    if result.arms.len() > 1 { format!("on {}, ", arm.name) } else { String::new() }
}

/// The first expectation that fails.
fn failed(result: &RunResult) -> Option<String> {
    let of_arm = |arm: &ArmResult| {
        let it = arm.expectations.iter().find(|it| it.outcome == Outcome::Fails)?;
        let measured = match it.measured.as_ref()? {
            MetricValue::Micros(us) => text::micros(*us),
            other => other.to_string(),
        };
        Some(format!("{}{} was {measured}, expected {}", on(result, arm), in_words(&it.metric), it.expected))
    };
    result.arms.iter().filter(|arm| arm.verdict == Verdict::Fail).find_map(of_arm)
}

/// A figure in words.
pub(super) fn in_words(metric: &str) -> String {
    let words = [
        (".ack_latency.max", "'s longest wait for the storage"),
        (".longest_gap", "'s longest time without progress"),
        (".lock_wait.max", "'s longest wait for its own lock"),
        (".records_lost", "'s number of lost records"),
        (".errors", "'s number of errors"),
        (".elapsed", "'s time"),
        (".rate", "'s rate"),
    ];
    let found = words.into_iter().find_map(|(suffix, words)| Some(metric.strip_suffix(suffix)?.to_owned() + words));
    found.unwrap_or_else(|| metric.to_owned())
}

fn expectations(result: &RunResult) -> Option<String> {
    let sum = |(held, all), (more_held, more)| (held + more_held, all + more);
    match result.arms.iter().map(held).fold((0, 0), sum) {
        (_, 0) => None,
        (1, 1) => Some("what was expected holds".to_owned()),
        (held, expected) if held == expected => Some(format!("all {expected} expectations hold")),
        (held, expected) => Some(format!("{held} of {expected} expectations hold")),
    }
}

/// What was suffered, arm by arm, and what was lost.
fn facts(result: &RunResult) -> Vec<String> {
    let arms: Vec<_> = result.arms.iter().filter_map(|arm| Some((arm, worst_writer(arm)?))).collect();
    let mut facts = Vec::new();
    if let Some((first, (name, us))) = arms.first() {
        let wait = format!("{name} waited up to {} for the storage", text::micros(*us));
        let others = arms.iter().skip(1).take(5).map(|(arm, (other, us))| {
            let who = if other == name { String::new() } else { format!("{other} ") };
            format!("{who}on {} up to {}", arm.name, text::micros(*us))
        });
        facts.push(std::iter::once(on(result, first) + &wait).chain(others).collect::<Vec<_>>().join(", "));
    }
    facts.extend(lost(result));
    facts
}

/// The writer that waited longest for an acknowledgement.
pub(super) fn worst_writer(arm: &ArmResult) -> Option<(&str, u64)> {
    let of_metric = |(name, value): (&'_ String, &MetricValue)| match value {
        MetricValue::Micros(us) => Some((name.strip_suffix(".ack_latency.max")?.len(), *us)),
        _ => None,
    };
    let all = arm.metrics.iter().filter_map(|it| Some((it.0, of_metric(it)?)));
    let worst = all.max_by_key(|(_, (_, us))| *us)?;
    let (name, (length, us)) = worst;
    Some((name.get(..length)?, us))
}

fn lost(result: &RunResult) -> Option<String> {
    let of_arm = |arm: &ArmResult| {
        let figures = arm.metrics.iter().filter(|(name, _)| name.ends_with(".records_lost"));
        figures
            .filter_map(|(_, value)| if let MetricValue::Count(n) = value { Some(*n) } else { None })
            .reduce(|a, b| a + b)
    };
    let lost = result.arms.iter().filter_map(of_arm).reduce(|a, b| a + b)?;
    Some(if lost > 0.0 { format!("{lost} stored records were lost") } else { "no stored record was lost".to_owned() })
}

/// How many expectations hold, of how many.
pub(super) fn held(arm: &ArmResult) -> (usize, usize) {
    (arm.expectations.iter().filter(|it| it.outcome == Outcome::Holds).count(), arm.expectations.len())
}
