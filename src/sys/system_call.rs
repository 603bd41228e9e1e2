//! Which system call a thread waits in.
//!
//! Must not know: why it is asked. Invariant: of a thread that runs, or may not be looked at, nothing is said.

use std::fs;
use std::time::Duration;

use super::process::PROC;
use crate::time::{Deadline, pause};

/// How long a thread that is still about to go to sleep is looked at. On an idle machine it takes microseconds.
const MOST_LOOKED_AT: Duration = Duration::from_millis(200);
/// So many looks come one after the other; then there are pauses between them, so that a caller who gets no processor costs
/// next to none.
const LOOKS_AT_ONCE: u32 = 16;
const FIRST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(2);

/// System calls that a thread may be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SystemCall {
    /// A change of owner or group.
    Chown,
    /// The removal of an extended attribute.
    RemoveXattr,
}

impl SystemCall {
    /// Their numbers, those of the architecture's 32-bit programs included. A number may mean two calls, but hardly two
    /// of those that look alike to a file system.
    const fn numbers(self) -> &'static [u64] {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Chown => &[92, 93, 94, 260, 16, 95, 182, 198, 207, 212, 298],
            #[cfg(target_arch = "x86_64")]
            Self::RemoveXattr => &[197, 198, 199, 466, 235, 236, 237],
            #[cfg(any(target_arch = "aarch64", target_arch = "riscv64"))]
            Self::Chown => &[54, 55, 16, 95, 182, 198, 207, 212, 325],
            #[cfg(any(target_arch = "aarch64", target_arch = "riscv64"))]
            Self::RemoveXattr => &[14, 15, 16, 466, 235, 236, 237],
            #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
            _ => &[],
        }
    }

    /// Whether the thread `tid` waits in one of them; `None`: nobody can tell. Takes `CAP_SYS_PTRACE`, for others' threads.
    pub(crate) fn is_waited_in_by(self, tid: u32) -> Option<bool> {
        let numbers = self.numbers();
        if numbers.is_empty() {
            return None;
        }
        Some(numbers.contains(&number_of(tid)?))
    }
}

fn number_of(tid: u32) -> Option<u64> {
    let deadline = Deadline::after(MOST_LOOKED_AT);
    let (mut looks, mut wait) = (0, FIRST_PAUSE);
    loop {
        looks += 1;
        match parse(&fs::read_to_string(format!("{PROC}/{tid}/syscall")).ok()?) {
            CallState::Number(number) => return Some(number),
            CallState::Nothing => return None,
            // It has asked, and is on its way to sleep.
            CallState::Running if deadline.passed() => return None,
            CallState::Running if looks < LOOKS_AT_ONCE => std::thread::yield_now(),
            CallState::Running => {
                pause(wait);
                wait = (wait * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum CallState {
    Running,
    Nothing,
    Number(u64),
}

/// `NUMBER ARGUMENTS ...`, `-1 ...` outside of a call, or `running`.
fn parse(text: &str) -> CallState {
    /// Set in the numbers of the x32 interface.
    const X32: u64 = 0x4000_0000;
    match text.split_whitespace().next() {
        Some("running") => CallState::Running,
        Some(number) => number.parse().map_or(CallState::Nothing, |number: u64| CallState::Number(number & !X32)),
        None => CallState::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_is_read() {
        assert_eq!(parse("260 0xffffff9c 0x7f 0x7f"), CallState::Number(260));
        assert_eq!(parse("1073741916 0x1"), CallState::Number(92));
        assert_eq!(parse("running\n"), CallState::Running);
        for nothing in ["-1 0x7ffd 0x7fe7\n", "", "\n", "x"] {
            assert_eq!(parse(nothing), CallState::Nothing);
        }
    }

    #[test]
    fn this_thread_waits_in_neither_of_them_and_a_thread_that_is_gone_in_nothing() {
        let own = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
        for call in [SystemCall::Chown, SystemCall::RemoveXattr] {
            assert_ne!(call.is_waited_in_by(own), Some(true));
            assert_eq!(call.is_waited_in_by(u32::MAX), None);
        }
    }
}
