//! A volume in the background: the process starts itself again, detached, and waits until that one says it is usable.
//!
//! Must not know: what is mounted. Invariant: `start` returns after exactly one report: usable, or why not and the code.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use stunfs::internal::settings::{Opt, Settings};

use super::exit::{self, ErrorWithCode, SOFTWARE, UsageError};

/// What is to run in the background.
#[derive(Debug)]
pub(crate) struct Daemon<'a> {
    pub(crate) backing: &'a Path,
    pub(crate) mountpoint: &'a Path,
    pub(crate) settings: &'a Settings,
    pub(crate) log: Option<&'a Path>,
    pub(crate) pid_file: Option<&'a Path>,
}

/// What the user is told once a volume is usable.
#[derive(Debug)]
pub(crate) struct ReadyLines {
    pub(crate) notes: Vec<String>,
    pub(crate) ready: String,
    pub(crate) how_to_end: String,
}

/// The daemon's one line to the process that started it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum DaemonReport {
    Ready(Ready),
    Failed { code: u8, message: String },
}

/// The volume is usable.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    pub(crate) notes: Vec<String>,
    pub(crate) ready: String,
}

impl Daemon<'_> {
    /// Starts the daemon; returns when the volume is usable.
    pub(crate) fn start(&self) -> anyhow::Result<Ready> {
        if self.settings.get(Opt::Events) == Some("-") {
            let why =
                "events: '-' is standard output, which a volume in the background has none of; write a file's path";
            return Err(UsageError(why.into()).into());
        }
        let mut child = self.command()?.spawn().context("cannot start the daemon")?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line).context("cannot read what the daemon says")?;
        }
        match serde_json::from_str(&line) {
            Ok(DaemonReport::Ready(ready)) => Ok(ready),
            Ok(DaemonReport::Failed { code, message }) => {
                // It has said all; only its end is left to wait for.
                let _ = child.wait();
                Err(ErrorWithCode { code, message }.into())
            }
            Err(_) => Err(ended_silently(child).into()),
        }
    }

    fn command(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(std::env::current_exe().context("cannot find the stunfs program")?);
        // Under the name of a mount helper it would take itself for one.
        command.arg0("stunfs").args(["mount", "--detached"]);
        for (option, values) in self.settings.iter() {
            command.args(values.iter().map(|value| format!("--{}={value}", option.name())));
        }
        if let Some(file) = self.pid_file {
            command.arg("--pid-file").arg(file);
        }
        command.arg("--").arg(self.backing).arg(self.mountpoint);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(self.diagnostics()?);
        Ok(command)
    }

    fn diagnostics(&self) -> anyhow::Result<Stdio> {
        let Some(path) = self.log else { return Ok(Stdio::null()) };
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(file.with_context(|| format!("--log: cannot open {}", path.display()))?.into())
    }
}

fn ended_silently(mut child: Child) -> ErrorWithCode {
    let how = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
    let message = format!("the daemon ended without a word ({how}); leave --daemon out to see why");
    ErrorWithCode { code: SOFTWARE, message }
}

/// In the daemon: its own session, no terminal, no directory held.
pub(crate) fn detach() -> anyhow::Result<()> {
    // Fails only for the leader of a process group, which a child just started is not.
    rustix::process::setsid().context("cannot begin a session of its own")?;
    std::env::set_current_dir("/").context("cannot go to /")
}

/// In the daemon: the volume is usable; from here on standard output leads nowhere.
pub(crate) fn report_ready(lines: &ReadyLines) -> anyhow::Result<()> {
    report(&DaemonReport::Ready(Ready { notes: lines.notes.clone(), ready: lines.ready.clone() }))?;
    let nowhere = File::options().write(true).open("/dev/null").context("cannot open /dev/null")?;
    rustix::stdio::dup2_stdout(nowhere).context("cannot close standard output")
}

/// In the daemon: tells the process that started it what went wrong, and hands the outcome on.
pub(crate) fn report_failure(outcome: anyhow::Result<u8>) -> anyhow::Result<u8> {
    if let Err(error) = &outcome {
        // Once the volume was usable no process reads this any more; the log has the line, too.
        let _ = report(&DaemonReport::Failed { code: exit::code(error), message: exit::message(error) });
    }
    outcome
}

fn report(report: &DaemonReport) -> anyhow::Result<()> {
    let line = serde_json::to_string(report)? + "\n";
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).context("the process that started the daemon is gone")
}
