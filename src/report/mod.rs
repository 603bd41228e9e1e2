//! The page of a run: a result folder's files go in, one self-contained HTML page comes out.
//!
//! Must not know: files, clocks, threads; who reads the folder passes its bytes in. Invariant: bytes of any kind give a page or a
//! [`ReportError`] with the place, never a panic, and what they say reaches the page only as text.

mod arm;
mod axis;
mod error;
mod holds;
mod lanes;
mod line;
mod page;
mod run;
mod sentence;
#[cfg(test)]
mod tests;

pub use error::ReportError;
pub use run::{ReportFile, Run, RunReader};
pub use sentence::verdict_sentence;

/// The page of one run.
pub fn page(run: &Run) -> String {
    page::single(run)
}

/// The page that compares two runs.
pub fn comparison(a: &Run, b: &Run) -> String {
    page::comparison(a, b)
}

/// A number as plots take it.
#[expect(
    clippy::cast_precision_loss,
    reason = "times of a run and counts are far below 2^53; beyond it a plot is not exact"
)]
const fn float(n: u64) -> f64 {
    n as f64
}

/// Microseconds as seconds.
const fn seconds(us: u64) -> f64 {
    float(us) / 1e6
}

/// The nearest whole number.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float becomes the nearest u64 there is")]
fn whole(number: f64) -> u64 {
    number.round() as u64
}
