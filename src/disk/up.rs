//! Bringing a disk up: image, volume, device, file system, mount; and only then injection.
//!
//! Must not know: who runs the volume. Invariant: a disk is usable when this returns, or nothing of it is left.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;

use super::disk_volume::DiskVolume;
use super::down::take_down;
use super::filesystem::{self, check_mount_point, make_mount_point};
use super::health::faults;
use super::image::{self, Content, Location};
use super::loopdev;
use super::record::{DiskRecord, Places, Store};
use super::spec::{DiskSpec, FsKind, check_size};
use super::system::{ProcessId, boot};
use crate::control::default_socket;
use crate::units::Bytes;
use crate::volume::{ErrorKind, VolumeError};

/// How long another process may be busy with the same disk.
const LOCK_LIMIT: Duration = Duration::from_secs(30);
/// How long the volume may take to arm.
const ARM_LIMIT: Duration = Duration::from_secs(10);

/// Who runs the disk's volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// The process.
    pub pid: u32,
    /// It is a daemon of this disk alone: it may be ended with it.
    pub is_daemon: bool,
}

/// What an `up` found or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Up {
    /// It is up now.
    New(DiskRecord),
    /// It was up already, and is left as it is.
    Already(DiskRecord),
}

/// Brings a disk up. `start` mounts a volume of [`DiskRecord::backing`] at [`DiskRecord::volume`] with its control socket at
/// [`DiskRecord::control`], placement direct, disarmed; `arm` switches injection on at the end.
///
/// # Errors
/// One line; nothing is left of it then.
pub fn up<E: From<VolumeError>>(
    spec: &DiskSpec,
    arm: bool,
    start: impl FnOnce(&DiskRecord) -> Result<Started, E>,
) -> Result<Up, E> {
    check_rights()?;
    if spec.fs == FsKind::None && spec.mount.is_some() {
        return Err(VolumeError::usage("--mount needs a file system; write --fs xfs or ext4").into());
    }
    let location = image::locate(&spec.place)?;
    let undo_directory = || {
        if location.made_directory {
            // A user who put something in meanwhile keeps it.
            let _ = fs::remove_dir(&location.directory);
        }
    };
    bring_up(spec, &location, arm, start).inspect_err(|_| undo_directory())
}

fn bring_up<E: From<VolumeError>>(
    spec: &DiskSpec,
    location: &Location,
    arm: bool,
    start: impl FnOnce(&DiskRecord) -> Result<Started, E>,
) -> Result<Up, E> {
    let store = Store::open().map_err(|error| cannot_keep(&error))?;
    let id = Store::id_of(&location.directory).map_err(|error| cannot_keep(&error))?;
    let lock = store.lock(&id, LOCK_LIMIT).map_err(|error| cannot_keep(&error))?;
    let Some(_lock) = lock else { return Err(busy(&id).into()) };
    if let Some(record) = standing(&store, &id, location)? {
        return Ok(Up::Already(record));
    }
    let mut rising = Rising::begin(spec, &store, id, location)?;
    match rising.rise(location, arm, start) {
        Ok(()) => Ok(Up::New(rising.record)),
        Err(error) => {
            // The first error is what the user needs to see.
            let _ = take_down(&store, &rising.record);
            Err(error)
        }
    }
}

fn check_rights() -> Result<(), VolumeError> {
    if !rustix::process::geteuid().is_root() {
        let text = "disks need root, for loop devices and mounts; try: sudo stunfs ...";
        return Err(VolumeError::new(ErrorKind::NoPermission, text));
    }
    OpenOptions::new().read(true).write(true).open("/dev/loop-control").map(drop).map_err(|error| no_loop(&error))
}

fn no_loop(error: &io::Error) -> VolumeError {
    let mend = "modprobe loop (in a container: run it with --privileged, or --device /dev/loop-control and loop nodes)";
    VolumeError::new(ErrorKind::Unavailable, format!("no loop device can be had: {error}; {mend}"))
}

fn cannot_keep(error: &io::Error) -> VolumeError {
    VolumeError::new(ErrorKind::Io, format!("no record of the disk can be kept in /run/stunfs: {error}"))
}

fn busy(id: &str) -> VolumeError {
    VolumeError::new(ErrorKind::Unavailable, format!("another process is busy with the disk {id}; try again later"))
}

/// The disk that is up already. What another boot left is forgotten; what a crash left is for `repair`.
fn standing(store: &Store, id: &str, location: &Location) -> Result<Option<DiskRecord>, VolumeError> {
    let Some(record) = store.load(id) else { return Ok(None) };
    if record.boot != boot() {
        take_down(store, &record)?;
        return Ok(None);
    }
    let is_whole = record.ready && faults(&record, false).is_empty();
    if !is_whole {
        let text = format!("the disk {id} did not end cleanly; mend it with: stunfs disk repair {id}");
        return Err(VolumeError::new(ErrorKind::Unavailable, text));
    }
    if record.image != location.image {
        let text =
            format!("the disk {id} is up with {}; one disk a directory: take it down first", record.image.display());
        return Err(VolumeError::new(ErrorKind::Unavailable, text));
    }
    Ok(Some(record))
}

/// A disk on its way up.
struct Rising<'a> {
    spec: &'a DiskSpec,
    store: &'a Store,
    record: DiskRecord,
}

impl<'a> Rising<'a> {
    /// Checks all that can be checked. Nothing is made before there is a record of it.
    fn begin(spec: &'a DiskSpec, store: &'a Store, id: String, location: &Location) -> Result<Self, VolumeError> {
        if spec.fs != FsKind::None {
            filesystem::mkfs_program(spec.fs)?;
        }
        let size = checked_size(spec, &location.image)?;
        let private = store.private(&id);
        let volume = private.join("volume");
        let (mount, makes_mount) = match (&spec.mount, spec.fs) {
            (_, FsKind::None) => (None, false),
            (None, _) => (Some(private.join("mount")), false),
            (Some(place), _) => check_mount_point(place).map(|(place, is_missing)| (Some(place), is_missing))?,
        };
        let control = default_socket(mount.as_deref().unwrap_or(&location.directory));
        let mut record = DiskRecord::new(id, location.image.clone(), size, Places { volume, control });
        (record.fs, record.sector, record.mount) = (spec.fs, spec.sector, mount);
        record.made.mount = makes_mount;
        record.made.directory = location.made_directory;
        record.scratch.clone_from(&spec.scratch);
        Ok(Self { spec, store, record })
    }

    fn rise<E: From<VolumeError>>(
        &mut self,
        location: &Location,
        arm: bool,
        start: impl FnOnce(&DiskRecord) -> Result<Started, E>,
    ) -> Result<(), E> {
        self.save()?;
        self.make_places()?;
        let needs_fs = self.make_image(location)?;
        let started = start(&self.record)?;
        self.record.is_daemon = started.is_daemon;
        self.record.process = ProcessId::of(started.pid);
        self.record.connection = DiskVolume(&self.record).mounted_connection().map(|connection| connection.get());
        self.save()?;
        self.attach()?;
        self.make_file_system(needs_fs)?;
        if arm {
            DiskVolume(&self.record).post("/v1/arm", ARM_LIMIT).map_err(|error| {
                VolumeError::new(ErrorKind::Unavailable, format!("the disk's volume cannot be armed: {error}"))
            })?;
        }
        self.record.ready = true;
        Ok(self.save()?)
    }

    fn save(&self) -> Result<(), VolumeError> {
        self.store.save(&self.record).map_err(|error| cannot_keep(&error))
    }

    fn make_places(&mut self) -> Result<(), VolumeError> {
        if let Some(place) = self.record.mount.as_ref().filter(|_| self.record.made.mount) {
            self.record.made.mount = make_mount_point(place)?;
        }
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        let own_mount = self.record.mount.as_ref().filter(|_| self.spec.mount.is_none());
        for place in [Some(&self.record.volume), own_mount].into_iter().flatten() {
            builder.create(place).map_err(|error| cannot_keep(&error))?;
        }
        Ok(())
    }

    /// Whether a file system has to be made.
    fn make_image(&mut self, location: &Location) -> Result<bool, VolumeError> {
        let wants_fs = self.spec.fs != FsKind::None;
        if image::size(&location.image)?.is_none() {
            self.record.made.new_image = true;
            self.save()?;
            let inode = image::create(&location.image, self.record.size.0)?;
            self.record.made.image = Some(inode);
            self.save()?;
            return Ok(wants_fs);
        }
        if !wants_fs || self.spec.remake {
            return Ok(wants_fs);
        }
        match image::content(&location.image)? {
            Content::Nothing => Ok(true),
            Content::Fs(kind) if kind == self.spec.fs => Ok(false),
            found => {
                let what = if let Content::Fs(kind) = found { kind.name() } else { "something else" };
                let (image, fs) = (location.image.display(), self.spec.fs);
                Err(VolumeError::usage(format!(
                    "{image} holds {what}, not {fs}; --mkfs makes a new {fs} on it, and all that is on it is lost"
                )))
            }
        }
    }

    fn attach(&mut self) -> Result<(), VolumeError> {
        let path = self.record.image_on_volume();
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags((OFlags::DIRECT | OFlags::NOFOLLOW).bits().cast_signed());
        let file = options.open(&path).map_err(|error| {
            VolumeError::new(ErrorKind::Io, format!("the image cannot be opened on its volume: {error}"))
        })?;
        let (store, record) = (self.store, &mut self.record);
        let attached = loopdev::attach(&file, &path, self.spec.sector.get(), |attached| {
            record.device = Some(attached.clone());
            store.save(record)
        });
        let attached = attached.map_err(|error| no_loop(&error))?;
        if !loopdev::is_direct(attached.number) {
            let text = "the loop device does not do direct I/O here: every write would wait for every other";
            tracing::warn!("{text}");
        }
        Ok(())
    }

    fn make_file_system(&self, is_new: bool) -> Result<(), VolumeError> {
        let Some(device) = self.record.device_path() else { return Ok(()) };
        if is_new {
            filesystem::make(self.spec, &device)?;
        }
        self.record.mount.as_ref().map_or(Ok(()), |place| filesystem::mount_at(self.spec, &device, place))
    }
}

/// The size that the disk will have.
fn checked_size(spec: &DiskSpec, image: &Path) -> Result<Bytes, VolumeError> {
    if let Some(user) = image::loop_user(image) {
        let text = format!("the image {} is in use by /dev/{user}; detach that first", image.display());
        return Err(VolumeError::new(ErrorKind::Unavailable, text));
    }
    let size = match (image::size(image)?.map(Bytes), spec.size) {
        (None, Some(size)) => size,
        (None, None) => {
            return Err(VolumeError::usage(format!("{} is not there yet; --size says how large", image.display())));
        }
        (Some(found), wanted) if wanted.is_none_or(|wanted| wanted == found) => found,
        (Some(found), _) => {
            let text = format!("the image {} has {found}; leave --size out, or remove it", image.display());
            return Err(VolumeError::usage(text));
        }
    };
    check_size(size, spec.sector).map_err(|error| VolumeError::usage(error.to_string()))?;
    Ok(size)
}
