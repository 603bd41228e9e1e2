//! Puts bytes together into lines.
//!
//! Must not know: where the bytes come from, what lines mean. Invariant: a line comes out once; what stands beyond
//! [`MAX_LINE`] is left out up to the line's end, so memory stays bounded.

/// A longer line is cut here, in bytes.
const MAX_LINE: usize = 64 * 1024;

/// The line that is still being read.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
    /// The rest of a line that was too long is being left out.
    skipping: bool,
}

impl Lines {
    /// Takes bytes and adds the lines that they complete to `out`. A carriage return ends a line, too: a progress bar
    /// has no other ends, and a kernel's line may follow it.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<Vec<u8>>) {
        for byte in bytes {
            match byte {
                b'\n' | b'\r' => self.finish(out),
                // A log that was cut off under a writer that goes on behind begins with a hole.
                0 => {}
                _ if self.skipping => {}
                _ => self.add(*byte, out),
            }
        }
    }

    fn add(&mut self, byte: u8, out: &mut Vec<Vec<u8>>) {
        self.partial.push(byte);
        if self.partial.len() >= MAX_LINE {
            out.push(std::mem::take(&mut self.partial));
            self.skipping = true;
        }
    }

    /// The line ends here, also without a line end: nothing more of it will come.
    pub(super) fn finish(&mut self, out: &mut Vec<Vec<u8>>) {
        self.skipping = false;
        if !self.partial.is_empty() {
            out.push(std::mem::take(&mut self.partial));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(parts: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        parts.iter().for_each(|part| lines.push(part, &mut out));
        lines.finish(&mut out);
        out
    }

    #[test]
    fn any_line_end_ends_a_line() {
        assert_eq!(lines(&[b"a\r\nb\n\rc\rd", b"e\n", b"f"]), [&b"a"[..], b"b", b"c", b"de", b"f"]);
        assert!(lines(&[b"\r\n\n", b""]).is_empty());
    }

    #[test]
    fn holes_are_left_out() {
        assert_eq!(lines(&[&[0; 200_000], b"a\0b\n"]), [b"ab"]);
    }

    #[test]
    fn the_rest_of_a_line_that_is_too_long_is_no_line() {
        let long = [&[b'x'; 70_000][..], b"rest\nnext\n"].concat();
        let found = lines(&[&long]);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].len(), MAX_LINE);
        assert_eq!(found[1], b"next");
    }
}
