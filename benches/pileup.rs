//! The lock pile-up: writers on XFS on a thin disk, and what the kernel's hung-task detector reports of them.
//!
//! Must not know: what the volume does; it arms it and lets it go. Kernel settings are its script's. Invariant: only reports
//! of this process's own threads are counted, so that several can run at once; the disk is taken down, whatever happens but
//! SIGKILL (then: `stunfs disk repair --all`).

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use clap::Parser;
use stunfs::Volume;
use stunfs::internal::disk::{Disk, FsKind};
use stunfs::internal::observe::kmsg::source::{Begin, Follower};
use stunfs::internal::observe::kmsg::{HungTask, What};
use stunfs::internal::time::{Clock, pause};
use stunfs::internal::units::{Bytes, parse_duration};
use stunfs::internal::workload::{WorkloadOptions, WorkloadReport, WriterKind, WriterOp, run};

/// Who runs, each in a directory of its own. XFS puts new directories into its (four) allocation groups in turn: churn
/// shares the buffers of its group with the first fluentd, as many do on a node with hundreds of directories.
const WRITERS: [WriterKind; 6] = [
    WriterKind::Fluentd,
    WriterKind::Fluentd,
    WriterKind::Fluentd,
    WriterKind::Logger,
    WriterKind::Churn,
    WriterKind::Reader,
];

/// Runs once, where `kernel.hung_task_timeout_secs` is 5; prints one line: `reports=N NEEDLE=N by=fluentd:2,churn:1 first_s=9.8
/// worst_read_ms=31 ...`.
#[derive(Debug, Parser)]
struct Args {
    /// Every grain is provisioned from the start: the control
    #[arg(long)]
    thick: bool,
    /// xfs or ext4
    #[arg(long, default_value = "xfs")]
    fs: FsKind,
    /// The function that reports are looked for
    #[arg(long, default_value = "xfs_buf_lock")]
    needle: String,
    /// What a first write waits
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    first_write: Duration,
    /// How long without injection, first
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    warm_up: Duration,
    /// How long with injection
    #[arg(long = "for", default_value = "40s", value_parser = parse_duration)]
    duration: Duration,
    /// Which writers sync: fluentd each chunk, the logger and churn each record
    #[arg(long, value_delimiter = ',')]
    fsync: Vec<WriterKind>,
    /// Seed of the writers
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print the kernel's reports
    #[arg(long)]
    raw: bool,
}

const TIMEOUT: &str = "/proc/sys/kernel/hung_task_timeout_secs";

fn main() -> ExitCode {
    match one_run(&Args::parse()) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("pileup: {error}");
            ExitCode::FAILURE
        }
    }
}

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn one_run(args: &Args) -> Outcome<String> {
    let disk = bring_up(args)?;
    let timeout = std::fs::read_to_string(TIMEOUT)?;
    if timeout.trim() != "5" {
        return Err(format!("{TIMEOUT} is {}, not 5; start this by benches/pileup.sh", timeout.trim()).into());
    }
    let stop = Arc::new(AtomicBool::new(false));
    let writers = start_all(args, disk.path(), &stop)?;
    pause(args.warm_up);
    disk.volume().arm();
    let found = watch(args.duration)?;
    stop.store(true, Ordering::Relaxed);
    disk.volume().release();
    let reports: Vec<WorkloadReport> = writers.into_iter().filter_map(|writer| writer.join().ok().flatten()).collect();
    let held = disk.down()?.held;
    Ok(format!("{} held={held}", summary(args, &found, &reports)))
}

fn bring_up(args: &Args) -> Outcome<Disk> {
    let latency = humantime::format_duration(args.first_write).to_string().replace(' ', "").parse()?;
    let volume = Volume::builder().first_write(latency).disarmed();
    let volume = if args.thick { volume.thick() } else { volume };
    Ok(volume.disk(args.fs, Bytes::gib(4)).up()?)
}

type Writer = JoinHandle<Option<WorkloadReport>>;

fn start_all(args: &Args, path: &Path, stop: &Arc<AtomicBool>) -> Outcome<Vec<Writer>> {
    let mut writers = Vec::new();
    for (n, kind) in WRITERS.into_iter().enumerate() {
        let dir = path.join(format!("{kind}-{n}"));
        std::fs::create_dir(&dir)?;
        writers.push(start(args, &dir, kind, stop));
    }
    Ok(writers)
}

fn start(args: &Args, path: &Path, kind: WriterKind, stop: &Arc<AtomicBool>) -> Writer {
    let usual = WorkloadOptions::new(kind, path);
    let duration = args.warm_up + args.duration + Duration::from_secs(30);
    // Churn must be fast: only then does XFS reuse extents so soon that it has to force its log first.
    let every = if kind == WriterKind::Churn { None } else { usual.every };
    let options =
        WorkloadOptions { seed: args.seed, duration, every, fsync: args.fsync.contains(&kind), verify: false, ..usual };
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let outcome = run(&options, &stop, |_| ());
        outcome.inspect_err(|error| eprintln!("pileup: {}: {error}", options.kind)).ok()
    })
}

/// A thread of ours that hangs, and how long after the start of injection it was reported.
struct Hung {
    after: Duration,
    task: HungTask,
    raw: String,
}

fn watch(duration: Duration) -> Outcome<Vec<Hung>> {
    let clock = Clock::start();
    let mut log = Follower::host(clock, Begin::Now)?;
    let mut found = Vec::new();
    loop {
        let now = clock.now().since(stunfs::internal::time::SimTime::ZERO);
        if now >= duration {
            return Ok(found);
        }
        for finding in log.poll((duration - now).min(Duration::from_secs(1)))? {
            if let What::HungTask(task) = finding.what
                && Path::new(&format!("/proc/self/task/{}", task.pid)).exists()
            {
                found.push(Hung { after: now, task, raw: finding.raw });
            }
        }
    }
}

fn summary(args: &Args, found: &[Hung], reports: &[WorkloadReport]) -> String {
    let has = |hung: &&Hung| hung.task.frames.iter().any(|frame| frame.contains(&args.needle));
    let matching: Vec<&Hung> = found.iter().filter(has).collect();
    let mut by = BTreeMap::<&str, u32>::new();
    for hung in &matching {
        *by.entry(&hung.task.task).or_default() += 1;
    }
    let by: Vec<String> = by.into_iter().map(|(task, times)| format!("{task}:{times}")).collect();
    let first = matching.first().map_or("-".to_owned(), |hung| format!("{:.1}", hung.after.as_secs_f64()));
    let worst = |of: fn(WriterOp) -> bool| {
        let all = reports.iter().flat_map(|report| &report.ops).filter(|(op, _)| of(**op));
        all.map(|(_, times)| times.max_us).max().unwrap_or(0) / 1000
    };
    for hung in found.iter().filter(|_| args.raw) {
        eprintln!("{:.1} s: {}\n  {}", hung.after.as_secs_f64(), hung.raw, hung.task.frames.join(" < "));
    }
    format!(
        "reports={} {}={} by={} first_s={first} worst_read_ms={} worst_other_ms={}",
        found.len(),
        args.needle,
        matching.len(),
        if by.is_empty() { "-".to_owned() } else { by.join(",") },
        worst(|op| op == WriterOp::Read),
        worst(|op| op != WriterOp::Read)
    )
}
