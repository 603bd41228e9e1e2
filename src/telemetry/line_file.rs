//! Where event lines go: a file or standard output, with what could not be written yet.
//!
//! Must not know: who emits, who subscribes. Invariant: a line is written whole or not at all, and a target that
//! cannot be written (disk full, closed pipe) costs lines, never more than a bounded amount of memory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;

use super::event::Event;
use crate::time::wait_until;

/// Lines wait here while the target cannot be written; past this they are lost.
const PENDING_LIMIT: usize = 4 << 20;

#[derive(Debug)]
pub(super) struct LineFile {
    out: File,
    pending: Vec<u8>,
    reported: bool,
    /// The last try failed.
    pub(super) failing: bool,
    /// Write errors so far.
    pub(super) errors: u64,
    /// Lines that did not fit into what waits.
    pub(super) lost: u64,
}

impl LineFile {
    /// Opens `path` for one session: an existing regular file is emptied. `-` is standard output.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let out = if path.as_os_str() == "-" {
            File::from(io::stdout().as_fd().try_clone_to_owned()?)
        } else {
            create(path)?
        };
        Ok(Self::new(out))
    }

    fn new(out: File) -> Self {
        Self { out, pending: Vec::with_capacity(1 << 17), reported: false, failing: false, errors: 0, lost: 0 }
    }

    /// How many bytes wait to be written.
    pub(super) const fn pending(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn push(&mut self, event: &Event) {
        let before = self.pending.len();
        let fits = before < PENDING_LIMIT && serde_json::to_writer(&mut self.pending, event).is_ok();
        if fits {
            self.pending.push(b'\n');
        } else {
            self.pending.truncate(before);
            self.lost += 1;
        }
    }

    /// Writes what waits. What an error leaves behind is kept for the next try, so that no line is ever torn.
    pub(super) fn flush(&mut self) {
        let mut done = 0;
        self.failing = false;
        while done < self.pending.len() {
            match self.out.write(&self.pending[done..]) {
                Ok(written) if written > 0 => done += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A pipe that nobody reads just now.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.failing = true;
                    break;
                }
                refused => {
                    self.failed(&refused.err().unwrap_or_else(|| ErrorKind::WriteZero.into()));
                    break;
                }
            }
        }
        self.pending.drain(..done);
    }

    /// The last try: a slow reader of a pipe is given some time.
    pub(super) fn flush_within(&mut self, within: Duration) {
        wait_until(within, Duration::from_millis(10), || {
            self.flush();
            self.pending() == 0 || self.reported
        });
    }

    fn failed(&mut self, error: &io::Error) {
        self.errors += 1;
        self.failing = true;
        if !self.reported {
            self.reported = true;
            tracing::error!("the event log cannot be written ({error}); events go on, its file may be incomplete");
        }
    }
}

/// Appends, so that a log that somebody truncates meanwhile does not get a hole. One session writes to a file at a time:
/// a second one would empty what the first has written.
///
/// A pipe is opened without waiting for its reader, who may come later; its lines wait as those of a full disk do.
fn create(path: &Path) -> io::Result<File> {
    if std::fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo()) {
        let at_once = OFlags::NONBLOCK.bits().cast_signed();
        return OpenOptions::new().read(true).write(true).custom_flags(at_once).open(path);
    }
    let file = OpenOptions::new().append(true).create(true).open(path)?;
    if file.metadata()?.is_file() {
        // File systems without locks are not a reason to refuse.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            let message = "another volume writes its events there; give each a file of its own";
            return Err(io::Error::new(ErrorKind::WouldBlock, message));
        }
        file.set_len(0)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::event::EventBody;

    fn event() -> Event {
        Event { v: 1, seq: 1, t_us: 0, body: EventBody::Warning { message: "x".repeat(1000) } }
    }

    #[test]
    fn a_full_disk_costs_lines_not_memory() {
        let mut file = LineFile::open(Path::new("/dev/full")).unwrap();
        for _ in 0..10_000 {
            file.push(&event());
            file.flush();
        }
        assert!(file.errors >= 10_000);
        assert!(file.lost > 1000, "lost {}", file.lost);
        assert!(file.pending() < PENDING_LIMIT + 2000);
    }

    #[test]
    fn a_file_that_another_session_writes_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        let mut first = LineFile::open(&path).unwrap();
        first.push(&event());
        first.flush();
        let refused = LineFile::open(&path).unwrap_err();
        assert!(refused.to_string().contains("another volume"), "{refused}");
        assert_ne!(std::fs::metadata(&path).unwrap().len(), 0);
        drop(first);
        LineFile::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    }

    /// Opening it waited for a reader, and no signal could end that.
    #[test]
    fn regression_a_pipe_without_a_reader_hung_the_mount() {
        use std::io::Read;

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let mut file = LineFile::open(&path).unwrap();
        // More than a pipe takes.
        for _ in 0..200 {
            file.push(&event());
        }
        file.flush();
        assert!(file.pending() > 0 && file.errors == 0);
        let mut reader = OpenOptions::new().read(true).open(&path).unwrap();
        let body = move || {
            let mut text = Vec::new();
            reader.read_to_end(&mut text).unwrap();
            text
        };
        let reading = std::thread::spawn(body);
        file.flush_within(Duration::from_secs(10));
        assert_eq!(file.pending(), 0);
        drop(file);
        let text = reading.join().unwrap();
        assert_eq!(text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count(), 200);
    }

    #[test]
    fn what_waits_is_written_when_there_is_space_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        let mut file = LineFile::new(OpenOptions::new().write(true).open("/dev/full").unwrap());
        file.push(&event());
        file.flush();
        file.out = create(&path).unwrap();
        file.push(&event());
        file.flush();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().filter(|line| serde_json::from_str::<Event>(line).is_ok()).count(), 2);
    }
}
