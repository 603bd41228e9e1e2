//! Steady state and stop conditions as state machines: figures and time in, whether they hold out.
//!
//! Must not know: who measures or acts. Invariant: a figure that is missing, or has another unit, never counts as steady and
//! never stops a run.

use super::figures::Figures;
use super::spec::{SteadyState, StopCondition};
use crate::time::SimTime;

/// Whether the steady state has been reached.
#[derive(Debug)]
pub struct Steadiness {
    conditions: Vec<SteadyState>,
    /// Since when each holds without a break.
    since: Vec<Option<SimTime>>,
    reached: Option<SimTime>,
}

impl Steadiness {
    /// Nothing has been seen yet.
    pub fn new(conditions: &[SteadyState]) -> Self {
        Self { conditions: conditions.to_vec(), since: vec![None; conditions.len()], reached: None }
    }

    /// Whether a steady state was asked for.
    pub const fn is_asked_for(&self) -> bool {
        !self.conditions.is_empty()
    }

    /// The figures are these `now`; whether the steady state is reached just now.
    pub fn observe(&mut self, now: SimTime, figures: &Figures) -> bool {
        for (condition, since) in self.conditions.iter().zip(&mut self.since) {
            let holds = figures.get(&condition.probe).and_then(|value| condition.bounds().hold(value)) == Some(true);
            *since = if holds { since.or(Some(now)) } else { None };
        }
        let long_enough = |(condition, since): (&SteadyState, &Option<SimTime>)| {
            since.is_some_and(|since| now.since(since) >= condition.hold_for.0)
        };
        let all = self.is_asked_for() && self.conditions.iter().zip(&self.since).all(long_enough);
        let just_now = all && self.reached.is_none();
        if just_now {
            self.reached = Some(now);
        }
        just_now
    }

    /// When it was reached.
    pub const fn reached(&self) -> Option<SimTime> {
        self.reached
    }

    /// The conditions that do not hold, with their figures.
    pub fn missing(&self, figures: &Figures) -> String {
        let open = self.conditions.iter().zip(&self.since).filter(|(_, since)| since.is_none());
        let told = open.map(|(condition, _)| {
            let now = figures.get(&condition.probe).map_or_else(|| "no figure".to_owned(), ToString::to_string);
            format!("{} must be {} for {}, is {now}", condition.probe, condition.bounds(), condition.hold_for)
        });
        let told: Vec<String> = told.collect();
        if told.is_empty() { "it did not hold for long enough".to_owned() } else { told.join("; ") }
    }
}

/// The stop condition that is true now, in words.
pub fn stop(conditions: &[StopCondition], figures: &Figures) -> Option<String> {
    conditions.iter().find_map(|condition| {
        let value = figures.get(&condition.probe)?;
        let met = condition.bounds().hold(value) == Some(true);
        met.then(|| format!("{} is {value} (stop at: {})", condition.probe, condition.bounds()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::MetricValue;

    fn at(seconds: u64) -> SimTime {
        SimTime::from_millis(seconds * 1000)
    }

    fn rate(per_second: f64) -> Figures {
        let mut figures = Figures::default();
        figures.put("w.rate", MetricValue::PerSecond(per_second));
        figures
    }

    #[test]
    fn steady_is_what_holds_for_so_long_without_a_break() {
        let mut steady =
            Steadiness::new(&serde_norway::from_str::<Vec<_>>("[{probe: w.rate, atLeast: 90/s, for: 5s}]").unwrap());
        assert!(!steady.observe(at(0), &Figures::default()));
        assert!(!steady.observe(at(1), &rate(95.0)));
        assert!(!steady.observe(at(4), &rate(50.0)), "a break");
        assert!(!steady.observe(at(5), &rate(95.0)));
        assert!(!steady.observe(at(9), &rate(90.0)));
        assert_eq!(steady.reached(), None);
        assert!(steady.observe(at(10), &rate(90.0)));
        assert!(!steady.observe(at(11), &rate(90.0)), "told once");
        assert_eq!(steady.reached(), Some(at(10)));
    }

    #[test]
    fn a_missing_figure_is_never_steady_and_says_so() {
        let text = "[{probe: w.rate, atLeast: 90/s}, {probe: w.records, atMost: 5s}]";
        let mut steady = Steadiness::new(&serde_norway::from_str::<Vec<_>>(text).unwrap());
        let mut figures = rate(95.0);
        figures.put("w.records", MetricValue::Count(1.0));
        assert!(![0, 10, 20].into_iter().any(|now| steady.observe(at(now), &figures)), "a count is no time");
        assert!(steady.missing(&figures).contains("w.records must be at most 5s for 5s, is 1"));
    }

    #[test]
    fn a_stop_condition_names_its_figure() {
        let conditions = serde_norway::from_str::<Vec<_>>("[{probe: w.rate, atMost: 10/s}]").unwrap();
        assert_eq!(stop(&conditions, &Figures::default()), None);
        assert_eq!(stop(&conditions, &rate(11.0)), None);
        assert_eq!(stop(&conditions, &rate(9.0)).unwrap(), "w.rate is 9.0/s (stop at: at most 10.0/s)");
    }
}
