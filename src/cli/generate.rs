//! `stunfs completions` and `stunfs man`: what `make install` puts in place, made from the command line's definition.
//!
//! Must not know: what commands do. Invariant: every sub-command that is not hidden has a page.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use clap_complete::Shell;

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
    clap_mangen::generate_to(super::command(), &args.dir)
        .with_context(|| format!("cannot write to {}", args.dir.display()))?;
    Ok(FINE)
}
