//! Open files and directories by number.
//!
//! Must not know: what is open. Invariant: a number names one open thing from its opening to its release.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;

const SHARDS: usize = 16;

/// Numbers things that are open.
#[derive(Debug)]
pub(super) struct Handles<T> {
    shards: [RwLock<HandleShard<T>>; SHARDS],
    next: AtomicUsize,
}

#[derive(Debug)]
struct HandleShard<T> {
    slots: Vec<Option<Arc<T>>>,
    free: Vec<usize>,
}

impl<T> Handles<T> {
    pub(super) fn new() -> Self {
        let empty = |_| RwLock::new(HandleShard { slots: Vec::new(), free: Vec::new() });
        Self { shards: std::array::from_fn(empty), next: AtomicUsize::new(0) }
    }

    /// Takes `open` in; its number.
    pub(super) fn insert(&self, open: T) -> u64 {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let mut shard = self.shards[index].write();
        let slot = shard.free.pop().unwrap_or(shard.slots.len());
        if slot == shard.slots.len() {
            shard.slots.push(None);
        }
        shard.slots[slot] = Some(Arc::new(open));
        u64::try_from(slot * SHARDS + index).unwrap_or(u64::MAX)
    }

    /// What has this number.
    pub(super) fn get(&self, number: u64) -> Option<Arc<T>> {
        let (index, slot) = split(number)?;
        self.shards[index].read().slots.get(slot)?.clone()
    }

    /// Ends the number; what had it.
    pub(super) fn remove(&self, number: u64) -> Option<Arc<T>> {
        let (index, slot) = split(number)?;
        let mut shard = self.shards[index].write();
        let open = shard.slots.get_mut(slot)?.take()?;
        shard.free.push(slot);
        Some(open)
    }
}

fn split(number: u64) -> Option<(usize, usize)> {
    let number = usize::try_from(number).ok()?;
    Some((number % SHARDS, number / SHARDS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_used_again_only_after_its_release() {
        let handles = Handles::new();
        let numbers: Vec<u64> = (0..100).map(|n| handles.insert(n)).collect();
        for (value, &number) in numbers.iter().enumerate() {
            assert_eq!(handles.get(number).as_deref(), Some(&value));
        }
        assert_eq!(handles.remove(numbers[7]).as_deref(), Some(&7));
        assert!(handles.remove(numbers[7]).is_none() && handles.get(numbers[7]).is_none());
        let again: Vec<u64> = (0..16).map(|n| handles.insert(n)).collect();
        assert!(again.contains(&numbers[7]));
        assert!(handles.get(u64::MAX).is_none());
    }
}
