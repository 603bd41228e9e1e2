//! Processes and threads: `/proc/PID/stat`, `status`, `comm` and `wchan`, parsed.
//!
//! Must not know: why a process is looked at. Invariant: only files are read that never wait for the task's own locks (so
//! not `cmdline`, `environ` or `maps`); a process that is gone is no error, it is `None`.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, read as read_fd};
use rustix::path::DecInt;
use rustix::process::Pid;

/// The directory in which the kernel shows its processes.
pub(crate) const PROC: &str = "/proc";

/// `PF_KTHREAD` of the kernel's task flags.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// A process or thread, from its `stat` file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TaskStat {
    /// The number of the process or thread.
    pub(crate) pid: i32,
    /// The state's letter, as in proc(5).
    pub(crate) state: u8,
    /// The process that started it.
    pub(crate) parent: i32,
    /// The process group: the number of its leader, which may have ended.
    pub(crate) group: i32,
    /// The kernel's task flags.
    pub(crate) flags: u64,
    /// Clock ticks from boot to its start.
    pub(crate) start: u64,
}

impl TaskStat {
    /// Parses the text of a `stat` file. Allocates nothing.
    pub(crate) fn parse(stat: &[u8]) -> Option<Self> {
        let pid = number(stat.split(|byte| *byte == b' ').next()?)?;
        let mut fields = fields(stat)?;
        let state = *fields.next()?.first()?;
        let parent = number(fields.next()?)?;
        let group = number(fields.next()?)?;
        let flags = number(fields.nth(9 - 6)?)?;
        let start = number(fields.nth(22 - 10)?)?;
        Some(Self { pid, state, parent, group, flags, start })
    }

    /// Reads a process or thread of this machine.
    pub(crate) fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read(format!("{PROC}/{pid}/stat")).ok()?)
    }

    /// Reads a process with system calls only: allocates nothing, so that it may run in a process forked from one with
    /// threads.
    ///
    /// # Errors
    /// `SRCH` if there is no such process, else the system call's error.
    pub(crate) fn read_raw(pid: Pid) -> Result<Self, Errno> {
        let proc = openat(CWD, c"/proc", OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let directory = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        let process = openat(&proc, DecInt::new(pid.as_raw_pid()), directory, Mode::empty());
        let process = process.map_err(|error| if error == Errno::NOENT { Errno::SRCH } else { error })?;
        let file = openat(&process, c"stat", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut text = [0; 1024];
        let length = read_fd(&file, &mut text)?;
        text.get(..length).and_then(Self::parse).ok_or(Errno::SRCH)
    }

    /// Whether it is a thread of the kernel.
    pub(crate) fn is_kernel_thread(&self) -> bool {
        self.flags & KERNEL_THREAD != 0
    }

    /// Whether it is dead or about to be.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// Whether job control or a debugger has stopped it.
    pub(crate) fn is_stopped(&self) -> bool {
        matches!(self.state, b'T' | b't')
    }
}

/// The fields behind the command name, which may itself contain spaces and parentheses. The first is the third of proc(5).
fn fields(stat: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    Some(stat.get(end + 2..)?.split(|byte| *byte == b' '))
}

fn number<T: FromStr>(field: &[u8]) -> Option<T> {
    str::from_utf8(field).ok()?.parse().ok()
}

/// The state's letter and the command name in the text of a `stat` file.
pub(crate) fn name_and_state(stat: &[u8]) -> Option<(String, char)> {
    let (open, close) = (stat.iter().position(|byte| *byte == b'(')?, stat.iter().rposition(|byte| *byte == b')')?);
    let name = stat.get(open + 1..close)?;
    let state = *fields(stat)?.next()?.first()?;
    Some((String::from_utf8_lossy(name).into_owned(), char::from(state)))
}

/// The state's letter in the text of a `stat` file. Allocates nothing.
pub(crate) fn state_in(stat: &[u8]) -> Option<char> {
    Some(char::from(*fields(stat)?.next()?.first()?))
}

/// The state's letter in the text of a `stat` file, and how many threads the process has. Allocates nothing.
pub(crate) fn state_and_threads(stat: &[u8]) -> Option<(char, u32)> {
    let mut fields = fields(stat)?;
    let state = *fields.next()?.first()?;
    Some((char::from(state), number(fields.nth(20 - 4)?)?))
}

/// A `status` file: lines of the form `Key:\tvalue`.
#[derive(Debug)]
pub struct TaskStatus(String);

impl TaskStatus {
    /// Reads a process or thread of this machine.
    pub(crate) fn read(pid: i32) -> Option<Self> {
        Self::read_file(&task_file(pid, "status"))
    }

    /// Reads this process.
    pub fn of_this_process() -> Option<Self> {
        Self::read_file(Path::new("/proc/self/status"))
    }

    fn read_file(file: &Path) -> Option<Self> {
        // A command name need not be UTF-8.
        Some(Self(String::from_utf8_lossy(&fs::read(file).ok()?).into_owned()))
    }

    /// The value of a key, without white space around it.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        let rest = self.0.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        Some(rest.trim())
    }

    /// The value of a key that is a mask in hexadecimal: `SigIgn`, `CapEff`.
    pub fn mask(&self, key: &str) -> Option<u64> {
        u64::from_str_radix(self.value(key)?, 16).ok()
    }

    /// The supplementary groups.
    pub(crate) fn groups(&self) -> Vec<u32> {
        let groups = self.value("Groups").unwrap_or_default();
        groups.split_whitespace().filter_map(|group| group.parse().ok()).collect()
    }

    /// The user that counts for file systems: the fourth of a thread's users.
    pub(crate) fn file_system_user(&self) -> Option<u32> {
        self.value("Uid")?.split_whitespace().nth(3)?.parse().ok()
    }

    /// The state's letter, and how often the thread was taken off a processor.
    pub(crate) fn state_and_switches(&self) -> Option<(u8, u64)> {
        let count = |key| self.value(key)?.parse::<u64>().ok();
        let state = *self.value("State")?.as_bytes().first()?;
        Some((state, count("voluntary_ctxt_switches")?.wrapping_add(count("nonvoluntary_ctxt_switches")?)))
    }
}

fn task_file(pid: i32, file: &str) -> PathBuf {
    PathBuf::from(format!("{PROC}/{pid}/{file}"))
}

fn line(file: &Path) -> String {
    let text = fs::read(file).unwrap_or_default();
    String::from_utf8_lossy(&text).trim_end_matches('\n').to_owned()
}

/// The command name of a process or thread; empty if there is none.
pub(crate) fn command_name(pid: i32) -> String {
    line(&task_file(pid, "comm"))
}

/// The kernel function that the thread in this directory (`/proc/PID/task/TID`) waits in, if the kernel tells.
pub(crate) fn wait_channel_in(task: &Path) -> Option<String> {
    Some(line(&task.join("wchan"))).filter(|name| !matches!(name.as_str(), "" | "0"))
}

/// The kernel function that a thread waits in, if the kernel tells.
pub(crate) fn wait_channel(tid: i32) -> Option<String> {
    wait_channel_in(Path::new(&format!("{PROC}/{tid}")))
}

/// The entries of a directory whose names are numbers, in order.
pub(crate) fn numbered_entries<N: FromStr + Ord>(directory: &Path) -> Vec<(N, PathBuf)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<_> =
        entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))).collect();
    found.sort_unstable();
    found
}

/// The numbers of all processes.
pub(crate) fn pids() -> Vec<i32> {
    numbered_entries(Path::new(PROC)).into_iter().map(|(pid, _)| pid).collect()
}

/// All processes.
pub(crate) fn processes() -> Vec<TaskStat> {
    pids().into_iter().filter_map(TaskStat::read).collect()
}

/// A process's threads, its first one among them.
pub(crate) fn threads(pid: i32) -> Vec<i32> {
    numbered_entries(&task_file(pid, "task")).into_iter().map(|(tid, _)| tid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &[u8] =
        b"4242 (a) b (c)) D 7 4242 4242 0 -1 4194560 102 0 0 0 1 2 0 0 20 0 1 0 987654 2600960 169 18446744\n";

    #[test]
    fn a_stat_line_with_parentheses_and_spaces_in_its_name_is_read() {
        let stat = TaskStat::parse(STAT).unwrap();
        assert_eq!(stat, TaskStat { pid: 4242, state: b'D', parent: 7, group: 4242, flags: 4_194_560, start: 987_654 });
        assert!(!stat.is_kernel_thread() && !stat.is_over() && !stat.is_stopped());
        assert_eq!(name_and_state(STAT), Some(("a) b (c)".to_owned(), 'D')));
        assert_eq!(state_and_threads(STAT), Some(('D', 1)));
        assert_eq!(state_and_threads(b"1 (a) S 0 1 2"), None);
    }

    #[test]
    fn a_name_need_not_be_utf8_nor_have_a_letter() {
        assert_eq!(name_and_state(b"1 (\xff\n) S 0"), Some(("\u{fffd}\n".to_owned(), 'S')));
        assert_eq!(name_and_state(b"1 () S 0"), Some((String::new(), 'S')));
        assert_eq!(name_and_state(b"1 )( S 0"), None);
    }

    #[test]
    fn any_beginning_of_a_stat_line_is_no_panic() {
        for end in 0..STAT.len() {
            let _ = (TaskStat::parse(&STAT[..end]), name_and_state(&STAT[..end]));
        }
    }

    #[test]
    fn this_process_is_found() {
        let me = i32::try_from(std::process::id()).unwrap();
        let found = TaskStat::read(me).unwrap();
        assert_eq!(found.pid, me);
        assert_eq!(TaskStat::read_raw(Pid::from_raw(me).unwrap()).map(|raw| raw.start), Ok(found.start));
        assert!(processes().iter().any(|stat| stat.pid == me));
        assert!(threads(me).contains(&me));
        assert!(!command_name(me).is_empty());
        assert!(TaskStat::read(2).is_none_or(|kthreadd| kthreadd.parent != 0 || kthreadd.is_kernel_thread()));
    }

    #[test]
    fn a_process_that_is_gone_is_none() {
        assert_eq!(TaskStat::read(i32::MAX), None);
        assert_eq!(TaskStat::read_raw(Pid::from_raw(i32::MAX).unwrap()), Err(Errno::SRCH));
        assert!(TaskStatus::read(i32::MAX).is_none());
        assert_eq!((command_name(i32::MAX), wait_channel(i32::MAX), threads(i32::MAX)), (String::new(), None, vec![]));
    }

    #[test]
    fn a_status_file_is_read_by_key() {
        let text = "Name:\tx\nState:\tD (disk sleep)\nGroups:\t4 27 \nSigIgn:\t0000000000001000\n\
                    voluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t2\n";
        let status = TaskStatus(text.to_owned());
        assert_eq!(status.state_and_switches(), Some((b'D', 7)));
        assert_eq!((status.groups(), status.mask("SigIgn"), status.value("Sig")), (vec![4, 27], Some(0x1000), None));
        let empty = TaskStatus("State:\t".to_owned());
        assert_eq!((empty.state_and_switches(), empty.groups()), (None, vec![]));
        assert!(TaskStatus::of_this_process().unwrap().value("Name").is_some());
    }
}
