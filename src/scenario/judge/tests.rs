use super::*;
use crate::scenario::result::LogResult;
use crate::scenario::{Bounds, MetricValue};

/// An arm that passes: a stun was met, its step is done, a writer told everything, an expectation holds.
fn sound() -> ArmResult {
    ArmResult {
        name: "thin".into(),
        verdict: Verdict::Pass,
        reasons: Vec::new(),
        notes: Vec::new(),
        began_us: 0,
        ended_us: 9,
        steady_us: None,
        steps: vec![StepResult { name: "stun".into(), due_us: 1, began_us: Some(1), done_us: Some(2), error: None }],
        proofs: vec![proof(FaultKind::Stun)],
        expectations: vec![expectation(Outcome::Holds)],
        metrics: std::collections::BTreeMap::new(),
        writers: vec![writer()],
        log: LogResult { events: 5, missing: 0, complete: true },
        stuck: Vec::new(),
    }
}

fn proof(fault: FaultKind) -> Proof {
    let felt_us = std::collections::BTreeMap::from([("w".to_owned(), 5_000_000)]);
    Proof { fault, delivered: true, from_us: Some(1), until_us: Some(2), operations: 3, longest_hold_us: 1, felt_us }
}

fn writer() -> WriterResult {
    WriterResult {
        name: "w".into(),
        kind: "write fluentd".into(),
        began_us: Some(0),
        ended_us: Some(8),
        exit_code: Some(0),
        ended_by_harness: false,
        report: Some("writers/thin/w.json".into()),
    }
}

fn expectation(outcome: Outcome) -> ExpectationResult {
    let expected = Bounds { equals: Some(MetricValue::Count(0.0)), ..Bounds::default() };
    let measured = Some(MetricValue::Count(0.0));
    ExpectationResult { metric: "w.x".into(), expected, measured, outcome, text: "w.x must be exactly 0".into() }
}

fn verdict(change: impl FnOnce(&mut ArmResult, &mut Circumstances)) -> (Verdict, String) {
    let (mut result, mut circumstances) = (sound(), Circumstances::default());
    change(&mut result, &mut circumstances);
    let (verdict, reasons) = arm(&result, &circumstances);
    (verdict, reasons.join("; "))
}

#[test]
fn an_arm_with_evidence_for_everything_passes() {
    assert_eq!(verdict(|_, _| {}), (Verdict::Pass, String::new()));
}

#[test]
fn an_expectation_that_fails_is_a_fail() {
    assert_eq!(verdict(|arm, _| arm.expectations.push(expectation(Outcome::Fails))).0, Verdict::Fail);
}

#[test]
fn an_expectation_without_a_figure_is_inconclusive() {
    assert_eq!(verdict(|arm, _| arm.expectations.push(expectation(Outcome::Unmeasured))).0, Verdict::Inconclusive);
}

#[test]
fn a_stun_that_nothing_met_is_inconclusive() {
    let (verdict, why) = verdict(|arm, _| arm.proofs[0].delivered = false);
    assert_eq!((verdict, why.as_str()), (Verdict::Inconclusive, "no operation met the stun"));
}

#[test]
fn a_stun_that_never_came_is_inconclusive_even_if_an_expectation_fails() {
    let (verdict, why) = verdict(|arm, _| {
        arm.proofs[0] = Proof { delivered: false, from_us: None, ..proof(FaultKind::Stun) };
        arm.expectations.push(expectation(Outcome::Fails));
    });
    assert_eq!(verdict, Verdict::Inconclusive);
    assert!(why.starts_with("the stun never came into force"), "{why}");
}

#[test]
fn a_freeze_of_nothing_is_inconclusive() {
    let change = |arm: &mut ArmResult, _: &mut Circumstances| {
        arm.proofs.push(Proof { delivered: false, ..proof(FaultKind::Freeze) });
    };
    assert_eq!(verdict(change), (Verdict::Inconclusive, "nothing was frozen".to_owned()));
}

#[test]
fn first_writes_that_never_waited_are_inconclusive() {
    let change = |arm: &mut ArmResult, _: &mut Circumstances| {
        arm.proofs.push(Proof { delivered: false, ..proof(FaultKind::FirstWrite) });
    };
    assert_eq!(verdict(change), (Verdict::Inconclusive, "no first write waited".to_owned()));
}

#[test]
fn a_steady_state_that_never_came_is_inconclusive() {
    let (verdict, why) = verdict(|_, it| it.never_steady = Some("w.rate must be more".into()));
    assert_eq!(verdict, Verdict::Inconclusive);
    assert!(why.contains("the steady state never came: w.rate"), "{why}");
}

#[test]
fn dropped_events_are_inconclusive() {
    let (verdict, why) = verdict(|arm, _| arm.log.missing = 7);
    assert_eq!((verdict, why.as_str()), (Verdict::Inconclusive, "7 events are missing from the volume's log"));
}

#[test]
fn a_truncated_log_is_an_error() {
    assert_eq!(verdict(|arm, _| arm.log.complete = false).0, Verdict::Error);
}

#[test]
fn a_killed_writer_is_an_error() {
    let (verdict_, why) = verdict(|arm, _| arm.writers[0].exit_code = None);
    assert_eq!((verdict_, why.as_str()), (Verdict::Error, "w was killed"));
    assert_eq!(verdict(|arm, _| arm.writers[0].report = None).0, Verdict::Error);
    assert_eq!(verdict(|arm, _| arm.writers[0].exit_code = Some(2)).0, Verdict::Error);
    let command = |arm: &mut ArmResult, _: &mut Circumstances| {
        arm.writers.push(WriterResult { kind: "tar".into(), report: None, exit_code: Some(2), ..writer() });
    };
    assert_eq!(verdict(command).0, Verdict::Pass, "a command's exit code is a figure");
}

#[test]
fn a_step_that_failed_or_was_never_done_is_inconclusive() {
    assert_eq!(verdict(|arm, _| arm.steps[0].error = Some("refused".into())).0, Verdict::Inconclusive);
    assert_eq!(verdict(|arm, _| arm.steps[0].done_us = None).0, Verdict::Inconclusive);
}

#[test]
fn what_ended_a_run_before_its_time_is_the_only_reason() {
    let (verdict, why) = verdict(|arm, it| {
        it.aborted = Some("stopped by SIGTERM".into());
        arm.steps[0].done_us = None;
        arm.proofs[0].delivered = false;
        arm.expectations.push(expectation(Outcome::Fails));
    });
    assert_eq!((verdict, why.as_str()), (Verdict::Aborted, "stopped by SIGTERM"));
}

#[test]
fn an_error_of_the_harness_outweighs_everything() {
    let (verdict, why) = verdict(|arm, it| {
        it.errors.push("the disk could not be made".into());
        it.aborted = Some("signal".into());
        arm.log.complete = false;
    });
    assert_eq!(verdict, Verdict::Error);
    assert!(why.starts_with("the disk could not be made"), "{why}");
}

#[test]
fn a_run_is_as_good_as_its_worst_arm_and_never_passes_by_silence() {
    let judged = |arms: &[ArmResult], expected| run(arms, expected).0;
    assert_eq!(judged(&[sound(), sound()], 2), Verdict::Pass);
    let failed = ArmResult { verdict: Verdict::Fail, reasons: vec!["x".into()], name: "thick".into(), ..sound() };
    let unclear = ArmResult { verdict: Verdict::Inconclusive, ..sound() };
    assert_eq!(run(&[unclear, failed, sound()], 3), (Verdict::Fail, "arm thick: x".to_owned()));
    assert_eq!(judged(&[sound()], 2), Verdict::Error, "an arm is missing");
    assert_eq!(judged(&[], 1), Verdict::Error);
    let untouched = ArmResult { proofs: Vec::new(), ..sound() };
    assert_eq!(judged(std::slice::from_ref(&untouched), 1), Verdict::Inconclusive, "nothing was injected");
    assert_eq!(judged(&[untouched, sound()], 2), Verdict::Pass, "a control arm has no fault");
}

#[test]
fn the_block_for_a_terminal_says_what_was_proven_and_what_failed() {
    let mut result = sound();
    result.expectations[0].outcome = Outcome::Fails;
    (result.verdict, result.reasons) = arm(&result, &Circumstances::default());
    let (verdict, summary) = run(std::slice::from_ref(&result), 1);
    let text = text(&RunResult {
        v: 1,
        version: String::new(),
        scenario: "s".into(),
        description: String::new(),
        started: String::new(),
        elapsed_us: 1,
        seed: 1,
        verdict,
        summary,
        arms: vec![result],
        again: Vec::new(),
    });
    assert!(text.starts_with("s: FAIL - arm thin: w.x must be exactly 0\n"), "{text}");
    assert!(text.contains("stun: 3 operations met it, held up to 1us, w waited up to 5s"), "{text}");
    assert_eq!(text.matches("w.x must be exactly 0").count(), 2, "{text}");
}
