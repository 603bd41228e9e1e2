//! How an object is reached: by a descriptor, or without one.
//!
//! Must not know: which objects idle, and when. Invariant: what is opened again is the object that was closed, or nothing:
//! a handle tells objects apart by itself, a name is compared by device, inode number and time of birth.

use super::types::{FileKind, data_bytes};
use crate::backing::{Birth, FileHandle, HandleSource, Object};

/// How an object is reached.
#[derive(Debug)]
pub(super) enum Place {
    /// By a descriptor.
    Open(Object),
    /// By a handle.
    Handle {
        /// The handle.
        handle: FileHandle,
        /// The data that it had then.
        data_bytes: u64,
    },
    /// By the name that it was last reached by: where handles cannot be opened.
    Named {
        /// When it was made, if the backing says.
        birth: Option<Birth>,
        /// The data that it had then.
        data_bytes: u64,
    },
}

/// What an idle object may be reached by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    Handle,
    Name,
}

impl Place {
    /// How an object can be reached without its descriptor; `None`: it cannot. Without a name the descriptor is all that keeps it
    /// alive, and of several names the one that is known may be removed.
    pub(super) fn without_descriptor(object: &Object, by: Reach) -> Option<Self> {
        let stat = object.stat().ok()?;
        let data_bytes = data_bytes(&stat);
        match by {
            _ if stat.st_nlink == 0 => None,
            Reach::Handle => Some(Self::Handle { handle: HandleSource::handle_of(object).ok()?, data_bytes }),
            Reach::Name if stat.st_nlink == 1 || FileKind::of_stat(&stat) == FileKind::Directory => {
                Some(Self::Named { birth: object.birth(), data_bytes })
            }
            Reach::Name => None,
        }
    }

    /// Whether `object`, which has the same inode number, is what is here.
    pub(super) fn is(&self, object: &Object) -> bool {
        match self {
            Self::Open(_) => true,
            Self::Handle { handle, .. } => HandleSource::handle_of(object).is_ok_and(|other| other == *handle),
            Self::Named { birth, .. } => object.birth() == *birth,
        }
    }

    /// The data that it had when it was last looked at.
    pub(super) fn last_data_bytes(&self) -> u64 {
        match self {
            Self::Open(object) => object.stat().map_or(0, |stat| data_bytes(&stat)),
            Self::Handle { data_bytes, .. } | Self::Named { data_bytes, .. } => *data_bytes,
        }
    }
}
