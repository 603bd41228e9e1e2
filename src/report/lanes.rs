//! What a page draws: bands of time, and plots. The form in which the page's script reads them.
//!
//! Must not know: where figures come from, HTML. Invariant: a plot without points is never made.

use serde::Serialize;

use super::axis::{Axis, Extremes};

/// The unit of a plot's figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Unit {
    Seconds,
    Count,
    Bytes,
    PerSecond,
    Percent,
}

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Style {
    Line,
    /// As it was until the next point.
    Steps,
    /// From zero to each figure.
    Bars,
    /// A limit.
    Dashes,
}

/// One series of a plot.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Series {
    pub(super) label: String,
    /// The number of its colour.
    pub(super) color: usize,
    pub(super) style: Style,
    pub(super) x: Vec<f64>,
    pub(super) y: Vec<f64>,
}

impl Series {
    pub(super) fn new(label: impl Into<String>, color: usize, style: Style, points: Vec<(f64, f64)>) -> Self {
        let (x, y) = points.into_iter().map(|(x, y)| (short(x), short(y))).unzip();
        Self { label: label.into(), color, style, x, y }
    }
}

/// Six digits after the point are microseconds.
fn short(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}

/// What is drawn with axes.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub(super) enum Chart {
    /// Figures over time.
    Plot {
        unit: Unit,
        /// Powers of ten are equally far apart.
        log: bool,
        /// Charts of one group are zoomed together.
        group: String,
        /// Seconds that the axis is long.
        length: f64,
        series: Vec<Series>,
    },
    /// Bands of time, one row a kind.
    Bands { group: String, length: f64, rows: Vec<BandRow> },
    /// How long the slowest part of all took: `x` is 1 / (1 - quantile).
    Quantiles { series: Vec<Series> },
}

/// Bands of one kind.
#[derive(Debug, Clone, Serialize)]
pub(super) struct BandRow {
    pub(super) kind: BandKind,
    pub(super) label: &'static str,
    pub(super) bands: Vec<Band>,
}

/// From when to when, in seconds since the arm's beginning, and what it was.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Band {
    pub(super) from: f64,
    pub(super) until: f64,
    pub(super) text: String,
}

/// What a band says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum BandKind {
    Step,
    Stun,
    Frozen,
    FirstWrite,
    Space,
    Disarmed,
    Command,
    PileUp,
    Kernel,
    Harness,
}

impl BandKind {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Step => "steps",
            Self::Stun => "stun",
            Self::Frozen => "frozen",
            Self::FirstWrite => "first writes",
            Self::Space => "pool",
            Self::Disarmed => "disarmed",
            Self::Command => "commands",
            Self::PileUp => "pile-ups",
            Self::Kernel => "kernel",
            Self::Harness => "harness late",
        }
    }
}

/// A named plot of an arm's time line.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    pub(super) title: String,
    pub(super) note: &'static str,
    pub(super) unit: Unit,
    pub(super) log: bool,
    pub(super) series: Vec<Series>,
}

impl Lane {
    /// A lane of series that have points; none if there are none.
    pub(super) fn new(title: impl Into<String>, unit: Unit, series: Vec<Series>) -> Option<Self> {
        let series: Vec<_> = series.into_iter().filter(|series| !series.x.is_empty()).collect();
        let lane = Self { title: title.into(), note: "", unit, log: false, series };
        (!lane.series.is_empty()).then_some(lane)
    }

    pub(super) fn log(self) -> Self {
        Self { log: true, ..self }
    }

    pub(super) fn note(self, note: &'static str) -> Self {
        Self { note, ..self }
    }
}

/// The figures of `extremes` as a series.
pub(super) fn series(label: impl Into<String>, color: usize, style: Style, axis: &Axis, extremes: &Extremes) -> Series {
    let points = match style {
        Style::Bars => extremes.peaks(axis),
        _ => extremes.points(axis),
    };
    Series::new(label, color, style, points)
}
