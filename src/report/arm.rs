//! What happened in one arm, over its time: events in, bands, lanes and tables out.
//!
//! Must not know: files, HTML. Invariant: names that events bring are kept up to a limit, and figures by piece of time, so that
//! memory grows only by some tens of bytes a hold.

use std::collections::BTreeMap;

use super::axis::{Axis, Extremes};
use super::holds::{HoldSummary, Holds};
use super::lanes::{Band, BandKind, BandRow, Lane, Style, Unit, series};
use super::line::{Line, LineProgress};
use super::{float, seconds};
use crate::scenario::MetricValue;
use crate::units::text;

mod kernel;
mod observer;
mod pool;

use pool::PoolSeries;

/// Writers, probes or resources past so many are left out.
const MOST_NAMES: usize = 40;
/// Bands of a kind, moments and kernel messages past so many are left out (and counted).
const MOST_BANDS: usize = 400;
const MOST_MOMENTS: usize = 300;
/// Characters of what an event says.
const LONGEST_TEXT: usize = 300;

/// Something that happened at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moment {
    /// Microseconds of the run.
    pub(super) at: u64,
    pub(super) what: String,
}

/// Pile-ups on one resource that an observer saw.
#[derive(Debug, Clone, Default)]
pub(super) struct PileUpView {
    pub(super) times: u64,
    /// The most tasks at once.
    pub(super) most: u64,
    /// The longest, from its oldest waiter's first sight; one that never ended, until the arm's end.
    pub(super) longest_us: u64,
    /// The oldest waiter of the largest.
    pub(super) oldest: String,
}

/// What a writer told over time.
#[derive(Debug, Default)]
struct WriterSeries {
    longest: Extremes,
    half: Extremes,
    behind_lock: Extremes,
    disk_beat: Extremes,
    lease_beat: Extremes,
    beat_limit_us: u64,
}

/// Collects an arm's events.
#[derive(Debug)]
pub(super) struct ArmCollector {
    axis: Axis,
    commands: Vec<String>,
    holds: Holds,
    /// Pieces in which a first write (or first read) waited.
    injected: Vec<bool>,
    bands: BTreeMap<BandKind, Vec<Band>>,
    /// Bands that have no end yet: begin and text, by what will end them.
    open: BTreeMap<(BandKind, String), (u64, String)>,
    moments: Vec<Moment>,
    left_out: u64,
    writers: BTreeMap<String, WriterSeries>,
    probes: BTreeMap<(String, &'static str), Extremes>,
    tasks: BTreeMap<String, Extremes>,
    pressure: Extremes,
    last_pressure: Option<(u64, u64)>,
    dirty: Extremes,
    fuse: Extremes,
    last_fuse: Option<u64>,
    pile_ups: BTreeMap<String, PileUpView>,
    pool: PoolSeries,
}

/// An arm as pages show it.
#[derive(Debug)]
pub(super) struct ArmView {
    pub(super) axis: Axis,
    pub(super) bands: Vec<BandRow>,
    pub(super) lanes: Vec<Lane>,
    pub(super) holds: HoldSummary,
    pub(super) moments: Vec<Moment>,
    pub(super) left_out: u64,
    /// The acknowledgement latency that each writer told, the longest of each piece.
    pub(super) latencies: BTreeMap<String, Extremes>,
    /// By resource.
    pub(super) pile_ups: BTreeMap<String, PileUpView>,
    /// Probes whose figure never changed, and the figure.
    pub(super) constant: Vec<(String, f64)>,
}

impl ArmCollector {
    /// `commands` are names of the workload that are commands, not writers.
    pub(super) fn new(axis: Axis, commands: Vec<String>) -> Self {
        Self {
            axis,
            commands,
            holds: Holds::default(),
            injected: vec![false; axis.pieces()],
            bands: BTreeMap::new(),
            open: BTreeMap::new(),
            moments: Vec::new(),
            left_out: 0,
            writers: BTreeMap::new(),
            probes: BTreeMap::new(),
            tasks: BTreeMap::new(),
            pressure: Extremes::default(),
            last_pressure: None,
            dirty: Extremes::default(),
            fuse: Extremes::default(),
            last_fuse: None,
            pile_ups: BTreeMap::new(),
            pool: PoolSeries::default(),
        }
    }

    /// Takes a line of the arm.
    pub(super) fn take(&mut self, line: &Line<'_>) {
        let at = line.at();
        match line.event.as_ref() {
            "held" => self.hold(line),
            "writer-progress" => self.progress(at, line),
            "tasks" | "pressure" | "dirty" | "fuse-waiting" | "pile-up" | "pile-up-ended" | "harness-late" => {
                self.observed(at, line)
            }
            "hung-task" | "soft-lockup" | "nfs-server" | "storage-error" => self.kernel(line),
            "probe" => self.probe(at, line),
            "writer-started" | "writer-ended" | "step" | "arm-started" | "steady" | "arm-ended" => self.run(at, line),
            _ => self.volume(at, line),
        }
    }

    // ---- the volume ------------------------------------------------------------------------------------------------------

    fn hold(&mut self, line: &Line<'_>) {
        let Some((requested, released)) = line.requested_us.zip(line.released_us) else { return };
        let (from, until) = (line.in_run(requested), line.in_run(released));
        self.holds.put(line, from, until);
        let penalty = &line.penalty;
        if penalty.latency_us > 0 || penalty.zeroing_us > 0 || penalty.queue_us > 0 {
            let (first, last) = (self.axis.piece(from), self.axis.piece(until));
            self.injected[first..=last.max(first)].fill(true);
        }
        self.pool.provisioned(&self.axis, from, penalty.grains);
    }

    fn volume(&mut self, at: u64, line: &Line<'_>) {
        match line.event.as_ref() {
            "started" | "changed" => {
                self.pool.configured(&self.axis, at, line);
                if line.event == "changed" {
                    self.moment(at, "settings were changed".to_owned());
                }
            }
            "stun-began" => {
                let cause = line.cause.as_deref().unwrap_or("manual");
                self.begin(BandKind::Stun, "", at, format!("stun ({cause})"));
                self.moment(at, format!("a stun begins ({cause}): everything on the volume stands still"));
            }
            "stun-ended" => {
                let length = self.end(BandKind::Stun, "", at);
                self.moment(at, format!("the stun ends after {}", text::micros(length)));
            }
            "frozen" => {
                let targets = line.targets.join(", ");
                self.moment(at, format!("frozen: {targets}"));
                self.begin(BandKind::Frozen, "", at, format!("frozen: {targets}"));
            }
            "thawed" => {
                self.end(BandKind::Frozen, "", at);
                self.moment(at, format!("thawed: {}", line.targets.join(", ")));
            }
            "low-water" | "pool-full" | "grown" | "discarded" | "refused" => self.space(at, line),
            "armed" => self.armed(at, line.armed.unwrap_or(true)),
            "released" => self.moment(at, "all injection is released".to_owned()),
            "expired" => {
                self.moment(at, "the volume's time limit has passed: a plain pass-through from now on".to_owned())
            }
            "rebuilt" | "warning" => {
                let message = line.message.clone().unwrap_or_else(|| "the use of the pool was rebuilt".to_owned());
                self.moment(at, message);
            }
            _ => {}
        }
    }

    fn space(&mut self, at: u64, line: &Line<'_>) {
        let size = line.size_bytes.unwrap_or(0);
        let used = line.used_bytes.unwrap_or(0);
        match line.event.as_ref() {
            "low-water" => {
                self.pool.used(&self.axis, at, used, size);
                self.point(
                    BandKind::Space,
                    at,
                    format!("low water: {} of {} used", text::size(used), text::size(size)),
                );
            }
            "pool-full" => {
                self.pool.used(&self.axis, at, size, size);
                self.point(BandKind::Space, at, format!("the pool is full ({})", text::size(size)));
            }
            "grown" => {
                self.pool.sized(&self.axis, at, size);
                self.point(BandKind::Space, at, format!("the pool grows to {}", text::size(size)));
            }
            "discarded" => self.pool.discarded(&self.axis, at, line.grains.unwrap_or(0)),
            _ => {
                let error = line.error.as_deref().unwrap_or("an error");
                let what = format!("{} of {} is refused: {error}", line.op, line.comm);
                self.point(BandKind::Space, at, what);
            }
        }
    }

    fn armed(&mut self, at: u64, armed: bool) {
        if armed {
            self.end(BandKind::Disarmed, "", at);
        } else {
            self.begin(BandKind::Disarmed, "", at, "injection is off".to_owned());
        }
        self.moment(at, format!("injection is switched {}", if armed { "on" } else { "off" }));
    }

    // ---- the run ---------------------------------------------------------------------------------------------------------

    fn run(&mut self, at: u64, line: &Line<'_>) {
        let name = line.name.as_deref().unwrap_or("?");
        match (line.event.as_ref(), line.done) {
            ("step", Some(true)) => {
                self.end(BandKind::Step, &line.index.unwrap_or(0).to_string(), at);
                if let Some(error) = &line.error {
                    self.moment(at, format!("the step '{name}' failed: {error}"));
                }
            }
            ("step", _) => {
                self.begin(BandKind::Step, &line.index.unwrap_or(0).to_string(), at, name.to_owned());
                self.moment(at, format!("step: {name}"));
            }
            ("writer-started", _) => {
                if self.commands.iter().any(|command| command == name) {
                    self.begin(BandKind::Command, name, at, name.to_owned());
                }
                self.moment(at, format!("{name} begins"));
            }
            ("writer-ended", _) => {
                self.end(BandKind::Command, name, at);
                let how = match line.exit_code {
                    Some(0) => String::new(),
                    Some(code) => format!(" with exit code {code}"),
                    None => " by a signal".to_owned(),
                };
                self.moment(at, format!("{name} ends{how}"));
            }
            ("steady", _) => self.moment(at, "the steady state is reached".to_owned()),
            ("arm-started", _) => self.moment(at, "the storage is usable; the workload begins".to_owned()),
            ("arm-ended", _) => {
                let verdict = line.verdict.as_deref().unwrap_or("?");
                self.moment(at, format!("everything of the arm is gone; its verdict: {verdict}"));
            }
            _ => {}
        }
    }

    fn progress(&mut self, at: u64, line: &Line<'_>) {
        let (Some(name), Some(progress)) = (&line.name, &line.progress) else { return };
        if let Some(writer) = named(&mut self.writers, name.clone()) {
            writer.take(&self.axis, at, progress);
        }
    }

    fn probe(&mut self, at: u64, line: &Line<'_>) {
        let Some((name, value)) = line.name.as_ref().zip(line.value.as_ref()) else { return };
        let (unit, figure) = match value {
            MetricValue::Count(n) => ("count", *n),
            MetricValue::Micros(us) => ("time", seconds(*us)),
            MetricValue::PerSecond(rate) => ("rate", *rate),
            MetricValue::Bytes(bytes) => ("size", float(*bytes)),
            MetricValue::Flag(flag) => ("count", f64::from(u8::from(*flag))),
            MetricValue::Text(what) => {
                self.moment(at, format!("probe {name}: {what}"));
                return;
            }
        };
        if let Some(figures) = named(&mut self.probes, (name.clone(), unit)).filter(|_| figure.is_finite()) {
            figures.put(&self.axis, at, figure);
        }
    }

    // ---- bands and moments -----------------------------------------------------------------------------------------------

    fn moment(&mut self, at: u64, what: String) {
        if self.moments.len() < MOST_MOMENTS {
            self.moments.push(Moment { at, what: short(what) });
        } else {
            self.left_out += 1;
        }
    }

    fn point(&mut self, kind: BandKind, at: u64, what: String) {
        self.band(kind, at, at, what.clone());
        self.moment(at, what);
    }

    fn band(&mut self, kind: BandKind, from: u64, until: u64, text: String) {
        let bands = self.bands.entry(kind).or_default();
        if bands.len() < MOST_BANDS {
            let (from, until) = (self.axis.since_begin(from), self.axis.since_begin(until));
            bands.push(Band { from, until, text: short(text) });
        }
    }

    fn begin(&mut self, kind: BandKind, key: &str, at: u64, text: String) {
        if self.open.len() < MOST_BANDS {
            self.open.insert((kind, key.to_owned()), (at, text));
        }
    }

    /// Ends the band; how long it was.
    fn end(&mut self, kind: BandKind, key: &str, at: u64) -> u64 {
        let Some((from, text)) = self.open.remove(&(kind, key.to_owned())) else { return 0 };
        self.band(kind, from, at, text);
        at.saturating_sub(from)
    }

    // ---- the end ---------------------------------------------------------------------------------------------------------

    /// `until_us`: when everything of the arm was gone.
    pub(super) fn finish(mut self, until_us: u64) -> ArmView {
        for ((kind, key), (from, text)) in std::mem::take(&mut self.open) {
            if let Some(known) = self.pile_ups.get_mut(&key).filter(|_| kind == BandKind::PileUp) {
                known.longest_us = known.longest_us.max(until_us.saturating_sub(from));
            }
            self.band(kind, from, until_us, text);
        }
        self.injected_bands();
        let holds = std::mem::take(&mut self.holds).summary(&self.axis);
        let mut lanes = Vec::new();
        lanes.extend(self.held_lanes(&holds));
        lanes.extend(self.writer_lanes());
        lanes.extend(self.observer_lanes());
        lanes.extend(self.pool.lane(&self.axis));
        let constant = self.constant_probes();
        lanes.extend(self.probe_lanes());
        let row = |(kind, bands): (BandKind, Vec<Band>)| BandRow { kind, label: kind.label(), bands };
        self.moments.sort_by_key(|moment| moment.at);
        ArmView {
            axis: self.axis,
            bands: self.bands.into_iter().map(row).collect(),
            lanes,
            holds,
            moments: self.moments,
            left_out: self.left_out,
            pile_ups: self.pile_ups,
            constant,
            latencies: self.writers.into_iter().map(|(name, writer)| (name, writer.longest)).collect(),
        }
    }

    /// Bands of the pieces in which first writes waited.
    fn injected_bands(&mut self) {
        let piece = self.axis.length() / float(u64::try_from(self.axis.pieces()).unwrap_or(1));
        let at = |index: usize| float(u64::try_from(index).unwrap_or(0)) * piece;
        let mut bands: Vec<Band> = Vec::new();
        for (index, _) in self.injected.iter().enumerate().filter(|(_, injected)| **injected) {
            let (from, until) = (at(index), at(index + 1));
            match bands.last_mut() {
                Some(last) if from - last.until < piece / 2.0 => last.until = until,
                _ => bands.push(Band { from, until, text: "first writes wait".to_owned() }),
            }
        }
        if !bands.is_empty() {
            self.bands.insert(BandKind::FirstWrite, bands);
        }
    }

    fn held_lanes(&self, holds: &HoldSummary) -> Vec<Lane> {
        let axis = &self.axis;
        let depth = vec![series("held at once", 0, Style::Steps, axis, &holds.depth)];
        let wait = vec![
            series("longest wait", 1, Style::Bars, axis, &holds.wait),
            series("of it in the pool's queue", 3, Style::Bars, axis, &holds.queue),
        ];
        let depth = Lane::new("Operations held", Unit::Count, depth)
            .map(|lane| lane.note("how many the storage keeps waiting at the same moment"));
        let wait = Lane::new("Wait of an operation", Unit::Seconds, wait)
            .map(|lane| lane.log().note("by when it came in; in the queue it waits for others' new blocks"));
        depth.into_iter().chain(wait).collect()
    }

    fn writer_lanes(&self) -> Vec<Lane> {
        let axis = &self.axis;
        let mut lanes = Vec::new();
        for (color, (name, writer)) in self.writers.iter().enumerate() {
            let latency = vec![
                series("longest", color, Style::Line, axis, &writer.longest),
                series("half of all", color + 1, Style::Line, axis, &writer.half),
            ];
            lanes.extend(Lane::new(format!("{name}: acknowledgement"), Unit::Seconds, latency).map(|lane| {
                lane.log().note("from when a record was due until the storage had taken it; told once a second")
            }));
            if writer.behind_lock.most() > Some(0.0) {
                let behind = vec![series("threads", 5, Style::Steps, axis, &writer.behind_lock)];
                lanes.extend(
                    Lane::new(format!("{name}: threads behind its own lock"), Unit::Count, behind)
                        .map(|lane| lane.note("the thread that holds the lock waits for the storage")),
                );
            }
            if !writer.disk_beat.is_empty() {
                let beats = vec![
                    series("node status (needs the disk)", 1, Style::Line, axis, &writer.disk_beat),
                    series("lease (does not)", 2, Style::Line, axis, &writer.lease_beat),
                ];
                lanes.extend(
                    Lane::new(format!("{name}: time since the last heartbeat"), Unit::Seconds, beats)
                        .map(|lane| lane.note(writer.beat_note())),
                );
            }
        }
        lanes
    }

    fn constant_probes(&mut self) -> Vec<(String, f64)> {
        let figure = |figures: &Extremes| figures.least().filter(|least| Some(*least) == figures.most());
        let all = self.probes.iter().filter_map(|((name, _), figures)| Some((name.clone(), figure(figures)?)));
        let constant: Vec<_> = all.collect();
        self.probes.retain(|_, figures| figure(figures).is_none());
        constant
    }

    fn probe_lanes(&self) -> Vec<Lane> {
        let lane = |((name, unit), figures): (&(String, &str), &Extremes)| {
            let unit = match *unit {
                "time" => Unit::Seconds,
                "rate" => Unit::PerSecond,
                "size" => Unit::Bytes,
                _ => Unit::Count,
            };
            Lane::new(format!("probe {name}"), unit, vec![series(name, 7, Style::Steps, &self.axis, figures)])
        };
        self.probes.iter().filter_map(lane).collect()
    }
}

impl WriterSeries {
    fn take(&mut self, axis: &Axis, at: u64, progress: &LineProgress) {
        self.longest.put(axis, at, seconds(progress.interval.ack_max_us));
        if progress.interval.records > 0 {
            self.half.put(axis, at, seconds(progress.interval.ack_p50_us));
        }
        let behind = progress.lock.as_ref().map_or(0, |lock| lock.waiters.len());
        self.behind_lock.put(axis, at, float(u64::try_from(behind).unwrap_or(0)));
        if let Some(beats) = &progress.heartbeats {
            self.disk_beat.put(axis, at, seconds(beats.disk.last_ago_us));
            self.lease_beat.put(axis, at, seconds(beats.lease.last_ago_us));
            self.beat_limit_us = beats.disk.limit_us;
        }
    }

    fn beat_note(&self) -> &'static str {
        let worst = self.disk_beat.most().unwrap_or(0.0);
        if worst > seconds(self.beat_limit_us) {
            "longer than its limit: the node would have been marked NotReady"
        } else {
            "within its limit: the node stays Ready"
        }
    }
}

/// A text of some lines at most.
fn short(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(LONGEST_TEXT) {
        text.truncate(at);
        text.push('…');
    }
    text
}

/// The entry of `name`, made if there is room for it.
fn named<K: Ord, V: Default>(map: &mut BTreeMap<K, V>, name: K) -> Option<&mut V> {
    if map.len() >= MOST_NAMES && !map.contains_key(&name) {
        return None;
    }
    Some(map.entry(name).or_default())
}
