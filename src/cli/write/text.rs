//! What `stunfs write` tells people: a line of progress, and the report.
//!
//! Must not know: how a workload runs. Invariant: a figure that was not measured is not shown.

use stunfs::internal::workload::{LockPileUp, WorkloadProgress, WorkloadReport};

use crate::cli::output::{TextTable, count, micros};

pub(super) fn progress_line(progress: &WorkloadProgress) -> String {
    let waiting = progress.waiting.first().and_then(|wait| Some((wait, wait.op?)));
    // What is shorter is no wait that anybody would want to see.
    let waiting = waiting.filter(|(wait, _)| wait.for_us >= 100_000);
    let waiting = waiting.map_or(String::new(), |(wait, op)| {
        format!(", {} waits in {} for {}", wait.writer, op.name(), micros(wait.for_us))
    });
    let errors = if progress.errors == 0 { String::new() } else { format!(", {}", count(progress.errors, "error")) };
    let records = count(progress.records, "record");
    format!("{}: {records}, longest {}{errors}{waiting}", micros(progress.elapsed_us), micros(progress.max_us))
}

pub(super) fn report(report: &WorkloadReport) -> String {
    let mut table = TextTable::new(["OPERATION", "COUNT", "P50", "P99", "MAX"]);
    for (op, times) in &report.ops {
        let [p50, p99, max] = [times.p50_us, times.p99_us, times.max_us].map(micros);
        table.row([op.name().to_owned(), times.count.to_string(), p50, p99, max]);
    }
    let mut lines = vec![table.text().trim_end().to_owned()];
    lines.extend(latency(report));
    lines.push(format!(
        "{} in {}, longest gap {}",
        count(report.records, "record"),
        micros(report.elapsed_us),
        micros(report.longest_gap_us)
    ));
    lines.extend(report.pile_up.iter().map(pile_up));
    lines.extend(report.errors.iter().map(|e| format!("{} failed with {}: {}", e.op.name(), e.error, e.count)));
    lines.extend(report.stuck.iter().map(|wait| {
        format!("{} still waits in {} for {}", wait.writer, wait.op.map_or("-", |op| op.name()), micros(wait.for_us))
    }));
    if report.mismatches > 0 {
        lines.push(format!("{} gave something else than was written", count(report.mismatches, "read")));
    }
    if let Some(found) = &report.verified {
        let records = count(found.records, "record");
        lines.push(format!("read back: {records}, {} lost, {} damaged", found.lost, found.damaged));
        if found.unacknowledged > 0 {
            lines.push(format!(
                "{} of writes that did not come back with success: no loss",
                count(found.unacknowledged, "record")
            ));
        }
    }
    lines.extend(report.unverified.iter().map(|why| format!("not read back: {why}")));
    lines.join("\n") + "\n"
}

fn latency(report: &WorkloadReport) -> Option<String> {
    let latency = Some(&report.ack_latency).filter(|latency| latency.count > 0)?;
    let [p50, p99, p999, max] = [latency.p50_us, latency.p99_us, latency.p999_us, latency.max_us].map(micros);
    let missed =
        if report.missed == 0 { String::new() } else { format!(", {} left out", count(report.missed, "record")) };
    Some(format!(
        "acknowledged after: p50 {p50}, p99 {p99}, p99.9 {p999}, max {max}, counted from when it was due{missed}"
    ))
}

fn pile_up(pile: &LockPileUp) -> String {
    let waiters = u64::try_from(pile.waiters.len()).unwrap_or(u64::MAX);
    let op = pile.op.map_or("none", |op| op.name());
    let holder =
        if pile.root == pile.holder { pile.holder.clone() } else { format!("{}, behind {}", pile.holder, pile.root) };
    format!(
        "{} waited up to {} for lock '{}', held by {holder} (in {op})",
        count(waiters, "thread"),
        micros(pile.for_us),
        pile.lock
    )
}
