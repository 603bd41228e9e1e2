//! A set of block addresses kept as runs: the free list of a packed volume.
//!
//! Must not know: why a block is in it. Invariant: runs neither overlap nor touch, and none is empty.
//!
//! Memory: 1 to 4 bytes a run, as in [`super::extent_map`].

use std::mem;
use std::ops::Range;

use super::extent_codec::Extent;
use super::extent_map::ExtentMap;

/// ExtentIter of addresses. The lowest, which is taken first, stands apart; most sets have no other.
#[derive(Debug, Default)]
pub(super) struct FreeSpaceMap {
    /// Empty if the set is.
    lowest: Range<u64>,
    /// The others; an address is its own block in the map.
    others: ExtentMap,
    total: u64,
}

impl FreeSpaceMap {
    /// How many addresses.
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// Adds `range`, of which nothing is in the set; the whole run that it is part of now.
    pub(super) fn insert(&mut self, range: Range<u64>) -> Range<u64> {
        self.total += range.end - range.start;
        if !self.lowest.is_empty() && range.start > self.lowest.end {
            return self.others.insert(as_run(range)).addrs();
        }
        if self.lowest.is_empty() {
            self.lowest = range;
        } else if range.start == self.lowest.end {
            self.lowest.end = range.end;
            self.join_next();
        } else if range.end == self.lowest.start {
            self.lowest.start = range.start;
        } else {
            self.others.insert(as_run(mem::replace(&mut self.lowest, range)));
        }
        self.lowest.clone()
    }

    /// Takes out `range`, which is part of one run.
    pub(super) fn remove(&mut self, range: &Range<u64>) {
        self.total -= range.end - range.start;
        if range.start >= self.lowest.end {
            return self.others.cut(range);
        }
        let rest = range.end..self.lowest.end;
        self.lowest.end = range.start;
        if self.lowest.is_empty() {
            self.lowest = rest;
        } else if !rest.is_empty() {
            self.others.insert(as_run(rest));
        }
        if self.lowest.is_empty() {
            self.take_next();
        }
    }

    /// Takes the lowest run, at most `limit` addresses of it.
    pub(super) fn take_lowest(&mut self, limit: u64) -> Option<Range<u64>> {
        if self.lowest.is_empty() {
            return None;
        }
        let taken = self.lowest.start..self.lowest.end.min(self.lowest.start.saturating_add(limit));
        self.remove(&taken);
        Some(taken)
    }

    /// The runs, lowest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let lowest = Some(self.lowest.clone()).filter(|run| !run.is_empty());
        lowest.into_iter().chain(self.others.runs_from(0).map(Extent::addrs))
    }

    /// The first of the others becomes the lowest.
    fn take_next(&mut self) {
        if let Some(next) = self.others.first() {
            self.lowest = next.addrs();
            self.others.cut(&self.lowest);
        }
    }

    /// Joins the lowest with the first of the others, if that goes on where it ends.
    fn join_next(&mut self) {
        if let Some(next) = self.others.first().filter(|next| next.block == self.lowest.end) {
            self.lowest.end = next.end();
            self.others.cut(&next.addrs());
        }
    }
}

const fn as_run(addrs: Range<u64>) -> Extent {
    Extent { block: addrs.start, addr: addrs.start, len: addrs.end - addrs.start }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(steps in prop::collection::vec((0..4_u8, 0..900_u64, 1..7_u64), 0..400)) {
            let (mut set, mut naive) = (FreeSpaceMap::default(), BTreeSet::new());
            for (what, start, len) in steps {
                let range = start..start + len;
                if what < 2 {
                    if naive.range(range.clone()).next().is_none() {
                        naive.extend(range.clone());
                        let whole = set.insert(range.clone());
                        prop_assert!(whole.clone().all(|n| naive.contains(&n)) && whole.start <= start && range.end <= whole.end);
                        prop_assert!(!naive.contains(&whole.end) && !whole.start.checked_sub(1).is_some_and(|n| naive.contains(&n)));
                    }
                } else if what == 2 {
                    if range.clone().all(|n| naive.contains(&n)) {
                        naive.retain(|n| !range.contains(n));
                        set.remove(&range);
                    }
                } else {
                    let taken: Vec<u64> = set.take_lowest(len).into_iter().flatten().collect();
                    let lowest = naive.iter().next().copied().unwrap_or(0);
                    let expected: Vec<u64> = (lowest..lowest + len).take_while(|n| naive.remove(n)).collect();
                    prop_assert_eq!(taken, expected);
                }
                prop_assert!(set.iter().flatten().eq(naive.iter().copied()));
                prop_assert_eq!(set.total(), naive.len() as u64);
            }
        }
    }

    #[test]
    fn neighbours_become_one_run() {
        let mut set = FreeSpaceMap::default();
        set.insert(10..20);
        set.insert(30..40);
        assert_eq!(set.insert(20..30), 10..40);
        assert_eq!(set.total(), 30);
        set.remove(&(15..35));
        assert!(set.iter().eq([10..15, 35..40]));
    }

    #[test]
    fn the_lowest_is_taken_first() {
        let mut set = FreeSpaceMap::default();
        set.insert(10..20);
        set.insert(5..7);
        assert_eq!(set.take_lowest(100), Some(5..7));
        assert_eq!(set.take_lowest(4), Some(10..14));
        assert_eq!(set.take_lowest(100), Some(14..20));
        assert_eq!(set.take_lowest(1), None);
        assert_eq!(set.total(), 0);
    }
}
