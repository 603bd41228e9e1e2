//! The image: where it lies, whether it can be used, what is on it already.
//!
//! Must not know: volumes, devices. Invariant: an image that has something on it is never written to here.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::spec::FsKind;
use crate::volume::{ErrorKind, VolumeError};

/// The image's name in a directory that was named instead of it.
const NAME: &str = "disk.img";
/// Ends of names that mean a file, not a directory.
const ENDINGS: [&str; 4] = ["img", "raw", "image", "bin"];
/// What `mkfs.ext4` leaves in the root of the file system that a directory may be.
const LOST_AND_FOUND: &str = "lost+found";

/// What begins an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Only zeros.
    Nothing,
    /// A file system that a disk can have.
    Fs(FsKind),
    /// Something else.
    Unknown,
}

/// Where an image lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) directory: PathBuf,
    pub(super) image: PathBuf,
    /// The directory was made now.
    pub(super) made_directory: bool,
}

/// Finds the image that `place` means, and makes its directory if only that is missing. The directory must hold nothing
/// else, since all of it lies on the disk's volume and pool.
pub(super) fn locate(place: &Path) -> Result<Location, VolumeError> {
    let place = std::path::absolute(place).map_err(|error| failed("cannot be used", place, &error))?;
    let is_file = match fs::metadata(&place) {
        Ok(found) if found.is_dir() => false,
        Ok(found) if found.is_file() => true,
        Ok(_) => return Err(VolumeError::usage(format!("{} is neither a directory nor a file", place.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            place.extension().and_then(|end| end.to_str()).is_some_and(|end| ENDINGS.contains(&end))
        }
        Err(error) => return Err(failed("cannot be used", &place, &error)),
    };
    let (directory, name) = match (is_file, place.parent(), place.file_name()) {
        (true, Some(parent), Some(name)) => (parent.to_owned(), name.to_owned()),
        _ => (place, NAME.into()),
    };
    let made_directory = make_directory(&directory)?;
    let directory = directory.canonicalize().map_err(|error| failed("cannot be used", &directory, &error))?;
    let image = directory.join(name);
    match stranger(&directory, &image).map_err(|error| failed("cannot be read", &directory, &error))? {
        None => Ok(Location { directory, image, made_directory }),
        Some(other) => Err(VolumeError::usage(format!(
            "{} holds {} beside the image; give the image a directory of its own",
            directory.display(),
            other.display()
        ))),
    }
}

fn make_directory(directory: &Path) -> Result<bool, VolumeError> {
    match fs::create_dir(directory) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(VolumeError::new(
            ErrorKind::CantCreate,
            format!("the image's directory {} cannot be made: {error}", directory.display()),
        )),
    }
}

/// Something in the directory that is not the image.
fn stranger(directory: &Path, image: &Path) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path != image && path.file_name().is_some_and(|name| name != LOST_AND_FOUND) {
            return Ok(path.file_name().map(PathBuf::from));
        }
    }
    Ok(None)
}

/// The size of an image that is there; `None` if it is not.
pub(super) fn size(image: &Path) -> Result<Option<u64>, VolumeError> {
    match fs::symlink_metadata(image) {
        Ok(found) if found.is_file() => Ok(Some(found.len())),
        Ok(_) => Err(VolumeError::usage(format!("the image {} is not a regular file", image.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("cannot be used", image, &error)),
    }
}

/// Makes a sparse image; its inode.
pub(super) fn create(image: &Path, bytes: u64) -> Result<u64, VolumeError> {
    let make = || {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(image)?;
        file.set_len(bytes).inspect_err(|_| {
            let _ = fs::remove_file(image);
        })?;
        file.metadata().map(|metadata| metadata.ino())
    };
    make().map_err(|error: io::Error| {
        let text = format!("the image {} of {bytes} bytes cannot be made: {error}", image.display());
        VolumeError::new(ErrorKind::CantCreate, text)
    })
}

/// What is on an image, by its first 64 KiB.
pub(super) fn content(image: &Path) -> Result<Content, VolumeError> {
    let mut start = Vec::new();
    let read = File::open(image).and_then(|file| file.take(64 << 10).read_to_end(&mut start));
    read.map_err(|error| failed("cannot be read", image, &error))?;
    Ok(classify(&start))
}

fn classify(start: &[u8]) -> Content {
    if start.iter().all(|byte| *byte == 0) {
        Content::Nothing
    } else if start.starts_with(b"XFSB") {
        Content::Fs(FsKind::Xfs)
    } else if start.get(1080..1082) == Some(&[0x53, 0xEF]) {
        Content::Fs(FsKind::Ext4)
    } else {
        Content::Unknown
    }
}

/// The loop device that has the image itself, past any volume.
pub(super) fn loop_user(image: &Path) -> Option<String> {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let user = devices.map(|entry| entry.path()).find(|device| {
        fs::read_to_string(device.join("loop/backing_file")).is_ok_and(|file| Path::new(file.trim_end()) == image)
    })?;
    Some(user.file_name()?.to_string_lossy().into_owned())
}

fn failed(what: &str, path: &Path, error: &io::Error) -> VolumeError {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::NoPermission,
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ErrorKind::Usage,
        _ => ErrorKind::Io,
    };
    VolumeError::new(kind, format!("{} {what}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_or_an_image_can_be_named() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let named = locate(&base.join("new")).unwrap();
        assert_eq!((named.image, named.made_directory), (base.join("new/disk.img"), true));
        let named = locate(&base.join("new/a.img")).unwrap();
        assert_eq!((named.image, named.made_directory), (base.join("new/a.img"), false));
        fs::write(base.join("new/other"), "x").unwrap();
        let error = locate(&base.join("new")).unwrap_err().to_string();
        assert!(error.contains("other") && error.contains("directory of its own"), "{error}");
        assert!(locate(Path::new("/dev/null")).is_err() && locate(&base.join("no/such/dir")).is_err());
    }

    #[test]
    fn file_systems_are_known_by_their_magic() {
        let mut ext4 = vec![0; 4096];
        ext4[1080..1082].copy_from_slice(&[0x53, 0xEF]);
        assert_eq!(classify(&ext4), Content::Fs(FsKind::Ext4));
        assert_eq!(classify(b"XFSB1234"), Content::Fs(FsKind::Xfs));
        assert_eq!(classify(&[0; 512]), Content::Nothing);
        assert_eq!(classify(b"QFI\xfb"), Content::Unknown);
    }
}
