//! The corpus (`tests/corpus/kmsg/NAME.txt` and what is to be found in it, `NAME.json`), and any bytes at all.

mod carried;
mod printed;

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::telemetry::event::EventBody;
use crate::time::SimTime;

fn corpus() -> Vec<PathBuf> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/kmsg");
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "txt"));
    files.sort();
    files
}

fn parse(log: &[u8]) -> Vec<Finding> {
    let mut parser = Parser::new();
    let mut found: Vec<_> = log.split(|b| *b == b'\n').flat_map(|line| parser.bytes(line, None)).collect();
    found.extend(parser.flush());
    assert!(!parser.is_open());
    found
}

fn tell(finding: Finding) -> Value {
    let kernel_us = finding.kernel_us;
    let mut told = serde_json::to_value(finding.into_event("guest")).unwrap();
    told["kernel_us"] = json!(kernel_us);
    told
}

/// The text of an expectation, the fields in the events' own order.
fn expectation(found: &[Finding]) -> String {
    let event = |finding: &Finding| {
        let text = serde_json::to_string_pretty(&finding.clone().into_event("guest")).unwrap();
        let text = text.replacen("{\n", &format!("{{\n  \"kernel_us\": {},\n", json!(finding.kernel_us)), 1);
        text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
    };
    match found.iter().map(event).collect::<Vec<_>>().join(",\n") {
        none if none.is_empty() => "[]\n".to_owned(),
        events => format!("[\n{events}\n]\n"),
    }
}

/// With `STUNFS_WRITE_CORPUS=1` what is found is written down as what is expected: look at the difference before you commit it.
#[test]
fn the_corpus_says_what_it_should() {
    let files = corpus();
    assert!(files.len() >= 13);
    for path in files {
        let found = parse(&fs::read(&path).unwrap());
        if std::env::var_os("STUNFS_WRITE_CORPUS").is_some() {
            fs::write(path.with_extension("json"), expectation(&found)).unwrap();
        }
        let found: Vec<_> = found.into_iter().map(tell).collect();
        let expected: Vec<Value> = serde_json::from_slice(&fs::read(path.with_extension("json")).unwrap()).unwrap();
        for (number, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(found, expected, "{} finding {number}", path.display());
        }
        assert_eq!(found.len(), expected.len(), "{}: {found:#?}", path.display());
    }
}

#[test]
fn findings_come_back_from_their_json() {
    for path in corpus() {
        for finding in parse(&fs::read(path).unwrap()) {
            let event = finding.into_event("host");
            let text = serde_json::to_string(&event).unwrap();
            assert_eq!(serde_json::from_str::<EventBody>(&text).unwrap(), event);
        }
    }
}

#[test]
fn a_report_keeps_the_time_of_its_first_line() {
    let mut parser = Parser::new();
    let at = |ms| Some(SimTime::from_millis(ms));
    assert!(parser.line("INFO: task x:1 blocked for more than 5 seconds.", at(1)).is_empty());
    assert!(parser.line(" xfs_buf_lock+0x1/0x2 [xfs]", at(2)).is_empty());
    assert_eq!(parser.line("</TASK>", at(3))[0].at, at(1));
    assert_eq!(parser.flush(), []);
}

#[test]
fn a_line_without_an_end_is_cut_off() {
    let mut parser = Parser::new();
    let line = format!("nfs: server {} OK", "ä".repeat(100_000));
    assert!(parser.line(&line, None).is_empty());
}

/// Pieces of which reports are made, in any order, and between them anything.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        ".*",
        "[\\[\\]<>:;,.! 0-9a-zA-Z/+#()-]{0,40}",
        prop::sample::select(vec![
            "INFO: task ",
            " blocked for more than ",
            "task:",
            " state:",
            " pid:",
            "x:1",
            "x",
            " seconds.",
            "5",
            "soft lockup - CPU#",
            " stuck for ",
            "s! [",
            "]",
            "nfs: server ",
            "XFS (",
            "EXT4-fs error (device ",
            "): ",
            " error, dev ",
            ", sector ",
            "schedule+0x1/0x2",
            "</TASK>",
            "Call Trace:",
            "[  1.000000] ",
            "[ T12]",
            "6,1,2,-;",
            "kernel:",
            "ü",
            "\u{1b}[",
        ])
        .prop_map(str::to_owned),
    ]
}

proptest! {
    #[test]
    fn any_bytes_are_taken(log in prop::collection::vec(any::<u8>(), 0..2000)) {
        parse(&log);
    }

    #[test]
    fn any_mixture_is_taken(lines in prop::collection::vec(prop::collection::vec(piece(), 0..8), 0..20)) {
        let log: Vec<String> = lines.iter().map(|pieces| pieces.concat()).collect();
        for finding in parse(log.join("\n").as_bytes()) {
            prop_assert!(!finding.raw.is_empty());
            prop_assert!(finding.raw.lines().all(|line| line.chars().all(|c| !c.is_control())));
        }
    }

    #[test]
    fn every_report_comes_out_once(tasks in prop::collection::vec(("[a-z ]{1,15}", 1_u32..99_999, 0_usize..20), 0..10)) {
        let mut log = String::new();
        for (task, pid, noise) in &tasks {
            log.push_str(&format!("[    1.000000] INFO: task {task}:{pid} blocked for more than 5 seconds.\n"));
            log.push_str(&"something else\n".repeat(*noise));
        }
        let found: Vec<_> = parse(log.as_bytes()).into_iter().map(|finding| match finding.what {
            What::HungTask(hung) => (hung.task, hung.pid),
            other => panic!("{other:?}"),
        }).collect();
        prop_assert_eq!(found, tasks.into_iter().map(|(task, pid, _)| (task, pid)).collect::<Vec<_>>());
    }
}
