//! Which operations are hit: by path, command name and user.
//!
//! Must not know: what happens to them. Invariant: an empty filter selects everything and costs nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

use super::op::{OpInfo, command_name};

/// Why globs of paths cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// One of them cannot be understood.
    #[error("'{glob}' is not a glob: {}", .cause.kind())]
    Glob {
        /// The glob as it was written.
        glob: String,
        /// What is wrong with it.
        cause: globset::Error,
    },
    /// A pattern would take paths out of the filter.
    #[error("'{0}' begins with '!': nothing can be left out; write '\\{0}' for such a name")]
    Negated(String),
    /// A pattern leads above the volume's top.
    #[error("'{0}' leads out of the volume; write a pattern such as 'log/**'")]
    Outside(String),
    /// A pattern names the volume's top.
    #[error("'{0}' names the whole volume; leave it out, or write a pattern such as 'log/**'")]
    WholeVolume(String),
    /// All of them together are too much.
    #[error("{0}")]
    Set(#[from] globset::Error),
}

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
    pub fn new(paths: &[String], comms: &[String], uids: &[u32]) -> Result<Self, FilterError> {
        let mut set = GlobSetBuilder::new();
        for path in paths {
            for glob in globs(path)? {
                set.add(glob);
            }
        }
        let paths = match paths.is_empty() {
            true => None,
            false => Some(set.build()?),
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
fn globs(pattern: &str) -> Result<[Glob; 2], FilterError> {
    let from_top = relative(pattern)?;
    let is_name = !from_top.contains('/') && !pattern.starts_with('/') && !pattern.starts_with("./");
    let named = if is_name { format!("**/{from_top}") } else { from_top };
    let glob = |text: &str| {
        let glob = GlobBuilder::new(text).literal_separator(true).build();
        glob.map_err(|cause| FilterError::Glob { glob: pattern.to_owned(), cause })
    };
    Ok([glob(&named)?, glob(&format!("{named}/**"))?])
}

/// The pattern as paths are written: without `.`, `..`, slashes at its ends or doubled.
fn relative(pattern: &str) -> Result<String, FilterError> {
    if pattern.starts_with('!') {
        return Err(FilterError::Negated(pattern.to_owned()));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                let outside = || FilterError::Outside(pattern.to_owned());
                parts.pop().filter(|part| *part != "**").ok_or_else(outside)?;
            }
            part => parts.push(part),
        }
    }
    match parts.is_empty() {
        true => Err(FilterError::WholeVolume(pattern.to_owned())),
        false => Ok(parts.join("/")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::Access;
    use crate::op::{Caller, OpKind};

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
        assert!(Filter::new(&["[a".into()], &[], &[]).unwrap_err().to_string().contains("'[a'"));
    }
}
