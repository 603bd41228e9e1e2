//! One JSON line per event, schema version 1. The schema is `docs/events.schema.json`.
//!
//! Must not know: who writes events or where they go. Invariant: an event's text form only ever grows new fields
//! within one schema version.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::freeze::FreezeTarget;
use crate::model::{ModelConfig, Penalty, ReleaseCause, StunCause};
use crate::op::{OpKind, Operation};
use crate::units::ByteRange;

/// The version that every event carries as `v`.
pub const SCHEMA_VERSION: u32 = 1;

/// Who does what to what: an operation as events and `ctl status` tell of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpRecord {
    /// The operation.
    #[serde(with = "op_name")]
    pub op: OpKind,
    /// The backing's inode.
    pub ino: u64,
    /// Path below the mount point; `?` if the file has no name any more.
    pub path: Arc<str>,
    /// First byte, for operations on a range.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub offset: Option<u64>,
    /// Bytes, for operations on a range.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub length: Option<u64>,
    /// The caller's process; 0: the kernel's own write-back.
    pub pid: u32,
    /// The caller's user.
    pub uid: u32,
    /// The caller's command name (`/proc/PID/comm`); empty if it could not be read.
    pub comm: Arc<str>,
}

impl From<&Operation> for OpRecord {
    fn from(operation: &Operation) -> Self {
        Self {
            op: operation.kind,
            ino: operation.ino,
            path: Arc::clone(&operation.path),
            offset: operation.range.map(|range| range.start),
            length: operation.range.map(ByteRange::len),
            pid: operation.caller.pid,
            uid: operation.caller.uid,
            comm: Arc::clone(&operation.command),
        }
    }
}

/// An operation is its name.
mod op_name {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::OpKind;

    pub(super) fn serialize<S: Serializer>(kind: &OpKind, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(kind.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OpKind, D::Error> {
        let name = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let known = OpKind::ALL.into_iter().find(|kind| kind.name() == name);
        known.ok_or_else(|| de::Error::custom(format_args!("unknown operation '{name}'")))
    }
}

/// The parts of a penalty in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each is the part of `Penalty` of that name")]
pub struct PenaltyMicros {
    pub latency_us: u64,
    pub zeroing_us: u64,
    pub queue_us: u64,
    pub space_us: u64,
    pub stun_us: u64,
    pub grains: u32,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub first_grain: Option<u64>,
}

/// A duration in events: whole microseconds.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl From<Penalty> for PenaltyMicros {
    fn from(penalty: Penalty) -> Self {
        Self {
            latency_us: micros(penalty.latency),
            zeroing_us: micros(penalty.zeroing),
            queue_us: micros(penalty.queue),
            space_us: micros(penalty.space),
            stun_us: micros(penalty.stun),
            grains: penalty.grains,
            first_grain: penalty.first_grain,
        }
    }
}

/// What an NFS client's kernel says of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NfsState {
    /// A request got no answer in time; a hard mount goes on trying.
    NotResponding,
    /// It answers again.
    Ok,
    /// A soft mount has given up: the application gets an error.
    TimedOut,
}

/// What a kernel says of its storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StorageFault {
    /// A block device failed a request.
    IoError,
    /// A page of a device could not be read, or was lost.
    BufferIoError,
    /// XFS complains.
    XfsError,
    /// XFS has shut the file system down.
    XfsShutdown,
    /// ext4 complains.
    Ext4Error,
    /// A journal was aborted.
    JournalAborted,
    /// A file system, a pool or a disk was made read-only.
    ReadOnly,
    /// A pool or a thin disk runs out of space: a low-water mark, a soft threshold. Nothing has failed yet.
    LowSpace,
    /// A pool, a thin disk or a file system has no space for what was written.
    OutOfSpace,
    /// A command was not answered in time, or was aborted for that.
    Timeout,
    /// A device, the path to it or a pool takes no more commands.
    DeviceGone,
    /// The metadata of a pool or a cache cannot be read or written.
    MetadataError,
    /// Another file system complains (btrfs, F2FS, FAT, ...).
    #[serde(rename = "file-system-error")]
    FilesystemError,
}

impl StorageFault {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::IoError,
        Self::BufferIoError,
        Self::XfsError,
        Self::XfsShutdown,
        Self::Ext4Error,
        Self::JournalAborted,
        Self::ReadOnly,
        Self::LowSpace,
        Self::OutOfSpace,
        Self::Timeout,
        Self::DeviceGone,
        Self::MetadataError,
        Self::FilesystemError,
    ];
}

/// Options of a volume that are not the model's, and that a repetition of its run needs. Texts as on the command line.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunOptions {
    /// The filters `path=GLOB`, `comm=NAME` and `uid=N` (the share is in the configuration).
    pub only: Vec<String>,
    /// `through`, `back` or `direct`.
    pub cache: String,
    /// FUSE threads.
    pub threads: usize,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventBody {
    /// Always the first: what this volume is.
    Started {
        /// stunfs's version.
        version: String,
        /// The daemon's process.
        pid: u32,
        /// The backing directory.
        backing: String,
        /// Where it is mounted.
        mountpoint: String,
        /// The profile's name, if one was given.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        profile: Option<String>,
        /// Wall-clock time of the volume's clock's start, RFC 3339.
        started: String,
        /// The options beside the model's that decide what happens.
        #[serde(default)]
        options: RunOptions,
        /// The whole resolved configuration of the model.
        config: Box<ModelConfig>,
    },
    /// An operation was held and has been answered. One per hold.
    Held {
        /// The hold's number.
        id: u64,
        /// The operation.
        #[serde(flatten)]
        op: OpRecord,
        /// When it came in, microseconds since the start.
        requested_us: u64,
        /// When it was due.
        due_us: u64,
        /// When it was answered.
        released_us: u64,
        /// How long after its release a thread took it up, if that is more than 100 ms: the daemon was not scheduled, or had
        /// too much to do. That time is not the imitated storage's.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        late_us: Option<u64>,
        /// Why it came out.
        cause: ReleaseCause,
        /// What it waited for.
        penalty: PenaltyMicros,
        /// `null`: success; otherwise the errno's name.
        error: Option<String>,
    },
    /// An operation was refused at once (pool or virtual disk full).
    Refused {
        /// The operation.
        #[serde(flatten)]
        op: OpRecord,
        /// The errno's name.
        error: String,
    },
    /// Everything stops.
    StunBegan {
        /// Why.
        cause: StunCause,
        /// When it ends at the latest, microseconds since the start.
        until_us: u64,
    },
    /// Everything goes on.
    StunEnded {},
    /// Less than the low-water share of the pool is free.
    LowWater {
        /// Provisioned.
        used_bytes: u64,
        /// The pool's size.
        size_bytes: u64,
    },
    /// A first write found no space.
    PoolFull {
        /// The pool's size.
        size_bytes: u64,
    },
    /// Grains went back to the pool.
    Discarded {
        /// How many.
        grains: u64,
    },
    /// The pool's size was changed.
    Grown {
        /// The new size.
        size_bytes: u64,
    },
    /// Injection was switched on or off.
    Armed {
        /// On.
        armed: bool,
    },
    /// All injection was ended (`ctl release`).
    Released {
        /// Operations that were held then.
        held: u64,
    },
    /// Settings were changed over the control socket.
    Changed {
        /// The whole configuration that holds from now on.
        config: Box<ModelConfig>,
    },
    /// `--ttl` has passed.
    Expired {},
    /// What is provisioned was rebuilt from the backing, since the last session did not end cleanly.
    Rebuilt {
        /// Why.
        reason: String,
        /// Pool use taken over.
        used_bytes: u64,
    },
    /// Something that the reader of a report must know.
    Warning {
        /// One line.
        message: String,
    },
    /// A kernel reports a task that waits too long (`INFO: task ... blocked for more than ...`).
    HungTask {
        /// The task's command name.
        task: String,
        /// Its process (thread) number, in its own kernel.
        pid: u32,
        /// Blocked for more than this; absent if the kernel only listed the task as blocked.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        seconds: Option<u64>,
        /// The state's letter, if the report told (`D`).
        #[serde(skip_serializing_if = "Option::is_none", default)]
        state: Option<char>,
        /// The frame that says most about what it waits for, such as `xfs_buf_lock`.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        waits_in: Option<String>,
        /// What that is in words, such as `XFS buffer lock`.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        waits_for: Option<String>,
        /// Names of the functions on its stack, the innermost first. Those marked as unreliable count only if all are.
        frames: Vec<String>,
        /// Whose kernel: `host`, or the name given to the console.
        source: String,
        /// The kernel's own lines: the header, and the task's line if there was one.
        raw: String,
        /// When the kernel said so (a guest: when it was read), microseconds since the start.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        at_us: Option<u64>,
    },
    /// A kernel found that a CPU did not schedule for too long (`soft lockup - CPU#0 stuck for ...`).
    SoftLockup {
        /// The CPU.
        cpu: u32,
        /// For how long, in the kernel's units of 2^30 ns.
        seconds: u64,
        /// What ran there then; `swapper/0` is the idle task.
        task: String,
        /// Its process number.
        pid: u32,
        /// Whose kernel.
        source: String,
        /// The kernel's own line.
        raw: String,
        /// When the kernel said so (a guest: when it was read), microseconds since the start.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        at_us: Option<u64>,
    },
    /// A kernel's NFS client lost its server, or has it again.
    NfsServer {
        /// The server, as mounted.
        server: String,
        /// What became of it.
        state: NfsState,
        /// Whose kernel.
        source: String,
        /// The kernel's own line.
        raw: String,
        /// When the kernel said so (a guest: when it was read), microseconds since the start.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        at_us: Option<u64>,
    },
    /// A kernel reports an error of a device, a pool or a file system, or that its space runs low.
    StorageError {
        /// What kind.
        fault: StorageFault,
        /// The device, if the line names one.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        device: Option<String>,
        /// The sector (512 bytes) or logical block, if the line names one.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        sector: Option<u64>,
        /// Whose kernel.
        source: String,
        /// The kernel's own line.
        raw: String,
        /// When the kernel said so (a guest: when it was read), microseconds since the start.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        at_us: Option<u64>,
    },
    /// All that `--freeze` names stands still, read back.
    Frozen {
        /// What was frozen, as it was named.
        targets: Vec<FreezeTarget>,
        /// How long it took until all stood still.
        took_us: u64,
        /// Threads that count as frozen although they wait in the kernel, and where: they stop before they get back to
        /// their programs.
        waiting: Vec<String>,
    },
    /// All that was frozen goes on.
    Thawed {
        /// What was thawed.
        targets: Vec<FreezeTarget>,
        /// How long thawing took.
        took_us: u64,
    },
    /// Always the last: the volume is about to be unmounted.
    Stopped {
        /// Why.
        reason: String,
        /// Operations held in all.
        held: u64,
        /// Events that a full queue dropped: the file is incomplete if this is not 0.
        dropped: u64,
    },
}

/// A line of the event log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Schema version.
    pub v: u32,
    /// Number of the event in this session, without gaps unless events were dropped.
    pub seq: u64,
    /// When it was written down, microseconds since the volume's start.
    pub t_us: u64,
    /// What happened.
    #[serde(flatten)]
    pub body: EventBody,
}

/// The waiter of a pile-up that has waited longest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PileUpWaiter {
    /// Its process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// The thread's command name.
    pub comm: String,
    /// How long it has been seen to wait, microseconds.
    pub for_us: u64,
    /// Functions on its kernel stack, the innermost first; empty without root.
    pub stack: Vec<String>,
}
