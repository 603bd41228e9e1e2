//! Whether something that costs processor time pays often enough to go on with.
//!
//! Must not know: what is paid for. Invariant: what never pays is tried once in [`BACK_OFF`] times.

use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

/// What a try that paid adds is one; one that did not takes this much. Below zero there are no tries.
const MISS: i32 = 8;
/// The most that can be saved up.
const MOST: i32 = 32;
/// After too many in vain: how many go by until the next try.
const BACK_OFF: i32 = 256;

/// What has been saved up. One thread changes it at a time; if two do, a count is lost.
#[derive(Debug)]
pub(super) struct Credit(AtomicI32);

impl Credit {
    /// Enough for four tries in vain.
    pub(super) const fn full() -> Self {
        Self(AtomicI32::new(MOST))
    }

    /// Whether to try. A "no" brings the next "yes" nearer.
    pub(super) fn lasts(&self) -> bool {
        let credit = self.0.load(Relaxed);
        if credit < 0 {
            self.0.store(if credit == -1 { MISS } else { credit + 1 }, Relaxed);
        }
        credit >= 0
    }

    /// A try is over.
    pub(super) fn settle(&self, paid: bool) {
        self.0.store(settled(self.0.load(Relaxed), paid), Relaxed);
    }
}

const fn settled(credit: i32, paid: bool) -> i32 {
    if paid {
        if credit < MOST { credit + 1 } else { MOST }
    } else if credit < MISS {
        -BACK_OFF
    } else {
        credit - MISS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mostly_pays_goes_on_and_the_rest_stops() {
        let mostly = |paid_of_ten: i32| {
            (0..1000).try_fold(MOST, |credit, n| Some(settled(credit, n % 10 < paid_of_ten)).filter(|left| *left >= 0))
        };
        assert!(mostly(10).is_some());
        assert!(mostly(9).is_some());
        assert!(mostly(8).is_none());
        assert!(mostly(0).is_none());
    }

    #[test]
    fn what_never_pays_is_tried_again_after_a_while() {
        let credit = Credit::full();
        while credit.lasts() {
            credit.settle(false);
        }
        assert_eq!((2..).find(|_| credit.lasts()), Some(BACK_OFF + 1));
    }
}
