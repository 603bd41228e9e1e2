//! Reads a guest's console: a file that grows, a serial device, a pipe, a Unix socket.
//!
//! Must not know: what lines mean, clocks. Invariant: a console that went away is waited for, and what was written to
//! it before is read first.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::lines::Lines;

/// So many bytes are remembered of a file.
const KNOWN_BY: usize = 64;

/// From which line on a log is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// All that is there.
    Start,
    /// What comes from now on.
    Now,
}

/// What reading did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadProgress {
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
    pub(super) fn read(&mut self, path: &Path, out: &mut Vec<Vec<u8>>) -> io::Result<ReadProgress> {
        match self {
            Self::Absent => {
                *self = Self::open(path, Begin::Start)?;
                Ok(if matches!(self, Self::Absent) { ReadProgress::Nothing } else { ReadProgress::Restarted })
            }
            Self::File(tail) => match tail.read(path, out)? {
                Some(progress) => Ok(progress),
                None => self.replace(path, out),
            },
            Self::Stream(stream) => match stream.read(out) {
                Ok(Some(progress)) if progress != ReadProgress::Nothing || !stream.is_replaced(path) => Ok(progress),
                Ok(_) => self.replace(path, out),
                Err(cause) => Err(cause),
            },
        }
    }

    /// Something else is at `path` now. A file that was renamed is still read: its writer may not know yet.
    fn replace(&mut self, path: &Path, out: &mut Vec<Vec<u8>>) -> io::Result<ReadProgress> {
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
        Ok(ReadProgress::Restarted)
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
    /// The bytes before `read`, by which a file is known that was cut off and has grown again.
    last: Vec<u8>,
    lines: Lines,
}

impl Growing {
    fn new(file: File, read: u64) -> io::Result<Self> {
        let mut growing = Self { file, read, last: Vec::new(), lines: Lines::default() };
        let mut last = [0; KNOWN_BY];
        let length = growing.file.read_at(&mut last, read.saturating_sub(KNOWN_BY as u64))?;
        let length = length.min(usize::try_from(read).unwrap_or(KNOWN_BY));
        growing.remember(last.get(..length).unwrap_or_default());
        Ok(growing)
    }

    fn remember(&mut self, bytes: &[u8]) {
        self.last.extend_from_slice(bytes);
        let excess = self.last.len().saturating_sub(KNOWN_BY);
        self.last.drain(..excess);
    }

    /// Whether what was read last is not there any more.
    fn is_cut_off(&self) -> io::Result<bool> {
        let mut now = [0; KNOWN_BY];
        let now = now.get_mut(..self.last.len()).unwrap_or_default();
        let start = self.read.saturating_sub(u64::try_from(self.last.len()).unwrap_or(0));
        let length = self.file.read_at(now, start)?;
        Ok(length < self.last.len() || *now != *self.last)
    }

    fn begin_anew(&mut self, out: &mut Vec<Vec<u8>>) -> io::Result<()> {
        self.lines.finish(out);
        self.last.clear();
        self.read = self.file.seek(SeekFrom::Start(0))?;
        Ok(())
    }

    fn read(&mut self, out: &mut Vec<Vec<u8>>) -> io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let length = retry(|| self.file.read(&mut buffer))?;
        self.read += u64::try_from(length).unwrap_or(0);
        let bytes = buffer.get(..length).unwrap_or_default();
        self.remember(bytes.get(length.saturating_sub(KNOWN_BY)..).unwrap_or_default());
        self.lines.push(bytes, out);
        Ok(length)
    }
}

impl Tail {
    /// None: another file has its name now.
    fn read(&mut self, path: &Path, out: &mut Vec<Vec<u8>>) -> io::Result<Option<ReadProgress>> {
        let from_before = match self.before.as_mut().map(|before| before.read(out)) {
            Some(Err(_)) => {
                self.finish_before(out);
                0
            }
            length => length.transpose()?.unwrap_or(0),
        };
        if self.current.is_cut_off()? {
            self.current.begin_anew(out)?;
            return Ok(Some(ReadProgress::Restarted));
        }
        if from_before + self.current.read(out)? > 0 {
            return Ok(Some(ReadProgress::Read));
        }
        let ours = self.current.file.metadata()?;
        let is_other = std::fs::metadata(path).is_ok_and(|now| (now.dev(), now.ino()) != (ours.dev(), ours.ino()));
        Ok((!is_other).then_some(ReadProgress::Nothing))
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
    fn read(&mut self, out: &mut Vec<Vec<u8>>) -> io::Result<Option<ReadProgress>> {
        let mut buffer = [0; 16 * 1024];
        match retry(|| self.source.read(&mut buffer)) {
            Ok(0) => {
                self.lines.finish(out);
                self.closed = true;
                Ok(self.named.map(|_| ReadProgress::Nothing))
            }
            Ok(length) => {
                self.lines.push(buffer.get(..length).unwrap_or_default(), out);
                let again = std::mem::replace(&mut self.closed, false);
                Ok(Some(if again { ReadProgress::Restarted } else { ReadProgress::Read }))
            }
            Err(cause) if cause.kind() == ErrorKind::WouldBlock => {
                self.closed = false;
                Ok(Some(ReadProgress::Nothing))
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

/// As good as not there: no process listens on the socket (any more), or the device is not back yet.
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
    Ok(Console::File(Tail { current: Growing::new(file, read)?, before: None }))
}

pub(super) fn open_nonblocking(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits() | OFlags::NOCTTY.bits()).unwrap_or(0);
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Does not wait for a listener whose queue of connections is full.
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
