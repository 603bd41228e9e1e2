//! State files of backings that are gone are removed, so that they do not become ever more.
//!
//! Must not know: what a state says of its pool. Invariant: a state goes only if no process has its lock, the very file system that
//! its backing was on is mounted where it was, and that has no such directory any more under any name.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::state_lock::StateLock;
use crate::backing::{Errno, FileHandle, HandleSource};

/// By what a backing is found again, or found to be gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BackingIdentity {
    filesystem: FileSystemIdentity,
    /// The directory's file handle.
    handle: String,
}

/// By what a file system is told from another one on the same device or at the same place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FileSystemIdentity {
    device: u64,
    /// The topmost directory that can be seen of it, and its birth.
    top: (PathBuf, u64),
    born: SystemTime,
}

/// The part of a state file that matters here.
#[derive(Debug, Deserialize)]
struct Saved {
    backing: PathBuf,
    #[serde(default)]
    identity: Option<BackingIdentity>,
}

impl BackingIdentity {
    /// That of a directory with a canonical path; `None` where it could not be looked for later.
    pub(super) fn of(backing: &Path) -> Option<Self> {
        let directory = File::open(backing).ok()?;
        let handle = HandleSource::handle_of(&directory).ok()?;
        HandleSource::new(directory.into())?;
        Some(Self { filesystem: FileSystemIdentity::at(backing)?, handle: handle.to_text() })
    }

    /// Whether the directory that was at `path` is gone for good. What cannot be told is not.
    fn is_gone(&self, path: &Path) -> bool {
        let Some(above) = nearest(path) else { return false };
        if FileSystemIdentity::at(&above).as_ref() != Some(&self.filesystem) {
            return false;
        }
        let Some(handle) = FileHandle::from_text(&self.handle) else { return false };
        let source = File::open(&above).ok().and_then(|directory| HandleSource::new(directory.into()));
        source.is_some_and(|source| source.open(&handle).err() == Some(Errno::STALE))
    }
}

impl FileSystemIdentity {
    fn at(path: &Path) -> Option<Self> {
        let device = std::fs::metadata(path).ok()?.dev();
        let is_on_it = |above: &&Path| std::fs::metadata(above).is_ok_and(|found| found.dev() == device);
        let top = path.ancestors().take_while(is_on_it).last()?;
        let found = std::fs::metadata(top).ok()?;
        Some(Self { device, top: (top.to_owned(), found.ino()), born: found.created().ok()? })
    }
}

/// The nearest directory above `path`, or itself, that is there.
fn nearest(path: &Path) -> Option<PathBuf> {
    for above in path.ancestors() {
        match std::fs::metadata(above) {
            Ok(found) if found.is_dir() => return Some(above.to_owned()),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            // It may be there and cannot be looked at.
            Err(_) => return None,
        }
    }
    None
}

/// Removes the states in `directory` whose backings are gone. It may wait for file systems that do not answer.
pub(super) fn collect(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    let states = entries.flatten().map(|entry| entry.path());
    for state in states.filter(|path| path.extension().is_some_and(|extension| extension == "json")) {
        if is_of_a_gone_backing(&state)
            && let Ok(lock) = StateLock::beside(&state)
        {
            // With the lock it is looked at again: another volume may have had it.
            if is_of_a_gone_backing(&state) && std::fs::remove_file(&state).is_ok() {
                tracing::debug!("{} is removed: its backing is gone", state.display());
                lock.remove();
            }
        }
    }
}

fn is_of_a_gone_backing(state: &Path) -> bool {
    let saved = std::fs::read(state).ok().and_then(|text| serde_json::from_slice::<Saved>(&text).ok());
    saved.is_some_and(|saved| saved.identity.is_some_and(|identity| identity.is_gone(&saved.backing)))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct World {
        dir: tempfile::TempDir,
    }

    impl World {
        fn backing(&self, name: &str) -> PathBuf {
            self.dir.path().canonicalize().unwrap().join(name)
        }

        fn state(&self, name: &str) -> PathBuf {
            self.dir.path().join("states").join(format!("{name}.json"))
        }

        /// A backing with its state; `None` where handles cannot be opened.
        fn add(&self, name: &str, change: impl FnOnce(&mut serde_json::Value)) -> Option<()> {
            let backing = self.backing(name);
            std::fs::create_dir(&backing).unwrap();
            let identity = BackingIdentity::of(&backing)?;
            let mut saved = serde_json::json!({ "backing": backing, "identity": identity });
            change(&mut saved);
            std::fs::write(self.state(name), saved.to_string()).unwrap();
            std::fs::write(self.state(name).with_extension("lock"), "0\n").unwrap();
            Some(())
        }

        fn left(&self) -> Vec<String> {
            let entries = std::fs::read_dir(self.dir.path().join("states")).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    fn world() -> World {
        let world = World { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(world.dir.path().join("states")).unwrap();
        world
    }

    #[test]
    fn regression_states_of_backings_that_are_gone_stayed_for_ever() {
        let world = world();
        for name in ["gone", "here", "renamed", "replaced"] {
            if world.add(name, |_| ()).is_none() {
                eprintln!("left out: handles cannot be opened here");
                return;
            }
        }
        std::fs::remove_dir(world.backing("gone")).unwrap();
        std::fs::rename(world.backing("renamed"), world.backing("other-name")).unwrap();
        std::fs::remove_dir(world.backing("replaced")).unwrap();
        std::fs::create_dir(world.backing("replaced")).unwrap();
        collect(&world.dir.path().join("states"));
        assert_eq!(world.left(), ["here.json", "here.lock", "renamed.json", "renamed.lock"]);
    }

    #[test]
    fn what_could_be_needed_is_kept() {
        let world = world();
        let elsewhere = |saved: &mut serde_json::Value| saved["identity"]["filesystem"]["device"] = 1.into();
        let another =
            |saved: &mut serde_json::Value| saved["identity"]["filesystem"]["born"]["secs_since_epoch"] = 1.into();
        let unknown = |saved: &mut serde_json::Value| saved["identity"] = serde_json::Value::Null;
        let added = [
            world.add("unplugged", elsewhere),
            world.add("another-disk-there", another),
            world.add("of-an-older-version", unknown),
            world.add("locked", |_| ()),
        ];
        if added.contains(&None) {
            eprintln!("left out: handles cannot be opened here");
            return;
        }
        for name in ["unplugged", "another-disk-there", "of-an-older-version", "locked"] {
            std::fs::remove_dir(world.backing(name)).unwrap();
        }
        std::fs::write(world.state("garbage"), "{").unwrap();
        let before = world.left();
        let lock = StateLock::beside(&world.state("locked")).unwrap();
        collect(&world.dir.path().join("states"));
        assert_eq!(world.left(), before);
        drop(lock);
        collect(&world.dir.path().join("states"));
        assert_eq!(before.len() - world.left().len(), 2, "it was kept for its lock alone");
    }
}
