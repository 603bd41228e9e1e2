//! Sets of numbers as ranges.
//!
//! Must not know: what the numbers mean. Invariant: ranges are in order, and no two of them touch.

use roaring::RoaringTreemap;

/// The runs of consecutive numbers in a set.
pub(super) fn ranges(set: &RoaringTreemap) -> impl Iterator<Item = (u64, u64)> {
    let mut numbers = set.iter().peekable();
    std::iter::from_fn(move || {
        let first = numbers.next()?;
        let mut last = first;
        while let Some(next) = numbers.next_if(|next| last.checked_add(1) == Some(*next)) {
            last = next;
        }
        Some((first, last))
    })
}
