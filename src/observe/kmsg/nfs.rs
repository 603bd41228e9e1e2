//! Messages of an NFS client about its server.
//!
//! Must not know: other lines. Invariant: one line, at most one finding.

use crate::telemetry::event::NfsState;

/// A server that is gone, or back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NfsServer {
    /// The server, as mounted.
    pub server: String,
    /// What became of it.
    pub state: NfsState,
}

/// `nfs: server 10.0.2.2 not responding, still trying`, and the lock daemon's lines of the same form.
pub(super) fn nfs(text: &str) -> Option<NfsServer> {
    let rest = ["nfs: server ", "lockd: server "].iter().find_map(|start| text.split_once(start))?.1;
    let (server, said) = rest.split_once(' ')?;
    let state = match said.trim_end() {
        "OK" => NfsState::Ok,
        "not responding, still trying" => NfsState::NotResponding,
        "not responding, timed out" => NfsState::TimedOut,
        _ => return None,
    };
    Some(NfsServer { server: server.to_owned(), state })
}
