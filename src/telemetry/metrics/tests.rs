use std::collections::BTreeMap;

use super::*;
use crate::model::PoolUse;
use crate::time::SimTime;

fn snapshot() -> Snapshot {
    Snapshot {
        armed: true,
        stunned_until: Some(SimTime::from_millis(5)),
        held: 7,
        pool: PoolUse { grains: 3, used_bytes: 3 << 20, size_bytes: Some(10 << 20), reusable_bytes: 1 << 20 },
        queue_wait: Duration::from_millis(1500),
        provisioned: 3,
        stuns: 2,
        ..Snapshot::default()
    }
}

/// Name to kind, from the `# TYPE` lines. LogCounters get the `_total` and infos the `_info` that their samples carry.
fn kinds(text: &str) -> BTreeMap<String, String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let full = |name: &str, kind: &str| match kind {
        "counter" => format!("{name}_total"),
        "info" => format!("{name}_info"),
        _ => name.to_owned(),
    };
    types.filter_map(|line| line.split_once(' ')).map(|(name, kind)| (full(name, kind), kind.to_owned())).collect()
}

#[test]
fn the_table_in_the_docs_and_the_registry_agree() {
    let table = include_str!("../../../docs/metrics.md");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `stunfs_"));
    let documented: BTreeMap<String, String> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let name = cells[0].trim_end_matches('`').split('{').next().unwrap();
            (format!("stunfs_{name}"), cells[1].to_owned())
        })
        .collect();
    let text = Metrics::new().render(&Snapshot::default(), &Mirrored::default());
    assert_eq!(documented, kinds(&text));
}

#[test]
fn labels_are_documented() {
    let table = include_str!("../../../docs/metrics.md");
    let text = Metrics::new().render(&Snapshot::default(), &Mirrored::default());
    for label in text.lines().filter_map(|line| line.split_once('{')?.1.split_once('=')).map(|(label, _)| label) {
        assert!(label == "le" || table.contains(&format!("{{{label}")), "{label}");
    }
}

#[test]
fn counts_from_many_threads_add_up() {
    let metrics = Metrics::new();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| (0..1000).for_each(|_| metrics.operation(OpKind::Write)));
        }
    });
    metrics.hold(OpKind::CopyFileRange);
    metrics.refuse(OpKind::Fallocate);
    assert_eq!(metrics.operations(OpKind::Write), 16_000);
    let text = metrics.render(&snapshot(), &Mirrored::default());
    for line in [
        "stunfs_operations_total{op=\"write\"} 16000",
        "stunfs_operations_total{op=\"read\"} 0",
        "stunfs_held_total{op=\"copy_file_range\"} 1",
        "stunfs_refused_total{op=\"fallocate\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
}

#[test]
fn a_release_that_is_taken_up_late_is_counted() {
    let metrics = Metrics::new();
    let [requested, due, in_time, late] = [1000, 2000, 2100, 2101].map(SimTime::from_millis);
    for taken_up in [due, in_time, late] {
        let times = HoldTimes { requested, due, released: due, taken_up, answered: late };
        metrics.answer(&times, &Penalty::default());
    }
    let text = metrics.render(&snapshot(), &Mirrored::default());
    assert!(text.lines().any(|line| line == "stunfs_late_releases_total 1"), "{text}");
}

#[test]
fn the_model_is_mirrored_and_holds_are_observed() {
    let metrics = Metrics::new();
    let penalty = Penalty { latency: Duration::from_millis(20), queue: Duration::from_secs(2), ..Penalty::default() };
    let [requested, due, answered] = [1000, 3020, 3021].map(SimTime::from_millis);
    let times = HoldTimes { requested, due, released: due, taken_up: due, answered };
    metrics.answer(&times, &penalty);
    let events = EventCounts { emitted: 9, dropped: 1, lost: 1, ..EventCounts::default() };
    let mirrored = Mirrored { held_memory_bytes: 4096, held_spill_bytes: 8192, events };
    let text = metrics.render(&snapshot(), &mirrored);
    for line in [
        "stunfs_held_operations 7",
        "stunfs_held_bytes{where=\"memory\"} 4096",
        "stunfs_held_bytes{where=\"spill\"} 8192",
        "stunfs_pool_used_bytes 3145728",
        "stunfs_pool_size_bytes 10485760.0",
        "stunfs_pool_reusable_bytes 1048576",
        "stunfs_grains_provisioned_total 3",
        "stunfs_queue_wait_seconds 1.5",
        "stunfs_stunned 1",
        "stunfs_stuns_total 2",
        "stunfs_armed 1",
        "stunfs_events_total 9",
        "stunfs_events_dropped_total 2",
        "stunfs_penalty_seconds_total{part=\"latency\"} 0.02",
        "stunfs_penalty_seconds_total{part=\"queue\"} 2.0",
        "stunfs_penalty_seconds_total{part=\"stun\"} 0.0",
        "stunfs_hold_seconds_count 1",
        "stunfs_hold_seconds_sum 2.021",
        "stunfs_release_lateness_seconds_bucket{le=\"0.001\"} 1",
        concat!("stunfs_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        "# EOF",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    let unlimited = metrics.render(&Snapshot::default(), &Mirrored::default());
    assert!(unlimited.contains("stunfs_pool_size_bytes inf\n"), "{unlimited}");
}

#[test]
#[ignore = "a measurement: cargo test --release --lib metrics::tests::cost -- --ignored --nocapture"]
fn cost() {
    let (metrics, clock) = (Metrics::new(), crate::time::Clock::start());
    (0..10_000_000).for_each(|_| metrics.operation(OpKind::Write));
    println!("{} ps per operation", clock.now().0 / 10_000);
}
