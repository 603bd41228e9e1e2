//! The mount table: `/proc/self/mountinfo`, parsed.
//!
//! Must not know: what is mounted or why. Invariant: reading it sends no request to any file system, so it cannot hang.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The mount table of this process.
pub(crate) const TABLE: &str = "/proc/self/mountinfo";

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// `st_dev` of what is mounted: major and minor number.
    pub device: (u32, u32),
    /// The directory that it is mounted on.
    pub mountpoint: PathBuf,
    /// For example `ext4`, `fuse.stunfs`.
    pub fstype: String,
    /// What is mounted: a device, or a FUSE file system's `fsname`.
    pub source: PathBuf,
    /// The options of the file system itself: `rw,freezer` for a cgroup hierarchy.
    pub super_options: String,
}

impl Mount {
    /// Whether it is a FUSE file system of any kind.
    pub(crate) fn is_fuse(&self) -> bool {
        self.fstype == "fuse" || self.fstype == "fuseblk" || self.fstype.starts_with("fuse.")
    }

    /// Whether it is a volume of stunfs.
    pub(crate) fn is_stunfs(&self) -> bool {
        self.fstype == "fuse.stunfs"
    }

    /// Whether the file system itself has this option.
    pub(crate) fn has_super_option(&self, name: &str) -> bool {
        self.super_options.split(',').any(|option| option == name)
    }
}

/// All mounts that this process sees, in the order in which they were mounted.
pub fn read() -> io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read(TABLE)?))
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

/// Whether something is mounted at exactly `path`, by the mount table: what is mounted is not asked.
pub(crate) fn is_mounted(path: &Path) -> bool {
    read().is_ok_and(|mounts| at(&mounts, path).is_some())
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
    let source = unescape(rest.next()?);
    let super_options = String::from_utf8_lossy(rest.next().unwrap_or_default()).into_owned();
    Some(Mount { device, mountpoint: unescape(mountpoint), fstype, source, super_options })
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

    const SAMPLE: &[u8] = b"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n\
        40 27 0:47 / /mnt/with\\040space rw,nosuid shared:7 master:1 - fuse.stunfs /data/back\\134slash rw,user_id=0\n\
        41 27 0:48 / /mnt/twice rw - tmpfs tmpfs rw\n\
        42 41 0:49 / /mnt/twice rw - fuse.sshfs host:/ rw\n\
        garbage\n\
        43 27 nonsense / /x rw - tmpfs tmpfs rw\n";

    #[test]
    fn fields_are_where_the_kernel_puts_them() {
        let mounts = parse(SAMPLE);
        assert_eq!(mounts.len(), 4);
        assert_eq!(mounts[0].device, (254, 0));
        assert_eq!(mounts[0].mountpoint, Path::new("/"));
        assert_eq!(mounts[0].fstype, "ext4");
        assert!(!mounts[0].is_fuse());
    }

    #[test]
    fn escapes_are_undone_in_mount_point_and_source() {
        let mounts = parse(SAMPLE);
        assert_eq!(mounts[1].mountpoint, Path::new("/mnt/with space"));
        assert_eq!(mounts[1].source, Path::new("/data/back\\slash"));
        assert!(mounts[1].is_stunfs() && mounts[1].is_fuse());
    }

    #[test]
    fn the_topmost_of_stacked_mounts_counts() {
        let mounts = parse(SAMPLE);
        assert_eq!(at(&mounts, Path::new("/mnt/twice")).map(|mount| mount.device), Some((0, 49)));
        assert_eq!(at(&mounts, Path::new("/mnt")), None);
    }

    #[test]
    fn a_backslash_that_is_no_escape_stays() {
        assert_eq!(unescape(b"a\\b\\0"), Path::new("a\\b\\0"));
        assert_eq!(unescape(b"\\777x"), Path::new("\\777x"));
    }

    #[test]
    fn a_mount_of_a_deleted_directory_is_a_mount_like_any_other() {
        let mounts = parse(b"50 27 254:0 /gone//deleted /mnt/bind rw - ext4 /dev/vda rw\n");
        assert_eq!(mounts[0].mountpoint, Path::new("/mnt/bind"));
    }

    #[test]
    fn a_path_need_not_be_utf8() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let mounts = parse(b"50 27 0:9 / /mnt/\xff\\012\xfe rw - tmpfs \xff rw\n");
        assert_eq!(mounts[0].mountpoint.as_os_str().as_bytes(), b"/mnt/\xff\n\xfe");
        assert_eq!(mounts[0].source.as_os_str(), OsStr::from_bytes(b"\xff"));
    }

    #[test]
    fn options_of_the_file_system_are_told_apart_from_those_of_the_mount() {
        let mounts = parse(b"37 31 0:34 / /f rw,relatime - cgroup cgroup rw,freezer\n38 31 0:35 / /g rw - proc proc\n");
        assert!(mounts[0].has_super_option("freezer") && !mounts[0].has_super_option("relatime"));
        assert!(!mounts[0].has_super_option("free") && mounts[1].super_options.is_empty());
    }

    #[test]
    fn any_beginning_of_a_table_is_no_panic() {
        for end in 0..SAMPLE.len() {
            let _ = parse(&SAMPLE[..end]);
        }
    }

    #[test]
    fn this_process_has_a_root() {
        assert!(at(&read().unwrap(), Path::new("/")).is_some());
    }
}
