//! The run's `events.jsonl`: what the harness tells, and the volumes' own lines with the arm and the run's time.
//!
//! Must not know: what an event means. Invariant: every line is one whole JSON object, and the harness's own are numbered
//! without gaps.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::RunError;
use crate::scenario::evidence::Evidence;
use crate::telemetry::event::Event;
use crate::telemetry::harness::{HarnessEvent, HarnessEventBody};
use crate::time::Clock;

/// The file.
#[derive(Debug)]
pub(super) struct RunLog {
    path: PathBuf,
    out: BufWriter<File>,
    clock: Clock,
    seq: u64,
    failed: Option<io::Error>,
}

impl RunLog {
    pub(super) fn create(path: &Path, clock: Clock) -> Result<Self, RunError> {
        let out = File::create(path).map_err(RunError::at("cannot write", path))?;
        Ok(Self { path: path.to_owned(), out: BufWriter::new(out), clock, seq: 0, failed: None })
    }

    /// Tells an event of the harness now.
    pub(super) fn tell(&mut self, arm: Option<&str>, body: HarnessEventBody) {
        let event = HarnessEvent::new(self.seq, self.clock.now().as_micros(), arm.map(str::to_owned), body);
        self.seq += 1;
        let line = serde_json::to_string(&event).unwrap_or_default();
        self.write(&line, "\n");
        self.flush();
    }

    fn write(&mut self, line: &str, end: &str) {
        let written = self.out.write_all(line.as_bytes()).and_then(|()| self.out.write_all(end.as_bytes()));
        self.failed = self.failed.take().or(written.err());
    }

    pub(super) fn flush(&mut self) {
        self.failed = self.failed.take().or(self.out.flush().err());
    }

    /// Adds a volume's line.
    fn pass_on(&mut self, line: &str, arm: &str, run_us: u64) {
        let Some(open) = line.strip_suffix('}') else { return };
        self.write(open, &format!(",\"arm\":\"{arm}\",\"run_us\":{run_us}}}\n"));
    }

    pub(super) fn finish(mut self) -> Result<(), RunError> {
        self.flush();
        self.failed.map_or(Ok(()), |error| Err(RunError::at("cannot write", &self.path)(error)))
    }
}

/// Reads a volume's event log as it grows.
#[derive(Debug)]
pub(super) struct VolumeLog {
    file: File,
    partial: Vec<u8>,
    /// The run's time at the start of the volume's clock, microseconds.
    origin_us: i64,
}

impl VolumeLog {
    pub(super) fn open(path: &Path, origin_us: i64) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, partial: Vec::new(), origin_us })
    }

    /// Takes what has come since the last time.
    pub(super) fn take(&mut self, arm: &str, evidence: &mut Evidence, log: &mut RunLog) -> io::Result<()> {
        let mut data = Vec::new();
        self.file.read_to_end(&mut data)?;
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if self.partial.pop_if(|last| *last == b'\n').is_some() {
                self.line(arm, evidence, log);
                self.partial.clear();
            }
        }
        if !data.is_empty() {
            log.flush();
        }
        Ok(())
    }

    fn line(&self, arm: &str, evidence: &mut Evidence, log: &mut RunLog) {
        let line = String::from_utf8_lossy(&self.partial);
        match serde_json::from_str::<Event>(&line) {
            Ok(event) => {
                evidence.take(&event, self.origin_us);
                let at = i64::try_from(event.t_us).unwrap_or(i64::MAX).saturating_add(self.origin_us);
                log.pass_on(&line, arm, u64::try_from(at).unwrap_or(0));
            }
            Err(_) => evidence.unreadable(),
        }
    }

    /// Nothing more comes: a line without an end is torn.
    pub(super) fn end(&self, evidence: &mut Evidence) {
        if !self.partial.is_empty() {
            evidence.unreadable();
        }
    }
}
