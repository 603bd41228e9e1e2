//! `stunfs write verify`: reads back what writers left.
//!
//! Must not know: how records look. Invariant: exit code 0 only if no record that counts is lost, torn, doubled or out of order.

use std::fmt::Display;
use std::path::PathBuf;

use clap::Args;
use stunfs::internal::workload::{Kept, Verified, read_ack_log, verify};

use crate::cli::exit::{ErrorWithCode, FAILED, FINE};
use crate::cli::output::{self, count};

const ABOUT: &str = "\
Read back what writers left in a directory: is an acknowledged record lost, torn, doubled or out of order?

Which records were acknowledged is in the writer's --ack-log, a file on other storage. Without it only what a later
record of the same file proves to be missing counts as lost, and every piece of a record counts as damage.

Exit code 0: none is. 1: some are. 2: the command line is wrong, or the directory or the log cannot be read.";

/// `stunfs write verify`
#[derive(Debug, Args)]
#[command(long_about = ABOUT)]
pub(super) struct VerifyArgs {
    /// Where the writers wrote
    dir: PathBuf,
    /// What the writers acknowledged; once for each writer that had a log of its own
    #[arg(long, value_name = "FILE")]
    ack_log: Vec<PathBuf>,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &VerifyArgs) -> anyhow::Result<u8> {
    let logs = args.ack_log.iter().map(|path| read_ack_log(path)).collect::<Result<Vec<_>, _>>();
    let kept: Vec<Kept> = logs.map_err(|error| unreadable(&error))?.into_iter().flatten().collect();
    let kept = (!args.ack_log.is_empty()).then_some(kept);
    let found = verify(&args.dir, kept.as_deref());
    let found = found.map_err(|error| unreadable(&format_args!("cannot read back {}: {error}", args.dir.display())))?;
    if args.json {
        output::print_json(&found)?;
    } else {
        output::print(&text(&found))?;
    }
    Ok(if found.is_clean() { FINE } else { FAILED })
}

/// What cannot be read is wrong usage, so that 1 means that something is lost.
fn unreadable(error: &dyn Display) -> anyhow::Error {
    ErrorWithCode { code: 2, message: error.to_string() }.into()
}

fn text(found: &Verified) -> String {
    let Verified { lost, torn, duplicates, out_of_order, damaged, .. } = *found;
    let mut lines = vec![format!("{} in {}", count(found.records, "record"), count(found.files, "file"))];
    lines.push(match found.acknowledged {
        Some(known) => format!("{} acknowledged and not deleted", count(known, "record")),
        None => "not known which were acknowledged; give --ack-log".to_owned(),
    });
    lines.push(format!(
        "{lost} lost ({torn} of them torn), {duplicates} doubled, {out_of_order} out of order, {} damaged",
        count(damaged, "piece")
    ));
    lines.extend(found.lost_records.iter().map(|lost| {
        let ranges: Vec<_> = lost.records.iter().map(|(first, last)| format!("{first}-{last}")).collect();
        format!("lost of {}: {}", lost.writer, ranges.join(", "))
    }));
    if found.unacknowledged > 0 {
        lines.push(format!("{} not acknowledged: no loss", count(found.unacknowledged, "record")));
    }
    lines.join("\n") + "\n"
}
