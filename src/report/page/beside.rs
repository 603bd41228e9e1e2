//! The arms side by side: a table of what each suffered, latencies over time, and how they are distributed.
//!
//! Must not know: how they are measured. Invariant: an arm has the same colour everywhere.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use maud::{Markup, html};

use super::Charts;
use super::figures::{badge, figure, magnitude};
use crate::report::lanes::{Chart, Series, Style, Unit, series};
use crate::report::run::Run;
use crate::report::{float, seconds};
use crate::scenario::MetricValue;
use crate::scenario::result::ArmResult;

/// The same figure in each arm.
struct Row {
    label: String,
    values: Vec<Option<MetricValue>>,
    /// Whether bars compare the figures.
    bars: bool,
}

pub(super) fn section(run: &Run, charts: &mut Charts) -> Markup {
    let arms = &run.result.arms;
    let title = if arms.len() > 1 { "Side by side" } else { "What was suffered" };
    let rows = rows(run);
    html! {
        section {
            h2 { (title) }
            @if arms.len() > 1 {
                p.note { "The same workload with the same seed, one arm after the other, each on fresh storage." }
            }
            div.scroll {
                table.beside {
                    thead { tr {
                        th {}
                        @for (color, arm) in arms.iter().enumerate() {
                            th scope="col" { span class=(format!("key c{}", color % 8)) {} (arm.name) " " (badge(arm.verdict)) }
                        }
                    } }
                    tbody { @for row in &rows { (table_row(row)) } }
                }
            }
            (writer_charts(run, charts))
        }
    }
}

fn table_row(row: &Row) -> Markup {
    let most = row.values.iter().flatten().filter_map(magnitude).fold(0.0, f64::max);
    let share =
        |value: &MetricValue| magnitude(value).filter(|size| row.bars && *size > 0.0).map(|size| size / most * 100.0);
    html! {
        tr {
            th scope="row" { (row.label) }
            @for (color, value) in row.values.iter().enumerate() {
                td {
                    @match value {
                        Some(value) => {
                            (figure(value))
                            @if let Some(share) = share(value) {
                                div.bar { div class=(format!("c{}", color % 8)) style=(format!("width:{share:.1}%")) {} }
                            }
                        }
                        None => { "-" }
                    }
                }
            }
        }
    }
}

fn rows(run: &Run) -> Vec<Row> {
    let arms = &run.result.arms;
    let metric = |arm: &ArmResult, name: &str| arm.metrics.get(name).cloned();
    let row = |label: String, name: &str, bars: bool| Row {
        label,
        values: arms.iter().map(|arm| metric(arm, name)).collect(),
        bars,
    };
    let mut rows = Vec::new();
    for (name, is_writer) in workers(run) {
        if is_writer {
            rows.push(row(
                format!("{name}: longest wait for an acknowledgement"),
                &format!("{name}.ack_latency.max"),
                true,
            ));
            rows.push(row(format!("{name}: longest time without progress"), &format!("{name}.longest_gap"), false));
            rows.push(row(
                format!("{name}: longest time without a heartbeat"),
                &format!("{name}.heartbeat_gap"),
                false,
            ));
            rows.push(row(format!("{name}: records lost"), &format!("{name}.records_lost"), false));
        } else {
            rows.push(row(format!("{name}: took"), &format!("{name}.elapsed"), true));
        }
    }
    rows.push(row("Operations that the storage held".to_owned(), "volume.held", false));
    rows.push(row("Longest hold".to_owned(), "volume.longest_hold", true));
    let at_once = run.arms.iter().map(|arm| Some(MetricValue::count(arm.holds.most_at_once))).collect();
    rows.push(Row { label: "Held at the same moment, at most".to_owned(), values: at_once, bars: false });
    rows.push(row("Stunned for".to_owned(), "volume.stunned", false));
    rows.push(row("Times the pool was full".to_owned(), "pool.full", false));
    rows.push(row("Tasks that the kernel reported as hung".to_owned(), "kernel.hung_tasks", false));
    let says_something = |row: &Row| {
        let is_zero = |value: &MetricValue| magnitude(value) == Some(0.0);
        let keeps_zero = row.label.ends_with("lost") || row.label.starts_with("Operations");
        row.values.iter().flatten().any(|value| keeps_zero || !is_zero(value))
    };
    rows.into_iter().filter(says_something).collect()
}

/// Writers and commands in their order, each once; whether it is a writer.
pub(super) fn workers(run: &Run) -> Vec<(String, bool)> {
    let mut all: Vec<(String, bool)> = Vec::new();
    for writer in run.result.arms.iter().flat_map(|arm| &arm.writers) {
        if !all.iter().any(|(name, _)| *name == writer.name) {
            all.push((writer.name.clone(), writer.kind.starts_with("write ")));
        }
    }
    all
}

/// Of each writer: latency over time, and its distribution; one series an arm.
fn writer_charts(run: &Run, charts: &mut Charts) -> Markup {
    let mut out = html! {};
    for (name, _) in workers(run).iter().filter(|(_, is_writer)| *is_writer) {
        let over_time = run.arms.iter().enumerate().filter_map(|(color, arm)| {
            let latencies = arm.latencies.get(name)?;
            Some(series(&run.result.arms[color].name, color, Style::Line, &arm.axis, latencies))
        });
        let over_time: Vec<_> = over_time.filter(|series| !series.x.is_empty()).collect();
        let distribution = run.reports.iter().filter(|((_, writer), _)| writer == name);
        let distribution: Vec<_> = distribution
            .filter_map(|((arm, _), view)| quantiles(&run.result.arms.get(*arm)?.name, *arm, view.latencies.as_ref()?))
            .collect();
        out = html! { (out) (pair(name, longest(run), over_time, distribution, charts)) };
    }
    let holds = run
        .arms
        .iter()
        .enumerate()
        .filter_map(|(color, arm)| quantiles(&run.result.arms[color].name, color, arm.holds.times.as_ref()?));
    let holds: Vec<_> = holds.collect();
    html! {
        (out)
        @if !holds.is_empty() {
            div.pair.plots { figure {
                figcaption { "Operations that the storage held: how long" span.note { " of those that it held at all" } }
                (charts.add(Chart::Quantiles { series: holds }))
            } }
        }
    }
}

pub(super) fn longest(run: &Run) -> f64 {
    run.arms.iter().map(|arm| arm.axis.length()).fold(0.0, f64::max)
}

/// The two charts of a writer.
pub(super) fn pair(
    name: &str,
    length: f64,
    over_time: Vec<Series>,
    distribution: Vec<Series>,
    charts: &mut Charts,
) -> Markup {
    html! {
        @if !over_time.is_empty() || !distribution.is_empty() {
            h3.script { (name) }
            div.pair.plots {
                @if !over_time.is_empty() { figure {
                    figcaption { "Longest wait in each second" span.note { " from the beginning of the arm" } }
                    (charts.add(Chart::Plot {
                        unit: Unit::Seconds, log: true, group: "beside".to_owned(), length, series: over_time,
                    }))
                } }
                @if !distribution.is_empty() { figure {
                    figcaption { "How records were served" span.note { " how long the slowest of so many waited" } }
                    (charts.add(Chart::Quantiles { series: distribution }))
                } }
            }
        }
    }
}

/// A histogram by quantile: `x` is 1 / (1 - quantile): 10 is the slowest tenth, 1000 the slowest thousandth.
pub(super) fn quantiles(label: &str, color: usize, times: &Histogram<u64>) -> Option<Series> {
    if times.is_empty() {
        return None;
    }
    let all = float(times.len());
    let mut points: BTreeMap<u64, f64> = BTreeMap::new();
    // Ten points a decade, as far as there are records for it.
    for step in 0..=70_u32 {
        let x = 10_f64.powf(f64::from(step) / 10.0);
        let quantile = if x >= all { 1.0 } else { 1.0 - 1.0 / x };
        let latency = if x >= all { times.max() } else { times.value_at_quantile(quantile) };
        points.insert(bits(x.min(all)), seconds(latency.max(1)));
        if x >= all {
            break;
        }
    }
    let points = points.into_iter().map(|(x, y)| (f64::from_bits(x), y)).collect();
    Some(Series::new(label, color, Style::Line, points))
}

/// Positive numbers are in the order of their bits.
const fn bits(x: f64) -> u64 {
    x.to_bits()
}
