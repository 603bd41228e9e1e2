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

/// Programs of the kernel's RPC client that complain of servers.
const CLIENTS: [&str; 8] = ["nfs", "nfsacl", "lockd", "statd", "mount", "rpcbind", "portmap", "nfs4_cb"];

/// `nfs: server 10.0.2.2 not responding, still trying`, and the lock daemon's lines of the same form.
pub(super) fn nfs(text: &str) -> Option<NfsServer> {
    let (client, rest) = text.split_once(": server ")?;
    let (server, said) = rest.split_once(' ').filter(|_| CLIENTS.contains(&client))?;
    let said = said.trim().trim_end_matches('.');
    let state = match () {
        () if said == "OK" => NfsState::Ok,
        () if said == "not responding, still trying" => NfsState::NotResponding,
        () if said == "not responding, timed out" => NfsState::TimedOut,
        () => return None,
    };
    Some(NfsServer { server: server.to_owned(), state })
}
