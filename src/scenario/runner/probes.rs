//! Probes: each looked at on a thread of its own, so that one that hangs holds up nothing.
//!
//! Must not know: conditions, verdicts. Invariant: a probe that gives no answer has no figure.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::command::{finish, with_path};
use super::http;
use crate::observe::procfs::{Who, blocked};
use crate::scenario::MetricValue;
use crate::scenario::spec::{CommandProbe, HttpProbe, Probe, PrometheusProbe, TaskProbe, When};
use crate::time::{Deadline, pause};

/// Looks at `probe` once. Probes of the kernel are answered from the event log, not here.
pub(super) fn look(probe: &Probe, path: &Path) -> Option<MetricValue> {
    let command = probe.command.as_ref().map(|it| by_command(it, path));
    let http = || probe.http.as_ref().map(by_http);
    let prometheus = || probe.prometheus.as_ref().map(by_prometheus);
    let tasks = || probe.tasks.as_ref().map(by_tasks);
    command.or_else(http).or_else(prometheus).or_else(tasks).flatten()
}

fn by_command(probe: &CommandProbe, path: &Path) -> Option<MetricValue> {
    let finished = finish(with_path(&probe.run, path), probe.within.0).ok()??;
    if !probe.output {
        return Some(MetricValue::Count(f64::from(finished.code())));
    }
    let line = finished.stdout.lines().next().unwrap_or_default().trim();
    let value = match line {
        "true" => MetricValue::Flag(true),
        "false" => MetricValue::Flag(false),
        _ => number(line).unwrap_or_else(|| MetricValue::Text(line.to_owned())),
    };
    Some(value)
}

fn number(text: &str) -> Option<MetricValue> {
    text.parse::<f64>().ok().filter(|n| n.is_finite()).map(MetricValue::Count)
}

fn by_http(probe: &HttpProbe) -> Option<MetricValue> {
    Some(MetricValue::count(http::get(&probe.url, probe.within.0).map_or(0, |(status, _)| u64::from(status))))
}

fn by_prometheus(probe: &PrometheusProbe) -> Option<MetricValue> {
    let url = format!("{}/api/v1/query?query={}", probe.url.trim_end_matches('/'), http::encoded(&probe.query));
    let (_, body) = http::get(&url, probe.within.0).filter(|(status, _)| *status == 200)?;
    first_value(&serde_json::from_slice(&body).ok()?)
}

/// The first value of a query's answer: of a scalar, or of the first series of a vector.
fn first_value(answer: &serde_json::Value) -> Option<MetricValue> {
    let vector = answer.pointer("/data/result/0/value/1");
    let value = vector.or_else(|| answer.pointer("/data/result/1"))?;
    number(value.as_str()?)
}

fn by_tasks(probe: &TaskProbe) -> Option<MetricValue> {
    let who = Who { pids: Vec::new(), comms: probe.comm.iter().cloned().collect() };
    Some(MetricValue::count(u64::try_from(blocked(&who).len()).unwrap_or(u64::MAX)))
}

/// Looks at a probe again and again until `stop`; each figure goes to `tell`.
pub(super) fn watch(
    probe: Probe,
    path: PathBuf,
    stop: Arc<AtomicBool>,
    tell: impl Fn(&str, Option<MetricValue>) + Send + 'static,
) -> std::io::Result<()> {
    let body = move || {
        while !stop.load(Ordering::Relaxed) {
            let next = Deadline::after(probe.every.0);
            tell(&probe.name, look(&probe, &path));
            while !next.passed() && !stop.load(Ordering::Relaxed) {
                pause(next.left().min(Duration::from_millis(50)));
            }
        }
    };
    std::thread::Builder::new().name("probe".to_owned()).spawn(body).map(|_| ())
}

/// Whether the probe is looked at again and again by a thread.
pub(super) fn is_watched(probe: &Probe) -> bool {
    probe.kernel.is_none() && matches!(probe.when, When::Continuously | When::Change)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn probe(text: &str) -> Probe {
        serde_norway::from_str(text).unwrap()
    }

    fn of(text: &str) -> Option<MetricValue> {
        look(&probe(text), Path::new("/some where"))
    }

    #[test]
    fn a_command_has_its_exit_code_or_its_output() {
        assert_eq!(of("{name: p, command: {run: [sh, -c, exit 3]}}"), Some(MetricValue::Count(3.0)));
        assert_eq!(of("{name: p, command: {run: [echo, '7.5'], output: true}}"), Some(MetricValue::Count(7.5)));
        assert_eq!(of("{name: p, command: {run: [echo, 'false'], output: true}}"), Some(MetricValue::Flag(false)));
        let path = of("{name: p, command: {run: [echo, '{}'], output: true}}");
        assert_eq!(path, Some(MetricValue::Text("/some where".into())));
    }

    #[test]
    fn a_command_that_hangs_or_is_missing_has_no_figure() {
        assert_eq!(of("{name: p, command: {run: [sleep, '60'], within: 200ms}}"), None);
        assert_eq!(of("{name: p, command: {run: [/no/such/program]}}"), None);
    }

    #[test]
    fn a_server_that_is_not_there_has_status_0() {
        assert_eq!(of("{name: p, http: {url: 'http://127.0.0.1:1/'}}"), Some(MetricValue::Count(0.0)));
        assert_eq!(of("{name: p, prometheus: {url: 'http://127.0.0.1:1', query: up}}"), None);
    }

    #[test]
    fn a_query_has_the_first_value_of_its_answer() {
        let vector = json!({"data": {"resultType": "vector", "result": [{"metric": {}, "value": [1, "0.5"]}]}});
        let scalar = json!({"data": {"resultType": "scalar", "result": [1, "3"]}});
        assert_eq!([vector, scalar].map(|it| first_value(&it)), [0.5, 3.0].map(|n| Some(MetricValue::Count(n))));
        assert_eq!(first_value(&json!({"data": {"result": []}})), None);
    }

    #[test]
    fn tasks_in_state_d_are_counted() {
        assert_eq!(of("{name: p, tasks: {comm: no-such-program}}"), Some(MetricValue::Count(0.0)));
    }
}
