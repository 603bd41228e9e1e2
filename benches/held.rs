//! Thousands of writers that are held at once: what others notice meanwhile, what it costs, and how together they go on.
//!
//! Must not know: how the volume holds them; it sees a directory and a process id. Invariant: every writer is waited for
//! before it ends, and every byte that was acknowledged is read back.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use clap::Parser;
use hdrhistogram::Histogram;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use stunfs::internal::control::{Client, HttpReply};
use stunfs::internal::time::{Clock, Deadline, SimTime, pause};

const BLOCK: usize = 4096;
const STACK: usize = 64 * 1024;
/// The kernel's unit in /proc/PID/stat (`USER_HZ`, 100 on every Linux).
const TICKS_PER_SECOND: f64 = 100.0;

/// Prints lines `NAME VALUE`; times in milliseconds.
#[derive(Debug, Parser)]
struct Options {
    /// A directory on the volume whose first writes wait long enough.
    dir: PathBuf,
    /// A directory on a volume of the same make that holds nothing, to compare with.
    #[arg(long)]
    idle: PathBuf,
    /// Writers, each with a file of its own.
    #[arg(long, default_value_t = 10_000)]
    writers: usize,
    /// How long other operations are measured, idle and while the writers are held, in seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// The volume's process.
    #[arg(long)]
    pid: u32,
    /// The volume's control socket, asked for its status 100 times a second while the writers are held.
    #[arg(long)]
    control: PathBuf,
    /// What lets the writers go; without it they are waited for.
    #[arg(trailing_var_arg = true)]
    release: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("held: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> io::Result<()> {
    let clock = Clock::start();
    let files = create_files(options)?;
    let (writers, began) = start_writers(files, clock)?;
    while began.load(Ordering::Acquire) < options.writers {
        pause(Duration::from_millis(10));
    }
    // The last of them are on their way into the kernel.
    pause(Duration::from_secs(1));
    measure_meanwhile(options, &clock)?;
    let not_before = release(options, &clock)?;
    report_returns(writers, not_before)?;
    read_back(options)
}

fn path_of(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("held-{number:05}"))
}

fn create_files(options: &Options) -> io::Result<Vec<File>> {
    (0..options.writers).map(|number| File::create(path_of(&options.dir, number))).collect()
}

type Writer = JoinHandle<io::Result<SimTime>>;

/// Each writer returns when its write came back.
fn start_writers(files: Vec<File>, clock: Clock) -> io::Result<(Vec<Writer>, Arc<AtomicUsize>)> {
    let began = Arc::new(AtomicUsize::new(0));
    let start = |mut file: File| {
        let began = Arc::clone(&began);
        thread::Builder::new().stack_size(STACK).spawn(move || {
            began.fetch_add(1, Ordering::Release);
            file.write_all(&[b'h'; BLOCK])?;
            Ok(clock.now())
        })
    };
    let writers = files.into_iter().map(start).collect::<io::Result<_>>()?;
    Ok((writers, began))
}

fn measure_meanwhile(options: &Options, clock: &Clock) -> io::Result<()> {
    let (cpu, begin) = (cpu_seconds(options.pid)?, clock.now());
    pause(Duration::from_secs(2));
    let used = (cpu_seconds(options.pid)? - cpu) / clock.now().since(begin).as_secs_f64();
    println!("idle_cpu_percent {:.1}", used * 100.0);
    measure_others(options, clock)?;
    measure_control(options, clock)?;
    println!("rss_mib {:.1}", rss_kib(options.pid)? / 1024.0);
    Ok(())
}

/// A file that no writer holds; it was there before the volume, and so has its space.
fn other_path(dir: &Path) -> PathBuf {
    dir.join("other")
}

/// A buffer as O_DIRECT wants it.
#[repr(align(4096))]
struct Aligned([u8; BLOCK]);

/// Every millisecond, on each of both volumes in turn: a stat that the kernel may not answer from its cache, a statfs, a
/// read and a rewrite of a file that nothing else uses. In turn, so that both meet the same noise.
fn measure_others(options: &Options, clock: &Clock) -> io::Result<()> {
    let mut arms = [Arm::open("idle", &options.idle)?, Arm::open("held", &options.dir)?];
    let end = clock.now() + Duration::from_secs(options.seconds);
    while clock.now() < end {
        for arm in &mut arms {
            arm.measure(clock)?;
            pause(Duration::from_micros(500));
        }
    }
    for arm in &arms {
        for (operation, histogram) in OTHERS.iter().zip(&arm.took) {
            println!("{}_{operation}_p99_ms {:.3}", arm.name, millis(histogram.value_at_quantile(0.99)));
        }
    }
    Ok(())
}

const OTHERS: [&str; 4] = ["stat", "statfs", "read", "rewrite"];

/// One of the two volumes.
struct Arm {
    name: &'static str,
    path: PathBuf,
    file: File,
    block: Box<Aligned>,
    took: [Histogram<u64>; OTHERS.len()],
}

impl Arm {
    fn open(name: &'static str, dir: &Path) -> io::Result<Self> {
        let path = other_path(dir);
        let file = File::from(rustix::fs::open(&path, OFlags::RDWR | OFlags::DIRECT, Mode::empty())?);
        let took = [histogram()?, histogram()?, histogram()?, histogram()?];
        Ok(Self { name, path, file, block: Box::new(Aligned([b'o'; BLOCK])), took })
    }

    fn measure(&mut self, clock: &Clock) -> io::Result<()> {
        let mut begin = clock.now();
        for (operation, took) in OTHERS.iter().zip(&mut self.took) {
            match *operation {
                "stat" => rustix::fs::statx(CWD, &self.path, AtFlags::STATX_FORCE_SYNC, StatxFlags::BASIC_STATS)
                    .map(|_| ())?,
                "statfs" => rustix::fs::statvfs(&self.path).map(|_| ())?,
                "read" => self.file.read_exact_at(&mut self.block.0, 0)?,
                _ => self.file.write_all_at(&self.block.0, 0)?,
            }
            let now = clock.now();
            record(took, now.since(begin))?;
            begin = now;
        }
        Ok(())
    }
}

/// `status`, as `stunfs ctl` asks for it, on a connection of its own each time, 100 times a second.
fn measure_control(options: &Options, clock: &Clock) -> io::Result<()> {
    let client = Client::connect(&options.control).map_err(io::Error::other)?;
    let mut took = histogram()?;
    for _ in 0..options.seconds * 100 {
        let next = Deadline::after(Duration::from_millis(10));
        let begin = clock.now();
        let status = client.get("/v1/status").and_then(HttpReply::ok).map_err(io::Error::other)?;
        record(&mut took, clock.now().since(begin))?;
        if status["held"]["total"] != options.writers {
            return Err(io::Error::other(format!("{} are held, not {}", status["held"]["total"], options.writers)));
        }
        pause(next.left());
    }
    println!("control_p99_ms {:.3}", millis(took.value_at_quantile(0.99)));
    Ok(())
}

fn histogram() -> io::Result<Histogram<u64>> {
    Histogram::new(3).map_err(io::Error::other)
}

/// Lets the writers go; the moment from which on they may return.
fn release(options: &Options, clock: &Clock) -> io::Result<Option<SimTime>> {
    let Some((program, arguments)) = options.release.split_first() else { return Ok(None) };
    let begin = clock.now();
    let status = Command::new(program).args(arguments).stdout(std::process::Stdio::null()).status()?;
    if !status.success() {
        return Err(io::Error::other(format!("{program} failed: {status}")));
    }
    println!("release_command_ms {:.1}", clock.now().since(begin).as_secs_f64() * 1e3);
    Ok(Some(begin))
}

fn report_returns(writers: Vec<Writer>, not_before: Option<SimTime>) -> io::Result<()> {
    let mut returns = Vec::with_capacity(writers.len());
    for writer in writers {
        returns.push(writer.join().map_err(|_| io::Error::other("a writer panicked"))??);
    }
    returns.sort_unstable();
    let (Some(&first), Some(&last)) = (returns.first(), returns.last()) else { return Ok(()) };
    let early = returns.iter().filter(|at| not_before.is_some_and(|begin| **at < begin)).count();
    println!("returned_early {early}");
    println!("first_to_last_ms {:.1}", last.since(first).as_secs_f64() * 1e3);
    if let Some(begin) = not_before {
        println!("release_to_last_ms {:.1}", last.since(begin).as_secs_f64() * 1e3);
    }
    Ok(())
}

fn read_back(options: &Options) -> io::Result<()> {
    let is_right = |number| fs::read(path_of(&options.dir, number)).is_ok_and(|data| data == [b'h'; BLOCK]);
    let wrong = (0..options.writers).filter(|number| !is_right(*number)).count();
    println!("wrong_files {wrong}");
    if wrong == 0 { Ok(()) } else { Err(io::Error::other(format!("{wrong} files do not hold what was written"))) }
}

/// User and system time of a process so far.
fn cpu_seconds(pid: u32) -> io::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: f64 = after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS_PER_SECOND)
}

fn rss_kib(pid: u32) -> io::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).ok_or_else(|| io::Error::other("no VmRSS"))
}

fn record(histogram: &mut Histogram<u64>, time: Duration) -> io::Result<()> {
    histogram.record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)).map_err(io::Error::other)
}

fn millis(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64() * 1e3
}
