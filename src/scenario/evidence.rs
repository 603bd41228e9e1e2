//! What a volume's events and the writers' own figures prove.
//!
//! Must not know: files, sockets, who reads the log. Invariant: a fault counts as delivered only if the volume said that it
//! was in force and that at least one operation met it; what is missing from the log is counted.

use std::collections::BTreeMap;

use super::figures::Figures;
use super::metric::MetricValue;
use super::result::{FaultKind, LogResult, Proof};
use crate::telemetry::event::{Event, EventBody, NfsState};

/// A writer's figures are told once a second: what it felt may be told so much later.
const TOLD_WITHIN_US: u64 = 2_000_000;
/// A step and the event of its effect may be apart so much.
const EFFECT_WITHIN_US: u64 = 500_000;

/// A time span, microseconds since the run's start; open if it has no end yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    from: u64,
    until: Option<u64>,
    /// Operations that met it, or targets that were frozen.
    met: u64,
    longest: u64,
}

impl Span {
    const fn begin(from: u64) -> Self {
        Self { from, until: None, met: 0, longest: 0 }
    }

    fn overlaps(&self, from: u64, until: u64) -> bool {
        from <= self.until.unwrap_or(u64::MAX) && until >= self.from
    }
}

/// A hold by a penalty of its own (not a stun's).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Penalties {
    count: u64,
    longest: u64,
    first: Option<u64>,
    last: Option<u64>,
}

/// What was told during an arm.
#[derive(Debug, Default)]
pub struct Evidence {
    stuns: Vec<Span>,
    freezes: Vec<Span>,
    penalties: Penalties,
    held: u64,
    longest_hold: u64,
    refused: u64,
    pool_full: u64,
    low_water: u64,
    discarded: u64,
    kernel: [u64; 4],
    expired: bool,
    log: LogResult,
    next_seq: Option<u64>,
    told_missing: u64,
    /// What each writer told: when, and the longest acknowledgement latency since it told last.
    felt: BTreeMap<String, Vec<(u64, u64)>>,
}

impl Evidence {
    /// The volume tells `event`; its clock started at `origin_us` of the run (before it, if negative).
    pub fn take(&mut self, event: &Event, origin_us: i64) {
        let run = |t: u64| u64::try_from(i64::try_from(t).unwrap_or(i64::MAX).saturating_add(origin_us)).unwrap_or(0);
        let now = run(event.t_us);
        self.log.events += 1;
        if let Some(expected) = self.next_seq {
            self.told_missing += event.seq.saturating_sub(expected);
        }
        self.next_seq = Some(event.seq + 1);
        match &event.body {
            EventBody::Held { requested_us, released_us, penalty, .. } => {
                self.hold(
                    run(*requested_us),
                    run(*released_us),
                    penalty.stun_us > 0,
                    penalty.latency_us + penalty.zeroing_us + penalty.queue_us + penalty.space_us > 0,
                );
            }
            EventBody::StunBegan { .. } => self.stuns.push(Span::begin(now)),
            EventBody::StunEnded {} => end(&mut self.stuns, now),
            EventBody::Frozen { targets, .. } => {
                self.freezes.push(Span { met: u64::try_from(targets.len()).unwrap_or(0), ..Span::begin(now) });
            }
            EventBody::Thawed { .. } => end(&mut self.freezes, now),
            EventBody::Refused { .. } => self.refused += 1,
            EventBody::PoolFull { .. } => self.pool_full += 1,
            EventBody::LowWater { .. } => self.low_water += 1,
            EventBody::Discarded { grains } => self.discarded += grains,
            EventBody::Expired {} => self.expired = true,
            EventBody::HungTask { .. } => self.kernel[0] += 1,
            EventBody::SoftLockup { .. } => self.kernel[1] += 1,
            EventBody::NfsServer { state, .. } => self.kernel[2] += u64::from(*state != NfsState::Ok),
            EventBody::StorageError { .. } => self.kernel[3] += 1,
            EventBody::Stopped { dropped, .. } => {
                self.log.complete = true;
                self.log.missing = self.log.missing.max(*dropped);
            }
            _ => {}
        }
    }

    fn hold(&mut self, from: u64, until: u64, by_stun: bool, by_penalty: bool) {
        let time = until.saturating_sub(from);
        self.held += 1;
        self.longest_hold = self.longest_hold.max(time);
        if by_stun {
            for stun in self.stuns.iter_mut().filter(|stun| stun.overlaps(from, until)) {
                stun.met += 1;
                stun.longest = stun.longest.max(time);
            }
        }
        if by_penalty {
            let penalties = &mut self.penalties;
            penalties.count += 1;
            penalties.longest = penalties.longest.max(time);
            penalties.first = Some(penalties.first.map_or(from, |first| first.min(from)));
            penalties.last = Some(penalties.last.map_or(until, |last| last.max(until)));
        }
    }

    /// A line of the log cannot be read: it is torn, or no event.
    pub const fn unreadable(&mut self) {
        self.told_missing += 1;
    }

    /// The writer `name` tells `now` that its longest acknowledgement latency since it told last is `latency_us`.
    pub fn felt(&mut self, name: &str, now: u64, latency_us: u64) {
        self.felt.entry(name.to_owned()).or_default().push((now, latency_us));
    }

    /// What became of the log.
    pub fn log(&self) -> LogResult {
        LogResult { missing: self.log.missing.max(self.told_missing), ..self.log }
    }

    /// Whether the time limit of the injection has passed.
    pub const fn has_expired(&self) -> bool {
        self.expired
    }

    /// The proof of a stun that a step asked for between `began` and `done`; with `freezes`, that of its freeze, too.
    pub fn stun(&self, began: u64, done: u64, freezes: bool) -> Vec<Proof> {
        let asked = (began.saturating_sub(EFFECT_WITHIN_US), done.saturating_add(EFFECT_WITHIN_US));
        let begun = |span: &&Span| span.from >= asked.0 && span.from <= asked.1;
        let stun = self.proof(FaultKind::Stun, self.stuns.iter().find(begun));
        let freeze = || {
            self.proof(
                FaultKind::Freeze,
                self.freezes
                    .iter()
                    .find(|span| span.from >= asked.0 && span.overlaps(asked.0, stun.until_us.unwrap_or(u64::MAX))),
            )
        };
        let freeze = freezes.then(freeze);
        std::iter::once(stun).chain(freeze).collect()
    }

    /// The proof that first writes (first reads) waited.
    pub fn first_writes(&self) -> Proof {
        let Penalties { count, longest, first, last } = self.penalties;
        let span = first.map(|from| Span { from, until: last, met: count, longest });
        self.proof(FaultKind::FirstWrite, span.as_ref())
    }

    fn proof(&self, fault: FaultKind, span: Option<&Span>) -> Proof {
        let felt_us = span.map(|span| self.felt_during(span)).unwrap_or_default();
        Proof {
            fault,
            delivered: span.is_some_and(|span| span.met > 0),
            from_us: span.map(|span| span.from),
            until_us: span.and_then(|span| span.until),
            operations: span.map_or(0, |span| span.met),
            longest_hold_us: span.map_or(0, |span| span.longest),
            felt_us,
        }
    }

    fn felt_during(&self, span: &Span) -> BTreeMap<String, u64> {
        let until = span.until.unwrap_or(u64::MAX).saturating_add(TOLD_WITHIN_US);
        let longest = |told: &Vec<(u64, u64)>| {
            told.iter().filter(|(at, _)| *at >= span.from && *at <= until).map(|(_, latency)| *latency).max()
        };
        self.felt.iter().filter_map(|(name, told)| Some((name.clone(), longest(told)?))).collect()
    }

    /// Puts the figures of the volume, its pool and the kernel.
    pub fn put_into(&self, figures: &mut Figures) {
        let stunned: u64 = self.stuns.iter().filter_map(|stun| Some(stun.until?.saturating_sub(stun.from))).sum();
        let counts = [
            ("volume.held", self.held),
            ("volume.first_writes_held", self.penalties.count),
            ("volume.refused", self.refused),
            ("volume.stuns", u64::try_from(self.stuns.len()).unwrap_or(u64::MAX)),
            ("volume.freezes", u64::try_from(self.freezes.len()).unwrap_or(u64::MAX)),
            ("pool.full", self.pool_full),
            ("pool.low_water", self.low_water),
            ("pool.discarded", self.discarded),
            ("kernel.hung_tasks", self.kernel[0]),
            ("kernel.soft_lockups", self.kernel[1]),
            ("kernel.nfs_timeouts", self.kernel[2]),
            ("kernel.storage_errors", self.kernel[3]),
        ];
        counts.into_iter().for_each(|(name, n)| figures.put(name, MetricValue::count(n)));
        figures.put("volume.longest_hold", MetricValue::Micros(self.longest_hold));
        figures.put("volume.stunned", MetricValue::Micros(stunned));
    }
}

fn end(spans: &mut [Span], now: u64) {
    spans.iter_mut().filter(|span| span.until.is_none()).for_each(|span| span.until = Some(now));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// The events of a log, numbered; times in milliseconds of the volume's clock.
    fn evidence(events: &[(u64, Value)]) -> Evidence {
        let mut evidence = Evidence::default();
        for (seq, (at, body)) in events.iter().enumerate() {
            let mut event = json!({"v": 1, "seq": seq, "t_us": at * 1000});
            event.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
            evidence.take(&serde_json::from_value(event).unwrap(), 1_000_000);
        }
        evidence
    }

    fn began() -> Value {
        json!({"event": "stun-began", "cause": "manual", "until_us": 9_000_000})
    }

    fn ended() -> Value {
        json!({"event": "stun-ended"})
    }

    fn held(from: u64, until: u64, stun_us: u64, latency_us: u64) -> Value {
        json!({"event": "held", "id": 1, "op": "write", "ino": 1, "path": "a", "pid": 1, "uid": 0, "comm": "w",
            "requested_us": from * 1000, "due_us": until * 1000, "released_us": until * 1000, "cause": "due", "error": null,
            "penalty": {"latency_us": latency_us, "zeroing_us": 0, "queue_us": 0, "space_us": 0, "stun_us": stun_us, "grains": 0}})
    }

    #[test]
    fn a_stun_that_operations_met_is_delivered_and_felt() {
        let mut evidence = evidence(&[(1000, began()), (3000, held(1500, 3000, 1_500_000, 0)), (3000, ended())]);
        evidence.felt("writer", 1_500_000, 10);
        evidence.felt("writer", 4_500_000, 1_600_000);
        let proofs = evidence.stun(2_000_000, 2_010_000, false);
        let proof = &proofs[0];
        assert!(proof.delivered && proofs.len() == 1);
        assert_eq!((proof.from_us, proof.until_us, proof.operations), (Some(2_000_000), Some(4_000_000), 1));
        assert_eq!((proof.longest_hold_us, proof.felt_us["writer"]), (1_500_000, 1_600_000));
    }

    #[test]
    fn a_stun_that_nothing_met_is_not_delivered() {
        let evidence = evidence(&[(1000, began()), (3000, ended()), (5000, held(4000, 5000, 0, 1000))]);
        assert!(!evidence.stun(2_000_000, 2_010_000, false)[0].delivered);
        assert_eq!(evidence.stun(2_000_000, 2_010_000, false)[0].from_us, Some(2_000_000));
    }

    #[test]
    fn a_stun_that_never_was_in_force_is_not_delivered() {
        let evidence = evidence(&[(1000, held(0, 1000, 0, 1000))]);
        let proofs = evidence.stun(2_000_000, 2_010_000, true);
        assert!(proofs.iter().all(|proof| !proof.delivered && proof.from_us.is_none()) && proofs.len() == 2);
    }

    #[test]
    fn a_freeze_counts_only_if_something_was_frozen() {
        let frozen = json!({"event": "frozen", "targets": ["pid:1"], "took_us": 5, "waiting": []});
        let thawed = json!({"event": "thawed", "targets": ["pid:1"], "took_us": 5});
        let met = held(1500, 3000, 1_500_000, 0);
        let with = evidence(&[(1000, began()), (1001, frozen), (2999, thawed), (3000, met.clone()), (3000, ended())]);
        let delivered = |evidence: &Evidence| {
            evidence.stun(2_000_000, 2_010_000, true).iter().map(|it| it.delivered).collect::<Vec<_>>()
        };
        assert_eq!(delivered(&with), [true, true]);
        let without = evidence(&[(1000, began()), (3000, met), (3000, ended())]);
        assert_eq!(delivered(&without), [true, false]);
    }

    #[test]
    fn first_writes_count_only_if_they_waited() {
        assert!(!evidence(&[(1000, held(0, 1000, 1_000_000, 0))]).first_writes().delivered, "a stun alone");
        let proof = evidence(&[(1000, held(0, 1000, 0, 1000)), (3000, held(500, 3000, 0, 1000))]).first_writes();
        assert!(proof.delivered);
        assert_eq!((proof.operations, proof.from_us, proof.until_us), (2, Some(1_000_000), Some(4_000_000)));
    }

    #[test]
    fn what_is_missing_from_the_log_is_counted() {
        let stopped = |dropped| json!({"event": "stopped", "reason": "signal", "held": 0, "dropped": dropped});
        assert_eq!(evidence(&[(1, stopped(0))]).log(), LogResult { events: 1, missing: 0, complete: true });
        assert_eq!(evidence(&[(1, stopped(7))]).log().missing, 7);
        assert!(!evidence(&[(1, ended())]).log().complete, "truncated");
        let mut torn = evidence(&[(1, stopped(0))]);
        torn.unreadable();
        assert_eq!(torn.log().missing, 1);
        let mut gap = Evidence::default();
        for seq in [0, 1, 5] {
            let event = json!({"v": 1, "seq": seq, "t_us": 1, "event": "stun-ended"});
            gap.take(&serde_json::from_value(event).unwrap(), 0);
        }
        assert_eq!(gap.log().missing, 3);
    }

    #[test]
    fn figures_of_the_volume_are_there_even_if_nothing_happened() {
        let mut figures = Figures::default();
        Evidence::default().put_into(&mut figures);
        assert_eq!(figures.get("volume.held"), Some(&MetricValue::Count(0.0)));
        assert_eq!(figures.get("volume.longest_hold"), Some(&MetricValue::Micros(0)));
    }
}
