//! The storage of one arm: a volume or a disk, brought up and taken down by the stunfs program itself.
//!
//! Must not know: what runs on it. Invariant: what is brought up stands in the undo list first, and is gone, or said to be
//! left, after `down`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::cleanup::{Undo, UndoList};
use super::command::{Finished, finish, program};
use crate::control::{Client, StatusReply, default_socket};
use crate::scenario::spec::{Arm, Spec, Storage};
use crate::settings::{Opt, Settings};
use crate::sys::mountinfo;
use crate::time::{Clock, wait_until};
use crate::units::Bytes;

/// How long bringing storage up, or taking it down, may take.
const UP_LIMIT: Duration = Duration::from_secs(120);
const DOWN_LIMIT: Duration = Duration::from_secs(60);
/// How long a volume may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long a volume may take to end.
const END_LIMIT: Duration = Duration::from_secs(15);
const TICK: Duration = Duration::from_millis(20);

/// Why there is no storage, or not as it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArmStorageError {
    #[error("{what}: {cause}")]
    System { what: &'static str, cause: io::Error },
    #[error("{what} took longer than {within:?}")]
    Late { what: &'static str, within: Duration },
    #[error("{what} failed: {said}")]
    Refused { what: &'static str, said: String },
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> ArmStorageError {
    move |cause| ArmStorageError::System { what, cause }
}

/// Storage that is up.
#[derive(Debug)]
pub(super) struct ArmStorage {
    /// Where the workload runs.
    pub(super) path: PathBuf,
    /// Where the volume is mounted.
    pub(super) volume: PathBuf,
    /// The volume's control socket.
    pub(super) control: PathBuf,
    /// The volume's event log; none: the volume was running already.
    pub(super) events: Option<PathBuf>,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Directory,
    Disk { directory: PathBuf },
    Attached,
}

/// What is needed to bring it up.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) program: &'a Path,
    pub(super) spec: &'a Spec,
    pub(super) arm: &'a Arm,
    /// A directory for this arm alone.
    pub(super) scratch: &'a Path,
    /// What stuns freeze beside what the scenario names.
    pub(super) cgroup: Option<&'a Path>,
}

impl Plan<'_> {
    /// Brings the storage up, with injection as the arm says.
    pub(super) fn up(&self, undo: &mut UndoList) -> Result<ArmStorage, ArmStorageError> {
        let storage = match &self.spec.storage {
            Storage::Directory { .. } => self.directory(undo)?,
            Storage::Disk { filesystem, size, .. } => self.disk(filesystem.name(), size.0, undo)?,
            Storage::Attach { path } => attach(path)?,
        };
        if let Some(warm) = self.arm.warm {
            warm_up(&storage.path, warm.0)?;
            storage.post("/v1/arm", Duration::from_secs(30))?;
        }
        Ok(storage)
    }

    /// The volume's options as arguments.
    fn arguments(&self, events: &Path) -> Vec<String> {
        let usual = match &self.spec.storage {
            Storage::Directory { settings } | Storage::Disk { settings, .. } => settings.clone(),
            Storage::Attach { .. } => Settings::new(),
        };
        let mut settings = usual.merge(&self.arm.settings);
        if settings.get(Opt::Seed).is_none() {
            settings = settings.with(Opt::Seed, self.spec.seed.to_string());
        }
        if self.arm.warm.is_some() {
            settings = settings.with(Opt::Disarmed, "true");
        }
        if let Some(cgroup) = self.cgroup {
            settings = settings.with(Opt::Freeze, format!("cgroup:{}", cgroup.display()));
        }
        if watches_kernel(self.spec) {
            settings = settings.with(Opt::KernelLog, "true");
        }
        let options = settings
            .iter()
            .flat_map(|(option, values)| values.iter().map(move |value| format!("--{}={value}", option.name())));
        options.chain([format!("--events={}", events.display())]).collect()
    }

    fn directory(&self, undo: &mut UndoList) -> Result<ArmStorage, ArmStorageError> {
        let [backing, mountpoint] = ["backing", "mnt"].map(|name| self.scratch.join(name));
        let (control, events) = (self.scratch.join("control"), self.scratch.join("events.jsonl"));
        for directory in [&backing, &mountpoint] {
            fs::create_dir(directory).map_err(system("cannot make a directory"))?;
        }
        undo.add(&Undo::Volume { control: control.clone(), mountpoint: mountpoint.clone() })
            .map_err(system("undo list"))?;
        let mut arguments = vec!["mount".to_owned(), "--daemon".to_owned(), "--state=none".to_owned()];
        arguments.push(format!("--control={}", control.display()));
        arguments.extend(self.arguments(&events));
        arguments.extend([backing.display().to_string(), mountpoint.display().to_string()]);
        self.run("mounting the volume", &arguments, UP_LIMIT)?;
        let events = Some(events);
        Ok(ArmStorage { path: mountpoint.clone(), volume: mountpoint, control, events, kind: Kind::Directory })
    }

    fn disk(&self, filesystem: &str, size: Bytes, undo: &mut UndoList) -> Result<ArmStorage, ArmStorageError> {
        let [directory, mount] = ["disk", "mnt"].map(|name| self.scratch.join(name));
        fs::create_dir(&mount).map_err(system("cannot make a directory"))?;
        fs::create_dir(&directory).map_err(system("cannot make a directory"))?;
        let events = self.scratch.join("events.jsonl");
        undo.add(&Undo::Disk { directory: directory.clone() }).map_err(system("undo list"))?;
        let mut arguments: Vec<String> = ["disk", "up", "--json"].map(str::to_owned).to_vec();
        arguments.extend([
            format!("--fs={filesystem}"),
            format!("--size={size}"),
            format!("--mount={}", mount.display()),
        ]);
        arguments.extend(self.arguments(&events));
        arguments.push(directory.display().to_string());
        let said = self.run("bringing the disk up", &arguments, UP_LIMIT)?.stdout;
        let record: Value = serde_json::from_str(&said).unwrap_or_default();
        let place = |key: &str| record.get(key).and_then(Value::as_str).map(PathBuf::from);
        let unclear =
            || ArmStorageError::Refused { what: "bringing the disk up", said: "its answer is not understood".into() };
        let (control, volume) = place("control").zip(place("volume")).ok_or_else(unclear)?;
        Ok(ArmStorage { path: mount, volume, control, events: Some(events), kind: Kind::Disk { directory } })
    }

    fn run(&self, what: &'static str, arguments: &[String], within: Duration) -> Result<Finished, ArmStorageError> {
        run(self.program, what, arguments, within)
    }
}

fn run(path: &Path, what: &'static str, arguments: &[String], within: Duration) -> Result<Finished, ArmStorageError> {
    match finish(program(path, arguments), within).map_err(system(what))? {
        None => Err(ArmStorageError::Late { what, within }),
        Some(finished) if finished.code() == 0 => Ok(finished),
        Some(finished) => Err(ArmStorageError::Refused { what, said: finished.last_words() }),
    }
}

fn watches_kernel(spec: &Spec) -> bool {
    let by_metric = spec.expect.iter().any(|it| it.metric.starts_with("kernel."));
    by_metric || spec.probes.iter().any(|probe| probe.kernel.is_some())
}

fn attach(path: &Path) -> Result<ArmStorage, ArmStorageError> {
    // A disk's mount point is not its volume's: its record says which control socket it has.
    let disk = crate::disk::find(Some(path)).ok().map(|found| found.disk.control);
    let control = disk.unwrap_or_else(|| default_socket(path));
    let status = status(&control)?.status;
    let volume = PathBuf::from(status.mountpoint);
    Ok(ArmStorage { path: path.to_owned(), volume, control, events: None, kind: Kind::Attached })
}

fn status(control: &Path) -> Result<StatusReply, ArmStorageError> {
    let what = "asking the volume";
    let refused = |said: String| ArmStorageError::Refused { what, said };
    let client = Client::connect(control).map_err(|error| refused(error.to_string()))?.timeout(Some(ANSWER_LIMIT));
    let reply =
        client.get("/v1/status?limit=0").and_then(|reply| reply.ok()).map_err(|error| refused(error.to_string()))?;
    serde_json::from_value(reply).map_err(|error| refused(error.to_string()))
}

/// Provisions space while nothing is injected: writes a file and removes it.
fn warm_up(path: &Path, size: Bytes) -> Result<(), ArmStorageError> {
    let what = "warming the storage up";
    let file = path.join("warm-up");
    let count = size.0.div_ceil(1 << 20);
    let mut command = std::process::Command::new("dd");
    command.args(["if=/dev/zero", "bs=1M", "conv=fsync", "status=none"]);
    command.arg(format!("count={count}")).arg(format!("of={}", file.display()));
    match finish(command, UP_LIMIT * 5).map_err(system(what))? {
        Some(finished) if finished.code() == 0 => fs::remove_file(&file).map_err(system(what)),
        Some(finished) => Err(ArmStorageError::Refused { what, said: finished.last_words() }),
        None => Err(ArmStorageError::Late { what, within: UP_LIMIT * 5 }),
    }
}

impl ArmStorage {
    /// Where the volume's clock started on `clock`, microseconds; and its status.
    pub(super) fn clock_origin(&self, clock: Clock) -> Result<(i64, StatusReply), ArmStorageError> {
        let reply = status(&self.control)?;
        let now = i64::try_from(clock.now().as_micros()).unwrap_or(i64::MAX);
        Ok((now.saturating_sub(i64::try_from(reply.status.uptime_us).unwrap_or(i64::MAX)), reply))
    }

    fn post(&self, path: &str, within: Duration) -> Result<Value, ArmStorageError> {
        let refused = |error: crate::control::ClientError| ArmStorageError::Refused {
            what: "asking the volume",
            said: error.to_string(),
        };
        let client = Client::connect(&self.control).map_err(refused)?.timeout(Some(within));
        client.post(path, &json!({})).and_then(|reply| reply.ok()).map_err(refused)
    }

    /// Ends all injection: thaws, answers what is held.
    pub(super) fn release(&self, within: Duration) -> Result<(), ArmStorageError> {
        self.post("/v1/release", within).map(|_| ())
    }

    /// Takes the storage down.
    pub(super) fn down(&self, program: &Path) -> Result<(), ArmStorageError> {
        match &self.kind {
            Kind::Attached => Ok(()),
            Kind::Disk { directory } => {
                let arguments = ["disk".to_owned(), "down".to_owned(), directory.display().to_string()];
                run(program, "taking the disk down", &arguments, DOWN_LIMIT).map(|_| ())
            }
            Kind::Directory => {
                let asked = self.post("/v1/stop", ANSWER_LIMIT);
                let gone = wait_until(END_LIMIT, TICK, || !mountinfo::is_mounted(&self.volume));
                if gone {
                    Ok(())
                } else {
                    Err(asked.err().unwrap_or(ArmStorageError::Late { what: "the volume's end", within: END_LIMIT }))
                }
            }
        }
    }
}
