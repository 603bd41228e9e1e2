//! Whole trees, compared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use stunfs::internal::backing::data_extents;

use super::world::{Answer, Attributes, get_xattr, list_xattr};

/// Everything that must be the same of an object.
#[derive(Debug, PartialEq, Eq)]
struct Node {
    attributes: Attributes,
    contents: Vec<u8>,
    xattrs: Vec<(String, Vec<u8>)>,
    /// The first path with the same inode.
    same_as: PathBuf,
}

/// Compares three views: the mount, the plain directory, and the mount's backing. The error says what differs.
pub(super) fn compare(mount: &Path, plain: &Path, backing: &Path, holes: bool) -> Result<(), String> {
    if !mount.exists() && !plain.exists() {
        return Ok(());
    }
    let all = rustix::fs::open(mount, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).map_err(|e| e.to_string())?;
    rustix::fs::syncfs(&all).map_err(|error| format!("syncfs: {error}"))?;
    let (ours, theirs, real) = (read(mount), read(plain), read(backing));
    differ(&ours, &theirs, "a plain directory")?;
    differ(&ours, &real, "its backing")?;
    for path in ours.keys().filter(|_| holes) {
        same_holes(&mount.join(path), &backing.join(path))?;
    }
    Ok(())
}

fn differ(ours: &BTreeMap<PathBuf, Node>, theirs: &BTreeMap<PathBuf, Node>, whose: &str) -> Result<(), String> {
    let names: Vec<_> = ours.keys().collect();
    let other_names: Vec<_> = theirs.keys().collect();
    if names != other_names {
        return Err(format!("the mount has {names:?}, {whose} {other_names:?}"));
    }
    for (path, node) in ours {
        let other = &theirs[path];
        if node != other {
            let at = node.contents.iter().zip(&other.contents).position(|(one, other)| one != other);
            let show = |node: &Node| format!("{:?} {:?} {:?}", node.attributes, node.xattrs, node.same_as);
            let (ours, theirs) = (show(node), show(other));
            return Err(format!("{path:?}: the mount {ours}, {whose} {theirs}, contents differ at {at:?}"));
        }
    }
    Ok(())
}

fn read(root: &Path) -> BTreeMap<PathBuf, Node> {
    let mut tree = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    let mut left = vec![PathBuf::new()];
    while let Some(path) = left.pop() {
        let at = root.join(&path);
        let stat = rustix::fs::lstat(&at).unwrap();
        let kind = FileType::from_raw_mode(stat.st_mode);
        let contents = match kind {
            FileType::RegularFile => std::fs::read(&at).unwrap(),
            FileType::Symlink => std::fs::read_link(&at).unwrap().into_os_string().into_encoded_bytes(),
            _ => Vec::new(),
        };
        if kind == FileType::Directory {
            let mut names: Vec<_> = std::fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            left.extend(names.iter().rev().map(|name| path.join(name)));
        }
        let same_as = inodes.entry(stat.st_ino).or_insert_with(|| path.clone()).clone();
        tree.insert(path, Node { attributes: Attributes::of(&stat), contents, xattrs: xattrs(&at), same_as });
    }
    tree
}

fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(Answer::Bytes(names)) = list_xattr(path) else { return Vec::new() };
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let name = String::from_utf8(name.to_vec()).unwrap();
            let value = match get_xattr(path, &name, 1000).unwrap() {
                Answer::Bytes(value) => value,
                _ => Vec::new(),
            };
            (name, value)
        })
        .collect()
}

fn same_holes(ours: &Path, real: &Path) -> Result<(), String> {
    if !ours.symlink_metadata().unwrap().is_file() {
        return Ok(());
    }
    let extents = |path: &Path| data_extents(std::fs::File::open(path).unwrap()).unwrap();
    let (ours_at, real_at) = (extents(ours), extents(real));
    if ours_at == real_at {
        Ok(())
    } else {
        Err(format!("{ours:?} has data at {ours_at:?}, its backing at {real_at:?}"))
    }
}
