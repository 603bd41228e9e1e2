//! `stunfs completions` and `stunfs man`: what `make install` puts in place, made from the command line's definition.
//!
//! Must not know: what commands do. Invariant: every sub-command that is not hidden has a page.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use super::exit::FINE;
use super::output;

/// `stunfs completions`
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

/// `stunfs man`
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Directory that the pages are written to; made if it is missing
    dir: PathBuf,
}

pub(crate) fn completions(args: &CompletionsArgs) -> anyhow::Result<u8> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "stunfs", &mut text);
    output::print(&String::from_utf8_lossy(&text))?;
    Ok(FINE)
}

pub(crate) fn man(args: &ManArgs) -> anyhow::Result<u8> {
    std::fs::create_dir_all(&args.dir).with_context(|| format!("cannot make {}", args.dir.display()))?;
    let mut command = super::command().disable_help_subcommand(true);
    command.build();
    pages(&command, &args.dir).with_context(|| format!("cannot write to {}", args.dir.display()))?;
    Ok(FINE)
}

/// A page for the command and for each below it. All end with the program's name and version.
fn pages(command: &Command, dir: &Path) -> io::Result<()> {
    let mut shown = command.get_subcommands().filter(|sub| !sub.is_hide_set());
    shown.try_for_each(|sub| pages(sub, dir))?;
    let page = Man::new(command.clone()).source(concat!("stunfs ", env!("CARGO_PKG_VERSION"))).manual("stunfs");
    page.generate_to(dir).map(|_path| ())
}
