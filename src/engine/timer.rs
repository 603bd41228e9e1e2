//! The threads: one timer that takes out of the model what is due, a few that complete it, and workers for what takes long.

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::EngineShared;
use super::hold;
use crate::time::{SimTime, wait_until};

/// Completion threads. Held work is one `pwrite` and one reply; two keep both cores of a small machine busy.
const COMPLETION_THREADS: usize = 2;

/// Workers mostly wait for the backing's disk, which likes several flushes at once.
const WORKERS: usize = 8;

/// How long the threads may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(10);

pub(super) fn start(
    shared: &Arc<EngineShared>,
    on_thread_start: fn(),
    on_worker_start: fn(),
) -> std::io::Result<Vec<JoinHandle<()>>> {
    let mut threads = Vec::with_capacity(COMPLETION_THREADS + WORKERS + 1);
    for n in 0..COMPLETION_THREADS {
        let shared = Arc::clone(shared);
        let name = format!("stunfs-done-{n}");
        threads.push(Builder::new().name(name).spawn(move || {
            on_thread_start();
            while let Some(job) = shared.jobs.pop() {
                hold::run(&shared, job);
            }
        })?);
    }
    for n in 0..WORKERS {
        let shared = Arc::clone(shared);
        threads.push(Builder::new().name(format!("stunfs-work-{n}")).spawn(move || {
            on_worker_start();
            while let Some(job) = shared.long.pop() {
                hold::run_long(&shared, job);
            }
        })?);
    }
    let timer = Arc::clone(shared);
    let thread = Builder::new().name("stunfs-timer".into()).spawn(move || {
        on_thread_start();
        run_timer(&timer);
    })?;
    shared.core().timer = Some(thread.thread().clone());
    // A deadline may have been set before the timer could be woken.
    thread.thread().unpark();
    threads.push(thread);
    Ok(threads)
}

fn run_timer(shared: &EngineShared) {
    let mut releases = Vec::new();
    loop {
        let mut core = shared.core();
        if core.stopping {
            return;
        }
        let now = shared.clock.now();
        core.model.handle_timeout(now, &mut releases);
        let next = core.model.poll_timeout();
        core.alarm = next.unwrap_or(SimTime::MAX);
        shared.settle(core, std::mem::take(&mut releases), None);
        match next {
            None => std::thread::park(),
            Some(at) => sleep_until(shared, at),
        }
    }
}

/// Parks until `at` or until somebody sets an earlier alarm.
fn sleep_until(shared: &EngineShared, at: SimTime) {
    let left = at.since(shared.clock.now());
    if left > Duration::ZERO {
        std::thread::park_timeout(left);
    }
}

/// Ends the threads. What is still in the queue of released operations is completed first; a thread that stands still in
/// the backing is left behind after [`STOP_LIMIT`].
pub(super) fn stop(shared: &EngineShared) {
    {
        let mut core = shared.core();
        core.stopping = true;
        if let Some(timer) = core.timer.take() {
            timer.unpark();
        }
    }
    shared.jobs.close();
    shared.long.close();
    let own = std::thread::current().id();
    let threads = std::mem::take(&mut *shared.threads.lock());
    let ended = || threads.iter().all(|thread| thread.is_finished() || thread.thread().id() == own);
    if !wait_until(STOP_LIMIT, Duration::from_millis(1), ended) {
        tracing::error!("an operation hangs in the backing; its thread is left behind");
    }
}
