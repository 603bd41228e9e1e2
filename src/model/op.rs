//! What goes into the model and what comes out.
//!
//! Must not know: threads, files, callers. Invariant: an operation gets exactly one verdict, and a held one exactly
//! one [`Release`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::SimTime;
use crate::units::{ByteRange, Bytes};

/// A file as the model knows it: the backing's device and inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileKey {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
}

/// A held operation's number, in order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OpId(pub u64);

/// What an operation does to storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Data is written to a range of a file.
    Write(FileKey, ByteRange),
    /// `fallocate` gives a range space without writing to it.
    Allocate(FileKey, ByteRange),
    /// Data is read.
    Read(FileKey, ByteRange),
    /// Neither: names, attributes, freeing space.
    Meta,
}

/// An operation that asks for a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelOp {
    /// What it does.
    pub access: Access,
    /// Whether the filters (path, command, user) select it. What they do not select is recorded, never held.
    pub selected: bool,
}

/// The model's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Do it now.
    Pass,
    /// It is in the release queue under this number and comes out of [`Release`].
    Held(OpId),
    /// Answer with this error now.
    Fail(Refusal),
}

/// Why an operation is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The pool has no grain left.
    #[error("the thin pool is full")]
    PoolFull,
    /// The data of a held write was lost on its way to a temporary file and back (a broken disk).
    #[error("the held data could not be read back")]
    DataLost,
    /// The mount was cut off while the operation was held.
    #[error("the mount is gone")]
    Disconnected,
    /// The virtual disk has no block left.
    #[error("the virtual disk is full")]
    VolumeFull,
}

/// What a held operation waits for, by part. The parts add up to the whole wait unless something ended it early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Penalty {
    /// Latency samples of the grains that it provisions (those that count: of the grain that is ready last).
    pub latency: Duration,
    /// Zeroing of that grain.
    pub zeroing: Duration,
    /// Waiting for that grain's turn; the whole wait, if it is a grain that somebody else is provisioning already.
    pub queue: Duration,
    /// Waiting for space in the pool.
    pub space: Duration,
    /// Waiting for the end of a stun, or (scope `volume`) behind somebody else's first write.
    pub stun: Duration,
    /// How many grains it provisions.
    pub grains: u32,
    /// The first grain that it waits for, if any.
    pub first_grain: Option<u64>,
}

/// What a held operation waits for, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// When it came in.
    pub requested: SimTime,
    /// When it is due, stuns aside; `None` while it waits for space.
    pub due: Option<SimTime>,
    /// The parts of its penalty so far.
    pub penalty: Penalty,
}

/// Why a held operation came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseCause {
    /// Its time had come.
    Due,
    /// `--max-hold`.
    MaxHold,
    /// `ctl release`, a signal, an unmount, the time limit.
    Drained,
}

/// A held operation comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// Which.
    pub id: OpId,
    /// `Ok`: do it now. `Err`: answer with the error.
    pub outcome: Result<(), Refusal>,
    /// Why.
    pub cause: ReleaseCause,
    /// When it came in.
    pub requested: SimTime,
    /// When it was due.
    pub due: SimTime,
    /// What it waited for.
    pub penalty: Penalty,
}

/// Why a stun began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StunCause {
    /// By hand, over the control socket, or by a scenario.
    Manual,
    /// `--stun-every`.
    Every,
    /// `--stun-chance`.
    Chance,
    /// `--stun-when wait>...`.
    QueueWait,
}

/// Something that users want to hear of, in the order in which it happened.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum ModelNotice {
    /// Everything stops.
    StunBegan {
        /// Why.
        cause: StunCause,
        /// When.
        at: SimTime,
        /// When it ends at the latest.
        until: SimTime,
    },
    /// Everything goes on.
    StunEnded {
        /// When.
        at: SimTime,
    },
    /// Less than the low-water share of the pool is free.
    LowWater {
        /// When.
        at: SimTime,
        /// Provisioned.
        used: Bytes,
        /// The pool's size.
        size: Bytes,
    },
    /// A first write found no space.
    PoolFull {
        /// When.
        at: SimTime,
        /// The pool's size.
        size: Bytes,
    },
    /// Grains went back to the pool.
    Discarded {
        /// When.
        at: SimTime,
        /// How many.
        grains: u64,
    },
    /// `--ttl` has passed: the volume is a plain pass-through now.
    Expired {
        /// When.
        at: SimTime,
    },
}

/// Which operations need a verdict at all just now. What needs none may be done without asking the model; writes and
/// `fallocate` always ask, since they change what is provisioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gate {
    /// Every operation: something stalls the whole volume.
    pub everything: bool,
    /// Reads.
    pub reads: bool,
}

/// The virtual disk's space, as `statfs` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualSpace {
    /// Its size in bytes.
    pub total: u64,
    /// Bytes in use, at most `total`.
    pub used: u64,
}

/// The pool, seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PoolUse {
    /// Provisioned grains.
    pub grains: u64,
    /// Provisioned bytes.
    pub used_bytes: u64,
    /// Physical size; absent: without limit.
    pub size_bytes: Option<u64>,
    /// Provisioned grains' bytes that no file uses (free for reuse without a penalty).
    pub reusable_bytes: u64,
}

/// The model, seen from outside.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// Injection is on.
    pub armed: bool,
    /// `--ttl` has passed.
    pub expired: bool,
    /// The end of the stun that is in force.
    pub stunned_until: Option<SimTime>,
    /// How many operations are held.
    pub held: u64,
    /// How many of them wait for space.
    pub waiting_for_space: u64,
    /// The pool.
    pub pool: PoolUse,
    /// How long a first write would wait in the queue now.
    pub queue_wait: Duration,
    /// Penalties drawn so far.
    pub draws: u64,
    /// Grains provisioned since mount.
    pub provisioned: u64,
    /// Stuns since mount.
    pub stuns: u64,
}
