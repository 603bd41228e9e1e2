//! Dates, as syslog, the journal, `dmesg`, containers and terminals write them.
//!
//! Must not know: what follows a date. Invariant: only what begins the text and holds a time of day (or seconds since 1970) is a
//! date.

const DAYS: &str = "Mon Tue Wed Thu Fri Sat Sun";
const MONTHS: &str = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec";
const ZONES: &str =
    "Z UTC GMT WET WEST CET CEST EET EEST BST IST MSK EST EDT CST CDT MST MDT PST PDT JST KST HKT SGT AEST AEDT";

/// What follows the date that `text` begins with, and the date.
///
/// `Nov 24 03:02:01`, `Mon Nov 24 03:02:01 2025`, `Mon 2025-11-24 03:02:01 UTC`, `2025-11-24 03:02:01.5 +0000`,
/// `2025-11-24T03:02:01,000001+00:00`, `1763953321.000001`.
pub(super) fn take_date(text: &str) -> Option<(&str, &str)> {
    let mut rest = text;
    let mut timed = false;
    while let Some((word, after)) = take_word(rest) {
        let begun = rest.len() < text.len();
        match kind_of(word) {
            DatePart::Time if !timed => timed = true,
            DatePart::Day => {}
            DatePart::Year if begun => {}
            DatePart::Zone if timed => {}
            DatePart::Time | DatePart::Year | DatePart::Zone | DatePart::None => break,
        }
        rest = after;
    }
    let date = text.get(..text.len() - rest.len())?;
    timed.then_some((date, rest))
}

/// Whether all of `text` (what stands in brackets) is a date: `Mon Nov 24 03:02:01 2025`, `Nov24 03:02`, `+0.000013`,
/// `2025-11-24T03:02:01Z`, each also with `< 0.000013>` behind it.
pub(super) fn is_date(text: &str) -> bool {
    let text = text.trim();
    let text = text.strip_suffix('>').and_then(|text| text.split_once('<')).map_or(text, |(before, _)| before).trim();
    if text.is_empty() || text.strip_prefix('+').is_some_and(is_seconds) {
        return true;
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    // `dmesg -T` names the weekday and the month in the user's language.
    if let [weekday, month, day, time, year] = words.as_slice()
        && [weekday, month].iter().all(|name| name.len() <= 24)
        && day.len() <= 2
        && is_digits(day)
        && is_clock(time)
        && year.len() == 4
        && is_digits(year)
    {
        return true;
    }
    let is_part = |word: &&&str| kind_of(word) != DatePart::None || is_hour(word) || is_glued_day(word);
    words.len() <= 7
        && words.iter().filter(is_part).count() == words.len()
        && words.iter().any(|word| kind_of(word) == DatePart::Time || is_hour(word))
}

/// Whether dmesg wrote this date: it puts nothing between date and message.
pub(super) fn is_dmesg(date: &str) -> bool {
    date.contains(',')
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DatePart {
    /// A time of day, or a moment.
    Time,
    /// A weekday, a month, a day of it, a date.
    Day,
    Year,
    Zone,
    None,
}

fn kind_of(word: &str) -> DatePart {
    let name = word.trim_end_matches(',');
    let moment = word.split_once(['T', '_']).is_some_and(|(day, time)| is_day(day) && is_clock(time));
    match () {
        () if is_clock(word) || moment || is_unix(word) || is_tai(word) => DatePart::Time,
        () if is_one_of(name, DAYS) || is_one_of(name, MONTHS) || is_day(word) => DatePart::Day,
        () if word.len() <= 2 && is_digits(word) => DatePart::Day,
        () if word.len() == 4 && is_digits(word) && (word.starts_with("19") || word.starts_with("20")) => {
            DatePart::Year
        }
        () if is_one_of(word, ZONES) || is_offset(word) => DatePart::Zone,
        () => DatePart::None,
    }
}

fn take_word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let end = text.find(' ').unwrap_or(text.len());
    let (word, rest) = text.split_at_checked(end)?;
    (!word.is_empty()).then_some((word, rest))
}

fn is_one_of(word: &str, words: &str) -> bool {
    words.split(' ').any(|other| other == word)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// `03:02:01`, with a fraction and a zone or without.
fn is_clock(word: &str) -> bool {
    let Some((time, rest)) = word.split_at_checked(8) else { return false };
    let rest = rest.trim_start_matches(['.', ',']).trim_start_matches(|c: char| c.is_ascii_digit());
    is_hour(time) && (rest.is_empty() || rest == "Z" || is_offset(rest))
}

/// `03:02` and `03:02:01`.
fn is_hour(word: &str) -> bool {
    [5, 8].contains(&word.len()) && word.split(':').all(|part| part.len() == 2 && is_digits(part))
}

/// `2025-11-24`, `2025/11/24`, `24.11.2025`.
fn is_day(word: &str) -> bool {
    let is_parted = |mark| {
        let parts: Vec<&str> = word.split(mark).collect();
        let years = parts.iter().filter(|part| part.len() == 4).count();
        parts.len() == 3 && years == 1 && parts.iter().all(|part| is_digits(part) && [2, 4].contains(&part.len()))
    };
    ['-', '/', '.'].into_iter().any(is_parted)
}

/// `Nov24`.
fn is_glued_day(word: &str) -> bool {
    word.split_at_checked(3).is_some_and(|(month, day)| is_one_of(month, MONTHS) && day.len() <= 2 && is_digits(day))
}

/// `+0000`, `-05:30`, `+08`.
fn is_offset(word: &str) -> bool {
    let Some(digits) = word.strip_prefix(['+', '-']) else { return false };
    [2, 4, 5].contains(&digits.len()) && digits.split(':').all(is_digits)
}

/// `1763953321.000001`.
fn is_unix(word: &str) -> bool {
    word.split_once('.').is_some_and(|(seconds, _)| seconds.len() == 10 && is_seconds(word))
}

/// `@4000000067a1b2c30a1b2c3d`: TAI64N, as multilog writes it.
fn is_tai(word: &str) -> bool {
    word.strip_prefix('@').is_some_and(|hex| hex.len() == 24 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_seconds(word: &str) -> bool {
    word.split_once('.').is_some_and(|(seconds, fraction)| is_digits(seconds) && is_digits(fraction))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_in_front_of_a_line() {
        for date in [
            "Nov 24 03:02:01",
            "Nov  4 03:02:01.123456",
            "Mon Nov 24 03:02:01 2025",
            "Mon Nov 24 03:02:01 UTC 2025",
            "Nov 24 2025 03:02:01",
            "Mon, 24 Nov 2025 03:02:01 +0000",
            "2025-11-24_03:02:01.12345",
            "@4000000067a1b2c30a1b2c3d",
            "Mon 2025-11-24 03:02:01 UTC",
            "Mon 2025-11-24 03:02:01.000001 CET",
            "2025-11-24 03:02:01.000000001 +0000",
            "2025-11-24 03:02:01",
            "2025/11/24 03:02:01",
            "2025-11-24T03:02:01+0000",
            "2025-11-24T03:02:01.123456789Z",
            "2025-11-24T03:02:01,000001+00:00",
            "1763953321.000001",
            "03:02:01",
        ] {
            assert_eq!(take_date(&format!("{date} host kernel: x")), Some((date, " host kernel: x")));
            assert_eq!(take_date(date), Some((date, "")));
        }
    }

    #[test]
    fn what_is_no_date() {
        for text in ["Nov 24", "Monday 03:02:01", "24 x 03:02:01", "2025-11-24", "a", "", "123.4", "XFS (sda1): x"] {
            assert_eq!(take_date(text), None, "{text}");
        }
        assert_eq!(take_date("2025-11-24 03:02:01 XFS (sda1)"), Some(("2025-11-24 03:02:01", " XFS (sda1)")));
    }

    #[test]
    fn dates_in_brackets() {
        for text in [
            "Mon Nov 24 03:02:01 2025",
            "Nov24 03:02",
            "  +0.000013",
            "<    0.000013>",
            "Mon Nov 24 03:02:01 2025 <    0.000013>",
            "2025-11-24T03:02:01.00045674118Z",
            "2025-11-24 03:02:01",
            "03:02:01",
        ] {
            assert!(is_date(text), "{text}");
        }
        for text in ["sda", "T74", "1", "12.5", "x 03:02:01", "<TASK>x"] {
            assert!(!is_date(text), "{text}");
        }
    }
}
