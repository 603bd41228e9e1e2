//! On two processors: keeps them awake while requests come in quick succession.
//!
//! A program that is alone and the FUSE thread take turns. If the other processor is idle, the kernel wakes whoever is next over
//! there: a processor that sleeps, in a virtual machine, comes back after 20 to 30 us, which is more than a request of 4 KiB
//! takes. If the other processor is busy, both stay on one, and a turn costs a switch of 2 us. So a thread keeps it busy,
//! with nothing, and gives way to everybody (`sched_yield`).
//!
//! Several programs at once keep both processors busy, nearly: the one that the FUSE thread does not run on falls asleep for a
//! moment now and then, and to wake it takes the FUSE thread longer than a request. So it is asked to wait awake meanwhile.
//!
//! Must not know: what is asked. Invariant: the one ends some microseconds after the last request that came in time, the other
//! some milliseconds after it, so a volume that is not in use costs nothing; programs that take their time get nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread::{Builder, Thread, park, yield_now};
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use super::credit::Credit;
use super::wakeful::Wakeful;
use crate::time::{Clock, SimTime, pause};

/// How soon the next request must come, counted from the end of one that took no time at all.
const WINDOW: Duration = Duration::from_micros(100);
/// On one processor the next request comes sooner than this: it was made before the FUSE thread went on.
const TOGETHER: Duration = Duration::from_micros(15);
/// So many more that did not come so soon, of which each counts twice: the program is on the other processor. (After a request
/// that the kernel made in between the next one is there at once, wherever the program is.) Twice as many each time that
/// it did not help, up to [`APART_MOST`].
const APART: u32 = 64;
const APART_MOST: u32 = 1 << 13;
/// One that took its time gives its program as many times that time: who writes 1 MiB needs longer to make the next one.
const PATIENCE: u32 = 4;
/// But no more than this: a file of gigabytes that was removed is no sign of what comes next.
const MOST_PATIENCE: Duration = Duration::from_millis(1);
/// So many requests of others than the one before, all in time, are a crowd.
const CROWD: u32 = 64;
/// How long a crowd counts as one after its last request: the kernel is not asked more often than this.
const CROWD_LASTS: Duration = Duration::from_millis(20);
/// How often it is looked whether it is over.
const CROWD_CHECK: Duration = Duration::from_millis(5);
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
    /// How many of the last requests speak for two processors, and how many must.
    apart: AtomicU32,
    apart_limit: AtomicU32,
    /// How many of the last requests speak for a crowd: up to twice [`CROWD`].
    crowd: AtomicU32,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    pair: [usize; 2],
    /// When to stop, in nanoseconds.
    until: AtomicU64,
    /// Until when there is a crowd.
    crowd_until: AtomicU64,
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
            pair,
            until: AtomicU64::new(0),
            crowd_until: AtomicU64::new(0),
            served_on: AtomicUsize::new(pair[0]),
            awake: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        let ours = Arc::clone(&shared);
        let handle = Builder::new().name("stunfs-company".into()).spawn(move || ours.keep()).ok()?;
        Some(Self {
            shared,
            thread: handle.thread().clone(),
            credit: Credit::full(),
            client: AtomicU32::new(0),
            ended: AtomicU64::new(0),
            apart: AtomicU32::new(0),
            apart_limit: AtomicU32::new(APART),
            crowd: AtomicU32::new(0),
        })
    }

    /// A request begins.
    pub(super) fn begins(&self) -> SimTime {
        self.shared.clock.now()
    }

    /// A request of the thread `client` is over (0: the kernel's own, which tells nothing).
    pub(super) fn ends(&self, begun: SimTime, client: u32) {
        let now = self.shared.clock.now();
        let patience = (WINDOW + now.since(begun) * PATIENCE).min(MOST_PATIENCE);
        let waited = begun.since(SimTime(self.ended.swap(now.0, Relaxed)));
        if client == 0 {
            return;
        }
        let same = self.client.swap(client, Relaxed) == client;
        let in_time = waited <= patience;
        self.note_crowd(now, same, in_time);
        if !self.credit.lasts() {
            return;
        }
        self.credit.settle(same && in_time);
        if !same {
            return;
        }
        self.go_where_it_is(waited);
        self.shared.until.store((now + patience).0, Relaxed);
        self.shared.served_on.store(sched_getcpu(), Relaxed);
        if self.wake() {
            // Waking it costs something, too: it must pay more than once.
            self.credit.settle(false);
        }
    }

    /// Takes the FUSE thread, which this is, to the program. Once both are on one processor the kernel leaves them there.
    fn go_where_it_is(&self, waited: Duration) {
        let (before, limit) = (self.apart.load(Relaxed), self.apart_limit.load(Relaxed));
        let apart = if waited > TOGETHER { before + 2 } else { before.saturating_sub(1) };
        self.apart.store(apart % limit, Relaxed);
        if apart >= limit {
            self.apart_limit.store((2 * limit).min(APART_MOST), Relaxed);
            go_to(&[self.shared.other(sched_getcpu())]);
            go_to(&self.shared.pair);
        } else if apart == 0 {
            self.apart_limit.store(APART, Relaxed);
        }
    }

    fn note_crowd(&self, now: SimTime, same: bool, in_time: bool) {
        let crowd = match (self.crowd.load(Relaxed), same) {
            _ if !in_time => 0,
            (crowd, true) => crowd.saturating_sub(1),
            (crowd, false) => (2 * CROWD).min(crowd + 1),
        };
        self.crowd.store(crowd, Relaxed);
        if crowd >= CROWD {
            self.shared.crowd_until.store((now + CROWD_LASTS).0, Relaxed);
            self.wake();
        }
    }

    /// Whether the thread slept.
    fn wake(&self) -> bool {
        let slept = !self.shared.awake.swap(true, Relaxed);
        if slept {
            self.thread.unpark();
        }
        slept
    }
}

impl Drop for Company {
    fn drop(&mut self) {
        self.shared.over.store(true, Relaxed);
        self.shared.until.store(0, Relaxed);
        self.shared.crowd_until.store(0, Relaxed);
        self.thread.unpark();
    }
}

impl Shared {
    fn keep(&self) {
        let mut here = None;
        while !self.over.load(Relaxed) {
            if self.is_before(&self.until) {
                let there = self.other(self.served_on.load(Relaxed));
                if here != Some(there) {
                    here = go_to(&[there]).then_some(there);
                }
                (0..PAUSES).for_each(|_| std::hint::spin_loop());
                yield_now();
            } else if self.is_before(&self.crowd_until) {
                let _in_force = Wakeful::request();
                while self.is_before(&self.crowd_until) {
                    pause(CROWD_CHECK);
                }
            } else {
                self.awake.store(false, Relaxed);
                park();
            }
        }
    }

    fn other(&self, processor: usize) -> usize {
        if processor == self.pair[0] { self.pair[1] } else { self.pair[0] }
    }

    fn is_before(&self, end: &AtomicU64) -> bool {
        self.clock.now().0 < end.load(Relaxed)
    }
}

/// Lets this thread run on these only.
fn go_to(processors: &[usize]) -> bool {
    let mut set = CpuSet::new();
    processors.iter().for_each(|processor| set.set(*processor));
    sched_setaffinity(None, &set).is_ok()
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
    use crate::time::wait_until;

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

    fn spins(company: &Company) -> bool {
        is_awake(company) && company.shared.is_before(&company.shared.until)
    }

    #[test]
    fn a_crowd_finds_processors_awake_and_is_not_spun_for() {
        let company = company();
        let mut clients = (1..=4).cycle();
        assert!(wait_until(Duration::from_secs(5), Duration::ZERO, || {
            company.ends(company.begins(), clients.next().unwrap_or(1));
            is_awake(&company)
        }));
        assert!(!spins(&company));
        assert!(company.shared.is_before(&company.shared.crowd_until));
        assert!(wait_until(Duration::from_secs(5), Duration::from_millis(1), || !is_awake(&company)));
    }

    /// The FUSE thread, here the test's, goes to the other processor and may then run on both as before.
    #[test]
    fn a_program_on_the_other_processor_is_followed_and_less_often_if_that_does_not_help() {
        let Some(pair) = two_processors() else { return eprintln!("left out: not two processors") };
        let company = Company::on(pair).expect("a thread");
        let is_apart = || company.apart_limit.load(Relaxed) > APART;
        assert!(wait_until(Duration::from_secs(5), Duration::from_micros(30), || {
            company.ends(company.begins(), 7);
            is_apart()
        }));
        assert_eq!(two_processors(), Some(pair));
        assert!(wait_until(Duration::from_secs(5), Duration::ZERO, || {
            company.ends(company.begins(), 7);
            !is_apart()
        }));
    }

    #[test]
    fn after_a_long_request_company_leaves_as_soon_as_after_others() {
        let company = company();
        pause(Duration::from_millis(500));
        for _ in 0..9 {
            company.ends(SimTime::ZERO, 7); // it took half a second
        }
        let until = SimTime(company.shared.until.load(Relaxed));
        assert!(until.since(company.begins()) <= MOST_PATIENCE);
        assert!(wait_until(Duration::from_secs(5), Duration::from_millis(1), || !is_awake(&company)));
    }

    #[test]
    fn two_who_take_their_time_get_nothing() {
        let company = company();
        for client in (0..100).map(|n| 1 + n % 2) {
            company.ends(company.begins(), client);
            pause(Duration::from_micros(300));
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
