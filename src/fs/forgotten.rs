//! Nodes that the kernel has forgotten, for those who still have a handle of them: an NFS server, `open_by_handle_at(2)`.
//!
//! Must not know: operations. Invariant: only what was looked up through the mount is here.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;

use crate::backing::FileHandle;

/// How many are kept, those forgotten last: about 100 bytes each. Others are found by their inode numbers (ext4), or answer `ESTALE`.
const MOST: usize = 1 << 16;

/// The nodes.
#[derive(Debug, Default)]
pub(super) struct ForgottenNodes(Mutex<RememberedNode>);

#[derive(Debug, Default)]
struct RememberedNode {
    handles: HashMap<u64, FileHandle>,
    order: VecDeque<u64>,
}

impl ForgottenNodes {
    /// The kernel has forgotten a node.
    pub(super) fn keep(&self, node: u64, handle: FileHandle) {
        let mut kept = self.0.lock();
        if kept.handles.insert(node, handle).is_none() {
            kept.order.push_back(node);
        }
        if kept.order.len() > MOST
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.handles.remove(&oldest);
        }
    }

    /// The handle of a node.
    pub(super) fn find(&self, node: u64) -> Option<FileHandle> {
        self.0.lock().handles.get(&node).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_given_up_when_there_are_too_many() {
        let nodes = ForgottenNodes::default();
        let handle = |node: u64| FileHandle::from_text(&format!("1:{node:016x}")).unwrap();
        for node in 0..=u64::try_from(MOST).unwrap() {
            nodes.keep(node, handle(node));
            nodes.keep(node, handle(node));
        }
        assert_eq!((nodes.find(0), nodes.find(1)), (None, Some(handle(1))));
    }
}
