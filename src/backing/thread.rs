//! What belongs to one thread: its umask, its timers' slack, its priority.
//!
//! Must not know: what the thread is for. Invariant: nothing here changes another thread, save where it says so.

use std::cell::Cell;

use rustix::fs::Mode;
use rustix::thread::UnshareFlags;

use super::Result;
use super::object::last_error;

/// What is known of this thread's umask.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Umask {
    /// It is the process's still.
    Shared,
    /// The thread has its own, with this value.
    Own(u32),
    /// The system does not let the thread have its own.
    Denied,
}

thread_local! {
    static UMASK: Cell<Umask> = const { Cell::new(Umask::Shared) };
}

/// Makes `umask` the one that the backing applies to what this thread creates, so that a directory's default ACL can
/// take its place, and gives the mode to create with: `mode` itself, or, if the thread cannot have a umask of its own,
/// `mode` without the bits of `umask`.
///
/// Costs a system call only when the umask differs from the last one on this thread.
pub fn masked_by_thread(mode: u32, umask: u32) -> u32 {
    let umask = umask & 0o777;
    if UMASK.get() == Umask::Own(umask) {
        return mode;
    }
    if UMASK.get() == Umask::Shared {
        UMASK.set(if unshare_fs().is_ok() { Umask::Own(u32::MAX) } else { Umask::Denied });
    }
    if UMASK.get() == Umask::Denied {
        return mode & !umask;
    }
    rustix::process::umask(Mode::from_raw_mode(umask));
    UMASK.set(Umask::Own(umask));
    mode
}

/// Gives this thread its own umask and working directory.
pub fn unshare_fs() -> Result<()> {
    // SAFETY: only the umask, the root and the working directory stop being shared; descriptors stay shared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }
}

/// Makes this thread run when it is due: its timers fire at once instead of up to 50 us late, and it goes before ordinary
/// threads, as a disk's completion interrupt does: in the real-time class where that is allowed (`SCHED_RR`, priority 1:
/// it needs `CAP_SYS_NICE`), else with a nice value of -10, else with what it has.
///
/// A nice value alone is a share of the processor: beside 10,000 writers that have just been woken it is a small one.
pub fn favour_this_thread() -> Favour {
    let _ = timer_slack_1ns();
    if real_time().is_ok() {
        Favour::RealTime
    } else if set_nice(-10).is_ok() {
        Favour::Nice
    } else {
        Favour::None
    }
}

/// How far a thread goes before ordinary ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Favour {
    /// It runs when it is due.
    RealTime,
    /// It gets a larger share of the processor.
    Nice,
    /// Not at all.
    None,
}

fn real_time() -> Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    // Whatever this thread starts is an ordinary thread again.
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: `parameters` lives through the call, which only reads it; on Linux, 0 is the calling thread.
    let done = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    if done == 0 { Ok(()) } else { Err(last_error()) }
}

fn timer_slack_1ns() -> Result<()> {
    // SAFETY: changes an attribute of the calling thread; no memory is involved.
    let done = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64, 0_u64, 0_u64, 0_u64) };
    if done == 0 { Ok(()) } else { Err(last_error()) }
}

/// Sets this thread's priority, from -20 (first) to 19 (last).
pub fn set_nice(nice: i32) -> Result<()> {
    // On Linux, "process 0" is the calling thread.
    // SAFETY: changes an attribute of the calling thread; no memory is involved.
    let done = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    if done == 0 { Ok(()) } else { Err(last_error()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn each_thread_has_its_own_umask() {
        let dir = tempfile::tempdir().unwrap();
        let mode_under = |umask: u32| {
            let path = dir.path().join(format!("{umask:o}"));
            let mode = masked_by_thread(0o666, umask);
            let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
            rustix::fs::open(&path, flags, Mode::from_raw_mode(mode)).unwrap();
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777
        };
        std::thread::scope(|scope| {
            for umask in [0o000, 0o022, 0o077, 0o027] {
                scope.spawn(move || (0..3).for_each(|_| assert_eq!(mode_under(umask), 0o666 & !umask)));
            }
        });
    }

    #[test]
    fn slack_and_priority_are_those_of_one_thread() {
        std::thread::spawn(|| set_nice(19).unwrap()).join().unwrap();
        let class_and_slack = || {
            // SAFETY: both calls only read the scheduling of this thread.
            let (nice, policy) = unsafe { (libc::getpriority(libc::PRIO_PROCESS, 0), libc::sched_getscheduler(0)) };
            (nice, policy & !libc::SCHED_RESET_ON_FORK, rustix::thread::current_timer_slack().unwrap())
        };
        let before = class_and_slack();
        let favoured = std::thread::spawn(move || (favour_this_thread(), class_and_slack()));
        let (favour, (nice, policy, slack)) = favoured.join().unwrap();
        assert!(slack <= 1, "the real-time class has none: {slack}");
        match favour {
            Favour::RealTime => assert_eq!(policy, libc::SCHED_RR),
            Favour::Nice => assert_eq!(nice, -10),
            Favour::None => assert_eq!((nice, policy), (before.0, before.1)),
        }
        assert_eq!(class_and_slack(), before, "other threads keep theirs");
    }
}
