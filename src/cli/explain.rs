//! `stunfs explain`: a kernel log in words, and as a scenario that replays it.
//!
//! Must not know: what a line means. Invariant: the log is read once, in memory that does not grow with it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use stunfs::internal::explain::{Explainer, Explanation, replay, text};

use super::exit::{FINE, INCONCLUSIVE, UsageError};
use super::output::{print, say};

/// What of a longer line lies behind this is passed over, bytes.
const LONGEST_LINE: u64 = 1 << 20;

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The log, in any form: dmesg, journalctl, syslog, a console; '-': standard input
    #[arg(value_name = "LOG")]
    log: PathBuf,
    /// Print the explanation as JSON
    #[arg(long)]
    json: bool,
    /// Write a scenario that replays it; 'stunfs test FILE' runs it
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
}

/// Runs the sub-command.
pub(crate) fn run(args: &ExplainArgs) -> anyhow::Result<u8> {
    let found = if args.log == Path::new("-") {
        explain(io::stdin().lock()).context("standard input cannot be read")?
    } else {
        let unreadable = || format!("{} cannot be read", args.log.display());
        let file = File::open(&args.log).with_context(unreadable)?;
        if file.metadata().with_context(unreadable)?.is_dir() {
            return Err(UsageError(format!("{} is a directory; name a log in it", args.log.display())).into());
        }
        explain(BufReader::new(file)).with_context(unreadable)?
    };
    if let Some(path) = &args.scenario {
        let Some(scenario) = replay(&found) else {
            say("no scenario is written: the log tells of no stall, standstill or full pool");
            print(&output(&found, args.json)?)?;
            return Ok(INCONCLUSIVE);
        };
        std::fs::write(path, scenario).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    print(&output(&found, args.json)?)?;
    if found.is_empty() {
        say("the log has no report of blocked tasks, standstills, storage or servers");
        return Ok(INCONCLUSIVE);
    }
    Ok(FINE)
}

fn output(found: &Explanation, json: bool) -> anyhow::Result<String> {
    Ok(if json { serde_json::to_string_pretty(found)? + "\n" } else { text(found) })
}

fn explain(mut log: impl BufRead) -> io::Result<Explanation> {
    let mut explainer = Explainer::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        if log.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(explainer.finish());
        }
        if line.last() != Some(&b'\n') && line.len() as u64 == LONGEST_LINE {
            log.skip_until(b'\n')?;
        }
        let end = line.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |at| at + 1);
        explainer.line(&line[..end]);
    }
}
