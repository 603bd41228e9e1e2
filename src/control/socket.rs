//! Where control sockets lie, how one comes into being, and how a client finds it.
//!
//! Must not know: HTTP, what is said. Invariant: only its owner and root can ever open the socket; a live socket and a file
//! that is no socket are never removed; finding one never asks a mounted volume anything (it may be stunned).

use std::ffi::OsStr;
use std::fmt::Write;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};

use super::client::{Client, ClientError};
use crate::sys::mountinfo;
use crate::time::wait_until;

/// The longest path that the kernel takes for a socket.
const PATH_MAX: usize = 107;
/// A volume that does not say within this time that it is ending counts as running.
const ENDING: Duration = Duration::from_millis(500);
/// The longest file name made of a mount point; longer ones are cut and told apart by a hash.
const NAME_MAX: usize = 60;
const BACKLOG: i32 = 512;

/// Why a control socket or a metrics port cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Another volume listens there.
    #[error("{0} belongs to a running volume; end that one, or choose another path with --control")]
    Live(PathBuf),
    /// It is there, and no socket.
    #[error("{0} is there and is not a socket; choose another path with --control")]
    NotASocket(PathBuf),
    /// The kernel does not take it.
    #[error("{0} is too long for a socket, at most {PATH_MAX} bytes; choose a shorter path with --control")]
    TooLong(PathBuf),
    /// Others could put sockets there.
    #[error("{0} does not belong to you alone; remove it, or choose a path elsewhere with --control")]
    UnsafeDir(PathBuf),
    /// The system refused.
    #[error("cannot {what} {place}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// On what.
        place: String,
        /// The answer.
        source: io::Error,
    },
}

impl ControlError {
    pub(super) fn system(what: &'static str, place: &impl ToString) -> impl FnOnce(io::Error) -> Self {
        let place = place.to_string();
        move |source| Self::System { what, place, source }
    }
}

/// Why no control socket was found.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// Nothing runs.
    #[error("no volume is running for this user; name the mount point, or the socket with --socket")]
    None,
    /// Several run.
    #[error("{} volumes are running; name the mount point or the socket: {}", .0.len(), list(.0))]
    Several(Vec<PathBuf>),
    /// The volume is another user's; that socket is only used if it is named, since its directory is that user's, too.
    #[error("{mountpoint} is a volume of another user; name its socket: --socket {socket}")]
    Anothers {
        /// What was asked for.
        mountpoint: PathBuf,
        /// Where that user's volume listens.
        socket: PathBuf,
    },
    /// That is neither a mount point with a socket nor a socket.
    #[error("no volume listens for {0}; is it mounted? stunfs ctl needs the mount point or --socket")]
    NotFound(PathBuf),
}

fn list(sockets: &[PathBuf]) -> String {
    sockets.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// A socket that listens, and which file it is.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) listener: UnixListener,
    pub(super) file: SocketFile,
}

/// The socket's file, told apart from a later one at the same path.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    /// Removes the file, unless another process has put its own there.
    pub(super) fn remove(&self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            // Nothing depends on its success: the next start finds a stale socket and removes it.
            let _ = fs::remove_file(&self.path);
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

/// Makes the socket `path`, mode 0600 from its first moment, and listens. A dead daemon's socket there is replaced.
pub(super) fn listen_at(path: &Path) -> Result<Bound, ControlError> {
    if path.as_os_str().len() > PATH_MAX {
        return Err(ControlError::TooLong(path.into()));
    }
    let dir = parent(path);
    make_private(dir)?;
    let _turn = take_turn(dir)?;
    clear_stale(path)?;
    let failed = |errno: Errno| ControlError::system("listen at", &path.display())(errno.into());
    let socket = unix_socket().map_err(failed)?;
    // The mode of a socket before bind() is the mode of the file that bind() makes, less the umask.
    fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(failed)?;
    bind(&socket, &SocketAddrUnix::new(path).map_err(failed)?).map_err(failed)?;
    let file = identity(path).map_err(ControlError::system("look at", &path.display()))?;
    listen(&socket, BACKLOG).map_err(failed)?;
    Ok(Bound { listener: socket.into(), file: SocketFile { path: path.into(), identity: file } })
}

fn unix_socket() -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes missing directories with mode 0700. Our own directories must belong to us alone; others are the user's choice.
fn make_private(dir: &Path) -> Result<(), ControlError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(ControlError::system("make", &dir.display()))?;
    if dir != runtime_dir() {
        return Ok(());
    }
    let meta = fs::symlink_metadata(dir).map_err(ControlError::system("look at", &dir.display()))?;
    let ours = meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o022 == 0;
    if ours { Ok(()) } else { Err(ControlError::UnsafeDir(dir.into())) }
}

/// Two volumes that start at the same time must not take each other's new socket for a stale one.
fn take_turn(dir: &Path) -> Result<File, ControlError> {
    let lock = File::open(dir).map_err(ControlError::system("open", &dir.display()))?;
    let locked = || flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
    if wait_until(Duration::from_secs(2), Duration::from_millis(10), locked) {
        return Ok(lock);
    }
    Err(ControlError::system("lock", &dir.display())(io::ErrorKind::TimedOut.into()))
}

fn clear_stale(path: &Path) -> Result<(), ControlError> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ControlError::system("look at", &path.display())(error)),
    };
    if !meta.file_type().is_socket() {
        return Err(ControlError::NotASocket(path.into()));
    }
    if is_live(path) {
        return Err(ControlError::Live(path.into()));
    }
    fs::remove_file(path).map_err(ControlError::system("remove the stale socket", &path.display()))
}

/// Whether a process listens at `path`. Does not wait, even if the listener is stuck with a full backlog.
fn is_live(path: &Path) -> bool {
    let attempt = || connect(unix_socket()?, &SocketAddrUnix::new(path)?);
    !matches!(attempt(), Err(Errno::CONNREFUSED | Errno::NOENT))
}

/// Whether a process listens at `path` whose volume is not mounted any more, or says that it is ending.
pub(crate) fn is_of_an_ending_volume(path: &Path) -> bool {
    let is_socket = || fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if !is_socket() || !is_live(path) {
        return false;
    }
    let status = Client::connect(path).and_then(|client| client.timeout(Some(ENDING)).get("/v1/status?limit=0"));
    match status.map(|reply| reply.body["mountpoint"].as_str().map(PathBuf::from)) {
        Ok(Some(mountpoint)) => !mountinfo::is_mounted(&mountpoint),
        // It says that it is ending, or broke off.
        Ok(None) | Err(ClientError::Broken { .. } | ClientError::NotListening(_)) => true,
        Err(_) => false,
    }
}

/// Where the default sockets of this user lie: `/run/stunfs`, `$XDG_RUNTIME_DIR/stunfs` or `/tmp/stunfs-UID`.
fn runtime_dir() -> PathBuf {
    let user = rustix::process::geteuid();
    if user.is_root() {
        return PathBuf::from("/run/stunfs");
    }
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute()) {
        Some(dir) => dir.join("stunfs"),
        None => PathBuf::from(format!("/tmp/stunfs-{}", user.as_raw())),
    }
}

/// Where the volume at `mountpoint` listens unless it is told otherwise.
pub fn default_socket(mountpoint: &Path) -> PathBuf {
    socket_in(&runtime_dir(), mountpoint)
}

pub(super) fn socket_in(dir: &Path, mountpoint: &Path) -> PathBuf {
    let name = escape(resolve(mountpoint).as_os_str());
    dir.join(format!("{name}.sock"))
}

/// The socket of the volume that `arg` means: a mount point, a socket, or nothing if exactly one volume is running.
///
/// # Errors
/// There is none, or more than one.
pub fn find_socket(arg: Option<&Path>) -> Result<PathBuf, FindError> {
    find_in(&runtime_dir(), &others_runtime_dirs(), arg)
}

/// Where sockets of all other users lie, as far as this user may look.
fn others_runtime_dirs() -> Vec<PathBuf> {
    let entries = |dir: &str| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let of_sessions = entries("/run/user").map(|dir| dir.join("stunfs"));
    let is_ours = |dir: &PathBuf| dir.file_name().is_some_and(|name| name.as_bytes().starts_with(b"stunfs-"));
    let temporary = entries("/tmp").filter(is_ours);
    std::iter::once(PathBuf::from("/run/stunfs")).chain(of_sessions).chain(temporary).collect()
}

/// Looks in `dir`; if it has nothing for `arg`, `others` only tell whose volume it is.
pub(super) fn find_in(dir: &Path, others: &[PathBuf], arg: Option<&Path>) -> Result<PathBuf, FindError> {
    let Some(arg) = arg else { return only_one(dir) };
    let by_mountpoint = socket_in(dir, arg);
    if by_mountpoint.exists() {
        return Ok(by_mountpoint);
    }
    // A mount point is not looked at: if its volume is stunned, a call for its attributes waits.
    let is_socket = || fs::metadata(arg).is_ok_and(|meta| meta.file_type().is_socket());
    if !mountinfo::is_mounted(&resolve(arg)) && is_socket() {
        return Ok(arg.into());
    }
    let another = others.iter().map(|dir| socket_in(dir, arg)).find(|socket| fs::symlink_metadata(socket).is_ok());
    Err(match another {
        Some(socket) => FindError::Anothers { mountpoint: arg.into(), socket },
        None => FindError::NotFound(arg.into()),
    })
}

fn only_one(dir: &Path) -> Result<PathBuf, FindError> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let sockets = entries.filter(|path| path.extension() == Some(OsStr::new("sock")) && is_live(path));
    let mut sockets: Vec<_> = sockets.collect();
    sockets.sort();
    match (sockets.pop(), sockets.is_empty()) {
        (None, _) => Err(FindError::None),
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            sockets.push(last);
            Err(FindError::Several(sockets))
        }
    }
}

/// An absolute path without symbolic links. The last part is only asked whether it is a link, which no volume answers itself.
fn resolve(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return fs::canonicalize(&absolute).unwrap_or(absolute);
    };
    let place = fs::canonicalize(parent).unwrap_or_else(|_| parent.into()).join(name);
    match fs::read_link(&place) {
        Ok(_) => fs::canonicalize(&place).unwrap_or(place),
        Err(_) => place,
    }
}

/// A path as one file name, much as systemd does it: `/mnt/thin-1` is `mnt-thin\x2d1`.
fn escape(path: &OsStr) -> String {
    let mut name = String::new();
    for &byte in path.as_bytes().strip_prefix(b"/").unwrap_or(path.as_bytes()) {
        match byte {
            b'/' => name.push('-'),
            b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => name.push(byte.into()),
            b'.' if !name.is_empty() => name.push('.'),
            // Writing to a String cannot fail.
            other => _ = write!(name, "\\x{other:02x}"),
        }
    }
    if name.is_empty() {
        name.push('-');
    }
    if name.len() > NAME_MAX {
        let hash = fnv1a(path.as_bytes());
        name.truncate(NAME_MAX - 17);
        let _ = write!(name, "~{hash:016x}");
    }
    name
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
