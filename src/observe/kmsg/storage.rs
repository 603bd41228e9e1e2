//! Which rows of the tables a message is looked up in.
//!
//! Must not know: carriers, other messages. Invariant: one message, at most one finding.

use super::devices::{ADAPTERS, BLOCK, MAPPED, NVME, SCSI};
use super::filesystems::{BTRFS, EXT, JOURNAL, OTHERS, XFS};
use super::pattern::Gaps;
use super::rule::{Kind, Notice, Rule, look_up};
use super::watchdogs::WATCHDOGS;
use crate::telemetry::event::StorageFault;

/// Something that storage did wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageError {
    /// What kind.
    pub fault: StorageFault,
    /// The device, if the line names one.
    pub device: Option<String>,
    /// The sector (512 bytes) or logical block, if the line names one.
    pub sector: Option<u64>,
}

/// Functions and subsystems that put their name in front of a message, in some kernels and not in others.
const SUBSYSTEMS: [&str; 11] = [
    "blk_update_request: ",
    "print_req_error: ",
    "end_request: ",
    "__ratelimit: ",
    "NMI watchdog: ",
    "watchdog: ",
    "rcu: ",
    "clocksource: ",
    "tsc: ",
    "hrtimer: ",
    "Buffer I/O error: ",
];

/// Tables for all messages, in the order in which they are tried.
const TABLES: [&[Rule]; 8] = [BLOCK, MAPPED, XFS, JOURNAL, BTRFS, OTHERS, ADAPTERS, WATCHDOGS];

/// What a message says of storage, or of the kernel itself.
pub(super) fn storage(text: &str) -> Option<Result<StorageError, Notice>> {
    let text = without_subsystem(text);
    let (device, found) =
        in_own_table(text).map_or_else(|| (None, in_tables(text)), |(device, found)| (device, Some(found)));
    let (kind, gaps) = found?;
    match kind {
        Kind::Fault(fault) => {
            let device = gaps.device.or_else(|| device.map(str::to_owned));
            Some(Ok(StorageError { fault, device, sector: gaps.number }))
        }
        Kind::Notice(notice) => Some(Err(notice)),
        Kind::Healthy => None,
    }
}

/// Without the names that only some kernels put in front.
pub(super) fn without_subsystem(text: &str) -> &str {
    let mut rest = text;
    while let Some(after) = SUBSYSTEMS.iter().find_map(|name| rest.strip_prefix(name)) {
        rest = after.trim_start();
    }
    rest
}

fn in_tables(text: &str) -> Option<(Kind, Gaps)> {
    TABLES.iter().find_map(|table| look_up(table, text))
}

/// Messages whose beginning names a device.
fn in_own_table(text: &str) -> Option<(Option<&str>, (Kind, Gaps))> {
    let (device, rest, table) = ext(text)
        .map(|rest| (None, rest, EXT))
        .or_else(|| scsi(text).map(|(device, rest)| (device, rest, SCSI)))
        .or_else(|| nvme(text).map(|(device, rest)| (Some(device), rest, NVME)))?;
    look_up(table, rest).map(|found| (device, found))
}

/// `EXT4-fs `, `EXT3-fs `.
fn ext(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("EXT")?;
    ["4-fs ", "3-fs ", "2-fs "].iter().find_map(|name| rest.strip_prefix(name))
}

/// `sd 0:0:0:0: [sda] tag#12 ...`; kernels before 3.18 print the sense without any of it on a line of its own.
fn scsi(text: &str) -> Option<(Option<&str>, &str)> {
    if text.starts_with("Add. Sense: ") || text.starts_with("Sense Key : ") {
        return Some((None, text));
    }
    let rest = ["sd ", "sr ", "st ", "scsi ", "ses "].iter().find_map(|driver| text.strip_prefix(driver))?;
    let (address, rest) = rest.split_once(": ")?;
    let is_address = address.split(':').count() == 4 && address.bytes().all(|b| b.is_ascii_digit() || b == b':');
    if !is_address && !address.starts_with("host") {
        return None;
    }
    let rest = rest.trim_start();
    let named = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (device, rest) = named.map_or((address, rest), |(name, rest)| (name, rest.trim_start()));
    let tagged = rest.strip_prefix("tag#").and_then(|rest| rest.split_once(' '));
    Some((Some(device), tagged.map_or(rest, |(_, rest)| rest.trim_start())))
}

/// `nvme nvme0: ...`, `nvme 0000:00:04.0: ...`, `nvme0n1: ...`.
fn nvme(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.split_once(": ")?;
    let device = name.strip_prefix("nvme ").unwrap_or(name);
    let is_device = device.starts_with("nvme") && !device.contains(' ') || device.split(':').count() == 3;
    (name.starts_with("nvme") && is_device).then_some((device, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Option<(StorageFault, Option<String>, Option<u64>)> {
        storage(text).and_then(Result::ok).map(|error| (error.fault, error.device, error.sector))
    }

    #[test]
    fn devices_are_named_in_many_ways() {
        use StorageFault::{DeviceGone, OutOfSpace, Timeout};
        for (text, kind, device) in [
            ("sd 0:0:0:0: [sda] tag#9 task abort on host 0, 00000000a1", Timeout, Some("sda")),
            ("sd 0:0:0:0: [sda] timing out command, waited 180s", Timeout, Some("sda")),
            ("sd 1:0:0:0: rejecting I/O to offline device", DeviceGone, Some("1:0:0:0")),
            ("sd 2:0:0:0: [sdb]  Add. Sense: Space allocation failed write protect", OutOfSpace, Some("sdb")),
            ("Add. Sense: Space allocation failed write protect", OutOfSpace, None),
            ("nvme nvme0: I/O 12 QID 3 timeout, aborting", Timeout, Some("nvme0")),
            ("nvme 0000:00:04.0: I/O 12 QID 3 timeout, completion polled", Timeout, Some("0000:00:04.0")),
            (
                "nvme nvme1: I/O tag 5 (1005) opcode 0x1 (I/O Cmd) QID 2 timeout, aborting req_op:WRITE(1)",
                Timeout,
                Some("nvme1"),
            ),
            ("block nvme0n1: no available path - failing I/O", DeviceGone, Some("nvme0n1")),
        ] {
            assert_eq!(fault(text), Some((kind, device.map(str::to_owned), None)), "{text}");
        }
    }

    #[test]
    fn old_kernels_and_rarer_words() {
        use StorageFault::{BufferIoError, DeviceGone, FilesystemError, IoError, MetadataError, ReadOnly, Timeout};
        for (text, kind, device, sector) in [
            ("sd 3:0:0:0: [sdc] tag#1 Result: hostbyte=0x01 driverbyte=DRIVER_OK", DeviceGone, Some("sdc"), None),
            ("sd 3:0:0:0: [sdc] tag#1 Result: hostbyte=DID_OK driverbyte=DRIVER_TIMEOUT", Timeout, Some("sdc"), None),
            ("nvme nvme0: Failed status: 0x3, reset controller", DeviceGone, Some("nvme0"), None),
            ("nvme nvme0: ANATT timeout, resetting controller.", Timeout, Some("nvme0"), None),
            ("device-mapper: thin: process_cell: dm_thin_find_block() failed: error = -5", MetadataError, None, None),
            ("device-mapper: thin: 253:2: dm_thin_find_block() failed: error = -5", MetadataError, Some("253:2"), None),
            ("device-mapper: array: array_block_check failed: blocknr 1", MetadataError, None, None),
            ("dm-3: writeback error on inode 131, offset 0, sector 8", IoError, Some("dm-3"), Some(8)),
            ("VFS: Dirty inode writeback failed for block device sda1 (err=-5).", BufferIoError, Some("sda1"), None),
            ("raid1: Disk failure on sdb1, disabling device.", DeviceGone, Some("sdb1"), None),
            ("block nbd0: Dead connection, failed to find a fallback", DeviceGone, Some("nbd0"), None),
            ("F2FS-fs (sda1): Remounting filesystem read-only", ReadOnly, Some("sda1"), None),
            ("NFS: nfs4_reclaim_open_state: Lock reclaim failed!", FilesystemError, None, None),
        ] {
            assert_eq!(fault(text), Some((kind, device.map(str::to_owned), sector)), "{text}");
        }
        for (text, kind, device) in [
            ("JBD2: journal transaction 5 on sda1-8 is corrupt.", StorageFault::Ext4Error, "sda1-8"),
            ("ata1.00: exception Emask 0x0 SAct 0x0 SErr 0x0 action 0x6 frozen", Timeout, "ata1.00"),
            ("device-mapper: multipath: 253:4: Failing path 8:16.", DeviceGone, "8:16"),
            ("CIFS: VFS: \\\\192.0.2.7 has not responded in 180 seconds. Reconnecting...", Timeout, "\\\\192.0.2.7"),
            ("mmcblk0: timed out sending r/w cmd command, card status 0x900", IoError, "mmcblk0"),
        ] {
            assert_eq!(fault(text), Some((kind, Some(device.to_owned()), None)), "{text}");
        }
        assert_eq!(fault("sd 3:0:0:0: [sdc] tag#1 Result: hostbyte=0x00 driverbyte=DRIVER_OK"), None);
        assert_eq!(fault("app says: dm-3: writeback error on inode 131, offset 0, sector 8"), None);
    }

    #[test]
    fn faults_that_a_tester_asks_for_and_options_are_no_faults() {
        for text in [
            "XFS (sda1): Injecting error (false) at file fs/xfs/xfs_buf.c, line 12, on filesystem \"sda1\"",
            "XFS (sda1): reset fs: errortag",
            "F2FS-fs (sda1): switch errors=panic",
            "F2FS-fs (sda1) : inject read IO error in f2fs_read_end_io of bio_endio+0x1/0x2",
            "BTRFS error (device sda1): superblock checksum type 9 is not known",
            "BTRFS error (device sda1): unsupported checksum algorithm: 9",
        ] {
            assert_eq!(storage(text), None, "{text}");
        }
    }

    #[test]
    fn a_message_does_not_begin_in_the_middle() {
        for text in [
            "+ grep -c 'I/O error, dev vda, sector 2048'",
            "log says: XFS (vda): Log I/O error",
            "sd card: Device offlined",
            "nvme cli: I/O 1 timeout, x",
            "audit: type=1400 error=-13 dev sda, sector 1",
            "my rcu: INFO: rcu_sched self-detected stall on CPU",
        ] {
            assert_eq!(storage(text), None, "{text}");
        }
    }
}
