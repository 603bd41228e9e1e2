//! A disk inside a test: `Volume::builder()...disk(FsKind::Xfs, size).up()`, and its end.
//!
//! Must not know: command lines. Invariant: a [`Disk`] that goes out of scope leaves nothing behind.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::record::DiskRecord;
use super::spec::{DiskSpec, FsKind, Sector};
use super::up::{Started, Up, up};
use crate::model::Placement;
use crate::options::VolumeOptions;
use crate::units::Bytes;
use crate::volume::{ErrorKind, Summary, Volume, VolumeBuilder, VolumeError};

/// Makes a [`Disk`] whose volume this process runs. Needs root and loop devices.
#[derive(Debug)]
pub struct DiskBuilder {
    volume: VolumeBuilder,
    place: Option<PathBuf>,
    spec: DiskSpec,
}

/// A disk whose volume this process runs. Dropping it takes it down.
#[derive(Debug)]
pub struct Disk {
    volume: Volume,
    record: DiskRecord,
    path: PathBuf,
    is_down: bool,
    // Removed after the disk is down: fields drop in this order.
    _owned: Option<TempDir>,
}

impl VolumeBuilder {
    /// Describes a disk on the volume: an image of `size` with a file system. The volume's placement will be
    /// direct; it is armed, unless [`VolumeBuilder::disarmed`] says otherwise, only when the disk is usable.
    pub fn disk(self, fs: FsKind, size: Bytes) -> DiskBuilder {
        DiskBuilder { volume: self, place: None, spec: DiskSpec { fs, size: Some(size), ..DiskSpec::default() } }
    }
}

impl Disk {
    /// Starts to describe a disk with XFS of `size` on a volume without injection.
    pub fn builder(size: Bytes) -> DiskBuilder {
        Volume::builder().disk(FsKind::Xfs, size)
    }

    /// Brings up a disk on a volume with `options`, which this process runs.
    ///
    /// # Errors
    /// One line; nothing is left of it then.
    pub fn up(spec: &DiskSpec, options: VolumeOptions) -> Result<Self, VolumeError> {
        raise(spec, Volume::builder().configure(|all| *all = options), None)
    }

    /// Where its file system is mounted; the device, if it has none.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The loop device.
    pub fn device(&self) -> PathBuf {
        self.record.device_path().unwrap_or_default()
    }

    /// What is on record of it.
    pub const fn record(&self) -> &DiskRecord {
        &self.record
    }

    /// The volume that its image lies on.
    pub const fn volume(&self) -> &Volume {
        &self.volume
    }

    /// Takes it down: releases what is held, unmounts, detaches. What the volume did.
    ///
    /// # Errors
    /// The volume's pool checkpoint could not be saved, or its backing hangs.
    pub fn down(mut self) -> Result<Summary, VolumeError> {
        self.end()
    }

    fn end(&mut self) -> Result<Summary, VolumeError> {
        self.is_down = true;
        let notes = super::down(&self.record);
        let summary = self.volume.end("the disk was taken down");
        notes?.iter().for_each(|note| tracing::warn!("{note}"));
        summary
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if !self.is_down
            && let Err(error) = self.end()
        {
            tracing::error!("{error}");
        }
    }
}

impl DiskBuilder {
    /// The image, or the directory that holds it; else a temporary directory that goes with the disk.
    #[must_use]
    pub fn image(mut self, place: impl Into<PathBuf>) -> Self {
        self.place = Some(place.into());
        self
    }

    /// Where the file system is mounted; else at a place of the disk's own.
    #[must_use]
    pub fn mount(mut self, place: impl Into<PathBuf>) -> Self {
        self.spec.mount = Some(place.into());
        self
    }

    /// More words for `mkfs`.
    #[must_use]
    pub fn mkfs_options(mut self, words: &str) -> Self {
        self.spec.mkfs_options.push(words.to_owned());
        self
    }

    /// Bytes a sector.
    #[must_use]
    pub const fn sector(mut self, sector: Sector) -> Self {
        self.spec.sector = sector;
        self
    }

    /// Brings it up. It is usable when this returns.
    ///
    /// # Errors
    /// One line; nothing is left of it then.
    pub fn up(mut self) -> Result<Disk, VolumeError> {
        let mut owned = None;
        self.spec.place = match self.place.take() {
            Some(place) => place,
            None => {
                let scratch = owned.insert(temporary()?).path().to_owned();
                self.spec.scratch = Some(scratch.clone());
                scratch
            }
        };
        raise(&self.spec, self.volume, owned)
    }
}

fn temporary() -> Result<TempDir, VolumeError> {
    tempfile::Builder::new().prefix("stunfs-disk-").tempdir().map_err(|error| {
        VolumeError::new(ErrorKind::CantCreate, format!("no temporary directory can be made: {error}"))
    })
}

fn raise(spec: &DiskSpec, builder: VolumeBuilder, owned: Option<TempDir>) -> Result<Disk, VolumeError> {
    let mut arm = false;
    let mut volume = None;
    let builder = builder.configure(|options| {
        arm = options.model.armed;
        options.model.armed = false;
        options.model.placement = Placement::Direct;
    });
    let raised = up(spec, arm, |record| {
        let configured = builder.backing(record.backing()).mountpoint(&record.volume);
        let control = record.control.clone();
        volume = Some(configured.configure(|options| options.control = Some(control)).mount()?);
        Ok::<_, VolumeError>(Started { pid: std::process::id(), is_daemon: false })
    })?;
    match (raised, volume) {
        (Up::New(record), Some(volume)) => {
            let path = record.mount.clone().or_else(|| record.device_path()).unwrap_or_default();
            Ok(Disk { volume, record, path, is_down: false, _owned: owned })
        }
        (Up::Already(record) | Up::New(record), _) => {
            let text = format!("the disk {} is up already; take it down first", record.id);
            Err(VolumeError::new(ErrorKind::Unavailable, text))
        }
    }
}
