//! The time line of each arm: bands of what was injected and said, lanes of what was suffered; and the same as tables.
//!
//! Must not know: how events become lanes. Invariant: no lane is empty, and each figure can be read without a script.

use maud::{Markup, html};

use super::Charts;
use super::figures::{badge, grouped, table};
use crate::report::arm::ArmView;
use crate::report::lanes::{Chart, Lane, Series, Style, Unit};
use crate::report::run::Run;
use crate::units::text;

/// Rows of the time line as a table.
const SLICES: u32 = 20;
/// Series that have a column of their own in it.
const COLUMNS: usize = 16;

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
        details.instead open {
            summary { "What happened, as a table" }
            (table(&["After", "What"], &moments))
            @if view.left_out > 0 { p.note { "and " (view.left_out) " more; they stand in events.jsonl" } }
        }
        details.instead.slices open {
            summary { "The time line as a table" }
            (slices(view))
        }
    }
}

/// The greatest figures of each twentieth, lane by lane.
fn slices(view: &ArmView) -> Markup {
    let many = |lane: &Lane| lane.series.len() > 1;
    let columns = view.lanes.iter().flat_map(|lane| lane.series.iter().map(move |series| (lane, series)));
    let columns: Vec<_> = columns.filter(|(_, series)| series.style != Style::Dashes).take(COLUMNS).collect();
    let title = |(lane, series): &(&Lane, &Series)| match many(lane) {
        true => format!("{}: {}", lane.title, series.label),
        false => lane.title.clone(),
    };
    let titles: Vec<String> = columns.iter().map(title).collect();
    let head: Vec<&str> = std::iter::once("From").chain(titles.iter().map(String::as_str)).collect();
    let wide = view.axis.length() / f64::from(SLICES);
    let rows = (0..SLICES).map(|slice| {
        let (from, to) = (f64::from(slice) * wide, f64::from(slice + 1) * wide);
        let most = |series: &Series| {
            let within = series.x.iter().zip(&series.y).filter(|(x, _)| **x >= from && **x < to);
            within.map(|(_, y)| *y).reduce(f64::max)
        };
        let cell = |(lane, series): &(&Lane, &Series)| {
            let text = most(series).map_or_else(|| "-".to_owned(), |figure| in_unit(lane.unit, figure));
            html! { (text) }
        };
        std::iter::once(html! { (in_unit(Unit::Seconds, from)) }).chain(columns.iter().map(cell)).collect()
    });
    table(&head, &rows.collect::<Vec<_>>())
}

/// A lane's figure with its unit.
fn in_unit(unit: Unit, figure: f64) -> String {
    match unit {
        Unit::Seconds if figure == 0.0 => "0 s".to_owned(),
        Unit::Seconds => text::time(std::time::Duration::try_from_secs_f64(figure).unwrap_or_default()),
        Unit::Count => grouped((figure * 10.0).round() / 10.0),
        Unit::PerSecond => format!("{}/s", grouped((figure * 10.0).round() / 10.0)),
        Unit::Percent => format!("{figure:.0}\u{a0}%"),
        Unit::Bytes => text::size(crate::report::whole(figure)),
    }
}
