//! Runs a workload's threads, tells how far they are, and ends in time.
//!
//! Must not know: what a thread writes. Invariant: this thread never touches the file system, so it cannot hang.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::WorkloadOptions;
use super::collect::{ReportedThread, Shown, pile_up, progress, report};
use super::crew::{Beat, Crew, Role, Worker};
use super::journal::{AckLog, AckLogError};
use super::kinds;
use super::measure::Meter;
use super::report::{LockPileUp, WorkloadProgress, WorkloadReport};
use super::schedule::Schedule;
use super::verify::{Verified, verify};
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
        /// Which.
        dir: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Its acknowledgement log cannot be used.
    #[error(transparent)]
    AckLog(#[from] AckLogError),
    /// There is no thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// A thread and what is known of it.
struct WriterThread {
    meter: Arc<Meter>,
    has_records: bool,
    /// Nanoseconds since the start at which it ended; 0: it has not.
    ended: Arc<AtomicU64>,
    handle: JoinHandle<io::Result<()>>,
}

impl WriterThread {
    fn reported(&self) -> ReportedThread<'_> {
        let ended = self.ended.load(Ordering::Acquire);
        ReportedThread {
            meter: &self.meter,
            ended: self.has_ended().then_some(SimTime(ended)),
            has_records: self.has_records,
        }
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire) != 0
    }
}

/// Tells the threads to end: first those that records are due from, then the others.
#[derive(Debug, Default)]
struct Halts {
    records: Arc<AtomicBool>,
    background: Arc<AtomicBool>,
}

/// Runs a workload until its time is over, its count is reached or `stop` is set; tells `on_progress` on the way.
/// Threads that hang are left behind (they end when the file system lets them go) and are in the report as stuck.
pub fn run(
    options: &WorkloadOptions,
    stop: &AtomicBool,
    on_progress: impl FnMut(&WorkloadProgress),
) -> Result<WorkloadReport, WorkloadError> {
    check(options)?;
    let clock = Clock::start();
    run_crew(options, clock, stop, on_progress, kinds::crew(options, clock))
}

/// As [`run()`], with other workers.
pub(super) fn run_crew(
    options: &WorkloadOptions,
    clock: Clock,
    stop: &AtomicBool,
    on_progress: impl FnMut(&WorkloadProgress),
    crew: Crew,
) -> Result<WorkloadReport, WorkloadError> {
    let journal = options.ack_log.as_deref().map(AckLog::open).transpose()?.map(Arc::new);
    let halts = Halts::default();
    let Crew { roles, shown } = crew;
    let threads = roles.into_iter().map(|role| start(options, role, clock, journal.clone(), &halts));
    let threads: Vec<WriterThread> = threads.collect::<Result<_, _>>().inspect_err(|_| halts.all())?;
    let worst = watch(options, clock, stop, on_progress, &threads, &shown, &halts);
    let mut report = report(options, &reported(&threads), &shown, clock.now().since(SimTime::ZERO));
    report.pile_up = worst;
    join(options, threads)?;
    report.ack_log_errors = journal.map_or(0, |journal| journal.failed());
    if options.verify {
        match read_back(options, &report) {
            Ok(verified) => report.verified = Some(verified),
            Err(why) => report.unverified = Some(why.to_string()),
        }
    }
    Ok(report)
}

fn reported(threads: &[WriterThread]) -> Vec<ReportedThread<'_>> {
    threads.iter().map(WriterThread::reported).collect()
}

impl Halts {
    fn all(&self) {
        self.records.store(true, Ordering::Relaxed);
        self.background.store(true, Ordering::Relaxed);
    }
}

/// Looks at the threads until all have ended or patience is over; the worst pile-up that it saw.
fn watch(
    options: &WorkloadOptions,
    clock: Clock,
    stop: &AtomicBool,
    mut on_progress: impl FnMut(&WorkloadProgress),
    threads: &[WriterThread],
    shown: &Shown,
    halts: &Halts,
) -> Option<LockPileUp> {
    let (deadline, mut next) = (SimTime::ZERO + options.duration, SimTime::ZERO + options.progress);
    let mut give_up: Option<Deadline> = None;
    let mut worst: Option<LockPileUp> = None;
    while !threads.iter().all(WriterThread::has_ended) && !give_up.is_some_and(|deadline| deadline.passed()) {
        let records_ended = threads.iter().filter(|thread| thread.has_records).all(WriterThread::has_ended);
        if give_up.is_none() && (clock.now() >= deadline || stop.load(Ordering::Relaxed) || records_ended) {
            halts.records.store(true, Ordering::Relaxed);
            give_up = Some(Deadline::after(options.patience));
        }
        if records_ended {
            halts.background.store(true, Ordering::Relaxed);
        }
        let now = pile_up(&reported(threads), &shown.locks);
        if now.as_ref().map(LockPileUp::weight) > worst.as_ref().map(LockPileUp::weight) {
            worst = now;
        }
        if clock.now() >= next {
            on_progress(&progress(&reported(threads), shown, clock.now().since(SimTime::ZERO)));
            next = clock.now() + options.progress;
        }
        pause(LOOK);
    }
    halts.all();
    worst
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
    role: Role,
    clock: Clock,
    journal: Option<Arc<AckLog>>,
    halts: &Halts,
) -> Result<WriterThread, WorkloadError> {
    let Role { name, beat, make } = role;
    let (meter, ended) = (Arc::new(Meter::new(&name, clock, journal)), Arc::new(AtomicU64::new(0)));
    let has_records = beat == Beat::Records;
    let body = {
        let (options, meter, ended) = (options.clone(), Arc::clone(&meter), Arc::clone(&ended));
        let halt = Arc::clone(if has_records { &halts.records } else { &halts.background });
        move || {
            let result = make(&meter).map(|worker| work(worker, &options, beat, &meter, clock, &halt));
            ended.store(clock.now().0.max(1), Ordering::Release);
            result
        }
    };
    // The thread's name is what the kernel's reports show.
    let handle = Builder::new().name(options.kind.name().to_owned()).spawn(body).map_err(WorkloadError::Thread)?;
    Ok(WriterThread { meter, has_records, ended, handle })
}

/// One thread's life. After an error it goes on.
fn work(
    mut worker: Box<dyn Worker>,
    options: &WorkloadOptions,
    beat: Beat,
    meter: &Meter,
    clock: Clock,
    halt: &AtomicBool,
) {
    let (every, mut left) = match beat {
        Beat::Records => (options.every, options.count.unwrap_or(u64::MAX)),
        Beat::Background(every) => (Some(every), u64::MAX),
    };
    let mut pace = Schedule::new(every, clock);
    while left > 0 {
        let due = pace.wait(halt);
        if halt.load(Ordering::Relaxed) {
            break;
        }
        if beat == Beat::Records {
            meter.begun(due);
        }
        if worker.step(meter).is_err() {
            meter.failed();
            pace.back_off(BACK_OFF);
        }
        let missed = pace.done();
        if beat == Beat::Records {
            meter.missed(missed);
        }
        left -= 1;
    }
    // An error is in the meter's counts.
    let _ = worker.end(meter);
}

/// Collects the threads that have ended; the others are left behind.
fn join(options: &WorkloadOptions, threads: Vec<WriterThread>) -> Result<(), WorkloadError> {
    for thread in threads {
        // It has said that it is at its end, or it hangs.
        if thread.has_ended()
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
