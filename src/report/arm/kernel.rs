//! What kernels said, in words.
//!
//! Must not know: how their logs are read. Invariant: one moment a message.

use super::ArmCollector;
use crate::report::lanes::BandKind;
use crate::report::line::Line;

impl ArmCollector {
    /// Takes an event that a kernel's log became.
    pub(super) fn kernel(&mut self, line: &Line<'_>) {
        let at = line.at_us.map_or(line.at(), |at| line.in_run(at));
        self.point(BandKind::Kernel, at, in_words(line));
    }
}

fn in_words(line: &Line<'_>) -> String {
    let task = line.task.as_deref().unwrap_or("?");
    let pid = line.pid.unwrap_or(0);
    let seconds = line.seconds.unwrap_or(0);
    match line.event.as_ref() {
        "hung-task" => {
            let what = line.waits_for.as_deref().map(|what| format!(", it waits for: {what}")).unwrap_or_default();
            let long = line.seconds.map(|seconds| format!(" for more than {seconds} s")).unwrap_or_default();
            format!("kernel: task {task} ({pid}) is blocked{long}{what}")
        }
        "soft-lockup" => {
            let cpu = line.cpu.unwrap_or(0);
            format!("kernel: soft lockup, CPU {cpu} was stuck for {seconds} s ({task})")
        }
        "nfs-server" => {
            let server = line.server.as_deref().unwrap_or("?");
            format!("kernel: NFS server {server} {}", line.state.as_deref().unwrap_or("?").replace('-', " "))
        }
        _ => {
            let device = line.device.as_deref().map(|device| format!(" of {device}")).unwrap_or_default();
            format!("kernel: storage error{device}: {}", line.fault.as_deref().unwrap_or("?").replace('-', " "))
        }
    }
}
