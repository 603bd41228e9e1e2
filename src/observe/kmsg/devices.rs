//! What kernels say of failing block devices: SCSI, NVMe, the block layer, device mapper, RAID, network disks.
//!
//! Must not know: other lines. Invariant: a device that is found, probed or works again is no fault.

use super::rule::{Rule, fault, healthy};
use crate::telemetry::event::StorageFault as Fault;

/// Of the block layer and what stands on it. The message's own subsystem (`blk_update_request:`) is taken off before.
pub(super) const BLOCK: &[Rule] = &[
    healthy(&[
        // A floppy drive that is not there, and what a device need not know.
        "I/O error, dev fd",
        "Buffer I/O error on dev fd",
        "Buffer I/O error on device fd",
        "operation not supported error, dev",
        "critical target error, dev {}(DISCARD)",
        "critical target error, dev {}(WRITE_ZEROES)",
        "critical target error, dev {}(WRITE_SAME)",
    ]),
    fault(
        Fault::OutOfSpace,
        &["critical space allocation error, dev {dev}, sector {n}", "critical space allocation error, dev {dev}"],
    ),
    fault(Fault::Timeout, &["timeout error, dev {dev}, sector {n}"]),
    fault(
        Fault::DeviceGone,
        &[
            "device offline error, dev {dev}, sector {n}",
            "recoverable transport error, dev {dev}, sector {n}",
            "block {dev}: no usable path",
            "block {dev}: no available path",
        ],
    ),
    fault(
        Fault::IoError,
        &[
            "I/O error, dev {dev}, sector {n}",
            "critical target error, dev {dev}, sector {n}",
            "critical medium error, dev {dev}, sector {n}",
            "critical nexus error, dev {dev}, sector {n}",
            "reservation conflict error, dev {dev}, sector {n}",
            "protection error, dev {dev}, sector {n}",
            "kernel resource error, dev {dev}, sector {n}",
            "device resource error, dev {dev}, sector {n}",
            "zone {} error, dev {dev}, sector {n}",
            "invalid error, dev {dev}, sector {n}",
            "duration limit exceeded error, dev {dev}, sector {n}",
            "nonblocking retry error, dev {dev}, sector {n}",
            "dm internal retry error, dev {dev}, sector {n}",
            "Write-error on swap-device",
            "Read-error on swap-device",
            "loop: Write error at byte offset",
            "loop: Read error at byte offset",
            "loop: {} error at byte offset",
            "{mmc}: timed out sending",
            "{mmc}: error {}, sector {n}",
            "{mmc}: error {}",
            "{disk}: writeback error on inode {}, sector {n}",
            "bcache: {}IO error",
            "bcache: {}I/O error",
        ],
    ),
    fault(
        Fault::BufferIoError,
        &[
            "Buffer I/O error on dev {dev}, logical block {n}",
            "Buffer I/O error on device {dev}, logical block {n}",
            "Buffer I/O error on dev {dev}",
            "Buffer I/O error on device {dev}",
            "VFS: Dirty inode writeback failed for block device {dev}",
            "lost page write due to I/O error on {dev}",
            "lost sync page write due to I/O error on {dev}",
            "lost async page write due to I/O error on {dev}",
        ],
    ),
    fault(
        Fault::Timeout,
        &[
            "block {dev}: Connection timed out",
            "block {dev}: Possible stuck request",
            "block {dev}: Receive control failed",
            "block {dev}: Send control failed",
            "{nbd}: Receive control failed",
            "{ata}: qc timeout",
            "{ata}: exception Emask{}frozen",
            "{mmc}: Timeout waiting for hardware",
        ],
    ),
    fault(
        Fault::IoError,
        &["{ata}: exception Emask", "block {dev}: Other side returned error", "{nbd}: Other side returned error"],
    ),
    fault(
        Fault::DeviceGone,
        &[
            "{ata}: disabled",
            "{ata}: device disabled",
            "{ata}: disable device",
            "block {dev}: Dead connection",
            "block {dev}: Attempted send on ",
        ],
    ),
];

/// Of device mapper and RAID.
pub(super) const MAPPED: &[Rule] = &[
    healthy(&["device-mapper: {}: switching pool to write mode", "device-mapper: thin: {}: aborting current metadata"]),
    fault(
        Fault::LowSpace,
        &["device-mapper: thin: {dev}: reached low water mark", "device-mapper: snapshots: {} running low"],
    ),
    fault(
        Fault::OutOfSpace,
        &[
            "device-mapper: thin: {dev}: switching pool to out-of-data-space",
            "device-mapper: thin: {dev}: switching pool to out-of-metadata-space",
            "device-mapper: thin: {dev}: no free data space available",
            "device-mapper: thin: {dev}: no free metadata space available",
            "device-mapper: thin: {dev}: no free space available",
            "device-mapper: thin: {dev}: pool is out of",
            "device-mapper: thin: no free space available",
            "device-mapper: thin metadata: {}out of",
            "device-mapper: space map metadata: out of metadata space",
            "device-mapper: space map metadata: unable to allocate",
            "device-mapper: space map disk: unable to allocate",
            "device-mapper: snapshots: Invalidating snapshot: Unable to allocate",
            "device-mapper: vdo{}out of space",
            "kvdo{}out of space",
        ],
    ),
    fault(
        Fault::ReadOnly,
        &[
            "device-mapper: thin: {dev}: switching pool to read-only",
            "device-mapper: cache: {dev}: switching cache to read-only",
            "device-mapper: era: {dev}: switching {}read-only",
        ],
    ),
    fault(
        Fault::DeviceGone,
        &[
            "device-mapper: thin: {dev}: switching pool to fail",
            "device-mapper: cache: {dev}: switching cache to fail",
            "device-mapper: multipath: {}: Failing path {dev}",
            "device-mapper: multipath: Failing path {dev}",
            "device-mapper: multipath: {}no usable path",
            "device-mapper: raid: {}has failed",
            "device-mapper: raid1: {}has failed",
        ],
    ),
    fault(
        Fault::Timeout,
        &[
            "device-mapper: multipath: queue_if_no_path timeout on {dev}",
            "device-mapper: multipath: {dev}: queue_if_no_path timeout",
        ],
    ),
    fault(
        Fault::MetadataError,
        &[
            "device-mapper: thin: {dev}: metadata operation",
            "device-mapper: cache: {dev}: metadata operation",
            "device-mapper: thin: {dev}: failed to abort metadata",
            "device-mapper: thin: {dev}: failed to set 'needs_check'",
            "device-mapper: thin: {dev}: aborting transaction failed",
            // Kernels before 3.16 name their function in place of the pool.
            "device-mapper: thin: {}_{}: {}() failed: error",
            "device-mapper: thin: {dev}: {}() failed: error",
            "device-mapper: thin: {dev}: unable to switch pool to write mode",
            "device-mapper: thin: {}() failed: error",
            "device-mapper: thin: {dev}: commit failed",
            "device-mapper: thin: {dev}: unable to service pool target messages",
            "device-mapper: thin metadata: {}failed",
            "device-mapper: thin metadata: couldn't",
            "device-mapper: {}check failed",
            "device-mapper: space map common: {}unable to",
            "device-mapper: space map common: {}failed",
        ],
    ),
    fault(
        Fault::IoError,
        &[
            "device-mapper: raid1: {}error",
            "device-mapper: raid1: {}failed",
            "device-mapper: snapshots: Invalidating snapshot",
            "device-mapper: verity: {dev}: {}corrupt",
            "device-mapper: integrity: {}error",
            "device-mapper: crypt: {}error",
            "device-mapper: cache: {dev}: {}error",
            "device-mapper: writecache: {}error",
            "md: super_written gets error",
            "md/{}: {dev}: rescheduling sector {n}",
            "md/{}: {dev}: unrecoverable I/O",
            "md/{}: {dev}: unrecoverable",
        ],
    ),
    fault(
        Fault::DeviceGone,
        &[
            "md/{}: Disk failure on {dev}",
            "raid{}: Disk failure on {dev}",
            "md/{}: Cannot continue operation",
            "md: {}: Disk failure on {dev}",
        ],
    ),
    fault(
        Fault::IoError,
        &[
            "block {dev}: Local IO failed",
            "block {dev}: local {} IO error",
            "drbd {}: Local IO failed",
            "drbd {}: local {} IO error",
        ],
    ),
    fault(
        Fault::Timeout,
        &[
            "drbd {}: PingAck did not arrive in time",
            "block {dev}: PingAck did not arrive in time",
            "drbd {}: {}sock_sendmsg time expired",
            "block {dev}: {}sock_sendmsg time expired",
        ],
    ),
];

/// Of NVMe, the controller's name taken off.
pub(super) const NVME: &[Rule] = &[
    healthy(&["Abort status", "Shutdown timeout set", "{}timeout set to"]),
    fault(Fault::OutOfSpace, &["{} @ LBA {n}, {}Capacity Exceeded"]),
    fault(
        Fault::Timeout,
        &[
            "I/O {}timeout, ",
            "I/O {}timeout$",
            "I/O {} QID {} timeout",
            "queue {}: timeout ",
            "Device not ready; aborting",
            "Device shutdown incomplete",
            "keep-alive failed",
            "failed nvme_keep_alive_end_io",
            "keep alive timer expired",
            "ANATT timeout",
        ],
    ),
    fault(
        Fault::DeviceGone,
        &[
            "controller is down",
            "Failed status: ",
            "Removing after probe failure",
            "Disabling device after reset failure",
            "Removing controller",
            "failed to reset",
            "Reset failure status",
            "starting error recovery",
            "Failed reconnect attempt",
            "Reconnecting in ",
            "frozen state error detected, reset controller",
            "no usable path",
            "no available path",
            "I/O is requeued",
        ],
    ),
    fault(
        Fault::IoError,
        &[
            "I/O Cmd({}) @ LBA {n}",
            "{}(0x{}) @ LBA {n}, ",
            "Identify Controller failed",
            "controller fatal status",
            "I/O error",
        ],
    ),
];

/// Of SCSI, the address and the disk's name taken off.
pub(super) const SCSI: &[Rule] = &[
    fault(
        Fault::OutOfSpace,
        &["Add. Sense: Space allocation failed write protect", "ASC=0x27 ASCQ=0x7", "<<vendor>>ASC=0x27 ASCQ=0x7"],
    ),
    fault(
        Fault::LowSpace,
        &[
            "Add. Sense: Thin provisioning soft threshold",
            "Warning! Received an indication that the LUN reached a thin provisioning soft threshold",
            "Warning! Received an indication that the LUN reached",
        ],
    ),
    fault(
        Fault::ReadOnly,
        &[
            "Add. Sense: Write protected",
            "Add. Sense: Hardware write protected",
            "Add. Sense: Logical unit software write protected",
            "Add. Sense: {}write protect",
        ],
    ),
    fault(
        Fault::IoError,
        &[
            "Sense Key : Medium Error",
            "Sense Key : Hardware Error",
            "Sense Key : Aborted Command",
            "Sense Key : 0x3",
            "Sense Key : 0x4",
            "Sense Key : 0xb",
        ],
    ),
    fault(
        Fault::Timeout,
        &[
            "task abort on host",
            "abort$",
            "device reset$",
            "timing out command, waited",
            "attempting task abort",
            "attempting device reset",
            "attempting target reset",
            "attempting host reset",
            "attempting bus reset",
            "Medium access timeout failure",
            "SCSI device reset on",
            "SCSI Bus reset on",
            "SCSI host reset on",
            "uas_eh_abort_handler",
            "OCR is requested due to IO timeout",
            "{}hostbyte=DID_TIME_OUT",
            "{}hostbyte=DID_ABORT",
            "{}hostbyte=DID_RESET",
            "{}driverbyte=DRIVER_TIMEOUT",
            // Kernels without CONFIG_SCSI_CONSTANTS print the numbers.
            "{}hostbyte=0x03",
            "{}hostbyte=0x05",
            "{}hostbyte=0x08",
            "{}driverbyte=0x06",
            "Abort command issued",
        ],
    ),
    fault(
        Fault::DeviceGone,
        &[
            "Device offlined",
            "scsi: Device offlined",
            "rejecting I/O to offline device",
            "rejecting I/O to dead device",
            "rejecting I/O to device being removed",
            "killing request",
            "{}hostbyte=DID_NO_CONNECT",
            "{}hostbyte=DID_BAD_TARGET",
            "{}hostbyte=DID_TRANSPORT",
            "{}hostbyte=DID_NEXUS_FAILURE",
            "{}hostbyte=DID_ALLOC_FAILURE",
            "{}hostbyte=0x01",
            "{}hostbyte=0x04",
            "{}hostbyte=0x0e",
            "{}hostbyte=0x0f",
            "{}hostbyte=0x11",
            "{}hostbyte=0x12",
        ],
    ),
    fault(
        Fault::IoError,
        &[
            "{}hostbyte=DID_ERROR",
            "{}hostbyte=DID_SOFT_ERROR",
            "{}hostbyte=DID_BUS_BUSY",
            "{}hostbyte=DID_MEDIUM_ERROR",
            "{}hostbyte=DID_BAD_INTR",
            "{}hostbyte=DID_PARITY",
            "{}hostbyte=0x02",
            "{}hostbyte=0x06",
            "{}hostbyte=0x07",
            "{}hostbyte=0x0b",
            "{}hostbyte=0x13",
        ],
    ),
];

/// Of adapters, and of disks that are reached over a network.
pub(super) const ADAPTERS: &[Rule] = &[
    fault(
        Fault::Timeout,
        &[
            "mptscsih: {}: attempting task abort",
            "mptscsih: {}: attempting target reset",
            "mptscsih: {}: attempting bus reset",
            "mptscsih: {}: attempting host reset",
            "mpt{}: attempting task abort",
            "qla2xxx [{}]{}: Abort command issued",
            "lpfc {}SCSI layer issued",
            "vmw_pvscsi: {}abort",
            "iscsi: {}timed out",
            "connection{}: ping timeout of",
            "CIFS: VFS: Server {dev} has not responded in",
            "CIFS VFS: Server {dev} has not responded in",
            "CIFS: VFS: {dev} has not responded in",
            "CIFS VFS: {dev} has not responded in",
            "CIFS{}has not responded in",
            "libceph: osd{}timeout",
            "libceph: tid {} timeout",
            "libceph: tid {} timed out",
            "libceph: {}timed out",
            "ceph: {}hung",
        ],
    ),
    fault(
        Fault::DeviceGone,
        &[
            "connection{}: detected conn error",
            "session{}: session recovery timed out",
            "session{}: iscsi_{}timed out",
            "rport-{}: blocked FC remote port time out",
            "libceph: osd{} down",
            "libceph: mon{}session lost",
            "libceph: mon{}hunting for new mon",
            "megaraid_sas {}: Controller in crit error",
            "megaraid_sas {}: {}Adapter is dead",
        ],
    ),
    fault(
        Fault::OutOfSpace,
        &["libceph: FULL", "libceph: osdmap {}full", "ceph: {}FULL or reached", "rbd: {}result -28", "rbd: {}FULL"],
    ),
    fault(
        Fault::IoError,
        &[
            "rbd: {}result -",
            "rbd: {dev}: {}error",
            "hv_storvsc {}: tag#{} cmd 0x2a status",
            "hv_storvsc {}: tag#{} cmd 0x28 status",
            "hv_storvsc {}: tag#{} cmd 0x8a status",
            "hv_storvsc {}: tag#{} cmd 0x88 status",
        ],
    ),
];
