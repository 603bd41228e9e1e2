//! `stunfs mount`: a volume until it is unmounted or signalled, in the foreground or as a daemon.
//!
//! Must not know: how a volume works. Invariant: one line says that the volume is usable, and only once it is.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use signal_hook::consts::SIGINT;
use stunfs::internal::settings::{Opt, Settings};
use stunfs::internal::volume::{Panics, Stop, Stopper, Volume, VolumeOptions};

use super::daemon::{self, Daemon, ReadyLines};
use super::exit::{FINE, SOFTWARE};
use super::signals::Signals;
use super::volume_args::{self, VolumeArgs};
use super::{notify, output, summary};

/// `stunfs mount`
#[derive(Debug, Args)]
#[command(
    after_help = "LATENCY, SIZE, RATE and TIME carry a unit: 20ms, 1MiB, 200MiB/s, 10m. docs/options.md tells more."
)]
pub(crate) struct MountArgs {
    /// Directory that holds the data
    backing: PathBuf,
    /// Directory where the volume appears
    mountpoint: PathBuf,
    #[command(flatten)]
    volume: VolumeArgs,
    /// Go to the background; returns once the volume is usable
    #[arg(long)]
    daemon: bool,
    /// With --daemon: append diagnostics to this file
    #[arg(long, value_name = "FILE", requires = "daemon")]
    log: Option<PathBuf>,
    /// Write the process's number there once the volume is usable
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// This is the daemon, and standard output leads to the process that started it
    #[arg(long, hide = true, conflicts_with = "daemon")]
    detached: bool,
}

pub(crate) fn run(args: &MountArgs) -> anyhow::Result<u8> {
    if args.detached {
        return daemon::report_failure(serve_detached(args));
    }
    let options = volume_args::resolve(&args.volume.settings, &args.backing, &args.mountpoint)?;
    if args.daemon {
        return start_daemon(args, &args.volume.settings);
    }
    // A program that reads the events from standard output must find nothing else there.
    let events_only = args.volume.settings.get(Opt::Events) == Some("-");
    serve(options, args.pid_file.as_deref(), |lines| {
        lines.notes.iter().for_each(output::say);
        let text = format!("{}\n{}\n", lines.ready, lines.how_to_end);
        if events_only {
            output::tell(&text);
            return Ok(());
        }
        output::print(&text).map(|_| ())
    })
}

fn start_daemon(args: &MountArgs, settings: &Settings) -> anyhow::Result<u8> {
    let daemon = Daemon {
        backing: &args.backing,
        mountpoint: &args.mountpoint,
        settings,
        log: args.log.as_deref(),
        pid_file: args.pid_file.as_deref(),
    };
    let ready = daemon.start()?;
    ready.notes.iter().for_each(output::say);
    // It is mounted, whether standard output takes that line or not.
    if let Err(error) = output::print(&format!("{}\n", ready.ready)) {
        output::say(format!("{error:#}; {}", ready.ready));
    }
    Ok(FINE)
}

fn serve_detached(args: &MountArgs) -> anyhow::Result<u8> {
    let options = volume_args::resolve(&args.volume.settings, &args.backing, &args.mountpoint)?;
    let pid_file = args.pid_file.as_deref().map(std::path::absolute).transpose().context("--pid-file")?;
    daemon::detach()?;
    serve(options, pid_file.as_deref(), daemon::report_ready)
}

/// Mounts, tells, and waits for the end.
fn serve(
    options: VolumeOptions,
    pid_file: Option<&Path>,
    tell: impl FnOnce(&ReadyLines) -> anyhow::Result<()>,
) -> anyhow::Result<u8> {
    let signals = Signals::catch()?;
    let (backing, seed) = (options.backing.clone(), options.model.seed);
    let hint = volume_args::hint(&options.model);
    let volume = Volume::mount(options)?;
    let panics = Panics::end(volume.stopper());
    let _serving = signals.serve(end_on_signal(volume.stopper()))?;
    let _pid_file = pid_file.map(PidFile::write).transpose()?;
    let mut lines = lines(&volume, &backing, seed);
    lines.notes.extend(hint.map(str::to_owned));
    tell(&lines)?;
    notify::ready();
    let summary = volume.wait()?;
    output::tell(&summary::text(&summary));
    Ok(if panics.seen() { SOFTWARE } else { FINE })
}

fn lines(volume: &Volume, backing: &Path, seed: u64) -> ReadyLines {
    let mountpoint = volume.mountpoint().display();
    let control = match volume.control_socket() {
        Some(socket) => format!("control {}", socket.display()),
        None => "no control socket".to_owned(),
    };
    ReadyLines {
        notes: volume.notices().to_vec(),
        ready: format!("{} is mounted on {mountpoint}, {control}, seed {seed}", backing.display()),
        how_to_end: format!("to end it: Ctrl-C, or umount {mountpoint}"),
    }
}

/// SIGTERM and SIGHUP drain; so does SIGINT, and at once when it comes again.
fn end_on_signal(stopper: Stopper) -> impl FnMut(i32, u32) + Send + 'static {
    move |signal, times| {
        let at_once = signal == SIGINT && times > 1;
        if signal == SIGINT && !at_once {
            output::say("ending once what is held has been answered; Ctrl-C again ends at once");
        }
        stopper.request_stop(if at_once { Stop::AtOnce } else { Stop::Drain });
    }
}

/// The file goes when the volume does.
#[derive(Debug)]
struct PidFile<'a>(&'a Path);

impl<'a> PidFile<'a> {
    fn write(path: &'a Path) -> anyhow::Result<Self> {
        // A pipe without a reader is refused, and not waited for.
        let at_once = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).custom_flags(at_once).open(path);
        file.and_then(|mut file| file.write_all(format!("{}\n", std::process::id()).as_bytes()))
            .with_context(|| format!("--pid-file: cannot write {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for PidFile<'_> {
    fn drop(&mut self) {
        // The user may have removed it already.
        let _ = fs::remove_file(self.0);
    }
}
