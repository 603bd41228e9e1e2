//! `stunfs report`: reads one or two result folders, writes the page.
//!
//! Must not know: what stands on a page. Invariant: event files are read line by line, and a folder that no page can be made of is
//! one line with the place, exit code 2.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use stunfs::internal::report::{self, ReportError, ReportFile, Run, RunReader};

use super::exit::{FINE, UsageError};
use super::output;

/// An event is some hundred bytes; a line beyond this is none.
const LONGEST_LINE: u64 = 16 << 20;

const EXAMPLES: &str = "\
'stunfs test' writes the page itself, as report.html in the result folder.

Examples:
  stunfs report results/log-rotation-burst
  stunfs report results/before results/after -o change.html";

/// `stunfs report`
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReportArgs {
    /// A result folder that 'stunfs test' wrote
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Another one: the page compares the two
    #[arg(value_name = "DIR2")]
    other: Option<PathBuf>,
    /// Where the page goes ['report.html' in DIR; 'compare.html' for two]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &ReportArgs) -> anyhow::Result<u8> {
    let first = read(&args.folder)?;
    let (page, default) = match &args.other {
        Some(other) => (report::comparison(&first, &read(other)?), PathBuf::from("compare.html")),
        None => (report::page(&first), args.folder.join(ReportFile::PAGE)),
    };
    let path = args.output.clone().unwrap_or(default);
    write(&path, &page)?;
    output::print(&format!("{}\n{}\n", report::verdict_sentence(&first), path.display()))?;
    Ok(FINE)
}

/// Makes the page of a folder in the folder; where it is.
pub(crate) fn write_page(folder: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join(ReportFile::PAGE);
    write(&path, &report::page(&read(folder)?))?;
    Ok(path)
}

/// Writes the page beside its place first, so that it is never there in part.
fn write(path: &Path, page: &str) -> anyhow::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let put = || -> std::io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".report").tempfile_in(directory)?;
        file.write_all(page.as_bytes())?;
        file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    put().with_context(|| format!("cannot write {}", path.display()))
}

fn read(folder: &Path) -> anyhow::Result<Run> {
    let wrong = |error: &ReportError| UsageError(format!("{}/{error}", folder.display()));
    if !folder.is_dir() {
        let what = if folder.exists() { "is not a folder" } else { "there is no such folder" };
        return Err(UsageError(format!("{}: {what}; name a result folder of 'stunfs test'", folder.display())).into());
    }
    let mut run = RunReader::new(&folder.display().to_string(), &whole(folder, ReportFile::VERDICT)?)
        .map_err(|error| wrong(&error))?;
    run.scenario(&whole(folder, ReportFile::SCENARIO)?);
    for (arm, writer, file) in run.reports().map_err(|error| wrong(&error))? {
        let text = whole(folder, &file)?;
        run.report(arm, &writer, &file, &text).map_err(|error| wrong(&error))?;
    }
    events(folder, ReportFile::EVENTS, &mut run)?;
    Ok(run.finish())
}

/// A file of the folder that is small.
fn whole(folder: &Path, file: &str) -> anyhow::Result<Vec<u8>> {
    let path = folder.join(file);
    std::fs::read(&path).map_err(|error| missing(folder, file, &error).into())
}

fn missing(folder: &Path, file: &str, error: &std::io::Error) -> UsageError {
    let path = folder.join(file);
    match error.kind() {
        std::io::ErrorKind::NotFound => UsageError(format!(
            "{}: there is no such file; {} is not a whole result folder of 'stunfs test'",
            path.display(),
            folder.display()
        )),
        _ => UsageError(format!("cannot read {}: {error}", path.display())),
    }
}

/// Passes an event file on, line by line.
fn events(folder: &Path, file: &str, run: &mut RunReader) -> anyhow::Result<()> {
    let source = File::open(folder.join(file)).map_err(|error| missing(folder, file, &error))?;
    let mut source = BufReader::with_capacity(1 << 20, source);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let taken = (&mut source).take(LONGEST_LINE).read_until(b'\n', &mut line);
        if taken.map_err(|error| missing(folder, file, &error))? == 0 {
            break;
        }
        run.event(file, number, &line).map_err(|error| UsageError(format!("{}/{error}", folder.display())))?;
    }
    Ok(())
}
