//! Messages as kernels from 2.6.32 on print them, each with the fault that it reports.
//!
//! Must not know: carriers. Invariant: each row is one message and gives one fault with its device.

use super::super::storage::storage;
use crate::telemetry::event::StorageFault::{self, *};

const PRINTED: &[(&str, StorageFault, Option<&str>)] = &[
    ("device-mapper: thin: 253:4: reached low water mark for metadata device: sending event.", LowSpace, Some("253:4")),
    ("device-mapper: thin: 253:4: switching pool to out-of-data-space (error IO) mode", OutOfSpace, Some("253:4")),
    ("sd 0:0:0:0: Device offlined - not ready after error recovery", DeviceGone, Some("0:0:0:0")),
    ("sd 0:0:0:0: [sda] rejecting I/O to device being removed", DeviceGone, Some("sda")),
    ("sd 0:0:0:0: rejecting I/O to dead device", DeviceGone, Some("0:0:0:0")),
    ("nvme nvme0: controller is down; will reset: CSTS=0xffffffff, PCI_STATUS=0x10", DeviceGone, Some("nvme0")),
    ("nvme nvme0: Device not ready; aborting reset, CSTS=0x1", Timeout, Some("nvme0")),
    ("nvme0n1: Write(0x1) @ LBA 12, 8 blocks, Capacity Exceeded (sct 0x0 / sc 0x81)", OutOfSpace, Some("nvme0n1")),
    ("end_request: I/O error, dev sda, sector 12", IoError, Some("sda")),
    ("Buffer I/O error on device sda1, logical block 12", BufferIoError, Some("sda1")),
    ("lost page write due to I/O error on sda1", BufferIoError, Some("sda1")),
    ("JBD2: Detected IO errors while flushing file data on sda1-8", Ext4Error, Some("sda1-8")),
    ("JBD2: Error -5 detected when updating journal superblock for sda1-8.", Ext4Error, Some("sda1-8")),
    ("JBD2: I/O error when updating journal superblock for sda1-8.", Ext4Error, Some("sda1-8")),
    ("JBD: I/O error detected when updating journal superblock for sda1.", Ext4Error, Some("sda1")),
    ("JBD2: Failed to read block at offset 12", Ext4Error, None),
    ("Aborting journal on device sda1-8.", JournalAborted, Some("sda1-8")),
    ("journal commit I/O error", IoError, None),
    ("XFS (sda1): log I/O error -5", XfsError, Some("sda1")),
    ("XFS (sda1): xfs_log_force: error -5 returned.", XfsError, Some("sda1")),
    ("XFS (sda1): User initiated shutdown received.", XfsShutdown, Some("sda1")),
    ("XFS (sda1): Failing async write on buffer block 0x12. Retrying async write.", XfsError, Some("sda1")),
    ("Filesystem \"sda1\": Log I/O Error Detected.  Shutting down filesystem: sda1", XfsShutdown, Some("sda1")),
    ("xfs_force_shutdown(sda1,0x2) called from line 1056 of file fs/xfs/xfs_log.c.", XfsShutdown, Some("sda1")),
    ("Filesystem \"sda1\": xfs_log_force: error 5 returned.", XfsError, Some("sda1")),
    ("EXT4-fs (sda1): This should not happen!! Data will be lost", Ext4Error, Some("sda1")),
    ("EXT4-fs (sda1): I/O error while writing superblock", Ext4Error, Some("sda1")),
    ("EXT4-fs (sda1): previous I/O error to superblock detected", Ext4Error, Some("sda1")),
    (
        "EXT4-fs warning (device sda1): ext4_end_bio:343: I/O error 10 writing to inode 12 starting block 1234)",
        Ext4Error,
        Some("sda1"),
    ),
    ("EXT4-fs error (device sda1) in ext4_reserve_inode_write:50: Journal has aborted", JournalAborted, Some("sda1")),
    ("EXT3-fs error (device sda1): ext3_journal_start_sb: Detected aborted journal", JournalAborted, Some("sda1")),
    ("EXT3-fs (sda1): error: remounting filesystem read-only", ReadOnly, Some("sda1")),
    ("Remounting filesystem read-only", ReadOnly, None),
];

#[test]
fn every_printed_message_gives_its_fault_and_device() {
    let mut wrong = Vec::new();
    for (text, fault, device) in PRINTED {
        let found = storage(text).and_then(Result::ok).map(|error| (error.fault, error.device));
        if found != Some((*fault, device.map(str::to_owned))) {
            wrong.push((text, found));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_fault_is_documented() {
    let text = include_str!("../../../../docs/kernel-log.md");
    for fault in StorageFault::ALL {
        let name = serde_json::to_value(fault).unwrap();
        let name = format!("| `{}` |", name.as_str().unwrap());
        assert!(text.contains(&name), "{name}");
    }
    for kind in ["hung-task", "soft-lockup", "nfs-server", "storage-error", "warning"] {
        assert!(text.contains(&format!("| `{kind}` |")), "{kind}");
    }
}
