//! What a disk is to be: size, file system, sectors, where; and the words for it.
//!
//! Must not know: how it is made. Invariant: a size is a whole number of sectors.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::units::{Bytes, ParseUnitError};

/// The smallest image: less takes no file system.
const SMALLEST: Bytes = Bytes::mib(1);

/// The file system on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FsKind {
    /// An XFS, made by `mkfs.xfs`.
    #[default]
    Xfs,
    /// An ext4, made by `mkfs.ext4`.
    Ext4,
    /// No file system: the device itself is used.
    None,
}

impl FsKind {
    /// Its name for mount(2) and `mkfs`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xfs => "xfs",
            Self::Ext4 => "ext4",
            Self::None => "none",
        }
    }
}

impl fmt::Display for FsKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for FsKind {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::Xfs, Self::Ext4, Self::None];
        let known = all.into_iter().find(|kind| kind.name() == text);
        known.ok_or_else(|| {
            ParseUnitError::new(format!("'{text}' is no file system for a disk; write xfs, ext4 or none"))
        })
    }
}

/// Bytes a sector: 512 or 4096.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sector(u32);

impl Sector {
    /// The bytes.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for Sector {
    fn default() -> Self {
        Self(512)
    }
}

impl FromStr for Sector {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim_end_matches('B') {
            "512" => Ok(Self(512)),
            "4096" | "4Ki" | "4KiB" => Ok(Self(4096)),
            _ => Err(ParseUnitError::new(format!("'{text}' is no sector size; write 512 or 4096"))),
        }
    }
}

/// What a disk is to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DiskSpec {
    /// The image, or the directory that holds it as `disk.img`.
    pub place: PathBuf,
    /// The image's size; may be left out if there is one.
    pub size: Option<Bytes>,
    /// The file system.
    pub fs: FsKind,
    /// More words for `mkfs`.
    pub mkfs_options: Vec<String>,
    /// Options for the mount, as the file system itself knows them (`nouuid,logbsize=256k`).
    pub mount_options: Option<String>,
    /// Where the file system is mounted; `None`: a place of the disk's own.
    pub mount: Option<PathBuf>,
    /// Bytes a sector.
    pub sector: Sector,
    /// Make a new file system on an image that has something on it.
    pub remake: bool,
    /// A temporary directory that is the disk's alone. It goes with a disk whose owner was killed, with an image in it.
    pub scratch: Option<PathBuf>,
}

/// Checks a size against the sectors.
pub(super) fn check_size(size: Bytes, sector: Sector) -> Result<(), ParseUnitError> {
    if size < SMALLEST {
        return Err(ParseUnitError::new(format!("a disk of {size} is too small; write at least --size {SMALLEST}")));
    }
    if !size.0.is_multiple_of(sector.get().into()) {
        let (sector, below) = (u64::from(sector.get()), size.0 / u64::from(sector.get()));
        let near = Bytes(below * sector);
        return Err(ParseUnitError::new(format!(
            "a size of {} bytes is not a multiple of the sector ({sector} bytes); write --size {near}",
            size.0
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_sectors() {
        let four: Sector = "4096".parse().unwrap();
        assert!(check_size(Bytes::gib(500), four).is_ok());
        assert!(check_size(Bytes(1_049_088), Sector::default()).is_ok());
        let error = check_size(Bytes(1_049_088), four).unwrap_err().to_string();
        assert!(error.contains("multiple of the sector") && error.contains("--size 1MiB"), "{error}");
        assert!(check_size(Bytes::kib(512), four).unwrap_err().to_string().contains("too small"));
        assert!("1024".parse::<Sector>().is_err() && "btrfs".parse::<FsKind>().is_err());
    }
}
