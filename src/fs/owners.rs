//! What a change of contents by an ordinary user costs a file: its set-id bits, as a local file system has it.
//!
//! Must not know: names, contents. Invariant: a bit is only ever taken away.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::inode::Inode;
use super::{Caller, FileSystem, FsResult};
use crate::backing::{Object, Stat};
use crate::sys::process::TaskStatus;

const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o010;

impl FileSystem {
    /// `c` has changed the contents otherwise than by a write, for which the kernel says what it costs.
    pub(super) fn changed_by(&self, c: Caller, inode: &Arc<Inode>, object: &Object) -> FsResult<()> {
        if c.uid == 0 { Ok(()) } else { self.drop_set_id(c, inode, object) }
    }

    /// Takes away the set-user-id bit, and the set-group-id bit of what a group may execute or of what is another
    /// group's than the caller's.
    pub(super) fn drop_set_id(&self, c: Caller, inode: &Arc<Inode>, object: &Object) -> FsResult<()> {
        if !inode.set_id.load(Ordering::Relaxed) {
            return Ok(());
        }
        let stat = object.stat()?;
        let mode = stat.st_mode & 0o7777;
        let lost = mode & lost_bits(c, &stat);
        if lost != 0 {
            object.chmod(mode & !lost)?;
        }
        inode.note_mode(mode & !lost);
        Ok(())
    }
}

fn lost_bits(c: Caller, stat: &Stat) -> u32 {
    let executable = stat.st_mode & GROUP_EXECUTE != 0;
    let group = stat.st_mode & SET_GID != 0 && (executable || !is_in_group(c, stat.st_gid));
    if group { SET_UID | SET_GID } else { SET_UID }
}

/// Whether the caller is in a group; a FUSE request names only one of the caller's.
fn is_in_group(c: Caller, gid: u32) -> bool {
    c.gid == gid || supplementary_groups(c.pid).is_some_and(|groups| groups.contains(&gid))
}

fn supplementary_groups(pid: u32) -> Option<Vec<u32>> {
    Some(TaskStatus::read(pid.try_into().ok()?)?.groups())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_from_proc() {
        let own = rustix::process::getgroups().unwrap();
        let read = supplementary_groups(std::process::id()).unwrap();
        assert!(own.iter().all(|group| read.contains(&group.as_raw())));
        assert!(supplementary_groups(u32::MAX).is_none());
    }
}
