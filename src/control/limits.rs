//! What a server of this room puts up with.
//!
//! Must not know: routes, sockets. Invariant: every limit has a value; there is no "without limit".

use std::time::Duration;

use crate::units::Bytes;

/// What a server puts up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; more are closed at once. At least 1.
    pub connections: u32,
    /// The largest body of a request.
    pub body: Bytes,
    /// How long a request's head, and then its body, may take to come in.
    pub read: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 256, body: Bytes::mib(1), read: Duration::from_secs(10) }
    }
}
