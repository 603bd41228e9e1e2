//! One seed, named streams, random access: the only place that makes random numbers.
//!
//! Must not know: what is drawn. Invariant: a draw is a pure function of (seed, stream, identity, index, epoch); no
//! draw depends on another or on the order in which they are made.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

/// What a draw is about: a grain of a file, or the n-th of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DrawKey {
    /// Whose: a file's identity, 0 for the virtual disk or the volume.
    pub identity: u64,
    /// Which: a grain's index, or a counter.
    pub index: u64,
    /// How often it has been through this already.
    pub epoch: u32,
}

impl DrawKey {
    /// The `index`-th of something there is only one row of.
    pub const fn nth(index: u64) -> Self {
        Self { identity: 0, index, epoch: 0 }
    }
}

/// A row of independent draws with a name of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream(u64);

impl Stream {
    /// The stream `name` of `seed`.
    pub fn new(seed: u64, name: &str) -> Self {
        Self(mix(mix(0, seed), identity_of(name.as_bytes())))
    }

    /// The generator of one draw; the same for the same key, always.
    pub fn at(self, key: DrawKey) -> Xoshiro256PlusPlus {
        let hash = mix(mix(mix(self.0, key.identity), key.index), u64::from(key.epoch));
        Xoshiro256PlusPlus::seed_from_u64(hash)
    }

    /// A uniform draw from 0 (included) to 1 (excluded).
    pub fn unit(self, key: DrawKey) -> f64 {
        self.at(key).random()
    }
}

/// A number that stands for `name` (a path, for instance): the same on every machine and in every version.
pub fn identity_of(name: &[u8]) -> u64 {
    let hash =
        name.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    finish(hash)
}

/// A seed for a run that was given none.
#[expect(clippy::disallowed_methods, reason = "this is the one place that makes random numbers")]
pub fn fresh() -> u64 {
    rand::rng().random()
}

/// Folds `value` into `hash`.
pub(crate) const fn mix(hash: u64, value: u64) -> u64 {
    finish(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(value))
}

/// The finaliser of splitmix64: every input bit reaches every output bit.
const fn finish(mut hash: u64) -> u64 {
    hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_depends_on_its_key_alone() {
        let stream = Stream::new(7, "first-write");
        let there: Vec<f64> = (0..100).map(|n| stream.unit(DrawKey::nth(n))).collect();
        let mut back: Vec<f64> = (0..100).rev().map(|n| stream.unit(DrawKey::nth(n))).collect();
        back.reverse();
        assert_eq!(there, back);
    }

    #[test]
    fn seeds_streams_identities_and_epochs_differ() {
        let key = DrawKey { identity: 1, index: 2, epoch: 0 };
        let draws = [
            Stream::new(7, "first-write").unit(key),
            Stream::new(8, "first-write").unit(key),
            Stream::new(7, "first-read").unit(key),
            Stream::new(7, "first-write").unit(DrawKey { epoch: 1, ..key }),
            Stream::new(7, "first-write").unit(DrawKey { identity: 2, index: 1, ..key }),
        ];
        for (n, draw) in draws.iter().enumerate() {
            assert!(!draws[..n].contains(draw));
        }
    }

    #[test]
    fn draws_are_uniform() {
        let stream = Stream::new(1, "uniform");
        let mean = (0..10_000).map(|n| stream.unit(DrawKey::nth(n))).sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
    }
}
