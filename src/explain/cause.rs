//! What a log is most like, with the reasons.
//!
//! Must not know: how it is printed. Invariant: each cause names the lines that speak for it.

use serde::Serialize;

use super::{Explanation, Standstill};
use crate::telemetry::event::StorageFault;

/// What may have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CauseKind {
    /// A pool, a thin disk or a file system ran out of space.
    OutOfSpace,
    /// A device failed, was lost, or did not answer.
    DeviceFailure,
    /// The whole machine was paused, by its hypervisor most likely.
    MachineStun,
    /// Writes stalled, and others piled up behind them.
    StalledWrites,
    /// A FUSE server did not answer.
    FuseServer,
    /// An NFS server did not answer.
    NfsServer,
    /// A processor was kept busy in the kernel.
    BusyProcessor,
    /// A file system found its data damaged, or shut down, without a word from its device.
    FileSystemError,
}

/// What may have happened, and why that is thought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// What.
    pub kind: CauseKind,
    /// Why, a sentence each.
    pub reasons: Vec<String>,
}

/// A standstill from this length on is no busy driver any more, seconds.
const LONG: u64 = 60;

/// The lines that speak for a cause; none: nothing does.
type Reasons = fn(&Explanation) -> Vec<String>;

/// The causes that the log speaks for, the likeliest first.
pub(super) fn causes(found: &Explanation) -> Vec<Cause> {
    let kinds: [(CauseKind, Reasons); 8] = [
        (CauseKind::OutOfSpace, out_of_space),
        (CauseKind::DeviceFailure, device_failure),
        (CauseKind::MachineStun, machine_stun),
        (CauseKind::StalledWrites, stalled_writes),
        (CauseKind::FuseServer, fuse_server),
        (CauseKind::NfsServer, nfs_server),
        (CauseKind::BusyProcessor, busy_processor),
        (CauseKind::FileSystemError, file_system_error),
    ];
    let causes = kinds.into_iter().map(|(kind, reasons)| Cause { kind, reasons: reasons(found) });
    causes.filter(|cause| !cause.reasons.is_empty()).collect()
}

fn storage(found: &Explanation, kinds: &[StorageFault]) -> Vec<String> {
    found
        .storage
        .iter()
        .filter(|report| kinds.contains(&report.fault))
        .map(|report| report.raw.clone())
        .take(3)
        .collect()
}

fn out_of_space(found: &Explanation) -> Vec<String> {
    storage(found, &[StorageFault::OutOfSpace, StorageFault::LowSpace])
}

fn device_failure(found: &Explanation) -> Vec<String> {
    use StorageFault::{BufferIoError, DeviceGone, IoError, MetadataError, ReadOnly, Timeout};
    let of_devices = storage(found, &[IoError, BufferIoError, DeviceGone, MetadataError, Timeout]);
    if of_devices.is_empty() { storage(found, &[ReadOnly]) } else { of_devices }
}

fn machine_stun(found: &Explanation) -> Vec<String> {
    let idle =
        found.standstills.iter().filter(|standstill| standstill.is_of_an_idle_processor() || standstill.said >= LONG);
    let reason = |standstill: &Standstill| {
        let why = if standstill.is_of_an_idle_processor() {
            "the processor was idle, so no program kept it"
        } else {
            "no driver keeps a processor that long"
        };
        format!("CPU {} did not schedule for {} s and {why}", standstill.cpus[0], standstill.length_us / 1_000_000)
    };
    idle.map(reason).take(3).collect()
}

fn busy_processor(found: &Explanation) -> Vec<String> {
    let busy =
        found.standstills.iter().filter(|standstill| !standstill.is_of_an_idle_processor() && standstill.said < LONG);
    let reason = |standstill: &Standstill| {
        let seconds = standstill.length_us / 1_000_000;
        format!("{} ran on CPU {} for {seconds} s without a pause", standstill.task, standstill.cpus[0])
    };
    busy.map(reason).take(3).collect()
}

fn stalled_writes(found: &Explanation) -> Vec<String> {
    let is_of_storage = |resource: &str| !["FUSE reply", "NFS"].iter().any(|other| resource.starts_with(other));
    let mut by_resource: Vec<(&str, Vec<&str>)> = Vec::new();
    for task in &found.tasks {
        let Some(resource) = task.waits_for.as_deref().filter(|resource| is_of_storage(resource)) else { continue };
        match by_resource.iter_mut().find(|(known, _)| *known == resource) {
            Some((_, tasks)) => tasks.push(&task.task),
            None => by_resource.push((resource, vec![&task.task])),
        }
    }
    by_resource.sort_by_key(|(_, tasks)| std::cmp::Reverse(tasks.len()));
    let reason = |(resource, tasks): (&str, Vec<&str>)| match tasks.as_slice() {
        [one] => format!("{one} waited for: {resource}"),
        [first, ..] => format!("{} tasks waited for: {resource} ({first} among them)", tasks.len()),
        [] => String::new(),
    };
    by_resource.into_iter().map(reason).take(3).collect()
}

fn of_tasks(found: &Explanation, resource: &str) -> Vec<String> {
    let waits = found.tasks.iter().filter(|task| task.waits_for.as_deref().is_some_and(|it| it.starts_with(resource)));
    waits.map(|task| format!("{} waited for: {resource}", task.task)).take(3).collect()
}

fn fuse_server(found: &Explanation) -> Vec<String> {
    of_tasks(found, "FUSE reply")
}

fn nfs_server(found: &Explanation) -> Vec<String> {
    let silent = found.servers.iter().filter(|server| server.outages > 0);
    let mut reasons: Vec<String> = silent.map(|server| format!("{} did not answer", server.server)).take(3).collect();
    reasons.extend(of_tasks(found, "NFS"));
    reasons
}

fn file_system_error(found: &Explanation) -> Vec<String> {
    use StorageFault::{Ext4Error, FilesystemError, JournalAborted, XfsError, XfsShutdown};
    if !device_failure(found).is_empty() || !out_of_space(found).is_empty() {
        return Vec::new();
    }
    storage(found, &[XfsShutdown, XfsError, JournalAborted, Ext4Error, FilesystemError])
}
