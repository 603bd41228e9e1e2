//! What a caller gets whose operation is refused.
//!
//! Must not know: why it is refused. Invariant: no other place gives a refusal an errno.

use rustix::io::Errno;

use crate::model::Refusal;

/// The errno of a refusal, and its name for events.
pub const fn errno_of(refusal: Refusal) -> (Errno, &'static str) {
    match refusal {
        Refusal::PoolFull | Refusal::VolumeFull => (Errno::NOSPC, "ENOSPC"),
        Refusal::DataLost => (Errno::IO, "EIO"),
        Refusal::Disconnected => (Errno::NOTCONN, "ENOTCONN"),
    }
}
