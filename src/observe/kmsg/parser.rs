//! Reads a kernel's log line by line and finds what it reports.
//!
//! Must not know: where lines come from, files, clocks. Invariant: any bytes are taken without a panic, and a report that was
//! begun comes out exactly once, at the latest by [`Parser::flush`].

use super::finding::{Finding, What};
use super::fragments::Fragments;
use super::hung::{Report, Taken};
use super::line::Line;
use super::lockup::{Said, soft_lockup};
use super::nfs::nfs;
use super::records::{self, Records};
use super::rule::Notice;
use super::seen::Seen;
use super::storage::{storage, without_subsystem};
use crate::time::SimTime;

/// So many reports are read at the same time, each from its own caller.
const MAX_REPORTS: usize = 16;

/// Reads a kernel's log line by line.
#[derive(Debug, Default)]
pub struct Parser {
    fragments: Fragments,
    records: Records,
    reports: Vec<Report>,
    seen: Seen,
    taken: u64,
}

impl Parser {
    /// A parser at the beginning of a log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a line, with or without its line end, in any of the forms in which kernel logs are kept. `at`: when it
    /// was printed or came in, on the volume's clock.
    pub fn line(&mut self, line: &str, at: Option<SimTime>) -> Vec<Finding> {
        let mut found = Vec::new();
        if let Some(whole) = self.fragments.take(line) {
            self.whole_line(&whole, at, &mut found);
        }
        found
    }

    fn whole_line(&mut self, line: &str, at: Option<SimTime>, found: &mut Vec<Finding>) {
        let (messages, own) = match self.records.take(line) {
            records::RecordOutcome::Mine(record) => {
                self.taken += 1;
                (record, Vec::new())
            }
            records::RecordOutcome::Other(record) => (record, Line::parse(line)),
        };
        let unpacked = messages.iter().flat_map(Line::unpack);
        for message in unpacked.chain(own) {
            self.message(message, at, found);
        }
    }

    /// As [`Self::line`], for bytes that may not be UTF-8.
    pub fn bytes(&mut self, line: &[u8], at: Option<SimTime>) -> Vec<Finding> {
        self.line(&String::from_utf8_lossy(line), at)
    }

    /// The reports that are still being read, as they are: at the log's end, or when no line of them has come for a
    /// while.
    pub fn flush(&mut self) -> Vec<Finding> {
        let mut found = Vec::new();
        for line in self.fragments.finish() {
            self.whole_line(&line, None, &mut found);
        }
        for message in self.records.finish().iter().flat_map(Line::unpack) {
            self.message(message, None, &mut found);
        }
        while !self.reports.is_empty() {
            self.end(0, &mut found);
        }
        found
    }

    /// Whether a report is being read, so that [`Self::flush`] would give one.
    pub fn is_open(&self) -> bool {
        !self.reports.is_empty() || self.records.is_open() || self.fragments.is_open()
    }

    /// Whether a report that is being read is not complete as it is.
    pub fn expects_more(&self) -> bool {
        self.reports.iter().any(Report::expects_more)
    }

    /// How many lines were taken as parts of reports that are longer than a line.
    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// The log began anew: its kernel may have booted again.
    pub fn restarted(&mut self) {
        self.seen.forget();
    }

    fn message(&mut self, line: Line, at: Option<SimTime>, found: &mut Vec<Finding>) {
        if let Some(index) = self.report_of(&line) {
            let taken = self.reports.get_mut(index).map_or(Taken::Other, |report| report.take(&line));
            self.taken += u64::from(taken != Taken::Other);
            match taken {
                Taken::Mine => return,
                Taken::Last => return self.end(index, found),
                Taken::Over => self.end(index, found),
                Taken::Other => {}
            }
        }
        if let Some(report) = Report::begin(&line, at) {
            if let Some(before) = self.reports.iter().position(|other| other.caller() == report.caller()) {
                self.end(before, found);
            }
            if self.reports.len() == MAX_REPORTS {
                self.end(0, found);
            }
            self.reports.push(report);
            self.taken += 1;
        } else if let Some(what) = single_line(&line.text)
            && self.seen.is_new(line.kernel_us, &line.text)
        {
            found.push(Finding { at, kernel_us: line.kernel_us, what, raw: line.raw });
        }
    }

    /// The report that a line is offered to: that of the same caller, or, if it names none, the last one.
    fn report_of(&self, line: &Line) -> Option<usize> {
        let same = |report: &Report| report.caller().is_none() || report.caller() == line.caller.as_deref();
        match &line.caller {
            Some(_) => self.reports.iter().rposition(same),
            None => self.reports.len().checked_sub(1),
        }
    }

    fn end(&mut self, index: usize, found: &mut Vec<Finding>) {
        let report = self.reports.remove(index);
        let (at, kernel_us) = (report.at(), report.kernel_us());
        if self.seen.is_new(kernel_us, report.header()) {
            let (task, raw) = report.finish();
            found.push(Finding { at, kernel_us, what: What::HungTask(task), raw });
        }
    }
}

/// What one line says by itself.
fn single_line(text: &str) -> Option<What> {
    let lockup = |said| match said {
        Said::Whole(lockup) => What::SoftLockup(lockup),
        Said::Cut => What::Notice(Notice::SoftLockup),
    };
    soft_lockup(without_subsystem(text))
        .map(lockup)
        .or_else(|| nfs(text).map(What::NfsServer))
        .or_else(|| storage(text).map(|found| found.map_or_else(What::Notice, What::Storage)))
}
