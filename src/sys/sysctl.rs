//! Kernel settings: the files below `/proc/sys`, read and written.
//!
//! Must not know: what a setting is for, or who puts it back. Invariant: a setting takes its whole value in one write, and
//! no file is ever created.

use std::ffi::CStr;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::{CWD, Mode, OFlags, PROC_SUPER_MAGIC, fstatfs, openat};
use rustix::io::{Errno, write as write_fd};

/// The directory in which the kernel shows its settings.
pub(crate) const PROC_SYS: &str = "/proc/sys";

/// The file of a setting below `root`: `kernel.hung_task_warnings` is `kernel/hung_task_warnings`.
pub(crate) fn path_below(root: &Path, name: &str) -> PathBuf {
    root.join(name.replace('.', "/"))
}

/// The file of a setting of this machine.
pub(crate) fn path(name: &str) -> PathBuf {
    path_below(Path::new(PROC_SYS), name)
}

/// The value in a setting's file, without white space around it.
pub(crate) fn read_file(file: &Path) -> io::Result<String> {
    std::fs::read_to_string(file).map(|text| text.trim().to_owned())
}

/// The value of a setting of this machine.
pub fn read(name: &str) -> io::Result<String> {
    read_file(&path(name))
}

/// The value of a setting that is a number; `None` on a kernel that lacks it.
pub fn number<T: FromStr>(name: &str) -> Option<T> {
    read(name).ok()?.parse().ok()
}

/// Writes a value into a setting's file.
pub(crate) fn write_file(file: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).truncate(true).open(file)?.write_all(format!("{value}\n").as_bytes())
}

/// Writes a value into the file of a setting of this machine, with system calls only: allocates nothing, so that it may
/// run in a process forked from one with threads.
///
/// # Errors
/// `PERM` if the file is no kernel setting, else the system call's error.
pub(crate) fn write_raw(file: &CStr, value: &CStr) -> Result<(), Errno> {
    if !file.to_bytes().starts_with(b"/proc/sys/") {
        return Err(Errno::PERM);
    }
    let file = openat(CWD, file, OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?;
    if fstatfs(&file)?.f_type != PROC_SUPER_MAGIC {
        return Err(Errno::PERM);
    }
    write_fd(&file, value.to_bytes()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_dots_is_a_path() {
        assert_eq!(path("fs.fuse.max_request_timeout"), Path::new("/proc/sys/fs/fuse/max_request_timeout"));
    }

    #[test]
    fn settings_of_this_machine_are_read() {
        assert!(number::<u64>("fs.nr_open").is_some_and(|most| most > 0));
        assert_eq!(number::<u64>("kernel.random.boot_id"), None, "it is not a number");
        assert_eq!(read("kernel.random.boot_id").unwrap().len(), 36);
        assert_eq!(read("kernel.no_such_thing").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_value_is_written_and_read_back_and_no_file_is_created() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("setting");
        assert_eq!(write_file(&file, "7").unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::write(&file, "120\n").unwrap();
        assert_eq!(read_file(&file).unwrap(), "120");
        write_file(&file, "7").unwrap();
        assert_eq!(read_file(&file).unwrap(), "7");
    }

    #[test]
    fn only_settings_are_written_without_a_library() {
        assert_eq!(write_raw(c"/dev/null", c"0"), Err(Errno::PERM));
        assert_eq!(write_raw(c"/proc/sys/../../dev/null", c"0"), Err(Errno::PERM));
        assert_eq!(write_raw(c"/proc/sys/kernel/no_such_thing", c"0"), Err(Errno::NOENT));
    }
}
