//! The use of an arm's pool over time.
//!
//! Must not know: how space is found. Invariant: what is drawn is what the log tells: grains that first writes provisioned while they
//! waited, set right by each event that names the use of the pool.

use crate::report::axis::{Axis, Extremes};
use crate::report::float;
use crate::report::lanes::{Lane, Series, Style, Unit, series};
use crate::report::line::Line;

/// The pool as events tell of it.
#[derive(Debug, Default)]
pub(super) struct PoolSeries {
    grain: u64,
    /// Grains that came and went, by piece.
    taken: Vec<u64>,
    given: Vec<u64>,
    /// The use that the first event named, and the piece.
    known: Option<(usize, u64)>,
    size: Extremes,
    last_size: Option<u64>,
}

impl PoolSeries {
    pub(super) fn configured(&mut self, axis: &Axis, at: u64, line: &Line<'_>) {
        let Some(config) = &line.config else { return };
        self.grain = config.grain.unwrap_or(self.grain);
        if let Some(size) = config.pool.or(config.virtual_size) {
            self.sized(axis, at, size);
        }
    }

    pub(super) fn sized(&mut self, axis: &Axis, at: u64, size: u64) {
        self.size.put(axis, at, float(size));
        self.last_size = Some(size);
    }

    pub(super) fn used(&mut self, axis: &Axis, at: u64, used: u64, size: u64) {
        self.known.get_or_insert((axis.piece(at), used));
        self.sized(axis, at, size);
    }

    pub(super) fn provisioned(&mut self, axis: &Axis, at: u64, grains: u64) {
        add(&mut self.taken, axis, at, grains);
    }

    pub(super) fn discarded(&mut self, axis: &Axis, at: u64, grains: u64) {
        add(&mut self.given, axis, at, grains);
    }

    pub(super) fn lane(&self, axis: &Axis) -> Option<Lane> {
        if self.taken.is_empty() || self.grain == 0 {
            return None;
        }
        let sum = |pieces: &[u64], to: usize| {
            pieces.get(..to.min(pieces.len())).unwrap_or_default().iter().fold(0_u64, |sum, n| sum.saturating_add(*n))
        };
        let bytes = |grains: u64| float(grains) * float(self.grain);
        let at = |piece: usize| bytes(sum(&self.taken, piece + 1)) - bytes(sum(&self.given, piece + 1));
        let offset = self.known.map_or(0.0, |(piece, used)| float(used) - at(piece));
        let mut used = Extremes::default();
        let (mut taken, mut given) = (0_u64, 0_u64);
        for piece in 0..axis.pieces() {
            taken = taken.saturating_add(self.taken.get(piece).copied().unwrap_or(0));
            given = given.saturating_add(self.given.get(piece).copied().unwrap_or(0));
            used.put_into(axis, piece, (offset + bytes(taken) - bytes(given)).max(0.0));
        }
        let mut all = vec![series("used", 2, Style::Steps, axis, &used)];
        let most = used.most().unwrap_or(0.0);
        // A size that is far away would press the use flat.
        if let Some(size) = self.last_size.map(float).filter(|size| *size <= most * 4.0) {
            let mut points = self.size.peaks(axis);
            points.push((axis.length(), size));
            all.push(Series::new("size", 1, Style::Dashes, points));
        }
        Some(Lane::new("Pool", Unit::Bytes, all)?.note("space that first writes provisioned"))
    }
}

fn add(pieces: &mut Vec<u64>, axis: &Axis, at: u64, grains: u64) {
    if grains > 0 {
        pieces.resize(axis.pieces(), 0);
        if let Some(piece) = pieces.get_mut(axis.piece(at)) {
            *piece = piece.saturating_add(grains);
        }
    }
}
