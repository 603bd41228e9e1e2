//! The observer beside an arm: what waits while the workload runs, as events and figures.
//!
//! Must not know: how tasks are read. Invariant: it looks at the run's own processes and at the kernel's threads, which write back
//! for them; times are the run's.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use crossbeam_channel::Sender;

use super::message::ArmMessage;
use crate::observe::observation::Observation;
use crate::observe::observer::{ObserveOptions, ObservedTasks, Observer};
use crate::observe::pile_up::PileUpLimits;
use crate::scenario::MetricValue;
use crate::scenario::figures::Figures;
use crate::telemetry::harness::HarnessEventBody;

const INTERVAL: Duration = Duration::from_secs(1);
/// A look that takes longer is told.
const LATE_AFTER: Duration = Duration::from_secs(3);

/// What the observer of one arm has seen.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    observer: Option<Observer>,
    /// The run's time at the observer's beginning, microseconds.
    origin_us: u64,
    waiting: u64,
    most_waiting: u64,
    pile_ups: u64,
    largest_pile_up: u64,
    /// The most tasks that waited for each resource at once.
    most_by_resource: BTreeMap<String, u64>,
}

impl Watcher {
    /// Begins to look.
    pub(super) fn start(&mut self, origin_us: u64, send: Sender<ArmMessage>) -> io::Result<()> {
        let options = ObserveOptions {
            interval: INTERVAL,
            tasks: ObservedTasks::Family(std::process::id()),
            limits: PileUpLimits { tasks: 2, wait: INTERVAL },
            late_after: LATE_AFTER,
        };
        self.origin_us = origin_us;
        // At the end of the arm nobody takes it any more.
        let sink = move |_, what| _ = send.send(ArmMessage::Observed(what));
        self.observer = Some(Observer::start(options, sink)?);
        Ok(())
    }

    /// Ends it.
    pub(super) fn stop(&mut self) {
        self.observer = None;
    }

    /// Takes what it saw; the event that tells of it.
    pub(super) fn take(&mut self, what: Observation) -> HarnessEventBody {
        match what {
            Observation::Tasks { waiting, by_resource } => {
                self.waiting = waiting;
                self.most_waiting = self.most_waiting.max(waiting);
                for (resource, &tasks) in &by_resource {
                    let most = self.most_by_resource.entry(resource.clone()).or_default();
                    *most = tasks.max(*most);
                }
                HarnessEventBody::Tasks { waiting, by_resource }
            }
            Observation::PileUp { tasks, resource, oldest, since_us } => {
                self.pile_ups += 1;
                self.largest_pile_up = self.largest_pile_up.max(tasks);
                HarnessEventBody::PileUp { tasks, resource, oldest, since_us: self.run_us(since_us) }
            }
            Observation::PileUpEnded { most, resource, since_us } => {
                self.largest_pile_up = self.largest_pile_up.max(most);
                HarnessEventBody::PileUpEnded { most, resource, since_us: self.run_us(since_us) }
            }
            Observation::Pressure { some_us, full_us } => HarnessEventBody::Pressure { some_us, full_us },
            Observation::Dirty { dirty_kib, writeback_kib } => HarnessEventBody::Dirty { dirty_kib, writeback_kib },
            Observation::FuseWaiting { connections } => HarnessEventBody::FuseWaiting { connections },
            Observation::HarnessLate { for_us } => HarnessEventBody::HarnessLate { late_us: for_us },
        }
    }

    /// The figures as they are now.
    pub(super) fn put_into(&self, figures: &mut Figures) {
        let counts = [
            ("observer.tasks_waiting", self.waiting),
            ("observer.tasks_waiting.max", self.most_waiting),
            ("observer.pile_ups", self.pile_ups),
            ("observer.largest_pile_up", self.largest_pile_up),
        ];
        for (name, count) in counts {
            figures.put(name, MetricValue::count(count));
        }
        for (resource, most) in &self.most_by_resource {
            figures.put(format!("observer.waiting.{resource}.max"), MetricValue::count(*most));
        }
    }

    const fn run_us(&self, since_us: u64) -> u64 {
        self.origin_us.saturating_add(since_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::event::PileUpWaiter;

    #[test]
    fn what_is_seen_becomes_an_event_and_figures() {
        let (mut watcher, mut figures) = (Watcher { origin_us: 5_000_000, ..Watcher::default() }, Figures::default());
        let by_resource = [("XFS buffer lock".to_owned(), 7), ("FUSE reply".to_owned(), 1)].into_iter().collect();
        watcher.take(Observation::Tasks { waiting: 8, by_resource });
        let oldest = PileUpWaiter { pid: 1, tid: 2, comm: "a".into(), for_us: 9, stack: Vec::new() };
        let resource = "XFS buffer lock".to_owned();
        let told = watcher.take(Observation::PileUp { tasks: 7, resource, oldest, since_us: 1_000_000 });
        assert!(matches!(told, HarnessEventBody::PileUp { tasks: 7, since_us: 6_000_000, .. }), "{told:?}");
        let tasks = BTreeMap::new();
        watcher.take(Observation::Tasks { waiting: 0, by_resource: tasks });
        watcher.put_into(&mut figures);
        let count = |name: &str| figures.get(name).cloned();
        let names = ["", ".max"].map(|end| count(&format!("observer.tasks_waiting{end}")));
        assert_eq!(names, [0, 8].map(|n| Some(MetricValue::count(n))));
        assert_eq!(count("observer.pile_ups"), Some(MetricValue::count(1)));
        assert_eq!(count("observer.largest_pile_up"), Some(MetricValue::count(7)));
        assert_eq!(count("observer.waiting.XFS buffer lock.max"), Some(MetricValue::count(7)));
    }
}
