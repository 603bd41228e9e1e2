//! The real files: every system call that touches the backing, every `unsafe`, every use of `libc`.
//!
//! Must not know: the model, the engine, FUSE, who asks. Invariant: an object is reached only through a descriptor, and
//! a name is only ever resolved as one component below a directory's descriptor, never through a symbolic link.

mod data;
mod dir;
mod extents;
mod handle;
mod inode_flags;
mod limits;
mod names;
mod object;
mod scan;
mod thread;

pub use data::{allocate, copy_range, read_at, read_at_once, seek_data, seek_hole, sync, truncate, write_at};
pub use dir::{DirStream, RawEntry};
pub use extents::{data_extents, data_extents_up_to};
pub use handle::{FileHandle, HandleSource};
pub use inode_flags::{FlagCall, inode_flags};
pub use limits::{nofile_limit, raise_nofile_limit, raise_work_limits};
pub use names::{
    check_name, create, link, make_dir, make_node, make_symlink, open_path, open_root, remove, rename, stat_name,
};
pub use object::{Birth, Object};
pub use scan::{FoundFile, ScanSummary, scan, whole_blocks};
pub use thread::{Favour, favour_this_thread, masked_by_thread, set_nice, unshare_fs};

/// What the kernel says of an object.
pub use rustix::fs::Stat;
/// The kernel's error number.
pub use rustix::io::{Errno, Result};
