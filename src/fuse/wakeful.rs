//! Asks the kernel that idle processors wait awake (PM QoS, `/dev/cpu_dma_latency`).
//!
//! A processor that polls while it is idle is given work without an interrupt, which costs who gives it 10 us in a virtual machine.
//!
//! Must not know: why. Invariant: the request ends with the value, and with the process, however that ends.

use std::fs::{File, OpenOptions};
use std::io::Write;

/// The interface: a 32-bit number of microseconds, in force while the file is open.
/// <https://www.kernel.org/doc/html/latest/power/pm_qos_interface.html>
const DEVICE: &str = "/dev/cpu_dma_latency";

/// A request in force.
#[derive(Debug)]
pub(super) struct Wakeful {
    _open: File,
}

impl Wakeful {
    /// Makes the request; none if this process may not (it belongs to root).
    pub(super) fn request() -> Option<Self> {
        let mut file = OpenOptions::new().write(true).open(DEVICE).ok()?;
        file.write_all(&0_i32.to_ne_bytes()).ok()?;
        Some(Self { _open: file })
    }
}
