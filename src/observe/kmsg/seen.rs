//! Which findings were told already: a log that is shown again has the kernel's own time stamps again.
//!
//! Must not know: what findings mean. Invariant: memory is bounded; a finding without the kernel's time is always new.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

/// So many are remembered.
const MAX_SEEN: usize = 4096;

/// Findings that were told.
#[derive(Debug, Default)]
pub(super) struct Seen {
    told: VecDeque<u64>,
}

impl Seen {
    /// Whether this message with this time is new; it is not any more after that.
    pub(super) fn is_new(&mut self, kernel_us: Option<u64>, text: &str) -> bool {
        let Some(kernel_us) = kernel_us else { return true };
        let mut hasher = DefaultHasher::new();
        (kernel_us, text).hash(&mut hasher);
        let hash = hasher.finish();
        if self.told.contains(&hash) {
            return false;
        }
        if self.told.len() == MAX_SEEN {
            self.told.pop_front();
        }
        self.told.push_back(hash);
        true
    }

    /// The kernel counts its time anew.
    pub(super) fn forget(&mut self) {
        self.told.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_message_with_the_same_time_is_told_once() {
        let mut seen = Seen::default();
        assert!(seen.is_new(Some(1), "a"));
        assert!(!seen.is_new(Some(1), "a"));
        assert!(seen.is_new(Some(2), "a") && seen.is_new(Some(1), "b"));
        assert!(seen.is_new(None, "a") && seen.is_new(None, "a"));
        seen.forget();
        assert!(seen.is_new(Some(1), "a"));
    }
}
