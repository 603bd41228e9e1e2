//! Figures as a page shows them, and tables of them.
//!
//! Must not know: what they mean. Invariant: a figure has its unit; one that is missing is a dash, never 0.

use maud::{Markup, html};

use crate::report::float;
use crate::scenario::MetricValue;
use crate::scenario::result::Verdict;
use crate::units::text;

/// A cell with more characters may break.
const LONG_CELL: usize = 40;

pub(super) fn figure(value: &MetricValue) -> String {
    match value {
        MetricValue::Count(n) => grouped(*n),
        MetricValue::Micros(0) => "0 s".to_owned(),
        MetricValue::Micros(us) => text::micros(*us),
        MetricValue::PerSecond(rate) => format!("{}/s", grouped((rate * 10.0).round() / 10.0)),
        MetricValue::Bytes(bytes) => text::size(*bytes),
        MetricValue::Flag(flag) => flag.to_string(),
        MetricValue::Text(text) => text.clone(),
    }
}

/// `12345.5` as `12 345.5`, with thin spaces.
pub(super) fn grouped(n: f64) -> String {
    let text = n.abs().to_string();
    let (whole, part) = text.split_once('.').map_or((text.as_str(), None), |(whole, part)| (whole, Some(part)));
    let mut out = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 && whole.len() > 4 {
            out.push('\u{2009}');
        }
        out.push(digit);
    }
    let part = part.map(|part| format!(".{part}")).unwrap_or_default();
    format!("{}{out}{part}", if n < 0.0 { "-" } else { "" })
}

pub(super) fn number(n: u64) -> String {
    grouped(float(n))
}

/// The size of a figure in its unit, for bars.
pub(super) const fn magnitude(value: &MetricValue) -> Option<f64> {
    match value {
        MetricValue::Count(n) | MetricValue::PerSecond(n) => Some(*n),
        MetricValue::Micros(n) | MetricValue::Bytes(n) => Some(float(*n)),
        MetricValue::Flag(_) | MetricValue::Text(_) => None,
    }
}

/// A verdict as a mark with its word.
pub(super) fn badge(verdict: Verdict) -> Markup {
    html! { span class=(format!("badge {}", verdict.name())) { (verdict.name()) } }
}

/// A table. Where it is too wide for the screen each row becomes a list of its cells with their heads.
pub(super) fn table(head: &[&str], rows: &[Vec<Markup>]) -> Markup {
    // Texts break, figures do not.
    let class = |cell: &Markup| if cell.0.len() > LONG_CELL { "long" } else { "" };
    html! {
        div.scroll {
            table.cards {
                thead { tr { @for cell in head { th scope="col" { (cell) } } } }
                tbody {
                    @for row in rows {
                        tr { @for (at, cell) in row.iter().enumerate() {
                            td class=(class(cell)) data-label=(head.get(at).unwrap_or(&"")) { div { (cell) } }
                        } }
                    }
                }
            }
        }
    }
}

/// `share` of 1 as per cent.
pub(super) fn percent(share: f64) -> String {
    if share > 0.0 && share < 0.01 { "<\u{a0}1\u{a0}%".to_owned() } else { format!("{:.0}\u{a0}%", share * 100.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_units_and_are_grouped() {
        let shown = [
            MetricValue::Count(1_234_567.0),
            MetricValue::Count(1234.0),
            MetricValue::PerSecond(123_456.78),
            MetricValue::Micros(5_900_000),
            MetricValue::Bytes(1 << 30),
        ]
        .map(|value| figure(&value).replace('\u{2009}', " "));
        assert_eq!(shown, ["1 234 567", "1234", "123 456.8/s", "5.9 s", "1 GiB"]);
        assert_eq!((percent(0.004), percent(0.5)), ("<\u{a0}1\u{a0}%".to_owned(), "50\u{a0}%".to_owned()));
    }
}
