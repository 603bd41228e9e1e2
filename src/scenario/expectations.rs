//! Expectations of an arm against its figures.
//!
//! Must not know: where the figures come from. Invariant: an expectation holds only if its figure was measured in its unit.

use super::figures::Figures;
use super::result::{ExpectationResult, Outcome};
use super::spec::Expectation;

/// How the expectations of the arm `arm` came out.
pub fn evaluate(expectations: &[Expectation], arm: &str, figures: &Figures) -> Vec<ExpectationResult> {
    expectations.iter().filter(|it| it.is_about(arm)).map(|it| result(it, figures)).collect()
}

fn result(expectation: &Expectation, figures: &Figures) -> ExpectationResult {
    let (metric, expected) = (expectation.metric.clone(), expectation.bounds());
    let measured = figures.get(&metric).cloned();
    let (outcome, found) = match &measured {
        None => (Outcome::Unmeasured, "it was not measured".to_owned()),
        Some(value) => match expected.hold(value) {
            Some(true) => (Outcome::Holds, format!("it is {value}")),
            Some(false) => (Outcome::Fails, format!("it is {value}")),
            None => (Outcome::Unmeasured, format!("it is {}, {value}, which the bound is not", value.unit())),
        },
    };
    let text = format!("{metric} must be {expected}: {found}");
    ExpectationResult { metric, expected, measured, outcome, text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::MetricValue;

    fn outcome(bound: &str, value: Option<MetricValue>) -> Outcome {
        let expectations: Vec<Expectation> = serde_norway::from_str(&format!("[{{metric: w.x, {bound}}}]")).unwrap();
        let mut figures = Figures::default();
        value.into_iter().for_each(|value| figures.put("w.x", value));
        evaluate(&expectations, "thin", &figures)[0].outcome
    }

    #[test]
    fn at_least_fails_below_its_bound() {
        let latency = |us| outcome("atLeast: 5s", Some(MetricValue::Micros(us)));
        assert_eq!([4_999_999, 5_000_000].map(latency), [Outcome::Fails, Outcome::Holds]);
    }

    #[test]
    fn at_most_fails_above_its_bound() {
        let rate = |rate| outcome("atMost: 100/s", Some(MetricValue::PerSecond(rate)));
        assert_eq!([100.5, 100.0].map(rate), [Outcome::Fails, Outcome::Holds]);
    }

    #[test]
    fn equals_fails_beside_its_bound() {
        let lost = |n| outcome("equals: 0", Some(MetricValue::count(n)));
        assert_eq!([0, 1].map(lost), [Outcome::Holds, Outcome::Fails]);
        let text = |text: &str| outcome("equals: Ready", Some(MetricValue::Text(text.into())));
        assert_eq!(["Ready", "NotReady"].map(text), [Outcome::Holds, Outcome::Fails]);
    }

    #[test]
    fn a_figure_that_is_missing_or_of_another_unit_never_holds() {
        assert_eq!(outcome("atMost: 5s", None), Outcome::Unmeasured);
        assert_eq!(outcome("equals: 0", None), Outcome::Unmeasured);
        assert_eq!(outcome("atMost: 5s", Some(MetricValue::Count(0.0))), Outcome::Unmeasured);
    }

    #[test]
    fn an_expectation_is_only_about_its_arm() {
        let text = "[{arm: thin, metric: a.b, equals: 1}, {metric: a.c, equals: 1}]";
        let expectations: Vec<Expectation> = serde_norway::from_str(text).unwrap();
        let metrics = |arm| evaluate(&expectations, arm, &Figures::default()).len();
        assert_eq!((metrics("thin"), metrics("thick")), (2, 1));
    }
}
