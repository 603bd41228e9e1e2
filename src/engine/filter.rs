//! Which operations are hit: by path, command name and user.
//!
//! Must not know: what happens to them. Invariant: an empty filter selects everything and costs nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

use super::op::{OpInfo, command_name};

/// A compiled filter. An operation is selected if each list that is not empty has a match.
///
/// Paths are matched as in `.gitignore`: a pattern with a slash in it (other than at its end) is one from the top of the
/// volume, one without is a name in any directory, and what lies below a directory that matches matches, too.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    paths: Option<GlobSet>,
    comms: Vec<String>,
    uids: Vec<u32>,
    counts: Arc<FilterCounts>,
}

#[derive(Debug, Default)]
struct FilterCounts {
    asked: AtomicU64,
    selected: AtomicU64,
}

/// What a filter has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FilterUse {
    /// Operations that it was asked about; an empty filter is asked about none.
    pub asked: u64,
    /// Those that it selected.
    pub selected: u64,
}

impl Filter {
    /// Compiles the lists; the error names the glob that cannot be understood.
    pub fn new(paths: &[String], comms: &[String], uids: &[u32]) -> Result<Self, String> {
        let mut set = GlobSetBuilder::new();
        for path in paths {
            for glob in globs(path)? {
                set.add(glob);
            }
        }
        let paths = match paths.is_empty() {
            true => None,
            false => Some(set.build().map_err(|error| error.to_string())?),
        };
        Ok(Self { paths, comms: comms.to_vec(), uids: uids.to_vec(), counts: Arc::default() })
    }

    /// Whether `op` is hit.
    pub(super) fn selects(&self, op: &OpInfo<'_>) -> bool {
        if self.paths.is_none() && self.comms.is_empty() && self.uids.is_empty() {
            return true;
        }
        let selected = (self.uids.is_empty() || self.uids.contains(&op.caller.uid))
            && self.paths.as_ref().is_none_or(|set| set.is_match(&*(op.path)()))
            && (self.comms.is_empty() || self.comms.iter().any(|name| **name == *command_name(op.caller.pid)));
        self.counts.asked.fetch_add(1, Relaxed);
        self.counts.selected.fetch_add(u64::from(selected), Relaxed);
        selected
    }

    /// What it has done so far.
    pub(super) fn usage(&self) -> FilterUse {
        FilterUse { asked: self.counts.asked.load(Relaxed), selected: self.counts.selected.load(Relaxed) }
    }
}

/// The globs that a pattern stands for: what it names, and what lies below that.
fn globs(pattern: &str) -> Result<[Glob; 2], String> {
    let from_top = relative(pattern)?;
    let is_name = !from_top.contains('/') && !pattern.starts_with('/') && !pattern.starts_with("./");
    let named = if is_name { format!("**/{from_top}") } else { from_top };
    let glob = |text: &str| {
        let glob = GlobBuilder::new(text).literal_separator(true).build();
        glob.map_err(|error| format!("'{pattern}' is not a glob: {}", error.kind()))
    };
    Ok([glob(&named)?, glob(&format!("{named}/**"))?])
}

/// The pattern as paths are written: without `.`, `..`, slashes at its ends or doubled.
fn relative(pattern: &str) -> Result<String, String> {
    if pattern.starts_with('!') {
        return Err(format!(
            "'{pattern}' begins with '!': nothing can be left out; write '\\{pattern}' for such a name"
        ));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                let outside = || format!("'{pattern}' leads out of the volume; write a pattern such as 'log/**'");
                parts.pop().filter(|part| *part != "**").ok_or_else(outside)?;
            }
            part => parts.push(part),
        }
    }
    match parts.is_empty() {
        true => Err(format!("'{pattern}' names the whole volume; leave it out, or write a pattern such as 'log/**'")),
        false => Ok(parts.join("/")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::op::Caller;
    use super::*;
    use crate::model::Access;
    use crate::telemetry::event::OpKind;

    fn selects(filter: &Filter, path: &'static str, uid: u32) -> bool {
        let path = || Arc::from(path);
        let caller = Caller { pid: std::process::id(), uid, gid: 0 };
        let op = OpInfo {
            kind: OpKind::Write,
            ino: 1,
            access: Access::Meta,
            range: None,
            caller,
            synchronous: false,
            path: &path,
        };
        filter.selects(&op)
    }

    #[test]
    fn empty_selects_everything() {
        assert!(selects(&Filter::default(), "a/b", 5));
    }

    #[test]
    fn lists_are_anded_and_entries_are_ored() {
        let filter = Filter::new(&["log/**".into(), "*.db".into()], &[], &[5, 6]).unwrap();
        assert!(selects(&filter, "log/a/b", 5));
        assert!(selects(&filter, "x.db", 6));
        assert!(!selects(&filter, "sub/x.dbx", 6));
        assert!(!selects(&filter, "log/a", 7));
    }

    /// They matched nothing, and nobody said so.
    #[test]
    fn regression_usual_ways_to_write_a_directory_matched_nothing() {
        let hit = |pattern: &str, path: &'static str| {
            selects(&Filter::new(&[pattern.into()], &[], &[]).unwrap_or_else(|error| panic!("{error}")), path, 0)
        };
        let usual =
            ["data", "data/", "/data", "/data/", "./data", "./data/", "data/**", "./data/**", "/data/**", "data/*"];
        let odd = [
            "data//f",
            "data/./f",
            "data/../data/f",
            "x/../data",
            "data/.",
            ".//data",
            "**/f",
            "f",
            "*",
            "d?ta",
            "{data,x}",
        ];
        for pattern in usual.into_iter().chain(odd) {
            assert!(hit(pattern, "data/f"), "{pattern}");
        }
        for pattern in ["other/**", "other", "dat", "/f", "./f", "data/g", "data/f/g", "data/*/f", "other/f"] {
            assert!(!hit(pattern, "data/f"), "{pattern}");
        }
        // As in .gitignore: a name in any directory, a path from the top, and what is below.
        assert!(hit("*.db", "sub/x.db") && !hit("/*.db", "sub/x.db") && hit("log/*", "log/a/b"));
        assert!(!hit("data/f", "sub/data/f") && hit("data", "sub/data/f") && !hit("/data", "sub/data/f"));
        for pattern in ["", "/", ".", "./", "..", "../data", "a/../..", "!data"] {
            assert!(Filter::new(&[pattern.into()], &[], &[]).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_filter_counts_what_it_was_asked() {
        let filter = Filter::new(&["a".into()], &[], &[]).unwrap();
        for path in ["a", "b", "c"] {
            selects(&filter, path, 0);
        }
        assert_eq!(filter.usage(), FilterUse { asked: 3, selected: 1 });
        let everything = Filter::default();
        selects(&everything, "a", 0);
        assert_eq!(everything.usage(), FilterUse::default());
    }

    #[test]
    fn command_names_are_read_from_proc() {
        let own = command_name(std::process::id());
        assert!(selects(&Filter::new(&[], &[own.to_string()], &[]).unwrap(), "a", 0));
        assert!(!selects(&Filter::new(&[], &["no-such-name".into()], &[]).unwrap(), "a", 0));
    }

    #[test]
    fn bad_globs_are_named() {
        assert!(Filter::new(&["[a".into()], &[], &[]).unwrap_err().contains("'[a'"));
    }
}
