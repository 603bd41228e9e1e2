//! A scenario that replays what a log tells.
//!
//! Must not know: files. Invariant: the text is a scenario that `stunfs test` runs as it is.

use std::fmt::Write as _;

use super::Explanation;
use super::cause::CauseKind;

/// Writers by parts of the command names that they stand for; the first that fits counts.
const WRITERS: [(&str, &str, &str); 12] = [
    ("fluent", "collector", "fluentd: {inputs: 8, rate: 20/s}"),
    ("vector", "collector", "fluentd: {inputs: 8, rate: 20/s}"),
    ("filebeat", "collector", "fluentd: {inputs: 8, rate: 20/s}"),
    ("syslog", "logs", "logger: {rate: 20/s}"),
    ("journald", "logs", "logger: {rate: 20/s}"),
    ("logrotate", "rotation", "logrotate: {rate: 20/s}"),
    ("kubelet", "kubelet", "kubelet: {rate: 20/s}"),
    ("containerd", "kubelet", "kubelet: {rate: 20/s}"),
    ("postgres", "database", "database: {rate: 20/s}"),
    ("mysql", "database", "database: {rate: 20/s}"),
    ("etcd", "database", "database: {rate: 20/s}"),
    ("tar", "backup", "backup: {rate: 5/s}"),
];

/// A stun is imitated for no longer than this, seconds.
const LONGEST_STUN: u64 = 1800;

/// What is replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replay {
    /// The machine stands still for so many seconds.
    Stun(u64),
    /// The pool runs full, and grows again.
    FullPool,
    /// Nothing but first writes that wait.
    Stalls,
}

impl Replay {
    fn of(found: &Explanation) -> Option<Self> {
        let has = |kind| found.causes.iter().any(|cause| cause.kind == kind);
        if found.causes.first()?.kind == CauseKind::OutOfSpace {
            return Some(Self::FullPool);
        }
        let longest = found.longest_standstill().filter(|_| has(CauseKind::MachineStun));
        let seconds = longest.map(|it| it.length_us.div_ceil(1_000_000).clamp(1, LONGEST_STUN));
        seconds.map(Self::Stun).or_else(|| has(CauseKind::StalledWrites).then_some(Self::Stalls))
    }

    fn storage(self) -> String {
        let hold = if let Self::Stun(seconds) = self { (seconds * 2).max(600) } else { 600 };
        let pool = if self == Self::FullPool { ", pool: 48MiB, on-full: stun" } else { "" };
        format!("{{kind: directory, profile: vmware-thin, first-write: 100ms, max-hold: {hold}s{pool}}}")
    }

    fn timeline(self) -> String {
        match self {
            Self::Stun(seconds) => {
                format!("  timeline:\n    - {{name: the machine stands still, at: 20s, stun: {{for: {seconds}s}}}}\n")
            }
            Self::FullPool => "  timeline:\n    - {name: the pool runs full, at: 12s, wait: {probe: pool.full, atLeast: 1, within: 60s}}\n\
                \x20   - {name: the pool grows, grow: {pool: 8GiB}}\n"
                .to_owned(),
            Self::Stalls => String::new(),
        }
    }

    fn expectations(self) -> String {
        match self {
            Self::FullPool => "    - {metric: pool.full, atLeast: 1}\n".to_owned(),
            Self::Stun(_) | Self::Stalls => {
                let longest = if let Self::Stun(seconds) = self { (seconds * 9 / 10).max(1) } else { 1 };
                format!("    - {{arm: thin, metric: volume.longest_hold, atLeast: {longest}s}}\n")
                    + "    - {arm: thick, metric: volume.first_writes_held, equals: 0}\n"
            }
        }
    }

    const fn short(self) -> &'static str {
        match self {
            Self::Stun(_) => {
                "    - spec.expect.0.atLeast=1s\n    - spec.timeline.0.at=4s\n    - spec.timeline.0.stun.for=2s\n"
            }
            Self::FullPool => "    - spec.timeline.0.at=2s\n",
            Self::Stalls => "",
        }
    }
}

/// The scenario, as YAML; `None`: the log tells of nothing that can be replayed.
pub fn replay(found: &Explanation) -> Option<String> {
    let replay = Replay::of(found)?;
    let sentence = found.causes.first()?.kind.sentence();
    let mut out = format!("# Made by stunfs explain from a kernel log: {sentence}\n");
    out.push_str("apiVersion: stunfs/v1alpha1\nkind: Scenario\nmetadata:\n  name: replay\n");
    out.push_str("  description: what a kernel log tells, again\nspec:\n");
    let duration = 60 + if let Replay::Stun(seconds) = replay { seconds } else { 60 };
    let _ = writeln!(out, "  duration: {duration}s\n  patience: 5m\n  storage: {}", replay.storage());
    let thick = if replay == Replay::FullPool { "" } else { "    thick: {thick: true}\n" };
    let _ = write!(out, "  arms:\n    thin: {{}}\n{thick}  workload:\n");
    let writers = writers(found);
    writers.iter().for_each(|(name, writer)| _ = writeln!(out, "    - {{name: {name}, {writer}}}"));
    out.push_str("    - {name: burst, at: 10s, run: [dd, if=/dev/zero, 'of={}/burst', bs=1M, count=64, conv=fsync, status=none]}\n");
    out.push_str(&replay.timeline());
    out.push_str("  expect:\n");
    out.push_str(&replay.expectations());
    writers.iter().for_each(|(name, _)| _ = writeln!(out, "    - {{metric: {name}.records_lost, equals: 0}}"));
    out.push_str("  short:\n    - spec.duration=12s\n    - spec.workload.burst.at=1s\n");
    out.push_str(replay.short());
    Some(out)
}

/// Writers that stand for the tasks of the log, each once; a logger if none does.
fn writers(found: &Explanation) -> Vec<(&'static str, &'static str)> {
    let mut writers: Vec<(&str, &str)> = Vec::new();
    for task in &found.tasks {
        let known = WRITERS.iter().find(|(part, ..)| task.task.contains(part));
        if let Some((_, name, writer)) = known
            && !writers.iter().any(|(taken, _)| taken == name)
        {
            writers.push((name, writer));
        }
    }
    if writers.is_empty() {
        writers.push(("logs", "logger: {rate: 20/s}"));
    }
    writers
}
