//! Takes off what carries a kernel's message: each carrier is one function in one list, tried until none fits any more.
//!
//! Must not know: what messages mean. Invariant: a carrier that is taken off leaves a shorter text; what a program says
//! is marked as such.

use super::dates::{is_date, is_dmesg, take_date};

/// What the carriers told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Carried {
    /// Microseconds since that kernel's boot.
    pub(super) kernel_us: Option<u64>,
    /// `T123` or `C0`, if the kernel tells who printed (`CONFIG_PRINTK_CALLER`).
    pub(super) caller: Option<String>,
    /// A program said this, not the kernel.
    pub(super) by_program: bool,
    /// The name before the text may be a program's: no other message is looked for in the text.
    pub(super) named: bool,
    /// It is a record of `/dev/kmsg`, which has escapes of its own.
    pub(super) is_record: bool,
    /// A date or a time stamp was taken off, so a host's name may follow.
    dated: bool,
    /// `dmesg` wrote the date, so no host's name follows.
    by_dmesg: bool,
}

type Carrier = for<'a> fn(&'a str, &mut Carried) -> Option<&'a str>;

const CARRIERS: [Carrier; 19] = [
    record,
    rfc5424,
    level,
    stamp,
    caller,
    cpu_and_task,
    date_in_brackets,
    facility_and_level,
    facility_dot_level,
    date,
    node,
    kernel_tag,
    netconsole_host,
    program_tag,
    container_stream,
    container_name,
    labels,
    journal_field,
    prompt,
];

/// The message in `text`, and what its carriers told.
pub(super) fn strip<'a>(text: &'a str, carried: &mut Carried) -> &'a str {
    let mut rest = text.trim_start();
    while !carried.by_program
        && let Some(after) = CARRIERS.iter().find_map(|carrier| carrier(rest, carried))
    {
        rest = after.trim_start();
    }
    rest
}

/// Where another message begins within `text`: at a kernel's time stamp, a priority or a date with the kernel's tag, if what
/// stands before has lost its line end. Not if it is quoted, and not behind another carrier (`grep` that shows an old log).
pub(super) fn next_message(text: &str) -> Option<usize> {
    let found = next_stamp(text).or_else(|| next_priority(text)).or_else(|| next_tagged(text))?;
    let before = &text[..found];
    let is_hidden = is_quoted(before) || before.trim_end().ends_with("kernel:");
    (!is_hidden).then_some(found)
}

fn next_stamp(text: &str) -> Option<usize> {
    let is_stamp = |at: usize| parse_stamp(&text[at..]).is_some_and(|stamp| stamp.is_exact);
    let at = text.match_indices('[').map(|(at, _)| at).find(|at| *at > 0 && is_stamp(*at))?;
    let start =
        text[..at].rfind('<').filter(|start| parse_level(&text[*start..at]).is_some_and(|(_, rest)| rest.is_empty()));
    Some(start.unwrap_or(at))
}

/// `...still trying<6>nfs: ...`
fn next_priority(text: &str) -> Option<usize> {
    let is_priority =
        |at: usize| parse_level(&text[at..]).is_some_and(|(level, rest)| level < 8 && !rest.starts_with(' '));
    text.match_indices('<').map(|(at, _)| at).find(|at| is_glued(text, *at) && is_priority(*at))
}

/// `...still tryingNov 24 03:02:01 host kernel: nfs: ...`
fn next_tagged(text: &str) -> Option<usize> {
    let tag = text.find(" kernel: ")?;
    let is_line = |at: usize| take_date(&text[at..tag]).is_some_and(|(_, host)| host.split_whitespace().count() <= 1);
    text[..tag].char_indices().map(|(at, _)| at).find(|at| is_glued(text, *at) && is_line(*at))
}

/// Whether a word ends right before `at`, and what begins there is not a part of it.
fn is_glued(text: &str, at: usize) -> bool {
    let (before, after) = (text[..at].chars().next_back(), text[at..].chars().next());
    let is_number = [before, after].iter().all(|c| c.is_some_and(|c| c.is_ascii_digit()));
    let is_word = after.is_some_and(|c| !c.is_whitespace());
    before.is_some_and(|c| c.is_alphanumeric() || ")].".contains(c)) && is_word && !is_number
}

/// Whether a quotation begins in `before` and does not end there.
fn is_quoted(before: &str) -> bool {
    ['\'', '"', '`'].iter().any(|quote| {
        let opens = |at: usize| before[..at].chars().next_back().is_none_or(|c| " =(:,".contains(c));
        let open = before.match_indices(*quote).map(|(at, _)| at).find(|at| opens(*at));
        open.is_some_and(|open| before[open..].matches(*quote).count() % 2 == 1)
    })
}

/// `/dev/kmsg`, extended netconsole: `[release,]priority,sequence,microseconds,flags[,caller=..];text`.
fn record<'a>(text: &'a str, carried: &mut Carried) -> Option<&'a str> {
    let (head, message) = text.split_once(';')?;
    let mut fields = head.split(',');
    let mut priority = fields.next()?;
    if priority.contains('.') {
        priority = fields.next()?;
    }
    let priority: u32 = priority.parse().ok()?;
    let _sequence: u64 = fields.next()?.parse().ok()?;
    carried.kernel_us = Some(fields.next()?.parse().ok()?);
    carried.caller = fields.find_map(|field| field.strip_prefix("caller=")).map(str::to_owned);
    carried.by_program |= !is_kernels(priority);
    carried.dated = true;
    carried.is_record = true;
    Some(message)
}

/// `<3>1 2025-11-24T03:02:01Z host kernel - - [id k="v"] text`, also with its length or without its priority in front.
fn rfc5424<'a>(text: &'a str, carried: &mut Carried) -> Option<&'a str> {
    let counted = text.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
    let framed = if counted.starts_with('<') { counted } else { text };
    let (priority, rest) = parse_level(framed).map_or((None, framed), |(priority, rest)| (Some(priority), rest));
    let (date, rest) = rest.strip_prefix("1 ")?.split_once(' ')?;
    if date != "-" && take_date(date).is_none_or(|(_, rest)| !rest.is_empty()) {
        return None;
    }
    let mut fields = rest.splitn(5, ' ');
    let (_host, app, _process, _message_id) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let message = structured_data(fields.next()?)?;
    let is_kernel = ["kernel", "-"].contains(&app) && priority.is_none_or(is_kernels);
    carried.by_program |= !is_kernel;
    Some(message.trim_start_matches([' ', '\u{feff}']))
}

/// What follows `-` or `[id key="value"][..]`.
fn structured_data(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_prefix('-') {
        return Some(rest);
    }
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            ' ' if !quoted && text[..at].ends_with(']') => return text.get(at..),
            _ => {}
        }
    }
    None
}

/// `<3>`: syslog's priority.
fn level<'a>(text: &'a str, carried: &mut Carried) -> Option<&'a str> {
    let (priority, rest) = parse_level(text)?;
    carried.by_program |= !is_kernels(priority);
    Some(rest)
}

fn parse_level(text: &str) -> Option<(u32, &str)> {
    let (inside, rest) = text.strip_prefix('<')?.split_once('>')?;
    let is_number = !inside.is_empty() && inside.bytes().all(|b| b.is_ascii_digit());
    Some((inside.parse().ok().filter(|_| is_number)?, rest))
}

/// Facility 0 is the kernel's.
const fn is_kernels(priority: u32) -> bool {
    priority >> 3 == 0
}

/// `[  123.456789]`, also with `<    0.000013>` inside (`dmesg -d`).
fn stamp<'a>(text: &'a str, carried: &mut Carried) -> Option<&'a str> {
    let stamp = parse_stamp(text)?;
    carried.kernel_us = Some(stamp.micros);
    carried.dated = true;
    Some(stamp.rest)
}

struct Stamp<'a> {
    micros: u64,
    /// As the kernel prints it, not shortened by a tool.
    is_exact: bool,
    rest: &'a str,
}

fn parse_stamp(text: &str) -> Option<Stamp<'_>> {
    let (inside, rest) = text.strip_prefix('[')?.split_once(']')?;
    let mut words = inside.trim_start().splitn(2, ' ');
    let (seconds, fraction) = words.next()?.split_once('.')?;
    // Some vendors' kernels add the CPU: `301.000001@2`.
    let fraction = fraction.split_once('@').map_or(fraction, |(fraction, _cpu)| fraction);
    let is_delta = words.next().is_none_or(|delta| delta.trim().is_empty() || delta.trim_start().starts_with('<'));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_delta || fraction.len() > 9 || !digits(seconds) || !digits(fraction) {
        return None;
    }
    let micros: u64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    let micros = seconds.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(micros)?;
    // The same kernels may add a letter for the level: `301.000001@2]d `.
    let has_letter = inside.contains('@')
        && rest.starts_with(|c: char| c.is_ascii_lowercase())
        && rest.get(1..).is_some_and(|rest| rest.starts_with(' '));
    let rest = if has_letter { rest.get(1..).unwrap_or_default() } else { rest };
    Some(Stamp { micros, is_exact: [6, 9].contains(&fraction.len()), rest })
}

/// `[ T123]` or `[C0]` after a time stamp, and vendors' `[0: khungtaskd:  74]`.
fn caller<'a>(text: &'a str, carried: &mut Carried) -> Option<&'a str> {
    let bare = text.trim_start_matches(['-', '.']);
    let bare = bare.strip_prefix(|c: char| "DIWEF".contains(c)).filter(|rest| rest.starts_with('[')).unwrap_or(bare);
    let bare = bare.strip_prefix('(').and_then(|rest| rest.split_once(')')).map_or(bare, |(_, rest)| rest);
    let (inside, rest) = bare.strip_prefix('[')?.split_once(']')?;
    let inside = inside.trim();
    let number = inside.strip_prefix('T').or_else(|| inside.strip_prefix('C')).unwrap_or_default();
    let is_caller = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let is_vendors = inside.contains(|c: char| c.is_ascii_alphabetic())
        && inside.contains(':')
        && inside.starts_with(|c: char| c.is_ascii_digit())
        && carried.kernel_us.is_some();
    if carried.caller.is_some() || !(is_caller || is_vendors) {
        return None;
    }
    carried.caller = Some(inside.to_owned());
    Some(rest)
}

/// `c0    12` after a time stamp: the CPU and the task, as some vendors' kernels print them.
fn cpu_and_task<'a>(text: &'a str, carried: &mut Carried) -> Option<&'a str> {
    let (cpu, rest) = text.strip_prefix('c').filter(|_| carried.kernel_us.is_some())?.split_once(' ')?;
    let (task, rest) = rest.trim_start().split_once(' ')?;
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
    (carried.caller.is_none() && is_number(cpu) && is_number(task)).then(|| {
        carried.caller = Some(format!("c{cpu} {task}"));
        rest
    })
}

/// `[Mon Nov 24 03:02:01 2025]` (`dmesg -T`), `[  +0.000013]` (`dmesg -H`), `[2025-11-24T03:02:01Z]:` (Talos).
fn date_in_brackets<'a>(text: &'a str, carried: &mut Carried) -> Option<&'a str> {
    let (inside, rest) = text.strip_prefix('[')?.split_once(']')?;
    let is_long = inside.len() > 64;
    if is_long || !is_date(inside) {
        return None;
    }
    carried.dated = true;
    Some(rest.strip_prefix(':').unwrap_or(rest))
}

const FACILITIES: [&str; 14] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "security",
    "console",
];

const LEVELS: [&str; 11] =
    ["emerg", "panic", "alert", "crit", "err", "error", "warn", "warning", "notice", "info", "debug"];

fn is_facility(word: &str) -> bool {
    FACILITIES.contains(&word) || word.starts_with("local") || word.starts_with("res")
}

/// `kern  :err   :` (`dmesg -x`), `kern:     err:` (Talos).
fn facility_and_level<'a>(text: &'a str, carried: &mut Carried) -> Option<&'a str> {
    let (facility, rest) = text.split_once(':')?;
    let (level, rest) = rest.split_once(':')?;
    if !is_facility(facility.trim_end()) || !LEVELS.contains(&level.trim()) {
        return None;
    }
    carried.by_program |= facility.trim_end() != "kern";
    Some(rest)
}

/// `kern.err` (busybox), also with a colon behind it.
fn facility_dot_level<'a>(text: &'a str, carried: &mut Carried) -> Option<&'a str> {
    let (word, rest) = text.split_once(' ')?;
    let (facility, level) = word.trim_end_matches(':').split_once('.')?;
    if !is_facility(facility) || !LEVELS.contains(&level) {
        return None;
    }
    carried.by_program |= facility != "kern";
    Some(rest)
}

fn date<'a>(text: &'a str, carried: &mut Carried) -> Option<&'a str> {
    let (date, rest) = take_date(text)?;
    carried.dated = true;
    carried.by_dmesg = is_dmesg(date);
    Some(rest)
}

/// `192.0.2.10:` in front of a facility (Talos, which shows several nodes together).
fn node<'a>(text: &'a str, _: &mut Carried) -> Option<&'a str> {
    let (host, rest) = text.split_once(": ")?;
    let is_first = facility_and_level(rest.trim_start(), &mut Carried::default()).is_some();
    (is_first && !host.contains(' ')).then_some(rest)
}

/// `kernel:`, `kernel[0]:`, `host kernel:`, `host kern.err kernel:`; the host's name only where a date or a time stood before it
/// or the kernel's time follows.
fn kernel_tag<'a>(text: &'a str, carried: &mut Carried) -> Option<&'a str> {
    if let Some(rest) = kernels(text) {
        return Some(rest);
    }
    let (_host, rest) = text.split_once(' ').filter(|(host, _)| !host.contains(':'))?;
    let rest = rest.trim_start();
    let rest = if carried.dated { facility_dot_level(rest, carried).map_or(rest, str::trim_start) } else { rest };
    let message = kernels(rest)?;
    (carried.dated || parse_stamp(message.trim_start()).is_some()).then_some(message)
}

fn kernels(text: &str) -> Option<&str> {
    let (tag, message) = text.strip_prefix("kernel").and_then(|rest| rest.split_once(':'))?;
    (tag.is_empty() || tag.starts_with('[') && tag.ends_with(']')).then_some(message)
}

/// A sender's address in front of a message (netconsole through a syslog server); the server found no tag there.
fn netconsole_host<'a>(text: &'a str, carried: &mut Carried) -> Option<&'a str> {
    let (word, rest) = text.split_once(' ').filter(|_| carried.dated && carried.kernel_us.is_none())?;
    let is_address = word.parse::<std::net::IpAddr>().is_ok();
    let is_record = record(rest, &mut Carried::default()).is_some();
    (is_address || is_record).then_some(rest)
}

/// `name[123]:` is a program, `host name:` after a date most likely, too. Nothing is taken off.
fn program_tag<'a>(text: &'a str, carried: &mut Carried) -> Option<&'a str> {
    let mut words = text.split(' ');
    let first = words.next()?;
    let second = words.next().unwrap_or_default();
    let is_after_date = carried.dated && carried.kernel_us.is_none() && !carried.by_dmesg;
    carried.named |= is_after_date && !first.ends_with(':') && is_tag(second);
    carried.by_program |= is_numbered_tag(first) || carried.dated && is_numbered_tag(second);
    None
}

fn is_numbered_tag(word: &str) -> bool {
    let Some((name, number)) = word.strip_suffix("]:").and_then(|tag| tag.rsplit_once('[')) else { return false };
    !name.is_empty() && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
}

fn is_tag(word: &str) -> bool {
    let name = word.strip_suffix(':').unwrap_or_default();
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(is_name)
}

/// `stdout F` after the date of a container's log (CRI).
fn container_stream<'a>(text: &'a str, carried: &mut Carried) -> Option<&'a str> {
    let rest = ["stdout ", "stderr "].iter().find_map(|stream| text.strip_prefix(stream))?;
    let (tag, message) = rest.split_once(' ')?;
    let is_tag = carried.dated && ["F", "P"].contains(&tag.split(':').next().unwrap_or_default());
    is_tag.then_some(message)
}

/// `[pod/NAME/CONTAINER]` (`kubectl logs --prefix`) and `NAME  |` (`docker compose logs`).
fn container_name<'a>(text: &'a str, carried: &mut Carried) -> Option<&'a str> {
    if let Some(rest) = text.strip_prefix("[pod/") {
        return rest.split_once(']').filter(|(name, _)| !name.contains(' ')).map(|(_, rest)| rest);
    }
    let (name, rest) = text.split_once('|').filter(|_| carried.kernel_us.is_none())?;
    let is_name = name.ends_with(' ') && !name.trim_end().is_empty() && !name.trim_end().contains(' ');
    is_name.then_some(rest)
}

/// `{host="n", job="kmsg"}` after a date (`logcli`).
fn labels<'a>(text: &'a str, carried: &mut Carried) -> Option<&'a str> {
    let (inside, rest) = text.strip_prefix('{')?.split_once("} ")?;
    let is_label = |label: &str| label.trim().split_once("=\"").is_some_and(|(_, value)| value.ends_with('"'));
    (carried.dated && inside.split(", ").all(is_label)).then_some(rest)
}

/// `MESSAGE=`, if a line of the journal's long forms stands alone.
fn journal_field<'a>(text: &'a str, carried: &mut Carried) -> Option<&'a str> {
    text.strip_prefix("MESSAGE=").filter(|_| carried.kernel_us.is_none())
}

/// `host login:`, `/ #`, `root@host:~#`: what stood on the console when the kernel wrote.
fn prompt<'a>(text: &'a str, carried: &mut Carried) -> Option<&'a str> {
    if carried.dated {
        return None;
    }
    let mut words = text.splitn(3, ' ');
    let (first, second) = (words.next()?, words.next()?);
    let rest = words.next();
    let is_prompt = |word: &str| word.ends_with(['#', '$']) && word.len() < 64;
    match () {
        () if second == "login:" => rest,
        () if is_prompt(first) => text.get(first.len()..),
        () if second.len() == 1 && is_prompt(second) && !first.contains(['\'', '"']) => rest,
        () => None,
    }
}
