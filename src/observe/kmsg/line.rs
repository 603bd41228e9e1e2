//! A line of a log without what carries it: the kernel's messages in it.
//!
//! Must not know: what messages mean. Invariant: any text is taken; what a program says gives no line.

use super::carriers::{Carried, next_message, strip};
use super::envelope::{Envelope, open};

/// Bytes that a message keeps; what goes beyond is cut off.
const MAX_TEXT: usize = 2048;

/// Messages that one line may hold, and objects within each other.
const MAX_MESSAGES: usize = 64;

/// A message of the kernel's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// The whole line, without control characters.
    pub(super) raw: String,
    /// Microseconds since that kernel's boot.
    pub(super) kernel_us: Option<u64>,
    /// `T123` or `C0`, if the kernel tells who printed.
    pub(super) caller: Option<String>,
    /// The message, without blanks around it.
    pub(super) text: String,
}

impl Line {
    /// The messages in `line`: one, if it was not glued together out of several.
    pub(super) fn parse(line: &str) -> Vec<Self> {
        let mut lines = Vec::new();
        let line = clean(line);
        add(logcat(&line).as_deref().unwrap_or(&line), None, false, &mut lines);
        lines
    }

    /// The messages that came in an object.
    pub(super) fn unpack(envelope: &Envelope) -> Vec<Self> {
        let mut lines = Vec::new();
        add_envelope(envelope, &mut lines);
        lines
    }
}

fn add(line: &str, kernel_us: Option<u64>, in_envelope: bool, lines: &mut Vec<Line>) {
    let mut raw = line;
    while lines.len() < MAX_MESSAGES {
        let mut carried = Carried::default();
        carried.kernel_us = kernel_us;
        let text = strip(raw, &mut carried);
        if carried.by_program {
            return;
        }
        if let Some(envelopes) = open(text) {
            return envelopes.iter().for_each(|envelope| add_envelope(envelope, lines));
        }
        // A program that quotes a kernel's line may have written the object.
        let is_quote = in_envelope && carried.kernel_us.is_none();
        let end = next_message(text).filter(|_| !carried.named && !is_quote).unwrap_or(text.len());
        let (message, rest) = text.split_at_checked(end).unwrap_or((text, ""));
        let text = if carried.is_record { unescape(message) } else { message.to_owned() };
        let own = raw.get(..raw.len() - rest.len()).unwrap_or_default();
        lines.push(Line {
            raw: cut(own.trim(), MAX_TEXT).to_owned(),
            kernel_us: carried.kernel_us,
            caller: carried.caller,
            text: cut(text.trim(), MAX_TEXT).to_owned(),
        });
        if rest.is_empty() {
            return;
        }
        raw = rest;
    }
}

fn add_envelope(envelope: &Envelope, lines: &mut Vec<Line>) {
    if envelope.by_program {
        return;
    }
    for line in envelope.message.lines() {
        let line = clean(line);
        // Objects within objects end: each is shorter than the one around it.
        add(&line, envelope.kernel_us, true, lines);
    }
}

/// `11-24 03:02:01.123  0  0 E INFO    : task ...`: Android's `logcat -b kernel`, also with `root` before the numbers. It takes the
/// message's first word for a tag and pads it; a line of another process than 0 stays as it is.
fn logcat(line: &str) -> Option<String> {
    let mut rest = line.trim_start();
    let mut word = || {
        let (word, after) = rest.split_once(' ')?;
        rest = after.trim_start();
        Some(word)
    };
    let (day, time, mut process) = (word()?, word()?, word()?);
    if process == "root" {
        process = word()?;
    }
    let (_thread, level) = (word()?.parse::<u32>().ok()?, word()?);
    let is_day = day.len() == 5 && day.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    let is_kernels = process == "0" && time.contains(':') && level.len() == 1 && "VDIWEFS".contains(level);
    if !is_day || !is_kernels {
        return None;
    }
    let padded = rest.split_once(": ").filter(|(tag, _)| tag.ends_with(' ') && !tag.trim_end().contains(' '));
    Some(padded.map_or_else(|| rest.to_owned(), |(tag, text)| format!("{}: {text}", tag.trim_end())))
}

/// At most `max` bytes of `text`.
fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// Without escape sequences, carriage returns and other control characters.
fn clean(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            '\t' => out.push(' '),
            _ if c.is_control() => {}
            _ => out.push(c),
        }
    }
    out
}

/// `ESC [ 1 ; 31 m`, `ESC ] title BEL`, `ESC ( B`.
fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    if chars.next_if_eq(&'[').is_some() {
        let _letter = chars.by_ref().find(|c| ('@'..='~').contains(c));
    } else if chars.next_if(|c| "()*+".contains(*c)).is_some() {
        chars.next();
    } else if chars.next_if_eq(&']').is_some() {
        let _end = chars.by_ref().find(|c| ['\u{7}', '\\'].contains(c));
    } else {
        let _letter = chars.next_if(|c| "78=>cDEHM".contains(*c));
    }
}

/// `/dev/kmsg` writes bytes that are not printable as `\x0a`; what follows a line's end is a line of its own there,
/// and no report needs it.
fn unescape(text: &str) -> String {
    text.split("\\x0a").next().unwrap_or_default().replace("\\x09", " ").replace("\\x5c", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "nfs: server a OK";

    fn only(line: &str) -> Line {
        let lines = Line::parse(line);
        assert_eq!(lines.len(), 1, "{line}: {lines:?}");
        lines.into_iter().next().unwrap()
    }

    #[test]
    fn carriers_with_the_kernels_time() {
        for line in [
            "[  123.456789] nfs: server a OK\r\n",
            "[123.456789] nfs: server a OK",
            "[  123.456789123] nfs: server a OK",
            "<3>[  123.456789] nfs: server a OK",
            "[  123.45678900] nfs: server a OK",
            "Nov 24 03:02:01 node-7 kernel: [  123.456789] nfs: server a OK",
            "[  123.456789] node-7 kernel: nfs: server a OK",
            "node-7 kernel: [  123.456789] nfs: server a OK",
            "[  123.456789 <    0.000013>] nfs: server a OK",
            "[  123.456789 <    0.000013 >] node-7 kernel: nfs: server a OK",
            "kern  :info  : [  123.456789] nfs: server a OK",
            "Mon Nov 24 03:02:01 2025 kern.err kernel: [  123.456789] nfs: server a OK",
            "/ # [  123.456789] nfs: server a OK",
            "node-7 login: [  123.456789] nfs: server a OK",
            "\u{1b}[1;31m[  123.456789] nfs: server a OK\u{1b}[0m",
            "\u{1b}[32m[  123.456789] \u{1b}[0m\u{1b}[33mnfs: \u{1b}[0mserver a OK",
            "6,1234,123456789,-;nfs: server a OK",
            "6,1234,123456789,c;nfs: server a OK\\x0asecond line",
            "6.1.0-38,6,1234,123456789,-;nfs: server a OK",
            "Nov 24 03:02:01 192.0.2.7 6,1234,123456789,-;nfs: server a OK",
            "2025-11-24T03:02:01.5Z stdout F [  123.456789] nfs: server a OK",
            "[pod/dmesg-x1/dmesg] 2025-11-24T03:02:01.5Z [  123.456789] nfs: server a OK",
            "dmesg-1  | [  123.456789] nfs: server a OK",
            "[  123.456789@3] nfs: server a OK",
            r#"{"log":"[  123.456789] nfs: server a OK\n","stream":"stdout","time":"2025-11-24T03:02:01Z"}"#,
            "[  123.456789@3]d nfs: server a OK",
            r#"{"priority":3,"sequence":1,"sec":123,"usec":456789,"msg":"nfs: server a OK"}"#,
        ] {
            let found = only(line);
            let told = found.raw != TEXT || line.starts_with('{');
            assert_eq!((found.kernel_us, found.text.as_str(), told), (Some(123_456_789), TEXT, true), "{line}");
        }
    }

    #[test]
    fn carriers_without_the_kernels_time() {
        for line in [
            TEXT,
            "<6>nfs: server a OK",
            "Nov  4 03:02:01 node-7 kernel: nfs: server a OK",
            "<6>Nov 24 03:02:01 node-7 kernel: nfs: server a OK",
            "Nov 24 03:02:01 kernel: nfs: server a OK",
            "Nov 24 03:02:01.123456 node-7 kernel: nfs: server a OK",
            "Nov 24 03:02:01 node-7 kern.err kernel: nfs: server a OK",
            "Nov 24 03:02:01 node-7 kernel[0]: nfs: server a OK",
            "kern.err: nfs: server a OK",
            "[24.11.2025 03:02:01] nfs: server a OK",
            "Nov 24 03:02:01 192.0.2.7 nfs: server a OK",
            "Mon 2025-11-24 03:02:01 UTC node-7 kernel: nfs: server a OK",
            "2025-11-24T03:02:01+0000 node-7 kernel: nfs: server a OK",
            "2025-11-24T03:02:01.123456+08:00 node-7 kernel: nfs: server a OK",
            "2025-11-24T03:02:01,123456+08:00 nfs: server a OK",
            "2025-11-24 03:02:01.000000000 +0000 kmsg: {\"message\":\"nfs: server a OK\"}",
            "1763953321.000001 node-7 kernel: nfs: server a OK",
            "[Mon Nov 24 03:02:01 2025] nfs: server a OK",
            "[Mon Nov 24 03:02:01 2025 <    0.000013>] nfs: server a OK",
            "[Mo Nov 24 03:02:01 2025] nfs: server a OK",
            "[lun. nov. 24 03:02:01 2025] nfs: server a OK",
            "[Nov24 03:02] nfs: server a OK",
            "[  +0.000013] nfs: server a OK",
            "[<    0.000013>] nfs: server a OK",
            "kern  :info  : nfs: server a OK",
            "kern  :err   : 2025-11-24T03:02:01,123456+00:00 nfs: server a OK",
            "192.0.2.10: kern:     err: [2025-11-24T03:02:01.00045674118Z]: nfs: server a OK",
            "<3>1 2025-11-24T03:02:01.000001+00:00 node-7 kernel - - - nfs: server a OK",
            "<3>1 2025-11-24T03:02:01Z node-7 kernel 0 - [a@1 k=\"x \\\" ]y\"][b c=\"1\"] \u{feff}nfs: server a OK",
            "87 <3>1 2025-11-24T03:02:01Z node-7 kernel - - - nfs: server a OK",
            "2025-11-24T03:02:01.123456789Z stdout F nfs: server a OK",
            "MESSAGE=nfs: server a OK",
            "2025-11-24T03:02:01Z {host=\"n\", job=\"kmsg\"} nfs: server a OK",
            "root@node-7:~# nfs: server a OK",
        ] {
            let found = only(line);
            assert_eq!((found.kernel_us, found.caller, found.text.as_str()), (None, None, TEXT), "{line}");
        }
    }

    #[test]
    fn callers() {
        for (line, caller) in [
            ("[    1.000002][  T123] x y", "T123"),
            ("[    1.000002][    C0] x y", "C0"),
            ("[Mon Nov 24 03:02:01 2025] [   T74] x y", "T74"),
            ("[   T74] x y", "T74"),
            ("6,7,1000002,-,caller=T123;x y", "T123"),
            ("[    1.000002] [0: khungtaskd:  74] x y", "0: khungtaskd:  74"),
            ("[    1.000002]  I[0:      swapper/0:    0] x y", "0:      swapper/0:    0"),
            ("[    1.000002] c0     12 x y", "c0 12"),
            ("[    1.000002] .(2)[74:khungtaskd]x y", "74:khungtaskd"),
        ] {
            let found = only(line);
            assert_eq!((found.caller.as_deref(), found.text.as_str()), (Some(caller), "x y"), "{line}");
        }
        assert_eq!(only("[    1.000002] [pool] x").text, "[pool] x");
    }

    #[test]
    fn several_messages_on_one_line() {
        for line in [
            "[  1.000001] a b[  2.000002] c",
            "Nov 24 03:02:01 node-7 kernel: [  1.000001] a b<4>[  2.000002] c",
            "[  1.000001] a b 10 % 20 %[  2.000002] c",
            "[  1.000001] a b<6>[  2.000002] c",
        ] {
            let lines = Line::parse(line);
            assert_eq!(lines.len(), 2, "{line}");
            assert!(lines[0].text.starts_with("a b"));
            assert_eq!((lines[0].kernel_us, lines[1].kernel_us), (Some(1_000_001), Some(2_000_002)));
            assert_eq!(lines[1].text, "c");
            assert!(!lines[0].raw.contains("2.000002"));
        }
    }

    #[test]
    fn messages_without_a_time_that_were_glued_together() {
        for line in ["a b<6>c", "Nov 24 03:02:01 node-7 kernel: a bNov 24 03:02:02 node-7 kernel: c"] {
            let texts: Vec<String> = Line::parse(line).into_iter().map(|line| line.text).collect();
            assert_eq!(texts, ["a b", "c"], "{line}");
        }
    }

    #[test]
    fn what_a_program_says_gives_no_line() {
        for line in [
            "Nov 24 03:02:01 node-7 app[12]: nfs: server a OK",
            "Nov 24 03:02:01 node-7 app[12]: [  123.456789] nfs: server a OK",
            "[   44.000000] healthd[411]: nfs: server a OK",
            "<13>nfs: server a OK",
            "<13>Nov 24 03:02:01 node-7 kernel: nfs: server a OK",
            "12,1234,123456789,-;nfs: server a OK",
            "user  :info  : [  123.456789] nfs: server a OK",
            "192.0.2.10: user: warning: [2025-11-24T03:02:01Z]: nfs: server a OK",
            "Nov 24 03:02:01 node-7 daemon.err app: nfs: server a OK",
            "<30>1 2025-11-24T03:02:01Z node-7 app 12 - - nfs: server a OK",
            r#"{"SYSLOG_IDENTIFIER":"app","MESSAGE":"nfs: server a OK"}"#,
        ] {
            assert_eq!(Line::parse(line), [], "{line}");
        }
    }

    #[test]
    fn logcat_pads_the_first_word() {
        for line in [
            "11-24 03:02:01.123     0     0 E nfs     : server a OK",
            "11-24 03:02:01.123  root     0     0 E nfs     : server a OK",
        ] {
            assert_eq!(only(line).text, TEXT, "{line}");
        }
        let program = "11-24 03:02:01.123  1201  1207 E nfs     : server a OK";
        assert!(Line::parse(program).iter().all(|found| found.text != TEXT));
    }

    #[test]
    fn an_object_that_quotes_a_kernels_line_gives_no_message_of_it() {
        let line = r#"{"level":"info","msg":"the log has [  123.456789] nfs: server a OK"}"#;
        assert!(Line::parse(line).iter().all(|found| found.text != TEXT));
    }

    #[test]
    fn what_is_quoted_is_no_message() {
        for line in [
            "+ grep '[  123.456789] nfs: server a OK' log",
            "say \"[  123.456789] nfs: server a OK\"",
            "Nov 24 03:02:01 node-7 app: found [  123.456789] nfs: server a OK",
            "log:Nov 24 03:02:01 node-7 kernel: [  123.456789] nfs: server a OK",
            "log:Nov 24 03:02:01 node-7 kernel: nfs: server a OK",
        ] {
            assert!(Line::parse(line).iter().all(|found| found.text != TEXT), "{line}");
        }
    }

    #[test]
    fn what_is_not_a_carrier_stays() {
        for line in ["a kernel: b", "Call Trace:", "task:x state:D", "a;b,c", "[a] b", "XFS (loop0): x", "<TASK>"] {
            assert_eq!(only(line).text, line);
        }
        assert_eq!(only("[99999999999999999999.000000] x").kernel_us, None);
    }
}
