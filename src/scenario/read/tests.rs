use proptest::prelude::*;

use super::*;
use crate::control::Command;
use crate::profiles;
use crate::scenario::MetricValue;
use crate::scenario::spec::Work;
use crate::settings::Opt;

const EXAMPLE: &str = "\
apiVersion: stunfs/v1alpha1
kind: Scenario
metadata: {name: example, description: what it shows}
spec:
  seed: 7
  duration: 3m
  storage: {kind: disk, filesystem: xfs, size: 20GiB, profile: vmware-thin, pool: 8GiB}
  arms: {thin: {}, thick: {thick: true}, warmed: {warm: 512MiB}}
  workload:
    - {name: collector, fluentd: {threads: 8, rate: 2000/s}}
    - {name: backup, at: 20s, run: [tar, cf, '{}/backup.tar', /usr/share/doc]}
  probes:
    - {name: ready, command: {run: [cat, /ready], output: true}}
  steadyState: [{probe: collector.rate, atLeast: 1900/s, for: 5s}]
  timeline:
    - {at: 30s, stun: {for: 60s}}
    - {wait: {probe: collector.rate, atLeast: 1/s, within: 30s}}
    - {at: 100s, name: sync, run: [sync]}
  stopConditions: [{probe: ready, equals: false}]
  expect:
    - {arm: thin, metric: collector.ack_latency.max, atLeast: 5s}
    - {arm: thick, metric: collector.ack_latency.max, atMost: 500ms}
    - {metric: collector.records_lost, equals: 0}
  short: [spec.duration=20s]
";

fn read_text(text: &str) -> Result<Scenario, ReadError> {
    read("f.yaml", text, &[], profiles::lookup)
}

/// The example with one text replaced; it must be there.
fn with(from: &str, to: &str) -> String {
    assert!(EXAMPLE.contains(from), "{from}");
    EXAMPLE.replacen(from, to, 1)
}

fn overridden(changes: &[&str]) -> Result<Scenario, ReadError> {
    let changes: Result<Vec<Override>, _> = changes.iter().map(|change| change.parse()).collect();
    read("f.yaml", EXAMPLE, &changes?, profiles::lookup)
}

#[test]
fn a_scenario_is_read_whole() {
    let spec = read_text(EXAMPLE).unwrap().spec;
    assert_eq!(spec.arms.0.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["thin", "thick", "warmed"]);
    assert_eq!(spec.timeline[0].action, Action::Command(Command::stun(Some(std::time::Duration::from_secs(60)))));
    let Work::Writer(_, options) = &spec.workload[0].work else { panic!("a writer") };
    assert_eq!(options.arguments(), ["--threads=8", "--rate=2000/s"]);
    assert_eq!(spec.expect[0].bounds().at_least, Some(MetricValue::Micros(5_000_000)));
    assert!(spec.expect[2].is_about("thin") && !spec.expect[1].is_about("thin"));
}

#[test]
fn a_resolved_scenario_reads_back_as_itself() {
    let scenario = read_text(EXAMPLE).unwrap();
    let written = serde_norway::to_string(&scenario).unwrap();
    assert_eq!(read_text(&written).unwrap(), scenario, "{written}");
}

#[test]
fn what_is_wrong_is_said_with_line_column_and_nearest_key() {
    let cases = [
        ("  timeline:", "  timelin:", "f.yaml:15:3: spec: unknown key 'timelin'; did you mean 'timeline'?"),
        ("seed: 7", "sed: 7", "f.yaml:5:3: spec: unknown key 'sed'; did you mean 'seed'?"),
        ("thick: true", "thik: true", "f.yaml:8:28: spec.arms.thick: unknown key 'thik'; did you mean 'thick'?"),
        ("pool: 8GiB", "pol: 8GiB", "f.yaml:7:77: spec.storage: unknown key 'pol'; did you mean 'pool'?"),
        ("fluentd: {threads", "fluentdd: {threads", "unknown key 'fluentdd'; did you mean 'fluentd'?"),
        (
            "stun: {for: 60s}",
            "stn: {for: 60s}",
            "f.yaml:16:17: spec.timeline[0]: unknown key 'stn'; did you mean 'stun'?",
        ),
        ("stun: {for: 60s}", "stun: {fro: 60s}", "stun: unknown key 'fro'; there are for, settle"),
        ("stun: {for: 60s}", "stun: {for: 60}", "60"),
        ("atLeast: 5s", "atleast: 5s", "unknown key 'atleast'; did you mean 'atLeast'?"),
        ("duration: 3m", "duration: 3", "f.yaml:6:13: spec.duration: '3' has no unit; write a time such as 3ms or 3s"),
        ("duration: 3m", "duration: '3'", "has no unit"),
        ("kind: Scenario", "kind: Scenari", "f.yaml:2:7: kind: unknown value 'Scenari'; did you mean 'Scenario'?"),
        ("kind: disk", "kind: disc", "'disc' is no kind of storage; write directory, disk or attach"),
        ("kind: disk", "kind: directory", "filesystem and size go with kind: disk only"),
    ];
    for (from, to, expected) in cases {
        let error = read_text(&with(from, to)).unwrap_err().to_string();
        assert!(error.contains(expected), "{from} -> {to}: {error}");
        assert!(error.starts_with("f.yaml:") && !error.contains('\n'), "{error}");
    }
}

#[test]
fn what_does_not_go_together_is_said_with_its_key() {
    let cases = [
        ("name: example", "name: Example", "metadata.name: 'Example' is no name"),
        ("name: backup", "name: collector", "spec.workload: the name 'collector' is there twice"),
        ("name: backup", "name: volume", "taken by figures of the run itself"),
        ("metric: collector.ack_latency.max, atLeast", "metric: colector.ack, atLeast", "did you mean 'collector'?"),
        ("arm: thick", "arm: thik", "spec.expect: no arm is called 'thik'; did you mean 'thick'?"),
        (", atLeast: 5s}", "}", "has no bound; write atLeast, atMost or equals"),
        ("atMost: 500ms", "atMost: slow", "take a number with the metric's unit"),
        ("at: 30s", "at: 3m", "at 3m the run of 3m is over"),
        ("at: 100s", "at: 10s", "put the steps in order"),
        ("at: 20s", "at: 4m", "'backup' begins at 4m, when the run of 3m is over"),
        ("duration: 3m", "duration: 0s", "a run of 0 measures nothing"),
        ("profile: vmware-thin", "profile: vmware-thn", "did you mean 'vmware-thin'?"),
        ("thick: true", "lanes: 0", "spec.arms.thick: lanes: '0'"),
        ("run: [sync]", "run: []", "run: has no command"),
        ("command: {run: [cat, /ready], output: true}", "every: 2s", "looks at one thing"),
        ("output: true}", "output: true}, every: 1ms", "every 1ms is too often"),
        ("short: [spec.duration=20s]", "short: [spec.duration]", "spec.short: --set spec.duration: write KEY=VALUE"),
        ("pool: 8GiB", "placement: packed", "a disk's is always direct"),
    ];
    for (from, to, expected) in cases {
        let error = read_text(&with(from, to)).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{from} -> {to}: {error}");
    }
    let two = with("stun: {for: 60s}", "stun: {for: 60s}, arm: {}");
    assert!(read_text(&two).unwrap_err().to_string().contains("one step does one thing"));
    let attach = with(
        "{kind: disk, filesystem: xfs, size: 20GiB, profile: vmware-thin, pool: 8GiB}",
        "{kind: attach, path: /m}",
    );
    assert!(read_text(&attach).unwrap_err().to_string().contains("one arm without options"));
}

#[test]
fn set_changes_one_value() {
    let spec =
        overridden(&["spec.arms.thin.pool=4GiB", "spec.timeline.0.at=5s", "spec.workload.backup.at=1s"]).unwrap().spec;
    assert_eq!(spec.arms.0[0].1.settings.get(Opt::Pool), Some("4GiB"));
    assert_eq!(spec.timeline[0].at.unwrap().micros(), 5_000_000);
    assert_eq!(spec.workload[1].at.micros(), 1_000_000);
    assert_eq!(overridden(&["spec.timeline=[]"]).unwrap().spec.timeline, []);
}

#[test]
fn a_wrong_set_is_named() {
    let cases = [
        ("spec.duration", "--set spec.duration: write KEY=VALUE"),
        ("spec..x=1", "write KEY=VALUE"),
        (
            "spec.arms.thin.pol=4GiB",
            "--set spec.arms.thin.pol=4GiB: spec.arms.thin: unknown key 'pol'; did you mean 'pool'?",
        ),
        ("spec.timeline.9.at=5s", "spec.timeline has 3 items"),
        ("spec.duration.x=5s", "spec.duration is a plain value"),
        ("spec.duration=[", "--set spec.duration=["),
        ("spec.duration=5s", "when the run of 5s is over"),
    ];
    for (change, expected) in cases {
        let error = overridden(&[change]).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{change}: {error}");
    }
}

#[test]
fn the_published_schema_is_that_of_the_types_and_takes_the_example() {
    let schema = serde_json::to_value(crate::scenario::schema()).unwrap();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(crate::scenario::SCHEMA_FILE);
    if std::env::var_os("STUNFS_UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(&schema).unwrap() + "\n").unwrap();
    }
    let published: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(published, schema, "run it again with STUNFS_UPDATE_SCHEMA=1");
    let validator = jsonschema::validator_for(&schema).unwrap();
    let example: serde_json::Value = serde_norway::from_str(EXAMPLE).unwrap();
    let faults: Vec<_> = validator.iter_errors(&example).map(|error| error.to_string()).collect();
    assert_eq!(faults, Vec::<String>::new());
    for (from, to) in
        [("seed: 7", "sed: 7"), ("thick: true", "thik: true"), ("stun: {for", "stn: {for"), ("fluentd: {", "x: {")]
    {
        let wrong: serde_json::Value = serde_norway::from_str(&with(from, to)).unwrap();
        assert!(!validator.is_valid(&wrong), "{to}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Any text is either a scenario or refused in one line.
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        if let Err(error) = read_text(&text) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }

    /// The example with a piece cut out, doubled or replaced.
    #[test]
    fn no_damage_makes_it_panic(at in 0..EXAMPLE.len(), length in 0_usize..40, piece in "[\\[\\]{}:,a-z0-9&*!|>'\"%@ \n-]{0,12}") {
        let end = (at + length).min(EXAMPLE.len());
        let text = format!("{}{piece}{}", &EXAMPLE[..at], &EXAMPLE[end..]);
        if let Err(error) = read_text(&text) {
            prop_assert!(!error.to_string().contains('\n'), "{error}");
        }
    }

    #[test]
    fn no_set_makes_it_panic(path in "[a-z0-9.]{0,30}", value in "\\PC{0,20}") {
        if let Err(error) = overridden(&[&format!("spec.{path}={value}")]) {
            prop_assert!(!error.to_string().contains('\n'), "{error}");
        }
    }
}
