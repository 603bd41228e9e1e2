//! Runs a workload's threads, tells how far they are, and ends in time.
//!
//! Must not know: what a thread writes. Invariant: this thread never touches the file system, so it cannot hang.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::appender::Appender;
use super::measure::Meter;
use super::reader::Reader;
use super::report::{ReportedThread, WorkloadProgress, WorkloadReport, progress, report};
use super::schedule::Schedule;
use super::verify::{Verified, verify};
use super::{WorkloadOptions, WriterKind};
use crate::time::{Clock, Deadline, SimTime, pause};

/// How often the threads are looked at.
const LOOK: Duration = Duration::from_millis(20);

/// A thread that met an error goes on after this.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Reading back may take so long.
const VERIFY_WITHIN: Duration = Duration::from_secs(120);

/// A workload cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// The options make no sense.
    #[error("{0}")]
    Options(String),
    /// Its directory cannot be used.
    #[error("cannot write in {dir}: {cause}; name an existing directory that this user may write to")]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// The error of the system.
        cause: io::Error,
    },
    /// There is no thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// What a thread does over and over. Errors are in the meter's counts already.
pub(super) trait Worker {
    /// One record, or one read.
    fn step(&mut self, meter: &Meter) -> io::Result<()>;
    /// What has to be done at the end.
    fn end(&mut self, meter: &Meter) -> io::Result<()>;
}

/// Makes the worker called by this name.
pub(super) type Make = fn(&WorkloadOptions, &str, &Meter) -> io::Result<Box<dyn Worker>>;

fn make(options: &WorkloadOptions, name: &str, meter: &Meter) -> io::Result<Box<dyn Worker>> {
    Ok(match options.kind {
        WriterKind::Reader => Box::new(Reader::new(options, name, meter)?),
        _ => Box::new(Appender::new(options, name, meter)?),
    })
}

/// A thread and what is known of it.
struct WriterThread {
    name: String,
    meter: Arc<Meter>,
    /// Nanoseconds since the start at which it ended; 0: it has not.
    ended: Arc<AtomicU64>,
    handle: JoinHandle<io::Result<()>>,
}

impl WriterThread {
    fn member(&self) -> ReportedThread<'_> {
        let ended = self.ended.load(Ordering::Acquire);
        ReportedThread { name: &self.name, meter: &self.meter, ended: (ended != 0).then_some(SimTime(ended)) }
    }
}

/// Runs a workload until its time is over, its count is reached or `stop` is set; tells `on_progress` on the way.
/// Threads that hang are left behind (they end when the file system lets them go) and are in the report as stuck.
pub fn run(
    options: &WorkloadOptions,
    stop: &AtomicBool,
    on_progress: impl FnMut(&WorkloadProgress),
) -> Result<WorkloadReport, WorkloadError> {
    check(options)?;
    run_workers(options, stop, on_progress, make)
}

/// As [`run()`], with other workers.
pub(super) fn run_workers(
    options: &WorkloadOptions,
    stop: &AtomicBool,
    mut on_progress: impl FnMut(&WorkloadProgress),
    make: Make,
) -> Result<WorkloadReport, WorkloadError> {
    let clock = Clock::start();
    let halt = Arc::new(AtomicBool::new(false));
    let threads = (0..options.threads).map(|number| start(options, number, clock, &halt, make));
    let threads: Vec<WriterThread> =
        threads.collect::<Result<_, _>>().inspect_err(|_| halt.store(true, Ordering::Relaxed))?;
    let members = || threads.iter().map(WriterThread::member).collect::<Vec<_>>();
    let all_ended = || members().iter().all(|member| member.ended.is_some());

    let (deadline, mut next) = (SimTime::ZERO + options.duration, SimTime::ZERO + options.progress);
    let mut give_up: Option<Deadline> = None;
    while !all_ended() && !give_up.is_some_and(|deadline| deadline.passed()) {
        if give_up.is_none() && (clock.now() >= deadline || stop.load(Ordering::Relaxed)) {
            halt.store(true, Ordering::Relaxed);
            give_up = Some(Deadline::after(options.patience));
        }
        if clock.now() >= next {
            on_progress(&progress(&members(), clock.now().since(SimTime::ZERO)));
            next = clock.now() + options.progress;
        }
        pause(LOOK);
    }
    let mut report = report(options, &members(), clock.now().since(SimTime::ZERO));
    join(options, threads)?;
    if options.verify {
        match read_back(options, &report) {
            Ok(verified) => report.verified = Some(verified),
            Err(why) => report.unverified = Some(why.to_string()),
        }
    }
    Ok(report)
}

fn check(options: &WorkloadOptions) -> Result<(), WorkloadError> {
    let wrong = |text: &str| Err(WorkloadError::Options(text.to_owned()));
    match () {
        () if options.threads == 0 => wrong("a workload needs at least one thread"),
        () if options.duration.is_zero() => wrong("a workload of no time does nothing; give it a time such as 30s"),
        () if options.count == Some(0) => wrong("a count of 0 does nothing; leave it out"),
        () => Ok(()),
    }
}

fn start(
    options: &WorkloadOptions,
    number: u16,
    clock: Clock,
    halt: &Arc<AtomicBool>,
    make: Make,
) -> Result<WriterThread, WorkloadError> {
    let name = format!("{}-{number}", options.kind);
    let (meter, ended) = (Arc::new(Meter::new(clock)), Arc::new(AtomicU64::new(0)));
    let body = {
        let (options, name, meter, ended, halt) =
            (options.clone(), name.clone(), Arc::clone(&meter), Arc::clone(&ended), Arc::clone(halt));
        move || {
            let result = make(&options, &name, &meter).map(|worker| work(worker, &options, &meter, clock, &halt));
            ended.store(clock.now().0.max(1), Ordering::Release);
            result
        }
    };
    // The thread's name is what the kernel's reports show.
    let handle = Builder::new().name(options.kind.name().to_owned()).spawn(body).map_err(WorkloadError::Thread)?;
    Ok(WriterThread { name, meter, ended, handle })
}

/// One thread's life. After an error it goes on.
fn work(mut worker: Box<dyn Worker>, options: &WorkloadOptions, meter: &Meter, clock: Clock, halt: &AtomicBool) {
    let mut pace = Schedule::new(options.every, clock);
    let mut left = options.count.unwrap_or(u64::MAX);
    while left > 0 {
        pace.wait(halt);
        if halt.load(Ordering::Relaxed) {
            break;
        }
        if worker.step(meter).is_err() {
            pace.back_off(BACK_OFF);
        }
        left -= 1;
    }
    // An error is in the meter's counts.
    let _ = worker.end(meter);
}

/// Collects the threads that have ended; the others are left behind.
fn join(options: &WorkloadOptions, threads: Vec<WriterThread>) -> Result<(), WorkloadError> {
    for thread in threads {
        // The thread has reported its end, or it hangs.
        if thread.member().ended.is_some()
            && let Ok(Err(cause)) = thread.handle.join()
        {
            return Err(WorkloadError::Directory { dir: options.dir.clone(), cause });
        }
    }
    Ok(())
}

/// Why what was written could not be read back.
#[derive(Debug, thiserror::Error)]
enum ReadBackError {
    #[error("threads still wait for the file system")]
    Stuck,
    #[error("cannot start a thread that reads back: {0}")]
    Thread(io::Error),
    #[error("cannot read back {dir}: {cause}")]
    Read { dir: PathBuf, cause: io::Error },
    #[error("reading back {dir} took more than {} s", VERIFY_WITHIN.as_secs())]
    TooLong { dir: PathBuf },
}

/// Reads everything back on a thread of its own.
fn read_back(options: &WorkloadOptions, report: &WorkloadReport) -> Result<Verified, ReadBackError> {
    if !report.stuck.is_empty() {
        return Err(ReadBackError::Stuck);
    }
    let (done, result) = mpsc::channel();
    let (dir, kept) = (options.dir.clone(), report.kept.clone());
    let body = move || {
        // The receiver is gone if it took too long.
        let _ = done.send(verify(&dir, Some(&kept)));
    };
    Builder::new().name("verify".to_owned()).spawn(body).map_err(ReadBackError::Thread)?;
    match result.recv_timeout(VERIFY_WITHIN) {
        Ok(found) => found.map_err(|cause| ReadBackError::Read { dir: options.dir.clone(), cause }),
        Err(_) => Err(ReadBackError::TooLong { dir: options.dir.clone() }),
    }
}
