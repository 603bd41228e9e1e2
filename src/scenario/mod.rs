//! Scenarios: a file goes in, a verdict comes out.
//!
//! Everything beside `runner` is pure: text, events and time go in; a scenario, steps and verdicts come out. The runner only
//! carries. Must not know: command lines, how a page is made. Invariant: a run ends in exactly one verdict, and never in
//! `pass` for want of evidence.

pub mod conditions;
pub mod evidence;
pub mod expectations;
pub mod figures;
pub mod judge;
pub mod metric;
pub mod result;
pub mod runner;
pub mod shipped;
pub mod spec;
pub mod timeline;

mod options;
mod read;
mod text;
pub mod writer_figures;

pub use metric::{Bounds, MetricValue};
pub use read::{Override, ReadError, read};
pub use spec::{SCHEMA_FILE, Scenario, schema};
pub use text::{SizeText, TimeText};
