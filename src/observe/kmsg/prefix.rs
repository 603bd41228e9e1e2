//! Takes off what stands in front of a kernel message: time, level, caller, syslog's and journald's words.
//!
//! Must not know: what messages mean. Invariant: any text comes out as a [`Line`]; what is not understood stays in
//! its text.

/// How far from the start a prefix is looked for, in bytes.
const REACH: usize = 160;

/// A line without its prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// The whole line, without control characters.
    pub(super) raw: String,
    /// Microseconds since that kernel's boot.
    pub(super) kernel_us: Option<u64>,
    /// `T123` or `C0`, if the kernel tells who printed (`CONFIG_PRINTK_CALLER`).
    pub(super) caller: Option<String>,
    /// The message, without blanks around it.
    pub(super) text: String,
}

impl Line {
    /// Takes `line` apart.
    pub(super) fn parse(line: &str) -> Self {
        let raw = clean(line);
        let mut parsed = Self::default();
        let rest = match parsed.take_record(&raw) {
            Some(text) => unescape(text),
            None => parsed.take_prefixes(&raw).to_owned(),
        };
        rest.trim().clone_into(&mut parsed.text);
        raw.trim().clone_into(&mut parsed.raw);
        parsed
    }

    /// `/dev/kmsg`: `priority,sequence,microseconds,flags[,caller=..];text`.
    fn take_record<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        let (head, text) = line.split_once(';')?;
        let mut fields = head.split(',');
        let priority: Option<u32> = fields.next()?.parse().ok();
        let sequence: Option<u64> = fields.next()?.parse().ok();
        let micros: u64 = fields.next()?.parse().ok()?;
        priority.and(sequence)?;
        self.kernel_us = Some(micros);
        self.caller = fields.find_map(|field| field.strip_prefix("caller=")).map(str::to_owned);
        Some(text)
    }

    /// Everything else: serial consoles, `dmesg` in its forms, syslog and journal files.
    fn take_prefixes<'a>(&mut self, line: &'a str) -> &'a str {
        let mut rest = self.take_stamps(line);
        let stamped = rest.len() != line.len();
        rest = strip_level(strip_date(strip_level(rest)));
        rest = strip_facility(rest);
        rest = strip_syslog(rest, stamped || rest.len() != line.len());
        self.take_stamps(strip_level(rest))
    }

    /// `[  123.456789]` and `[ T123]`, with whatever the console had on the line before.
    fn take_stamps<'a>(&mut self, line: &'a str) -> &'a str {
        let mut rest = line;
        while let Some((micros, after)) = find_stamp(rest) {
            self.kernel_us = Some(micros);
            rest = after;
            if let Some((caller, after)) = take_caller(rest) {
                self.caller = Some(caller.to_owned());
                rest = after;
            }
        }
        rest
    }
}

/// At most `max` bytes of `text`.
pub(super) fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// Without escape sequences, carriage returns and other control characters.
fn clean(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' && chars.next_if_eq(&'[').is_some() {
            let _letter = chars.by_ref().find(|c| ('@'..='~').contains(c));
        } else if c == '\t' {
            out.push(' ');
        } else if !c.is_control() {
            out.push(c);
        }
    }
    out
}

/// `/dev/kmsg` writes bytes that are not printable as `\x0a`; what follows a line's end is a line of its own there,
/// and no report needs it.
fn unescape(text: &str) -> String {
    text.split("\\x0a").next().unwrap_or_default().replace("\\x09", " ").replace("\\x5c", "\\")
}

/// The first `[seconds.micros]` near the line's start, and what follows it.
fn find_stamp(line: &str) -> Option<(u64, &str)> {
    cut(line, REACH).match_indices('[').find_map(|(at, _)| parse_stamp(line.get(at + 1..)?))
}

/// `  123.456789] rest`.
fn parse_stamp(text: &str) -> Option<(u64, &str)> {
    let (inside, rest) = text.split_once(']')?;
    let (seconds, micros) = inside.trim_start().split_once('.')?;
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if seconds.is_empty() || micros.len() != 6 || !digits(seconds) || !digits(micros) {
        return None;
    }
    let seconds: u64 = seconds.parse().ok()?;
    let micros: u64 = micros.parse().ok()?;
    Some((seconds.checked_mul(1_000_000)?.checked_add(micros)?, rest))
}

/// `[ T123]` or `[C0]` right after a time stamp.
fn take_caller(text: &str) -> Option<(&str, &str)> {
    let (inside, rest) = text.trim_start().strip_prefix('[')?.split_once(']')?;
    let caller = inside.trim();
    let number = caller.strip_prefix('T').or_else(|| caller.strip_prefix('C'))?;
    (!number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())).then_some((caller, rest))
}

/// `<3>`.
fn strip_level(text: &str) -> &str {
    let inside = text.strip_prefix('<').and_then(|rest| rest.split_once('>'));
    match inside {
        Some((level, rest)) if !level.is_empty() && level.bytes().all(|b| b.is_ascii_digit()) => rest,
        _ => text,
    }
}

/// `Nov 24 03:02:01 `, `2025-11-24T03:02:01.5+08:00 ` or `[Mon Nov 24 03:02:01 2025] `.
fn strip_date(text: &str) -> &str {
    if let Some((inside, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        return if inside.split(' ').any(is_clock) { rest } else { text };
    }
    let Some(first) = text.split(' ').next() else { return text };
    if first.contains('T') && first.split('T').nth(1).is_some_and(is_clock) {
        return text.get(first.len() + 1..).unwrap_or_default();
    }
    let clock = text.split(' ').take(4).find(|word| is_clock(word));
    let is_month = first.len() == 3 && first.bytes().all(|b| b.is_ascii_alphabetic());
    match clock.filter(|_| is_month).and_then(|clock| text.split_once(clock)) {
        Some((_, rest)) => rest.strip_prefix(' ').unwrap_or(rest),
        None => text,
    }
}

/// Whether `word` begins with `03:02:01`.
fn is_clock(word: &str) -> bool {
    let bytes = word.as_bytes();
    bytes.len() >= 8
        && bytes.iter().take(8).enumerate().all(|(i, b)| if i % 3 == 2 { *b == b':' } else { b.is_ascii_digit() })
}

/// `kern  :err   : `, from `dmesg -x`.
fn strip_facility(text: &str) -> &str {
    let Some(rest) = text.strip_prefix("kern").map(str::trim_start).and_then(|rest| rest.strip_prefix(':')) else {
        return text;
    };
    rest.split_once(':').map_or(text, |(_, message)| message)
}

/// `host kernel: `; the host's name only where a date or a time stood before it.
fn strip_syslog(text: &str, dated: bool) -> &str {
    let Some((before, rest)) = text.split_once("kernel:") else { return text };
    let before = before.trim();
    let is_host = dated && !before.contains(' ') && before.len() < REACH;
    if before.is_empty() || is_host { rest } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(line: &str) -> (Option<u64>, Option<String>, String) {
        let line = Line::parse(line);
        (line.kernel_us, line.caller, line.text)
    }

    #[test]
    fn every_way_a_log_is_kept() {
        let text = "nfs: server a OK";
        let us = Some(123_456_789);
        for (line, stamp) in [
            ("nfs: server a OK", None),
            ("[  123.456789] nfs: server a OK\r\n", us),
            ("<3>[  123.456789] nfs: server a OK", us),
            ("<6>nfs: server a OK", None),
            ("Nov 24 03:02:01 node-7 kernel: [  123.456789] nfs: server a OK", us),
            ("Nov  4 03:02:01 node-7 kernel: nfs: server a OK", None),
            ("<6>Nov 24 03:02:01 node-7 kernel: nfs: server a OK", None),
            ("2025-11-24T03:02:01.123456+08:00 node-7 kernel: nfs: server a OK", None),
            ("2025-11-24T03:02:01,123456+08:00 nfs: server a OK", None),
            ("[Mon Nov 24 03:02:01 2025] nfs: server a OK", None),
            ("[  123.456789] node-7 kernel: nfs: server a OK", us),
            ("kern  :info  : [  123.456789] nfs: server a OK", us),
            ("kern  :info  : nfs: server a OK", None),
            ("/ # [  123.456789] nfs: server a OK", us),
            ("\u{1b}[1;31m[  123.456789] nfs: server a OK\u{1b}[0m", us),
            ("6,1234,123456789,-;nfs: server a OK", us),
            ("6,1234,123456789,c;nfs: server a OK\\x0asecond line", us),
        ] {
            assert_eq!(parts(line), (stamp, None, text.to_owned()), "{line}");
        }
    }

    #[test]
    fn callers() {
        let expected = |caller: &str| (Some(1_000_002), Some(caller.to_owned()), "x y".to_owned());
        assert_eq!(parts("[    1.000002][  T123] x y"), expected("T123"));
        assert_eq!(parts("[    1.000002][    C0] x y"), expected("C0"));
        assert_eq!(parts("6,7,1000002,-,caller=T123;x y"), expected("T123"));
        assert_eq!(parts("[    1.000002] [pool] x").2, "[pool] x");
    }

    #[test]
    fn what_is_not_a_prefix_stays() {
        for line in ["a kernel: b", "Call Trace:", "task:x state:D", "a;b,c", "[a] b", "XFS (loop0): x", "<TASK>"] {
            assert_eq!(parts(line).2, line);
        }
        assert_eq!(parts("[99999999999999999999.000000] x").0, None);
    }
}
