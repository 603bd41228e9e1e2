//! The verdict of an arm, from everything that is known of it.
//!
//! Must not know: how it became known. Invariant: `pass` takes evidence for everything: what is missing makes an arm
//! `inconclusive` or an `error`.

use super::result::{
    ArmResult, ExpectationResult, FaultKind, Outcome, Proof, RunResult, StepResult, Verdict, WriterResult,
};

/// What happened to an arm beside what stands in its result.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Circumstances {
    /// What the harness could not do.
    pub errors: Vec<String>,
    /// Why it was ended before its time: a stop condition, a signal, a time limit.
    pub aborted: Option<String>,
    /// A steady state was asked for and never came.
    pub never_steady: Option<String>,
}

/// The arm's verdict, and why: one line each, the decisive ones first.
pub fn arm(result: &ArmResult, circumstances: &Circumstances) -> (Verdict, Vec<String>) {
    let mut reasons: Vec<(Verdict, String)> = Vec::new();
    let mut add = |verdict, text: String| reasons.push((verdict, text));
    circumstances.errors.iter().for_each(|error| add(Verdict::Error, error.clone()));
    circumstances.aborted.iter().for_each(|why| add(Verdict::Aborted, why.clone()));
    let was_aborted = circumstances.aborted.is_some();
    if let Some(why) = circumstances.never_steady.as_ref().filter(|_| !was_aborted) {
        add(Verdict::Inconclusive, format!("the steady state never came: {why}"));
    }
    if !result.log.complete {
        add(Verdict::Error, "the volume's event log is truncated: it does not end with 'stopped'".to_owned());
    }
    if result.log.missing > 0 {
        add(Verdict::Inconclusive, format!("{} events are missing from the volume's log", result.log.missing));
    }
    result.writers.iter().filter_map(writer_fault).for_each(|text| add(Verdict::Error, text));
    if !was_aborted && circumstances.never_steady.is_none() {
        result.steps.iter().filter_map(step_fault).for_each(|text| add(Verdict::Inconclusive, text));
        result.proofs.iter().filter_map(proof_fault).for_each(|text| add(Verdict::Inconclusive, text));
        result.expectations.iter().filter_map(expectation_fault).for_each(|(verdict, text)| add(verdict, text));
    }
    if let Some(task) = result.stuck.first() {
        let what = task.waits_for.as_ref().map(|what| format!(", it waits for: {what}")).unwrap_or_default();
        let text = format!(
            "{} tasks stay in state D after everything was released: {} ({}){what}",
            result.stuck.len(),
            task.comm,
            task.tid
        );
        add(Verdict::Fail, text);
    }
    reasons.sort_by_key(|(verdict, _)| std::cmp::Reverse(rank(*verdict)));
    let verdict = reasons.first().map_or(Verdict::Pass, |(verdict, _)| *verdict);
    (verdict, reasons.into_iter().map(|(_, text)| text).collect())
}

/// Within an arm, what cannot be trusted outweighs what was measured: a fault that was not delivered fails expectations, too.
const fn rank(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Pass => 0,
        Verdict::Fail => 1,
        Verdict::Inconclusive => 2,
        Verdict::Aborted => 3,
        Verdict::Error => 4,
    }
}

fn writer_fault(writer: &WriterResult) -> Option<String> {
    let name = &writer.name;
    let is_writer = writer.kind.starts_with("write ");
    writer.began_us?;
    match writer.exit_code {
        None if !writer.ended_by_harness => Some(format!("{name} was killed")),
        Some(code) if is_writer && code > 1 => Some(format!("{name} failed with exit code {code}")),
        _ if is_writer && writer.report.is_none() => Some(format!("{name} left no report")),
        Some(126 | 127) => Some(format!("{name} could not be run")),
        _ => None,
    }
}

fn step_fault(step: &StepResult) -> Option<String> {
    match (&step.error, step.done_us) {
        (Some(error), _) => Some(format!("the step '{}' failed: {error}", step.name)),
        (None, None) => Some(format!("the step '{}' was not done before the end", step.name)),
        (None, Some(_)) => None,
    }
}

fn proof_fault(proof: &Proof) -> Option<String> {
    let text = match (proof.fault, proof.from_us) {
        _ if proof.delivered => return None,
        (FaultKind::Stun, None) => "the stun never came into force",
        (FaultKind::Stun, Some(_)) => "no operation met the stun",
        (FaultKind::Freeze, _) => "nothing was frozen",
        (FaultKind::FirstWrite, _) => "no first write waited",
    };
    Some(text.to_owned())
}

fn expectation_fault(expectation: &ExpectationResult) -> Option<(Verdict, String)> {
    match expectation.outcome {
        Outcome::Holds => None,
        Outcome::Fails => Some((Verdict::Fail, expectation.text.clone())),
        Outcome::Unmeasured => Some((Verdict::Inconclusive, expectation.text.clone())),
    }
}

/// The verdict of a run: the worst of its arms; and one sentence why. A run in which no arm has a fault proves nothing.
pub fn run(arms: &[ArmResult], expected: usize) -> (Verdict, String) {
    let worst = arms.iter().max_by_key(|arm| arm.verdict);
    let verdict = worst.map_or(Verdict::Error, |arm| arm.verdict);
    let reason = |arm: &ArmResult| arm.reasons.first().cloned().unwrap_or_default();
    if verdict == Verdict::Pass {
        if arms.len() < expected {
            return (Verdict::Error, format!("only {} of {expected} arms ran", arms.len()));
        }
        if arms.iter().all(|arm| arm.proofs.is_empty()) {
            return (
                Verdict::Inconclusive,
                "nothing was injected in any arm: no step, no first write that waits".to_owned(),
            );
        }
        let faults: u64 = arms.iter().flat_map(|arm| &arm.proofs).map(|proof| proof.operations).sum();
        let expectations: usize = arms.iter().map(|arm| arm.expectations.len()).sum();
        return (
            verdict,
            format!("every fault was delivered ({faults} operations met one), all {expectations} expectations hold"),
        );
    }
    (verdict, worst.map_or_else(|| "no arm ran".to_owned(), |arm| format!("arm {}: {}", arm.name, reason(arm))))
}

/// The verdict in a block for a terminal.
pub fn text(result: &RunResult) -> String {
    let mut lines = vec![format!("{}: {} - {}", result.scenario, result.verdict.name().to_uppercase(), result.summary)];
    for arm in &result.arms {
        lines.push(format!("  {:<12} {}", arm.name, arm.verdict));
        for proof in &arm.proofs {
            let felt = proof
                .felt_us
                .iter()
                .map(|(name, us)| format!(", {name} waited up to {}", super::MetricValue::Micros(*us)));
            let fault = match proof.fault {
                FaultKind::FirstWrite => "first writes",
                FaultKind::Stun => "stun",
                FaultKind::Freeze => "freeze",
            };
            let met = match proof.fault {
                FaultKind::Freeze => format!("{} frozen", proof.operations),
                _ => format!(
                    "{} operations met it, held up to {}",
                    proof.operations,
                    super::MetricValue::Micros(proof.longest_hold_us)
                ),
            };
            lines.push(format!("    {fault}: {met}{}", felt.collect::<String>()));
        }
        for it in &arm.expectations {
            let mark = match it.outcome {
                Outcome::Holds => "ok  ",
                Outcome::Fails => "FAIL",
                Outcome::Unmeasured => "?   ",
            };
            lines.push(format!("    {mark} {}", it.text));
        }
        let told = |reason: &&String| arm.expectations.iter().all(|it| it.text != **reason);
        lines.extend(arm.reasons.iter().filter(told).map(|reason| format!("    !    {reason}")));
        lines.extend(arm.notes.iter().map(|note| format!("    note: {note}")));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests;
