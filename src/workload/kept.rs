//! Which records a writer knows to be kept.
//!
//! Must not know: how they were written. Invariant: the ranges are in order and do not touch.

use serde::{Deserialize, Serialize};

/// Records of one writer, as inclusive ranges of their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The writer.
    pub writer: String,
    /// First and last number of each range.
    pub records: Vec<(u64, u64)>,
}
