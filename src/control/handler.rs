//! What a volume must be able to do for the control socket.
//!
//! Must not know: HTTP, sockets, how a volume works. Invariant: a call may wait, and answers after its effect.

use super::command::{Command, Reply};
use super::protocol::ControlRefusal;
use crate::telemetry::events::EventLog;

/// A volume, as the control socket sees it. Calls come from threads that may wait; each answers after its effect.
pub trait ControlHandler: Send + Sync + 'static {
    /// Carries out a command.
    ///
    /// # Errors
    /// The volume does not do it, and says why.
    fn execute(&self, command: Command) -> Result<Reply, ControlRefusal>;
    /// The volume's events.
    fn events(&self) -> EventLog;
    /// The volume's metrics as OpenMetrics text.
    fn metrics(&self) -> String;
}
