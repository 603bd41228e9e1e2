//! Which operations are hit: by path, command name and user.
//!
//! Must not know: what happens to them. Invariant: an empty filter selects everything and costs nothing.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

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
    /// All of them together are too much.
    #[error("{0}")]
    Set(#[from] globset::Error),
}

/// A compiled filter. An operation is selected if each list that is not empty has a match.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    paths: Option<GlobSet>,
    comms: Vec<String>,
    uids: Vec<u32>,
}

impl Filter {
    /// Compiles the lists; the error names the glob that cannot be understood.
    pub fn new(paths: &[String], comms: &[String], uids: &[u32]) -> Result<Self, FilterError> {
        let mut set = GlobSetBuilder::new();
        for path in paths {
            let glob = GlobBuilder::new(path.trim_start_matches('/'))
                .literal_separator(true)
                .build()
                .map_err(|cause| FilterError::Glob { glob: path.clone(), cause })?;
            set.add(glob);
        }
        let paths = match paths.is_empty() {
            true => None,
            false => Some(set.build()?),
        };
        Ok(Self { paths, comms: comms.to_vec(), uids: uids.to_vec() })
    }

    /// Whether `op` is hit.
    pub(super) fn selects(&self, op: &OpInfo<'_>) -> bool {
        (self.uids.is_empty() || self.uids.contains(&op.caller.uid))
            && self.paths.as_ref().is_none_or(|set| set.is_match(&*(op.path)()))
            && (self.comms.is_empty() || self.comms.iter().any(|name| **name == *command_name(op.caller.pid)))
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
        assert!(!selects(&filter, "sub/x.db", 6), "* does not cross a slash");
        assert!(!selects(&filter, "log/a", 7));
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
