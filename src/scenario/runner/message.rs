//! What other threads tell the one that runs an arm.
//!
//! Must not know: what is done about it. Invariant: nothing here waits.

use super::command::ChildMessage;
use crate::observe::observation::Observation;
use crate::scenario::MetricValue;

/// A message to the thread that runs an arm.
#[derive(Debug)]
pub(super) enum ArmMessage {
    /// A child says something, or has ended.
    Child(usize, ChildMessage),
    /// A step has been carried out.
    Step(usize, Result<(), String>),
    /// A probe has a value, or could not be read.
    Probe(String, Option<MetricValue>),
    /// The observer saw something.
    Observed(Observation),
}
