//! The mount table: `/proc/self/mountinfo`, parsed.
//!
//! Must not know: what is mounted or why. Invariant: reading it sends no request to any file system, so it cannot hang.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// `st_dev` of what is mounted: major and minor number.
    pub(crate) device: (u32, u32),
    /// Where.
    pub(crate) mountpoint: PathBuf,
    /// For example `ext4`, `fuse.stunfs`.
    pub(crate) fstype: String,
    /// What: a device, or a FUSE file system's `fsname`.
    pub(crate) source: PathBuf,
}

impl Mount {
    /// Whether it is a FUSE file system of any kind.
    pub(crate) fn is_fuse(&self) -> bool {
        self.fstype == "fuse" || self.fstype == "fuseblk" || self.fstype.starts_with("fuse.")
    }

    /// Whether it is one of ours.
    pub(crate) fn is_stunfs(&self) -> bool {
        self.fstype == "fuse.stunfs"
    }
}

/// All mounts that this process sees, in the order in which they were mounted.
pub(crate) fn read() -> io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

/// Whether a process in another mount namespace sees a mount of this device. Processes that this one may not look into
/// count as those that do not.
pub(crate) fn is_seen_in_other_namespace(device: (u32, u32)) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    let namespace = |process: &Path| std::fs::read_link(process.join("ns/mnt")).ok();
    let mut known: HashSet<_> = namespace(Path::new("/proc/self")).into_iter().collect();
    let is_process = |name: &OsStr| name.as_bytes().iter().all(u8::is_ascii_digit);
    let processes = processes.flatten().filter(|entry| is_process(&entry.file_name())).map(|entry| entry.path());
    let mut others = processes.filter(|process| namespace(process).is_some_and(|found| known.insert(found)));
    others.any(|process| {
        let table = std::fs::read(process.join("mountinfo")).unwrap_or_default();
        parse(&table).iter().any(|mount| mount.device == device)
    })
}

/// Parses the table; lines that are not understood are left out.
pub(crate) fn parse(table: &[u8]) -> Vec<Mount> {
    table.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

/// The mount that is visible at exactly `path`: the last one of those stacked there.
pub(crate) fn at<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    mounts.iter().rev().find(|mount| mount.mountpoint == path)
}

/// `36 35 98:0 /root /mountpoint rw,noatime shared:1 - ext3 /dev/root rw`: the optional fields end with a lone dash.
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = parse_device(fields.nth(2)?)?;
    let mountpoint = fields.nth(1)?;
    let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
    let fstype = String::from_utf8_lossy(rest.next()?).into_owned();
    let source = rest.next()?;
    Some(Mount { device, mountpoint: unescape(mountpoint), fstype, source: unescape(source) })
}

fn parse_device(field: &[u8]) -> Option<(u32, u32)> {
    let (major, minor) = std::str::from_utf8(field).ok()?.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The kernel writes space, tab, newline, backslash and `#` as a backslash and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        if let Some(byte) = octal(rest) {
            bytes.push(byte);
            rest = &rest[4..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

fn octal(field: &[u8]) -> Option<u8> {
    let [b'\\', digits @ ..] = field.get(..4)? else { return None };
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n\
        40 27 0:47 / /mnt/with\\040space rw,nosuid shared:7 master:1 - fuse.stunfs /data/back\\134slash rw,user_id=0\n\
        41 27 0:48 / /mnt/twice rw - tmpfs tmpfs rw\n\
        42 41 0:49 / /mnt/twice rw - fuse.sshfs host:/ rw\n\
        garbage\n\
        43 27 nonsense / /x rw - tmpfs tmpfs rw\n";

    #[test]
    fn fields_are_where_the_kernel_puts_them() {
        let mounts = parse(TABLE);
        assert_eq!(mounts.len(), 4);
        assert_eq!(mounts[0].device, (254, 0));
        assert_eq!(mounts[0].mountpoint, Path::new("/"));
        assert_eq!(mounts[0].fstype, "ext4");
        assert!(!mounts[0].is_fuse());
    }

    #[test]
    fn escapes_are_undone_in_mount_point_and_source() {
        let mounts = parse(TABLE);
        assert_eq!(mounts[1].mountpoint, Path::new("/mnt/with space"));
        assert_eq!(mounts[1].source, Path::new("/data/back\\slash"));
        assert!(mounts[1].is_stunfs() && mounts[1].is_fuse());
    }

    #[test]
    fn the_topmost_of_stacked_mounts_counts() {
        let mounts = parse(TABLE);
        assert_eq!(at(&mounts, Path::new("/mnt/twice")).map(|mount| mount.device), Some((0, 49)));
        assert_eq!(at(&mounts, Path::new("/mnt")), None);
    }

    #[test]
    fn a_backslash_that_is_no_escape_stays() {
        assert_eq!(unescape(b"a\\b\\0"), Path::new("a\\b\\0"));
        assert_eq!(unescape(b"\\777x"), Path::new("\\777x"));
    }

    #[test]
    fn this_process_has_a_root() {
        assert!(at(&read().unwrap(), Path::new("/")).is_some());
    }
}
