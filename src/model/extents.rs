//! Where a file's blocks are on the virtual disk: runs of (file block, address, length).
//!
//! Must not know: which addresses are free. Invariant: runs do not overlap in the file, and neighbours that go on in
//! both the file and the disk are one run.
//!
//! Memory: 32 bytes for a file that is one run; about 40 bytes a run otherwise.

use std::collections::BTreeMap;
use std::ops::Range;

/// Blocks of a file that lie one after the other on the virtual disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// First block in the file.
    pub(super) block: u64,
    /// Its address on the virtual disk, in blocks.
    pub(super) addr: u64,
    /// How many blocks.
    pub(super) len: u64,
}

impl Run {
    /// The part of it that lies in `blocks`.
    fn clip(self, blocks: &Range<u64>) -> Option<Self> {
        let start = self.block.max(blocks.start);
        let end = (self.block + self.len).min(blocks.end);
        (start < end).then(|| Self { block: start, addr: self.addr + (start - self.block), len: end - start })
    }

    /// Both as one run, if `next` goes on where this ends.
    fn join(self, next: Self) -> Option<Self> {
        let goes_on = self.block + self.len == next.block && self.addr + self.len == next.addr;
        goes_on.then_some(Self { len: self.len + next.len, ..self })
    }

    /// Its addresses.
    pub(super) const fn addrs(self) -> Range<u64> {
        self.addr..self.addr + self.len
    }
}

/// The runs of one file.
#[derive(Debug, Default)]
pub(super) enum Extents {
    /// No data.
    #[default]
    Empty,
    /// Most files.
    One(Run),
    /// First block in the file -> (address, length).
    Many(BTreeMap<u64, (u64, u64)>),
}

impl Extents {
    /// The runs in `blocks`, cut to it, in the file's order.
    pub(super) fn runs_in(&self, blocks: Range<u64>) -> impl Iterator<Item = Run> + '_ {
        let (one, many) = match self {
            Self::Empty => (None, None),
            Self::One(run) => (Some(*run), None),
            Self::Many(map) => {
                (None, Some(map.range(Self::first_key(map, blocks.start)..blocks.end.max(blocks.start))))
            }
        };
        let many = many.into_iter().flatten().map(|(&block, &(addr, len))| Run { block, addr, len });
        one.into_iter().chain(many).filter_map(move |run| run.clip(&blocks))
    }

    /// The key of the run that may reach into `block` from before it.
    fn first_key(map: &BTreeMap<u64, (u64, u64)>, block: u64) -> u64 {
        map.range(..=block).next_back().map_or(block, |(&key, _)| key)
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
            next = run.block + run.len;
        }
        if next < blocks.end {
            gaps.push(next..blocks.end);
        }
        gaps
    }

    /// Adds a run in a gap.
    pub(super) fn insert(&mut self, run: Run) {
        match self {
            Self::Empty => *self = Self::One(run),
            Self::One(old) => match old.join(run).or_else(|| run.join(*old)) {
                Some(joined) => *old = joined,
                None => self.many().insert_joined(run),
            },
            Self::Many(map) => map.insert_joined(run),
        }
    }

    /// Takes out what lies in `blocks`, cut to it.
    pub(super) fn remove(&mut self, blocks: Range<u64>) -> Vec<Run> {
        let cut: Vec<Run> = self.runs_in(blocks).collect();
        let (Some(first), Some(last)) = (cut.first(), cut.last()) else { return cut };
        if matches!(self, Self::One(run) if run == first) {
            *self = Self::Empty;
        } else {
            self.many().cut(first.block..last.block + last.len);
            self.shrink();
        }
        cut
    }

    /// Goes back to the small forms.
    fn shrink(&mut self) {
        let Self::Many(map) = self else { return };
        match (map.len(), map.first_key_value()) {
            (0, _) => *self = Self::Empty,
            (1, Some((&block, &(addr, len)))) => *self = Self::One(Run { block, addr, len }),
            _ => {}
        }
    }

    fn many(&mut self) -> &mut BTreeMap<u64, (u64, u64)> {
        if let Self::One(run) = *self {
            *self = Self::Many(BTreeMap::from([(run.block, (run.addr, run.len))]));
        } else if let Self::Empty = self {
            *self = Self::Many(BTreeMap::new());
        }
        match self {
            Self::Many(map) => map,
            Self::Empty | Self::One(_) => unreachable!("it was made a map above"),
        }
    }
}

/// What the map of runs can do.
trait RunMap {
    fn insert_joined(&mut self, run: Run);
    fn cut(&mut self, blocks: Range<u64>);
}

impl RunMap for BTreeMap<u64, (u64, u64)> {
    fn insert_joined(&mut self, mut run: Run) {
        if let Some((&block, &(addr, len))) = self.range(..run.block).next_back()
            && let Some(joined) = (Run { block, addr, len }).join(run)
        {
            run = joined;
        }
        let end = run.block + run.len;
        if let Some(&(addr, len)) = self.get(&end)
            && let Some(joined) = run.join(Run { block: end, addr, len })
        {
            self.remove(&end);
            run = joined;
        }
        self.insert(run.block, (run.addr, run.len));
    }

    fn cut(&mut self, blocks: Range<u64>) {
        let first = Extents::first_key(self, blocks.start);
        let keys: Vec<u64> = self.range(first..blocks.end).map(|(&key, _)| key).collect();
        for block in keys {
            let Some((addr, len)) = self.remove(&block) else { continue };
            let run = Run { block, addr, len };
            let rests = [run.clip(&(0..blocks.start)), run.clip(&(blocks.end..u64::MAX))];
            for rest in rests.into_iter().flatten() {
                self.insert(rest.block, (rest.addr, rest.len));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map_of_blocks(steps in prop::collection::vec((any::<bool>(), 0u64..30, 0u64..9), 0..40)) {
            let (mut extents, mut naive) = (Extents::default(), BTreeMap::new());
            let mut next_addr = 100;
            for (add, start, len) in steps {
                let blocks = start..start + len;
                if add {
                    for gap in extents.gaps(blocks.clone()) {
                        for block in gap.clone() {
                            prop_assert!(naive.insert(block, next_addr + block - gap.start).is_none());
                        }
                        let len = gap.end - gap.start;
                        extents.insert(Run { block: gap.start, addr: next_addr, len });
                        next_addr += len;
                    }
                } else {
                    let gone: Vec<u64> = extents.remove(blocks.clone()).iter().flat_map(|run| run.addrs()).collect();
                    let expected: Vec<u64> = blocks.clone().filter_map(|block| naive.remove(&block)).collect();
                    prop_assert_eq!(gone, expected);
                }
                let all: Vec<(u64, u64)> =
                    extents.runs_in(0..100).flat_map(|run| (0..run.len).map(move |n| (run.block + n, run.addr + n))).collect();
                prop_assert_eq!(all, naive.iter().map(|(a, b)| (*a, *b)).collect::<Vec<_>>());
                prop_assert_eq!(extents.mapped(blocks.clone()), naive.range(blocks).count() as u64);
            }
        }
    }
}
