//! What a volume tells of itself: events (JSON lines) and metrics (Prometheus text).
//!
//! Must not know: the engine, FUSE, the control socket. Invariant: telling never blocks the one who tells.

pub mod event;
pub mod events;
pub mod harness;
pub mod metrics;

mod line_file;
