//! Who waited most, for what, and behind whom: commands on the storage, threads on their own locks, tasks that never came back.
//!
//! Must not know: how it was measured. Invariant: the longest wait comes first.

use maud::{Markup, html};

use super::figures::{number, percent, table};
use crate::report::arm::{ArmView, PileUpView};
use crate::report::float;
use crate::report::holds::Sufferer;
use crate::report::run::{Run, WriterView};
use crate::scenario::result::ArmResult;
use crate::units::text;
use crate::workload::{LockPileUp, LockReport};

/// Commands past so many are left out.
const MOST: usize = 25;
/// Names past so many are cut.
const LONG: usize = 90;

pub(super) fn section(run: &Run) -> Markup {
    let waited: Vec<_> = run.result.arms.iter().zip(&run.arms).flat_map(|(arm, view)| waited(arm, view)).collect();
    let locks: Vec<_> = of_reports(run, |_, view| view.report.locks.iter().map(lock).collect());
    let pile_ups: Vec<_> = of_reports(run, |_, view| view.report.pile_up.iter().map(pile_up).collect());
    let writers: Vec<_> = of_reports(run, |_, view| vec![writer(view)]);
    let seen: Vec<_> = run.result.arms.iter().zip(&run.arms).flat_map(|(arm, view)| seen(arm, view)).collect();
    let stuck: Vec<_> = run.result.arms.iter().flat_map(stuck).collect();
    html! {
        section {
            h2 { "Who waited most, and behind whom" }
            @if waited.is_empty() { p { "No command waited for the storage." } }
            @else {
                p.note { "By command name: the time that its operations were held, added up over its threads. What the kernel writes back later is told by file or folder." }
                (table(&["Arm", "Command", "Waited in all", "Held", "Longest", "Its operation", "Waited for", "In the queue behind"], &waited))
            }
            @if !pile_ups.is_empty() {
                h3 { "The worst pile-up of each writer" }
                (table(&["Arm", "Writer", "Lock", "Held by", "Which waits for the storage in", "Waiting for the lock", "For"], &pile_ups))
            }
            @if !seen.is_empty() {
                h3 { "Pile-ups that the observer saw" }
                p.note { "Two or more tasks of the machine that wait for one resource at a look once a second." }
                (table(&["Arm", "Resource", "Tasks at most", "Times", "Longest", "Its oldest waiter"], &seen))
            }
            @if !locks.is_empty() {
                h3 { "Waits for the writers' own locks" }
                (table(&["Arm", "Writer", "Lock", "Waits", "Half within", "Longest"], &locks))
            }
            @if !stuck.is_empty() {
                h3 { "Tasks that did not come back" }
                p.note { "They were in state D after everything had been released: a deadlock, not a stall." }
                (table(&["Arm", "Task", "Waits for", "Stack"], &stuck))
            }
            @if !writers.is_empty() {
                h2 { "Writers" }
                p.note { "Latency counts from when a record was due, also for records that were never written because an earlier one hung." }
                (table(&["Arm", "Writer", "Records", "Half within", "90 %", "99 %", "99.9 %", "Longest", "Longest gap", "Lost", "Errors"], &writers))
            }
        }
    }
}

fn waited(arm: &ArmResult, view: &ArmView) -> Vec<Vec<Markup>> {
    let row = |it: &Sufferer| {
        vec![
            html! { (arm.name) },
            html! { b { (cut(&it.comm)) } },
            html! { (text::micros(it.total_us)) },
            html! { (number(it.held)) },
            html! { (text::micros(it.longest_us)) },
            html! { code { (cut(&it.longest)) } },
            html! { (reasons(it)) },
            html! { (behind(it)) },
        ]
    };
    view.holds.sufferers.iter().take(MOST).map(row).collect()
}

/// The parts of a wait, those of a hundredth and more.
fn reasons(it: &Sufferer) -> String {
    let parts = [
        (it.queue_us, "its turn in the queue"),
        (it.grain_us, "new blocks"),
        (it.space_us, "space in the pool"),
        (it.stun_us, "the end of a stun"),
    ];
    shares(parts.into_iter().map(|(us, what)| (us, what.to_owned())))
}

fn behind(it: &Sufferer) -> String {
    let own = |comm: &str| if comm == it.comm { "itself".to_owned() } else { cut(comm) };
    let all: Vec<_> = it.behind.iter().take(4).map(|(comm, us)| (*us, own(comm))).collect();
    shares(all.into_iter())
}

fn shares(parts: impl Iterator<Item = (u64, String)>) -> String {
    let mut parts: Vec<_> = parts.filter(|(us, _)| *us > 0).collect();
    parts.sort_by_key(|(us, _)| std::cmp::Reverse(*us));
    let sum = parts.iter().fold(0.0, |sum, (us, _)| sum + float(*us));
    let text: Vec<_> = parts
        .iter()
        .filter(|(us, _)| float(*us) / sum >= 0.01)
        .map(|(us, what)| format!("{} {what}", percent(float(*us) / sum)))
        .collect();
    if text.is_empty() { "-".to_owned() } else { text.join(", ") }
}

/// Rows of all reports, each with its arm and writer in front.
fn of_reports(run: &Run, rows: impl Fn(&str, &WriterView) -> Vec<Vec<Markup>>) -> Vec<Vec<Markup>> {
    let of = |((arm, writer), view): (&(usize, String), &WriterView)| {
        let arm = run.result.arms.get(*arm).map_or("?", |arm| arm.name.as_str()).to_owned();
        let writer = writer.clone();
        let all = rows(&writer, view);
        all.into_iter()
            .map(move |row| [vec![html! { (arm) }, html! { b { (writer) } }], row].concat())
            .collect::<Vec<_>>()
    };
    run.reports.iter().flat_map(of).collect()
}

fn lock(it: &LockReport) -> Vec<Markup> {
    vec![
        html! { (it.lock) },
        html! { (number(it.waits)) },
        html! { (text::micros(it.p50_us)) },
        html! { (text::micros(it.max_us)) },
    ]
}

fn pile_up(it: &LockPileUp) -> Vec<Markup> {
    let op = it.op.as_ref().map_or_else(|| "-".to_owned(), |op| op.name().to_owned());
    let root = if it.root == it.holder { op } else { format!("{op} ({})", it.root) };
    let shown = it.waiters.iter().take(8).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = it.waiters.len().saturating_sub(8);
    vec![
        html! { (it.lock) },
        html! { b { (it.holder) } },
        html! { (root) },
        html! { b { (it.waiters.len()) } ": " (shown) @if more > 0 { " and " (more) " more" } },
        html! { (text::micros(it.for_us)) },
    ]
}

/// Pile-ups by resource, the largest first.
fn seen(arm: &ArmResult, view: &ArmView) -> Vec<Vec<Markup>> {
    let mut all: Vec<_> = view.pile_ups.iter().collect();
    all.sort_by_key(|(_, it)| std::cmp::Reverse(it.most));
    let row = |(resource, it): (&String, &PileUpView)| {
        vec![
            html! { (arm.name) },
            html! { b { (resource) } },
            html! { (number(it.most)) },
            html! { (number(it.times)) },
            html! { (text::micros(it.longest_us)) },
            html! { (it.oldest) },
        ]
    };
    all.into_iter().map(row).collect()
}

fn writer(view: &WriterView) -> Vec<Markup> {
    let report = &view.report;
    let latency = &report.ack_latency;
    let lost = report.verified.as_ref().map_or_else(|| "-".to_owned(), |it| number(it.lost));
    let errors: u64 = report.errors.iter().map(|error| error.count).sum();
    let times =
        [latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us, latency.max_us, report.longest_gap_us];
    let mut row = vec![html! { (number(report.records)) }];
    row.extend(times.map(|us| html! { (if latency.count == 0 { "-".to_owned() } else { text::micros(us) }) }));
    row.extend([html! { (lost) }, html! { (number(errors)) }]);
    row
}

fn stuck(arm: &ArmResult) -> Vec<Vec<Markup>> {
    let row = |task: &crate::scenario::result::StuckTask| {
        let stack: Vec<_> = task.stack.iter().take(12).cloned().collect();
        vec![
            html! { (arm.name) },
            html! { b { (task.comm) } " (" (task.tid) ")" },
            html! { (task.waits_for.as_deref().unwrap_or("-")) },
            html! { code { (stack.join(" < ")) } },
        ]
    };
    arm.stuck.iter().take(MOST).map(row).collect()
}

/// A name that is too long for a table.
fn cut(name: &str) -> String {
    let mut cut: String = name.chars().take(LONG).collect();
    if cut.len() < name.len() {
        cut.push('…');
    }
    cut
}
