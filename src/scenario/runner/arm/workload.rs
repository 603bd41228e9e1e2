//! The writers and commands of an arm: when each begins, what it tells, how it ends.
//!
//! Must not know: the storage, steps, verdicts. Invariant: each begins at most once, and none is forgotten before its end.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::ArmRun;
use crate::scenario::MetricValue;
use crate::scenario::result::WriterResult;
use crate::scenario::runner::command::{ChildGroup, ChildMessage, finish, program, start, with_path};
use crate::scenario::runner::message::ArmMessage;
use crate::scenario::spec::{Work, Workload};
use crate::scenario::writer_figures::{self, LiveWriter, WriterLine};
use crate::sys::process::{TaskStat, processes};
use crate::telemetry::harness::HarnessEventBody;
use crate::time::SimTime;

/// Numbers of steps' programs follow those of the workload.
const STEPS: usize = 1 << 20;

/// A writer or command.
#[derive(Debug)]
struct ArmProcess {
    work: Workload,
    group: Option<ChildGroup>,
    began_us: Option<u64>,
    ended_us: Option<u64>,
    status: Option<ExitStatus>,
    ended_by_harness: bool,
    live: LiveWriter,
    report: Option<Value>,
    kept: Option<String>,
}

impl ArmProcess {
    const fn is_running(&self) -> bool {
        self.began_us.is_some() && self.ended_us.is_none()
    }

    const fn is_command(&self) -> bool {
        matches!(self.work.work, Work::Run(_))
    }
}

/// All of them, and the programs of steps.
#[derive(Debug)]
pub(super) struct Workers {
    all: Vec<ArmProcess>,
    steps: Vec<(usize, ChildGroup)>,
    /// The process groups of all that were started; a group may outlive its leader.
    groups: Vec<u32>,
}

impl Workers {
    pub(super) fn new(workload: &[Workload]) -> Self {
        let worker = |work: &Workload| ArmProcess {
            work: work.clone(),
            group: None,
            began_us: None,
            ended_us: None,
            status: None,
            ended_by_harness: false,
            live: LiveWriter::default(),
            report: None,
            kept: None,
        };
        Self { all: workload.iter().map(worker).collect(), steps: Vec::new(), groups: Vec::new() }
    }

    /// Whether every one has run and ended.
    pub(super) fn are_over(&self) -> bool {
        self.all.iter().all(|worker| worker.ended_us.is_some()) && self.steps.is_empty()
    }

    /// Whether none runs.
    pub(super) fn have_ended(&self) -> bool {
        !self.all.iter().any(ArmProcess::is_running) && self.steps.is_empty()
    }

    pub(super) fn are_frozen(&self) -> bool {
        self.all.iter().any(|worker| worker.work.frozen)
    }

    /// Ends what has no time of its own: commands; with `all`, writers, too.
    pub(super) fn stop_commands(&mut self, all: bool) {
        for worker in self.all.iter_mut().filter(|worker| worker.is_running() && (all || worker.is_command())) {
            worker.ended_by_harness = true;
            worker.group.iter().for_each(|group| group.signal(Signal::TERM));
        }
        self.steps.iter().for_each(|(_, group)| group.signal(Signal::TERM));
    }

    /// Sends a signal to each that runs.
    pub(super) fn end_all(&mut self, signal: Signal) {
        for worker in self.all.iter_mut().filter(|worker| worker.is_running()) {
            worker.ended_by_harness |= worker.is_command();
            worker.group.iter().for_each(|group| group.signal(signal));
        }
        self.steps.iter().for_each(|(_, group)| group.signal(signal));
    }

    /// The processes that run still, children of those that have ended among them.
    pub(super) fn pids(&self) -> Vec<u32> {
        let ours = |process: &TaskStat| u32::try_from(process.group).is_ok_and(|group| self.groups.contains(&group));
        let pids = processes().into_iter().filter(ours).map(|process| process.pid);
        pids.filter_map(|pid| u32::try_from(pid).ok()).collect()
    }
}

impl ArmRun<'_, '_> {
    /// Starts what is due.
    pub(super) fn start_workers(&mut self, now: SimTime, path: &Path) {
        for index in 0..self.workers.all.len() {
            let worker = &self.workers.all[index];
            if worker.began_us.is_none() && now >= SimTime::ZERO + worker.work.at.0 {
                self.start_worker(index, now, path);
            }
        }
    }

    fn start_worker(&mut self, index: usize, now: SimTime, path: &Path) {
        let at = self.now().as_micros();
        let left = self.spec.duration.0.saturating_sub(now.since(SimTime::ZERO));
        let work = self.workers.all[index].work.clone();
        let started = self.command(&work, left, path).and_then(|(command, told)| {
            let send = self.send.clone();
            start(command, told, move |message| _ = send.send(ArmMessage::Child(index, message)))
        });
        let worker = &mut self.workers.all[index];
        worker.began_us = Some(at);
        match started {
            Ok(group) => {
                worker.group = Some(group);
                self.workers.groups.push(group.pid());
                self.freeze_with_stuns(&work, group);
                self.tell(HarnessEventBody::WriterStarted { name: work.name, pid: group.pid() });
            }
            Err(error) => {
                worker.ended_us = Some(at);
                worker.status = Some(ExitStatus::from_raw(127 << 8));
                self.error(format!("{} cannot be started: {error}", work.name));
            }
        }
    }

    fn command(&self, work: &Workload, left: Duration, path: &Path) -> std::io::Result<(std::process::Command, bool)> {
        match &work.work {
            Work::Run(words) => Ok((with_path(words, path), false)),
            Work::Writer(kind, options) => {
                let directory = path.join(&work.name);
                // A child makes it: the storage may be slow.
                let words = ["mkdir", "-p", "{}"].map(str::to_owned);
                finish(with_path(&words, &directory), Duration::from_secs(30))?;
                let micros = |time: Duration| format!("{}us", time.as_micros());
                let mut arguments = vec!["write".to_owned(), kind.name().to_owned(), directory.display().to_string()];
                arguments.extend(["--json-lines".to_owned(), "--progress=1s".to_owned()]);
                arguments.push(format!("--for={}", micros(left)));
                arguments.push(format!("--patience={}", micros(self.spec.patience.0)));
                if options.get("seed").is_none() {
                    arguments.push(format!("--seed={}", self.spec.seed));
                }
                arguments.extend(options.arguments());
                Ok((program(&self.options.run.program, arguments), true))
            }
        }
    }

    /// Puts a process into the control group that stuns freeze.
    fn freeze_with_stuns(&mut self, work: &Workload, group: ChildGroup) {
        let Some(cgroup) = self.cgroup_path().filter(|_| work.frozen) else { return };
        let written = std::fs::write(cgroup.join("cgroup.procs"), group.pid().to_string());
        written
            .err()
            .into_iter()
            .for_each(|error| self.error(format!("{} cannot be put into its control group: {error}", work.name)));
    }

    /// The program of a step.
    pub(super) fn run_step(&mut self, index: usize, words: &[String], path: &Path) -> Result<(), String> {
        let send = self.send.clone();
        let tell = move |message| _ = send.send(ArmMessage::Child(STEPS + index, message));
        let group =
            start(with_path(words, path), false, tell).map_err(|error| format!("cannot be started: {error}"))?;
        self.workers.steps.push((index, group));
        self.workers.groups.push(group.pid());
        Ok(())
    }

    pub(super) fn take_from_worker(&mut self, index: usize, message: ChildMessage) {
        if let Some(step) = index.checked_sub(STEPS) {
            if let ChildMessage::Ended(status) = message {
                self.workers.steps.retain(|(running, _)| *running != step);
                let outcome = if status.success() { Ok(()) } else { Err(status.to_string()) };
                self.step_done(step, outcome);
            }
            return;
        }
        match message {
            ChildMessage::Line(line) => self.take_line(index, &line),
            ChildMessage::Ended(status) => self.worker_ended(index, status),
        }
    }

    fn take_line(&mut self, index: usize, line: &str) {
        let now = self.now().as_micros();
        let Some(worker) = self.workers.all.get_mut(index) else { return };
        let name = worker.work.name.clone();
        match WriterLine::read(line) {
            Some(WriterLine::Progress(progress)) => {
                let latency = worker.live.progress(&name, &progress, &mut self.figures);
                latency.into_iter().for_each(|latency| self.evidence.felt(&name, now, latency));
                self.tell(HarnessEventBody::WriterProgress { name, progress });
            }
            Some(WriterLine::Report(report)) => worker.report = Some(report),
            None => {}
        }
    }

    fn worker_ended(&mut self, index: usize, status: ExitStatus) {
        let now = self.now().as_micros();
        let Some(worker) = self.workers.all.get_mut(index) else { return };
        worker.ended_us = Some(now);
        worker.status = Some(status);
        worker.group = None;
        let name = worker.work.name.clone();
        // A rate of a writer that has ended is no rate.
        self.figures.forget(&format!("{name}.rate"));
        self.tell(HarnessEventBody::WriterEnded { name: name.clone(), exit_code: status.code() });
        let report = self.workers.all.get(index).and_then(|worker| worker.report.clone());
        if let Some(report) = report {
            match self.options.folder.write_report(self.options.name, &name, &report) {
                Ok(kept) => self.workers.all[index].kept = Some(kept),
                Err(error) => self.error(error.to_string()),
            }
        }
    }

    /// The final figures of the workload, and what became of each.
    pub(super) fn put_worker_figures(&mut self) {
        for worker in &self.workers.all {
            let name = &worker.work.name;
            if let Some(report) = &worker.report {
                writer_figures::report(name, report, &mut self.figures);
            }
            let code = worker.status.and_then(|status| status.code());
            if let Some(code) = code.filter(|_| worker.is_command()) {
                self.figures.put(format!("{name}.exit"), MetricValue::Count(f64::from(code)));
            }
            if let Some((began, ended)) = worker.began_us.zip(worker.ended_us) {
                self.figures.put(format!("{name}.elapsed"), MetricValue::Micros(ended.saturating_sub(began)));
            }
            self.result.writers.push(WriterResult {
                name: name.clone(),
                kind: match &worker.work.work {
                    Work::Writer(kind, _) => format!("write {kind}"),
                    Work::Run(words) => words.first().cloned().unwrap_or_default(),
                },
                began_us: worker.began_us,
                ended_us: worker.ended_us,
                exit_code: code,
                ended_by_harness: worker.ended_by_harness,
                report: worker.kept.clone(),
            });
        }
    }
}
