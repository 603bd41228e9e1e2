//! `stunfs test`: runs scenarios, each to a verdict.
//!
//! The process that the user starts only watches: a second one, in a session of its own, does the work. If the first dies, the
//! second sees the end of a pipe and clears away what it made; if the second dies, the first does.
//!
//! Must not know: how a scenario is run. Invariant: whichever of the two is killed, nothing stays held, frozen or mounted.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use parking_lot::Mutex;
use rustix::process::{Pid, getpid, set_child_subreaper};
use stunfs::internal::profiles;
use stunfs::internal::scenario::result::{RESULT_VERSION, RepeatResult, RepeatedRun, RunResult, Verdict};
use stunfs::internal::scenario::runner::{self, Abort, ScenarioRunOptions};
use stunfs::internal::scenario::{Override, ReadError, Scenario, judge};
use stunfs::internal::time::wall_now;

use super::exit::{SOFTWARE, UsageError};
use super::signals::Signals;
use super::{output, report, scenario};

const EXAMPLES: &str = "\
Exit codes: 0 passed, 1 an expectation failed, 2 usage, 3 inconclusive, 4 aborted, 70 the harness failed.
Of several scenarios the worst counts. Each result folder has a page, report.html.

Examples:
  stunfs test log-rotation-burst --short
  stunfs test mine.yaml --out results --set spec.arms.thin.pool=4GiB
  stunfs test stun-ladder --dry-run
  stunfs test mine.yaml --repeat 5 --seed 100";

/// `stunfs test`
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TestArgs {
    /// Files, or names of scenarios that are built in ('stunfs scenario list')
    #[arg(required = true, value_name = "SCENARIO")]
    scenarios: Vec<PathBuf>,
    /// Where result folders are made [./stunfs-results/TIME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Set one value of the scenario, such as spec.arms.thin.pool=4GiB; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The scenario's own short form, as for a quick look or CI
    #[arg(long)]
    short: bool,
    /// Run each so often, each time with the next seed
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repeat: u32,
    /// The (first) seed [the scenario's]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Show what would be done, and when; nothing is touched
    #[arg(long)]
    dry_run: bool,
    /// Write the JUnit result there as well; of several runs the last one's
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// This is the process that does the work
    #[arg(long, hide = true, value_name = "DIR")]
    scratch: Option<PathBuf>,
}

pub(crate) fn run(args: &TestArgs) -> anyhow::Result<u8> {
    // What is wrong with any of them is said before the first is run.
    let scenarios = load_all(args)?;
    if args.dry_run {
        scenarios.iter().try_for_each(|scenario| output::print(&plan(scenario)).map(|_| ()))?;
        return Ok(0);
    }
    match &args.scratch {
        Some(scratch) => work(args, &scenarios, scratch),
        None => watch(),
    }
}

fn load_all(args: &TestArgs) -> anyhow::Result<Vec<Scenario>> {
    let changes: Result<Vec<Override>, ReadError> = args.set.iter().map(|text| text.parse()).collect();
    let changes = changes.map_err(|error| UsageError(error.to_string()))?;
    args.scenarios.iter().map(|path| scenario::load(path, &changes, args.short)).collect()
}

/// What a run would do.
fn plan(scenario: &Scenario) -> String {
    let spec = &scenario.spec;
    let arms: Vec<&str> = spec.arms.0.iter().map(|(name, _)| name.as_str()).collect();
    let mut lines = vec![format!(
        "{}: {} for {}, one arm after the other, seed {}",
        scenario.metadata.name,
        arms.join(", "),
        spec.duration,
        spec.seed
    )];
    let work = spec.workload.iter().map(|work| (work.at.0, format!("{} begins", work.name)));
    let mut before = std::time::Duration::ZERO;
    let steps = spec.timeline.iter().map(|step| {
        before = step.at.map_or(before, |at| at.0);
        (
            before,
            step.name.as_ref().map_or_else(|| step.action.text(), |name| format!("{name} ({})", step.action.text())),
        )
    });
    let mut all: Vec<_> = work.chain(steps).collect();
    all.sort_by_key(|(at, _)| *at);
    lines.extend(all.into_iter().map(|(at, what)| format!("  {:>8}  {what}", humantime(at))));
    lines.push(format!("  {:>8}  everything is released and taken down", spec.duration.to_string()));
    lines.extend(spec.expect.iter().map(|it| format!("  expects of {}: {} {}", it.arm, it.metric, it.bounds())));
    lines.join("\n") + "\n"
}

fn humantime(time: std::time::Duration) -> String {
    stunfs::internal::scenario::TimeText(time).to_string()
}

// ---- the process that the user starts ------------------------------------------------------------------------------------

fn watch() -> anyhow::Result<u8> {
    let signals = Signals::catch()?;
    let scratch =
        tempfile::Builder::new().prefix("stunfs-test-").tempdir().context("cannot make a temporary directory")?;
    let scratch = scratch.keep();
    // What the worker leaves, if it is killed, becomes ours.
    set_child_subreaper(Some(getpid())).context("cannot take over what the run might leave")?;
    let mut worker = start_worker(&scratch)?;
    let pid = worker.id();
    let pipe = Arc::new(Mutex::new(worker.stdin.take()));
    let _serving = signals.serve(pass_on(Arc::clone(&pipe), pid))?;
    let status = worker.wait().context("cannot wait for the run")?;
    drop(pipe.lock().take());
    let program = std::env::current_exe().context("cannot find the stunfs program")?;
    if let Some(code) = status.code() {
        let left = if scratch.exists() { runner::sweep(&program, &scratch, Some(pid)) } else { Vec::new() };
        left.iter().for_each(output::say);
        return Ok(u8::try_from(code).unwrap_or(SOFTWARE));
    }
    let left = runner::sweep(&program, &scratch, Some(pid));
    left.iter().for_each(output::say);
    output::say(format!("the run was killed ({status}); what it had made is cleared away"));
    Ok(Verdict::Aborted.exit_code())
}

fn start_worker(scratch: &Path) -> anyhow::Result<Child> {
    let mut command = Command::new(std::env::current_exe().context("cannot find the stunfs program")?);
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    command.arg0("stunfs").args(&arguments).arg("--scratch").arg(scratch).stdin(Stdio::piped());
    command.spawn().context("cannot start the run")
}

/// Asks the worker to end; the second time it is killed, and this process clears away.
fn pass_on(pipe: Arc<Mutex<Option<ChildStdin>>>, pid: u32) -> impl FnMut(i32, u32) + Send + 'static {
    move |signal, times| {
        if times > 1 {
            let worker = i32::try_from(pid).ok().and_then(Pid::from_raw);
            worker.into_iter().for_each(|pid| _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL));
        }
        if let Some(mut pipe) = pipe.lock().take() {
            // The end of the pipe alone says enough.
            let _ = writeln!(pipe, "stopped by signal {signal}");
        }
    }
}

// ---- the process that does the work --------------------------------------------------------------------------------------

fn work(args: &TestArgs, scenarios: &[Scenario], scratch: &Path) -> anyhow::Result<u8> {
    rustix::process::setsid().context("cannot begin a session of its own")?;
    // Only the process that watches is asked; this one is left alone by terminals.
    let _serving = Signals::catch()?.serve(|_, _| {})?;
    let abort = Abort::default();
    listen(abort.clone())?;
    let worst = run_all(args, scenarios, scratch, &abort);
    let program = std::env::current_exe().context("cannot find the stunfs program")?;
    runner::sweep(&program, scratch, None).iter().for_each(output::say);
    Ok(worst?.exit_code())
}

/// Waits for the end of the pipe from the process that watches.
fn listen(abort: Abort) -> anyhow::Result<()> {
    let body = move || {
        let mut said = String::new();
        // What cannot be read has ended, too.
        let _ = std::io::stdin().read_to_string(&mut said);
        let why = said.lines().next().unwrap_or("the process that ran it was killed").to_owned();
        abort.request(why);
    };
    std::thread::Builder::new().name("watched".to_owned()).spawn(body).context("cannot start a thread").map(|_| ())
}

fn run_all(args: &TestArgs, scenarios: &[Scenario], scratch: &Path, abort: &Abort) -> anyhow::Result<Verdict> {
    let out = args.out.clone().unwrap_or_else(|| {
        let time = humantime_stamp();
        Path::new("stunfs-results").join(time)
    });
    let mut worst = Verdict::Pass;
    for (number, scenario) in scenarios.iter().enumerate() {
        let name = &scenario.metadata.name;
        let twice = scenarios.iter().filter(|other| other.metadata.name == *name).count() > 1;
        let folder = out.join(if twice { format!("{name}-{number}") } else { name.clone() });
        worst = worst.max(repeat(args, scenario, &folder, scratch, abort)?);
        if abort.reason().is_some() {
            break;
        }
    }
    Ok(worst)
}

fn humantime_stamp() -> String {
    let now = wall_now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{}", now.as_secs())
}

fn repeat(
    args: &TestArgs,
    scenario: &Scenario,
    folder: &Path,
    scratch: &Path,
    abort: &Abort,
) -> anyhow::Result<Verdict> {
    let first = args.seed.unwrap_or(scenario.spec.seed);
    if args.repeat == 1 {
        return Ok(once(args, scenario, first, folder, scratch, abort)?.verdict);
    }
    let mut result = RepeatResult {
        v: RESULT_VERSION,
        scenario: scenario.metadata.name.clone(),
        verdict: Verdict::Pass,
        counts: std::collections::BTreeMap::new(),
        runs: Vec::new(),
    };
    for n in 1..=args.repeat {
        let (name, seed) = (n.to_string(), first.wrapping_add(u64::from(n - 1)));
        let verdict = once(args, scenario, seed, &folder.join(&name), scratch, abort)?.verdict;
        *result.counts.entry(verdict).or_default() += 1;
        result.verdict = result.verdict.max(verdict);
        result.runs.push(RepeatedRun { folder: name, seed, verdict });
        if abort.reason().is_some() {
            break;
        }
    }
    runner::write_repeat(folder, &result)?;
    let passed = result.counts.get(&Verdict::Pass).copied().unwrap_or(0);
    output::print(&format!("{}: {passed} of {} runs passed\n", result.scenario, result.runs.len()))?;
    Ok(result.verdict)
}

fn once(
    args: &TestArgs,
    scenario: &Scenario,
    seed: u64,
    folder: &Path,
    scratch: &Path,
    abort: &Abort,
) -> anyhow::Result<RunResult> {
    let mut scenario = scenario.clone();
    scenario.spec.seed = seed;
    let own =
        tempfile::Builder::new().prefix("run").tempdir_in(scratch).context("cannot make a temporary directory")?;
    let options = ScenarioRunOptions {
        program: std::env::current_exe().context("cannot find the stunfs program")?,
        again: again(folder),
        scenario,
        folder: folder.to_owned(),
        scratch: scratch.to_owned(),
        work: own.keep(),
        junit: args.junit.clone(),
        profiles: profiles::lookup,
    };
    let result = runner::run(&options, abort)?;
    let page = match report::write_page(folder) {
        Ok(page) => format!("  report: {}\n", page.display()),
        Err(error) => format!("  no report: {error:#}\n"),
    };
    output::print(&format!("{}  result: {}\n{page}", judge::text(&result), folder.display()))?;
    Ok(result)
}

fn again(folder: &Path) -> Vec<String> {
    ["stunfs", "test"]
        .map(str::to_owned)
        .into_iter()
        .chain([folder.join("scenario.yaml").display().to_string()])
        .collect()
}
