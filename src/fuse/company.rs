//! On two processors: keeps the other one awake while one program sends requests one by one.
//!
//! Such a program and the FUSE thread take turns. If the other processor is idle, the kernel wakes whoever is next over
//! there: a processor that sleeps, in a virtual machine, comes back after 20 to 30 us, which is more than a request of 4 KiB
//! takes. If the other processor is busy, both stay on one, and a turn costs a switch of 2 us. So a thread keeps it busy,
//! with nothing, and gives way to everybody (`sched_yield`).
//!
//! Must not know: what is asked. Invariant: it ends some microseconds after the last request that came in time, so a volume
//! that is not in use costs nothing; several programs at once, or leisurely ones, get no company.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread::{Builder, Thread, park, yield_now};
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use super::credit::Credit;
use crate::time::{Clock, SimTime};

/// How soon the next request must come, counted from the end of one that took no time at all.
const WINDOW: Duration = Duration::from_micros(50);
/// One that took its time gives its program as many times that time: who writes 1 MiB needs longer to make the next one.
const PATIENCE: u32 = 4;
/// How often the thread looks at the clock: this many pauses of a processor, about a microsecond.
const PAUSES: u32 = 32;

/// The thread, and who sends requests.
#[derive(Debug)]
pub(super) struct Company {
    shared: Arc<Shared>,
    thread: Thread,
    credit: Credit,
    /// The thread that sent the last request.
    client: AtomicU32,
    ended: AtomicU64,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    /// When to stop, in nanoseconds.
    until: AtomicU64,
    /// The processor to leave alone.
    served_on: AtomicUsize,
    /// The thread runs, or has been told to.
    awake: AtomicBool,
    over: AtomicBool,
}

impl Company {
    /// If this process may use two processors, and just two.
    pub(super) fn on_two_processors() -> Option<Self> {
        Self::on(two_processors()?)
    }

    fn on(pair: [usize; 2]) -> Option<Self> {
        let shared = Arc::new(Shared {
            clock: Clock::start(),
            until: AtomicU64::new(0),
            served_on: AtomicUsize::new(pair[0]),
            awake: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        let ours = Arc::clone(&shared);
        let handle = Builder::new().name("stunfs-company".into()).spawn(move || ours.keep(pair)).ok()?;
        let (client, ended) = (AtomicU32::new(0), AtomicU64::new(0));
        Some(Self { shared, thread: handle.thread().clone(), credit: Credit::full(), client, ended })
    }

    /// A request begins.
    pub(super) fn begins(&self) -> SimTime {
        self.shared.clock.now()
    }

    /// A request of the thread `client` is over (0: the kernel's own, which tells nothing).
    pub(super) fn ends(&self, begun: SimTime, client: u32) {
        let now = self.shared.clock.now();
        let patience = WINDOW + now.since(begun) * PATIENCE;
        let waited = begun.since(SimTime(self.ended.swap(now.0, Relaxed)));
        if client == 0 {
            return;
        }
        let same = self.client.swap(client, Relaxed) == client;
        if !self.credit.lasts() {
            return;
        }
        self.credit.settle(same && waited <= patience);
        self.shared.until.store((now + patience).0, Relaxed);
        self.shared.served_on.store(sched_getcpu(), Relaxed);
        if same && !self.shared.awake.swap(true, Relaxed) {
            // Waking it costs something, too: it must pay more than once.
            self.credit.settle(false);
            self.thread.unpark();
        }
    }
}

impl Drop for Company {
    fn drop(&mut self) {
        self.shared.over.store(true, Relaxed);
        self.shared.until.store(0, Relaxed);
        self.thread.unpark();
    }
}

impl Shared {
    fn keep(&self, pair: [usize; 2]) {
        let mut here = None;
        while !self.over.load(Relaxed) {
            if self.clock.now().0 >= self.until.load(Relaxed) {
                self.awake.store(false, Relaxed);
                park();
                continue;
            }
            let other = if self.served_on.load(Relaxed) == pair[0] { pair[1] } else { pair[0] };
            if here != Some(other) {
                here = go_to(other).then_some(other);
            }
            (0..PAUSES).for_each(|_| std::hint::spin_loop());
            yield_now();
        }
    }
}

/// Moves this thread.
fn go_to(processor: usize) -> bool {
    let mut only = CpuSet::new();
    only.set(processor);
    sched_setaffinity(None, &only).is_ok()
}

fn two_processors() -> Option<[usize; 2]> {
    // A limit on processor time counts as well.
    if std::thread::available_parallelism().map_or(1, usize::from) != 2 {
        return None;
    }
    let allowed = sched_getaffinity(None).ok()?;
    let all: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor)).collect();
    all.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::time::{pause, wait_until};

    fn company() -> Company {
        Company::on(two_processors().unwrap_or_default()).expect("a thread")
    }

    fn is_awake(company: &Company) -> bool {
        company.shared.awake.load(Relaxed)
    }

    #[test]
    fn one_client_in_a_row_gets_company_and_it_leaves_when_nothing_comes() {
        let company = company();
        assert!(wait_until(Duration::from_secs(5), Duration::from_millis(1), || {
            company.ends(company.begins(), 7);
            is_awake(&company)
        }));
        assert!(wait_until(Duration::from_secs(5), Duration::from_millis(1), || !is_awake(&company)));
    }

    #[test]
    fn clients_in_turn_get_none() {
        let company = company();
        for client in (1..1000).map(|n| 1 + n % 2) {
            company.ends(company.begins(), client);
            assert!(!is_awake(&company));
        }
    }

    #[test]
    fn requests_in_leisure_cost_a_few_tries_at_most() {
        let company = company();
        let mut woken = 0;
        for _ in 0..50 {
            company.ends(company.begins(), 7);
            woken += u32::from(is_awake(&company));
            pause(Duration::from_millis(2));
        }
        assert!(woken <= 4, "{woken}");
    }
}
