//! The two text forms in which metrics are served: OpenMetrics 1.0 and Prometheus text 0.0.4, and which one a client wants.
//!
//! Must not know: which metrics there are. Invariant: both forms have the same samples; only the lines about them differ.

/// A text form of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus text 0.0.4: what every scraper and `promtool check metrics` read.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Exposition {
    /// What a client asks for with its `Accept` header; Prometheus text if it does not say.
    pub fn accepted(accept: Option<&str>) -> Self {
        let accept = accept.unwrap_or_default();
        let open = quality(accept, "application/openmetrics-text");
        let plain = quality(accept, "text/plain");
        if open.is_some_and(|open| open > 0.0 && plain.is_none_or(|plain| open >= plain)) {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// The `Content-Type` of the form.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// OpenMetrics text in this form.
    pub fn convert(self, open_metrics: String) -> String {
        match self {
            Self::OpenMetrics => open_metrics,
            Self::Prometheus => to_prometheus(&open_metrics),
        }
    }
}

/// How much a client wants `media`: the largest `q` of its entries, 1 where none is given.
fn quality(accept: &str, media: &str) -> Option<f32> {
    let wanted = accept.split(',').filter_map(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case(media) {
            return None;
        }
        Some(parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0)))
    });
    wanted.reduce(f32::max)
}

/// In Prometheus text a family has the name of its samples (`_total`, `_info` included), there are no units and no end
/// mark, and `info` is no type.
fn to_prometheus(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(named) = line.strip_prefix("# HELP ") {
            help = named.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|named| named.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            if let Some((_, help)) = help.take().filter(|(of, _)| *of == name) {
                text.push_str(&format!("# HELP {name}{suffix} {help}\n"));
            }
            text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with("# ") {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Snapshot;
    use crate::telemetry::metrics::{Metrics, Mirrored};

    fn served() -> String {
        Exposition::Prometheus.convert(Metrics::new().render(&Snapshot::default(), &Mirrored::default()))
    }

    /// Samples, families and types as `promtool check metrics` wants them. It found the type `info`, and nine without help.
    #[test]
    fn regression_every_family_has_a_help_a_known_type_and_its_samples_name() {
        let (mut helped, mut typed) = (Vec::new(), Vec::<(String, String)>::new());
        for line in served().lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["#", "HELP", name, _, ..] => helped.push(name.to_owned()),
                ["#", "TYPE", name, kind] => typed.push((name.to_owned(), kind.to_owned())),
                [sample, _] => {
                    let name = sample.split('{').next().unwrap();
                    let (family, kind) = typed.last().unwrap();
                    let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                    assert!(suffixes.iter().any(|suffix| name == format!("{family}{suffix}")), "{line}");
                    assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                }
                _ => panic!("{line}"),
            }
        }
        assert!(typed.len() > 15, "{typed:?}");
        assert_eq!(helped, typed.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
        assert!(typed.iter().all(|(_, kind)| ["counter", "gauge", "histogram"].contains(&kind.as_str())), "{typed:?}");
        assert!(typed.contains(&("stunfs_build_info".into(), "gauge".into())));
    }

    #[test]
    fn promtool_finds_it_clean_where_it_is_installed() {
        use std::io::Write;
        use std::process::{Command, Stdio};
        let mut promtool = Command::new("promtool");
        promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let Ok(mut child) = promtool.spawn() else {
            println!("left out: promtool is not installed");
            return;
        };
        child.stdin.take().unwrap().write_all(served().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
    }

    #[test]
    fn both_forms_have_the_same_samples() {
        let open = Metrics::new().render(&Snapshot::default(), &Mirrored::default());
        let samples =
            |text: &str| text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(samples(&open), samples(&to_prometheus(&open)));
    }

    #[test]
    fn the_client_says_which_form_it_wants() {
        use Exposition::{OpenMetrics, Prometheus};
        for (accept, form) in [
            (None, Prometheus),
            (Some("*/*"), Prometheus),
            (Some("text/plain;version=0.0.4"), Prometheus),
            (Some("application/openmetrics-text; version=1.0.0"), OpenMetrics),
            (Some("application/openmetrics-text;q=0"), Prometheus),
            (Some("application/openmetrics-text;q=0.2,text/plain;q=0.9"), Prometheus),
            // What Prometheus itself sends.
            (
                Some("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"),
                OpenMetrics,
            ),
        ] {
            assert_eq!(Exposition::accepted(accept), form, "{accept:?}");
        }
    }
}
