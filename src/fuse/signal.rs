//! Signals of single threads: one is interrupted by a signal that does nothing else, masks are changed.
//!
//! Must not know: why. Invariant: the holder of a [`Disposition`] is the only one in the process to use its signal, and
//! when it is dropped the signal is what it was: unused.

use std::io;
use std::mem::MaybeUninit;

/// A real-time signal that was unused, with a handler that does nothing.
#[derive(Debug)]
pub(super) struct Disposition {
    signal: libc::c_int,
    former: libc::sigaction,
}

impl Disposition {
    /// Takes the highest real-time signal that has its default disposition.
    ///
    /// Two threads may do this at the same time: the exchange is atomic, and a thread that finds another's handler puts it back.
    pub(super) fn of_an_unused_signal() -> io::Result<Self> {
        for signal in (libc::SIGRTMIN()..=libc::SIGRTMAX()).rev() {
            let former = exchange(signal, &do_nothing())?;
            if former.sa_sigaction == libc::SIG_DFL {
                return Ok(Self { signal, former });
            }
            exchange(signal, &former)?;
        }
        Err(io::Error::other("no real-time signal is unused"))
    }

    /// The signal.
    pub(super) const fn number(&self) -> libc::c_int {
        self.signal
    }
}

impl Drop for Disposition {
    fn drop(&mut self) {
        let _cannot_fail_for_a_valid_signal = exchange(self.signal, &self.former);
    }
}

/// Lets signals through to this thread and those it starts, whatever mask it inherited.
pub fn unblock() {
    // SAFETY: an all-zero `sigset_t` is a valid set, and `sigfillset` and `pthread_sigmask` get pointers to it.
    unsafe {
        let mut all = MaybeUninit::<libc::sigset_t>::zeroed();
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_UNBLOCK, all.as_ptr(), std::ptr::null_mut());
    }
}

/// For this thread and those it starts a file size limit is an error of the write (`EFBIG`), and not a signal that kills
/// the process.
pub fn block_file_size_signal() {
    // SAFETY: an all-zero `sigset_t` is a valid set, and `sigaddset` and `pthread_sigmask` get pointers to it.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGXFSZ);
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
    }
}

/// Sends `signal` to the thread `tid` of this process.
pub(super) fn interrupt_thread(tid: u32, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: `tgkill` takes three integers; it fails if there is no such thread.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), tid, signal) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

extern "C" fn nothing(_signal: libc::c_int) {}

fn do_nothing() -> libc::sigaction {
    // SAFETY: `sigaction` is plain data for which all-zero is valid: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
    action
}

fn exchange(signal: libc::c_int, action: &libc::sigaction) -> io::Result<libc::sigaction> {
    let mut former = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: both pointers are valid; the handler is either one that was installed before or does nothing.
    let result = unsafe { libc::sigaction(signal, action, former.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed is a valid value, and on success the kernel has written the former one.
    Ok(unsafe { former.assume_init() })
}
