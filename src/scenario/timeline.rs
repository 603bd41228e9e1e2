//! The time line of an arm as a state machine: time and figures in, steps to begin out.
//!
//! Steps begin in their order. A command and a `wait` hold back the steps after them until they are done; a `run` does not,
//! since a program on stalled storage may take as long as the stall.
//!
//! Must not know: who carries a step out. Invariant: each step begins at most once, never before its time, and never before a
//! step that holds it back is done.

use std::time::Duration;

use super::figures::Figures;
use super::result::StepResult;
use super::spec::{Action, Step};
use crate::time::SimTime;

/// What became of a step so far. Times count from the beginning of the arm's workload.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Progress {
    Pending,
    Running { began: SimTime },
    Done { began: SimTime, done: SimTime, error: Option<String> },
}

/// A change of a step that the caller has to tell, and for a beginning: to carry out.
#[derive(Debug, Clone, PartialEq)]
pub enum StepChange {
    /// The step begins; it is to be carried out, unless it is a `wait`.
    Begins(usize, Action),
    /// The `wait` is over.
    Waited(usize, Result<(), String>),
}

/// The steps of an arm.
#[derive(Debug)]
pub struct Timeline {
    steps: Vec<Step>,
    progress: Vec<Progress>,
}

impl Timeline {
    /// The steps in their order.
    pub fn new(steps: &[Step]) -> Self {
        Self { steps: steps.to_vec(), progress: vec![Progress::Pending; steps.len()] }
    }

    /// When the first step is due.
    pub fn first_due(&self) -> Option<SimTime> {
        self.steps.first().map(|step| SimTime::ZERO + step.at.unwrap_or_default().0)
    }

    /// What is due `now`.
    pub fn poll(&mut self, now: SimTime, figures: &Figures) -> Vec<StepChange> {
        let mut changes = Vec::new();
        for index in 0..self.steps.len() {
            if self.progress[index] == Progress::Pending {
                let at = SimTime::ZERO + self.steps[index].at.unwrap_or_default().0;
                if now < at {
                    break;
                }
                self.progress[index] = Progress::Running { began: now };
                changes.push(StepChange::Begins(index, self.steps[index].action.clone()));
            }
            if let Some(outcome) = self.waited(index, now, figures) {
                self.done(index, now, outcome.clone());
                changes.push(StepChange::Waited(index, outcome));
            }
            if self.holds_back(index) {
                break;
            }
        }
        changes
    }

    /// Whether the `wait` at `index` is over.
    fn waited(&self, index: usize, now: SimTime, figures: &Figures) -> Option<Result<(), String>> {
        let (Action::Wait(wait), Progress::Running { began }) = (&self.steps[index].action, &self.progress[index])
        else {
            return None;
        };
        let figure = figures.get(&wait.probe);
        match figure.map(|value| wait.bounds().hold(value)) {
            Some(Some(true)) => Some(Ok(())),
            Some(None) => Some(Err(format!("{} has another unit than the bound", wait.probe))),
            _ if now.since(*began) < wait.within.0 => None,
            _ => {
                let last = figure.map_or_else(|| "it has no figure".to_owned(), |value| format!("it is {value}"));
                Some(Err(format!("{} was not {} within {}: {last}", wait.probe, wait.bounds(), wait.within)))
            }
        }
    }

    fn holds_back(&self, index: usize) -> bool {
        let runs_along = matches!(self.steps[index].action, Action::Run(_));
        !runs_along && !matches!(self.progress[index], Progress::Done { .. })
    }

    /// The step at `index` has been carried out.
    pub fn done(&mut self, index: usize, now: SimTime, outcome: Result<(), String>) {
        let Some(progress) = self.progress.get_mut(index) else { return };
        if let Progress::Running { began } = *progress {
            *progress = Progress::Done { began, done: now, error: outcome.err() };
        }
    }

    /// Whether every step is done.
    pub fn is_over(&self) -> bool {
        self.progress.iter().all(|progress| matches!(progress, Progress::Done { .. }))
    }

    /// The name of the step at `index`, or what it does.
    pub fn name(&self, index: usize) -> String {
        self.steps.get(index).map_or_else(String::new, |step| step.name.clone().unwrap_or_else(|| step.action.text()))
    }

    /// Whether the step at `index` is a stun.
    pub fn is_stun(&self, index: usize) -> bool {
        let stun = |step: &Step| matches!(step.action, Action::Command(crate::control::Command::Stun { .. }));
        self.steps.get(index).is_some_and(stun)
    }

    /// What became of the steps; the workload began `begin` after the run's start.
    pub fn results(&self, begin: Duration) -> Vec<StepResult> {
        let run = |time: SimTime| (SimTime(time.0) + begin).as_micros();
        let result = |(index, progress): (usize, &Progress)| {
            let (began, done, error) = match progress {
                Progress::Pending => (None, None, None),
                Progress::Running { began } => (Some(*began), None, None),
                Progress::Done { began, done, error } => (Some(*began), Some(*done), error.clone()),
            };
            StepResult {
                name: self.name(index),
                due_us: self.steps[index].at.unwrap_or_default().micros(),
                began_us: began.map(run),
                done_us: done.map(run),
                error,
            }
        };
        self.progress.iter().enumerate().map(result).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::MetricValue;

    fn timeline(text: &str) -> Timeline {
        Timeline::new(&serde_norway::from_str::<Vec<Step>>(text).unwrap())
    }

    fn begun(changes: &[StepChange]) -> Vec<usize> {
        changes
            .iter()
            .filter_map(|change| if let StepChange::Begins(n, _) = change { Some(*n) } else { None })
            .collect()
    }

    fn at(seconds: u64) -> SimTime {
        SimTime::from_millis(seconds * 1000)
    }

    #[test]
    fn steps_begin_at_their_time_and_in_order() {
        let mut line = timeline("[{at: 5s, stun: {for: 1s}}, {resume: {}}, {at: 9s, release: {}}]");
        let none = Figures::default();
        assert_eq!(line.first_due(), Some(at(5)));
        assert_eq!(begun(&line.poll(at(4), &none)), [0; 0]);
        assert_eq!(begun(&line.poll(at(5), &none)), [0]);
        assert_eq!(begun(&line.poll(at(20), &none)), [0; 0], "the stun is not in force yet");
        line.done(0, at(21), Ok(()));
        assert_eq!(begun(&line.poll(at(21), &none)), [1]);
        line.done(1, at(22), Err("refused".into()));
        assert_eq!(begun(&line.poll(at(22), &none)), [2], "late, but it begins");
        assert!(!line.is_over());
        line.done(2, at(23), Ok(()));
        line.done(2, at(99), Ok(()));
        assert!(line.is_over());
        let results = line.results(Duration::from_secs(100));
        assert_eq!(results[1].error.as_deref(), Some("refused"));
        assert_eq!((results[2].due_us, results[2].done_us), (9_000_000, Some(123_000_000)));
        assert!(line.is_stun(0) && !line.is_stun(1));
    }

    #[test]
    fn a_program_on_stalled_storage_holds_nothing_back() {
        let mut line = timeline("[{at: 1s, run: [sync]}, {at: 2s, resume: {}}]");
        assert_eq!(begun(&line.poll(at(1), &Figures::default())), [0]);
        assert_eq!(begun(&line.poll(at(2), &Figures::default())), [1]);
    }

    #[test]
    fn a_wait_holds_the_rest_back_until_its_figure_is_there() {
        let text = "[{at: 1s, wait: {probe: w.records, atLeast: 5, within: 10s}}, {at: 2s, arm: {}}]";
        let mut line = timeline(text);
        let mut figures = Figures::default();
        assert_eq!(begun(&line.poll(at(1), &figures)), [0]);
        assert_eq!(begun(&line.poll(at(3), &figures)), [0; 0]);
        figures.put("w.records", MetricValue::Count(4.0));
        assert_eq!(begun(&line.poll(at(4), &figures)), [0; 0]);
        figures.put("w.records", MetricValue::Count(5.0));
        assert_eq!(line.poll(at(5), &figures)[0], StepChange::Waited(0, Ok(())));

        let mut late = timeline(text);
        figures.put("w.records", MetricValue::Count(4.0));
        late.poll(at(1), &figures);
        let changes = late.poll(at(11), &figures);
        let StepChange::Waited(0, Err(why)) = &changes[0] else { panic!("{changes:?}") };
        assert_eq!(why, "w.records was not at least 5 within 10s: it is 4");
        assert_eq!(begun(&changes), [1], "what comes after it goes on");
    }
}
