//! `stunfs disk`: thin disks that any program and any file system can stand on.
//!
//! Must not know: how a disk is made or unmade. Invariant: `up` returns when the disk is usable, or nothing of it is left.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde::Serialize;
use stunfs::internal::control::{Client, StatusReply};
use stunfs::internal::disk::{self, DiskRecord, DiskSpec, Fault, FsKind, ListedDisk, Sector, Started, Up};
use stunfs::internal::settings::{Opt, Settings};
use stunfs::internal::units::Bytes;

use super::daemon::Daemon;
use super::exit::{FINE, UNAVAILABLE, UsageError};
use super::output::{self, TextTable, size};
use super::status;
use super::volume_args::{self, VolumeArgs};

/// A volume that stands still gives no status.
const STATUS_LIMIT: Duration = Duration::from_secs(3);

const EXAMPLES: &str = "\
Examples:
  stunfs disk up /srv/thin --size 500GiB --fs xfs --mount /mnt/thin --profile vmware-thin
  stunfs ctl /mnt/thin status    # which operations are held, and until when
  fstrim /mnt/thin               # hands free grains back to the pool
  stunfs disk down /mnt/thin     # also in the middle of a stall
  stunfs disk list               # all disks of this machine, and what is wrong with them
  stunfs disk repair --all       # clears away what crashes left";

/// `stunfs disk`
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DiskArgs {
    #[command(subcommand)]
    action: DiskAction,
}

#[derive(Debug, Subcommand)]
enum DiskAction {
    /// Bring a disk up: image, volume, loop device, file system, mount; then injection
    Up(Box<UpArgs>),
    /// Take a disk down, also in the middle of a stall or after a crash; the image stays
    Down(Which),
    /// What a disk does, and what is wrong with it
    Status {
        /// Its name, image, directory, mount point or device [the only one]
        disk: Option<PathBuf>,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// All disks of this machine
    List {
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Clear away what a crash left of a disk, so that it can be brought up again
    Repair(Which),
}

#[derive(Debug, Args)]
struct Which {
    /// Its name, image, directory, mount point or device [the only one]
    disk: Option<PathBuf>,
    /// All disks of this machine
    #[arg(long, conflicts_with = "disk")]
    all: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Volume options are those of 'stunfs mount'; the placement is always direct. docs/disk.md tells more."
)]
struct UpArgs {
    /// Directory for the image disk.img, or the image; the directory holds nothing else
    #[arg(value_name = "DIR|IMAGE")]
    place: PathBuf,
    /// Size of a new image; it takes space only as it is written
    #[arg(long, value_name = "SIZE")]
    size: Option<Bytes>,
    /// File system: xfs, ext4, or none (the device alone)
    #[arg(long, value_name = "FS", default_value = "xfs")]
    fs: FsKind,
    /// More words for mkfs, such as '-d agcount=2'; may be repeated
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    mkfs_opts: Vec<String>,
    /// Make a new file system even if the image has one
    #[arg(long)]
    mkfs: bool,
    /// Where the file system is mounted; made if it is missing [a place of its own]
    #[arg(long, value_name = "DIR")]
    mount: Option<PathBuf>,
    /// Options of the file system itself, such as nouuid
    #[arg(long, value_name = "LIST")]
    mount_opts: Option<String>,
    /// Bytes a sector, 512 or 4096
    #[arg(long, value_name = "BYTES", default_value = "512")]
    sector: Sector,
    /// Append the daemon's diagnostics to this file
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Print the disk as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    volume: VolumeArgs,
}

pub(crate) fn run(args: &DiskArgs) -> anyhow::Result<u8> {
    match &args.action {
        DiskAction::Up(args) => up(args),
        DiskAction::Down(which) => each(which, |disk| disk::down(disk).map(Some), "is down"),
        DiskAction::Repair(which) => each(which, disk::repair, "is cleared away; 'stunfs disk up' brings it up again"),
        DiskAction::Status { disk, json } => show(disk.as_deref(), *json),
        DiskAction::List { json } => list(*json),
    }
}

fn up(args: &UpArgs) -> anyhow::Result<u8> {
    let settings = settings(&args.volume.settings)?;
    let armed = args.volume.settings.get(Opt::Disarmed) != Some("true");
    let options = volume_args::resolve(&settings, &args.place, Path::new("/run/stunfs"))?;
    let hint = volume_args::hint(&stunfs::internal::model::ModelConfig { armed, ..options.model });
    let mut notes: Vec<String> = hint.map(str::to_owned).into_iter().collect();
    let mut seed = None;
    let up = disk::up(&spec(args), armed, |record| {
        let (ready, status) = start(record, &settings, args.log.as_deref())?;
        notes.extend(ready);
        seed = status.config.get("seed").and_then(serde_json::Value::as_u64);
        anyhow::Ok(Started { pid: status.pid, is_daemon: true })
    })?;
    notes.iter().for_each(output::say);
    let (record, state) = match &up {
        Up::New(record) => (record, "is up"),
        Up::Already(record) => (record, "was up already and stays as it is"),
    };
    if args.json {
        output::print_json(record)?;
    } else {
        output::print(&format!("{}\n", up_line(record, state, seed)))?;
    }
    Ok(FINE)
}

fn spec(args: &UpArgs) -> DiskSpec {
    DiskSpec {
        place: args.place.clone(),
        size: args.size,
        fs: args.fs,
        mkfs_options: args.mkfs_opts.clone(),
        mount_options: args.mount_opts.clone(),
        mount: args.mount.clone(),
        sector: args.sector,
        remake: args.mkfs,
        scratch: None,
    }
}

/// The volume's options as far as they do not come from the disk.
fn settings(given: &Settings) -> anyhow::Result<Settings> {
    for (option, allowed) in [(Opt::Placement, Some("direct")), (Opt::Control, None), (Opt::ReadOnly, Some("false"))] {
        if given.get(option).is_some_and(|value| Some(value) != allowed) {
            let name = option.name();
            return Err(UsageError(format!("--{name} is not for disks: the disk itself says what it is")).into());
        }
    }
    Ok(given.clone().with(Opt::Placement, "direct").with(Opt::Disarmed, "true"))
}

/// Starts the daemon that runs the volume; its notes and its status.
fn start(
    record: &DiskRecord,
    settings: &Settings,
    log: Option<&Path>,
) -> anyhow::Result<(Vec<String>, stunfs::internal::control::Status)> {
    let control = record.control.to_str().context("the mount point is not UTF-8")?;
    let settings = settings.clone().with(Opt::Control, control);
    let daemon =
        Daemon { backing: record.backing(), mountpoint: &record.volume, settings: &settings, log, pid_file: None };
    let ready = daemon.start()?;
    Ok((ready.notes, volume_status(record)?.status))
}

fn volume_status(record: &DiskRecord) -> anyhow::Result<StatusReply> {
    let client = Client::connect(&record.control)?.timeout(Some(STATUS_LIMIT));
    let reply = client.get("/v1/status?limit=20")?.ok()?;
    serde_json::from_value(reply).context("the volume's answer is not understood; is it of another version?")
}

fn up_line(record: &DiskRecord, state: &str, seed: Option<u64>) -> String {
    let seed = seed.map(|seed| format!(", seed {seed}")).unwrap_or_default();
    format!(
        "{} {state}: {} with {}, {}, control {}{seed}",
        place(record),
        record.image.display(),
        size(record.size.0),
        what(record),
        record.control.display()
    )
}

/// What the user works with: the mount point, or the device.
fn place(record: &DiskRecord) -> String {
    let device = record.device_path();
    record.mount.as_ref().or(device.as_ref()).map_or_else(|| "-".to_owned(), |path| path.display().to_string())
}

fn what(record: &DiskRecord) -> String {
    let device = record.device_path().map_or_else(|| "no device".to_owned(), |path| path.display().to_string());
    format!("{} on {device}", if record.fs == FsKind::None { "nothing" } else { record.fs.name() })
}

/// Does `act` on the disk, or on all of them; the first error, after all of them have had their turn.
fn each<E: Into<anyhow::Error>>(
    which: &Which,
    act: impl Fn(&DiskRecord) -> Result<Option<Vec<String>>, E>,
    done: &str,
) -> anyhow::Result<u8> {
    let disks = if which.all { disk::list()? } else { vec![disk::find(which.disk.as_deref())?] };
    let mut outcome = Ok(FINE);
    for ListedDisk { disk, .. } in disks {
        match act(&disk) {
            Ok(notes) => {
                let state = if notes.is_some() { done } else { "has nothing wrong with it" };
                notes.into_iter().flatten().for_each(output::say);
                output::print(&format!("{} {state}\n", disk.id))?;
            }
            Err(error) => outcome = outcome.and(Err(error.into())),
        }
    }
    outcome
}

/// A disk and its volume.
#[derive(Debug, Serialize)]
struct DiskView<'a> {
    #[serde(flatten)]
    found: &'a ListedDisk,
    volume: Option<&'a StatusReply>,
}

fn show(name: Option<&Path>, json: bool) -> anyhow::Result<u8> {
    let found = disk::find(name)?;
    let alive = !found.faults.iter().any(|fault| matches!(fault, Fault::ProcessDead | Fault::OtherBoot));
    let volume = if alive { volume_status(&found.disk).ok() } else { None };
    if json {
        output::print_json(&DiskView { found: &found, volume: volume.as_ref() })?;
    } else {
        let rows = [
            ("disk", found.disk.id.clone()),
            ("usable at", place(&found.disk)),
            ("image", format!("{} with {}", found.disk.image.display(), size(found.disk.size.0))),
            ("has", what(&found.disk)),
            ("state", state(&found)),
        ];
        let mut text: String = rows.iter().map(|(name, value)| format!("{name:<10} {value}\n")).collect();
        text.push_str(&volume.map_or_else(|| "its volume gives no answer\n".to_owned(), |reply| status::text(&reply)));
        output::print(&text)?;
    }
    Ok(if found.faults.is_empty() { FINE } else { UNAVAILABLE })
}

fn list(json: bool) -> anyhow::Result<u8> {
    let disks = disk::list()?;
    // As `disk status` says it of one disk.
    let code = if disks.iter().all(|found| found.faults.is_empty()) { FINE } else { UNAVAILABLE };
    if json {
        output::print_json(&disks)?;
        return Ok(code);
    }
    let mut table = TextTable::new(["DISK", "USABLE AT", "DEVICE", "FS", "SIZE", "POOL", "STATE"]);
    for found in &disks {
        let disk = &found.disk;
        let device = disk.device_path().map_or_else(|| "-".to_owned(), |path| path.display().to_string());
        let healthy = found.faults.is_empty() && !found.busy;
        let pool = if healthy { volume_status(disk).ok() } else { None };
        let pool = pool.map_or_else(|| "?".to_owned(), |reply| status::pool_text(&reply.status.pool));
        let cells = [disk.id.clone(), place(disk), device, disk.fs.to_string(), size(disk.size.0), pool, state(found)];
        table.row(cells);
    }
    output::print(&table.text())?;
    Ok(code)
}

fn state(found: &ListedDisk) -> String {
    match (found.busy, found.faults.as_slice()) {
        (true, _) => "being brought up or taken down".to_owned(),
        (false, []) => "up".to_owned(),
        (false, faults) => {
            let all = faults.iter().map(|fault| fault.text()).collect::<Vec<_>>().join(", ");
            format!("{all}: stunfs disk repair {}", found.disk.id)
        }
    }
}
