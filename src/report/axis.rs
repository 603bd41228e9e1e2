//! An arm's time axis, and the smallest and greatest figure of each piece of it.
//!
//! Must not know: what is measured. Invariant: memory does not grow with the number of figures.

use super::{float, seconds};

/// An arm's time, cut into pieces of one length.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    begin_us: u64,
    width_us: u64,
    pieces: usize,
}

impl Axis {
    pub(super) fn new(begin_us: u64, end_us: u64, pieces: usize) -> Self {
        let pieces = pieces.max(1);
        let length = end_us.saturating_sub(begin_us).max(1_000);
        let width_us = length.div_ceil(u64::try_from(pieces).unwrap_or(1)).max(1);
        Self { begin_us, width_us, pieces }
    }

    pub(super) const fn begin_us(&self) -> u64 {
        self.begin_us
    }

    pub(super) const fn pieces(&self) -> usize {
        self.pieces
    }

    /// The piece that a moment of the run belongs to; what lies outside belongs to the first or last.
    pub(super) fn piece(&self, run_us: u64) -> usize {
        let piece = run_us.saturating_sub(self.begin_us) / self.width_us;
        usize::try_from(piece).unwrap_or(usize::MAX).min(self.pieces - 1)
    }

    /// Seconds from the arm's beginning to `part` (0 to 1) of the piece.
    fn at(&self, piece: usize, part: f64) -> f64 {
        (float(u64::try_from(piece).unwrap_or(0)) + part) * seconds(self.width_us)
    }

    /// Seconds from the arm's beginning; not below 0.
    pub(super) fn since_begin(&self, run_us: u64) -> f64 {
        seconds(run_us.saturating_sub(self.begin_us))
    }

    /// The axis's length in seconds.
    pub(super) fn length(&self) -> f64 {
        self.at(self.pieces, 0.0)
    }
}

/// Figures over time: of each piece the smallest and the greatest.
#[derive(Debug, Clone, Default)]
pub(super) struct Extremes(Vec<Option<(f64, f64)>>);

impl Extremes {
    pub(super) fn put(&mut self, axis: &Axis, run_us: u64, figure: f64) {
        self.put_into(axis, axis.piece(run_us), figure);
    }

    pub(super) fn put_into(&mut self, axis: &Axis, piece: usize, figure: f64) {
        if self.0.is_empty() {
            self.0.resize(axis.pieces(), None);
        }
        if let Some(cell) = self.0.get_mut(piece) {
            let (least, most) = cell.unwrap_or((figure, figure));
            *cell = Some((least.min(figure), most.max(figure)));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn least(&self) -> Option<f64> {
        self.0.iter().flatten().map(|(least, _)| *least).reduce(f64::min)
    }

    pub(super) fn most(&self) -> Option<f64> {
        self.0.iter().flatten().map(|(_, most)| *most).reduce(f64::max)
    }

    /// Points for a plot: of each piece one, or two where its figures differ.
    pub(super) fn points(&self, axis: &Axis) -> Vec<(f64, f64)> {
        let cells = self.0.iter().enumerate().filter_map(|(piece, cell)| Some((piece, (*cell)?)));
        let of = |(piece, (least, most)): (usize, (f64, f64))| {
            let (first, second) = ((axis.at(piece, 0.25), least), (axis.at(piece, 0.75), most));
            let middle = (axis.at(piece, 0.5), most);
            if least < most { [Some(first), Some(second)] } else { [Some(middle), None] }
        };
        cells.flat_map(of).flatten().collect()
    }

    /// One point a piece: its greatest figure.
    pub(super) fn peaks(&self, axis: &Axis) -> Vec<(f64, f64)> {
        let cells = self.0.iter().enumerate().filter_map(|(piece, cell)| Some((axis.at(piece, 0.5), (*cell)?.1)));
        cells.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_keeps_its_extremes_and_what_lies_outside_goes_to_the_ends() {
        let axis = Axis::new(1_000_000, 3_000_000, 2);
        let mut figures = Extremes::default();
        assert!(figures.is_empty() && figures.points(&axis).is_empty());
        for (at, figure) in [(0, 5.0), (1_500_000, 3.0), (1_900_000, 9.0), (u64::MAX, 1.0)] {
            figures.put(&axis, at, figure);
        }
        assert_eq!(figures.points(&axis), [(0.25, 3.0), (0.75, 9.0), (1.5, 1.0)]);
        assert_eq!(figures.peaks(&axis), [(0.5, 9.0), (1.5, 1.0)]);
        assert_eq!((figures.least(), figures.most()), (Some(1.0), Some(9.0)));
    }

    #[test]
    fn an_axis_is_never_empty() {
        for (begin, end) in [(0, 0), (5, 1), (0, u64::MAX), (u64::MAX, u64::MAX)] {
            let axis = Axis::new(begin, end, 0);
            assert_eq!(axis.piece(u64::MAX), 0);
            assert!(axis.length() > 0.0);
        }
    }
}
