//! An operation as it is handed to the engine.

use std::fmt;
use std::sync::Arc;

use crate::model::{Access, Penalty};
use crate::op::{Caller, OpKind, Operation};
use crate::sys::process;
use crate::time::SimTime;
use crate::units::ByteRange;

/// An operation, before its verdict.
#[derive(Clone, Copy)]
pub struct OpInfo<'a> {
    /// Its name.
    pub kind: OpKind,
    /// The backing's inode number, for events.
    pub ino: u64,
    /// What it does to storage.
    pub access: Access,
    /// The range, for events.
    pub range: Option<ByteRange>,
    /// Who asks.
    pub caller: Caller,
    /// A write that the backing answers only when it is on the disk (`O_SYNC`, `O_DSYNC`), or a flush that others should not
    /// wait for.
    pub synchronous: bool,
    /// The path below the mount point; asked only if the operation is held, or a filter needs it.
    pub path: &'a dyn Fn() -> Arc<str>,
}

/// A read of this size or more is worth another thread.
const LARGE_READ: u64 = 64 << 10;

/// What is left of an operation that would have to wait for the backing's disk.
pub type Later = Box<dyn FnOnce() + Send>;

/// How long it takes to carry an operation out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExpectedDuration {
    /// No longer than it takes to tell another thread of it.
    Short,
    /// Short, unless it finds out that it would wait.
    MayWait,
    /// Long enough to be worth another thread, if one is idle.
    Copies,
    /// As long as the backing's disk takes: never on the thread that serves the kernel.
    WaitsForDisk,
}

impl OpInfo<'_> {
    pub(super) fn pace(&self) -> ExpectedDuration {
        let large = || self.range.is_some_and(|range| range.len() >= LARGE_READ);
        match self.kind {
            OpKind::Fsyncdir | OpKind::Fallocate | OpKind::CopyFileRange | OpKind::Truncate => {
                ExpectedDuration::WaitsForDisk
            }
            OpKind::Open | OpKind::Write | OpKind::Fsync if self.synchronous => ExpectedDuration::WaitsForDisk,
            OpKind::Read if large() => ExpectedDuration::Copies,
            OpKind::Read => ExpectedDuration::MayWait,
            _ => ExpectedDuration::Short,
        }
    }

    /// The operation, to be told of.
    pub(super) fn operation(&self) -> Operation {
        Operation {
            kind: self.kind,
            ino: self.ino,
            path: (self.path)(),
            range: self.range,
            caller: self.caller,
            command: command_name(self.caller.pid),
        }
    }
}

impl fmt::Debug for OpInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpInfo")
            .field("kind", &self.kind)
            .field("ino", &self.ino)
            .field("access", &self.access)
            .field("caller", &self.caller)
            .finish_non_exhaustive()
    }
}

/// The command name of a process, empty if there is none.
pub(crate) fn command_name(pid: u32) -> Arc<str> {
    if pid == 0 {
        return Arc::from("");
    }
    i32::try_from(pid).map_or_else(|_| Arc::from(""), |pid| process::command_name(pid).into())
}

/// A held operation, as `ctl status` tells of it.
#[derive(Debug, Clone)]
pub struct HeldOperation {
    /// The hold's number.
    pub id: u64,
    /// Who does what to what.
    pub operation: Arc<Operation>,
    /// When it came in.
    pub since: SimTime,
    /// When it is due; `None`: when space is found or the stun ends.
    pub until: Option<SimTime>,
    /// What it waits for.
    pub penalty: Penalty,
}
