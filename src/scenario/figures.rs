//! Figures by name as they are now, and what probes' figures were over time.
//!
//! Must not know: who measures. Invariant: a figure that was never measured is missing, not zero.

use std::collections::BTreeMap;

use super::metric::MetricValue;

/// Figures by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Figures(BTreeMap<String, MetricValue>);

impl Figures {
    /// The figure `name`.
    pub fn get(&self, name: &str) -> Option<&MetricValue> {
        self.0.get(name)
    }

    /// Takes over a figure.
    pub fn put(&mut self, name: impl Into<String>, value: MetricValue) {
        self.0.insert(name.into(), value);
    }

    /// The figure `name` is not known any more.
    pub fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// All of them.
    pub fn into_inner(self) -> BTreeMap<String, MetricValue> {
        self.0
    }
}

/// A probe's figure over time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ProbeHistory {
    first: Option<MetricValue>,
    last: Option<MetricValue>,
    least: Option<MetricValue>,
    greatest: Option<MetricValue>,
    samples: u64,
    missing: u64,
    changes: u64,
}

impl ProbeHistory {
    /// Takes a sample; whether the figure has changed.
    pub fn take(&mut self, value: Option<MetricValue>) -> bool {
        self.samples += 1;
        let changed = self.samples == 1 || value != self.last;
        if changed && self.samples > 1 {
            self.changes += 1;
        }
        match &value {
            None => self.missing += 1,
            Some(value) => {
                self.first.get_or_insert_with(|| value.clone());
                replace_if(&mut self.least, value, std::cmp::Ordering::is_lt);
                replace_if(&mut self.greatest, value, std::cmp::Ordering::is_gt);
            }
        }
        self.last = value;
        changed
    }

    /// Puts the figures of the probe `name`: its last, first, least and greatest value, and how often it was looked at in
    /// vain or has changed.
    pub fn put_into(&self, figures: &mut Figures, name: &str) {
        let named = [("", &self.last), (".first", &self.first), (".min", &self.least), (".max", &self.greatest)];
        for (suffix, value) in named {
            let name = format!("{name}{suffix}");
            match value {
                Some(value) => figures.put(name, value.clone()),
                None => figures.forget(&name),
            }
        }
        for (suffix, n) in [("samples", self.samples), ("missing", self.missing), ("changes", self.changes)] {
            figures.put(format!("{name}.{suffix}"), MetricValue::count(n));
        }
    }
}

fn replace_if(kept: &mut Option<MetricValue>, value: &MetricValue, better: fn(std::cmp::Ordering) -> bool) {
    if kept.as_ref().is_none_or(|kept| value.compare(kept).is_some_and(better)) {
        *kept = Some(value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probes_figures_are_its_last_first_least_and_greatest_value() {
        let (mut history, mut figures) = (ProbeHistory::default(), Figures::default());
        let told = [Some(3), Some(3), None, Some(1), Some(9)].map(|n| history.take(n.map(MetricValue::count)));
        assert_eq!(told, [true, false, true, true, true]);
        history.put_into(&mut figures, "p");
        let count = |name: &str| figures.get(name).cloned();
        let names = ["p", "p.first", "p.min", "p.max", "p.samples", "p.missing", "p.changes"];
        assert_eq!(names.map(count), [9, 3, 1, 9, 5, 1, 3].map(|n| Some(MetricValue::count(n))));
        history.take(None);
        history.put_into(&mut figures, "p");
        assert_eq!(figures.get("p"), None, "no answer is not the answer before");
    }
}
