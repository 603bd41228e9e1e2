//! What is wrong with a disk, by what the kernel's tables say.
//!
//! Must not know: how it is mended. Invariant: looking asks no file system anything, so it never waits.

use std::fmt;

use super::disk_volume::DiskVolume;
use super::filesystem::mounts_of;
use super::loopdev::{self, Holds};
use super::record::DiskRecord;
use super::system::{ProcessId, boot};

/// Something that is wrong with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The machine was started again since.
    OtherBoot,
    /// The process that brought it up was killed before it was usable.
    Unfinished,
    /// The volume's process is dead.
    ProcessDead,
    /// The volume's process was stopped by a signal.
    ProcessStopped,
    /// The volume is not mounted any more.
    VolumeGone,
    /// The loop device has nothing, or something else, on it.
    DeviceGone,
    /// The loop device stands on a volume that is dead.
    DeviceOnDeadVolume,
    /// The file system is not mounted where it should be.
    NotMounted,
}

impl Fault {
    /// In words.
    pub const fn text(self) -> &'static str {
        match self {
            Self::OtherBoot => "left by an earlier boot",
            Self::Unfinished => "never got ready",
            Self::ProcessDead => "its daemon is dead",
            Self::ProcessStopped => "its daemon is stopped",
            Self::VolumeGone => "its volume is not mounted",
            Self::DeviceGone => "its loop device is detached",
            Self::DeviceOnDeadVolume => "its loop device stands on a dead volume",
            Self::NotMounted => "its file system is not mounted",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// All that is wrong with a disk. `is_busy`: another process is bringing it up or taking it down.
pub(super) fn faults(record: &DiskRecord, is_busy: bool) -> Vec<Fault> {
    if record.boot != boot() {
        return vec![Fault::OtherBoot];
    }
    if is_busy && !record.ready {
        return Vec::new();
    }
    let volume = DiskVolume(record);
    let is_dead = !volume.is_alive();
    let volume_gone = volume.mounted_connection().is_none();
    let device = record.device.as_ref();
    let has_device = device.is_some_and(|device| loopdev::holds(device) == Holds::Ours);
    let is_mounted = device.is_some_and(|device| {
        mounts_of(device.number).iter().any(|mount| Some(&mount.mountpoint) == record.mount.as_ref())
    });
    let found = [
        (!record.ready, Fault::Unfinished),
        (is_dead, Fault::ProcessDead),
        (record.process.is_some_and(ProcessId::is_stopped), Fault::ProcessStopped),
        (volume_gone, Fault::VolumeGone),
        (!has_device, Fault::DeviceGone),
        (has_device && (is_dead || volume_gone), Fault::DeviceOnDeadVolume),
        (record.mount.is_some() && !(is_mounted && has_device), Fault::NotMounted),
    ];
    found.into_iter().filter_map(|(is_so, fault)| is_so.then_some(fault)).collect()
}
