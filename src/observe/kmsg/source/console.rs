//! Reads a guest's console: a file that grows, a serial device, a pipe, a Unix socket.
//!
//! Must not know: what lines mean, clocks. Invariant: a console that went away is waited for, and what was written to
//! it before is read first.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::Begin;
use super::lines::Lines;

/// What reading did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Bytes came.
    Read,
    /// Nothing is there now.
    Nothing,
    /// The console began anew: its guest may have booted again.
    Restarted,
}

/// A console, as it is now.
#[derive(Debug)]
pub(super) enum Console {
    /// It does not exist (yet, or any more).
    Absent,
    File(Tail),
    Stream(Stream),
}

impl Console {
    pub(super) fn open(path: &Path, begin: Begin) -> io::Result<Self> {
        match open_existing(path, begin) {
            Err(cause) if is_absent(&cause) => Ok(Self::Absent),
            other => other,
        }
    }

    /// Reads what is there and adds complete lines to `out`.
    pub(super) fn read(&mut self, path: &Path, out: &mut Vec<Vec<u8>>) -> io::Result<Progress> {
        match self {
            Self::Absent => {
                *self = Self::open(path, Begin::Start)?;
                Ok(if matches!(self, Self::Absent) { Progress::Nothing } else { Progress::Restarted })
            }
            Self::File(tail) => match tail.read(path, out)? {
                Some(progress) => Ok(progress),
                None => self.replace(path, out),
            },
            Self::Stream(stream) => match stream.read(out) {
                Ok(Some(progress)) if progress != Progress::Nothing || !stream.is_replaced(path) => Ok(progress),
                Ok(_) => self.replace(path, out),
                Err(cause) => Err(cause),
            },
        }
    }

    /// Something else is at `path` now. A file that was renamed is still read: its writer may not know yet.
    fn replace(&mut self, path: &Path, out: &mut Vec<Vec<u8>>) -> io::Result<Progress> {
        let old = std::mem::replace(self, Self::open(path, Begin::Start)?);
        match (self, old) {
            (Self::File(new), Self::File(mut old)) => {
                old.finish_before(out);
                new.before = Some(old.current);
            }
            (_, Self::File(mut old)) => old.finish(out),
            (_, Self::Stream(mut old)) => old.lines.finish(out),
            (_, Self::Absent) => {}
        }
        Ok(Progress::Restarted)
    }

    /// Waits up to `wait` for something to read; false: how long cannot be told, look again soon.
    pub(super) fn wait(&self, wait: Duration) -> io::Result<bool> {
        match self {
            Self::Stream(stream) if !stream.closed => wait_readable(stream.source.fd(), wait).map(|()| true),
            _ => Ok(false),
        }
    }

    /// No more will be read: the line that is still without its end is one.
    pub(super) fn finish(&mut self, out: &mut Vec<Vec<u8>>) {
        match self {
            Self::Absent => {}
            Self::File(tail) => tail.finish(out),
            Self::Stream(stream) => stream.lines.finish(out),
        }
    }
}

/// A file that grows, and the one that had its name before.
#[derive(Debug)]
pub(super) struct Tail {
    current: Growing,
    before: Option<Growing>,
}

#[derive(Debug)]
struct Growing {
    file: File,
    read: u64,
    lines: Lines,
}

impl Growing {
    fn read(&mut self, out: &mut Vec<Vec<u8>>) -> io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let length = retry(|| self.file.read(&mut buffer))?;
        self.read += u64::try_from(length).unwrap_or(0);
        self.lines.push(buffer.get(..length).unwrap_or_default(), out);
        Ok(length)
    }
}

impl Tail {
    /// None: another file has its name now.
    fn read(&mut self, path: &Path, out: &mut Vec<Vec<u8>>) -> io::Result<Option<Progress>> {
        let from_before = match self.before.as_mut().map(|before| before.read(out)) {
            Some(Err(_)) => {
                self.finish_before(out);
                0
            }
            length => length.transpose()?.unwrap_or(0),
        };
        if from_before + self.current.read(out)? > 0 {
            return Ok(Some(Progress::Read));
        }
        let ours = self.current.file.metadata()?;
        if std::fs::metadata(path).is_ok_and(|now| (now.dev(), now.ino()) != (ours.dev(), ours.ino())) {
            return Ok(None);
        }
        if ours.len() >= self.current.read {
            return Ok(Some(Progress::Nothing));
        }
        self.current.lines.finish(out);
        self.current.read = self.current.file.seek(SeekFrom::Start(0))?;
        Ok(Some(Progress::Restarted))
    }

    fn finish_before(&mut self, out: &mut Vec<Vec<u8>>) {
        if let Some(mut before) = self.before.take() {
            before.lines.finish(out);
        }
    }

    fn finish(&mut self, out: &mut Vec<Vec<u8>>) {
        self.finish_before(out);
        self.current.lines.finish(out);
    }
}

/// A pipe, a serial device or a socket.
#[derive(Debug)]
pub(super) struct Stream {
    source: Source,
    /// Device and inode of its name; a socket has none that it keeps.
    named: Option<(u64, u64)>,
    lines: Lines,
    /// The other side has closed: whether it is back shows in a read only.
    closed: bool,
}

#[derive(Debug)]
enum Source {
    Device(File),
    Socket(UnixStream),
}

impl Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Device(file) => file.read(buffer),
            Self::Socket(socket) => socket.read(buffer),
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Device(file) => file.as_fd(),
            Self::Socket(socket) => socket.as_fd(),
        }
    }
}

impl Stream {
    fn new(source: Source, named: Option<(u64, u64)>) -> Self {
        Self { source, named, lines: Lines::default(), closed: false }
    }

    /// None: this stream is over, another one may come.
    fn read(&mut self, out: &mut Vec<Vec<u8>>) -> io::Result<Option<Progress>> {
        let mut buffer = [0; 16 * 1024];
        match retry(|| self.source.read(&mut buffer)) {
            Ok(0) => {
                self.lines.finish(out);
                self.closed = true;
                Ok(self.named.map(|_| Progress::Nothing))
            }
            Ok(length) => {
                self.lines.push(buffer.get(..length).unwrap_or_default(), out);
                let again = std::mem::replace(&mut self.closed, false);
                Ok(Some(if again { Progress::Restarted } else { Progress::Read }))
            }
            Err(cause) if cause.kind() == ErrorKind::WouldBlock => {
                self.closed = false;
                Ok(Some(Progress::Nothing))
            }
            // The end of a pseudo-terminal, or of a socket whose other side was killed.
            Err(cause) if is_end(&cause) => Ok(None),
            Err(cause) => Err(cause),
        }
    }

    fn is_replaced(&self, path: &Path) -> bool {
        let now = std::fs::metadata(path).map(|now| (now.dev(), now.ino()));
        self.closed && matches!((now, self.named), (Ok(now), Some(named)) if now != named)
    }
}

fn is_end(cause: &io::Error) -> bool {
    let ends = [Errno::IO, Errno::CONNRESET, Errno::PIPE, Errno::NXIO, Errno::NODEV];
    ends.iter().any(|errno| cause.raw_os_error() == Some(errno.raw_os_error()))
}

/// As good as not there: nobody listens (any more), or not yet again.
fn is_absent(cause: &io::Error) -> bool {
    matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::WouldBlock) || is_end(cause)
}

fn open_existing(path: &Path, begin: Begin) -> io::Result<Console> {
    let about = std::fs::metadata(path)?;
    let kind = about.file_type();
    if kind.is_dir() {
        return Err(Errno::ISDIR.into());
    }
    if kind.is_socket() {
        return Ok(Console::Stream(Stream::new(Source::Socket(connect(path)?), None)));
    }
    let mut file = open_nonblocking(path)?;
    if kind.is_char_device() || kind.is_fifo() {
        return Ok(Console::Stream(Stream::new(Source::Device(file), Some((about.dev(), about.ino())))));
    }
    let read = if begin == Begin::Now { file.seek(SeekFrom::End(0))? } else { 0 };
    Ok(Console::File(Tail { current: Growing { file, read, lines: Lines::default() }, before: None }))
}

pub(super) fn open_nonblocking(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits() | OFlags::NOCTTY.bits()).unwrap_or(0);
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Without waiting for a listener that is busy with somebody else.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}

pub(super) fn wait_readable(fd: BorrowedFd<'_>, wait: Duration) -> io::Result<()> {
    let wait = wait.try_into().map_err(|_| ErrorKind::InvalidInput)?;
    match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&wait)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

pub(super) fn retry(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
