//! A writer's figures, from what `stunfs write --json-lines` tells.
//!
//! Must not know: processes, how a writer works. Invariant: what a writer did not tell has no figure, it is never 0 instead.

use serde_json::Value;

use super::figures::Figures;
use super::metric::MetricValue;

/// A line that a writer told.
#[derive(Debug, Clone, PartialEq)]
pub enum WriterLine {
    /// How far it is.
    Progress(Value),
    /// What came out; always the last.
    Report(Value),
}

impl WriterLine {
    /// Reads a line; `None` if it is none.
    pub fn read(line: &str) -> Option<Self> {
        let Value::Object(mut map) = serde_json::from_str(line).ok()? else { return None };
        let progress = map.remove("progress").map(Self::Progress);
        progress.or_else(|| map.remove("report").map(Self::Report))
    }
}

/// What a writer told last, for rates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LiveWriter {
    elapsed_us: u64,
}

impl LiveWriter {
    /// Puts the figures of the writer `name` as they are now; the longest acknowledgement latency since it told last.
    pub fn progress(&mut self, name: &str, progress: &Value, figures: &mut Figures) -> Option<u64> {
        let number = |value: &Value, key: &str| value.get(key).and_then(Value::as_u64);
        let elapsed = number(progress, "elapsed_us")?;
        let since = elapsed.saturating_sub(self.elapsed_us);
        self.elapsed_us = elapsed;
        for key in ["records", "errors"] {
            number(progress, key).into_iter().for_each(|n| figures.put(format!("{name}.{key}"), MetricValue::count(n)));
        }
        let interval = progress.get("interval")?;
        if let Some(records) = number(interval, "records").filter(|_| since > 0) {
            figures.put(format!("{name}.rate"), per_second(records, since));
        }
        for (key, figure) in [("ack_p50_us", "p50"), ("ack_p99_us", "p99"), ("ack_max_us", "max")] {
            let latency = number(interval, key).map(MetricValue::Micros);
            latency.into_iter().for_each(|us| figures.put(format!("{name}.ack_latency.{figure}"), us));
        }
        number(interval, "ack_max_us")
    }
}

/// Puts the figures of the writer `name` from its report.
pub fn report(name: &str, report: &Value, figures: &mut Figures) {
    let number = |path: &str| report.pointer(path).and_then(Value::as_u64);
    let mut put = |figure: &str, value: Option<MetricValue>| match value {
        Some(value) => figures.put(format!("{name}.{figure}"), value),
        None => figures.forget(&format!("{name}.{figure}")),
    };
    let latencies = ["p50", "p90", "p99", "p999", "max"];
    let any = number("/ack_latency/count").is_some_and(|count| count > 0);
    for figure in latencies {
        let micros = number(&format!("/ack_latency/{figure}_us")).filter(|_| any).map(MetricValue::Micros);
        put(&format!("ack_latency.{figure}"), micros);
    }
    let counts = [
        ("records", "/records"),
        ("records_missed", "/missed"),
        ("records_lost", "/verified/lost"),
        ("records_torn", "/verified/torn"),
        ("slow_flushes", "/slow_flushes"),
    ];
    counts.into_iter().for_each(|(figure, path)| put(figure, number(path).map(MetricValue::count)));
    let times = [
        ("longest_gap", "/longest_gap_us"),
        ("heartbeat_gap", "/heartbeats/disk/longest_gap_us"),
        ("lease_gap", "/heartbeats/lease/longest_gap_us"),
    ];
    times.into_iter().for_each(|(figure, path)| put(figure, number(path).map(MetricValue::Micros)));
    let of_each = |list: &str, key: &str| -> Option<Vec<u64>> {
        let list = report.get(list)?.as_array()?;
        Some(list.iter().filter_map(|item| item.get(key)?.as_u64()).collect())
    };
    put("errors", of_each("errors", "count").map(|counts| MetricValue::count(counts.iter().sum())));
    let longest = of_each("locks", "max_us").map(|times| times.into_iter().max().unwrap_or(0));
    put("lock_wait.max", longest.map(MetricValue::Micros));
    let rate = number("/records").zip(number("/elapsed_us")).filter(|(_, elapsed)| *elapsed > 0);
    put("rate", rate.map(|(records, elapsed)| per_second(records, elapsed)));
}

#[expect(clippy::cast_precision_loss, reason = "records and microseconds of a run are far below 2^52")]
fn per_second(records: u64, micros: u64) -> MetricValue {
    MetricValue::PerSecond(records as f64 * 1e6 / micros as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn progress_becomes_figures_as_they_are_now() {
        let (mut live, mut figures) = (LiveWriter::default(), Figures::default());
        let told = |elapsed: u64, records: u64| {
            json!({"elapsed_us": elapsed, "records": 500, "errors": 0,
                "interval": {"records": records, "ack_p50_us": 1, "ack_p99_us": 2, "ack_max_us": 3}})
        };
        assert_eq!(live.progress("w", &told(1_000_000, 300), &mut figures), Some(3));
        live.progress("w", &told(3_000_000, 200), &mut figures);
        assert_eq!(figures.get("w.rate"), Some(&MetricValue::PerSecond(100.0)));
        assert_eq!(figures.get("w.ack_latency.max"), Some(&MetricValue::Micros(3)));
        assert_eq!(live.progress("w", &json!("?"), &mut figures), None);
    }

    #[test]
    fn a_report_becomes_figures_and_what_it_lacks_is_missing() {
        let mut figures = Figures::default();
        figures.put("w.records_lost", MetricValue::Count(0.0));
        let told = json!({"records": 10, "elapsed_us": 2_000_000, "ack_latency": {"count": 10, "max_us": 7}, "longest_gap_us": 5,
            "errors": [{"count": 2}, {"count": 1}], "locks": [{"max_us": 4}], "verified": null});
        report("w", &told, &mut figures);
        let expected = [
            ("w.rate", MetricValue::PerSecond(5.0)),
            ("w.errors", MetricValue::Count(3.0)),
            ("w.lock_wait.max", MetricValue::Micros(4)),
            ("w.ack_latency.max", MetricValue::Micros(7)),
        ];
        expected.into_iter().for_each(|(name, value)| assert_eq!(figures.get(name), Some(&value)));
        assert_eq!(figures.get("w.records_lost"), None, "what was not verified is not 0");
    }

    #[test]
    fn lines_are_told_apart() {
        assert_eq!(WriterLine::read(r#"{"report": 1}"#), Some(WriterLine::Report(json!(1))));
        assert_eq!(WriterLine::read(r#"{"progress": 1}"#), Some(WriterLine::Progress(json!(1))));
        assert!(["", "{}", "[1]", "torn {"].into_iter().all(|line| WriterLine::read(line).is_none()));
    }
}
