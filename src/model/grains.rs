//! A set of grain indices: one run in line, a compressed bitmap once there are several.
//!
//! Must not know: what being in the set means. Invariant: the in-line run is never empty unless the set is.
//!
//! Memory: 24 bytes for any set that is one run (a file written from its start); otherwise at most a bit for each grain
//! below the highest, so 2 MiB for each TiB of 64 KiB grains in whatever order they are written.

use std::ops::Range;

use roaring::RoaringTreemap;

/// A set of grain indices.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum GrainSet {
    /// These and no others.
    Run(u64, u64),
    /// Any pattern.
    Many(Box<RoaringTreemap>),
}

impl Default for GrainSet {
    fn default() -> Self {
        Self::Run(0, 0)
    }
}

impl GrainSet {
    pub(super) fn contains(&self, index: u64) -> bool {
        match self {
            Self::Run(start, end) => (*start..*end).contains(&index),
            Self::Many(map) => map.contains(index),
        }
    }

    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Run(start, end) => end - start,
            Self::Many(map) => map.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds `range`; how many were not in it.
    pub(super) fn insert(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        match self {
            Self::Run(start, end) if start == end => {
                (*start, *end) = (range.start, range.end);
                range.end - range.start
            }
            Self::Run(start, end) if range.start <= *end && *start <= range.end => {
                let before = *end - *start;
                (*start, *end) = (range.start.min(*start), range.end.max(*end));
                *end - *start - before
            }
            _ => self.many().insert_range(range),
        }
    }

    /// Takes `range` out; how many were in it.
    pub(super) fn remove(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        match self {
            Self::Run(start, end) => {
                let cut = range.start.clamp(*start, *end)..range.end.clamp(*start, *end);
                let removed = cut.end - cut.start;
                if removed == 0 {
                    return 0;
                }
                if cut.start > *start && cut.end < *end {
                    return self.many().remove_range(cut);
                }
                if cut.start == *start {
                    *start = cut.end;
                } else {
                    *end = cut.start;
                }
                removed
            }
            Self::Many(map) => map.remove_range(range),
        }
    }

    /// The indices, lowest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        let (run, map) = match self {
            Self::Run(start, end) => (*start..*end, None),
            Self::Many(map) => (0..0, Some(map.iter())),
        };
        run.chain(map.into_iter().flatten())
    }

    /// The set as runs, lowest first.
    pub(super) fn runs(&self) -> Vec<(u64, u64)> {
        if let Self::Run(start, end) = self {
            return if start == end { Vec::new() } else { vec![(*start, *end)] };
        }
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for index in self.iter() {
            match runs.last_mut() {
                Some((_, end)) if *end == index => *end += 1,
                _ => runs.push((index, index + 1)),
            }
        }
        runs
    }

    /// The set of these runs.
    pub(super) fn from_runs(runs: &[(u64, u64)]) -> Self {
        let mut set = Self::default();
        for (start, end) in runs {
            set.insert(*start..*end);
        }
        set
    }

    fn many(&mut self) -> &mut RoaringTreemap {
        if let Self::Run(start, end) = *self {
            let mut map = RoaringTreemap::new();
            map.insert_range(start..end);
            *self = Self::Many(Box::new(map));
        }
        match self {
            Self::Many(map) => map,
            Self::Run(..) => unreachable!("it was made a bitmap above"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(steps in prop::collection::vec((any::<bool>(), 0u64..40, 0u64..12), 0..40)) {
            let (mut set, mut naive) = (GrainSet::default(), BTreeSet::new());
            for (add, start, len) in steps {
                let range = start..start + len;
                if add {
                    let new = range.clone().filter(|n| naive.insert(*n)).count() as u64;
                    prop_assert_eq!(set.insert(range), new);
                } else {
                    let old = range.clone().filter(|n| naive.remove(n)).count() as u64;
                    prop_assert_eq!(set.remove(range), old);
                }
                prop_assert_eq!(set.len(), naive.len() as u64);
                prop_assert!((0..60).all(|n| set.contains(n) == naive.contains(&n)));
                prop_assert!(set.iter().eq(naive.iter().copied()));
                prop_assert!(GrainSet::from_runs(&set.runs()).iter().eq(naive.iter().copied()));
            }
        }
    }

    #[test]
    fn the_largest_range_is_one_step() {
        let mut set = GrainSet::from_runs(&[(0, 10), (20, 30)]);
        assert_eq!(set.remove(5..u64::MAX), 15);
    }
}
