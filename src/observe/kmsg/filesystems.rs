//! What kernels say of file systems in trouble: XFS, ext2/3/4 and its journal, btrfs, F2FS, others.
//!
//! Must not know: other lines. Invariant: mounting, probing, mount options, recovery, and errors of old that a superblock
//! remembers are no faults.

use super::rule::{Rule, fault, healthy};
use crate::telemetry::event::StorageFault as Fault;

/// XFS. `XFS (dm-0): ...`; the allocator's complaint has no device.
pub(super) const XFS: &[Rule] = &[
    healthy(&[
        // Another file system's disk was tried.
        "XFS ({}): Invalid superblock magic number",
        "XFS ({}): bad magic number",
        "XFS ({}): SB validate failed with error -22",
        "XFS ({}): SB validate failed with error 22",
        // Options, recovery, what belongs to the line before.
        // Faults that a tester asks for.
        "XFS ({}): Injecting ",
        "XFS ({}): {}errortag",
        "XFS: {}errortag",
        "XFS ({}): {}option",
        "XFS ({}): Torn write",
        "XFS ({}): First {} bytes of corrupted",
        "XFS ({}): cannot change alignment",
        "XFS ({}): Quotacheck",
        "XFS ({}): {}does not support",
        "XFS ({}): {}not supported",
        "XFS ({}): {}deprecated",
    ]),
    fault(
        Fault::XfsShutdown,
        &[
            "XFS ({dev}): {}shutdown",
            "XFS ({dev}): {}shutting down",
            "XFS ({dev}): {}shut down",
            "XFS ({dev}): {}rectify the problem",
            // Kernels before 2.6.39.
            "Filesystem {}: {}shutting down filesystem: {dev}",
            "xfs_force_shutdown({dev},",
        ],
    ),
    fault(
        Fault::XfsError,
        &[
            "XFS ({dev}): writeback error on inode {}, sector {n}",
            "XFS ({dev}): writeback error on sector {n}",
            "XFS ({dev}): page discard on {}, sector {n}",
            "XFS ({dev}): {}error",
            "XFS ({dev}): {}corrupt",
            "XFS ({dev}): failed",
            "XFS ({dev}): failing",
            "XFS ({dev}): {} failed",
            "XFS ({dev}): {} failure",
            "XFS ({dev}): {}failed to",
            "XFS ({dev}): {}cannot",
            "XFS ({dev}): {}unable",
            "XFS ({dev}): {}deadlock",
            "XFS ({dev}): {}page discard",
            "XFS ({dev}): {}no space",
            "XFS ({dev}): {}ran out",
            "XFS ({dev}): {}depleted",
            "XFS: {}possible memory allocation deadlock",
            "Filesystem \"{dev}\": xfs_{}error",
            "I/O error in filesystem (\"{dev}\")",
            "XFS: Internal error",
            "XFS: Assertion failed",
        ],
    ),
];

/// ext2, ext3, ext4. Their lines say `EXT4-fs error (device sda1)`, `EXT4-fs warning (device ..)` and `EXT4-fs (sda1):`; the driver's number
/// is taken off before.
pub(super) const EXT: &[Rule] = &[
    healthy(&[
        "({}): {}mounted",
        "({}): error: couldn't mount",
        "({}): error count since",
        "({}): initial error at",
        "({}): last error at",
        "warning (device {}): {}recorded from previous mount",
        "error (device {}): {}recorded from previous mount",
    ]),
    fault(
        Fault::ReadOnly,
        &[
            "({dev}): {}remounting filesystem read-only",
            "({dev}): {}remounting fs read-only",
            "error (device {dev}): {}remounting filesystem read-only",
        ],
    ),
    fault(
        Fault::JournalAborted,
        &[
            "error (device {dev}): {}aborted journal",
            "error (device {dev}) in {}journal has aborted",
            "error (device {dev}): {}journal has aborted",
            "({dev}): {}aborted journal",
            "({dev}): {}journal has aborted",
            "abort (device {dev}): ",
        ],
    ),
    fault(
        Fault::OutOfSpace,
        &[
            "({dev}): Delayed block allocation failed for inode {}error 28",
            "({dev}): Delayed block allocation failed for inode {}error -28",
        ],
    ),
    fault(
        Fault::Ext4Error,
        &[
            "error (device {dev}): {}starting block {n}",
            "error (device {dev})",
            "critical (device {dev})",
            "panic (device {dev})",
            "warning (device {dev}): {}I/O error{}starting block {n}",
            "warning (device {dev}): {}I/O error",
            "warning (device {dev}): {}IO error",
            "warning (device {dev}): {}error writing",
            "warning (device {dev}): {}error -",
            "warning (device {dev}): {}error reading",
            "warning (device {dev}): {}corrupt",
            "warning (device {dev}): {}checksum",
            "({dev}): Delayed block allocation failed",
            "({dev}): {}data will be lost",
            "({dev}): {}potential data loss",
            "({dev}): {}I/O error",
            "({dev}): {}error loading journal",
            "({dev}): {}journal start error",
            "({dev}): {}; err -",
            "({dev}): {}shut down",
            "({dev}): {}shutdown",
            "({dev}): {}shutting down",
            "({dev}): can't read",
            "({dev}): {}corrupt",
            "({dev}): {}checksum {}failed",
            "({dev}): {}bad geometry",
            "({dev}): error ",
            "({dev}): {}orphan list check failed",
        ],
    ),
];

/// The journal of ext3 and ext4.
pub(super) const JOURNAL: &[Rule] = &[
    healthy(&["JBD2: no valid journal superblock", "JBD2: {}recovery complete"]),
    fault(
        Fault::JournalAborted,
        &[
            "Aborting journal on device {dev}",
            "JBD2: {}aborting journal on device {dev}",
            "JBD2: {}journal has aborted",
        ],
    ),
    fault(Fault::IoError, &["journal commit I/O error"]),
    fault(
        Fault::Ext4Error,
        &[
            "JBD2: {}error{} superblock for {dev}",
            "JBD2: {}IO error{} file data on {dev}",
            "JBD: {}IO error{} file data on {dev}",
            "JBD2: {}dirty metadata buffer (dev = {dev}",
            "JBD2: {} on {dev} is corrupt",
            "JBD2: {}error",
            "JBD2: {}corrupt",
            "JBD2: {}fail",
            "JBD2: {}unable",
            "JBD2: {}cannot",
            "JBD2: {}abort",
            "JBD: {}error{} superblock for {dev}",
            "JBD: {}error",
            "JBD: {}corrupt",
            "JBD: {}fail",
            "Error {} detected when updating journal superblock for {dev}",
        ],
    ),
];

/// btrfs. `BTRFS error (device sda1): ...`, in later kernels `(device sda1: state EA)` and `(device sda1 state EA)`.
pub(super) const BTRFS: &[Rule] = &[
    healthy(&[
        "BTRFS {}option",
        "BTRFS {}open_ctree failed",
        "BTRFS {}no valid FS found",
        "BTRFS {}superblock checksum type",
        "BTRFS {}unsupported checksum algorithm",
    ]),
    fault(
        Fault::ReadOnly,
        &[
            "BTRFS info (device {dev}): forced readonly",
            "BTRFS info (device {dev}{}): forced readonly",
            "BTRFS {}(device {dev}): {}remounting read-only",
        ],
    ),
    fault(
        Fault::OutOfSpace,
        &[
            "BTRFS: error (device {dev}) in {}errno=-28",
            "BTRFS: error (device {dev}{}) in {}errno=-28",
            "BTRFS {}(device {dev}): {}errno=-28",
        ],
    ),
    fault(
        Fault::FilesystemError,
        &[
            "BTRFS: error (device {dev})",
            "BTRFS: error (device {dev}",
            "BTRFS critical (device {dev})",
            "BTRFS critical (device {dev}",
            "BTRFS error (device {dev})",
            "BTRFS error (device {dev}",
            "BTRFS warning (device {dev}): {}csum failed",
            "BTRFS warning (device {dev}): {}lost page write",
            "BTRFS warning (device {dev}): {}lost super block write",
            "BTRFS warning (device {dev}): {}I/O error",
            "BTRFS warning (device {dev}): {}IO error",
            "BTRFS warning (device {dev}): {}checksum error",
            "BTRFS warning (device {dev}): {}aborted transaction",
            "BTRFS warning (device {dev}{}): {}aborted transaction",
            "BTRFS warning (device {dev}): {}checksum verify failed",
            "BTRFS: Transaction aborted",
            "BTRFS: {}errno=-",
        ],
    ),
];

/// The rest.
pub(super) const OTHERS: &[Rule] = &[
    healthy(&[
        "F2FS-fs ({}): Magic Mismatch",
        "F2FS-fs ({}): Can't find valid F2FS",
        "F2FS-fs ({}): {}option",
        "F2FS-fs ({}): switch errors=",
        "F2FS-fs ({}): inject ",
        "F2FS-fs ({}) : inject ",
        "F2FS-fs ({}): {}not support",
        "FAT-fs ({}): {}not properly unmounted",
        "FAT-fs ({}): {}option",
    ]),
    fault(
        Fault::ReadOnly,
        &[
            "F2FS-fs ({dev}): Remounting filesystem read-only",
            // ext3 before 2.6.33, without a device.
            "Remounting filesystem read-only$",
            "FAT-fs ({dev}): Filesystem has been set read-only",
            "exFAT-fs ({dev}): Filesystem has been set read-only",
        ],
    ),
    fault(
        Fault::FilesystemError,
        &[
            "F2FS-fs ({dev}): {}Stopped filesystem",
            "F2FS-fs ({dev}): {}error",
            "F2FS-fs ({dev}): {}corrupt",
            "F2FS-fs ({dev}): {}inconsistent",
            "F2FS-fs ({dev}): {}I/O",
            "F2FS-fs ({dev}): {}fail",
            "F2FS-fs ({dev}): {}unable",
            "FAT-fs ({dev}): error,",
            "FAT-fs ({dev}): FAT read failed",
            "FAT-fs ({dev}): unable to read",
            "GFS2: fsid={}: fatal:",
            "GFS2: fsid={}: about to withdraw",
            "GFS2: fsid={}: withdrawn",
            "OCFS2: ERROR (device {dev})",
            "NILFS error (device {dev})",
            "REISERFS error (device {dev})",
            "REISERFS abort (device {dev})",
            "SQUASHFS error: {}failed",
            "SQUASHFS error: unable to read",
            "SQUASHFS error: {}corrupt",
            "NFS: {}Lock reclaim failed",
            "NFS: state manager{} failed on NFSv4 server",
            "NFS: Server wrote zero bytes",
            "WARNING: Pool '{}' has encountered an uncorrectable I/O failure",
            "exFAT-fs ({dev}): error",
            "erofs: (device {dev}): {}failed",
            "bcachefs ({dev}): {}error",
            "bcachefs ({dev}): {}shutdown",
        ],
    ),
];
