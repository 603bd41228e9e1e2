//! Follows a kernel's log: the host's through `/dev/kmsg`, a guest's through its console (a file, a serial device, a
//! pipe, a Unix socket), and stamps what it finds with the volume's clock.
//!
//! Must not know: what messages mean. Invariant: reading never blocks for longer than asked, and what the kernel
//! overwrote before it was read is counted.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;

use super::{Finding, Parser};
use crate::time::{Clock, Deadline, SimTime, pause, since_boot};

/// Where the host's kernel log is.
pub const KMSG: &str = "/dev/kmsg";

/// A report is taken for complete when the log has been quiet for so long.
const QUIET: Duration = Duration::from_millis(500);

/// How often a file is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// A line without an end is cut here, in bytes.
const MAX_PARTIAL: usize = 64 * 1024;

/// A log cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It cannot be opened.
    #[error("cannot open the kernel log {path}: {cause}; reading it needs root, or kernel.dmesg_restrict=0 for {KMSG}")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// It cannot be read any more.
    #[error("cannot read the kernel log {path}: {cause}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// From which line on a log is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// All that is there.
    Start,
    /// What comes from now on.
    Now,
}

/// What is being read.
#[derive(Debug)]
enum Input {
    /// `/dev/kmsg`: one record per read. `offset` is the clock's start in the kernel's time.
    Kmsg { device: File, offset: Duration },
    /// A file that grows.
    File { file: File, read: u64 },
    /// A pipe, a serial device or a socket.
    Stream(Stream),
    /// A console that does not exist yet.
    Absent,
    /// The other side has closed.
    Ended,
}

#[derive(Debug)]
enum Stream {
    Device(File),
    Socket(UnixStream),
}

impl Stream {
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

/// Follows one kernel's log.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    input: Input,
    clock: Clock,
    parser: Parser,
    partial: Vec<u8>,
    last_line: SimTime,
    overruns: u64,
}

impl Follower {
    /// Follows this machine's kernel log. Needs root where `kernel.dmesg_restrict` is 1.
    pub fn host(clock: Clock, begin: Begin) -> Result<Self, SourceError> {
        let path = PathBuf::from(KMSG);
        let open = || -> io::Result<File> {
            let mut device = open_nonblocking(&path)?;
            device.seek(if begin == Begin::Now { SeekFrom::End(0) } else { SeekFrom::Start(0) })?;
            Ok(device)
        };
        let device = open().map_err(|cause| SourceError::Open { path: path.clone(), cause })?;
        let offset = since_boot().saturating_sub(clock.now().since(SimTime::ZERO));
        Ok(Self::new(path, Input::Kmsg { device, offset }, clock))
    }

    /// Follows a guest's console: a file (also one that does not exist yet), a device, a pipe or a Unix socket.
    pub fn console(path: &Path, clock: Clock, begin: Begin) -> Result<Self, SourceError> {
        let input = open_console(path, begin)?;
        Ok(Self::new(path.to_owned(), input, clock))
    }

    fn new(path: PathBuf, input: Input, clock: Clock) -> Self {
        let last_line = clock.now();
        Self { path, input, clock, parser: Parser::new(), partial: Vec::new(), last_line, overruns: 0 }
    }

    /// How often the kernel overwrote records before they were read.
    pub const fn overruns(&self) -> u64 {
        self.overruns
    }

    /// Whether nothing more can come (the other side of a pipe or socket has closed).
    pub const fn ended(&self) -> bool {
        matches!(self.input, Input::Ended)
    }

    /// What was found, waiting up to `within` for something to read.
    pub fn poll(&mut self, within: Duration) -> Result<Vec<Finding>, SourceError> {
        let deadline = Deadline::after(within);
        loop {
            let mut found = Vec::new();
            let read = self.read_some(deadline, &mut found);
            let read = read.map_err(|cause| SourceError::Read { path: self.path.clone(), cause })?;
            if self.ended() || self.clock.now().since(self.last_line) >= QUIET {
                found.extend(self.flush());
            }
            if read || !found.is_empty() || deadline.passed() || self.ended() {
                return Ok(found);
            }
        }
    }

    /// The report that is still being read.
    pub fn flush(&mut self) -> Option<Finding> {
        self.parser.flush()
    }

    /// Hands every finding to `sink` until `stop` or the log's end; the last report is flushed.
    pub fn follow(&mut self, stop: &AtomicBool, mut sink: impl FnMut(Finding)) -> Result<(), SourceError> {
        while !stop.load(Ordering::Relaxed) && !self.ended() {
            self.poll(Duration::from_millis(200))?.into_iter().for_each(&mut sink);
        }
        self.poll(Duration::ZERO)?.into_iter().for_each(&mut sink);
        self.flush().into_iter().for_each(sink);
        Ok(())
    }

    /// Reads once; whether there was anything.
    fn read_some(&mut self, deadline: Deadline, found: &mut Vec<Finding>) -> io::Result<bool> {
        // Short waits, so that a report is flushed when its log falls silent.
        let wait = deadline.left().min(QUIET);
        let mut buffer = [0; 8192];
        let length = match &mut self.input {
            Input::Kmsg { device, .. } => {
                match wait_then(device.as_fd(), wait, || retry(|| (&*device).read(&mut buffer))) {
                    Err(cause) if cause.kind() == ErrorKind::BrokenPipe => {
                        self.overruns += 1;
                        return Ok(true);
                    }
                    other => other?,
                }
            }
            Input::Stream(stream) => {
                wait_readable(stream.fd(), wait)?;
                let length = none_if_not_yet(retry(|| stream.read(&mut buffer)))?;
                if length == Some(0) {
                    self.input = Input::Ended;
                }
                length
            }
            Input::File { file, read } => {
                let length = read_file(&self.path, file, read, &mut buffer)?;
                if length == 0 {
                    pause(LOOK.min(wait));
                }
                Some(length)
            }
            Input::Absent => {
                pause(LOOK.min(wait));
                self.input = open_console(&self.path, Begin::Start).map_err(|error| match error {
                    SourceError::Open { cause, .. } | SourceError::Read { cause, .. } => cause,
                })?;
                None
            }
            Input::Ended => None,
        };
        let bytes = length.and_then(|length| buffer.get(..length)).unwrap_or_default();
        self.take(bytes, found);
        Ok(!bytes.is_empty())
    }

    fn take(&mut self, bytes: &[u8], found: &mut Vec<Finding>) {
        if bytes.is_empty() {
            return;
        }
        let now = self.clock.now();
        self.last_line = now;
        if let Input::Kmsg { offset, .. } = self.input {
            // What follows the first line of a record are its fields (` SUBSYSTEM=block`).
            let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
            found.extend(self.parser.bytes(line, Some(record_time(line, offset, now))));
            return;
        }
        self.partial.extend_from_slice(bytes);
        while let Some(end) = self.partial.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            found.extend(self.parser.bytes(&line, Some(now)));
        }
        if self.partial.len() > MAX_PARTIAL {
            let line = std::mem::take(&mut self.partial);
            found.extend(self.parser.bytes(&line, Some(now)));
        }
    }
}

/// When a record was printed, on the volume's clock: never later than now, zero if it was before the clock's start.
fn record_time(record: &[u8], offset: Duration, now: SimTime) -> SimTime {
    let field = record.split(|b| *b == b',').nth(2).and_then(|field| std::str::from_utf8(field).ok());
    let Some(micros) = field.and_then(|field| field.parse().ok()) else { return now };
    let printed = SimTime::ZERO + Duration::from_micros(micros).saturating_sub(offset);
    printed.min(now)
}

fn open_nonblocking(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits() | OFlags::NOCTTY.bits()).unwrap_or(0);
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

fn open_console(path: &Path, begin: Begin) -> Result<Input, SourceError> {
    let open = || -> io::Result<Input> {
        let kind = std::fs::metadata(path)?.file_type();
        if kind.is_socket() {
            let socket = UnixStream::connect(path)?;
            socket.set_nonblocking(true)?;
            return Ok(Input::Stream(Stream::Socket(socket)));
        }
        let mut file = open_nonblocking(path)?;
        if kind.is_char_device() || kind.is_fifo() {
            return Ok(Input::Stream(Stream::Device(file)));
        }
        let read = if begin == Begin::Now { file.seek(SeekFrom::End(0))? } else { 0 };
        Ok(Input::File { file, read })
    };
    match open() {
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(Input::Absent),
        other => other.map_err(|cause| SourceError::Open { path: path.to_owned(), cause }),
    }
}

/// Reads on; from the beginning again if the file was cut off or replaced (a guest that boots again).
fn read_file(path: &Path, file: &mut File, read: &mut u64, buffer: &mut [u8]) -> io::Result<usize> {
    let length = file.read(buffer)?;
    *read += u64::try_from(length).unwrap_or(0);
    if length > 0 {
        return Ok(length);
    }
    let ours = file.metadata()?;
    let other = std::fs::metadata(path).is_ok_and(|now| (now.dev(), now.ino()) != (ours.dev(), ours.ino()));
    if other {
        *file = open_nonblocking(path)?;
        *read = 0;
    } else if ours.len() < *read {
        *read = file.seek(SeekFrom::Start(0))?;
    }
    Ok(0)
}

fn wait_readable(fd: BorrowedFd<'_>, wait: Duration) -> io::Result<()> {
    let wait = wait.try_into().map_err(|_| ErrorKind::InvalidInput)?;
    match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&wait)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn wait_then(
    fd: BorrowedFd<'_>,
    wait: Duration,
    read: impl FnOnce() -> io::Result<usize>,
) -> io::Result<Option<usize>> {
    wait_readable(fd, wait)?;
    none_if_not_yet(read())
}

fn none_if_not_yet(read: io::Result<usize>) -> io::Result<Option<usize>> {
    match read {
        Err(cause) if cause.kind() == ErrorKind::WouldBlock => Ok(None),
        other => other.map(Some),
    }
}

fn retry(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixListener;

    use super::super::What;
    use super::*;

    const LOCKUP: &[u8] = b"[  300.000001] watchdog: BUG: soft lockup - CPU#0 stuck for 28s! [swapper/0:0]\r\n";
    const HUNG: &[u8] = b"[  9.000001] INFO: task fluentd:134 blocked for more than 5 seconds.\r\n";

    fn all(follower: &mut Follower, wanted: usize) -> Vec<Finding> {
        let deadline = Deadline::after(Duration::from_secs(10));
        let mut found = Vec::new();
        while found.len() < wanted && !deadline.passed() {
            found.extend(follower.poll(Duration::from_millis(100)).unwrap());
        }
        found
    }

    #[test]
    fn a_console_file_that_comes_later_grows_and_starts_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console");
        let clock = Clock::start();
        let mut follower = Follower::console(&path, clock, Begin::Now).unwrap();
        assert!(follower.poll(Duration::ZERO).unwrap().is_empty());
        let mut file = File::create(&path).unwrap();
        file.write_all(&LOCKUP[..30]).unwrap();
        assert!(follower.poll(Duration::from_millis(150)).unwrap().is_empty());
        file.write_all(&LOCKUP[30..]).unwrap();
        let found = all(&mut follower, 1);
        assert_eq!(found[0].kernel_us, Some(300_000_001));
        assert!(found[0].at.unwrap() <= clock.now());
        file.set_len(0).unwrap();
        drop(file);
        assert!(follower.poll(Duration::from_millis(100)).unwrap().is_empty());
        std::fs::write(&path, HUNG).unwrap();
        let found = all(&mut follower, 1);
        assert!(matches!(&found[0].what, What::HungTask(hung) if hung.task == "fluentd"), "flushed when quiet");
    }

    #[test]
    fn a_socket_until_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("serial");
        let listener = UnixListener::bind(&path).unwrap();
        let mut follower = Follower::console(&path, Clock::start(), Begin::Now).unwrap();
        let (mut guest, _) = listener.accept().unwrap();
        guest.write_all(LOCKUP).unwrap();
        guest.write_all(HUNG).unwrap();
        drop(guest);
        let mut found = Vec::new();
        follower.follow(&AtomicBool::new(false), |finding| found.push(finding)).unwrap();
        assert_eq!(found.len(), 2);
        assert!(follower.ended());
    }

    #[test]
    fn begin_now_leaves_out_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console");
        std::fs::write(&path, LOCKUP).unwrap();
        let mut now = Follower::console(&path, Clock::start(), Begin::Now).unwrap();
        assert!(now.poll(Duration::from_millis(100)).unwrap().is_empty());
        let mut start = Follower::console(&path, Clock::start(), Begin::Start).unwrap();
        assert_eq!(all(&mut start, 1).len(), 1);
    }

    #[test]
    fn kernel_time_is_the_volumes_time() {
        let offset = Duration::from_secs(1000);
        let now = SimTime::from_millis(60_000);
        let at = |record: &str| record_time(record.as_bytes(), offset, now);
        assert_eq!(at("6,1,1005000000,-;x"), SimTime::from_millis(5000));
        assert_eq!(at("6,1,5,-;x"), SimTime::ZERO);
        assert_eq!(at("6,1,2000000000,-;x"), now, "not in the future");
        assert_eq!(at("garbage"), now);
    }

    #[test]
    fn the_hosts_own_log() {
        let clock = Clock::start();
        let (Ok(mut follower), Ok(mut log)) =
            (Follower::host(clock, Begin::Now), OpenOptions::new().write(true).open(KMSG))
        else {
            return eprintln!("left out: {KMSG} cannot be read and written here");
        };
        log.write_all(b"<7>stunfs test: nfs: server stunfs.test OK\n").unwrap();
        let found = all(&mut follower, 1);
        assert!(matches!(&found[0].what, What::NfsServer(server) if server.server == "stunfs.test"));
        assert!(clock.now().since(found[0].at.unwrap()) < Duration::from_secs(5));
    }
}
