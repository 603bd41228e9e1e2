//! Signals that end a volume, turned into calls on a thread of their own.
//!
//! Must not know: what a call does. Invariant: from [`Signals::catch`] on no such signal kills the process; what arrives
//! before [`Signals::serve`] is delivered then.

use std::thread::JoinHandle;

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals as Caught};
use stunfs::internal::sys::process::TaskStatus;

/// Signals that are caught and not yet served.
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
    /// Catches SIGTERM, SIGINT and, unless it is ignored (nohup), SIGHUP.
    pub(crate) fn catch() -> anyhow::Result<Self> {
        let mut signals = vec![SIGTERM, SIGINT];
        if !is_ignored(SIGHUP) {
            signals.push(SIGHUP);
        }
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

/// Whether this process was started with `signal` ignored.
fn is_ignored(signal: i32) -> bool {
    let mask = TaskStatus::of_this_process().and_then(|status| status.mask("SigIgn")).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}
