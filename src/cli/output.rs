//! What goes to the terminal: text that survives a closed pipe, aligned tables, times and sizes for people.
//!
//! Must not know: what is shown. Invariant: a reader that goes away is no error.

use std::fmt::{Display, Write as _};
use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use tracing_subscriber::EnvFilter;

pub(crate) use stunfs::internal::units::text::{count, micros, size, time};

/// Diagnostics go to standard error; `STUNFS_LOG` says how much (`warn` unless told otherwise, without fuser's complaints of
/// replies that the kernel does not take any more: an aborted connection ends so).
pub(crate) fn start_log() {
    let filter = EnvFilter::try_from_env("STUNFS_LOG").unwrap_or_else(|_| EnvFilter::new("warn,fuser::reply=off"));
    // Fails only if a log has been started already.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false);
    // A line that cannot be written is not reported: where standard error is a pipe without a reader that would panic.
    let _ = log.with_ansi(io::stderr().is_terminal()).log_internal_errors(false).try_init();
}

/// Writes `text` to standard output; false if its reader has gone.
pub(crate) fn print(text: &str) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(anyhow::Error::new(error).context("cannot write to standard output")),
        Ok(()) => Ok(true),
    }
}

/// Writes `text` to standard error. Its reader may have gone: `2>&1 | head` is no reason to fail.
pub(crate) fn tell(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// A line on standard error: what the user should know, or what is wrong.
pub(crate) fn say(line: impl Display) {
    tell(&format!("stunfs: {line}\n"));
}

/// Writes `value` to standard output as JSON.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))?;
    Ok(())
}

/// A table: columns as wide as they need to be, the last one as it comes.
#[derive(Debug)]
pub(crate) struct TextTable<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> TextTable<N> {
    pub(crate) fn new(head: [&str; N]) -> Self {
        Self { rows: vec![head.map(str::to_owned)] }
    }

    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }

    pub(crate) fn text(&self) -> String {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; N] = std::array::from_fn(width);
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(widths) {
                // A string takes any text.
                let _ = write!(line, "{cell:width$}  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = TextTable::new(["A", "B"]);
        table.row(["long".into(), "x".into()]);
        assert_eq!(table.text(), "A     B\nlong  x\n");
    }
}
