//! Taking a disk down, in the one order that works: injection off, file system, device, volume, what was made for it.
//!
//! Must not know: why. Invariant: works from every state that an `up`, a crash or an earlier attempt can leave, in bounded
//! time; what is not this disk's is left alone.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::disk_volume::DiskVolume;
use super::filesystem::{UnmountResult, detach, mounts_of, unmount_from};
use super::loopdev::{self, Attached, Holds};
use super::record::{DiskRecord, Store};
use super::system::{boot, users_of};
use crate::volume::{ErrorKind, VolumeError};

/// How long users of the file system may take to be done, once nothing holds them up any more.
const GRACE: Duration = Duration::from_millis(1500);
/// How long one step may take in the kernel.
const STEP_LIMIT: Duration = Duration::from_secs(3);
/// So many users are named.
const NAMED: usize = 5;

/// Takes `record`'s disk down and forgets it; lines for the user. Its lock must be held.
pub(super) fn take_down(store: &Store, record: &DiskRecord) -> Result<Vec<String>, VolumeError> {
    let mut notes = Vec::new();
    if record.boot == boot() {
        let volume = DiskVolume(record);
        if !volume.release() {
            volume.cut_off();
        }
        if let Some(device) = &record.device {
            clear_device(device, volume, &mut notes);
        }
        volume.end();
        // What was cut off with the volume is free only now.
        let device = record.device.as_ref().filter(|device| loopdev::holds(device) == Holds::Ours);
        if let Some(device) = device.filter(|device| !matches!(loopdev::detach(device, STEP_LIMIT), Ok(true))) {
            notes.push(format!("{} goes when the last process that has it open ends", device.path().display()));
        }
    }
    remove_what_was_made(store, record)?;
    Ok(notes)
}

/// Unmounts what stands on the device, and detaches it.
fn clear_device(device: &Attached, volume: DiskVolume<'_>, notes: &mut Vec<String>) {
    match loopdev::holds(device) {
        Holds::Ours => {}
        Holds::Nothing => return,
        Holds::Another => {
            notes.push(format!("{} has another file by now and is left alone", device.path().display()));
            return;
        }
    }
    for mount in mounts_of(device.number) {
        let users = users_of(&mount.mountpoint, NAMED);
        let outcome = unmount_from(&mount, GRACE, STEP_LIMIT);
        if outcome == UnmountResult::Hangs {
            volume.cut_off();
            detach(&mount.mountpoint);
        }
        if outcome != UnmountResult::Clean {
            let by = if users.is_empty() { "the kernel".to_owned() } else { users.join(", ") };
            notes.push(format!("{} was still in use by {by}; they were cut off", mount.mountpoint.display()));
        }
    }
    if let Err(error) = loopdev::detach(device, STEP_LIMIT / 6) {
        notes.push(format!("{} is left alone: {error}", device.path().display()));
    }
}

fn remove_what_was_made(store: &Store, record: &DiskRecord) -> Result<(), VolumeError> {
    if record.made.mount {
        // It may have been used for something else meanwhile; then it stays.
        let _ = record.mount.as_ref().map(fs::remove_dir);
    }
    let private = store.private(&record.id);
    for place in [private.join("mount"), record.volume.clone(), private] {
        let _ = fs::remove_dir(place);
    }
    let _ = fs::remove_file(&record.control);
    let is_orphan = record.boot != boot() || !DiskVolume(record).is_alive();
    let scratch = record.scratch.as_ref().filter(|_| is_orphan);
    if !record.ready || scratch.is_some_and(|scratch| record.image.starts_with(scratch)) {
        remove_made_image(record);
    }
    if let Some(scratch) = scratch {
        remove_scratch(scratch);
    }
    store.remove(&record.id).map_err(|error| {
        VolumeError::new(ErrorKind::Io, format!("the record of the disk {} cannot be removed: {error}", record.id))
    })
}

/// The image, if it was made for this disk and is still that one.
fn remove_made_image(record: &DiskRecord) {
    use std::os::unix::fs::MetadataExt;

    let is_it = |found: fs::Metadata| match record.made.image {
        Some(inode) => found.ino() == inode,
        // The process that made it was killed before it could record the inode: nothing is in it.
        None => record.made.new_image && found.blocks() == 0 && (found.len() == 0 || found.len() == record.size.0),
    };
    if fs::symlink_metadata(&record.image).is_ok_and(is_it) {
        // What cannot be removed was said to be unusable already.
        let _ = fs::remove_file(&record.image);
    }
    if record.made.directory {
        let _ = fs::remove_dir(record.backing());
    }
}

/// A temporary directory and the empty ones in it; one that holds something else by now stays.
fn remove_scratch(scratch: &Path) {
    let inside = fs::read_dir(scratch).into_iter().flatten().flatten();
    inside.for_each(|entry| _ = fs::remove_dir(entry.path()));
    let _ = fs::remove_dir(scratch);
}
