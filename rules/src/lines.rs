//! Lines of markers (RULES section 9).

use std::convert::Infallible;
use std::ops::ControlFlow::{self, Break, Continue};

use crate::configuration::Seat;
use crate::state::State;
use crate::{Action, Cell};

/// A maximal run of one player's markers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Axis, numbered as in [`crate::Geometry::axis_direction`].
    pub axis: u8,
    /// Lowest cell.
    pub low: Cell,
    /// Number of cells.
    pub length: usize,
}

impl<const WORDS: usize, const CELLS: usize, const RINGS: usize> State<WORDS, CELLS, RINGS> {
    /// Calls `visit` for every line of `seat` that is long enough to be processed, by lowest cell and then by axis.
    pub(crate) fn eligible_lines<B>(
        &self,
        seat: Seat,
        mut visit: impl FnMut(Line) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let needed = self.configuration.eligible_length();
        let markers = self.pieces.markers_of(seat);
        if markers.len() < needed {
            return Continue(());
        }
        for low in markers.iter() {
            for axis in 0..self.geometry.axes() {
                let forward = self.geometry.axis_direction(axis);
                let behind = self
                    .geometry
                    .ray(low, self.geometry.opposite(forward))
                    .first();
                if behind.is_some_and(|&cell| markers.contains(cell)) {
                    continue;
                }
                let length = 1 + self.run_ahead(seat, low, forward);
                if length >= needed {
                    visit(Line {
                        axis: axis as u8,
                        low,
                        length,
                    })?;
                }
            }
        }
        Continue(())
    }

    /// Markers of `seat` in a row next to `cell` in `direction`.
    #[inline]
    pub(crate) fn run_ahead(&self, seat: Seat, cell: Cell, direction: usize) -> usize {
        let markers = self.pieces.markers_of(seat);
        let ray = self.geometry.ray(cell, direction);
        ray.iter()
            .take_while(|&&cell| markers.contains(cell))
            .count()
    }

    pub(crate) fn has_line(&self, seat: Seat) -> bool {
        self.eligible_lines(seat, |_| Break(())).is_break()
    }

    /// The run of the mover's markers through `cell` along `axis`, `cell` granted.
    pub(crate) fn line_around(&self, axis: u8, cell: Cell) -> Line {
        let forward = self.geometry.axis_direction(usize::from(axis));
        let backward = self.geometry.opposite(forward);
        let behind = self.run_ahead(self.mover, cell, backward);
        let low = if behind == 0 {
            cell
        } else {
            self.geometry.ray(cell, backward)[behind - 1]
        };
        Line {
            axis,
            low,
            length: behind + 1 + self.run_ahead(self.mover, cell, forward),
        }
    }

    pub(crate) fn own_lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        let Continue(()) = self.eligible_lines(self.mover, |line| {
            lines.push(line);
            Continue::<Infallible>(())
        });
        lines
    }

    pub(crate) fn legal_lines(&self, actions: &mut Vec<Action>) {
        if self.flags.line_due {
            actions.extend(
                self.own_stacks()
                    .iter()
                    .map(|from| Action::PayLine { from }),
            );
            return;
        }
        let window = self.configuration.line_length();
        let options = |line: Line| {
            let Line { axis, low, length } = line;
            actions.push(Action::LineAll { axis, low });
            if length > window {
                let starts = self.geometry.cells_along(axis, low, length + 1 - window);
                actions.extend(starts.map(|low| Action::LineWindow { axis, low }));
            }
            Continue::<Infallible>(())
        };
        let Continue(()) = self.eligible_lines(self.mover, options);
        if actions.is_empty() {
            actions.push(Action::NoLine);
        }
    }
}
