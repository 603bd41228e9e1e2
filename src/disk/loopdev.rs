//! Loop devices: attach a file, ask what is attached, detach. The room's only unsafe code: the ioctls that rustix lacks.
//!
//! Must not know: disks, records. Invariant: a device is detached only with the [`Attached`] that says which
//! attachment is meant; the same device with another file on it is left alone.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat};
use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Setter, Updater, ioctl};
use serde::{Deserialize, Serialize};

use super::system::in_time;
use crate::time::wait_until;

/// The major number of every loop device.
pub(super) const MAJOR: u32 = 7;
/// From `linux/loop.h`.
const CLR_FD: Opcode = 0x4C01;
const GET_STATUS64: Opcode = 0x4C05;
const CONFIGURE: Opcode = 0x4C0A;
const CTL_GET_FREE: Opcode = 0x4C82;
const FLAG_DIRECT_IO: u32 = 16;
/// How often another process may take the free device that was found.
const ATTEMPTS: u32 = 64;
/// A question to a device whose file lies on a volume that stands still would wait as long as that does.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// One attachment of a file to a loop device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// N of `/dev/loopN`.
    pub number: u32,
    /// The kernel's number of this attachment (Linux 5.15 on): no other one ever has it.
    pub(super) sequence: Option<u64>,
    /// Device number of the file system that the file lies on.
    pub(super) device: u64,
    /// The file's inode.
    pub(super) inode: u64,
    /// The file's path when it was attached.
    pub(super) file: PathBuf,
    /// The device node was made for it, and goes with it.
    pub(super) made_node: bool,
}

impl Attached {
    /// `/dev/loopN`.
    pub fn path(&self) -> PathBuf {
        device_path(self.number)
    }
}

/// What a device has, as far as its [`Attached`] is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// The file that was attached.
    Ours,
    /// The device has no file.
    Nothing,
    /// The device has another file.
    Another,
}

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl Info {
    const EMPTY: Self = Self {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: 0,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
}

/// `struct loop_config`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// `LOOP_CTL_GET_FREE` answers with its return value.
struct GetFree;

// SAFETY: the call takes no argument and answers with a number that is not negative; nothing in memory is touched.
unsafe impl Ioctl for GetFree {
    type Output = u32;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        CTL_GET_FREE
    }

    fn as_ptr(&mut self) -> *mut std::ffi::c_void {
        std::ptr::null_mut()
    }

    // SAFETY: the pointer is not used.
    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut std::ffi::c_void) -> rustix::io::Result<u32> {
        u32::try_from(out).map_err(|_| Errno::INVAL)
    }
}

/// `LOOP_CLR_FD` takes no argument.
type ClearFd = rustix::ioctl::NoArg<CLR_FD>;

/// Attaches `file`, which must be open with `O_DIRECT`, to a free device with direct I/O and sectors of `sector` bytes.
/// `note` hears which device it will be before it is attached, and again when it is.
pub(super) fn attach<E: From<io::Error>>(
    file: &File,
    path: &Path,
    sector: u32,
    mut note: impl FnMut(&Attached) -> Result<(), E>,
) -> Result<Attached, E> {
    let metadata = file.metadata()?;
    for _ in 0..ATTEMPTS {
        let number = free_number()?;
        let made_node = ensure_node(number)?;
        let (device, inode) = (metadata.dev(), metadata.ino());
        let mut attached = Attached { number, sequence: None, device, inode, file: path.to_owned(), made_node };
        note(&attached)?;
        match configure(number, file, sector) {
            Ok(()) => {
                attached.sequence = sequence(number);
                note(&attached)?;
                return Ok(attached);
            }
            // Another process was faster, or removed the node with its device.
            Err(Errno::BUSY | Errno::NOENT) => remove_node(&attached),
            Err(error) => {
                remove_node(&attached);
                return Err(io::Error::from(error).into());
            }
        }
    }
    Err(io::Error::from(Errno::BUSY).into())
}

fn free_number() -> io::Result<u32> {
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
    // SAFETY: as GetFree says.
    Ok(unsafe { ioctl(&control, GetFree) }?)
}

/// Whether the device node had to be made: no udev does so in a container.
fn ensure_node(number: u32) -> io::Result<bool> {
    let path = device_path(number);
    let appears = || path.exists();
    if appears() || wait_until(Duration::from_millis(50), Duration::from_millis(5), appears) {
        return Ok(false);
    }
    match mknodat(CWD, &path, FileType::BlockDevice, Mode::RUSR | Mode::WUSR, makedev(MAJOR, number)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn remove_node(attached: &Attached) {
    if attached.made_node {
        // Another user may have it open; the node alone does no harm.
        let _ = std::fs::remove_file(attached.path());
    }
}

fn configure(number: u32, file: &File, sector: u32) -> rustix::io::Result<()> {
    let device = open(number)?;
    let fd = u32::try_from(file.as_raw_fd()).map_err(|_| Errno::BADF)?;
    let info = Info { number, flags: FLAG_DIRECT_IO, ..Info::EMPTY };
    let config = Config { fd, block_size: sector, info, reserved: [0; 8] };
    // SAFETY: LOOP_CONFIGURE reads a `struct loop_config`, whose layout `Config` has.
    unsafe { ioctl(&device, Setter::<CONFIGURE, Config>::new(config)) }
}

fn open(number: u32) -> rustix::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(OFlags::CLOEXEC.bits().cast_signed());
    options.open(device_path(number)).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

fn device_path(number: u32) -> PathBuf {
    PathBuf::from(format!("/dev/loop{number}"))
}

fn in_sysfs(number: u32, name: &str) -> Option<String> {
    Some(std::fs::read_to_string(format!("/sys/block/loop{number}/{name}")).ok()?.trim_end().to_owned())
}

fn sequence(number: u32) -> Option<u64> {
    in_sysfs(number, "diskseq")?.parse().ok()
}

/// The path of the file that a device has; it asks no file system that could be stunned.
pub(super) fn backing_file(number: u32) -> Option<PathBuf> {
    in_sysfs(number, "loop/backing_file").map(PathBuf::from)
}

/// Whether a device works past the page cache.
pub(super) fn is_direct(number: u32) -> bool {
    in_sysfs(number, "loop/dio").as_deref() == Some("1")
}

/// What the device has now, by what sysfs says: never waits.
pub(super) fn holds(attached: &Attached) -> Holds {
    let Some(file) = backing_file(attached.number) else { return Holds::Nothing };
    let same = match attached.sequence {
        Some(sequence) => self::sequence(attached.number) == Some(sequence),
        // Attached by a process that was killed before it could record the number, or by an old kernel. The path lies
        // below a directory that is the disk's alone.
        None => file == attached.file,
    };
    if same { Holds::Ours } else { Holds::Another }
}

/// As [`holds`], and confirmed by the device itself if it answers: the file's device and inode must be right as well.
fn confirmed(attached: &Attached) -> Holds {
    let found = holds(attached);
    if found != Holds::Ours {
        return found;
    }
    let number = attached.number;
    match in_time(ANSWER_LIMIT, "loop-status", move || status(number)) {
        Some(Ok(info)) if (info.device, info.inode) != (attached.device, attached.inode) => Holds::Another,
        // A dead volume answers ENOTCONN, and a stunned one nothing: what sysfs said has to do.
        _ => Holds::Ours,
    }
}

fn status(number: u32) -> rustix::io::Result<Info> {
    let device = open(number)?;
    let mut info = Info::EMPTY;
    // SAFETY: LOOP_GET_STATUS64 writes a `struct loop_info64`, whose layout `Info` has; every bit pattern is valid.
    unsafe { ioctl(&device, Updater::<GET_STATUS64, Info>::new(&mut info)) }?;
    Ok(info)
}

/// Detaches: at once, or, if a process still has the device open, when it closes it. Whether it is free now.
///
/// # Errors
/// The device has something else on it: nothing was done.
pub(super) fn detach(attached: &Attached, within: Duration) -> io::Result<bool> {
    match confirmed(attached) {
        Holds::Nothing => {}
        Holds::Another => return Err(io::Error::other("it has another file by now")),
        Holds::Ours => {
            let number = attached.number;
            in_time(within, "loop-detach", move || clear(number)).transpose()?;
        }
    }
    let gone = wait_until(within, Duration::from_millis(5), || holds(attached) != Holds::Ours);
    if gone {
        remove_node(attached);
    }
    Ok(gone)
}

fn clear(number: u32) -> io::Result<()> {
    let device = open(number)?;
    // SAFETY: LOOP_CLR_FD takes no argument.
    match unsafe { ioctl(&device, ClearFd::new()) } {
        Ok(()) | Err(Errno::NXIO) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!(size_of::<Info>(), 232);
        assert_eq!(size_of::<Config>(), 304);
        assert_eq!(std::mem::offset_of!(Info, file_name), 56);
    }

    #[test]
    fn a_device_that_is_not_there_holds_nothing() {
        let attached =
            Attached { number: 9999, sequence: Some(1), device: 1, inode: 2, file: "/x".into(), made_node: false };
        assert_eq!(holds(&attached), Holds::Nothing);
        assert!(detach(&attached, Duration::from_millis(10)).unwrap());
    }
}
