//! ExtentIter of blocks, and a sequence of them coded in few bytes.
//!
//! Must not know: how sequences are kept in order, or what an address means. Invariant: what is read is what was coded, for any runs
//! whose ends fit in 64 bits.
//!
//! A sequence has one record a run, all of the same width: the block's distance from an origin, the address's from a base, the
//! length; each in units of the largest power of two that divides them all, in as few bytes as the largest of its kind
//! needs. So the n-th run is found by its place, and a run is put in without a look at the others, as long as it fits. No
//! byte is needed for a length that all runs have, nor for addresses that all are as far from their blocks.
//!
//! A file that is filled grain by grain at random, 64 KiB each, costs 4 bytes a run below 1 TiB: 1 for the block (256 grains),
//! 3 for the address (2^24 grains), none for the length. In single blocks of 4 KiB these are 4 bytes below 64 GiB, 5 above.

use std::ops::Range;

/// BlockAllocator of a file that lie one after the other on the virtual disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// First block in the file.
    pub(super) block: u64,
    /// Its address on the virtual disk, in blocks.
    pub(super) addr: u64,
    /// How many blocks.
    pub(super) len: u64,
}

impl Extent {
    /// The first block behind it.
    pub(super) const fn end(self) -> u64 {
        self.block.saturating_add(self.len)
    }

    /// The part of it that lies in `blocks`.
    pub(super) fn clip(self, blocks: &Range<u64>) -> Option<Self> {
        let (start, end) = (self.block.max(blocks.start), self.end().min(blocks.end));
        (start < end).then(|| Self { block: start, addr: self.addr + (start - self.block), len: end - start })
    }

    /// Both as one run, if `next` goes on where this ends.
    pub(super) fn join(self, next: Self) -> Option<Self> {
        let goes_on = self.end() == next.block && self.addrs().end == next.addr;
        goes_on.then_some(Self { len: self.len + next.len, ..self })
    }

    /// Its addresses.
    pub(super) const fn addrs(self) -> Range<u64> {
        self.addr..self.addr.saturating_add(self.len)
    }
}

/// A number's place in a record: so many bytes.
type Width = u8;

/// The longest record: three numbers of 8 bytes.
const LONGEST: usize = 24;

/// How the records of a sequence are to be read.
#[derive(Debug, Clone, Copy, Default)]
struct RecordLayout {
    /// What addresses are counted from; if they have no width, how far each is from its block (modulo 2^64).
    base: u64,
    /// If lengths have no width, the one that all have.
    len: u64,
    /// Numbers are in units of two to the power of this.
    shift: u8,
    /// At least 1.
    block_width: Width,
    addr_width: Width,
    len_width: Width,
}

/// ExtentIter in order, coded.
#[derive(Debug, Default)]
pub(super) struct EncodedExtents {
    bytes: Box<[u8]>,
    shape: RecordLayout,
}

/// A sequence, given the first run's block.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExtentIter<'a> {
    bytes: &'a [u8],
    shape: RecordLayout,
    /// What blocks are counted from (modulo 2^64).
    origin: u64,
}

impl EncodedExtents {
    /// Codes `runs`, which are in order.
    pub(super) fn new(runs: &[Extent]) -> Self {
        let Some(first) = runs.first() else { return Self::default() };
        let shape = RecordLayout::of(runs, first);
        let mut bytes = Vec::with_capacity(runs.len() * shape.stride());
        for run in runs {
            let record = shape.record(first.block, *run);
            debug_assert!(record.is_some(), "a run that does not fit in its own shape");
            record.iter().for_each(|record| bytes.extend_from_slice(record.bytes()));
        }
        Self { bytes: bytes.into_boxed_slice(), shape }
    }

    /// How many bytes the records take.
    pub(super) const fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The runs, of which the first begins at `first`.
    pub(super) fn runs(&self, first: u64) -> ExtentIter<'_> {
        let mut runs = ExtentIter { bytes: &self.bytes, shape: self.shape, origin: 0 };
        runs.origin = first.wrapping_sub(runs.get(0).map_or(0, |run| run.block));
        runs
    }

    /// Puts at most two runs in place of those at `gone`.
    pub(super) fn replace(&mut self, first: u64, gone: &Range<usize>, put: &[Extent]) {
        debug_assert!(put.len() <= 2, "not all are put in");
        let runs = self.runs(first);
        let records = [put.first(), put.get(1)].map(|run| run.map(|run| self.shape.record(runs.origin, *run)));
        let fits = !self.bytes.is_empty() && records.iter().flatten().all(Option::is_some);
        if fits {
            let [a, b] =
                records.each_ref().map(|record| record.iter().flatten().next().map_or(&[][..], EncodedRecord::bytes));
            let stride = self.shape.stride();
            let (head, tail) = (self.bytes.get(..gone.start * stride), self.bytes.get(gone.end * stride..));
            self.bytes = [head.unwrap_or_default(), a, b, tail.unwrap_or_default()].concat().into_boxed_slice();
        } else {
            let (head, tail) = (runs.iter().take(gone.start), runs.iter().skip(gone.end));
            *self = Self::new(&head.chain(put.iter().copied()).chain(tail).collect::<Vec<_>>());
        }
    }
}

impl ExtentIter<'_> {
    pub(super) fn count(&self) -> usize {
        self.bytes.len().checked_div(self.shape.stride()).unwrap_or(0)
    }

    /// The n-th run.
    pub(super) fn get(&self, n: usize) -> Option<Extent> {
        let RecordLayout { base, len, shift, block_width, addr_width, len_width } = self.shape;
        let record = self.bytes.get(n * self.shape.stride()..).filter(|record| !record.is_empty())?;
        let number = |at: Width, width: Width| load(record, at, width) << shift;
        let block = self.origin.wrapping_add(number(0, block_width));
        let addr = if addr_width == 0 { block } else { number(block_width, addr_width) }.wrapping_add(base);
        let len = if len_width == 0 { len } else { number(block_width + addr_width, len_width) };
        Some(Extent { block, addr, len })
    }

    /// All of them.
    pub(super) fn iter(self) -> impl Iterator<Item = Extent> {
        self.range(0..self.count())
    }

    /// Those at these places.
    pub(super) fn range(self, places: Range<usize>) -> impl Iterator<Item = Extent> {
        places.map_while(move |n| self.get(n))
    }

    /// How many begin before `block`.
    pub(super) fn before(&self, block: u64) -> usize {
        let (stride, width, shift) = (self.shape.stride(), self.shape.block_width, self.shape.shift);
        let begin = |n: usize| self.bytes.get(n * stride..).map_or(0, |record| load(record, 0, width) << shift);
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low.midpoint(high);
            if self.origin.wrapping_add(begin(middle)) < block {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

impl RecordLayout {
    /// The narrowest in which `runs` fit, counted from the `first` one's block.
    fn of(runs: &[Extent], first: &Extent) -> Self {
        let far = |run: &Extent| run.addr.wrapping_sub(run.block);
        let as_far = runs.iter().all(|run| far(run) == far(first));
        let as_long = runs.iter().all(|run| run.len == first.len);
        let (least, most) =
            runs.iter().fold((u64::MAX, 0), |(least, most), run| (least.min(run.addr), most.max(run.addr)));
        let bits = |run: &Extent| {
            let addr = if as_far { 0 } else { run.addr - least };
            run.block.wrapping_sub(first.block) | addr | run.len
        };
        let shift = runs.iter().map(bits).fold(0, |all, bits| all | bits).trailing_zeros().min(63);
        let widest =
            |numbers: &dyn Fn(&Extent) -> u64| runs.iter().map(numbers).max().map_or(0, |most| width(most >> shift));
        let mut shape = Self {
            base: least,
            len: if as_long { first.len } else { 0 },
            shift: u8::try_from(shift).unwrap_or(0),
            block_width: widest(&|run| run.block.wrapping_sub(first.block)).max(1),
            addr_width: width((most - least) >> shift).max(1),
            len_width: if as_long { 0 } else { widest(&|run| run.len) },
        };
        if as_far {
            (shape.base, shape.addr_width) = (far(first), 0);
        } else if width(most >> shift) == shape.addr_width && least.trailing_zeros() >= shift {
            // So that lower addresses fit as well.
            shape.base = 0;
        }
        shape
    }

    /// Bytes of a record.
    const fn stride(&self) -> usize {
        self.block_width as usize + self.addr_width as usize + self.len_width as usize
    }

    /// The record of a run, if it fits.
    fn record(&self, origin: u64, run: Extent) -> Option<EncodedRecord> {
        let mut record = EncodedRecord { bytes: [0; LONGEST], used: 0 };
        record.push(self.units(run.block.wrapping_sub(origin))?, self.block_width)?;
        if self.addr_width > 0 {
            record.push(self.units(run.addr.checked_sub(self.base)?)?, self.addr_width)?;
        } else if run.addr != run.block.wrapping_add(self.base) {
            return None;
        }
        if self.len_width > 0 {
            record.push(self.units(run.len)?, self.len_width)?;
        } else if run.len != self.len {
            return None;
        }
        Some(record)
    }

    fn units(&self, number: u64) -> Option<u64> {
        let units = number >> self.shift;
        (units << self.shift == number).then_some(units)
    }
}

/// One run, coded.
#[derive(Debug, Clone, Copy)]
struct EncodedRecord {
    bytes: [u8; LONGEST],
    used: usize,
}

impl EncodedRecord {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.used).unwrap_or_default()
    }

    /// Adds a number, lowest byte first, if that many bytes hold it.
    fn push(&mut self, number: u64, bytes: Width) -> Option<()> {
        if width(number) > bytes {
            return None;
        }
        let places = self.bytes.get_mut(self.used..self.used + usize::from(bytes))?;
        places.iter_mut().zip(number.to_le_bytes()).for_each(|(place, byte)| *place = byte);
        self.used += usize::from(bytes);
        Some(())
    }
}

/// How many bytes hold `number`: 0 to 8.
const fn width(number: u64) -> Width {
    (u64::BITS - number.leading_zeros()).div_ceil(8).to_le_bytes()[0]
}

/// The number of `width` bytes at `at`.
fn load(record: &[u8], at: Width, width: Width) -> u64 {
    let bytes = record.get(usize::from(at)..).unwrap_or_default();
    match bytes.first_chunk() {
        Some(eight) => u64::from_le_bytes(*eight) & u64::MAX.checked_shr(64 - 8 * u32::from(width)).unwrap_or(0),
        None => bytes.iter().take(usize::from(width)).rev().fold(0, |number, &byte| number << 8 | u64::from(byte)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Small numbers, multiples of a grain and extreme ones.
    fn number(most: u64) -> impl Strategy<Value = u64> {
        prop_oneof![0..300_u64, (0..5_000_u64).prop_map(|n| n * 16), (0..=most.ilog2()).prop_map(|n| 1 << n), 0..=most]
    }

    /// ExtentIter that follow each other: gap, address, length.
    fn runs() -> impl Strategy<Value = Vec<Extent>> {
        let len = prop_oneof![3 => Just(16_u64), 1 => number(1 << 40).prop_map(|len| len.max(1))];
        let far = (any::<bool>(), number(1 << 60)).prop_map(|(is_same, far)| if is_same { 7 } else { far });
        let one = (number(1 << 55), prop_oneof![number(u64::MAX / 2).prop_map(Ok), far.prop_map(Err)], len);
        (number(u64::MAX / 2), prop::collection::vec(one, 1..20)).prop_map(|(mut block, parts)| {
            let run = |(gap, place, len): (u64, Result<u64, u64>, u64)| {
                block += gap;
                let run = Extent { block, addr: place.unwrap_or_else(|far| block.wrapping_add(far) / 2), len };
                block += len;
                run
            };
            parts.into_iter().map(run).collect()
        })
    }

    proptest! {
        #[test]
        fn what_was_coded_is_read(all in runs(), other in runs(), ends in any::<(u8, u8)>(), puts in 0..3_usize) {
            let mut coded = EncodedExtents::new(&all);
            let first = all[0].block;
            prop_assert_eq!(coded.runs(first).iter().collect::<Vec<_>>(), &all[..]);
            prop_assert_eq!(coded.runs(first).get(all.len()), None);
            for run in &all {
                for block in [run.block.saturating_sub(1), run.block, run.end()] {
                    prop_assert_eq!(coded.runs(first).before(block), all.iter().filter(|run| run.block < block).count());
                }
            }
            // Any runs in place of any; that they are out of order then matters to nobody here.
            let start = usize::from(ends.0) % all.len();
            let gone = start..start.max(all.len() - usize::from(ends.1) % all.len());
            let put: Vec<Extent> = other.into_iter().take(puts).collect();
            coded.replace(first, &gone, &put);
            let mut expected = all;
            expected.splice(gone, put);
            if let Some(run) = expected.first() {
                prop_assert_eq!(coded.runs(run.block).iter().collect::<Vec<_>>(), expected);
            } else {
                prop_assert_eq!(coded.size(), 0);
            }
        }
    }

    fn scattered(count: u64, grain: u64) -> Vec<Extent> {
        let run = |n: u64| Extent { block: 700 + n * grain, addr: n * 7_919 % 100_003 * 70 * grain, len: grain };
        (0..count).map(run).collect()
    }

    #[test]
    fn a_random_grain_takes_four_bytes() {
        assert_eq!(EncodedExtents::new(&scattered(100, 16)).size(), 400);
        assert_eq!(EncodedExtents::new(&scattered(100, 256)).size(), 400);
    }

    #[test]
    fn runs_that_are_as_far_from_their_blocks_take_no_address() {
        let runs: Vec<Extent> = (0..100).map(|n| Extent { block: n * 32, addr: (1 << 52) + n * 32, len: 16 }).collect();
        assert_eq!(EncodedExtents::new(&runs).size(), 100);
    }
}
