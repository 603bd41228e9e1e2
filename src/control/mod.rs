//! A running volume's control socket: HTTP and JSON over a Unix socket, its client, and the metrics port.
//!
//! Must not know: FUSE, the engine; a volume is a [`ControlHandler`]. Invariant: a request is acknowledged after its effect, and
//! no client, however it behaves, holds up the volume or another client.

mod client;
mod command;
mod handler;
mod limits;
mod protocol;
mod routes;
mod server;
mod socket;
mod stream;

pub use client::{Client, ClientError, EventLines, HttpReply};
pub use command::{Command, OptionChanges, OptionChangesError, Reply, SETTLE, WAIT_HELD};
pub use handler::ControlHandler;
pub use limits::Limits;
pub use protocol::{
    ArmReply, ControlRefusal, DiscardReply, EventsStatus, GrowReply, HeldOp, HeldPage, OperationCounters, ReleaseReply,
    ResumeReply, Status, StatusReply, StopReply, StunReply, StunStatus, WaitHeldReply, WaitsFor,
};
pub use server::{ControlServer, MetricsServer};
pub(crate) use socket::is_of_an_ending_volume;
pub use socket::{ControlError, FindError, default_socket, find_socket};

#[cfg(test)]
mod tests;
