//! What an observer saw beside an arm: tasks that wait, pile-ups, pressure, pages that are not on storage.
//!
//! Must not know: how it is seen. Invariant: a resource that a look does not name has no waiters then.

use std::collections::BTreeMap;

use super::{ArmCollector, named};
use crate::report::axis::Extremes;
use crate::report::float;
use crate::report::lanes::{BandKind, Lane, Style, Unit, series};
use crate::report::line::Line;
use crate::units::text;

/// Resources of waiting tasks that have a series of their own.
const MOST_RESOURCES: usize = 7;

/// More than a look, less than two.
const LOOK_US: u64 = 1_500_000;

impl ArmCollector {
    pub(super) fn observed(&mut self, at: u64, line: &Line<'_>) {
        let resource = line.resource.as_deref().unwrap_or("something");
        match line.event.as_ref() {
            "tasks" => self.tasks(at, &line.by_resource),
            "pressure" => {
                let now = line.some_us.unwrap_or(0);
                if let Some((before, then)) = self.last_pressure.replace((at, now)).filter(|(before, _)| *before < at) {
                    let share = float(now.saturating_sub(then)) / float(at - before) * 100.0;
                    self.pressure.put(&self.axis, at, share.min(100.0));
                }
            }
            "dirty" => {
                let kib = line.dirty_kib.unwrap_or(0).saturating_add(line.writeback_kib.unwrap_or(0));
                self.dirty.put(&self.axis, at, float(kib) * 1024.0);
            }
            "fuse-waiting" => {
                let requests = line.connections.values().fold(0_u64, |sum, n| sum.saturating_add(*n));
                self.fuse.put(&self.axis, at, float(requests));
                self.last_fuse = Some(at);
            }
            "pile-up" => self.pile_up(at, line, resource),
            "pile-up-ended" => {
                let length = self.end(BandKind::PileUp, resource, at);
                let most = line.most.unwrap_or(0);
                if let Some(known) = self.pile_ups.get_mut(resource) {
                    known.most = known.most.max(most);
                    known.longest_us = known.longest_us.max(length);
                }
                self.moment(
                    at,
                    format!("the pile-up on {resource} ends; it was {} at most", text::count(most, "task")),
                );
            }
            _ => {
                let late = line.late_us.or(line.for_us).unwrap_or(0);
                let what = format!("the harness was not scheduled for {}", text::micros(late));
                self.band(BandKind::Harness, at.saturating_sub(late), at, what.clone());
                self.moment(at, what);
            }
        }
    }

    fn pile_up(&mut self, at: u64, line: &Line<'_>, resource: &str) {
        let tasks = line.tasks.unwrap_or(0);
        let oldest = line.oldest.as_ref().map(|it| format!("{} ({})", it.comm, it.tid)).unwrap_or_default();
        let waited = line.oldest.as_ref().map_or(0, |it| it.for_us);
        if let Some(known) = named(&mut self.pile_ups, resource.to_owned()) {
            known.times += 1;
            if tasks > known.most || known.oldest.is_empty() {
                known.most = tasks;
                known.oldest.clone_from(&oldest);
            }
        }
        let what = format!(
            "pile-up: {} wait for {resource}; {oldest} has waited longest, {}",
            text::count(tasks, "task"),
            text::micros(waited)
        );
        let since = line.since_us.filter(|since| *since <= at).unwrap_or(at);
        self.begin(BandKind::PileUp, resource, since, what.clone());
        self.moment(at, what);
    }

    fn tasks(&mut self, at: u64, by_resource: &BTreeMap<String, u64>) {
        for (resource, tasks) in by_resource {
            if let Some(figures) = named(&mut self.tasks, resource.clone()) {
                figures.put(&self.axis, at, float(*tasks));
            }
        }
        // Connections without requests are not told of.
        if self.last_fuse.is_some_and(|last| at.saturating_sub(last) > LOOK_US) {
            self.fuse.put(&self.axis, at, 0.0);
        }
        // A resource that is not named has no waiters now.
        for (_, figures) in self.tasks.iter_mut().filter(|(known, _)| !by_resource.contains_key(*known)) {
            figures.put(&self.axis, at, 0.0);
        }
    }

    pub(super) fn observer_lanes(&self) -> Vec<Lane> {
        let axis = &self.axis;
        let most = |figures: &Extremes| figures.most().unwrap_or(0.0);
        let mut resources: Vec<_> = self.tasks.iter().filter(|(_, figures)| most(figures) > 0.0).collect();
        resources.sort_by(|a, b| most(b.1).total_cmp(&most(a.1)));
        let tasks = resources.into_iter().take(MOST_RESOURCES).enumerate();
        let tasks = tasks.map(|(color, (name, figures))| series(name, color, Style::Steps, axis, figures)).collect();
        let pressure = vec![series("some task waited", 4, Style::Line, axis, &self.pressure)];
        let fuse = vec![series("requests", 5, Style::Steps, axis, &self.fuse)];
        let dirty = vec![series("dirty or being written", 6, Style::Line, axis, &self.dirty)];
        let lanes = [
            Lane::new("Tasks that wait for storage (state D), by resource", Unit::Count, tasks),
            Lane::new("I/O pressure of the machine", Unit::Percent, pressure),
            Lane::new("FUSE requests without an answer", Unit::Count, fuse),
            Lane::new("Pages not on storage yet", Unit::Bytes, dirty),
        ];
        lanes.into_iter().flatten().collect()
    }
}
