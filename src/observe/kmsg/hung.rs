//! The kernel's report of a task that waits too long: a header, the task's line, a stack; over many log lines.
//!
//! Must not know: other messages, except that they end a report. Invariant: a report takes only lines that are
//! about its own task.
//!
//! Formats: 4.18 `fluentd         D    0  1234      1 0x00000080`; RHEL 8's later kernels and 5.10
//! `task:fluentd         state:D stack:    0 pid: 1234 ppid:     1 flags:0x..`; 6.2 without the padding; 6.7 with
//! `tgid:`; 6.14 with `task_flags:`; from 6.16 on also who owns the lock.

use super::prefix::Line;
use super::stack::{frame_name, waits_in};
use crate::time::SimTime;

/// Frames kept of one stack.
const MAX_FRAMES: usize = 64;

/// After so many lines that are about something else, a report is over.
const MAX_UNRELATED: u32 = 12;

/// Beginnings of lines that belong to a report and say nothing more.
const FILLERS: [&str; 10] = [
    "Tainted:",
    "Not tainted",
    "\"echo 0 >",
    "Call Trace:",
    "Call trace:",
    "<TASK>",
    "Workqueue:",
    "? ",
    "INFO: task ",
    "Backtrace:",
];

/// Beginnings of reports of another kind, which bring stacks of their own.
const ENDINGS: [&str; 10] = [
    "BUG:",
    "WARNING:",
    "------------[",
    "NMI backtrace",
    "Kernel panic",
    "Showing ",
    "Sending NMI",
    "Modules linked in",
    "stall on CPU",
    "stalls on CPUs",
];

/// A task that waits too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HungTask {
    /// The task's command name.
    pub task: String,
    /// Its thread number.
    pub pid: u32,
    /// Blocked for more than this; none if the kernel only listed it as blocked (sysrq-w, the owner of a lock).
    pub seconds: Option<u64>,
    /// The state's letter, if the task's own line was seen.
    pub state: Option<char>,
    /// Functions on its stack, the innermost first.
    pub frames: Vec<String>,
}

impl HungTask {
    /// The frame that says most about what it waits for.
    pub fn waits_in(&self) -> Option<&str> {
        waits_in(&self.frames)
    }
}

/// What a line is to a report that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// Part of it.
    Mine,
    /// Its last line.
    Last,
    /// Something else; the report goes on.
    Other,
    /// Something else, and the report is over.
    Over,
}

/// A report that is being read.
#[derive(Debug, Clone)]
pub(super) struct Report {
    pub(super) task: HungTask,
    pub(super) at: Option<SimTime>,
    pub(super) kernel_us: Option<u64>,
    pub(super) raw: String,
    caller: Option<String>,
    unrelated: u32,
}

impl Report {
    /// A report that begins with `line`: its header, or a blocked task's line that has none.
    pub(super) fn begin(line: &Line, at: Option<SimTime>) -> Option<Self> {
        let task = parse_header(&line.text).or_else(|| parse_task_line(&line.text).filter(|t| t.state == Some('D')))?;
        Some(Self {
            task,
            at,
            kernel_us: line.kernel_us,
            raw: line.raw.clone(),
            caller: line.caller.clone(),
            unrelated: 0,
        })
    }

    /// Offers a line to the report.
    pub(super) fn take(&mut self, line: &Line) -> Taken {
        let other_caller = self.caller.is_some() && line.caller.is_some() && self.caller != line.caller;
        if other_caller || line.text.is_empty() {
            return Taken::Other;
        }
        let taken = self.take_text(line);
        match taken {
            Taken::Other if self.unrelated >= MAX_UNRELATED => Taken::Over,
            Taken::Other => {
                self.unrelated += 1;
                taken
            }
            _ => taken,
        }
    }

    fn take_text(&mut self, line: &Line) -> Taken {
        let text = line.text.as_str();
        if text == "</TASK>" {
            return Taken::Last;
        }
        if let Some(name) = frame_name(text) {
            if self.task.frames.len() < MAX_FRAMES {
                self.task.frames.push(name.to_owned());
            }
            return Taken::Mine;
        }
        if parse_header(text).is_some() || ENDINGS.iter().any(|start| text.contains(start)) {
            return Taken::Over;
        }
        if let Some(taken) = self.take_task_line(line) {
            return taken;
        }
        let second_stack = text.starts_with("Call ") && !self.task.frames.is_empty();
        match () {
            () if second_stack => Taken::Over,
            () if is_filler(text) => Taken::Mine,
            () => Taken::Other,
        }
    }

    /// The line with the task's state; a second one is about another task.
    fn take_task_line(&mut self, line: &Line) -> Option<Taken> {
        let own = self.task.state.is_none();
        if let Some(other) = parse_task_line(&line.text) {
            if !own || other.pid != self.task.pid {
                return Some(Taken::Over);
            }
            self.task.state = other.state;
        } else {
            let state = parse_old_task_line(&line.text, &self.task).filter(|_| own)?;
            self.task.state = Some(state);
        }
        self.raw.push('\n');
        self.raw.push_str(&line.raw);
        Some(Taken::Mine)
    }
}

/// `INFO: task fluentd:1234 blocked for more than 120 seconds.`, also `blocked in I/O wait for more than`.
fn parse_header(text: &str) -> Option<HungTask> {
    let (_, rest) = text.split_once("INFO: task ")?;
    let (who, rest) = rest.split_once(" for more than ")?;
    let who = who.strip_suffix(" in I/O wait").unwrap_or(who).strip_suffix(" blocked")?;
    let (seconds, unit) = rest.split_once(' ')?;
    let (task, pid) = split_task(who)?;
    let seconds = seconds.parse().ok().filter(|_| unit.starts_with("second"))?;
    Some(HungTask { task, pid, seconds: Some(seconds), state: None, frames: Vec::new() })
}

/// `kworker/0:1:123` is task `kworker/0:1`, number 123.
pub(super) fn split_task(text: &str) -> Option<(String, u32)> {
    let (task, pid) = text.rsplit_once(':')?;
    Some((task.to_owned(), pid.parse().ok()?))
}

/// `task:fluentd state:D stack:0 pid:1234 ...` with or without blanks after the colons.
fn parse_task_line(text: &str) -> Option<HungTask> {
    let (_, rest) = text.split_once("task:")?;
    let (task, rest) = rest.split_once(" state:")?;
    let state = rest.chars().next().filter(char::is_ascii_alphabetic)?;
    let (_, rest) = rest.split_once(" pid:")?;
    let pid = rest.split_whitespace().next()?.parse().ok()?;
    Some(HungTask { task: task.trim_end().to_owned(), pid, seconds: None, state: Some(state), frames: Vec::new() })
}

/// `fluentd         D    0  1234      1 0x00000080`: the state of the task that the header named.
fn parse_old_task_line(text: &str, task: &HungTask) -> Option<char> {
    let rest = text.strip_prefix(task.task.as_str())?.trim_start();
    let state = rest.chars().next().filter(char::is_ascii_uppercase)?;
    let mut words = rest.split_whitespace().rev();
    let flags = words.next()?;
    let pid: u32 = words.nth(1)?.parse().ok()?;
    (flags.starts_with("0x") && pid == task.pid).then_some(state)
}

/// Whether a line belongs to every report: registers, addresses on the stack, advice.
fn is_filler(text: &str) -> bool {
    let is_register = text.starts_with('R') && text.as_bytes().get(3) == Some(&b':');
    let is_dump = text.bytes().take(16).filter(u8::is_ascii_hexdigit).count() == 16;
    is_register || is_dump || FILLERS.iter().any(|start| text.starts_with(start))
}
