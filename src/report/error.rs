//! What is wrong with a result folder, and where.
//!
//! Must not know: where the folder lies. Invariant: one line that says what, where, and what to do.

/// A file of a result folder that no page can be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// A line of an event file.
    #[error("{file}:{line}: {problem}")]
    Line {
        /// The file, below the folder.
        file: String,
        /// The line's number, from 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// A whole file.
    #[error("{file}: {problem}")]
    File {
        /// The file, below the folder.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl ReportError {
    /// `problem` of the file `file`.
    pub fn file(file: &str, problem: impl Into<String>) -> Self {
        Self::File { file: file.to_owned(), problem: problem.into() }
    }

    pub(super) fn line(file: &str, line: u64, problem: impl Into<String>) -> Self {
        Self::Line { file: file.to_owned(), line, problem: problem.into() }
    }

    /// A JSON file that cannot be read.
    pub(super) fn json(file: &str, error: &serde_json::Error) -> Self {
        let place = format!("line {}, column {}", error.line(), error.column());
        Self::file(file, format!("{place}: {}; run the scenario again", json_problem(error)))
    }
}

/// What is wrong, without the place that `serde_json` adds.
pub(super) fn json_problem(error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "it is cut off".to_owned();
    }
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(problem, _)| problem).to_owned()
}
