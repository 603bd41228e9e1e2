//! What the model costs: nanoseconds per write verdict with 1,000,000 provisioned grains, and bytes per TiB.
//!
//! `cargo bench --bench model`. Each time is processor time, the median of 9 runs. Memory is the growth of this process's resident set.

#![expect(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a benchmark may panic, and prints rounded figures"
)]

use std::time::Duration;

use stunfs::model::{Access, FileKey, Latency, Model, ModelConfig, Op, Placement, Release};
use stunfs::seed::{DrawKey, Stream};
use stunfs::time::SimTime;
use stunfs::units::{ByteRange, Bytes, GrainSize};

const MIB: u64 = 1 << 20;
const GRAINS: u64 = 1_000_000;
const BATCH: u64 = 10_000;
const RUNS: u64 = 9;
const FILE: FileKey = FileKey { dev: 1, ino: 1 };

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().position(|argument| argument == "--memory") {
        Some(n) => println!("{}", memory(arguments[n + 1].parse().unwrap())),
        None => {
            verdicts();
            books();
        }
    }
}

fn verdicts() {
    println!("verdict of a write, {GRAINS} provisioned grains of 1MiB, lognormal latency, 1 lane");
    for placement in [Placement::Direct, Placement::Packed] {
        let mut bench = Bench::new(placement);
        let report = |what, nanos| println!("  {placement:?} {what:<32} {nanos:>6.0} ns");
        report("new grain (1MiB)", bench.median(|n| ByteRange::at((GRAINS + n) * MIB, MIB)));
        report("overwrite in order (4KiB)", bench.median(|n| ByteRange::at(n % GRAINS * MIB, 4096)));
        report("overwrite at random (4KiB)", bench.median(|n| ByteRange::at(scatter(n) % GRAINS * MIB, 4096)));
        report("second write, 10,000 under way", bench.second_write());
    }
}

/// A way to fill 1 TiB.
struct Fill {
    name: &'static str,
    placement: Placement,
    grain: Bytes,
    /// The n-th grain that is written, of so many.
    index: fn(u64, u64) -> u64,
}

const fn fill(name: &'static str, placement: Placement, grain: Bytes, index: fn(u64, u64) -> u64) -> Fill {
    Fill { name, placement, grain, index }
}

const FILLS: [Fill; 8] = [
    fill("in order", Placement::Direct, Bytes::mib(1), in_order),
    fill("in order", Placement::Direct, Bytes::kib(64), in_order),
    fill("at random", Placement::Direct, Bytes::mib(1), at_random),
    fill("at random", Placement::Direct, Bytes::kib(64), at_random),
    fill("in order", Placement::Packed, Bytes::mib(1), in_order),
    fill("in order", Placement::Packed, Bytes::kib(64), in_order),
    fill("at random", Placement::Packed, Bytes::mib(1), at_random),
    fill("at random", Placement::Packed, Bytes::kib(64), at_random),
];

/// Each in a process of its own, so that memory that an earlier one gave back does not hide what it takes.
fn books() {
    println!("memory of the books, one file, grain by grain{:>29} {:>10}", "1TiB", "500GB");
    for (n, fill) in FILLS.iter().enumerate() {
        let this = std::env::current_exe().unwrap();
        let output = std::process::Command::new(this).arg("--memory").arg(n.to_string()).output().unwrap();
        let bytes: f64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        let (all, part) = (bytes / 1e6, bytes / 1e6 * 500e9 / (1_u64 << 40) as f64);
        println!("  {:?} grain {:<6} {:<44} {all:>7.2} MB {part:>7.2} MB", fill.placement, fill.grain, fill.name);
    }
}

struct Bench {
    model: Model,
    now: SimTime,
    next: u64,
    out: Vec<Release>,
}

impl Bench {
    fn new(placement: Placement) -> Self {
        let first_write: Latency = "lognormal:5ms,p99=50ms".parse().unwrap();
        let config = ModelConfig { placement, first_write, armed: false, ..ModelConfig::default() };
        let mut model = Model::new(config).unwrap();
        model.created(FILE, 1);
        for n in 0..GRAINS {
            write(&mut model, SimTime::ZERO, ByteRange::at(n * MIB, MIB));
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
            write(&mut self.model, self.now, range(n));
        }
        let took = processor_time() - started;
        self.next += BATCH;
        self.drain();
        took
    }

    fn second_write(&mut self) -> f64 {
        for n in 0..BATCH {
            write(&mut self.model, self.now, ByteRange::at((GRAINS + self.next + n) * MIB, MIB));
        }
        let started = processor_time();
        for n in 0..BATCH {
            write(&mut self.model, self.now, ByteRange::at((GRAINS + self.next + n) * MIB, 4096));
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

fn write(model: &mut Model, now: SimTime, range: ByteRange) {
    model.submit(now, Op { access: Access::Write(FILE, range), selected: true });
}

/// Some number that looks random.
fn scatter(n: u64) -> u64 {
    let spread = Stream::new(1, "bench").unit(DrawKey::nth(n)) * GRAINS as f64;
    Duration::from_secs_f64(spread).as_secs()
}

fn in_order(n: u64, _: u64) -> u64 {
    n
}

/// A permutation of `0..count`, a power of two.
fn at_random(n: u64, count: u64) -> u64 {
    let mixed = (n ^ (n >> 7)).wrapping_mul(0x9e37_79b9_7f4a_7c15 | 1) % count;
    (mixed ^ (mixed >> 9)).wrapping_mul(0xbf58_476d_1ce4_e5b9 | 1) % count
}

/// Bytes that the books of 1 TiB take, filled in the n-th way.
fn memory(n: usize) -> u64 {
    let Fill { placement, grain, index, .. } = FILLS[n];
    let config =
        ModelConfig { placement, grain: GrainSize::new(grain).unwrap(), armed: false, ..ModelConfig::default() };
    let count = (1 << 40) / grain.0;
    let mut model = Model::new(config).unwrap();
    let before = resident();
    for n in 0..count {
        write(&mut model, SimTime::ZERO, ByteRange::at(index(n, count) * grain.0, grain.0));
    }
    let after = resident();
    assert_eq!(model.snapshot(SimTime::ZERO).provisioned, count);
    after.saturating_sub(before)
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
