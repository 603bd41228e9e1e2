//! What the crate reads from and asks of the running system, each in one place.
//!
//! Must not know: volumes, file systems, options. Invariant: no room above is named here.

pub mod memory;
pub mod pm_qos;
