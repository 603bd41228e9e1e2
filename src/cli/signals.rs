//! Signals: some end a volume and become calls on a thread of their own, the others do nothing.
//!
//! Must not know: what a call does. Invariant: from [`Signals::catch`] on no signal but SIGKILL and those of a program's own
//! faults kills the process; what arrives before [`Signals::serve`] is delivered then.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use anyhow::Context;
use signal_hook::consts::{
    SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ,
};
use signal_hook::iterator::{Handle, Signals as Caught};
use stunfs::internal::sys::process::TaskStatus;

/// Limits of the shell or supervisor that started this process: what meets them is told by an error.
const LIMITS: [i32; 2] = [SIGXFSZ, SIGXCPU];

/// By default these kill. Held writes must not be lost to one that was meant for another process.
const WITHOUT_MEANING: [i32; 8] = [SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGSTKFLT, SIGPWR];
const SIGSTKFLT: i32 = 16;
const SIGPWR: i32 = 30;

/// The real-time signals, except the last, which the mount uses for a moment. (The C library keeps those below for itself.)
const REAL_TIME: RangeInclusive<i32> = if cfg!(target_env = "musl") { 35..=63 } else { 34..=63 };

/// The signals are caught; no thread serves them yet.
#[derive(Debug)]
pub(crate) struct Signals {
    caught: Caught,
}

/// Serves signals until it is dropped.
#[derive(Debug)]
pub(crate) struct Serving {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Signals {
    /// Catches SIGTERM, SIGINT and, unless they are ignored (nohup, background jobs), SIGHUP and SIGQUIT. Those without a
    /// meaning here do nothing.
    pub(crate) fn catch() -> anyhow::Result<Self> {
        let mut signals = vec![SIGTERM, SIGINT];
        signals.extend([SIGHUP, SIGQUIT].into_iter().filter(|signal| !is_ignored(*signal)));
        WITHOUT_MEANING.into_iter().chain(REAL_TIME).try_for_each(do_nothing_on)?;
        let caught = Caught::new(signals).context("cannot catch signals")?;
        Ok(Self { caught })
    }

    /// Calls `on_signal` with the signal's number and how often it has come, this time included.
    pub(crate) fn serve(self, mut on_signal: impl FnMut(i32, u32) + Send + 'static) -> anyhow::Result<Serving> {
        let mut caught = self.caught;
        let handle = caught.handle();
        let body = move || {
            let mut seen = std::collections::HashMap::new();
            for signal in &mut caught {
                let times = seen.entry(signal).and_modify(|times| *times += 1).or_insert(1);
                on_signal(signal, *times);
            }
        };
        let thread =
            std::thread::Builder::new().name("signals".to_owned()).spawn(body).context("cannot start a thread")?;
        Ok(Serving { handle, thread: Some(thread) })
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // A panic in the callback has been reported already.
            let _ = thread.join();
        }
    }
}

/// Signals as this program needs them, whatever its parent blocked or ignored. To be called before any thread is started.
pub(crate) fn start_afresh() -> anyhow::Result<()> {
    stunfs::internal::fuse::unblock_signals();
    // Where it is ignored, the kernel reaps children itself and their exit codes are lost.
    do_nothing_on(SIGCHLD)?;
    LIMITS.into_iter().try_for_each(do_nothing_on)
}

/// A handler that does nothing, and not "ignore", which programs that this one starts would inherit.
fn do_nothing_on(signal: i32) -> anyhow::Result<()> {
    let unread = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal, unread).map(|_| ()).context("cannot catch signals")
}

/// Whether this process was started with `signal` ignored.
fn is_ignored(signal: i32) -> bool {
    let mask = TaskStatus::of_this_process().and_then(|status| status.mask("SigIgn")).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}
