//! Times, sizes and counts in words, for people.
//!
//! Must not know: where they are shown. Invariant: three digits or so, and always a unit.

use std::time::Duration;

/// A time with three digits or so: `850 us`, `20.5 s`, `3 m 20 s`.
pub fn time(duration: Duration) -> String {
    let micros = duration.as_micros();
    match micros {
        0..1_000 => format!("{micros} us"),
        1_000..10_000 => format!("{:.1} ms", duration.as_secs_f64() * 1e3),
        10_000..1_000_000 => format!("{} ms", micros / 1_000),
        1_000_000..120_000_000 => format!("{:.1} s", duration.as_secs_f64()),
        _ => long_time(duration.as_secs()),
    }
}

fn long_time(seconds: u64) -> String {
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    if hours > 0 { format!("{hours} h {minutes} m") } else { format!("{minutes} m {} s", seconds % 60) }
}

/// Microseconds.
pub fn micros(us: u64) -> String {
    time(Duration::from_micros(us))
}

/// A size with one decimal: `1.5 GiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let Some((unit, name)) = UNITS.into_iter().find(|(unit, _)| bytes >= *unit) else {
        return format!("{bytes} B");
    };
    let tenths = u128::from(bytes) * 10 / u128::from(unit);
    if tenths.is_multiple_of(10) {
        format!("{} {name}", tenths / 10)
    } else {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    }
}

/// `1 grain`, `2 grains`.
pub fn count(n: u64, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let times = [850, 2_500, 20_400, 20_500_000, 200_000_000, 7_260_000_000].map(micros);
        assert_eq!(times, ["850 us", "2.5 ms", "20 ms", "20.5 s", "3 m 20 s", "2 h 1 m"]);
        assert_eq!([512, 4096, 1_610_612_736].map(size), ["512 B", "4 KiB", "1.5 GiB"]);
    }
}
