//! The page: HTML with its styles, its script and its figures in one file.
//!
//! Must not know: files, how figures are measured. Invariant: it names no address on any network, all text passes `maud`'s escaping,
//! and without a script everything is there as tables.

mod again;
mod assets;
mod beside;
mod compare;
mod figures;
mod suffering;
mod timeline;
mod verdict;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::lanes::Chart;
use super::run::Run;

/// No network, whatever a text in the page might try.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// The charts of a page, in their order.
#[derive(Debug, Default)]
struct Charts(Vec<Chart>);

impl Charts {
    /// The place where the script draws `chart`.
    fn add(&mut self, chart: Chart) -> Markup {
        let number = self.0.len();
        let height = match &chart {
            Chart::Bands { .. } => "bands",
            Chart::Quantiles { .. } => "tall",
            Chart::Plot { .. } => "plot",
        };
        self.0.push(chart);
        html! { div class=(format!("chart {height}")) data-chart=(number) aria-hidden="true" {} }
    }

    /// For a script element: no character in it can end one.
    fn json(&self) -> String {
        serde_json::to_string(&self.0).unwrap_or_else(|_| "[]".to_owned()).replace('<', "\\u003c")
    }
}

/// One run.
pub(super) fn single(run: &Run) -> String {
    let mut charts = Charts::default();
    let body = html! {
        (verdict::header(run))
        (beside::section(run, &mut charts))
        (verdict::expectations(run))
        (timeline::section(run, "", &mut charts))
        (suffering::section(run))
        (again::section(run))
    };
    shell(&format!("{}: {}", run.result.scenario, run.result.verdict), &body, &charts)
}

/// Two runs.
pub(super) fn comparison(a: &Run, b: &Run) -> String {
    let mut charts = Charts::default();
    let body = html! {
        (compare::header(a, b))
        (compare::section(a, b, &mut charts))
        @for (run, name) in [(a, "A"), (b, "B")] {
            (timeline::section(run, name, &mut charts))
        }
        @for (run, name) in [(a, "A"), (b, "B")] {
            div.run-of { (compare::tag(name)) " " (run.label) }
            (verdict::expectations(run))
            (suffering::section(run))
            (again::section(run))
        }
    };
    shell(&format!("{} and {}", a.label, b.label), &body, &charts)
}

fn shell(title: &str, body: &Markup, charts: &Charts) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { (title) " - stunfs" }
                style { (PreEscaped(assets::uplot_css())) (PreEscaped(assets::CSS)) }
            }
            body {
                main { (body) }
                footer {
                    "Made by stunfs " (env!("CARGO_PKG_VERSION")) ". Plots: uPlot " (assets::UPLOT_VERSION) ". "
                    "This page is one file and asks no network."
                    details { summary { "Licence of uPlot" } pre { (assets::UPLOT_LICENSE) } }
                }
                script #charts type="application/json" { (PreEscaped(charts.json())) }
                script { (PreEscaped(assets::uplot_js())) }
                script { (PreEscaped(assets::JS)) }
            }
        }
    };
    page.into_string()
}
