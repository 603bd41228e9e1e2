//! A run's figures by name, as scenarios use them in conditions.
//!
//! Must not know: how a figure comes about. Invariant: a figure that was not measured has no entry, it is never 0 instead.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::report::WorkloadReport;

/// A figure with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriterMetric {
    /// How many.
    Count(u64),
    /// Microseconds.
    Micros(u64),
    /// Per second.
    PerSecond(f64),
}

impl WorkloadReport {
    /// The figures by name: `ack_latency.p99`, `rate`, `records_lost` and so on.
    pub fn metrics(&self) -> BTreeMap<String, WriterMetric> {
        use WriterMetric::{Count, Micros};
        let lock_wait = self.locks.iter().map(|lock| lock.max_us).max().unwrap_or(0);
        let mut metrics = vec![
            ("rate", self.rate()),
            ("records", Count(self.records)),
            ("errors", Count(self.errors.iter().map(|trouble| trouble.count).sum())),
            ("longest_gap", Micros(self.longest_gap_us)),
            ("lock_wait.max", Micros(lock_wait)),
        ];
        // Without a record there is no latency, which is not the same as a latency of 0.
        if self.ack_latency.count > 0 {
            let latency = &self.ack_latency;
            metrics.extend([
                ("ack_latency.p50", Micros(latency.p50_us)),
                ("ack_latency.p90", Micros(latency.p90_us)),
                ("ack_latency.p99", Micros(latency.p99_us)),
                ("ack_latency.p999", Micros(latency.p999_us)),
                ("ack_latency.max", Micros(latency.max_us)),
            ]);
        }
        if let Some(verified) = &self.verified {
            metrics.extend([("records_lost", Count(verified.lost)), ("records_torn", Count(verified.torn))]);
        }
        metrics.extend(self.slow_flushes.map(|count| ("slow_flushes", Count(count))));
        if let Some(hearts) = &self.heartbeats {
            metrics.push(("heartbeat_gap", Micros(hearts.disk.longest_gap_us)));
            metrics.push(("lease_gap", Micros(hearts.lease.longest_gap_us)));
        }
        metrics.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn rate(&self) -> WriterMetric {
        // Records and microseconds of a run are far below 2^52, so that a float holds them exactly.
        #[expect(clippy::cast_precision_loss, reason = "see above")]
        let rate = if self.elapsed_us == 0 { 0.0 } else { self.records as f64 * 1e6 / self.elapsed_us as f64 };
        WriterMetric::PerSecond(rate)
    }
}
