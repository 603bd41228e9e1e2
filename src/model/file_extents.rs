//! Where a file's blocks are on the virtual disk: runs of (file block, address, length).
//!
//! Must not know: which addresses are free, how runs are coded. Invariant: runs do not overlap in the file, and neighbours that go
//! on in both the file and the disk are one run.
//!
//! Memory: 32 bytes for a file that is one run; 5 to 7 bytes a run at random otherwise ([`super::extent_map`]).

use std::ops::Range;

use super::extent_codec::Extent;
use super::extent_map::{ExtentMap, Few};

/// The runs of one file.
#[derive(Debug, Default)]
pub(super) enum FileExtents {
    /// No data.
    #[default]
    Empty,
    /// Most files.
    One(Extent),
    /// Any number.
    Many(ExtentMap),
}

impl FileExtents {
    /// The runs in `blocks`, cut to it, in the file's order.
    pub(super) fn runs_in(&self, blocks: Range<u64>) -> impl Iterator<Item = Extent> + '_ {
        let (one, many) = match self {
            Self::Empty => (None, None),
            Self::One(run) => (Some(*run), None),
            Self::Many(map) => (None, Some(map.runs_from(blocks.start))),
        };
        let runs = one.into_iter().chain(many.into_iter().flatten());
        runs.take_while(move |run| run.block < blocks.end).filter_map(move |run| run.clip(&blocks))
    }

    /// How many of `blocks` have an address.
    pub(super) fn mapped(&self, blocks: Range<u64>) -> u64 {
        self.runs_in(blocks).map(|run| run.len).sum()
    }

    /// The parts of `blocks` without an address.
    pub(super) fn gaps(&self, blocks: Range<u64>) -> Vec<Range<u64>> {
        let (mut gaps, mut next) = (Vec::new(), blocks.start);
        for run in self.runs_in(blocks.clone()) {
            if next < run.block {
                gaps.push(next..run.block);
            }
            next = run.end();
        }
        if next < blocks.end {
            gaps.push(next..blocks.end);
        }
        gaps
    }

    /// Adds a run in a gap.
    pub(super) fn insert(&mut self, run: Extent) {
        match self {
            Self::Empty => *self = Self::One(run),
            Self::One(old) => match old.join(run).or_else(|| run.join(*old)) {
                Some(joined) => *old = joined,
                None => *self = Self::Many(ExtentMap::of([*old, run])),
            },
            Self::Many(map) => {
                map.insert(run);
            }
        }
    }

    /// Takes out what lies in `blocks`; calls `gone` with each run of it, cut to it.
    pub(super) fn remove(&mut self, blocks: &Range<u64>, gone: impl FnMut(Extent)) {
        if blocks.is_empty() {
            return;
        }
        self.runs_in(blocks.clone()).for_each(gone);
        match self {
            Self::Empty => {}
            Self::One(run) => *self = Self::without(*run, blocks),
            Self::Many(map) => {
                map.cut(blocks);
                match map.few() {
                    Few::None => *self = Self::Empty,
                    Few::One(run) => *self = Self::One(run),
                    Few::More => {}
                }
            }
        }
    }

    /// What is left of a run without `blocks`.
    fn without(run: Extent, blocks: &Range<u64>) -> Self {
        match (run.clip(&(0..blocks.start)), run.clip(&(blocks.end..u64::MAX))) {
            (None, None) => Self::Empty,
            (Some(rest), None) | (None, Some(rest)) => Self::One(rest),
            (Some(left), Some(right)) => Self::Many(ExtentMap::of([left, right])),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// FileExtents and the naive map, in step.
    #[derive(Default)]
    struct Both {
        extents: FileExtents,
        naive: BTreeMap<u64, u64>,
        next_addr: u64,
    }

    impl Both {
        fn add(&mut self, blocks: Range<u64>) {
            for gap in self.extents.gaps(blocks) {
                for block in gap.clone() {
                    assert!(self.naive.insert(block, self.next_addr + block - gap.start).is_none());
                }
                let len = gap.end - gap.start;
                self.extents.insert(Extent { block: gap.start, addr: self.next_addr, len });
                self.next_addr += len;
            }
        }

        fn remove(&mut self, blocks: &Range<u64>) {
            let mut gone = Vec::new();
            self.extents.remove(blocks, |run| gone.extend(run.addrs()));
            let expected: Vec<u64> = blocks.clone().filter_map(|block| self.naive.remove(&block)).collect();
            assert_eq!(gone, expected);
        }

        fn check(&self, blocks: Range<u64>) {
            let runs = self.extents.runs_in(blocks.clone());
            let all: Vec<(u64, u64)> =
                runs.flat_map(|run| (0..run.len).map(move |n| (run.block + n, run.addr + n))).collect();
            assert_eq!(all, self.naive.range(blocks.clone()).map(|(a, b)| (*a, *b)).collect::<Vec<_>>());
            assert_eq!(self.extents.mapped(blocks), all.len() as u64);
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map_of_blocks(steps in prop::collection::vec((any::<bool>(), 0u64..30, 0u64..9), 0..40)) {
            let mut both = Both { next_addr: 100, ..Both::default() };
            for (add, start, len) in steps {
                let blocks = start..start + len;
                if add { both.add(blocks.clone()) } else { both.remove(&blocks) }
                both.check(blocks);
                both.check(0..100);
                let runs = both.extents.runs_in(0..100).count();
                let is_small_form = match both.extents {
                    FileExtents::Empty => runs == 0,
                    FileExtents::One(_) => runs == 1,
                    FileExtents::Many(_) => runs > 1,
                };
                prop_assert!(is_small_form);
            }
        }

        /// A file of 2,000 runs in some order, so that there are many chunks.
        #[test]
        fn a_large_one_is_a_map_of_blocks_too(
            stride in prop::sample::select(vec![1_u64, 7, 501, 1_237, 1_999]),
            steps in prop::collection::vec((any::<bool>(), 0_u64..8_000, 0_u64..9, 0_u64..10), 0..60),
        ) {
            let mut both = Both::default();
            for n in 0..2_000 {
                let block = n * stride % 2_000 * 4;
                both.add(block..block + 2);
            }
            both.check(0..10_000);
            for (add, start, len, large) in steps {
                let blocks = start..start + if large == 0 { len * 200 } else { len };
                if add { both.add(blocks.clone()) } else { both.remove(&blocks) }
                both.check(blocks);
            }
            both.check(0..10_000);
        }
    }
}
