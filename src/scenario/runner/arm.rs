//! One arm: storage up, workload, steps, storage down; what was seen goes to the state machines, and a verdict comes out.
//!
//! Must not know: how anything is judged. Invariant: this thread never opens a path on the storage, and never waits longer
//! than a tick for anything but the storage's own coming up and going down.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::process::Signal;

use super::cleanup::{Undo, UndoList, remove_group};
use super::folder::Folder;
use super::log::{RunLog, VolumeLog};
use super::message::ArmMessage;
use super::storage::{ArmStorage, Plan};
use super::watcher::Watcher;
use super::{Abort, ScenarioRunOptions, probes};
use crate::control::{Client, Command as ControlCommand};
use crate::observe::procfs::{Who, blocked};
use crate::observe::waits::waits_for;
use crate::scenario::conditions::{Steadiness, stop};
use crate::scenario::evidence::Evidence;
use crate::scenario::figures::{Figures, ProbeHistory};
use crate::scenario::judge::{self, Circumstances};
use crate::scenario::result::{ArmResult, StuckTask, Verdict};
use crate::scenario::spec::{Action, Arm, KernelProbe, Spec, Storage, When};
use crate::scenario::timeline::{StepChange, Timeline};
use crate::scenario::{MetricValue, expectations};
use crate::settings::{Env, Opt};
use crate::telemetry::harness::HarnessEventBody;
use crate::time::{Clock, Deadline, SimTime, pause, wait_until};

mod workload;

use workload::Workers;

const TICK: Duration = Duration::from_millis(50);
/// A loop that comes round later than this was not scheduled.
const LATE: Duration = Duration::from_secs(1);
/// How long the release may take: it answers when the last held operation is out.
const RELEASE_LIMIT: Duration = Duration::from_secs(30);
/// How long the volume's last event may take.
const LAST_EVENT_LIMIT: Duration = Duration::from_secs(10);
/// How long tasks may take to leave state D after the release.
const UNSTUCK_LIMIT: Duration = Duration::from_secs(10);

/// What an arm needs to know.
#[derive(Debug)]
pub(super) struct ArmOptions<'a> {
    pub(super) run: &'a ScenarioRunOptions,
    pub(super) name: &'a str,
    pub(super) arm: &'a Arm,
    pub(super) index: usize,
    pub(super) folder: &'a Folder,
    pub(super) clock: Clock,
}

/// Runs the arm to its verdict.
pub(super) fn run(options: &ArmOptions<'_>, log: &mut RunLog, abort: &Abort) -> ArmResult {
    let mut session = ArmRun::new(options, log);
    session.go(abort);
    session.finish(abort)
}

struct ArmRun<'a, 'b> {
    options: &'a ArmOptions<'b>,
    spec: &'a Spec,
    log: &'a mut RunLog,
    result: ArmResult,
    circumstances: Circumstances,
    evidence: Evidence,
    figures: Figures,
    histories: BTreeMap<String, ProbeHistory>,
    timeline: Timeline,
    steadiness: Steadiness,
    workers: Workers,
    send: Sender<ArmMessage>,
    receive: Receiver<ArmMessage>,
    storage: Option<ArmStorage>,
    volume_log: Option<VolumeLog>,
    cgroup: Option<Undo>,
    stop_probes: Arc<AtomicBool>,
    watcher: Watcher,
    /// When the workload began.
    begin: SimTime,
    last_tick: SimTime,
}

impl<'a, 'b> ArmRun<'a, 'b> {
    fn new(options: &'a ArmOptions<'b>, log: &'a mut RunLog) -> Self {
        let spec = &options.run.scenario.spec;
        let (send, receive) = unbounded();
        let now = options.clock.now();
        let result = ArmResult {
            name: options.name.to_owned(),
            verdict: Verdict::Error,
            reasons: Vec::new(),
            notes: Vec::new(),
            began_us: now.as_micros(),
            ended_us: 0,
            steady_us: None,
            steps: Vec::new(),
            proofs: Vec::new(),
            expectations: Vec::new(),
            metrics: BTreeMap::new(),
            writers: Vec::new(),
            log: crate::scenario::result::LogResult::default(),
            stuck: Vec::new(),
        };
        Self {
            options,
            spec,
            log,
            result,
            circumstances: Circumstances::default(),
            evidence: Evidence::default(),
            figures: Figures::default(),
            histories: BTreeMap::new(),
            timeline: Timeline::new(&spec.timeline),
            steadiness: Steadiness::new(&spec.steady_state),
            workers: Workers::new(&spec.workload),
            send,
            receive,
            storage: None,
            volume_log: None,
            cgroup: None,
            stop_probes: Arc::new(AtomicBool::new(false)),
            watcher: Watcher::default(),
            begin: now,
            last_tick: now,
        }
    }

    fn now(&self) -> SimTime {
        self.options.clock.now()
    }

    fn tell(&mut self, body: HarnessEventBody) {
        self.log.tell(Some(self.options.name), body);
    }

    fn error(&mut self, error: impl Into<String>) {
        self.circumstances.errors.push(error.into());
    }

    // ---- storage ---------------------------------------------------------------------------------------------------------

    /// Brings the storage up; false: there is none, and why is on record.
    fn bring_up(&mut self) -> bool {
        let scratch = self.options.run.work.join(self.options.index.to_string());
        let up = std::fs::create_dir(&scratch).and_then(|()| UndoList::open(&self.options.run.scratch));
        let mut undo = match up {
            Ok(undo) => undo,
            Err(error) => {
                self.error(format!("cannot make {}: {error}", scratch.display()));
                return false;
            }
        };
        let outcome = self.make_group(&mut undo).and_then(|()| self.make_storage(&scratch, &mut undo));
        outcome.map_err(|error| self.error(error)).is_ok()
    }

    fn make_storage(&mut self, scratch: &Path, undo: &mut UndoList) -> Result<(), String> {
        let cgroup = self.cgroup_path().map(Path::to_owned);
        let plan = Plan {
            program: &self.options.run.program,
            spec: self.spec,
            arm: self.options.arm,
            scratch,
            cgroup: cgroup.as_deref(),
        };
        let storage = plan.up(undo).map_err(|error| error.to_string())?;
        let (origin, _) = storage.clock_origin(self.options.clock).map_err(|error| error.to_string())?;
        match &storage.events {
            Some(events) => {
                let log =
                    VolumeLog::open(events, origin).map_err(|error| format!("the volume's event log: {error}"))?;
                self.volume_log = Some(log);
            }
            None => {
                let entry = Undo::Attached { control: storage.control.clone() };
                undo.add(&entry).map_err(|error| format!("undo list: {error}"))?;
                return Err("storage of kind attach cannot be run yet; use directory or disk".to_owned());
            }
        }
        self.storage = Some(storage);
        Ok(())
    }

    /// The control group that stuns freeze, if something of the workload is to be frozen.
    fn make_group(&mut self, undo: &mut UndoList) -> Result<(), String> {
        if !self.spec.workload.iter().any(|work| work.frozen) {
            return Ok(());
        }
        let hierarchies = crate::sys::cgroup::hierarchies().map_err(|error| format!("control groups: {error}"))?;
        let (_, root) = hierarchies.first().ok_or("no control groups that can freeze are mounted here")?;
        let path = root.join(format!("stunfs-test-{}-{}", std::process::id(), self.options.index));
        let entry = Undo::Cgroup { path: path.clone() };
        undo.add(&entry).map_err(|error| format!("undo list: {error}"))?;
        std::fs::create_dir(&path)
            .map_err(|error| format!("cannot make the control group {}: {error}", path.display()))?;
        self.cgroup = Some(entry);
        Ok(())
    }

    fn cgroup_path(&self) -> Option<&Path> {
        match &self.cgroup {
            Some(Undo::Cgroup { path }) => Some(path),
            _ => None,
        }
    }

    // ---- the workload's time ---------------------------------------------------------------------------------------------

    fn go(&mut self, abort: &Abort) {
        if let Some(why) = abort.reason() {
            self.circumstances.aborted = Some(why);
            return;
        }
        if !self.bring_up() {
            return;
        }
        let Some((path, volume)) = self.storage.as_ref().map(|it| (it.path.clone(), it.volume.clone())) else { return };
        self.tell(HarnessEventBody::ArmStarted {
            path: path.display().to_string(),
            volume: volume.display().to_string(),
        });
        self.look_once(When::Start, &path);
        self.watch(&path);
        self.begin = self.now();
        if let Err(error) = self.watcher.start(self.begin.as_micros(), self.send.clone()) {
            self.error(format!("the observer cannot be started: {error}"));
        }
        self.last_tick = self.begin;
        self.result.began_us = self.begin.as_micros();
        let end = self.begin + self.spec.duration.0;
        while self.circumstances.aborted.is_none() && self.now() < end {
            if let Some(why) = abort.reason() {
                self.circumstances.aborted = Some(why);
            } else if !self.tick(&path) || self.is_over() {
                break;
            }
        }
    }

    /// Whether everything has ended before its time: no writer runs or is to begin, and every step is done.
    fn is_over(&self) -> bool {
        self.workers.are_over() && self.timeline.is_over()
    }

    /// One turn; false: it makes no sense to go on.
    fn tick(&mut self, path: &Path) -> bool {
        self.wait_for_messages();
        let now = SimTime(self.now().0.saturating_sub(self.begin.0));
        self.start_workers(now, path);
        self.measure();
        if self.steadiness.observe(now, &self.figures) {
            self.result.steady_us = Some(self.now().as_micros());
            self.tell(HarnessEventBody::Steady {});
        }
        if let Some(why) = stop(&self.spec.stop_conditions, &self.figures) {
            self.circumstances.aborted = Some(format!("stop condition: {why}"));
            return false;
        }
        if self.evidence.has_expired() {
            self.circumstances.aborted = Some("the volume's time limit (ttl) has passed".to_owned());
            return false;
        }
        let first = self.timeline.first_due().unwrap_or(SimTime::ZERO + self.spec.duration.0.saturating_sub(TICK * 2));
        if self.steadiness.is_asked_for() && self.steadiness.reached().is_none() && now >= first {
            self.circumstances.never_steady = Some(self.steadiness.missing(&self.figures));
            return false;
        }
        for change in self.timeline.poll(now, &self.figures) {
            self.step(change, path);
        }
        true
    }

    /// Takes what comes within a tick, and the volume's events.
    fn wait_for_messages(&mut self) {
        let deadline = Deadline::after(TICK);
        while let Ok(message) = self.receive.recv_timeout(deadline.left()) {
            self.take(message);
        }
        let now = self.now();
        let late = now.since(self.last_tick).saturating_sub(TICK);
        if late > LATE {
            let late_us = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
            self.tell(HarnessEventBody::HarnessLate { late_us });
            let text = format!("the harness was not scheduled for {}", MetricValue::Micros(late_us));
            self.result.notes.push(text + ": figures of that time may be disturbed");
        }
        self.last_tick = now;
        self.read_events();
    }

    fn read_events(&mut self) {
        let Some(volume_log) = &mut self.volume_log else { return };
        if let Err(error) = volume_log.take(self.options.name, &mut self.evidence, self.log) {
            self.volume_log = None;
            self.error(format!("the volume's event log cannot be read: {error}"));
        }
    }

    /// The daemon writes its last event when the mount is gone already.
    fn read_last_events(&mut self) {
        let deadline = Deadline::after(LAST_EVENT_LIMIT);
        self.read_events();
        while !self.evidence.log().complete && self.volume_log.is_some() && !deadline.passed() {
            pause(TICK);
            self.read_events();
        }
        if let Some(volume_log) = &self.volume_log {
            volume_log.end(&mut self.evidence);
        }
    }

    fn take(&mut self, message: ArmMessage) {
        match message {
            ArmMessage::Child(index, message) => self.take_from_worker(index, message),
            ArmMessage::Step(index, outcome) => self.step_done(index, outcome),
            ArmMessage::Probe(name, value) => self.take_probe(&name, value),
            ArmMessage::Observed(what) => {
                let told = self.watcher.take(what);
                self.tell(told);
            }
        }
    }

    // ---- steps -----------------------------------------------------------------------------------------------------------

    fn step(&mut self, change: StepChange, path: &Path) {
        match change {
            StepChange::Begins(index, action) => {
                self.tell_step(index, false, None);
                let begun = match action {
                    Action::Command(command) => self.send_command(index, command),
                    Action::Run(words) => self.run_step(index, &words, path),
                    Action::Wait(_) => Ok(()),
                };
                if let Err(error) = begun {
                    self.step_done(index, Err(error));
                }
            }
            StepChange::Waited(index, outcome) => self.tell_step(index, true, outcome.err()),
        }
    }

    fn tell_step(&mut self, index: usize, done: bool, error: Option<String>) {
        let name = self.timeline.name(index);
        self.tell(HarnessEventBody::Step { index, name, done, error });
    }

    fn step_done(&mut self, index: usize, outcome: Result<(), String>) {
        let now = SimTime(self.now().0.saturating_sub(self.begin.0));
        self.timeline.done(index, now, outcome.clone());
        self.tell_step(index, true, outcome.err());
    }

    /// The answer may take as long as the stall: a thread of its own waits for it.
    fn send_command(&self, index: usize, command: ControlCommand) -> Result<(), String> {
        let control = self.storage.as_ref().map(|storage| storage.control.clone()).ok_or("there is no storage")?;
        let send = self.send.clone();
        let body = move || {
            let answer = Client::connect(&control).and_then(|client| client.execute(&command));
            // At the end of the arm nobody takes it any more.
            let _ = send.send(ArmMessage::Step(index, answer.map(|_| ()).map_err(|error| error.to_string())));
        };
        std::thread::Builder::new().name("step".to_owned()).spawn(body).map(|_| ()).map_err(|error| error.to_string())
    }

    // ---- probes ----------------------------------------------------------------------------------------------------------

    fn look_once(&mut self, when: When, path: &Path) {
        for probe in self.spec.probes.iter().filter(|probe| probe.when == when && probe.kernel.is_none()) {
            let value = probes::look(probe, path);
            self.take_probe(&probe.name, value);
        }
    }

    fn watch(&mut self, path: &Path) {
        for probe in self.spec.probes.iter().filter(|probe| probes::is_watched(probe)) {
            let send = self.send.clone();
            let tell = move |name: &str, value| _ = send.send(ArmMessage::Probe(name.to_owned(), value));
            if let Err(error) = probes::watch(probe.clone(), path.to_owned(), Arc::clone(&self.stop_probes), tell) {
                self.error(format!("the probe {} cannot be started: {error}", probe.name));
            }
        }
    }

    fn take_probe(&mut self, name: &str, value: Option<MetricValue>) {
        let history = self.histories.entry(name.to_owned()).or_default();
        let changed = history.take(value.clone());
        history.put_into(&mut self.figures, name);
        let when = self.spec.probes.iter().find(|probe| probe.name == name).map(|probe| probe.when);
        if changed || when != Some(When::Change) {
            let value = value.and_then(|value| serde_json::to_value(value).ok());
            self.tell(HarnessEventBody::Probe { name: name.to_owned(), value });
        }
    }

    /// Brings figures up to date that come from the volume's events.
    fn measure(&mut self) {
        self.evidence.put_into(&mut self.figures);
        self.watcher.put_into(&mut self.figures);
        for probe in &self.spec.probes {
            let Some(kernel) = probe.kernel else { continue };
            let figure = match kernel {
                KernelProbe::HungTask => "kernel.hung_tasks",
                KernelProbe::SoftLockup => "kernel.soft_lockups",
                KernelProbe::NfsServer => "kernel.nfs_timeouts",
                KernelProbe::StorageError => "kernel.storage_errors",
            };
            self.figures.get(figure).cloned().into_iter().for_each(|value| self.figures.put(&probe.name, value));
        }
    }

    // ---- the end ---------------------------------------------------------------------------------------------------------

    fn finish(mut self, abort: &Abort) -> ArmResult {
        self.stop_probes.store(true, Ordering::Relaxed);
        if let Some(storage) = self.storage.take() {
            self.release(&storage, abort);
            if self.circumstances.aborted.is_none() {
                self.look_once(When::End, &storage.path.clone());
            }
            self.watcher.stop();
            let down = storage.down(&self.options.run.program);
            self.read_last_events();
            down.err().into_iter().for_each(|error| self.error(error.to_string()));
            self.result.log = self.evidence.log();
        } else {
            // Why there is no storage is on record.
            self.result.log.complete = true;
        }
        self.cgroup.take().as_ref().and_then(remove_group).into_iter().for_each(|left| self.error(left));
        self.conclude()
    }

    /// Lets everything go, and waits for the workload's end and for tasks in state D.
    fn release(&mut self, storage: &ArmStorage, abort: &Abort) {
        let was_aborted = self.circumstances.aborted.is_some() || self.circumstances.never_steady.is_some();
        if let Err(error) = storage.release(RELEASE_LIMIT) {
            self.error(error.to_string());
        }
        self.workers.stop_commands(was_aborted);
        let patience = if was_aborted { Duration::from_secs(5) } else { self.spec.patience.0 };
        let deadline = Deadline::after(patience);
        while !self.workers.have_ended() && !deadline.passed() && (was_aborted || abort.reason().is_none()) {
            self.wait_for_messages();
        }
        for signal in [Signal::TERM, Signal::KILL] {
            if !self.workers.have_ended() {
                self.workers.end_all(signal);
                let deadline = Deadline::after(Duration::from_secs(5));
                while !self.workers.have_ended() && !deadline.passed() {
                    self.wait_for_messages();
                }
            }
        }
        self.find_stuck();
    }

    /// Tasks of the workload that stay in state D although nothing holds them any more.
    fn find_stuck(&mut self) {
        let pids = self.workers.pids();
        if pids.is_empty() {
            return;
        }
        let who = Who { pids, comms: Vec::new() };
        if wait_until(UNSTUCK_LIMIT, TICK, || blocked(&who).is_empty()) {
            return;
        }
        let stuck = blocked(&who).into_iter().map(|task| StuckTask {
            pid: task.pid,
            tid: task.tid,
            comm: task.comm,
            waits_for: waits_for(&task.frames).map(str::to_owned),
            stack: task.frames,
        });
        self.result.stuck = stuck.collect();
    }

    fn conclude(mut self) -> ArmResult {
        self.measure();
        self.put_worker_figures();
        self.result.steps = self.timeline.results(self.begin.since(SimTime::ZERO));
        self.result.proofs = self.proofs();
        self.result.expectations = expectations::evaluate(&self.spec.expect, self.options.name, &self.figures);
        self.result.ended_us = self.now().as_micros();
        for proof in self.result.proofs.clone() {
            let fault = serde_json::to_value(proof.fault).ok().and_then(|it| it.as_str().map(str::to_owned));
            self.tell(HarnessEventBody::Proof {
                fault: fault.unwrap_or_default(),
                delivered: proof.delivered,
                operations: proof.operations,
                felt_us: proof.felt_us,
            });
        }
        self.result.metrics = self.figures.clone().into_inner();
        (self.result.verdict, self.result.reasons) = judge::arm(&self.result, &self.circumstances);
        self.tell(HarnessEventBody::ArmEnded { verdict: self.result.verdict.name().to_owned() });
        self.result
    }

    fn proofs(&self) -> Vec<crate::scenario::result::Proof> {
        let freezes =
            self.cgroup_path().is_some() || self.settings().get(Opt::Freeze).is_some() || self.workers.are_frozen();
        let steps = self.timeline.results(self.begin.since(SimTime::ZERO));
        let stuns = steps.iter().enumerate().filter(|(index, _)| self.timeline.is_stun(*index));
        let stuns = stuns.filter_map(|(_, step)| Some((step.began_us?, step.done_us?)));
        let mut proofs: Vec<_> = stuns.flat_map(|(began, done)| self.evidence.stun(began, done, freezes)).collect();
        if self.injects() {
            proofs.push(self.evidence.first_writes());
        }
        proofs
    }

    fn settings(&self) -> crate::settings::Settings {
        match &self.spec.storage {
            Storage::Directory { settings } | Storage::Disk { settings, .. } => {
                settings.merge(&self.options.arm.settings)
            }
            Storage::Attach { .. } => crate::settings::Settings::new(),
        }
    }

    /// Whether first writes (or first reads) of the arm are to wait.
    fn injects(&self) -> bool {
        let env = Env { backing: "/".into(), mountpoint: "/".into(), seed: 1, profiles: self.options.run.profiles };
        let Ok(volume) = self.settings().resolve(&env) else { return false };
        let model = volume.model;
        let none = crate::model::Latency::Constant(Duration::ZERO);
        let waits = model.first_write != none || model.zeroing.is_some() || model.first_read.is_some();
        waits && !model.thick && model.armed && self.options.arm.warm.is_none()
    }
}
