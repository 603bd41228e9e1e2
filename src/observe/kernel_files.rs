//! Figures of the whole machine from the kernel's files: I/O pressure, dirty pages, FUSE requests in flight.
//!
//! Must not know: when they are read. Invariant: no path on an observed file system is opened; a file that is missing is `None`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::observation::Observation;
use crate::sys::process::numbered_entries;

/// I/O pressure of the machine, or of a control group.
pub fn pressure(cgroup: Option<&Path>) -> Option<Observation> {
    let file = cgroup.map_or_else(|| "/proc/pressure/io".into(), |cgroup| cgroup.join("io.pressure"));
    parse_pressure(&fs::read_to_string(file).ok()?)
}

/// Dirty pages of the machine.
pub fn dirty() -> Option<Observation> {
    parse_dirty(&fs::read_to_string("/proc/meminfo").ok()?)
}

/// Requests in flight by the FUSE connection's number, where there are any.
pub fn fuse_waiting() -> BTreeMap<u32, u64> {
    fuse_waiting_in(Path::new("/sys/fs/fuse/connections"))
}

fn fuse_waiting_in(connections: &Path) -> BTreeMap<u32, u64> {
    let waiting = |path: &Path| fs::read_to_string(path.join("waiting")).ok()?.trim().parse().ok();
    let all = numbered_entries(connections).into_iter();
    all.filter_map(|(number, path)| Some((number, waiting(&path)?))).filter(|(_, count)| *count > 0).collect()
}

fn parse_pressure(text: &str) -> Option<Observation> {
    let total = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
        line.split_whitespace().find_map(|word| word.strip_prefix("total="))?.parse().ok()
    };
    Some(Observation::Pressure { some_us: total("some")?, full_us: total("full")? })
}

fn parse_dirty(text: &str) -> Option<Observation> {
    let kib = |key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key))?;
        value.split_whitespace().next()?.parse().ok()
    };
    Some(Observation::Dirty { dirty_kib: kib("Dirty:")?, writeback_kib: kib("Writeback:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_and_dirty_pages_are_read() {
        let text =
            "some avg10=1.50 avg60=0.00 avg300=0.00 total=12345\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=67\n";
        assert_eq!(parse_pressure(text), Some(Observation::Pressure { some_us: 12345, full_us: 67 }));
        assert_eq!(parse_pressure("some total=x"), None);
        let text = "MemFree: 9 kB\nDirty:    1032 kB\nWriteback:   8 kB\nWritebackTmp: 5 kB\n";
        assert_eq!(parse_dirty(text), Some(Observation::Dirty { dirty_kib: 1032, writeback_kib: 8 }));
        assert_eq!(parse_dirty("Dirty:"), None);
    }

    #[test]
    fn only_connections_with_requests_in_flight_are_told() {
        let dir = tempfile::tempdir().unwrap();
        for (number, text) in [("40", "0\n"), ("41", "3\n"), ("42", "junk")] {
            fs::create_dir(dir.path().join(number)).unwrap();
            fs::write(dir.path().join(number).join("waiting"), text).unwrap();
        }
        assert_eq!(fuse_waiting_in(dir.path()), BTreeMap::from([(41, 3)]));
    }
}
