//! Recovery slides (RULES section 8): what a player without stacks can do with a marker and a buried ring.

use crate::configuration::Seat;
use crate::lines::Line;
use crate::state::State;
use crate::{Action, Cell};

/// The runs of own markers a slide would make.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SlideRuns {
    /// The longest, on ties along the first axis.
    pub(crate) best: Line,
    /// The first along the axes that reaches the detection base; the reference engine collapses this one.
    pub(crate) first: Option<Line>,
}

impl<const WORDS: usize, const CELLS: usize, const RINGS: usize> State<WORDS, CELLS, RINGS> {
    /// The runs through `to` after the mover's marker on `from` slid there.
    pub(crate) fn slide_runs(&self, from: Cell, to: Cell) -> SlideRuns {
        let base = self.configuration.board().detection_base();
        let mut best = Line {
            axis: 0,
            low: to,
            length: 0,
        };
        let mut first = None;
        for axis in 0..self.geometry.axes() {
            let line = self.slide_run(axis, from, to);
            if line.length > best.length {
                best = line;
            }
            if first.is_none() && line.length >= base {
                first = Some(line);
            }
        }
        SlideRuns { best, first }
    }

    fn slide_run(&self, axis: usize, from: Cell, to: Cell) -> Line {
        let markers = self.pieces.markers_of(self.mover);
        let forward = self.geometry.axis_direction(axis);
        let run = |direction: usize| {
            let ray = self.geometry.ray(to, direction);
            ray.iter()
                .take_while(|&&cell| cell != from && markers.contains(cell))
                .count()
        };
        let backward = self.geometry.opposite(forward);
        let behind = run(backward);
        let low = if behind == 0 {
            to
        } else {
            self.geometry.ray(to, backward)[behind - 1]
        };
        Line {
            axis: axis as u8,
            low,
            length: behind + 1 + run(forward),
        }
    }

    /// The mover's slides to cells that are neither collapsed nor marked.
    fn slides(&self) -> impl Iterator<Item = (Cell, Cell)> {
        self.pieces
            .markers_of(self.mover)
            .iter()
            .flat_map(move |from| {
                let open = |&&to: &&Cell| {
                    let content = self.pieces.content(to);
                    !content.is_collapsed() && !content.is_marker()
                };
                self.geometry
                    .adjacent(from)
                    .iter()
                    .filter(open)
                    .map(move |&to| (from, to))
            })
    }

    /// Line slides where one exists, refused or not; fallback slides and strikes otherwise.
    pub(crate) fn legal_recoveries(&self, actions: &mut Vec<Action>) {
        let length = self.configuration.line_length();
        let payers = self.pieces.buried_of(self.mover);
        let mut line_exists = false;
        for (from, to) in self.slides() {
            if self.pieces.content(to).is_stack() {
                continue;
            }
            let runs = self.slide_runs(from, to);
            if runs.best.length < length {
                continue;
            }
            line_exists = true;
            if runs.first.is_some_and(|first| first.length >= length) {
                actions.extend(
                    payers
                        .iter()
                        .map(|pay| Action::RecoverLineAll { from, to, pay }),
                );
                self.recovery_windows(from, to, runs.best, actions);
            }
        }
        if !line_exists {
            self.legal_fallbacks(actions);
        }
    }

    /// The windows of an overlong `run` that hold `to`.
    fn recovery_windows(&self, from: Cell, to: Cell, run: Line, actions: &mut Vec<Action>) {
        let length = self.configuration.line_length();
        if run.length <= length {
            return;
        }
        let axis = run.axis;
        let starts = self
            .geometry
            .cells_along(axis, run.low, run.length + 1 - length);
        let holding = starts.filter(|&window| {
            self.geometry
                .cells_along(axis, window, length)
                .any(|cell| cell == to)
        });
        actions.extend(holding.map(|window| Action::RecoverLineWindow {
            from,
            to,
            axis,
            window,
        }));
    }

    fn legal_fallbacks(&self, actions: &mut Vec<Action>) {
        let payers = self.pieces.buried_of(self.mover);
        for (from, to) in self.slides() {
            let strike = self.pieces.content(to).is_stack();
            actions.extend(payers.iter().map(|pay| {
                if strike {
                    Action::RecoverStrike { from, to, pay }
                } else {
                    Action::RecoverFallback { from, to, pay }
                }
            }));
        }
    }

    /// Slides, collapses the completed run and extracts the price.
    pub(crate) fn recover_line(&mut self, from: Cell, to: Cell, pay: Cell) {
        let runs = self.slide_runs(from, to);
        self.slide(from, to);
        self.collapse_line(runs.first.unwrap_or(runs.best));
        self.extract_for(self.mover, pay);
        self.recovered();
    }

    /// Slides and collapses a window of the best run without a price; where the engine's own run has exactly the length
    /// of a line, it collapses that one instead.
    pub(crate) fn recover_window(&mut self, from: Cell, to: Cell, axis: u8, window: Cell) {
        let runs = self.slide_runs(from, to);
        self.slide(from, to);
        let length = self.configuration.line_length();
        let named = Line {
            axis,
            low: window,
            length,
        };
        self.collapse_line(
            runs.first
                .filter(|first| first.length == length)
                .unwrap_or(named),
        );
        self.recovered();
    }

    pub(crate) fn recover_fallback(&mut self, from: Cell, to: Cell, pay: Cell) {
        self.slide(from, to);
        self.extract_for(self.mover, pay);
        self.recovered();
    }

    pub(crate) fn recover_strike(&mut self, from: Cell, to: Cell, pay: Cell) {
        self.pieces.take_marker(from);
        self.eliminate_top(to);
        self.extract_for(self.mover, pay);
        self.recovered();
    }

    fn slide(&mut self, from: Cell, to: Cell) {
        self.pieces.take_marker(from);
        self.pieces.put_marker(to, self.mover);
    }

    /// Removes the lowest ring of `seat` from the stack on `cell`, credited to the mover.
    pub(crate) fn extract_for(&mut self, seat: Seat, cell: Cell) {
        let mut stack = self.pieces.lift(cell);
        let extracted = self.pieces.extract(&mut stack, seat);
        self.pieces.set_down(cell, stack);
        self.mover_score().eliminated += u16::from(extracted);
    }
}
