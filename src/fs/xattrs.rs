//! Extended attributes, POSIX ACLs among them.
//!
//! Must not know: what a name means. Invariant: the answers, errors included, are the backing's, save for what `rights` says of
//! the caller.

use std::ffi::OsStr;
use std::sync::Arc;

use super::rights::{is_removed_by_what_comes_next, names_shown_to};
use super::types::whole;
use super::{Caller, FileSystem, FsResult, On, Xattr};
use crate::backing::Errno;
use crate::op::OpKind;

/// No value and no list of names is longer.
const LONGEST: usize = 65536;

impl FileSystem {
    /// Sets an extended attribute; `flags` as in `setxattr(2)`.
    pub fn setxattr(
        self: &Arc<Self>,
        c: Caller,
        node: u64,
        name: &OsStr,
        value: &[u8],
        flags: u32,
        reply: impl FnOnce(FsResult<()>) + Send + 'static,
    ) {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.meta(OpKind::Setxattr, On(c, node, None), reply, move |fs, inode| {
            let object = fs.object(inode)?;
            object.set_xattr(&name, &value, flags)?;
            fs.xattr_set_by(c, inode, &object, &name)
        });
    }

    /// An extended attribute; with `size` 0 its length, else at most `size` bytes (`ERANGE` if it is longer).
    pub fn getxattr(
        self: &Arc<Self>,
        c: Caller,
        node: u64,
        name: &OsStr,
        size: u32,
        reply: impl FnOnce(FsResult<Xattr>) + Send + 'static,
    ) {
        let name = name.to_owned();
        self.meta(OpKind::Getxattr, On(c, node, None), reply, move |fs, inode| {
            let object = fs.object(inode)?;
            if size == 0 {
                return Ok(Xattr::Len(whole(object.xattr_len(&name)?)));
            }
            let mut value = vec![0; whole::<_, usize>(size).min(LONGEST)];
            let len = object.get_xattr(&name, &mut value)?;
            value.truncate(len);
            Ok(Xattr::Data(value))
        });
    }

    /// The names of the extended attributes that the caller may know of; `size` as in [`FileSystem::getxattr`].
    pub fn listxattr(
        self: &Arc<Self>,
        c: Caller,
        node: u64,
        size: u32,
        reply: impl FnOnce(FsResult<Xattr>) + Send + 'static,
    ) {
        self.meta(OpKind::Listxattr, On(c, node, None), reply, move |fs, inode| {
            let names = fs.object(inode)?.list_xattr()?;
            let names = names_shown_to(c, names);
            match names.len() {
                len if size == 0 => Ok(Xattr::Len(whole(len))),
                len if len > whole(size) => Err(Errno::RANGE.into()),
                _ => Ok(Xattr::Data(names)),
            }
        });
    }

    /// Removes an extended attribute.
    pub fn removexattr(
        self: &Arc<Self>,
        c: Caller,
        node: u64,
        name: &OsStr,
        reply: impl FnOnce(FsResult<()>) + Send + 'static,
    ) {
        let name = name.to_owned();
        self.meta(OpKind::Removexattr, On(c, node, None), reply, move |fs, inode| {
            if is_removed_by_what_comes_next(c, &name) {
                return Ok(());
            }
            inode.capabilities.note_removal();
            Ok(fs.object(inode)?.remove_xattr(&name)?)
        });
    }
}
