//! The verdict: the sentence on top, the expectations, and the proof of each fault.
//!
//! Must not know: how it was found. Invariant: a verdict is a word as well as a colour.

use maud::{Markup, html};

use super::figures::{badge, figure, number, table};
use crate::report::run::Run;
use crate::report::sentence;
use crate::scenario::result::{ArmResult, FaultKind, Outcome, Proof};
use crate::units::text;

pub(super) fn header(run: &Run) -> Markup {
    let result = &run.result;
    html! {
        header class=(format!("verdict {}", result.verdict.name())) {
            p.name { (badge(result.verdict)) " " (result.scenario) }
            h1 { (sentence::verdict_sentence(run)) }
            @if !result.description.is_empty() { p.about { (result.description) } }
            p.meta { (meta(run)) }
        }
    }
}

pub(super) fn meta(run: &Run) -> Markup {
    let result = &run.result;
    let started = result.started.split('.').next().unwrap_or_default().replace('T', " ");
    html! {
        span { "Began " (started.trim_end_matches('Z')) " UTC" }
        span { "took " (text::micros(result.elapsed_us)) }
        span { (text::count(u64::try_from(result.arms.len()).unwrap_or(0), "arm")) }
        span { "seed " (result.seed) }
        span { (number(run.events)) " events" }
        span { "stunfs " (result.version) }
    }
}

/// What was expected, what was measured, and what proves that there was a fault.
pub(super) fn expectations(run: &Run) -> Markup {
    let arms = &run.result.arms;
    html! {
        section {
            h2 { "What was expected" }
            @let rows: Vec<_> = arms.iter().flat_map(expected).collect();
            @if rows.is_empty() { p { "The scenario expects nothing beside the faults." } }
            @else { (table(&["", "Arm", "Figure", "Expected", "Measured"], &rows)) }
            @let faults: Vec<_> = arms.iter().flat_map(|arm| arm.proofs.iter().map(|proof| proven(arm, proof))).collect();
            h2 { "Proof of the faults" }
            p.note { "Each fault is seen from both sides: what the storage did, and what each writer felt meanwhile." }
            @if faults.is_empty() { p { "No arm had a fault." } }
            @else { (table(&["", "Arm", "Fault", "In force", "Operations that met it", "Longest hold", "Felt by writers"], &faults)) }
            @for arm in arms { (remarks(arm)) }
        }
    }
}

fn expected(arm: &ArmResult) -> Vec<Vec<Markup>> {
    let row = |it: &crate::scenario::result::ExpectationResult| {
        let mark = match it.outcome {
            Outcome::Holds => html! { span.mark.pass { "holds" } },
            Outcome::Fails => html! { span.mark.fail { "fails" } },
            Outcome::Unmeasured => html! { span.mark.inconclusive { "not measured" } },
        };
        let measured = it.measured.as_ref().map_or_else(|| "-".to_owned(), figure);
        vec![mark, html! { (arm.name) }, html! { code { (it.metric) } }, html! { (it.expected) }, html! { (measured) }]
    };
    arm.expectations.iter().map(row).collect()
}

fn proven(arm: &ArmResult, proof: &Proof) -> Vec<Markup> {
    let mark = if proof.delivered {
        html! { span.mark.pass { "met" } }
    } else {
        html! { span.mark.inconclusive { "not met" } }
    };
    let fault = match proof.fault {
        FaultKind::FirstWrite => "first writes wait",
        FaultKind::Stun => "stun",
        FaultKind::Freeze => "freeze",
    };
    let since = |us: u64| text::micros(us.saturating_sub(arm.began_us));
    let span = match (proof.from_us, proof.until_us) {
        (Some(from), Some(until)) => format!("{} to {}", since(from), since(until)),
        (Some(from), None) => format!("from {}", since(from)),
        _ => "never".to_owned(),
    };
    let felt: Vec<_> = proof.felt_us.iter().map(|(name, us)| format!("{name} {}", text::micros(*us))).collect();
    vec![
        mark,
        html! { (arm.name) },
        html! { (fault) },
        html! { (span) },
        html! { (number(proof.operations)) },
        html! { (text::micros(proof.longest_hold_us)) },
        html! { (if felt.is_empty() { "-".to_owned() } else { felt.join(", ") }) },
    ]
}

/// What the reader of an arm's figures should know.
fn remarks(arm: &ArmResult) -> Markup {
    let (held, all) = sentence::held(arm);
    let has_more = arm.log.missing > 0 || !arm.log.complete;
    html! {
        @if !arm.reasons.is_empty() || !arm.notes.is_empty() || has_more {
            h3 { (arm.name) ": " (badge(arm.verdict)) @if all > 0 { " " (held) " of " (all) " expectations hold" } }
            ul {
                @for reason in &arm.reasons { li { (reason) } }
                @for note in &arm.notes { li.note { (note) } }
                @if arm.log.missing > 0 { li { "The event log is incomplete: " (number(arm.log.missing)) " events are missing." } }
                @if !arm.log.complete { li { "The event log is truncated." } }
            }
        }
    }
}
