//! A volume inside a test: [`Volume::builder`].

use std::path::PathBuf;

use tempfile::TempDir;

use super::error::{ErrorKind, VolumeError};
use super::{Owned, Volume};
use crate::freeze::FreezeTarget;
use crate::model::{Latency, OnFull, Placement, Scope};
use crate::options::{CacheMode, StateFile, VolumeOptions};
use crate::units::{Bytes, GrainSize, Rate};

/// Makes a [`Volume`]. Without a backing or a mount point, temporary directories are used and removed with the volume.
#[derive(Debug)]
pub struct VolumeBuilder {
    backing: Option<PathBuf>,
    mountpoint: Option<PathBuf>,
    options: VolumeOptions,
}

impl Default for VolumeBuilder {
    fn default() -> Self {
        let mut options = VolumeOptions::new("", "");
        options.state = StateFile::None;
        Self { backing: None, mountpoint: None, options }
    }
}

impl VolumeBuilder {
    /// The real directory.
    #[must_use]
    pub fn backing(mut self, path: impl Into<PathBuf>) -> Self {
        self.backing = Some(path.into());
        self
    }

    /// Where it is mounted.
    #[must_use]
    pub fn mountpoint(mut self, path: impl Into<PathBuf>) -> Self {
        self.mountpoint = Some(path.into());
        self
    }

    /// What the first write of a grain waits.
    #[must_use]
    pub fn first_write(mut self, latency: Latency) -> Self {
        self.options.model.first_write = latency;
        self
    }

    /// What the first read of a grain waits whose data was there at mount.
    #[must_use]
    pub fn first_read(mut self, latency: Latency) -> Self {
        self.options.model.first_read = Some(latency);
        self
    }

    /// How fast new grains are zeroed.
    #[must_use]
    pub fn zeroing(mut self, rate: Rate) -> Self {
        self.options.model.zeroing = Some(rate);
        self
    }

    /// The unit of provisioning.
    #[must_use]
    pub fn grain(mut self, grain: GrainSize) -> Self {
        self.options.model.grain = grain;
        self
    }

    /// How many grains are provisioned at the same time.
    #[must_use]
    pub fn lanes(mut self, lanes: u32) -> Self {
        self.options.model.lanes = lanes;
        self
    }

    /// Physical space, and what happens when it is used up.
    #[must_use]
    pub fn pool(mut self, size: Bytes, on_full: OnFull) -> Self {
        self.options.model.pool = Some(size);
        self.options.model.on_full = on_full;
        self
    }

    /// Who waits while a grain is being provisioned.
    #[must_use]
    pub fn scope(mut self, scope: Scope) -> Self {
        self.options.model.scope = scope;
        self
    }

    /// How offsets become addresses.
    #[must_use]
    pub fn placement(mut self, placement: Placement) -> Self {
        self.options.model.placement = placement;
        self
    }

    /// The one seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.options.model.seed = seed;
        self
    }

    /// Every grain is provisioned from the start.
    #[must_use]
    pub fn thick(mut self) -> Self {
        self.options.model.thick = true;
        self
    }

    /// Injection is off until [`Volume::arm`].
    #[must_use]
    pub fn disarmed(mut self) -> Self {
        self.options.model.armed = false;
        self
    }

    /// What the kernel caches.
    #[must_use]
    pub fn cache(mut self, cache: CacheMode) -> Self {
        self.options.cache = cache;
        self
    }

    /// Also freezes this as long as a stun lasts; may be called several times.
    #[must_use]
    pub fn freeze(mut self, target: FreezeTarget) -> Self {
        self.options.freeze.push(target);
        self
    }

    /// Anything else.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut VolumeOptions)) -> Self {
        change(&mut self.options);
        self
    }

    /// Mounts it. It is usable when this returns.
    ///
    /// # Errors
    /// Whatever `stunfs mount` would refuse, and a temporary directory that cannot be made.
    pub fn mount(self) -> Result<Volume, VolumeError> {
        let mut owned = Owned::default();
        let mut options = self.options;
        options.backing = own(self.backing, &mut owned.backing)?;
        options.mountpoint = own(self.mountpoint, &mut owned.mountpoint)?;
        Volume::mount_owned(options, owned)
    }
}

/// The given path, or that of a new temporary directory that goes with the volume.
fn own(given: Option<PathBuf>, keep: &mut Option<TempDir>) -> Result<PathBuf, VolumeError> {
    if let Some(path) = given {
        return Ok(path);
    }
    let directory = tempfile::Builder::new().prefix("stunfs-").tempdir().map_err(|error| {
        let text = format!("no temporary directory can be made in {}: {error}", std::env::temp_dir().display());
        VolumeError::new(ErrorKind::CantCreate, text)
    })?;
    Ok(keep.insert(directory).path().to_path_buf())
}
