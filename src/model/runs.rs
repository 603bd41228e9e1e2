//! A set of block addresses kept as runs: the free list of a packed volume.
//!
//! Must not know: why a block is in it. Invariant: runs neither overlap nor touch, and none is empty.

use std::collections::BTreeMap;
use std::ops::Range;

/// Runs of addresses, lowest first. About 35 bytes a run.
#[derive(Debug, Default)]
pub(super) struct RunSet {
    runs: BTreeMap<u64, u64>,
    total: u64,
}

impl RunSet {
    /// How many addresses.
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// Adds `range`, of which nothing is in the set; the whole run that it is part of now.
    pub(super) fn insert(&mut self, range: Range<u64>) -> Range<u64> {
        self.total += range.end - range.start;
        let mut whole = range;
        if let Some((&start, &end)) = self.runs.range(..whole.start).next_back()
            && end == whole.start
        {
            whole.start = start;
        }
        if let Some(end) = self.runs.remove(&whole.end) {
            whole.end = end;
        }
        self.runs.insert(whole.start, whole.end);
        whole
    }

    /// Takes out `range`, which is part of one run.
    pub(super) fn remove(&mut self, range: Range<u64>) {
        let Some((&start, &end)) = self.runs.range(..=range.start).next_back() else { return };
        self.total -= range.end - range.start;
        self.runs.remove(&start);
        if start < range.start {
            self.runs.insert(start, range.start);
        }
        if range.end < end {
            self.runs.insert(range.end, end);
        }
    }

    /// Takes the lowest run, at most `limit` addresses of it.
    pub(super) fn take_lowest(&mut self, limit: u64) -> Option<Range<u64>> {
        let (start, end) = self.runs.pop_first()?;
        let cut = end.min(start.saturating_add(limit));
        if cut < end {
            self.runs.insert(cut, end);
        }
        self.total -= cut - start;
        Some(start..cut)
    }

    /// The runs, lowest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.runs.iter().map(|(&start, &end)| start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_one_run() {
        let mut set = RunSet::default();
        set.insert(10..20);
        set.insert(30..40);
        assert_eq!(set.insert(20..30), 10..40);
        assert_eq!(set.total(), 30);
        set.remove(15..35);
        assert!(set.iter().eq([10..15, 35..40]));
    }

    #[test]
    fn the_lowest_is_taken_first() {
        let mut set = RunSet::default();
        set.insert(10..20);
        set.insert(5..7);
        assert_eq!(set.take_lowest(100), Some(5..7));
        assert_eq!(set.take_lowest(4), Some(10..14));
        assert_eq!(set.take_lowest(100), Some(14..20));
        assert_eq!(set.take_lowest(1), None);
        assert_eq!(set.total(), 0);
    }
}
