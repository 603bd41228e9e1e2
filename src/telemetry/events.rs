//! The event log: takes events from any thread, numbers them, writes them to a file and hands them to subscribers.
//!
//! Must not know: what events mean, HTTP. Invariant: [`EventLog::emit`] never blocks; what a full queue costs is counted
//! and shows as a gap in `seq`; [`EventBody::Stopped`] is the last event.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use parking_lot::Mutex;

use super::event::{Event, EventBody, SCHEMA_VERSION};
use super::line_file::LineFile;
use crate::time::{Clock, Deadline, SimTime, pause};

/// While events come in, the writer looks for them this often. It does not wait on the queue then, since waking it would
/// cost the emitting thread several microseconds for every event.
const POLL: Duration = Duration::from_millis(2);
/// After this long without an event the writer waits on the queue.
const QUIET: Duration = Duration::from_millis(100);
/// Lines are not kept back longer than this, even under load.
const FLUSH_EVERY: Duration = Duration::from_millis(50);
/// More than this is written at once, however young.
const FLUSH_BYTES: usize = 64 << 10;
/// How long the last lines may take to be written.
const LAST_WRITE: Duration = Duration::from_secs(2);
/// How often a file that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How many events are taken from the queue before anything else is looked after.
const BATCH: usize = 512;

/// How much an event log keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Events between their threads and the writer. At least 1.
    pub queue: usize,
    /// The last events, for late subscribers.
    pub recent: usize,
    /// Events that a subscriber may be behind. At least 1.
    pub subscriber: usize,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { queue: 65_536, recent: 10_000, subscriber: 8192 }
    }
}

/// What became of the events so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventCounts {
    /// Events that were emitted, dropped ones included.
    pub emitted: u64,
    /// Events that a full queue dropped.
    pub dropped: u64,
    /// Lines that never reached the file, since it could not be written.
    pub lost: u64,
    /// Failed writes to the file.
    pub file_errors: u64,
    /// Events that slow subscribers missed.
    pub missed: u64,
}

#[derive(Debug, Default)]
struct LogCounters {
    emitted: AtomicU64,
    dropped: AtomicU64,
    lost: AtomicU64,
    file_errors: AtomicU64,
    missed: AtomicU64,
}

/// A place where events are told. Clones are the same log.
#[derive(Debug, Clone)]
pub struct EventLog {
    shared: Arc<EventLogShared>,
}

#[derive(Debug)]
struct EventLogShared {
    clock: Clock,
    queue: Sender<LogMessage>,
    counters: Arc<LogCounters>,
    hub: Arc<Hub>,
    closing: AtomicBool,
    /// Disconnected once the writer has ended.
    done: Receiver<Infallible>,
}

#[derive(Debug)]
enum LogMessage {
    Event(Arc<Event>),
    Close(Box<Closing>),
}

#[derive(Debug)]
struct Closing {
    reason: String,
    held: u64,
}

/// Events from some point on: what is kept, then what comes.
#[derive(Debug)]
pub struct Subscription {
    /// Kept events, oldest first.
    pub backlog: Vec<Arc<Event>>,
    /// The ones after that, without a gap or a repetition; disconnected after the last event.
    pub live: Receiver<Arc<Event>>,
}

impl EventLog {
    /// Starts a log. `target`: a file (emptied if it is there), `-` for standard output, or nothing: subscribers only.
    ///
    /// # Errors
    /// The file cannot be created, or the writer's thread cannot be started.
    pub fn open(target: Option<&Path>, clock: Clock) -> io::Result<Self> {
        Self::with_capacity(target, clock, Capacity::default())
    }

    /// As [`EventLog::open`], with other sizes.
    ///
    /// # Errors
    /// As [`EventLog::open`].
    pub fn with_capacity(target: Option<&Path>, clock: Clock, capacity: Capacity) -> io::Result<Self> {
        let file = target.map(LineFile::open).transpose()?;
        let (queue, incoming) = bounded(capacity.queue.max(1));
        let (alive, done) = bounded(0);
        let counters = Arc::new(LogCounters::default());
        let hub = Arc::new(Hub::new(capacity));
        let writer = Writer {
            clock,
            queue: incoming,
            counters: Arc::clone(&counters),
            hub: Arc::clone(&hub),
            file,
            batch: Vec::with_capacity(BATCH),
            seq: 0,
            gaps: 0,
            last_us: 0,
            last_event: clock.now(),
            last_flush: clock.now(),
            _alive: alive,
        };
        std::thread::Builder::new().name("stunfs-events".into()).spawn(move || writer.run())?;
        let shared = EventLogShared { clock, queue, counters, hub, closing: AtomicBool::new(false), done };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Tells an event. Never blocks: if the queue is full, or the log is closed, the event is dropped and counted.
    pub fn emit(&self, body: EventBody) {
        let shared = &*self.shared;
        let event = Event { v: SCHEMA_VERSION, seq: 0, t_us: shared.clock.now().as_micros(), body };
        shared.counters.emitted.fetch_add(1, Relaxed);
        let closing = shared.closing.load(Relaxed);
        if closing || shared.queue.try_send(LogMessage::Event(Arc::new(event))).is_err() {
            shared.counters.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Events from now on.
    pub fn subscribe(&self) -> Receiver<Arc<Event>> {
        self.shared.hub.subscribe(None).live
    }

    /// Events after number `seq` (0: all that are kept), then what comes.
    pub fn subscribe_since(&self, seq: u64) -> Subscription {
        self.shared.hub.subscribe(Some(seq))
    }

    /// The last events, oldest first.
    pub fn recent(&self) -> Vec<Arc<Event>> {
        self.shared.hub.inner.lock().ring.iter().cloned().collect()
    }

    /// What became of the events so far.
    pub fn counts(&self) -> EventCounts {
        let counters = &self.shared.counters;
        EventCounts {
            emitted: counters.emitted.load(Relaxed),
            dropped: counters.dropped.load(Relaxed),
            lost: counters.lost.load(Relaxed),
            file_errors: counters.file_errors.load(Relaxed),
            missed: counters.missed.load(Relaxed),
        }
    }

    /// Writes [`EventBody::Stopped`] as the last event and waits up to `within` for the writer; whether the file is
    /// complete then. Closing twice waits again and writes nothing.
    pub fn close(&self, reason: impl Into<String>, held: u64, within: Duration) -> bool {
        let deadline = Deadline::after(within);
        if !self.shared.closing.swap(true, Relaxed) {
            self.shared.counters.emitted.fetch_add(1, Relaxed);
            let message = LogMessage::Close(Box::new(Closing { reason: reason.into(), held }));
            if self.shared.queue.send_timeout(message, deadline.left()).is_err() {
                return false;
            }
        }
        let ended = self.shared.done.recv_timeout(deadline.left()) == Err(RecvTimeoutError::Disconnected);
        let counts = self.counts();
        ended && counts.dropped == 0 && counts.lost == 0
    }
}

/// The last events, and who listens.
#[derive(Debug)]
struct Hub {
    capacity: Capacity,
    inner: Mutex<HubInner>,
}

#[derive(Debug, Default)]
struct HubInner {
    ring: VecDeque<Arc<Event>>,
    subscribers: Vec<Sender<Arc<Event>>>,
    closed: bool,
}

impl Hub {
    fn new(capacity: Capacity) -> Self {
        Self { capacity, inner: Mutex::default() }
    }

    /// Under one lock with [`Hub::publish`], so that backlog and live events join without a gap.
    fn subscribe(&self, since: Option<u64>) -> Subscription {
        let (sender, live) = bounded(self.capacity.subscriber.max(1));
        let mut inner = self.inner.lock();
        let backlog = since.map_or_else(Vec::new, |seq| inner.after(seq));
        if !inner.closed {
            inner.subscribers.push(sender);
        }
        Subscription { backlog, live }
    }

    /// Hands `batch` out; how many events slow subscribers missed.
    fn publish(&self, batch: &[Arc<Event>]) -> u64 {
        let mut missed = 0;
        let mut inner = self.inner.lock();
        for event in batch {
            if inner.ring.len() >= self.capacity.recent {
                inner.ring.pop_front();
            }
            if self.capacity.recent > 0 {
                inner.ring.push_back(Arc::clone(event));
            }
            inner.subscribers.retain(|subscriber| match subscriber.try_send(Arc::clone(event)) {
                Ok(()) => true,
                Err(error) => {
                    missed += u64::from(error.is_full());
                    error.is_full()
                }
            });
        }
        missed
    }

    fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        inner.subscribers.clear();
    }
}

impl HubInner {
    fn after(&self, seq: u64) -> Vec<Arc<Event>> {
        let first = self.ring.partition_point(|event| event.seq <= seq);
        self.ring.range(first..).cloned().collect()
    }
}

/// The thread that numbers, writes and hands out.
#[derive(Debug)]
struct Writer {
    clock: Clock,
    queue: Receiver<LogMessage>,
    counters: Arc<LogCounters>,
    hub: Arc<Hub>,
    file: Option<LineFile>,
    batch: Vec<Arc<Event>>,
    seq: u64,
    /// Dropped events that `seq` has skipped already.
    gaps: u64,
    last_us: u64,
    last_event: SimTime,
    last_flush: SimTime,
    _alive: Sender<Infallible>,
}

/// Why the writer stopped taking events from the queue.
#[derive(Debug)]
enum WriterStop {
    /// There may be more.
    Full,
    /// The queue is empty.
    All,
    /// This was the end; nobody says anything more.
    End(Option<Box<Closing>>),
}

impl Writer {
    fn run(mut self) {
        let closing = loop {
            match self.take_batch() {
                WriterStop::Full => self.hand_out(false),
                WriterStop::All => {
                    self.hand_out(true);
                    if let Some(end) = self.wait() {
                        break end;
                    }
                }
                WriterStop::End(end) => break end,
            }
        };
        self.finish(closing);
    }

    fn take_batch(&mut self) -> WriterStop {
        while self.batch.len() < BATCH {
            match self.queue.try_recv() {
                Ok(LogMessage::Event(event)) => self.stamp(event),
                Ok(LogMessage::Close(closing)) => return WriterStop::End(Some(closing)),
                Err(TryRecvError::Empty) => return WriterStop::All,
                Err(TryRecvError::Disconnected) => return WriterStop::End(None),
            }
        }
        WriterStop::Full
    }

    /// Waits for more: a short pause while events are frequent, on the queue otherwise. `Some`: the end.
    fn wait(&mut self) -> Option<Option<Box<Closing>>> {
        if self.clock.now().since(self.last_event) < QUIET {
            pause(POLL);
            return None;
        }
        let stuck = self.file.as_ref().is_some_and(|file| file.pending() > 0);
        let message = if stuck {
            self.queue.recv_timeout(RETRY)
        } else {
            self.queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match message {
            Ok(LogMessage::Event(event)) => self.stamp(event),
            Ok(LogMessage::Close(closing)) => return Some(Some(closing)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Some(None),
        }
        None
    }

    /// Gives an event its number, and the file its line.
    fn stamp(&mut self, mut event: Arc<Event>) {
        let dropped = self.counters.dropped.load(Relaxed);
        self.seq += 1 + (dropped - self.gaps);
        self.gaps = dropped;
        // Threads read the clock before they reach the queue: a later event may carry an earlier time by a hair.
        self.last_us = self.last_us.max(event.t_us);
        let stamped = Arc::make_mut(&mut event);
        stamped.seq = self.seq;
        stamped.t_us = self.last_us;
        if let Some(file) = &mut self.file {
            file.push(&event);
        }
        self.batch.push(event);
    }

    /// Subscribers get the batch; the file gets what is old or large enough, or everything if `idle`.
    fn hand_out(&mut self, idle: bool) {
        let now = self.clock.now();
        if !self.batch.is_empty() {
            self.last_event = now;
            let missed = self.hub.publish(&self.batch);
            self.counters.missed.fetch_add(missed, Relaxed);
            self.batch.clear();
        }
        let Some(file) = &mut self.file else { return };
        let due = now.since(self.last_flush) >= if file.failing { RETRY } else { FLUSH_EVERY };
        if due || (!file.failing && (idle || file.pending() >= FLUSH_BYTES)) {
            self.last_flush = now;
            file.flush();
        }
        self.counters.file_errors.store(file.errors, Relaxed);
        self.counters.lost.store(file.lost, Relaxed);
    }

    fn finish(mut self, closing: Option<Box<Closing>>) {
        while let Ok(message) = self.queue.try_recv() {
            if let LogMessage::Event(event) = message {
                self.stamp(event);
            }
        }
        self.hand_out(true);
        if let Some(closing) = closing {
            let dropped = self.counters.dropped.load(Relaxed) + self.counters.lost.load(Relaxed);
            let body = EventBody::Stopped { reason: closing.reason, held: closing.held, dropped };
            let t_us = self.clock.now().as_micros();
            self.stamp(Arc::new(Event { v: SCHEMA_VERSION, seq: 0, t_us, body }));
        }
        self.hand_out(true);
        if let Some(file) = &mut self.file {
            file.flush_within(LAST_WRITE);
            let torn_off = u64::from(file.pending() > 0);
            self.counters.lost.store(file.lost + torn_off, Relaxed);
        }
        self.hub.close();
    }
}

#[cfg(test)]
mod tests;
