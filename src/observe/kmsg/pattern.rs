//! Patterns of messages: words with gaps.
//!
//! Must not know: what messages mean. Invariant: a pattern fits from the message's first word on, never in its middle, so what
//! quotes a message does not fit.
//!
//! `{}` is any text, `{dev}` a device's name (what follows it in the gap is left out), `{disk}` a gap that is a device's name and
//! nothing else, `{ata}`, `{mmc}` and `{nbd}` such a name that begins with that word, `{n}` a number, `$` at the end the message's end. Upper and lower case are the
//! same.

/// What stood in a pattern's gaps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Gaps {
    pub(super) device: Option<String>,
    pub(super) number: Option<u64>,
}

/// The gaps, if `text` begins as `pattern` says.
pub(super) fn fits(pattern: &str, text: &str) -> Option<Gaps> {
    let (pattern, to_end) = pattern.strip_suffix('$').map_or((pattern, false), |pattern| (pattern, true));
    let mut parts = pattern.split('{');
    let mut rest = strip_prefix(text, parts.next()?)?;
    let mut gaps = Gaps::default();
    for part in parts {
        let (name, words) = part.split_once('}')?;
        let (gap, after) = if words.is_empty() { (rest, "") } else { split_at_words(rest, words)? };
        gaps.fill(name, gap)?;
        rest = after;
    }
    (!to_end || rest.trim_end_matches('.').is_empty()).then_some(gaps)
}

impl Gaps {
    fn fill(&mut self, name: &str, gap: &str) -> Option<()> {
        match name {
            "dev" => {
                let device = gap.split([' ', ',']).next()?.trim_end_matches(['.', ':']);
                let is_whole =
                    device.len() + 1 >= gap.len() || gap.get(device.len()..)?.starts_with([' ', ',', '.', ':']);
                self.device = Some(device.to_owned()).filter(|device| is_whole && !device.is_empty());
                self.device.as_ref().map(|_| ())
            }
            "disk" => {
                let is_name = |c: char| c.is_ascii_alphanumeric() || "-_!".contains(c);
                self.device = Some(gap.to_owned()).filter(|device| !device.is_empty() && device.chars().all(is_name));
                self.device.as_ref().map(|_| ())
            }
            "ata" | "mmc" | "nbd" => {
                let is_name = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
                self.device =
                    Some(gap.to_owned()).filter(|device| device.starts_with(name) && device.chars().all(is_name));
                self.device.as_ref().map(|_| ())
            }
            "n" => {
                self.number = leading_number(gap);
                Some(())
            }
            _ => Some(()),
        }
    }
}

/// A decimal number; hexadecimal ones are left out.
fn leading_number(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let is_hex = text.get(end..)?.starts_with('x');
    text.get(..end).filter(|_| !is_hex)?.parse().ok()
}

fn strip_prefix<'a>(text: &'a str, words: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(words.len())?;
    start.eq_ignore_ascii_case(words).then_some(rest)
}

fn split_at_words<'a>(text: &'a str, words: &str) -> Option<(&'a str, &'a str)> {
    let at = text.char_indices().map(|(at, _)| at).find(|at| strip_prefix(&text[*at..], words).is_some())?;
    Some((text.get(..at)?, text.get(at + words.len()..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(pattern: &str, text: &str) -> Option<(Option<String>, Option<u64>)> {
        fits(pattern, text).map(|gaps| (gaps.device, gaps.number))
    }

    #[test]
    fn gaps_are_filled() {
        let dev = |name: &str| Some(name.to_owned());
        for (pattern, text, expected) in [
            ("a b", "a b c", (None, None)),
            ("{} error, dev {dev}, sector {n}", "I/O error, dev sda, sector 12 op 0x1", (dev("sda"), Some(12))),
            ("XFS ({dev}): {}error", "XFS (dm-0): log I/O Error 5", (dev("dm-0"), None)),
            ("thin: {dev}: switching", "thin: 253:2: switching pool", (dev("253:2"), None)),
            ("error (device {dev}) in", "error (device sda1: state EA) in x", (dev("sda1"), None)),
            ("{disk}: error", "dm-0: error", (dev("dm-0"), None)),
            ("{ata}: disabled", "ata1.00: disabled", (dev("ata1.00"), None)),
            ("page on {dev}", "page on dm-0.", (dev("dm-0"), None)),
            ("block {n}", "block 0x12", (None, None)),
            ("abort$", "Abort", (None, None)),
        ] {
            assert_eq!(gaps(pattern, text), Some(expected), "{pattern}");
        }
    }

    #[test]
    fn what_does_not_fit() {
        for (pattern, text) in [
            ("a b", "x a b"),
            ("a {} c", "a b d"),
            ("abort$", "abort it"),
            ("dev {dev}, x", "dev , x"),
            ("{disk}: a", "b c: a"),
            ("{ata}: a", "data1: a"),
            ("ä", "a"),
        ] {
            assert_eq!(gaps(pattern, text), None, "{pattern}");
        }
    }
}
