//! The page as a whole: what is on it, what a text in it may not do, and what bytes of any kind lead to.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{ReportError, ReportFile, Run, RunReader, comparison, page, verdict_sentence};

const HOSTILE: &str = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&\"'";

/// A run with two arms, `thin` and `thick`; the second without a fault.
fn verdict() -> Value {
    let arm = |name: &str, begin: u64, longest: u64, verdict: &str| {
        json!({"name": name, "verdict": verdict, "reasons": [], "notes": [], "began_us": begin, "ended_us": begin + 10_000_000,
            "steady_us": null, "steps": [], "log": {"events": 4, "missing": 0, "complete": true}, "stuck": [],
            "proofs": [{"fault": "first-write", "delivered": true, "from_us": begin, "until_us": begin + 5_000_000,
                "operations": 2, "longest_hold_us": longest, "felt_us": {"collector": longest}}],
            "expectations": [{"metric": "collector.ack_latency.max", "expected": {"atMost": {"micros": 7_000_000}},
                "measured": {"micros": longest}, "outcome": "holds", "text": "it holds"}],
            "metrics": {"collector.ack_latency.max": {"micros": longest}, "collector.records_lost": {"count": 0.0},
                "volume.held": {"count": 2.0}},
            "writers": [
                {"name": "collector", "kind": "write fluentd", "began_us": begin, "ended_us": begin, "exit_code": 0,
                    "ended_by_harness": false, "report": format!("writers/{name}/collector.json")},
                {"name": "backup", "kind": "tar", "began_us": begin, "ended_us": begin, "exit_code": 0,
                    "ended_by_harness": false, "report": null}]})
    };
    json!({"v": 1, "version": "0.1.0", "scenario": "night", "description": "a night", "started": "2026-11-27T06:52:45.8Z",
        "elapsed_us": 20_000_000, "seed": 7, "verdict": "pass", "summary": "all is well", "again": ["stunfs", "test", "night.yaml"],
        "arms": [arm("thin", 0, 5_900_000, "pass"), arm("thick", 10_000_000, 8_700, "pass")]})
}

fn held(comm: &str, from: u64, queue: u64, latency: u64) -> Value {
    let until = from + queue + latency;
    json!({"v": 1, "seq": 1, "t_us": until, "event": "held", "id": 1, "op": "write", "ino": 1, "path": "app.log", "pid": 7, "uid": 0,
        "comm": comm, "requested_us": from, "due_us": until, "released_us": until, "cause": "due", "error": null,
        "penalty": {"latency_us": latency, "zeroing_us": 0, "queue_us": queue, "space_us": 0, "stun_us": 0, "grains": 1},
        "arm": "thin", "run_us": until + 1_000_000})
}

fn events() -> Vec<Value> {
    let at = |us: u64, body: Value| {
        let mut event = json!({"v": 1, "seq": 1, "t_us": us, "run_us": us, "arm": "thin"});
        event.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        event
    };
    let progress = json!({"elapsed_us": 1_000_000, "records": 5, "errors": 0, "max_us": 5_900_000, "waiting": [],
        "interval": {"records": 5, "ack_p50_us": 900, "ack_p99_us": 5_000_000, "ack_max_us": 5_900_000},
        "lock": {"lock": "buffer", "holder": "a", "root": "a", "op": "write", "waiters": ["b", "c"], "for_us": 5},
        "heartbeats": {"disk": {"beats": 1, "longest_gap_us": 9, "last_ago_us": 200_000_000, "limit_us": 180_000_000, "lost": true},
            "lease": {"beats": 1, "longest_gap_us": 9, "last_ago_us": 1_000_000, "limit_us": 40_000_000, "lost": false}}});
    vec![
        json!({"v": 1, "seq": 0, "t_us": 0, "run_us": 0, "event": "run-started", "version": "0.1.0", "scenario": "night",
            "seed": 7, "started": "2026-11-27T06:52:45Z", "arms": ["thin", "thick"]}),
        at(1, json!({"event": "started", "config": {"grain": 1_048_576, "pool": 4_194_304, "virtual_size": null}})),
        at(2, json!({"event": "writer-started", "name": "backup", "pid": 9})),
        held("tar", 0, 0, 3_000_000),
        held("fluentd", 100_000, 2_900_000, 1_000_000),
        at(3_000_000, json!({"event": "stun-began", "cause": "manual", "until_us": 9_000_000})),
        at(
            3_100_000,
            json!({"event": "frozen", "targets": ["pid:9"], "took_us": 5, "waiting": ["fluentd (9) in fuse"]}),
        ),
        at(3_200_000, json!({"event": "tasks", "waiting": 4, "by_resource": {"XFS buffer lock": 3, "inode lock": 1}})),
        at(
            3_300_000,
            json!({"event": "pile-up", "tasks": 3, "resource": "XFS buffer lock", "since_us": 1,
            "oldest": {"pid": 9, "tid": 10, "comm": "fluentd", "for_us": 1_000_000, "stack": []}}),
        ),
        at(
            3_400_000,
            json!({"event": "hung-task", "task": "fluentd", "pid": 10, "seconds": 120, "state": "D", "frames": [],
            "waits_for": "XFS buffer lock", "source": "host", "raw": ""}),
        ),
        at(3_500_000, json!({"event": "fuse-waiting", "connections": {"51": 3, "52": 1}})),
        at(5_000_000, json!({"event": "stun-ended"})),
        at(5_100_000, json!({"event": "tasks", "waiting": 0, "by_resource": {}})),
        at(5_200_000, json!({"event": "pile-up-ended", "most": 4, "resource": "XFS buffer lock", "since_us": 1})),
        at(6_000_000, json!({"event": "writer-progress", "name": "collector", "progress": progress})),
        at(6_100_000, json!({"event": "probe", "name": "queue", "value": {"count": 3.0}})),
        at(6_200_000, json!({"event": "probe", "name": "queue", "value": {"count": 5.0}})),
        at(7_000_000, json!({"event": "something-new", "list": [1, 2]})),
        at(8_000_000, json!({"event": "stopped", "reason": "signal", "held": 2, "dropped": 0})),
    ]
}

fn report() -> Value {
    json!({"workload": "fluentd", "dir": "/mnt", "seed": 7, "threads": 2, "fsync": false, "elapsed_us": 10_000_000, "records": 50,
        "ack_latency": {"count": 50, "p50_us": 900, "p90_us": 1000, "p99_us": 5_000_000, "p999_us": 5_900_000, "max_us": 5_900_000,
            "hdr": ""},
        "ops": {}, "longest_gap_us": 6_000_000, "locks": [{"lock": "buffer", "waits": 9, "p50_us": 1000, "max_us": 5_000_000}],
        "pile_up": {"lock": "buffer", "holder": "fluentd-0", "root": "fluentd-0", "op": "write",
            "waiters": ["fluentd-1", "fluentd-2"], "for_us": 4_000_000},
        "errors": [], "mismatches": 0, "stuck": [], "kept": [], "verified": null})
}

fn read(verdict: &Value, events: &[Value], report: &Value) -> Result<Run, ReportError> {
    let mut run = RunReader::new("results/night", verdict.to_string().as_bytes())?;
    run.scenario(b"kind: Scenario\n");
    for (arm, writer, file) in run.reports()? {
        run.report(arm, &writer, &file, report.to_string().as_bytes())?;
    }
    for (number, event) in (1..).zip(events) {
        run.event(ReportFile::EVENTS, number, format!("{event}\n").as_bytes())?;
    }
    Ok(run.finish())
}

fn sample() -> Run {
    read(&verdict(), &events(), &report()).unwrap()
}

/// The charts' figures, as the page's script reads them.
fn charts(page: &str) -> Value {
    let begin = page.find("type=\"application/json\">").unwrap() + "type=\"application/json\">".len();
    let end = begin + page[begin..].find("</script>").unwrap();
    serde_json::from_str(&page[begin..end]).unwrap()
}

#[test]
fn the_page_has_everything_and_needs_no_network() {
    let page = page(&sample());
    let sentence = "Passed: on thin, collector waited up to 5.9 s for the storage, on thick up to 8.7 ms; \
        no stored record was lost; all 2 expectations hold.";
    assert!(page.contains(&format!("<h1>{sentence}</h1>")), "{}", verdict_sentence(&sample()));
    assert!(page.find("<h1>") < page.find("<h2>"), "the verdict comes first");
    for title in [
        "Side by side",
        "What was expected",
        "Proof of the faults",
        "Time line",
        "Who waited most, and behind whom",
        "The worst pile-up of each writer",
        "Writers",
        "Run it again",
    ] {
        assert!(page.contains(&format!("<h2>{title}</h2>")) || page.contains(&format!("<h3>{title}</h3>")), "{title}");
    }
    assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("//cdn"));
    assert!(page.contains("default-src 'none'") && page.contains("The MIT License"));
    assert_eq!(page.matches("<script").count(), 3, "the figures, uPlot, the page's own");
}

#[test]
fn without_a_script_everything_is_there_as_tables() {
    let page = page(&sample());
    let (body, _) = page.split_once("<script").unwrap();
    for text in [
        "a stun begins (manual)",
        "kernel: task fluentd (10) is blocked for more than 120 s, it waits for: XFS buffer lock",
        "pile-up: 3 tasks wait for XFS buffer lock; fluentd (10) has waited longest, 1.0 s",
        "<div><b>XFS buffer lock</b></div></td><td class=\"\" data-label=\"Tasks at most\"><div>4</div>",
        "frozen: pid:9",
        "100\u{a0}% tar",
        "stunfs test night.yaml",
        "fluentd-1, fluentd-2",
        "From</th><th scope=\"col\">Operations held",
    ] {
        assert!(body.contains(text), "{text}");
    }
    assert!(body.matches("<table").count() >= 8);
}

#[test]
fn lanes_are_there_for_what_happened_and_none_is_empty() {
    let page = page(&sample());
    for lane in [
        "Operations held",
        "Wait of an operation",
        "collector: acknowledgement",
        "collector: threads behind its own lock",
        "collector: time since the last heartbeat",
        "Tasks that wait for storage (state D), by resource",
        "FUSE requests without an answer",
        "Pool",
        "probe queue",
    ] {
        assert!(page.contains(&format!("<b>{lane}</b>")), "{lane}");
    }
    assert!(page.contains("the node would have been marked NotReady"));
    let charts = charts(&page);
    let charts = charts.as_array().unwrap();
    assert_eq!(page.matches("data-chart=").count(), charts.len());
    let rows =
        charts.iter().filter(|chart| chart["kind"] == "bands").flat_map(|chart| chart["rows"].as_array().unwrap());
    let kinds: Vec<_> = rows.map(|row| row["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["stun", "frozen", "first-write", "command", "pile-up", "kernel"]);
    let fuse =
        charts.iter().filter_map(|chart| chart["series"].as_array()).flatten().find(|it| it["label"] == "requests");
    assert_eq!(fuse.unwrap()["y"], json!([4.0, 0.0]), "what is not told of any more is over");
    for series in charts.iter().filter_map(|chart| chart["series"].as_array()).flatten() {
        let (x, y) = (series["x"].as_array().unwrap(), series["y"].as_array().unwrap());
        assert!(!x.is_empty() && x.len() == y.len() && y.iter().all(Value::is_number), "{series}");
    }
}

#[test]
fn an_arm_without_events_has_no_empty_plot_and_says_so() {
    let page = page(&read(&verdict(), &[], &report()).unwrap());
    assert!(page.contains("The storage held no operation in this arm."));
    assert_eq!(charts(&page), json!([]));
}

#[test]
fn a_page_without_arms_is_a_page() {
    let mut verdict = verdict();
    verdict["arms"] = json!([]);
    verdict["verdict"] = json!("error");
    verdict["summary"] = json!("no arm ran");
    let run = read(&verdict, &[], &report()).unwrap();
    assert_eq!(verdict_sentence(&run), "The test itself failed, not what it tests: no arm ran.");
    assert!(page(&run).contains("No arm had a fault."));
}

#[test]
fn each_verdict_has_its_sentence() {
    let sentence = |verdict_name: &str, reason: &str| {
        let mut verdict = verdict();
        verdict["verdict"] = json!(verdict_name);
        verdict["arms"][1]["verdict"] = json!(verdict_name);
        verdict["arms"][1]["reasons"] = json!([reason]);
        verdict_sentence(&read(&verdict, &[], &report()).unwrap())
    };
    assert!(
        sentence("inconclusive", "no operation met the stun")
            .starts_with("The test cannot tell: on thick, no operation met the stun; ")
    );
    assert!(
        sentence("aborted", "stopped by signal 15")
            .starts_with("Ended before its time: on thick, stopped by signal 15; ")
    );
    assert!(
        sentence("error", "collector was killed")
            .starts_with("The test itself failed, not what it tests: on thick, collector was killed; ")
    );
    let mut failed = verdict();
    failed["verdict"] = json!("fail");
    failed["arms"][1]["verdict"] = json!("fail");
    failed["arms"][1]["expectations"][0]["outcome"] = json!("fails");
    failed["arms"][1]["metrics"]["collector.records_lost"] = json!({"count": 3.0});
    let sentence = verdict_sentence(&read(&failed, &[], &report()).unwrap());
    assert_eq!(
        sentence,
        "Failed: on thick, collector's longest wait for the storage was 8.7 ms, expected at most 7s; on thin, collector \
        waited up to 5.9 s for the storage, on thick up to 8.7 ms; 3 stored records were lost; 1 of 2 expectations hold."
    );
}

#[test]
fn two_runs_are_compared_figure_by_figure() {
    let mut other = verdict();
    other["arms"][0]["metrics"]["collector.ack_latency.max"] = json!({"micros": 2_940_000});
    let (a, b) = (sample(), read(&other, &events(), &report()).unwrap());
    let page = comparison(&a, &b);
    let sentence =
        "Both runs: pass. The greatest change of a longest wait: on thin collector waits up to 2.9 s in B, 5.9 s in A.";
    assert!(page.contains(sentence), "{}", &page[page.find("<h1>").unwrap()..][..300]);
    assert!(page.contains("<b>-50\u{a0}%</b>") && page.contains("collector on thin"));
    assert!(!page.contains("http:") && !page.contains("https:"));
    assert!(comparison(&a, &a).contains("No writer's longest wait changed by more than a tenth."));
}

/// Many arms, writers and events: a page stays one that a browser opens at once.
#[test]
fn a_page_stays_small() {
    let mut verdict = verdict();
    let writers: Vec<_> = (0..20)
        .map(|n| {
            let mut writer = verdict["arms"][0]["writers"][0].clone();
            writer["name"] = json!(format!("writer-{n}"));
            writer["report"] = Value::Null;
            writer
        })
        .collect();
    let arms: Vec<_> = (0..6)
        .map(|n| {
            let mut arm = verdict["arms"][0].clone();
            arm["name"] = json!(format!("arm-{n}"));
            arm["writers"] = json!(writers);
            arm
        })
        .collect();
    verdict["arms"] = json!(arms);
    let mut run = RunReader::new("r", verdict.to_string().as_bytes()).unwrap();
    let mut event = |event: Value| run.event("events.jsonl", 1, event.to_string().as_bytes()).unwrap();
    for n in 0..6_000_u64 {
        let mut hold = held("fluentd", n * 1500, n % 977, 1000);
        hold["arm"] = json!(format!("arm-{}", n % 6));
        event(hold);
        let ack = 100 + n * 7919 % 999_983;
        event(
            json!({"event": "writer-progress", "run_us": n * 1600, "arm": format!("arm-{}", n % 6), "name": format!("writer-{}", n / 6 % 20),
            "progress": {"interval": {"records": 3, "ack_p50_us": ack / 2, "ack_max_us": ack}}}),
        );
        event(json!({"event": "armed", "run_us": n, "arm": "arm-0", "armed": n % 2 == 0}));
    }
    event(json!({"event": "warning", "run_us": 0, "arm": "arm-1", "message": "x".repeat(1_000_000)}));
    let size = page(&run.finish()).len();
    assert!(size < 2_000_000, "{size}");
}

// ---- input that is wrong -------------------------------------------------------------------------------------------------

#[test]
fn what_is_wrong_is_one_line_with_its_place() {
    let told = |number: u64, line: &[u8]| {
        let mut run = RunReader::new("r", verdict().to_string().as_bytes()).unwrap();
        run.event("events.jsonl", number, line).unwrap_err().to_string()
    };
    assert_eq!(
        told(17, b"{\"event\":\"held\",\"run_us\":5"),
        "events.jsonl:17: column 26: it is cut off; not an event of stunfs"
    );
    assert!(
        told(3, b"{\"event\":\"held\",\"run_us\":-5}\n")
            .starts_with("events.jsonl:3: column 27: invalid value: integer `-5`")
    );
    assert!(told(3, b"[]").starts_with("events.jsonl:3: "));
    assert_eq!(told(4, b"{}"), "events.jsonl:4: has no field 'event'; not an event of stunfs");
    assert_eq!(told(4, b"{\"event\":\"x\"}"), "events.jsonl:4: has no time ('run_us'); not an event of a run");
    assert!(told(5, b"{\"event\":\"held\",\"run_us\":1}").contains("without 'requested_us'"));
    assert_eq!(
        told(6, b"{\"event\":\"x\",\"run_us\":1,\"arm\":\"thn\"}"),
        "events.jsonl:6: the arm 'thn' is not in verdict.json"
    );
    assert!(told(7, b"\xff\xfe").starts_with("events.jsonl:7: "));
    assert!(told(8, b"\n").starts_with("events.jsonl:8: "));
}

#[test]
fn what_is_wrong_with_a_whole_file_is_said_with_its_name() {
    let told = |verdict: &str| RunReader::new("r", verdict.as_bytes()).map(|_| ()).unwrap_err().to_string();
    assert_eq!(told("{\"v\": 1,"), "verdict.json: line 1, column 8: it is cut off; run the scenario again");
    assert!(told("{}").starts_with("verdict.json: line 1, column 2: missing field"));
    let repeated = json!({"v": 1, "scenario": "s", "verdict": "pass", "counts": {"pass": 1}, "runs": []}).to_string();
    assert_eq!(told(&repeated), "verdict.json: this folder holds several runs: name one of the folders in it");
    let mut outside = verdict();
    outside["arms"][0]["writers"][0]["report"] = json!("../../../etc/passwd");
    assert!(read(&outside, &[], &report()).unwrap_err().to_string().contains("does not lie in the folder"));
    let mut torn = report();
    torn["ack_latency"]["hdr"] = json!("AAAA");
    let error = read(&verdict(), &[], &torn).unwrap_err().to_string();
    assert_eq!(error, "writers/thin/collector.json: ack_latency.hdr is not a histogram; run the scenario again");
}

/// Puts `text` in the place of every text of the value that is none of the format's own words.
fn poison(value: &mut Value, text: &str) {
    const OWN: [&str; 14] = [
        "event", "arm", "verdict", "outcome", "fault", "name", "kind", "workload", "op", "cause", "expected", "lock",
        "report", "hdr",
    ];
    match value {
        Value::String(old) => *old = text.to_owned(),
        Value::Array(list) => list.iter_mut().for_each(|item| poison(item, text)),
        Value::Object(map) => {
            map.iter_mut().filter(|(key, _)| !OWN.contains(&key.as_str())).for_each(|(_, it)| poison(it, text))
        }
        _ => {}
    }
}

#[test]
fn every_text_is_escaped() {
    let (mut verdict, mut events, mut report) = (verdict(), events(), report());
    [&mut verdict, &mut report].into_iter().chain(&mut events).for_each(|value| poison(value, HOSTILE));
    for arm in verdict["arms"].as_array_mut().unwrap() {
        arm["name"] = json!(HOSTILE);
        arm["writers"][0]["name"] = json!(HOSTILE);
        arm["stuck"] = json!([{"pid": 1, "tid": 1, "comm": HOSTILE, "waits_for": HOSTILE, "stack": [HOSTILE]}]);
    }
    for event in events.iter_mut().filter(|event| event["arm"].is_string()) {
        event["arm"] = json!(HOSTILE);
        if event["name"].is_string() {
            event["name"] = json!(HOSTILE);
        }
        if event["event"] == "tasks" {
            event["by_resource"] = json!({HOSTILE: 3});
        }
    }
    let run = read(&verdict, &events, &report).unwrap();
    for page in [page(&run), comparison(&run, &run)] {
        assert_eq!(page.matches("<script").count(), 3);
        assert!(!page.contains("<img") && page.contains("&lt;img"));
        let texts = charts(&page).to_string();
        assert!(texts.contains("<img"), "the figures carry it as a text: {texts:.200}");
    }
}

/// One value of the tree, by its number, is replaced.
fn replace(value: &mut Value, at: &mut usize, with: &Value) -> bool {
    if *at == 0 {
        *value = with.clone();
        return true;
    }
    *at -= 1;
    match value {
        Value::Array(list) => list.iter_mut().any(|item| replace(item, at, with)),
        Value::Object(map) => map.values_mut().any(|item| replace(item, at, with)),
        _ => false,
    }
}

fn odd() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!(u64::MAX)),
        Just(json!(0)),
        Just(json!(-1)),
        Just(json!(1e300)),
        Just(json!(HOSTILE)),
        Just(json!([])),
        Just(json!({})),
        any::<u64>().prop_map(|n| json!(n)),
        ".*".prop_map(|text| json!(text)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_an_error_or_a_page(verdict_bytes in prop::collection::vec(any::<u8>(), 0..200), line in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(RunReader::new("r", &verdict_bytes).is_err());
        let mut run = RunReader::new("r", verdict().to_string().as_bytes()).unwrap();
        let _ = run.event("events.jsonl", 1, &line);
        let _ = run.report(0, "collector", "w.json", &line);
        run.scenario(&line);
        prop_assert!(!page(&run.finish()).is_empty());
    }

    #[test]
    fn odd_values_anywhere_are_an_error_or_a_page(
        changes in prop::collection::vec((0..3_usize, any::<prop::sample::Index>(), odd()), 1..6)
    ) {
        let (mut verdict, mut events, mut report) = (verdict(), Value::Array(events()), report());
        for (which, place, with) in changes {
            let target = [&mut verdict, &mut events, &mut report].into_iter().nth(which).unwrap();
            replace(target, &mut place.index(300), &with);
        }
        let events = events.as_array().cloned().unwrap_or_default();
        if let Ok(run) = read(&verdict, &events, &report) {
            for page in [page(&run), comparison(&run, &run)] {
                prop_assert_eq!(page.matches("<script").count(), 3);
                let _ = charts(&page);
            }
        }
    }

    #[test]
    fn a_file_that_is_cut_off_anywhere_is_an_error(at in any::<prop::sample::Index>()) {
        let text = verdict().to_string();
        prop_assert!(RunReader::new("r", &text.as_bytes()[..at.index(text.len())]).is_err());
        let line = held("fluentd", 5, 6, 7).to_string();
        let mut run = RunReader::new("r", text.as_bytes()).unwrap();
        prop_assert!(run.event("events.jsonl", 1, &line.as_bytes()[..at.index(line.len())]).is_err());
    }
}

proptest! {
    // A header may ask for a large histogram, which takes its time.
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn odd_histograms_are_an_error_or_a_page(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8)) {
        use hdrhistogram::serialization::{Serializer, V2Serializer};

        let mut times = hdrhistogram::Histogram::<u64>::new(3).unwrap();
        (0..50).for_each(|n| times.record(n * n * 1000).unwrap());
        let mut packed = Vec::new();
        V2Serializer::new().serialize(&times, &mut packed).unwrap();
        for (place, byte) in changes {
            let at = place.index(packed.len());
            packed[at] = byte;
        }
        let mut report = report();
        report["ack_latency"]["hdr"] = json!(base64::engine::Engine::encode(&base64::engine::general_purpose::STANDARD, &packed));
        if let Ok(run) = read(&verdict(), &events(), &report) {
            let _ = charts(&page(&run));
        }
    }
}
