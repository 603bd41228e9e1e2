//! An ordered map of runs, coded in chunks: a file's blocks, or what is free.
//!
//! Must not know: what an address means, how runs are coded. Invariants: runs do not overlap, neighbours that go on in both block and
//! address are one run, no chunk is empty, and each chunk's key is the first block of its first run.
//!
//! Memory: what a run's record takes ([`super::extent_codec`]), 4 bytes if a file is filled grain by grain at random, and about 90 bytes
//! for each chunk: its place in the index, what the allocator rounds up. A chunk of more than [`LIMIT`] bytes is split; one
//! that shrinks below a quarter of that is merged with a neighbour if both fit in three quarters. So chunks of a file that is
//! written at random are on average 0.7 full, and two neighbours that shrank are never both nearly empty.
//!
//! Time: two searches, of the index and of the chunk's records; a change copies the chunk's bytes once.

use std::collections::BTreeMap;
use std::iter;
use std::ops::{Bound, Range};

use super::extent_codec::{EncodedExtents, Extent};

/// Bytes of a chunk: about 100 runs.
pub(super) const LIMIT: usize = 512;

/// ExtentIter in order; `MAX` is what a chunk may have of bytes.
#[derive(Debug, Default)]
pub(super) struct ExtentMap<const MAX: usize = LIMIT> {
    /// First block of the first run -> runs.
    chunks: BTreeMap<u64, EncodedExtents>,
}

impl<const MAX: usize> ExtentMap<MAX> {
    /// Of these runs.
    pub(super) fn of(runs: impl IntoIterator<Item = Extent>) -> Self {
        let mut map = Self { chunks: BTreeMap::new() };
        for run in runs {
            map.insert(run);
        }
        map
    }

    /// The runs, from the one that reaches into `block` or begins behind it.
    pub(super) fn runs_from(&self, block: u64) -> impl Iterator<Item = Extent> + '_ {
        let here = self.chunks.range(..=block).next_back().map(|(&key, chunk)| (key, chunk.runs(key)));
        let first = here.map(|(_, runs)| {
            let at = runs.before(block.saturating_add(1)).saturating_sub(1);
            let is_past = runs.get(at).is_some_and(|run| run.end() <= block);
            runs.range(at + usize::from(is_past)..runs.count())
        });
        // Most callers want a run or two: the index is asked again only if they go on.
        let from = here.map_or(Bound::Unbounded, |(key, _)| Bound::Excluded(key));
        let behind = iter::once(()).flat_map(move |()| self.chunks.range((from, Bound::Unbounded)));
        first.into_iter().flatten().chain(behind.flat_map(|(&key, chunk)| chunk.runs(key).iter()))
    }

    /// The key of the chunk that a run which begins at `block` belongs to, if that is not before all.
    fn key_at(&self, block: u64) -> Option<u64> {
        self.chunks.range(..=block).next_back().map(|(&key, _)| key)
    }

    /// The same; the first chunk's if it is before all.
    fn key_near(&self, block: u64) -> Option<u64> {
        self.key_at(block).or_else(|| self.chunks.keys().next().copied())
    }

    /// The first run.
    pub(super) fn first(&self) -> Option<Extent> {
        self.chunks.iter().next().and_then(|(&key, chunk)| chunk.runs(key).get(0))
    }

    /// The only run, if there is one and no other; none if there is none.
    pub(super) fn few(&self) -> Few {
        let mut runs = self.runs_from(0);
        match (runs.next(), runs.next()) {
            (None, _) => Few::None,
            (Some(run), None) => Few::One(run),
            (Some(_), Some(_)) => Few::More,
        }
    }

    /// Adds a run in a gap; the whole run that it is part of now.
    pub(super) fn insert(&mut self, run: Extent) -> Extent {
        let Some((&key, chunk)) = self.chunks.range_mut(..=run.block).next_back() else {
            return self.insert_before_all(run);
        };
        let inserted = Inserted::into(chunk, key, run);
        self.settle_inserted(key, &inserted)
    }

    fn insert_before_all(&mut self, run: Extent) -> Extent {
        let key = self.chunks.keys().next().copied().unwrap_or(run.block);
        let inserted = Inserted::into(self.chunks.entry(key).or_default(), key, run);
        if inserted.whole.block != key
            && let Some(chunk) = self.chunks.remove(&key)
        {
            self.chunks.insert(inserted.whole.block, chunk);
        }
        self.settle_inserted(inserted.whole.block, &inserted)
    }

    /// What a chunk may need after a run was added.
    fn settle_inserted(&mut self, key: u64, inserted: &Inserted) -> Extent {
        let &Inserted { whole, is_last, before, size } = inserted;
        if size > MAX || size < before {
            self.settle(key, before);
        }
        if is_last { self.join_behind(whole) } else { whole }
    }

    /// Joins the last run of a chunk with the first one of the next, if that goes on where it ends.
    fn join_behind(&mut self, run: Extent) -> Extent {
        let next = self.chunks.get(&run.end()).and_then(|chunk| chunk.runs(run.end()).get(0));
        let joined = next.and_then(|next| run.join(next));
        if let Some(joined) = joined {
            self.replace(&(run.block..run.end() + 1), &[joined]);
        }
        joined.unwrap_or(run)
    }

    /// The chunk at `key` begins at `new` from now on.
    fn rekey(&mut self, key: u64, new: u64) {
        if new != key
            && let Some(chunk) = self.chunks.remove(&key)
        {
            self.chunks.insert(new, chunk);
        }
    }

    /// Takes out what lies in `blocks`: whole runs, and parts of those that reach out of it.
    pub(super) fn cut(&mut self, blocks: &Range<u64>) {
        if blocks.is_empty() {
            return;
        }
        let in_them = |run: &Extent| run.block < blocks.end;
        let Some(first) = self.runs_from(blocks.start).next().filter(in_them) else { return };
        let last = self.runs_from(blocks.end - 1).next().filter(in_them);
        let rests = [first.clip(&(0..blocks.start)), last.and_then(|run| run.clip(&(blocks.end..u64::MAX)))];
        let gone = first.block..blocks.end;
        match rests {
            [Some(left), Some(right)] => self.replace(&gone, &[left, right]),
            [Some(rest), None] | [None, Some(rest)] => self.replace(&gone, &[rest]),
            [None, None] => self.replace(&gone, &[]),
        }
    }

    /// Puts at most two runs in place of those that begin in `blocks`.
    fn replace(&mut self, blocks: &Range<u64>, put: &[Extent]) {
        let Some(key) = self.key_near(blocks.start) else { return };
        let behind = self.drop_behind(key, blocks);
        let here = self.replace_in(key, blocks, put);
        for (key, before) in here.into_iter().chain(behind) {
            self.settle(key, before);
        }
    }

    /// The same in one chunk, which goes if nothing is left of it. Its key from then on, and how many bytes it had.
    fn replace_in(&mut self, key: u64, blocks: &Range<u64>, put: &[Extent]) -> Option<(u64, usize)> {
        let chunk = self.chunks.get_mut(&key)?;
        let (runs, before) = (chunk.runs(key), chunk.size());
        let gone = runs.before(blocks.start)..runs.before(blocks.end);
        let first = if gone.start > 0 { runs.get(0) } else { put.first().copied().or_else(|| runs.get(gone.end)) };
        let Some(first) = first else {
            self.chunks.remove(&key);
            return None;
        };
        chunk.replace(key, &gone, put);
        self.rekey(key, first.block);
        Some((first.block, before))
    }

    /// Takes the runs that begin in `blocks` out of the chunks behind `key`'s. The chunk of which a part is left, and how many
    /// bytes it had.
    fn drop_behind(&mut self, key: u64, blocks: &Range<u64>) -> Option<(u64, usize)> {
        let behind = key.saturating_add(1)..blocks.end.max(key.saturating_add(1));
        let last = self.chunks.range(behind.clone()).next_back().map(|(&last, _)| last)?;
        while let Some((&next, _)) = self.chunks.range(behind.start..last).next() {
            self.chunks.remove(&next);
        }
        self.replace_in(last, blocks, &[])
    }

    /// Splits a chunk that grew too large, merges one that shrank to little: it had `before` bytes.
    fn settle(&mut self, key: u64, before: usize) {
        let Some(size) = self.chunks.get(&key).map(EncodedExtents::size) else { return };
        if size > MAX {
            self.split(key);
        } else if size < MAX / 4 && size < before {
            self.merge(key);
        }
    }

    /// In halves; but the last chunk near its end, since more is to come there.
    fn split(&mut self, key: u64) {
        let is_last = self.chunks.keys().next_back() == Some(&key);
        let Some(chunk) = self.chunks.get_mut(&key) else { return };
        let runs: Vec<Extent> = chunk.runs(key).iter().collect();
        let (head, tail) = runs.split_at(if is_last { runs.len() * 7 / 8 } else { runs.len() / 2 });
        if let (false, Some(first)) = (head.is_empty(), tail.first()) {
            *chunk = EncodedExtents::new(head);
            self.chunks.insert(first.block, EncodedExtents::new(tail));
        }
    }

    /// With the chunk before it, or the one behind it.
    fn merge(&mut self, key: u64) {
        let before = self.chunks.range(..key).next_back().map(|(&before, _)| before);
        let behind = self.chunks.range((Bound::Excluded(key), Bound::Unbounded)).next().map(|(&behind, _)| behind);
        let _ = before.is_some_and(|before| self.merge_two(before, key))
            || behind.is_some_and(|behind| self.merge_two(key, behind));
    }

    /// Whether both fit in one.
    fn merge_two(&mut self, first: u64, second: u64) -> bool {
        let (Some(a), Some(b)) = (self.chunks.get(&first), self.chunks.get(&second)) else { return false };
        let limit = MAX * 3 / 4;
        if a.size() + b.size() > limit {
            return false;
        }
        let both = EncodedExtents::new(&a.runs(first).iter().chain(b.runs(second).iter()).collect::<Vec<_>>());
        if both.size() > limit {
            return false;
        }
        self.chunks.remove(&second);
        self.chunks.insert(first, both);
        true
    }
}

/// What became of a run that was added to a chunk.
#[derive(Debug)]
struct Inserted {
    /// The run that it is part of now.
    whole: Extent,
    /// Whether none is behind it.
    is_last: bool,
    /// The chunk's bytes before, and now.
    before: usize,
    size: usize,
}

impl Inserted {
    fn into(chunk: &mut EncodedExtents, key: u64, run: Extent) -> Self {
        let (runs, before) = (chunk.runs(key), chunk.size());
        let at = runs.before(run.block);
        let (mut whole, mut gone) = (run, at..at);
        if let Some(joined) = at.checked_sub(1).and_then(|last| runs.get(last)?.join(run)) {
            (whole, gone.start) = (joined, at - 1);
        }
        if let Some(joined) = runs.get(at).and_then(|next| whole.join(next)) {
            (whole, gone.end) = (joined, at + 1);
        }
        let is_last = gone.end == runs.count();
        chunk.replace(key, &gone, &[whole]);
        Self { whole, is_last, before, size: chunk.size() }
    }
}

/// How many runs, if that is few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Few {
    None,
    One(Extent),
    More,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A chunk of a few runs, so that there are many.
    type Small = ExtentMap<48>;

    impl<const MAX: usize> ExtentMap<MAX> {
        fn runs(&self) -> Vec<Extent> {
            self.runs_from(0).collect()
        }

        /// What must hold whatever was done.
        fn check(&self) {
            let runs = self.runs();
            assert!(runs.windows(2).all(|pair| pair[0].end() <= pair[1].block && pair[0].join(pair[1]).is_none()));
            for (&key, chunk) in &self.chunks {
                assert_eq!(chunk.runs(key).get(0).map(|run| run.block), Some(key));
                assert!(chunk.size() <= MAX + 24, "{} bytes in a chunk", chunk.size());
            }
        }
    }

    /// The naive one: runs in a list.
    #[derive(Default)]
    struct Naive(Vec<Extent>);

    impl Naive {
        fn insert(&mut self, run: Extent) -> Extent {
            let at = self.0.partition_point(|old| old.block < run.block);
            self.0.insert(at, run);
            let mut whole = run;
            if let Some(joined) = self.0.get(at + 1).and_then(|next| run.join(*next)) {
                self.0.splice(at..at + 2, [joined]);
                whole = joined;
            }
            if let Some(joined) = at.checked_sub(1).and_then(|last| self.0[last].join(whole)) {
                self.0.splice(at - 1..=at, [joined]);
                whole = joined;
            }
            whole
        }

        fn cut(&mut self, blocks: &Range<u64>) {
            let rests = |run: &Extent| [run.clip(&(0..blocks.start)), run.clip(&(blocks.end..u64::MAX))];
            self.0 = self.0.iter().flat_map(rests).flatten().collect();
        }
    }

    proptest! {
        #[test]
        fn it_is_a_list_of_runs(
            far in prop_oneof![Just(0), Just(1_u64 << 52), Just(u64::MAX / 2)],
            steps in prop::collection::vec((0..5_u8, 0..2_000_u64, 1..9_u64, 0..100_000_u64), 0..400),
        ) {
            let (mut map, mut naive) = (Small::default(), Naive::default());
            for (what, at, len, addr) in steps {
                let (block, addr) = (far + at, if addr % 4 == 0 { far + at } else { far + addr });
                let run = Extent { block, addr, len };
                if what > 0 {
                    if map.runs_from(block).next().is_none_or(|next| next.block >= run.end()) {
                        prop_assert_eq!(map.insert(run), naive.insert(run));
                    }
                } else {
                    let blocks = block..block + if addr % 3 == 0 { len * 40 } else { len };
                    map.cut(&blocks);
                    naive.cut(&blocks);
                }
                map.check();
                prop_assert_eq!(map.first(), naive.0.first().copied());
                let from: Vec<Extent> = naive.0.iter().copied().filter(|run| run.end() > block).collect();
                prop_assert_eq!(map.runs_from(block).collect::<Vec<_>>(), from);
            }
            prop_assert_eq!(map.runs(), naive.0);
        }
    }

    fn scattered(n: u64) -> Extent {
        Extent { block: n * 2, addr: n * 7_919 % 100_003, len: 1 }
    }

    #[test]
    fn holes_leave_no_crowd_of_small_chunks() {
        let mut map = Small::default();
        (0..5_000).for_each(|n| {
            map.insert(scattered(n * 1_237 % 5_000));
        });
        let full = map.chunks.len();
        for n in (0..5_000).filter(|n| n % 16 != 0) {
            map.cut(&(n * 2..n * 2 + 1));
        }
        map.check();
        assert_eq!(map.runs().len(), 313);
        assert!(map.chunks.len() * 5 < full, "{} of {full} chunks are left", map.chunks.len());
        map.cut(&(0..10_000));
        assert_eq!((map.chunks.len(), map.few()), (0, Few::None));
    }

    #[test]
    fn chunks_that_are_written_in_order_are_full() {
        let map = ExtentMap::<LIMIT>::of((0..5_000).map(scattered));
        let bytes: usize = map.chunks.values().map(EncodedExtents::size).sum();
        assert!(bytes / map.chunks.len() > LIMIT * 3 / 4, "{bytes} bytes in {} chunks", map.chunks.len());
    }
}
