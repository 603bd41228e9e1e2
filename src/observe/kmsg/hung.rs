//! The kernel's report of a task that waits too long: a header, the task's line, a stack; over many log lines.
//!
//! Must not know: other messages, except that they end a report or come in between. Invariant: a report takes only lines
//! that are about its own task.
//!
//! Formats: before 4.14 `fluentd         D ffff88003fd14778     0  1234      1 0x00000080`, later without the address; RHEL
//! 8's later kernels and 5.10 `task:fluentd         state:D stack:    0 pid: 1234 ppid:     1 flags:0x..`; 6.2 without the
//! padding; 6.7 with `tgid:`; 6.14 with `task_flags:`; from 6.16 on also who owns the lock.

use super::line::Line;
use super::pattern::fits;
use crate::observe::stack::Frame;
use crate::observe::waits::{waits_for, waits_in};
use crate::time::SimTime;

/// Frames kept of one stack.
const MAX_FRAMES: usize = 64;

/// After so many lines in a row that are about something else, a report is over.
const MAX_UNRELATED: u32 = 12;

/// Beginnings of lines that belong to a report and say nothing more.
const FILLERS: [&str; 12] = [
    "Tainted:",
    "Not tainted",
    "\"echo 0 >",
    "Call Trace:",
    "Call trace:",
    "<TASK>",
    "Workqueue:",
    "INFO: task ",
    "Backtrace:",
    "task PC stack",
    "Exception stack",
    "Code: ",
];

/// Reports of another kind, which bring stacks of their own.
const OTHER_REPORTS: [&str; 28] = [
    "Last Breaking-Event-Address",
    "BUG: ",
    "watchdog: ",
    "NMI watchdog: ",
    "WARNING: CPU: ",
    "WARNING: at ",
    "WARNING: possible ",
    "WARNING: suspicious ",
    "WARNING: {}.c:",
    "------------[ cut here",
    "NMI backtrace",
    "Kernel panic",
    "Showing all locks held",
    "Showing busy workqueues",
    "Showing backtraces of",
    "Sending NMI",
    "Modules linked in:",
    "CPU: {} PID: ",
    "CPU: {} UID: ",
    "INFO: rcu",
    "rcu: INFO: ",
    "Oops: ",
    "Internal error: ",
    "Unable to handle kernel",
    "sysrq: ",
    "SysRq : ",
    "Mem-Info:",
    "Linux version ",
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
    /// Functions on its stack, the innermost first. Those that the kernel marks as unreliable count only if it marks
    /// all of them so.
    pub frames: Vec<String>,
}

impl HungTask {
    /// The frame that says most about what it waits for.
    pub fn waits_in(&self) -> Option<&str> {
        waits_in(&self.frames)
    }

    /// What it waits for, in words.
    pub fn waits_for(&self) -> Option<&'static str> {
        waits_for(&self.frames)
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

/// Whose stack the lines show that come now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stack {
    /// The task's own; whether `<TASK>` began it.
    Own { marked: bool },
    /// That of another report, which came in between; whether its own `<TASK>` was seen.
    Foreign { marked: bool },
}

/// A report that is being read.
#[derive(Debug, Clone)]
pub(super) struct Report {
    task: HungTask,
    at: Option<SimTime>,
    kernel_us: Option<u64>,
    raw: String,
    header: String,
    caller: Option<String>,
    unreliable: Vec<String>,
    stack: Stack,
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
            header: line.text.clone(),
            caller: line.caller.clone(),
            unreliable: Vec::new(),
            stack: Stack::Own { marked: false },
            unrelated: 0,
        })
    }

    /// Who prints it, if the kernel tells.
    pub(super) fn caller(&self) -> Option<&str> {
        self.caller.as_deref()
    }

    /// The kernel's time of its first line.
    pub(super) const fn kernel_us(&self) -> Option<u64> {
        self.kernel_us
    }

    /// Its first line.
    pub(super) fn header(&self) -> &str {
        &self.header
    }

    /// When its first line was printed.
    pub(super) const fn at(&self) -> Option<SimTime> {
        self.at
    }

    /// The task, as far as it was read, and the kernel's own lines.
    pub(super) fn finish(mut self) -> (HungTask, String) {
        if self.task.frames.is_empty() {
            self.task.frames = self.unreliable;
        }
        (self.task, self.raw)
    }

    /// Whether more of it is to come: its stack, or the end of its stack.
    pub(super) fn expects_more(&self) -> bool {
        !self.has_frames() || self.stack != Stack::Own { marked: false }
    }

    /// Offers a line to the report.
    pub(super) fn take(&mut self, line: &Line) -> Taken {
        if line.text.is_empty() {
            return Taken::Other;
        }
        // What stands on the same console without the kernel's time is a program's; a frame may have lost its time.
        let by_program = self.kernel_us.is_some() && line.kernel_us.is_none();
        let taken = if by_program { self.take_frame(&line.text) } else { self.take_text(line) };
        match taken {
            Taken::Other if by_program || matches!(self.stack, Stack::Foreign { .. }) => taken,
            Taken::Other if self.unrelated >= MAX_UNRELATED => Taken::Over,
            Taken::Other => {
                self.unrelated += 1;
                taken
            }
            _ => {
                self.unrelated = 0;
                taken
            }
        }
    }

    fn take_text(&mut self, line: &Line) -> Taken {
        let text = line.text.as_str();
        if let Some(taken) = self.take_mark(text) {
            return taken;
        }
        if self.take_frame(text) == Taken::Mine {
            return Taken::Mine;
        }
        if parse_header(text).is_some() {
            return Taken::Over;
        }
        if OTHER_REPORTS.iter().any(|start| fits(start, text).is_some()) {
            return self.other_report(text);
        }
        if let Stack::Foreign { .. } = self.stack {
            return Taken::Other;
        }
        if let Some(taken) = self.take_task_line(line) {
            return taken;
        }
        let second_stack = text.to_ascii_lowercase().starts_with("call trace") && self.has_frames();
        match () {
            () if second_stack => Taken::Over,
            () if is_filler(text) => Taken::Mine,
            () => Taken::Other,
        }
    }

    /// `<TASK>` and `</TASK>` around the stack, which may be around another report's.
    fn take_mark(&mut self, text: &str) -> Option<Taken> {
        let (stack, taken) = match (text, self.stack) {
            ("<TASK>", Stack::Own { .. }) => (Stack::Own { marked: true }, Taken::Mine),
            ("<TASK>", Stack::Foreign { .. }) => (Stack::Foreign { marked: true }, Taken::Other),
            ("</TASK>", Stack::Foreign { marked: true }) => (Stack::Own { marked: true }, Taken::Other),
            ("</TASK>", stack) => (stack, Taken::Last),
            _ => return None,
        };
        self.stack = stack;
        Some(taken)
    }

    /// Another report begins. This one goes on behind it if its end is marked and was not seen.
    fn other_report(&mut self, text: &str) -> Taken {
        let goes_on = matches!(self.stack, Stack::Own { marked: true }) && !text.starts_with("Kernel panic");
        match self.stack {
            Stack::Own { .. } if goes_on => {
                self.stack = Stack::Foreign { marked: false };
                Taken::Other
            }
            Stack::Own { .. } => Taken::Over,
            Stack::Foreign { .. } => Taken::Other,
        }
    }

    fn take_frame(&mut self, text: &str) -> Taken {
        let Some(frame) = Frame::parse(text) else { return Taken::Other };
        if let Stack::Foreign { .. } = self.stack {
            return Taken::Other;
        }
        let frames = if frame.reliable { &mut self.task.frames } else { &mut self.unreliable };
        let is_known = frame.caller.is_some() && frames.last().is_some_and(|last| last == frame.name);
        let names = [Some(frame.name).filter(|_| !is_known), frame.caller].into_iter().flatten();
        for name in names.take(MAX_FRAMES.saturating_sub(frames.len())) {
            frames.push(name.to_owned());
        }
        Taken::Mine
    }

    fn has_frames(&self) -> bool {
        !self.task.frames.is_empty() || !self.unreliable.is_empty()
    }

    /// The line with the task's state; a second one is about another task.
    fn take_task_line(&mut self, line: &Line) -> Option<Taken> {
        let Some(other) = parse_task_line(&line.text) else {
            self.task.state = self.task.state.or_else(|| state_alone(&line.text, &self.task.task));
            return None;
        };
        if self.task.state.is_some() || other.pid != self.task.pid {
            return Some(Taken::Over);
        }
        self.task.state = other.state;
        self.raw.push('\n');
        self.raw.push_str(&line.raw);
        Some(Taken::Mine)
    }
}

/// `INFO: task fluentd:1234 blocked for more than 120 seconds.`, also `blocked in I/O wait for more than` and `can't die for more than`.
fn parse_header(text: &str) -> Option<HungTask> {
    let (who, rest) = text.strip_prefix("INFO: task ")?.split_once(" for more than ")?;
    let blocked =
        who.rsplit_once(" blocked").filter(|(_, how)| how.is_empty() || how.starts_with(' ')).map(|(who, _)| who);
    let who = blocked.or_else(|| who.strip_suffix(" can't die"))?;
    let (seconds, unit) = rest.split_once(' ')?;
    let (task, pid) = split_task(who.strip_suffix(" is").unwrap_or(who))?;
    let seconds = seconds.parse().ok().filter(|_| unit.trim_end_matches('.') == "seconds")?;
    Some(HungTask { task, pid, seconds: Some(seconds), state: None, frames: Vec::new() })
}

/// `kworker/0:1:123` is task `kworker/0:1`, number 123.
pub(super) fn split_task(text: &str) -> Option<(String, u32)> {
    let (task, pid) = text.rsplit_once(':')?;
    Some((task.to_owned(), pid.parse().ok()?))
}

/// The state in a task's line whose rest was printed behind another line: `task:fluentd         state:D`.
fn state_alone(text: &str, task: &str) -> Option<char> {
    let name = text.strip_prefix("task:").unwrap_or(text).strip_prefix(task)?;
    let state = name.trim_start().trim_start_matches("state:");
    let letter = state.chars().next().filter(|letter| "RSDTtXZPIKWx".contains(*letter))?;
    (state.len() == 1 && name.starts_with(' ')).then_some(letter)
}

/// The line that shows a task's state, in its new or its old form.
fn parse_task_line(text: &str) -> Option<HungTask> {
    let (task, state, pid) = parse_new_task_line(text).or_else(|| parse_old_task_line(text))?;
    Some(HungTask { task, pid, seconds: None, state: Some(state), frames: Vec::new() })
}

/// `task:fluentd state:D stack:0 pid:1234 ...` with or without blanks after the colons.
fn parse_new_task_line(text: &str) -> Option<(String, char, u32)> {
    let (task, rest) = text.strip_prefix("task:")?.split_once(" state:")?;
    let state = rest.chars().next().filter(char::is_ascii_alphabetic)?;
    let (_, rest) = rest.split_once(" pid:")?;
    let pid = rest.split_whitespace().next()?.parse().ok()?;
    Some((task.trim_end().to_owned(), state, pid))
}

/// `fluentd         D    0  1234      1 0x00000080`, with an address (or `running task`) after the state in older kernels.
fn parse_old_task_line(text: &str) -> Option<(String, char, u32)> {
    let (rest, flags) = text.trim_end().rsplit_once(' ')?;
    let (rest, _parent) = take_last_number(rest)?;
    let (rest, pid) = take_last_number(rest)?;
    let rest = take_last_number(rest).map_or_else(|| without_glued_number(rest), |(rest, _free)| Some(rest))?;
    let is_flags = flags.strip_prefix("0x").is_some_and(|hex| hex.len() == 8 && is_hex(hex));
    let mut rest = rest.trim_end();
    if let Some((before, last)) = rest.rsplit_once(' ')
        && [8, 16].contains(&last.len())
        && is_hex(last)
    {
        rest = before.trim_end();
    }
    rest = rest.strip_suffix("running task").or_else(|| rest.strip_suffix("running")).unwrap_or(rest).trim_end();
    let (name, state) = rest.rsplit_once(' ')?;
    let letter = state.chars().next().filter(|letter| state.len() == 1 && "RSDTtXZPIKWx?".contains(*letter))?;
    is_flags.then(|| (name.trim_end().to_owned(), letter, pid))
}

/// The stack's unused bytes stand right behind the state if they have five digits: `fluentd         D13576`.
fn without_glued_number(text: &str) -> Option<&str> {
    let rest = text.trim_end().trim_end_matches(|c: char| c.is_ascii_digit());
    rest.ends_with(|c: char| c.is_ascii_alphabetic()).then_some(rest)
}

fn take_last_number(text: &str) -> Option<(&str, u32)> {
    let (rest, number) = text.trim_end().rsplit_once(' ')?;
    Some((rest, number.parse().ok()?))
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether a line belongs to every report: registers, addresses on the stack, advice.
fn is_filler(text: &str) -> bool {
    let is_register = text.starts_with('R') && text.as_bytes().get(3) == Some(&b':') || text.starts_with("r7:");
    let is_dump = text.split(' ').next().is_some_and(|word| [8, 16].contains(&word.len()) && is_hex(word));
    is_register || is_dump || FILLERS.iter().any(|start| text.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_lines_of_all_kernels() {
        for (line, task, state, pid) in [
            ("fluentd         D    0  1234      1 0x00000080", "fluentd", 'D', 1234),
            ("fluentd         D13576  1234      1 0x00000080", "fluentd", 'D', 1234),
            ("fluentd         D ffff88003fd14778     0  1234      1 0x00000080", "fluentd", 'D', 1234),
            ("fluentd         D 8074f586     0  1234      1 0x00000080", "fluentd", 'D', 1234),
            ("two words       S 00000000  5504   200      2 0x00000000", "two words", 'S', 200),
            ("swapper/1       R  running task        0     0      1 0x00000000", "swapper/1", 'R', 0),
            ("task:fluentd         state:D stack:    0 pid: 1234 ppid:     1 flags:0x00000000", "fluentd", 'D', 1234),
            (
                "task:two words       state:D stack:0     pid:1234  tgid:1234  ppid:1      flags:0x00000002",
                "two words",
                'D',
                1234,
            ),
        ] {
            let found = parse_task_line(line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!((found.task.as_str(), found.state, found.pid), (task, Some(state), pid), "{line}");
        }
        assert_eq!(state_alone("task:fluentd         state:D", "fluentd"), Some('D'));
        assert_eq!(state_alone("fluentd         D", "fluentd"), Some('D'));
        assert_eq!(state_alone("fluentd Done", "fluentd"), None);
        for line in ["a D 1 2 3 4", "x 0x00000080", "", "fluentd D 0 1234 1", "a DD 0 1 1 0x00000080"] {
            assert_eq!(parse_task_line(line), None, "{line}");
        }
    }

    #[test]
    fn headers_of_all_kernels() {
        for (line, task, pid, seconds) in [
            ("INFO: task a b:12 blocked for more than 120 seconds.", "a b", 12, 120),
            ("INFO: task syz:x:12 can't die for more than 143 seconds.", "syz:x", 12, 143),
            ("INFO: task kworker/0:1H:12 blocked in I/O wait for more than 122 seconds.", "kworker/0:1H", 12, 122),
        ] {
            let found = parse_header(line).unwrap();
            assert_eq!((found.task.as_str(), found.pid, found.seconds), (task, pid, Some(seconds)));
        }
        for line in [
            "INFO: task a:1 is blocked on a mutex likely owned by task b:2.",
            "INFO: task a:1 blocked for more than ever.",
            "INFO: task a:1 blocked for more than 120 seconds. Or so.",
            "x INFO: task a:1 blocked for more than 120 seconds.",
        ] {
            assert_eq!(parse_header(line), None, "{line}");
        }
    }
}
