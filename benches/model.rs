//! What the model costs: nanoseconds per write verdict with 1,000,000 provisioned grains, and bytes per TiB.
//!
//! `cargo bench --bench model`. Each time is processor time, the median of 9 runs. Memory is the growth of a process's resident set.

#![expect(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a benchmark may panic, and prints rounded figures"
)]

use std::time::Duration;

use stunfs::internal::model::{Access, FileKey, Latency, Model, ModelConfig, ModelOp, Placement, Release};
use stunfs::internal::seed::{DrawKey, Stream};
use stunfs::internal::time::SimTime;
use stunfs::internal::units::{ByteRange, Bytes, GrainSize};

const MIB: u64 = 1 << 20;
const GRAINS: u64 = 1_000_000;
const BATCH: u64 = 10_000;
const RUNS: u64 = 9;
const FILE: FileKey = FileKey { dev: 1, ino: 1 };

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().position(|argument| argument == "--memory") {
        Some(n) => {
            let (bytes, nanos) = memory(arguments[n + 1].parse().unwrap());
            println!("{bytes} {nanos}");
        }
        None => {
            verdicts();
            books();
        }
    }
}

fn verdicts() {
    println!("verdict of a write, {GRAINS} provisioned grains of 1MiB, lognormal latency, 1 lane");
    for placement in [Placement::Direct, Placement::Packed] {
        for order in [Order::Ascending, Order::Random] {
            let mut bench = Bench::new(placement, order);
            let filled = format!("{placement:?}, filled {order:?}:");
            let report = |what, nanos| println!("  {filled:<26} {what:<32} {nanos:>6.0} ns");
            report("new grain (1MiB)", bench.median(|n| grain(order, GRAINS + n, MIB)));
            report("overwrite in that order (4KiB)", bench.median(|n| grain(order, n % GRAINS, 4096)));
            report("overwrite at random (4KiB)", bench.median(|n| grain(order, scatter(n) % GRAINS, 4096)));
            report("second write, 10,000 under way", bench.second_write(order));
        }
    }
}

/// The first bytes of the n-th grain of twice as many as are provisioned.
const fn grain(order: Order, n: u64, len: u64) -> ByteRange {
    ByteRange::at(order.pick(n, 2 * GRAINS) * MIB, len)
}

/// In which order a volume's units are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Ascending,
    Random,
    /// To the ends of two files in turn.
    InTurn,
    /// As `Random`; then half of them, at random, are punched out.
    Punched,
}

impl Order {
    /// The n-th unit of `count` that is written.
    const fn pick(self, n: u64, count: u64) -> u64 {
        match self {
            Self::Ascending => n,
            Self::Random | Self::Punched => at_random(n, count),
            Self::InTurn => n / 2,
        }
    }

    const fn file(self, n: u64) -> FileKey {
        match self {
            Self::InTurn => FileKey { dev: 1, ino: 1 + n % 2 },
            _ => FILE,
        }
    }
}

/// A way to fill a volume of so many bytes, in writes of so many.
struct Fill {
    placement: Placement,
    size: u64,
    grain: Bytes,
    write: Bytes,
    order: Order,
}

/// A volume of 500 GB, written grain by grain.
const fn disk(placement: Placement, grain: Bytes, order: Order) -> Fill {
    Fill { placement, size: 500_000_000_000, grain, write: grain, order }
}

/// 1 TiB, grain by grain.
const fn tebibyte(placement: Placement, grain: Bytes, order: Order) -> Fill {
    Fill { placement, size: 1 << 40, grain, write: grain, order }
}

/// 16 GiB, block by block, 64 KiB grains.
const fn blocks(order: Order) -> Fill {
    Fill { placement: Placement::Packed, size: 16 << 30, grain: Bytes::kib(64), write: Bytes::kib(4), order }
}

const FILLS: [Fill; 15] = [
    disk(Placement::Direct, Bytes::mib(1), Order::Random),
    disk(Placement::Direct, Bytes::kib(64), Order::Random),
    disk(Placement::Packed, Bytes::mib(1), Order::Ascending),
    disk(Placement::Packed, Bytes::kib(64), Order::Ascending),
    disk(Placement::Packed, Bytes::mib(1), Order::Random),
    disk(Placement::Packed, Bytes::kib(64), Order::Random),
    disk(Placement::Packed, Bytes::mib(1), Order::Punched),
    disk(Placement::Packed, Bytes::kib(64), Order::Punched),
    tebibyte(Placement::Direct, Bytes::mib(1), Order::Random),
    tebibyte(Placement::Direct, Bytes::kib(64), Order::Random),
    tebibyte(Placement::Packed, Bytes::mib(1), Order::Random),
    tebibyte(Placement::Packed, Bytes::kib(64), Order::Random),
    blocks(Order::Ascending),
    blocks(Order::Random),
    blocks(Order::InTurn),
];

/// Each in a process of its own, so that memory that an earlier one gave back does not hide what it takes.
fn books() {
    println!("the books of a volume that is filled: memory in all, bytes a write, processor time a write");
    for (n, Fill { placement, size, grain, write, order }) in FILLS.iter().enumerate() {
        let this = std::env::current_exe().unwrap();
        let output = std::process::Command::new(this).arg("--memory").arg(n.to_string()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let figures: Vec<f64> = text.split_whitespace().map(|figure| figure.parse().unwrap()).collect();
        let (mb, each) = (figures[0] / 1e6, figures[0] / (size / write.0) as f64);
        let what = format!("{placement:?} {:>4.0} GB, grain {grain}, writes of {write}, {order:?}", *size as f64 / 1e9);
        println!("  {what:<66} {mb:>7.2} MB {each:>6.2} B {:>5.0} ns", figures[1]);
    }
}

struct Bench {
    model: Model,
    now: SimTime,
    next: u64,
    out: Vec<Release>,
}

impl Bench {
    fn new(placement: Placement, order: Order) -> Self {
        let first_write: Latency = "lognormal:5ms,p99=50ms".parse().unwrap();
        let config = ModelConfig { placement, first_write, armed: false, ..ModelConfig::default() };
        let mut model = Model::new(config.check().unwrap());
        model.created(FILE, 1);
        for n in 0..GRAINS {
            write(&mut model, FILE, SimTime::ZERO, grain(order, n, MIB));
        }
        let mut out = Vec::new();
        model.set_armed(SimTime::ZERO, true, &mut out);
        Self { model, now: SimTime::ZERO, next: 0, out }
    }

    /// Nanoseconds per verdict; what is held comes out between the runs.
    fn median(&mut self, range: impl Fn(u64) -> ByteRange) -> f64 {
        let mut runs: Vec<Duration> = (0..RUNS).map(|_| self.run(&range)).collect();
        runs.sort_unstable();
        runs[runs.len() / 2].as_nanos() as f64 / BATCH as f64
    }

    fn run(&mut self, range: impl Fn(u64) -> ByteRange) -> Duration {
        let started = processor_time();
        for n in self.next..self.next + BATCH {
            write(&mut self.model, FILE, self.now, range(n));
        }
        let took = processor_time() - started;
        self.next += BATCH;
        self.drain();
        took
    }

    fn second_write(&mut self, order: Order) -> f64 {
        for n in 0..BATCH {
            write(&mut self.model, FILE, self.now, grain(order, GRAINS + self.next + n, MIB));
        }
        let started = processor_time();
        for n in 0..BATCH {
            write(&mut self.model, FILE, self.now, grain(order, GRAINS + self.next + n, 4096));
        }
        let took = processor_time() - started;
        self.next += BATCH;
        self.drain();
        took.as_nanos() as f64 / BATCH as f64
    }

    fn drain(&mut self) {
        self.now = self.now + Duration::from_secs(3600);
        self.model.handle_timeout(self.now, &mut self.out);
        self.out.clear();
        self.model.take_notices();
    }
}

/// What this thread has used of a processor.
fn processor_time() -> Duration {
    rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime).try_into().unwrap()
}

fn write(model: &mut Model, file: FileKey, now: SimTime, range: ByteRange) {
    model.submit(now, ModelOp { access: Access::Write(file, range), selected: true });
}

/// Some number that looks random.
fn scatter(n: u64) -> u64 {
    let spread = Stream::new(1, "bench").unit(DrawKey::nth(n)) * GRAINS as f64;
    Duration::from_secs_f64(spread).as_secs()
}

/// A permutation of `0..count`: one of the next power of two, of which the numbers that are too large are passed over.
const fn at_random(n: u64, count: u64) -> u64 {
    let size = count.next_power_of_two();
    let half = size.trailing_zeros() / 2;
    let mut mixed = n;
    loop {
        mixed = (mixed ^ (mixed >> half)).wrapping_mul(0x9e37_79b9_7f4a_7c15) % size;
        mixed = (mixed ^ (mixed >> half)).wrapping_mul(0xbf58_476d_1ce4_e5b9) % size;
        mixed ^= mixed >> half;
        if mixed < count {
            return mixed;
        }
    }
}

/// Fills a volume in the n-th way: bytes that its books take, and nanoseconds for each write (and punch).
fn memory(n: usize) -> (u64, u64) {
    let Fill { placement, size, grain, write: unit, order } = FILLS[n];
    let config =
        ModelConfig { placement, grain: GrainSize::new(grain).unwrap(), armed: false, ..ModelConfig::default() };
    let count = size / unit.0;
    let mut model = Model::new(config.check().unwrap());
    let (before, started) = (resident(), processor_time());
    for n in 0..count {
        write(&mut model, order.file(n), SimTime::ZERO, ByteRange::at(order.pick(n, count) * unit.0, unit.0));
    }
    for n in 0..if order == Order::Punched { count / 2 } else { 0 } {
        model.free(SimTime::ZERO, FILE, ByteRange::at(at_random(count - 1 - n, count) * unit.0, unit.0));
        model.take_notices();
    }
    let took = processor_time() - started;
    let after = resident();
    assert_eq!(model.snapshot(SimTime::ZERO).provisioned, count * unit.0 / grain.0);
    (after.saturating_sub(before), u64::try_from(took.as_nanos()).unwrap() / count)
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
