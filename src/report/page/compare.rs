//! Two runs compared: their verdicts, their figures with the change, and the same writers' latencies in one chart.
//!
//! Must not know: how a run is judged. Invariant: only figures of the same name, arm and unit are compared.

use maud::{Markup, html};

use super::figures::{badge, figure, magnitude, table};
use super::{Charts, beside, verdict};
use crate::report::lanes::{Style, series};
use crate::report::run::Run;
use crate::report::sentence::verdict_sentence;
use crate::scenario::MetricValue;
use crate::scenario::result::ArmResult;
use crate::units::text;

/// A run's letter.
pub(super) fn tag(name: &str) -> Markup {
    html! { span class=(format!("tag tag-{name}")) { (name) } }
}

pub(super) fn header(a: &Run, b: &Run) -> Markup {
    html! {
        header.compare {
            h1 { (sentence(a, b)) }
            div.pair {
                @for (run, name) in [(a, "A"), (b, "B")] {
                    div class=(format!("verdict {}", run.result.verdict.name())) {
                        p.name { (tag(name)) " " (badge(run.result.verdict)) " " (run.label) }
                        p { (verdict_sentence(run)) }
                        p.meta { (verdict::meta(run)) }
                    }
                }
            }
            @if a.result.scenario != b.result.scenario {
                p.note { "These are different scenarios (" (a.result.scenario) ", " (b.result.scenario) "): only figures of the same name are compared." }
            }
        }
    }
}

/// The greatest change of a writer's longest wait, in words.
fn sentence(a: &Run, b: &Run) -> String {
    let verdicts = match (a.result.verdict, b.result.verdict) {
        (one, other) if one == other => format!("Both runs: {one}"),
        (one, other) => format!("A: {one}, B: {other}"),
    };
    let all = common(a, b).into_iter().flat_map(|(one, other)| {
        let waits = one.metrics.iter().filter(|(name, _)| name.ends_with(".ack_latency.max"));
        waits.filter_map(|(name, before)| {
            let after = other.metrics.get(name)?;
            let (from, to) = (magnitude(before)?, magnitude(after)?);
            let factor = (to.max(1.0) / from.max(1.0)).ln().abs();
            let who = name.trim_end_matches(".ack_latency.max");
            let text = format!("on {} {who} waits up to {} in B, {} in A", one.name, figure(after), figure(before));
            Some((factor, text))
        })
    });
    match all.max_by(|one, other| one.0.total_cmp(&other.0)) {
        Some((factor, text)) if factor > 0.1 => format!("{verdicts}. The greatest change of a longest wait: {text}."),
        Some(_) => format!("{verdicts}. No writer's longest wait changed by more than a tenth."),
        None => format!("{verdicts}. No writer ran in both."),
    }
}

/// Arms of the same name.
fn common<'a>(a: &'a Run, b: &'a Run) -> Vec<(&'a ArmResult, &'a ArmResult)> {
    let other = |arm: &ArmResult| b.result.arms.iter().find(|other| other.name == arm.name);
    a.result.arms.iter().filter_map(|arm| Some((arm, other(arm)?))).collect()
}

pub(super) fn section(a: &Run, b: &Run, charts: &mut Charts) -> Markup {
    html! {
        section {
            h2 { "Figures" }
            @for (one, other) in common(a, b) {
                h3 { (one.name) " " (tag("A")) " " (badge(one.verdict)) " " (tag("B")) " " (badge(other.verdict)) }
                (figures(one, other))
            }
            @let only = |run: &Run, other: &Run| -> Vec<String> {
                let missing = run.result.arms.iter().filter(|arm| other.result.arms.iter().all(|it| it.name != arm.name));
                missing.map(|arm| arm.name.clone()).collect()
            };
            @for (name, arms) in [("A", only(a, b)), ("B", only(b, a))] {
                @if !arms.is_empty() { p.note { "Only in " (tag(name)) ": " (arms.join(", ")) } }
            }
            h2 { "Writers in both" }
            (writers(a, b, charts))
        }
    }
}

/// The figures that differ; of the others, how many there are.
fn figures(one: &ArmResult, other: &ArmResult) -> Markup {
    let all = one.metrics.iter().filter_map(|(name, before)| Some((name, before, other.metrics.get(name)?)));
    let (mut rows, mut same) = (Vec::new(), 0);
    for (name, before, after) in all {
        match change(before, after) {
            Some(change) => rows.push(vec![
                html! { code { (name) } },
                html! { (figure(before)) },
                html! { (figure(after)) },
                html! { b { (change) } },
            ]),
            None => same += 1,
        }
    }
    html! {
        @if !rows.is_empty() { (table(&["Figure", "A", "B", "Change"], &rows)) }
        @if same > 0 { p.note { (text::count(same, "figure")) " are the same in both, or within 1 %." } }
    }
}

/// How a figure changed; none if it did not.
fn change(before: &MetricValue, after: &MetricValue) -> Option<String> {
    if before == after {
        return None;
    }
    let known = before.compare(after).and_then(|_| magnitude(before).zip(magnitude(after)));
    match known {
        Some((from, to)) if from > 0.0 && to / from >= 10.0 => Some(format!("{:.0} times", to / from)),
        Some((from, to)) if from > 0.0 => {
            let share = (to / from - 1.0) * 100.0;
            (share.abs() >= 1.0).then(|| format!("{share:+.0}\u{a0}%"))
        }
        _ => Some("differs".to_owned()),
    }
}

fn writers(a: &Run, b: &Run, charts: &mut Charts) -> Markup {
    let mut out = html! {};
    let length = beside::longest(a).max(beside::longest(b));
    for (one, _) in common(a, b) {
        for (name, _) in beside::workers(a).iter().filter(|(_, is_writer)| *is_writer) {
            let runs = [(a, "A"), (b, "B")].into_iter().enumerate();
            let (mut over_time, mut distribution) = (Vec::new(), Vec::new());
            for (color, (run, tag)) in runs {
                let Some(index) = run.result.arms.iter().position(|arm| arm.name == one.name) else { continue };
                let view = &run.arms[index];
                if let Some(latencies) = view.latencies.get(name) {
                    over_time.push(series(tag, color, Style::Line, &view.axis, latencies));
                }
                let report = run.reports.get(&(index, name.clone())).and_then(|view| view.latencies.as_ref());
                distribution.extend(report.and_then(|times| beside::quantiles(tag, color, times)));
            }
            if over_time.len() == 2 || distribution.len() == 2 {
                let title = format!("{name} on {}", one.name);
                over_time.retain(|series| !series.x.is_empty());
                out = html! { (out) (beside::pair(&title, length, over_time, distribution, charts)) };
            }
        }
    }
    out
}
