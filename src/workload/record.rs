//! Numbered records that can be told from everything else: `WRITER NUMBER CHECKSUM PAYLOAD`, one line each.
//!
//! Must not know: files. Invariant: what [`decode`] accepts was made by [`encode`] with the same writer and number;
//! half a record, a hole of zeroes or a mixture of two is not accepted.

/// Digits of a record's number.
const DIGITS: usize = 12;

/// Digits of its checksum.
const SUM_DIGITS: usize = 16;

/// What a log program puts before a message is shorter than this.
const MAX_PREFIX: usize = 160;

/// Spreads `value` over all 64 bits; the source of everything that looks random here.
pub(super) const fn mix(value: u64) -> u64 {
    // The constants of splitmix64.
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A record of `length` bytes with its line end, more if its header does not fit.
pub(super) fn encode(seed: u64, writer: &str, number: u64, length: usize) -> Vec<u8> {
    let head = format!("{writer} {number:0DIGITS$} ");
    let block = letters(mix(seed ^ mix(number)));
    let around = head.len() + SUM_DIGITS + 2;
    let payload: Vec<u8> = block.iter().copied().cycle().take(length.saturating_sub(around)).collect();
    let mut record = Vec::with_capacity(around + payload.len());
    record.extend_from_slice(head.as_bytes());
    record.extend_from_slice(format!("{:0SUM_DIGITS$x} ", checksum(writer, number, &payload)).as_bytes());
    record.extend_from_slice(&payload);
    record.push(b'\n');
    record
}

/// 256 letters that follow from `seed`.
fn letters(seed: u64) -> [u8; 256] {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut block = [0; 256];
    let mut state = seed;
    for chunk in block.chunks_mut(8) {
        state = mix(state);
        chunk.iter_mut().zip(state.to_le_bytes()).for_each(|(to, byte)| *to = LETTERS[usize::from(byte & 31)]);
    }
    block
}

/// Writer and number of a record, given without its line end.
pub(super) fn decode(line: &[u8]) -> Option<(&str, u64)> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let mut text = || std::str::from_utf8(fields.next()?).ok();
    let writer = text()?;
    let number = text().filter(|text| text.len() >= DIGITS)?.parse().ok()?;
    let sum = text().filter(|text| text.len() == SUM_DIGITS)?;
    let sum = u64::from_str_radix(sum, 16).ok()?;
    (sum == checksum(writer, number, fields.next()?)).then_some((writer, number))
}

/// Writer and number of the record that ends a line, which may begin with what log programs put before a message (time, host, stream).
pub(super) fn find(line: &[u8]) -> Option<(&str, u64)> {
    starts(line).find_map(|at| decode(&line[at..]))
}

/// Writer and number by the head of a record, whole or not.
pub(super) fn header(line: &[u8]) -> Option<(&str, u64)> {
    starts(line).find_map(|at| {
        let mut fields = line[at..].splitn(3, |byte| *byte == b' ');
        let writer = std::str::from_utf8(fields.next()?).ok().filter(|writer| writer.contains('-'))?;
        let number = std::str::from_utf8(fields.next()?).ok().filter(|number| number.len() >= DIGITS)?;
        Some((writer, number.parse().ok()?))
    })
}

/// Where a record may begin: at the start, and behind blanks among the first bytes.
fn starts(line: &[u8]) -> impl Iterator<Item = usize> {
    let blanks = line.iter().take(MAX_PREFIX).enumerate().filter(|(_, byte)| matches!(byte, b' ' | b'\t'));
    std::iter::once(0).chain(blanks.map(|(at, _)| at + 1))
}

/// Over everything, eight bytes at a time.
fn checksum(writer: &str, number: u64, payload: &[u8]) -> u64 {
    let length = u64::try_from(payload.len()).unwrap_or(u64::MAX);
    add_words(add_words(mix(mix(length) ^ number), writer.as_bytes()), payload)
}

fn add_words(sum: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(sum, |sum, word| mix(sum ^ u64::from_le_bytes(*word)));
    rest.iter().fold(sum, |sum, byte| mix(sum ^ u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (number, length) in [(0, 300), (7, 0), (u64::MAX, 4096), (1, 1 << 20)] {
            let record = encode(42, "fluentd-0", number, length);
            assert!(record.len() == length || length < 60, "{} {length}", record.len());
            assert_eq!(record.last(), Some(&b'\n'));
            assert_eq!(decode(&record[..record.len() - 1]), Some(("fluentd-0", number)));
        }
    }

    #[test]
    fn a_record_is_found_behind_a_prefix() {
        let record = encode(1, "kubelet-0", 5, 200);
        let line = [b"2026-11-26T15:00:00.000000000Z stdout F ", &record[..199]].concat();
        assert_eq!(find(&line), Some(("kubelet-0", 5)));
        assert_eq!((find(&line[..150]), header(&line[..150])), (None, Some(("kubelet-0", 5))));
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        assert_eq!(encode(1, "a-0", 5, 200), encode(1, "a-0", 5, 200));
        assert_ne!(encode(1, "a-0", 5, 200), encode(2, "a-0", 5, 200));
    }

    #[test]
    fn what_is_damaged_is_not_a_record() {
        let record = encode(42, "fluentd-0", 3, 120);
        let line = &record[..119];
        for end in 0..line.len() {
            assert_eq!(decode(&line[..end]), None, "cut at {end}");
        }
        for at in 0..line.len() {
            let mut other = line.to_vec();
            other[at] ^= 1;
            assert_eq!(decode(&other), None, "changed at {at}");
        }
        assert_eq!(decode(&[0; 4096]), None);
        assert_eq!(decode(b""), None);
    }
}
