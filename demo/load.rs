//! What the demo needs beside real programs: a source of numbered lines, a writer that measures itself, a reader that
//! measures silence, and a check that nothing is lost.
//!
//! Must not know: stunfs's internals; it sees paths and pipes, as rsyslog and tar do. Invariant: every figure is measured
//! by the program that suffers it.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use hdrhistogram::Histogram;
use stunfs::internal::time::{Clock, SimTime, pause};

/// Helpers of demo/run.sh.
#[derive(Debug, Parser)]
enum Command {
    /// Print numbered lines at a steady rate until SIGTERM; then say on stderr how many.
    Lines {
        /// Lines a second.
        rate: u32,
    },
    /// Append 4 KiB and fdatasync, again and again, until SIGTERM; then print `COUNT P50 P99 MAX` in microseconds.
    Probe {
        /// The file.
        file: PathBuf,
        /// Milliseconds from one append to the next.
        every_ms: u32,
    },
    /// Read lines until the end; then print the longest time without one, in microseconds.
    Silence,
    /// Print `LOST TWICE`: how many of the lines numbered from 1 are missing, and how many are there twice.
    Check {
        /// The last number.
        last: u64,
        /// The log and its rotated files.
        files: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Lines { rate } => lines(rate),
        Command::Probe { file, every_ms } => probe(&file, Duration::from_millis(every_ms.into())),
        Command::Silence => silence(),
        Command::Check { last, files } => check(last, &files),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Becomes true at SIGTERM.
fn stop_flag() -> io::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&flag))?;
    Ok(flag)
}

/// Waits for the `n`-th beat, so that a late one does not shift those that follow.
fn wait_for_beat(clock: &Clock, every: Duration, n: u32) {
    pause((SimTime::ZERO + every * n).since(clock.now()));
}

fn lines(rate: u32) -> io::Result<()> {
    let (stop, clock, every) = (stop_flag()?, Clock::start(), Duration::from_secs(1) / rate.max(1));
    let mut out = io::stdout().lock();
    let mut number = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        writeln!(out, "n={number} t={} the quick brown fox wrote one more line into its log", clock.now().as_micros())?;
        out.flush()?;
        wait_for_beat(&clock, every, number);
    }
    eprintln!("{number}");
    Ok(())
}

fn probe(path: &Path, every: Duration) -> io::Result<()> {
    let stop = stop_flag()?;
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let mut latencies = Histogram::<u64>::new(3).map_err(io::Error::other)?;
    let (clock, record) = (Clock::start(), [b'.'; 4096]);
    let mut beat = 0;
    while !stop.load(Ordering::Relaxed) {
        let latency = timed_append(&clock, &mut file, &record)?;
        // Beats that passed while it waited would have waited too: count them, or one stall of 5 s is one sample in 1,000.
        latencies.record_correct(micros(latency), micros(every)).map_err(io::Error::other)?;
        beat = next_beat(&clock, every).max(beat + 1);
        wait_for_beat(&clock, every, beat);
    }
    let [p50, p99] = [0.5, 0.99].map(|quantile| latencies.value_at_quantile(quantile));
    println!("{} {p50} {p99} {}", latencies.len(), latencies.max());
    Ok(())
}

fn timed_append(clock: &Clock, file: &mut File, record: &[u8]) -> io::Result<Duration> {
    let begin = clock.now();
    file.write_all(record)?;
    file.sync_data()?;
    Ok(clock.now().since(begin))
}

fn next_beat(clock: &Clock, every: Duration) -> u32 {
    let beats = clock.now().as_micros() / micros(every).max(1);
    u32::try_from(beats + 1).unwrap_or(u32::MAX)
}

fn silence() -> io::Result<()> {
    let clock = Clock::start();
    let mut last = None;
    let mut longest = Duration::ZERO;
    for line in io::stdin().lock().lines() {
        line?;
        let now = clock.now();
        longest = longest.max(last.map_or(Duration::ZERO, |last| now.since(last)));
        last = Some(now);
    }
    println!("{}", micros(longest));
    Ok(())
}

fn check(last: u64, files: &[PathBuf]) -> io::Result<()> {
    let mut seen = HashSet::new();
    let mut twice = 0_u64;
    for file in files {
        for number in fs::read_to_string(file)?.lines().filter_map(number_of) {
            twice += u64::from(!seen.insert(number));
        }
    }
    let lost = (1..=last).filter(|number| !seen.contains(number)).count();
    println!("{lost} {twice}");
    Ok(())
}

/// The number in a line that `lines` made.
fn number_of(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("n=")?;
    rest.split(' ').next()?.parse().ok()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
