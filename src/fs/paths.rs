//! Paths below the mount point, for events and filters, and the identity made of them.
//!
//! Must not know: the backing's absolute path. Invariant: a path is put together when it is asked for, out of the names
//! that the objects on the way were last reached by, so that it is right after a directory was renamed.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use super::FileSystem;
use super::inode::Inode;
use super::table::ROOT;

/// No path is deeper than this; what looks deeper goes in circles.
const DEEPEST: usize = 8192;
/// The path of what has no name.
const NAMELESS: &str = "?";

impl FileSystem {
    /// The path of `inode`, or of the entry `name` in it; `.` is the root, `?` what has no name any more.
    pub(super) fn path(&self, inode: &Arc<Inode>, name: Option<&OsStr>) -> Arc<str> {
        let Some(names) = self.names(inode, name) else { return Arc::from(NAMELESS) };
        if names.is_empty() {
            return Arc::from(".");
        }
        let path = names.iter().rev().map(OsString::as_os_str).collect::<Vec<_>>().join(OsStr::new("/"));
        Arc::from(path.to_string_lossy())
    }

    /// A number made of the path: the same in every session.
    pub(super) fn identity(&self, inode: &Arc<Inode>, name: Option<&OsStr>) -> u64 {
        let Some(names) = self.names(inode, name) else { return fnv(fnv(SEED, b"?"), &inode.key.ino.to_le_bytes()) };
        names.iter().rev().fold(SEED, |hash, name| fnv(fnv(hash, name.as_bytes()), b"/"))
    }

    /// The names from `inode` up to the root, the root left out.
    fn names(&self, inode: &Arc<Inode>, name: Option<&OsStr>) -> Option<Vec<OsString>> {
        let mut names: Vec<OsString> = name.map(OsStr::to_owned).into_iter().collect();
        let mut at = Arc::clone(inode);
        while at.node != ROOT {
            if names.len() > DEEPEST {
                return None;
            }
            at = at.with_name(|parent, name| {
                names.push(name.to_owned());
                parent
            })?;
        }
        Some(names)
    }

    /// As [`FileSystem::path`]; a file that was unlinked while it is open has no path.
    pub(super) fn path_if_linked(&self, inode: &Arc<Inode>) -> Arc<str> {
        let unlinked = inode.open_object().and_then(|object| object.stat().ok()).is_some_and(|stat| stat.st_nlink == 0);
        if unlinked { Arc::from(NAMELESS) } else { self.path(inode, None) }
    }
}

const SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a.
fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
