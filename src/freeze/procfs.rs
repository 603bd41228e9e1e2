//! What `/proc` says of processes and their threads.
//!
//! Must not know: what is frozen. Invariant: a process that is gone is no error, it is simply not there.

use std::fs;
use std::path::Path;

use super::freeze_set::StuckThread;

/// A process or thread, from its `stat` file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) pid: i32,
    pub(super) state: u8,
    pub(super) parent: i32,
    pub(super) flags: u64,
    /// Clock ticks since boot.
    pub(super) start: u64,
}

/// `PF_KTHREAD` of the kernel's task flags.
const KERNEL_THREAD: u64 = 0x0020_0000;

impl Stat {
    pub(super) fn is_kernel_thread(&self) -> bool {
        self.flags & KERNEL_THREAD != 0
    }
    /// Dead or about to be.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// The fields behind the command name, which may itself contain spaces and brackets. The first is the third of proc(5).
fn fields(stat: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    Some(stat.get(end + 2..)?.split(|byte| *byte == b' '))
}

fn number<T: std::str::FromStr>(field: Option<&[u8]>) -> Option<T> {
    str::from_utf8(field?).ok()?.parse().ok()
}

/// The start time in a `stat` file's text. Allocates nothing.
pub(super) fn start_time(stat: &[u8]) -> Option<u64> {
    number(fields(stat)?.nth(22 - 3))
}

fn parse_stat(stat: &[u8]) -> Option<Stat> {
    let pid = number(stat.split(|byte| *byte == b' ').next())?;
    let mut fields = fields(stat)?;
    let state = *fields.next()?.first()?;
    let parent = number(fields.next())?;
    let flags = number(fields.nth(9 - 5))?;
    let start = start_time(stat)?;
    Some(Stat { pid, state, parent, flags, start })
}

/// A process or thread.
pub(super) fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The numbers that name the entries of a directory.
fn numbers(directory: impl AsRef<Path>) -> Vec<i32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// All processes.
pub(super) fn processes() -> Vec<Stat> {
    numbers("/proc").into_iter().filter_map(stat).collect()
}

/// A process's threads, its first one among them.
pub(super) fn threads(pid: i32) -> Vec<i32> {
    numbers(format!("/proc/{pid}/task"))
}

/// A thread's state and how often it was on and off a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SchedSample {
    tid: i32,
    state: u8,
    switches: u64,
}

fn parse_status(tid: i32, status: &str) -> Option<SchedSample> {
    let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let switches = |key| value(key)?.parse::<u64>().ok();
    let state = *value("State:")?.as_bytes().first()?;
    let switches = switches("voluntary_ctxt_switches:")?.wrapping_add(switches("nonvoluntary_ctxt_switches:")?);
    Some(SchedSample { tid, state, switches })
}

/// Tells when threads that were asked to stop, and did not acknowledge it, have come to rest in the kernel.
///
/// A thread in an uninterruptible wait (say, for the reply that a stun holds back) cannot stop, but cannot get back to its
/// program either: the kernel stops it on its way out.
#[derive(Debug, Default)]
pub(super) struct Rest {
    last: Vec<SchedSample>,
    same: u32,
}

/// So many looks in a row must be the same.
const LOOKS: u32 = 4;

impl Rest {
    /// Looks at the threads; the waiting ones, once none of them has moved for [`LOOKS`] looks, each is in one of the
    /// states `resting`, and at least one is in an uninterruptible wait.
    pub(super) fn look(&mut self, tids: &[i32], resting: &[u8]) -> Option<Vec<StuckThread>> {
        let read = |tid: &i32| parse_status(*tid, &fs::read_to_string(format!("/proc/{tid}/status")).ok()?);
        let now: Vec<_> = tids.iter().filter_map(read).collect();
        let quiet = now.iter().all(|look| resting.contains(&look.state)) && now == self.last;
        self.same = if quiet { self.same + 1 } else { 0 };
        self.last = now;
        let waiting: Vec<_> =
            self.last.iter().filter(|look| look.state == b'D').map(|look| waiting(look.tid)).collect();
        (self.same >= LOOKS && !waiting.is_empty()).then_some(waiting)
    }
}

/// Who it is and where in the kernel it waits, as far as this process may know.
pub(super) fn waiting(tid: i32) -> StuckThread {
    let text = |file: &str| fs::read_to_string(format!("/proc/{tid}/{file}")).unwrap_or_default().trim().to_owned();
    let place = Some(text("wchan")).filter(|place| !matches!(place.as_str(), "" | "0"));
    StuckThread { tid, comm: text("comm"), place }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &[u8] =
        b"4242 (a) b (c)) D 7 4242 4242 0 -1 4194560 102 0 0 0 1 2 0 0 20 0 1 0 987654 2600960 169 18446744\n";

    #[test]
    fn a_stat_line_with_brackets_in_its_name_is_read() {
        let stat = parse_stat(STAT).unwrap();
        assert_eq!(stat, Stat { pid: 4242, state: b'D', parent: 7, flags: 4_194_560, start: 987_654 });
        assert!(!stat.is_kernel_thread() && !stat.is_over());
    }

    #[test]
    fn any_beginning_of_a_stat_line_is_no_panic() {
        for end in 0..STAT.len() {
            let _ = parse_stat(&STAT[..end]);
        }
    }

    #[test]
    fn this_process_is_found() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert_eq!(stat(me).map(|stat| stat.pid), Some(me));
        assert!(processes().iter().any(|stat| stat.pid == me));
        assert!(threads(me).contains(&me));
        assert!(stat(2).is_none_or(|kthreadd| kthreadd.parent != 0 || kthreadd.is_kernel_thread()));
    }

    #[test]
    fn a_status_file_is_read() {
        let status = "Name:\tx\nState:\tD (disk sleep)\nvoluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t2\n";
        assert_eq!(parse_status(9, status), Some(SchedSample { tid: 9, state: b'D', switches: 7 }));
        assert_eq!(parse_status(9, "State:\t"), None);
    }
}
