//! Names of files: which of them hold records.
//!
//! Must not know: what a record looks like. Invariant: a file that no writer has made is not taken for one of theirs.

use std::path::Path;

use super::WriterKind;

/// Ends of names of files without records: offsets, metadata, checkpoints.
const WITHOUT_RECORDS: [&str; 6] = [".meta", ".pos", ".state", ".tmp", ".status", ".db"];

/// Whether `path`, below a writers' directory, holds records: it or its first folder is called after a kind, as in
/// `churn-0.000000000040.log` and `fluentd/buffer.b61.log`.
pub(super) fn is_data_file(path: &Path) -> bool {
    let name = |part: Option<&std::ffi::OsStr>| part.and_then(std::ffi::OsStr::to_str).unwrap_or_default().to_owned();
    let first = name(path.iter().next());
    let last = name(path.file_name());
    let ours = if first == last {
        first_of(path).is_some() && is_writer(first.split('.').next().unwrap_or_default())
    } else {
        is_writer(&first) || first.parse::<WriterKind>().is_ok()
    };
    ours && !WITHOUT_RECORDS.iter().any(|end| last.ends_with(end))
}

/// `fluentd-0`.
fn is_writer(name: &str) -> bool {
    name.rsplit_once('-').is_some_and(|(kind, n)| kind.parse::<WriterKind>().is_ok() && n.parse::<u16>().is_ok())
}

/// The number of the first record in files that are named after it, as `churn-0.000000000040.log`.
pub(super) fn first_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let stem = name.strip_suffix(".log").or_else(|| name.strip_suffix(".open"))?;
    let (writer, first) = stem.split_once('.')?;
    first.parse().ok().filter(|_| is_writer(writer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_others_are_left_alone() {
        let ours =
            ["churn-0.000000000040.log", "backup-1.000000000000.open", "fluentd/buffer.b61.log", "logger-0/messages"];
        let others = [
            "of-others.log",
            "churn.log",
            "fluentd",
            "fluentd/buffer.b61.log.meta",
            "fluentd/0.pos",
            "etc/messages",
            "x-0/m",
        ];
        assert!(ours.iter().all(|path| is_data_file(Path::new(path))));
        let taken: Vec<_> = others.iter().filter(|path| is_data_file(Path::new(path))).collect();
        assert!(taken.is_empty(), "{taken:?}");
        assert_eq!(first_of(Path::new("a/churn-0.000000000040.log")), Some(40));
    }
}
