//! Who may what, beyond what the kernel checks itself: one table of what ext4 does for a caller's credentials.
//!
//! With `default_permissions` the kernel refuses what a caller may not. What the caller's credentials cost a file beside that is
//! decided by its file system, and FUSE's messages carry only one user and one group. The rest is read from `/proc`.
//!
//! | what is done | set-user-id bit | set-group-id bit | capabilities of the file |
//! |---|---|---|---|
//! | write, truncate, `fallocate`, copy with `CAP_FSETID` | stays | stays | go |
//! | the same without it | goes | goes, see below | go |
//! | write of pages that were changed through a mapping | stays | stays | stay |
//! | chown, also to nothing new, of anything but a directory | goes | goes, see below | go |
//! | an ACL is set | stays | goes, unless the caller *keeps* it | stay |
//!
//! The set-group-id bit of what its group may execute goes; else it goes unless the caller *keeps* it: is in the file's group,
//! or has `CAP_FSETID` over it. A chown that takes bits is a chmod, too: it is refused (`EPERM`) to all but the owner and those
//! with `CAP_FOWNER`. Names in `trusted.` are listed for those with `CAP_SYS_ADMIN`.
//!
//! Must not know: names, contents. Invariant: a bit is only ever taken away.

use std::cell::LazyCell;
use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::file_capabilities::FILE_CAPABILITIES;
use super::inode::{Inode, SET_ID};
use super::types::FileKind;
use super::{Caller, FileSystem, FsResult};
use crate::backing::{Errno, Object, Stat};
use crate::sys::credentials::{Credentials, Namespace};
use crate::sys::system_call::SystemCall;

const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o010;

/// The one that holds its ACL.
const ACCESS_ACL: &str = "system.posix_acl_access";
const TRUSTED: &[u8] = b"trusted.";

/// Capabilities, with their numbers in capabilities(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Capability {
    /// To act as the owner of any file.
    Fowner = 3,
    /// To change a file and leave its set-id bits.
    Fsetid = 4,
    /// To administer the system: here, to know of `trusted.` attributes.
    SysAdmin = 21,
    /// To give files capabilities, and to take them.
    Setfcap = 31,
}

impl Capability {
    const fn bit(self) -> u64 {
        1 << self as u32
    }
}

/// What a caller has: read only where it matters, since it takes some system calls.
#[derive(Debug)]
struct Rights {
    caller: Caller,
    groups: Vec<u32>,
    capabilities: u64,
    namespace: Namespace,
}

impl Rights {
    /// Those of a caller. Nobody knows a caller of another PID namespace, and a thread may act for another one (an NFS server, an
    /// overlay): root is then taken to have every capability, and nobody else any.
    fn of(caller: Caller) -> Self {
        match Credentials::read(caller.pid) {
            Some(Credentials { user, groups, capabilities, namespace }) if user == caller.uid => {
                Self { caller, groups, capabilities, namespace }
            }
            _ => {
                let capabilities = if caller.uid == 0 { u64::MAX } else { 0 };
                Self { caller, groups: Vec::new(), capabilities, namespace: Namespace::First }
            }
        }
    }

    /// As the kernel's `capable`: only in the first user namespace.
    fn has(&self, capability: Capability) -> bool {
        self.holds(capability) && self.namespace == Namespace::First
    }

    /// In whatever user namespace.
    const fn holds(&self, capability: Capability) -> bool {
        self.capabilities & capability.bit() != 0
    }

    /// As `capable_wrt_inode_uidgid`: in another user namespace for what belongs to users and groups of it.
    fn has_over(&self, capability: Capability, stat: &Stat) -> bool {
        let known = match &self.namespace {
            Namespace::First | Namespace::Own => true,
            Namespace::Other { users, groups } => users.has(stat.st_uid) && groups.has(stat.st_gid),
        };
        known && self.holds(capability)
    }

    fn is_in_group(&self, gid: u32) -> bool {
        self.caller.gid == gid || self.groups.contains(&gid)
    }

    /// Whether what belongs to the group `gid` may keep its set-group-id bit.
    fn keeps_set_group_id(&self, gid: u32, stat: &Stat) -> bool {
        self.is_in_group(gid) || self.has_over(Capability::Fsetid, stat)
    }

    /// Whether the caller may set the mode.
    fn may_chmod(&self, stat: &Stat) -> bool {
        let known = match &self.namespace {
            Namespace::First | Namespace::Own => true,
            Namespace::Other { users, .. } => users.has(stat.st_uid),
        };
        self.caller.uid == stat.st_uid || (known && self.holds(Capability::Fowner))
    }
}

impl FileSystem {
    /// `c` has changed the contents, or is about to, otherwise than by a write, for which the kernel says what it costs.
    pub(super) fn changed_by(&self, c: Caller, inode: &Arc<Inode>, object: &Object) -> FsResult<()> {
        if !inode.set_id.load(Ordering::Relaxed) || Rights::of(c).has(Capability::Fsetid) {
            return Ok(());
        }
        self.drop_set_id(c, inode, object)
    }

    /// `c`, who has no `CAP_FSETID`, has changed the contents, or is about to.
    pub(super) fn drop_set_id(&self, c: Caller, inode: &Arc<Inode>, object: &Object) -> FsResult<()> {
        if !inode.set_id.load(Ordering::Relaxed) {
            return Ok(());
        }
        let stat = object.stat()?;
        take_bits(inode, object, &stat, bits_at_stake(&stat, &LazyCell::new(|| Rights::of(c))))
    }

    /// Gives it another owner or group, or only takes what a chown takes.
    pub(super) fn chown(
        &self,
        c: Caller,
        inode: &Arc<Inode>,
        object: &Object,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> FsResult<()> {
        let mut lost = 0;
        if inode.kind != FileKind::Directory && inode.set_id.load(Ordering::Relaxed) {
            let (stat, rights) = (object.stat()?, LazyCell::new(|| Rights::of(c)));
            lost = bits_at_stake(&stat, &rights);
            if lost != 0 && !rights.may_chmod(&stat) {
                return Err(Errno::PERM.into());
            }
            if lost != 0 && !rights.keeps_set_group_id(gid.unwrap_or(stat.st_gid), &stat) {
                lost |= stat.st_mode & SET_GID;
            }
        }
        inode.capabilities.note_removal();
        object.chown(uid, gid)?;
        if lost == 0 { Ok(()) } else { take_bits(inode, object, &object.stat()?, lost) }
    }

    /// The kernel sets nothing. It does so for a chown to nothing new, and before the contents change, when that costs
    /// set-id bits or capabilities; it does not say for which. A caller whom nobody can look at (see `sys/system_call.rs`) counts
    /// as one who changes a file that somebody has open for writing.
    pub(super) fn set_nothing(&self, c: Caller, inode: &Arc<Inode>, object: &Object) -> FsResult<()> {
        let may_change = inode.kind == FileKind::RegularFile && inode.is_open_for_writing();
        if !may_change || SystemCall::Chown.is_waited_in_by(c.pid) == Some(true) {
            return self.chown(c, inode, object, None, None);
        }
        inode.capabilities.note_removal();
        // Where this is refused to the daemon, the change that comes takes them.
        let _ = object.remove_xattr(OsStr::new(FILE_CAPABILITIES));
        self.changed_by(c, inode, object)
    }

    /// `c` has set the extended attribute `name`.
    pub(super) fn xattr_set_by(&self, c: Caller, inode: &Arc<Inode>, object: &Object, name: &OsStr) -> FsResult<()> {
        if name == FILE_CAPABILITIES {
            inode.capabilities.note_set();
        }
        if name != ACCESS_ACL {
            return Ok(());
        }
        let stat = object.stat()?;
        inode.note_mode(stat.st_mode);
        let lost = stat.st_mode & SET_GID != 0 && !Rights::of(c).keeps_set_group_id(stat.st_gid, &stat);
        if lost { take_bits(inode, object, &stat, SET_GID) } else { Ok(()) }
    }
}

/// Whether the kernel removes this attribute for the sake of what it asks next: a chown, a truncation, a write. That
/// takes the file's capabilities, too, unless it is refused; so nothing is to be done yet.
pub(super) fn is_removed_by_what_comes_next(c: Caller, name: &OsStr) -> bool {
    let by_caller = || {
        let asked = SystemCall::RemoveXattr.is_waited_in_by(c.pid);
        asked.unwrap_or_else(|| Rights::of(c).holds(Capability::Setfcap))
    };
    name == FILE_CAPABILITIES && !by_caller()
}

/// The names, each ended by a NUL, of the extended attributes that `c` may know of: the backing lists them for the daemon.
pub(super) fn names_shown_to(c: Caller, names: Vec<u8>) -> Vec<u8> {
    let list = || names.split_inclusive(|&byte| byte == 0);
    if !list().any(|name| name.starts_with(TRUSTED)) || Rights::of(c).has(Capability::SysAdmin) {
        return names;
    }
    list().filter(|name| !name.starts_with(TRUSTED)).flatten().copied().collect()
}

/// The set-id bits that a change of contents costs, made by one without `CAP_FSETID`; a chown, made by anybody.
fn bits_at_stake(stat: &Stat, rights: &LazyCell<Rights, impl FnOnce() -> Rights>) -> u32 {
    let mode = stat.st_mode;
    let group_stays = mode & GROUP_EXECUTE == 0 && mode & SET_GID != 0 && rights.keeps_set_group_id(stat.st_gid, stat);
    mode & if group_stays { SET_UID } else { SET_ID }
}

fn take_bits(inode: &Inode, object: &Object, stat: &Stat, lost: u32) -> FsResult<()> {
    let mode = stat.st_mode & 0o7777;
    if mode & lost != 0 {
        object.chmod(mode & !lost)?;
    }
    inode.note_mode(mode & !lost);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::credentials::IdMap;

    fn rights(namespace: Namespace) -> Rights {
        let caller = Caller { pid: 0, uid: 1000, gid: 1000 };
        Rights {
            caller,
            groups: vec![1001],
            capabilities: Capability::Fsetid.bit() | Capability::Fowner.bit(),
            namespace,
        }
    }

    fn stat(uid: u32, gid: u32, mode: u32) -> Stat {
        let mut stat = Object::opened(Arc::new(tempfile::tempfile().unwrap().into())).stat().unwrap();
        (stat.st_uid, stat.st_gid, stat.st_mode) = (uid, gid, mode);
        stat
    }

    fn lost(stat: &Stat, namespace: Namespace) -> u32 {
        bits_at_stake(stat, &LazyCell::new(|| rights(namespace)))
    }

    #[test]
    fn capabilities_of_a_user_namespace_count_for_what_has_numbers_there() {
        let map = IdMap::parse("0 100000 65536");
        let other = || Namespace::Other { users: map.clone(), groups: map.clone() };
        assert!(rights(Namespace::First).has(Capability::Fsetid));
        assert!(!rights(Namespace::Own).has(Capability::Fsetid) && !rights(other()).has(Capability::Fsetid));
        let (foreign, inside) = (stat(0, 0, 0o6644), stat(100_000, 100_001, 0o6644));
        for (namespace, over_foreign) in [(Namespace::First, true), (Namespace::Own, true), (other(), false)] {
            let rights = rights(namespace);
            assert_eq!(rights.may_chmod(&foreign), over_foreign);
            assert_eq!(rights.keeps_set_group_id(0, &foreign), over_foreign);
            assert!(rights.may_chmod(&inside) && rights.keeps_set_group_id(100_001, &inside));
        }
        assert!(rights(other()).may_chmod(&stat(1000, 0, 0)), "an owner needs none");
    }

    #[test]
    fn the_set_group_id_bit_stays_with_its_group_unless_that_may_execute() {
        let nowhere = || Namespace::Other { users: IdMap::default(), groups: IdMap::default() };
        assert_eq!(lost(&stat(0, 1000, 0o6644), nowhere()), SET_UID);
        assert_eq!(lost(&stat(0, 1001, 0o2644), nowhere()), 0);
        assert_eq!(lost(&stat(0, 0, 0o2644), nowhere()), SET_GID);
        assert_eq!(lost(&stat(0, 1000, 0o6755), nowhere()), SET_ID);
        assert_eq!(lost(&stat(0, 0, 0o6755), Namespace::First), SET_ID, "a chown by anybody");
        assert_eq!(lost(&stat(0, 0, 0o644), nowhere()), 0);
    }
}
