//! `stunfs run`: mount, run a command on the volume, unmount; the command's exit code.
//!
//! Must not know: how a volume works. Invariant: the volume outlives the command, and nothing temporary outlives the
//! volume (unless --keep).

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use signal_hook::consts::SIGINT;
use stunfs::internal::disk::{Disk, DiskSpec, FsKind};
use stunfs::internal::settings::{Opt, Settings};
use stunfs::internal::units::Bytes;
use stunfs::internal::volume::{Panics, Stop, Stopper, Summary, Volume, VolumeError, VolumeOptions};
use tempfile::TempDir;

use super::exit::{ErrorWithCode, FINE, SOFTWARE};
use super::signals::Signals;
use super::volume_args::{self, VolumeArgs};
use super::{output, summary};

/// As shells and env(1) have it.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// `stunfs run`
#[derive(Debug, Args)]
#[command(after_help = "Exit code: CMD's, or 128 + the signal that ended it; 126 and 127 if CMD cannot be run.")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    volume: VolumeArgs,
    /// Directory that holds the data [a temporary one]
    #[arg(long, value_name = "DIR")]
    backing: Option<PathBuf>,
    /// Run CMD on a disk on the volume: xfs, ext4, or none (CMD gets the device)
    #[arg(long, value_name = "FS")]
    disk: Option<FsKind>,
    /// With --disk: size of a new image [10GiB]
    #[arg(long, value_name = "SIZE", requires = "disk")]
    disk_size: Option<Bytes>,
    /// With --disk: more words for mkfs
    #[arg(long, value_name = "WORDS", requires = "disk", allow_hyphen_values = true)]
    mkfs_opts: Vec<String>,
    /// Keep the temporary backing
    #[arg(long, conflicts_with = "backing")]
    keep: bool,
    /// What to run; {} in it, and $STUNFS_MOUNT, stand for the path of the volume (of the disk, with --disk)
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(crate) fn run(args: &RunArgs) -> anyhow::Result<u8> {
    let mut scratch = Scratch::make(args.keep)?;
    let backing = scratch.backing(args.backing.as_deref())?;
    let settings = settings(args);
    let options = volume_args::resolve(&settings, &backing, &scratch.mountpoint()?)?;
    let signals = Signals::catch()?;
    let seed = options.model.seed;
    let (outcome, summary) = match args.disk {
        None => on_volume(options, signals, &args.command)?,
        Some(fs) => {
            let spec = DiskSpec { scratch: scratch.goes_with_us(), ..spec(args, fs, &backing) };
            on_disk(&spec, options, signals, &args.command)?
        }
    };
    let summary = summary.inspect_err(|_| scratch.keep())?;
    output::tell(&summary::text(&summary));
    output::tell(&format!("        seed {seed}\n"));
    scratch.finish();
    outcome
}

/// The command's outcome and the volume's, once the volume is there.
type Outcomes = (anyhow::Result<u8>, Result<Summary, VolumeError>);

fn on_volume(options: VolumeOptions, signals: Signals, command: &[OsString]) -> anyhow::Result<Outcomes> {
    let volume = Volume::mount(options)?;
    volume.notices().iter().for_each(output::say);
    let panics = Panics::end(volume.stopper());
    let outcome = run_on(&volume, volume.mountpoint(), signals, command);
    volume.stopper().request_stop(Stop::Drain);
    let summary = volume.wait();
    Ok((if panics.seen() { Ok(SOFTWARE) } else { outcome }, summary))
}

fn on_disk(
    spec: &DiskSpec,
    options: VolumeOptions,
    signals: Signals,
    command: &[OsString],
) -> anyhow::Result<Outcomes> {
    let disk = Disk::up(spec, options)?;
    disk.volume().notices().iter().for_each(output::say);
    let panics = Panics::end(disk.volume().stopper());
    let outcome = run_on(disk.volume(), disk.path(), signals, command);
    let summary = disk.down();
    Ok((if panics.seen() { Ok(SOFTWARE) } else { outcome }, summary))
}

fn spec(args: &RunArgs, fs: FsKind, backing: &Path) -> DiskSpec {
    let is_there = std::fs::read_dir(backing).is_ok_and(|mut entries| entries.next().is_some());
    let usual = if is_there { None } else { Some(Bytes::gib(10)) };
    DiskSpec {
        place: backing.to_owned(),
        size: args.disk_size.or(usual),
        fs,
        mkfs_options: args.mkfs_opts.clone(),
        ..DiskSpec::default()
    }
}

/// A temporary backing's record is of no use after it.
fn settings(args: &RunArgs) -> Settings {
    let defaults = if args.backing.is_none() { Settings::new().with(Opt::State, "none") } else { Settings::new() };
    defaults.merge(&args.volume.settings)
}

fn run_on(volume: &Volume, path: &Path, signals: Signals, command: &[OsString]) -> anyhow::Result<u8> {
    if let Some(hint) = volume_args::hint(&volume.status().config) {
        output::say(hint);
    }
    let child = start(volume, path, command)?;
    let target = CommandProcess::new(&child);
    let _serving = signals.serve(pass_on(target.clone(), volume.stopper()))?;
    let status = target.wait(child)?;
    Ok(exit_code(status))
}

fn start(volume: &Volume, path: &Path, command: &[OsString]) -> anyhow::Result<Child> {
    let mountpoint = path.as_os_str();
    let mut words = command.iter().map(|word| substitute(word, mountpoint));
    let program = words.next().unwrap_or_default();
    let mut command = Command::new(&program);
    command.args(words).env("STUNFS_MOUNT", mountpoint);
    if let Some(socket) = volume.control_socket() {
        command.env("STUNFS_CONTROL", socket);
    }
    command.spawn().map_err(|error| {
        let code = if error.kind() == std::io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
        ErrorWithCode { code, message: format!("cannot run {}: {error}", program.display()) }.into()
    })
}

/// `word` with the path in place of each `{}`.
fn substitute(word: &OsStr, path: &OsStr) -> OsString {
    let mut bytes = Vec::new();
    let mut rest = word.as_bytes();
    while let Some(at) = rest.windows(2).position(|pair| pair == b"{}") {
        bytes.extend_from_slice(&rest[..at]);
        bytes.extend_from_slice(path.as_bytes());
        rest = &rest[at + 2..];
    }
    bytes.extend_from_slice(rest);
    OsString::from_vec(bytes)
}

/// The command's process, as long as its number is its own.
#[derive(Debug, Clone)]
struct CommandProcess(Arc<Mutex<Option<Pid>>>);

impl CommandProcess {
    fn new(child: &Child) -> Self {
        Self(Arc::new(Mutex::new(Some(Pid::from_child(child)))))
    }

    fn send(&self, signal: Signal) {
        if let Some(pid) = *self.0.lock() {
            // It may be a zombie, or another user's by now.
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for the end without giving the number free, forgets the number, and only then gives it free.
    fn wait(&self, mut child: Child) -> anyhow::Result<ExitStatus> {
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let pid = Pid::from_child(&child);
        while matches!(waitid(WaitId::Pid(pid), ended), Err(rustix::io::Errno::INTR)) {}
        self.0.lock().take();
        child.wait().context("cannot wait for the command")
    }
}

/// A signal is passed to the command, and all injection ends: a command that waits for storage could not end itself.
fn pass_on(target: CommandProcess, stopper: Stopper) -> impl FnMut(i32, u32) + Send + 'static {
    // The terminal sends its Ctrl-C to the whole foreground group.
    let from_terminal = std::io::stdin().is_terminal();
    move |signal, times| {
        if signal == SIGINT && times > 1 {
            target.send(Signal::KILL);
            stopper.request_stop(Stop::AtOnce);
            return;
        }
        if let Some(signal) = Signal::from_named_raw(signal).filter(|signal| !(from_terminal && *signal == Signal::INT))
        {
            target.send(signal);
        }
        stopper.release();
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FINE)
}

/// The temporary directory: the mount point and, unless one is given, the backing.
#[derive(Debug)]
struct Scratch {
    dir: Option<TempDir>,
    keep: bool,
}

impl Scratch {
    fn make(keep: bool) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("stunfs-").tempdir().context("cannot make a temporary directory")?;
        Ok(Self { dir: Some(dir), keep })
    }

    fn sub(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.dir.as_ref().map(TempDir::path).unwrap_or(Path::new("/")).join(name);
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    fn backing(&self, given: Option<&Path>) -> anyhow::Result<PathBuf> {
        given.map_or_else(|| self.sub("backing"), |dir| Ok(dir.to_owned()))
    }

    fn mountpoint(&self) -> anyhow::Result<PathBuf> {
        self.sub("mnt")
    }

    /// The directory, unless the user wants to keep it.
    fn goes_with_us(&self) -> Option<PathBuf> {
        self.dir.as_ref().filter(|_| !self.keep).map(|dir| dir.path().to_owned())
    }

    /// Something may still be mounted in it.
    fn keep(&mut self) {
        if let Some(dir) = self.dir.take() {
            output::say(format!("left behind: {}", dir.keep().display()));
        }
    }

    fn finish(mut self) {
        let Some(dir) = self.dir.take() else { return };
        if self.keep {
            output::tell(&format!("        kept: {}\n", dir.keep().join("backing").display()));
        } else if let Err(error) = dir.close() {
            output::say(format!("cannot remove the temporary directory: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_stand_for_the_path() {
        let word = |word: &str| substitute(OsStr::new(word), OsStr::new("/m"));
        assert_eq!(["{}", "of={}/a:{}", "{", "a{}"].map(word), ["/m", "of=/m/a:/m", "{", "a/m"]);
    }

    #[test]
    fn signals_become_codes_as_in_shells() {
        assert_eq!(exit_code(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(exit_code(ExitStatus::from_raw(9)), 137);
    }
}
