//! The time line of each arm: bands of what was injected and said, lanes of what was suffered; and the same as tables.
//!
//! Must not know: how events become lanes. Invariant: no lane is empty, and each figure can be read without a script.

use maud::{Markup, html};

use super::Charts;
use super::figures::{badge, table};
use crate::report::arm::ArmView;
use crate::report::lanes::{Chart, Lane};
use crate::report::run::Run;
use crate::units::text;

/// Rows of the time line as a table.
const SLICES: usize = 20;
/// Writers that have a column of their own in it.
const COLUMNS: usize = 5;

pub(super) fn section(run: &Run, name: &str, charts: &mut Charts) -> Markup {
    let arms = run.result.arms.iter().zip(&run.arms).enumerate();
    html! {
        section {
            h2 { "Time line" @if !name.is_empty() { " of " (super::compare::tag(name)) } }
            p.note.script { "Drag to zoom in, double-click to zoom out; all lanes of an arm move together." }
            @for (number, (result, view)) in arms {
                div.arm {
                    h3 { span class=(format!("key c{}", number % 8)) {} (result.name) " " (badge(result.verdict)) }
                    (lanes(view, &format!("{name}{number}"), charts))
                    (as_tables(view))
                }
            }
        }
    }
}

fn lanes(view: &ArmView, group: &str, charts: &mut Charts) -> Markup {
    let length = view.axis.length();
    let group = group.to_owned();
    html! {
        @if !view.bands.is_empty() {
            div.lane { div.what { b { "What happened" } span.note { "injected, and said by kernels" } }
                (charts.add(Chart::Bands { group: group.clone(), length, rows: view.bands.clone() })) }
        }
        @for lane in &view.lanes {
            div.lane { div.what { b { (lane.title) } span.note { (lane.note) } } (plot(lane, &group, length, charts)) }
        }
        @for (probe, figure) in &view.constant { p.note { "The probe " (probe) " was " (figure) " all the time." } }
        @if view.holds.count == 0 { p.note { "The storage held no operation in this arm." } }
    }
}

fn plot(lane: &Lane, group: &str, length: f64, charts: &mut Charts) -> Markup {
    let (unit, log, series) = (lane.unit, lane.log, lane.series.clone());
    charts.add(Chart::Plot { unit, log, group: group.to_owned(), length, series })
}

fn as_tables(view: &ArmView) -> Markup {
    let begin = view.axis.begin_us();
    let moments = view.moments.iter().map(|moment| {
        let sign = if moment.at < begin { "-" } else { "" };
        vec![html! { (sign) (text::micros(moment.at.abs_diff(begin))) }, html! { (moment.what) }]
    });
    let moments: Vec<_> = moments.collect();
    html! {
        details {
            summary { "What happened, as a table" }
            (table(&["After", "What"], &moments))
            @if view.left_out > 0 { p.note { "and " (view.left_out) " more; they stand in events.jsonl" } }
        }
        details {
            summary { "The time line as a table" }
            (slices(view))
        }
    }
}

/// The greatest figures of each twentieth.
fn slices(view: &ArmView) -> Markup {
    let writers: Vec<_> = view.latencies.iter().take(COLUMNS).collect();
    let mut head = vec!["From", "Held at once", "Longest wait"];
    let names: Vec<String> = writers.iter().map(|(name, _)| format!("{name}: longest")).collect();
    head.extend(names.iter().map(String::as_str));
    let pieces = view.axis.pieces();
    let wide = pieces.div_ceil(SLICES).max(1);
    let time = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), in_seconds);
    let rows = (0..pieces).step_by(wide).map(|from| {
        let at = view.axis.length() / super::super::float(whole(pieces)) * super::super::float(whole(from));
        let mut row = vec![
            html! { (in_seconds(at)) },
            html! { (view.holds.depth.most_between(from, from + wide).unwrap_or(0.0)) },
            html! { (time(view.holds.wait.most_between(from, from + wide))) },
        ];
        row.extend(writers.iter().map(|(_, figures)| html! { (time(figures.most_between(from, from + wide))) }));
        row
    });
    table(&head, &rows.collect::<Vec<_>>())
}

fn whole(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn in_seconds(seconds: f64) -> String {
    text::time(std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default())
}
