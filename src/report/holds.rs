//! The operations that an arm's volume held: how many at once, how long, and which command waited behind which.
//!
//! Must not know: lines, pages. Invariant: some tens of bytes are kept for each hold, whatever its names are.

use std::borrow::Cow;
use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::axis::{Axis, Extremes};
use super::line::{Line, LinePenalty};
use super::{float, seconds, whole};

/// Commands past so many are counted as one.
const MOST_COMMANDS: usize = 500;
/// Pieces of time in which it is known whose grains were provisioned.
const SERVICE_PIECES: usize = 4096;
/// So many commands are told apart as those that others waited behind.
const MOST_SERVED: usize = 32;
/// No hold may be longer.
const DAY_US: u64 = 86_400_000_000;
const OTHERS: &str = "(other commands)";

#[derive(Debug, Clone, Copy)]
struct Hold {
    from: u64,
    until: u64,
    /// When it began to wait for its turn.
    queued: u64,
    queue_us: u64,
    service_us: u64,
    command: usize,
}

/// Who asked: a command, or the kernel, which writes back what commands left in its cache; then it is known whose file it is only.
fn who<'a>(line: &'a Line<'_>) -> Cow<'a, str> {
    if line.comm.is_empty() {
        let folder = line.path.split('/').next().unwrap_or_default();
        return Cow::Owned(format!("write-back of {folder}"));
    }
    Cow::Borrowed(&line.comm)
}

/// What a command waited for.
#[derive(Debug, Clone, Default)]
pub(super) struct Sufferer {
    pub(super) comm: String,
    pub(super) held: u64,
    pub(super) total_us: u64,
    pub(super) longest_us: u64,
    /// Operation and path of the longest.
    pub(super) longest: String,
    /// Waiting for: own turn in the queue, the grain, space, the end of a stun.
    pub(super) queue_us: u64,
    pub(super) grain_us: u64,
    pub(super) space_us: u64,
    pub(super) stun_us: u64,
    /// Of the wait in the queue: behind whom, and for how long; the longest first.
    pub(super) behind: Vec<(String, u64)>,
}

/// All holds of an arm.
#[derive(Debug, Default)]
pub(super) struct Holds {
    all: Vec<Hold>,
    commands: BTreeMap<String, usize>,
    sufferers: Vec<Sufferer>,
    times: Option<Histogram<u64>>,
}

/// What they come to.
#[derive(Debug, Default)]
pub(super) struct HoldSummary {
    pub(super) count: u64,
    pub(super) most_at_once: u64,
    /// Held at once.
    pub(super) depth: Extremes,
    /// The wait of operations that came in then.
    pub(super) wait: Extremes,
    /// Of that, the wait for a turn in the pool's queue.
    pub(super) queue: Extremes,
    pub(super) times: Option<Histogram<u64>>,
    /// Who waited, the longest in all first.
    pub(super) sufferers: Vec<Sufferer>,
}

impl Holds {
    /// A hold between two moments of the run.
    pub(super) fn put(&mut self, line: &Line<'_>, from: u64, until: u64) {
        let command = self.command(&who(line));
        let penalty = line.penalty;
        let time = until.saturating_sub(from);
        if let Some(sufferer) = self.sufferers.get_mut(command) {
            sufferer.take(line, &penalty, time);
        }
        if self.times.is_none() {
            // Two digits are enough for a plot, and keep it small.
            self.times = Histogram::new_with_max(DAY_US, 2).ok();
        }
        self.times.iter_mut().for_each(|times| times.saturating_record(time));
        let service_us = if penalty.grains > 0 { penalty.latency_us.saturating_add(penalty.zeroing_us) } else { 0 };
        let queued = from.saturating_add(penalty.space_us);
        self.all.push(Hold { from, until, queued, queue_us: penalty.queue_us, service_us, command });
    }

    fn command(&mut self, comm: &str) -> usize {
        if let Some(known) = self.commands.get(comm) {
            return *known;
        }
        let name = if self.commands.len() < MOST_COMMANDS { comm } else { OTHERS };
        let next = self.sufferers.len();
        let number = *self.commands.entry(name.to_owned()).or_insert(next);
        if number == next {
            self.sufferers.push(Sufferer { comm: name.to_owned(), ..Sufferer::default() });
        }
        number
    }

    pub(super) fn summary(mut self, axis: &Axis) -> HoldSummary {
        let mut summary = HoldSummary { times: self.times.take(), ..HoldSummary::default() };
        for hold in &self.all {
            summary.wait.put(axis, hold.from, seconds(hold.until.saturating_sub(hold.from)));
            if hold.queue_us > 0 {
                summary.queue.put(axis, hold.from, seconds(hold.queue_us));
            }
        }
        summary.count = u64::try_from(self.all.len()).unwrap_or(u64::MAX);
        self.count_at_once(axis, &mut summary);
        self.attribute();
        summary.sufferers = self.sufferers;
        summary.sufferers.sort_by(|a, b| b.total_us.cmp(&a.total_us).then_with(|| a.comm.cmp(&b.comm)));
        summary
    }

    /// How many were held at each moment.
    fn count_at_once(&self, axis: &Axis, summary: &mut HoldSummary) {
        if self.all.is_empty() {
            return;
        }
        let mut begins: Vec<u64> = self.all.iter().map(|hold| hold.from).collect();
        let mut ends: Vec<u64> = self.all.iter().map(|hold| hold.until.max(hold.from)).collect();
        begins.sort_unstable();
        ends.sort_unstable();
        let (mut ended, mut depth, mut piece) = (0, 0_u64, 0);
        summary.depth.put_into(axis, 0, 0.0);
        let mut step = |at: u64, depth: u64, before: u64| {
            let now = axis.piece(at);
            // Nothing changed in the pieces between.
            for quiet in piece..=now {
                summary.depth.put_into(axis, quiet, float(before));
            }
            piece = now;
            summary.depth.put_into(axis, now, float(depth));
            summary.most_at_once = summary.most_at_once.max(depth);
        };
        for begin in begins {
            while ends.get(ended).is_some_and(|end| *end <= begin) {
                step(ends[ended], depth.saturating_sub(1), depth);
                (depth, ended) = (depth.saturating_sub(1), ended + 1);
            }
            step(begin, depth + 1, depth);
            depth += 1;
        }
        for end in &ends[ended..] {
            step(*end, depth.saturating_sub(1), depth);
            depth = depth.saturating_sub(1);
        }
        step(u64::MAX, depth, depth);
    }

    /// Divides each wait in the queue among those whose grains were provisioned meanwhile.
    fn attribute(&mut self) {
        let Some(service) = Service::of(&self.all, self.sufferers.len()) else { return };
        let mut behind: Vec<BTreeMap<usize, f64>> = vec![BTreeMap::new(); self.sufferers.len()];
        for hold in self.all.iter().filter(|hold| hold.queue_us > 0) {
            let served = service.between(hold.queued, hold.queued.saturating_add(hold.queue_us));
            let all: f64 = served.iter().map(|(_, time)| time).sum();
            if all > 0.0 {
                for (command, time) in served {
                    *behind[hold.command].entry(command).or_default() += time / all * float(hold.queue_us);
                }
            }
        }
        let names: Vec<String> = self.sufferers.iter().map(|sufferer| sufferer.comm.clone()).collect();
        for (sufferer, behind) in self.sufferers.iter_mut().zip(behind) {
            // Service is known by pieces of time: less than a thousandth may be an error of that.
            let floor = float(sufferer.queue_us) / 1e3;
            let behind = behind.into_iter().filter(|(_, time)| *time >= floor);
            sufferer.behind = behind.map(|(other, time)| (names[other].clone(), whole(time))).collect();
            sufferer.behind.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        }
    }
}

impl Sufferer {
    fn take(&mut self, line: &Line<'_>, penalty: &LinePenalty, time: u64) {
        self.held += 1;
        self.total_us = self.total_us.saturating_add(time);
        if time > self.longest_us || self.longest.is_empty() {
            self.longest_us = time;
            self.longest = format!("{} {}", line.op, line.path);
        }
        self.queue_us = self.queue_us.saturating_add(penalty.queue_us);
        self.grain_us = self.grain_us.saturating_add(penalty.latency_us).saturating_add(penalty.zeroing_us);
        self.space_us = self.space_us.saturating_add(penalty.space_us);
        self.stun_us = self.stun_us.saturating_add(penalty.stun_us);
    }
}

/// Whose grains the pool provisioned, and when: of each command the time so far at the beginning of each piece.
struct Service {
    begin: u64,
    width: u64,
    by_command: Vec<(usize, Vec<f64>)>,
}

impl Service {
    fn of(holds: &[Hold], commands: usize) -> Option<Self> {
        let served = || holds.iter().filter(|hold| hold.service_us > 0);
        let starts = |hold: &Hold| hold.queued.saturating_add(hold.queue_us);
        let begin = served().map(starts).min()?;
        let end = served().map(|hold| starts(hold).saturating_add(hold.service_us)).max()?;
        let pieces = u64::try_from(SERVICE_PIECES).unwrap_or(1);
        let width = (end.saturating_sub(begin) / pieces).saturating_add(1);
        let mut totals = vec![0_u64; commands];
        served().for_each(|hold| totals[hold.command] = totals[hold.command].saturating_add(hold.service_us));
        let mut greatest: Vec<usize> = (0..commands).filter(|command| totals[*command] > 0).collect();
        greatest.sort_by_key(|command| std::cmp::Reverse(totals[*command]));
        greatest.truncate(MOST_SERVED);
        let mut service = Self {
            begin,
            width,
            by_command: greatest.into_iter().map(|it| (it, vec![0.0; SERVICE_PIECES + 2])).collect(),
        };
        for hold in served() {
            let from = starts(hold);
            service.add(hold.command, from, from.saturating_add(hold.service_us));
        }
        for (_, pieces) in &mut service.by_command {
            let mut so_far = 0.0;
            pieces.iter_mut().for_each(|piece| so_far += std::mem::replace(piece, so_far));
        }
        Some(service)
    }

    fn piece(&self, at: u64) -> usize {
        usize::try_from(at.saturating_sub(self.begin) / self.width).unwrap_or(usize::MAX).min(SERVICE_PIECES)
    }

    fn add(&mut self, command: usize, from: u64, until: u64) {
        let (first, last) = (self.piece(from), self.piece(until));
        let (begin, width) = (self.begin, self.width);
        let Some((_, pieces)) = self.by_command.iter_mut().find(|(known, _)| *known == command) else { return };
        for (piece, time) in pieces.iter_mut().enumerate().take(last + 1).skip(first) {
            let start = begin.saturating_add(width.saturating_mul(u64::try_from(piece).unwrap_or(0)));
            let overlap = until.min(start.saturating_add(width)).saturating_sub(from.max(start));
            *time += float(overlap);
        }
    }

    /// The time that each command's grains took between two moments.
    fn between(&self, from: u64, until: u64) -> Vec<(usize, f64)> {
        let at = |pieces: &[f64], moment: u64| {
            let piece = self.piece(moment);
            let start = self.begin.saturating_add(self.width.saturating_mul(u64::try_from(piece).unwrap_or(0)));
            let part = (float(moment.saturating_sub(start)) / float(self.width)).min(1.0);
            pieces[piece] + (pieces[piece + 1] - pieces[piece]) * part
        };
        let of = |(command, pieces): &(usize, Vec<f64>)| (*command, at(pieces, until) - at(pieces, from));
        self.by_command.iter().map(of).filter(|(_, time)| *time > 0.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(holds: &mut Holds, comm: &str, from: u64, queue: u64, service: u64) {
        let penalty = LinePenalty { queue_us: queue, latency_us: service, grains: 1, ..LinePenalty::default() };
        let line = Line { comm: comm.to_owned().into(), op: "write".into(), penalty, ..Line::default() };
        holds.put(&line, from, from + queue + service);
    }

    #[test]
    fn a_wait_in_the_queue_is_divided_among_those_in_front() {
        let mut holds = Holds::default();
        held(&mut holds, "backup", 0, 0, 3_000_000);
        held(&mut holds, "log", 0, 3_000_000, 1_000_000);
        held(&mut holds, "collector", 1_000_000, 3_000_000, 1_000_000);
        let summary = holds.summary(&Axis::new(0, 6_000_000, 6));
        let collector = summary.sufferers.iter().find(|it| it.comm == "collector").unwrap();
        let seconds: Vec<_> =
            collector.behind.iter().map(|(comm, us)| (comm.as_str(), (us + 5_000) / 10_000)).collect();
        assert_eq!(seconds, [("backup", 200), ("log", 100)]);
        assert!(summary.sufferers.iter().find(|it| it.comm == "backup").unwrap().behind.is_empty());
        assert_eq!((summary.count, summary.most_at_once), (3, 3));
    }

    #[test]
    fn what_the_kernel_writes_back_is_told_by_the_files_folder() {
        let mut holds = Holds::default();
        for path in ["log/app.log", "log/app.log.1", "backup.tar"] {
            let line = Line { path: path.into(), op: "write".into(), ..Line::default() };
            holds.put(&line, 0, if path.starts_with("log") { 10 } else { 5 });
        }
        let summary = holds.summary(&Axis::new(0, 10, 1));
        let names: Vec<_> = summary.sufferers.iter().map(|it| (it.comm.as_str(), it.held)).collect();
        assert_eq!(names, [("write-back of log", 2), ("write-back of backup.tar", 1)]);
    }

    #[test]
    fn held_at_once_is_exact_and_quiet_pieces_keep_the_last_count() {
        let mut holds = Holds::default();
        held(&mut holds, "a", 500_000, 0, 3_000_000);
        held(&mut holds, "a", 500_000, 0, 100_000);
        held(&mut holds, "a", 600_000, 0, 100_000);
        let axis = Axis::new(0, 5_000_000, 5);
        let summary = holds.summary(&axis);
        assert_eq!(summary.most_at_once, 2, "one ended as the other came");
        let most: Vec<_> = summary.depth.peaks(&axis).into_iter().map(|(_, most)| most).collect();
        assert_eq!(most, [2.0, 1.0, 1.0, 1.0, 0.0]);
    }

    #[test]
    fn absurd_figures_do_no_harm() {
        let mut holds = Holds::default();
        for n in 0..600 {
            let penalty = LinePenalty {
                queue_us: u64::MAX,
                latency_us: u64::MAX,
                space_us: u64::MAX,
                stun_us: u64::MAX,
                zeroing_us: u64::MAX,
                grains: u64::MAX,
            };
            let line = Line { comm: n.to_string().into(), penalty, ..Line::default() };
            holds.put(&line, u64::MAX - n, n);
            holds.put(&line, n, u64::MAX);
        }
        let summary = holds.summary(&Axis::new(u64::MAX, 0, 10));
        assert_eq!((summary.count, summary.sufferers.len()), (1200, MOST_COMMANDS + 1));
    }
}
