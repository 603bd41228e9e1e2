//! What a volume tells of itself: events (JSON lines) and metrics (Prometheus text).
//!
//! Must not know: FUSE, the control socket. Invariant: telling never blocks the one who tells.

mod engine_report;
pub mod event;
pub mod events;
pub mod harness;
pub mod metrics;

mod line_file;
