//! Playing a move: its effects on the board and what the turn asks for next (RULES section 4).

use crate::configuration::Seat;
use crate::lines::Line;
use crate::state::{NO_CELL, State};
use crate::territory::Region;
use crate::turn::{Flags, Phase};
use crate::{Action, Cell, Position, notation};

/// An action that is not legal in a position; whoever chose it is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{action} is not legal in {position}; legal: {}", legal.join(" "))]
pub struct IllegalAction {
    /// The action; it may not even have a text in this position.
    pub action: String,
    /// The canonical text of the position.
    pub position: String,
    /// What would have been legal, in the notation of the records.
    pub legal: Vec<String>,
}

impl IllegalAction {
    pub(crate) fn new(position: &Position, action: Action, legal: &[Action]) -> Self {
        Self {
            action: format!("{action:?}"),
            position: position.canonical_text(),
            legal: legal
                .iter()
                .map(|&action| notation::format(position, action))
                .collect(),
        }
    }
}

impl<const WORDS: usize, const CELLS: usize, const RINGS: usize> State<WORDS, CELLS, RINGS> {
    /// The legal actions, replacing what is in `actions`.
    pub(crate) fn legal(&self, actions: &mut Vec<Action>) {
        actions.clear();
        match self.phase {
            Phase::Placement => self.legal_placements(actions),
            Phase::Movement => self.legal_movements(actions),
            Phase::Capture => self.legal_captures(false, actions),
            Phase::ChainCapture => self.legal_captures(true, actions),
            Phase::Lines => self.legal_lines(actions),
            Phase::Territory => self.legal_territory(actions),
            Phase::ForcedElimination => {
                actions.extend(
                    self.own_stacks()
                        .iter()
                        .map(|from| Action::Eliminate { from }),
                );
            }
            Phase::Over => {}
        }
    }

    /// Plays `action`, which must be legal.
    pub(crate) fn apply(&mut self, action: Action) {
        if self.mover == Seat(1) {
            self.swap_open = false;
        }
        match action {
            Action::Place { to, count } => self.place(to, count),
            Action::SkipPlacement | Action::NoPlacement => self.enter(Phase::Movement, NO_CELL),
            Action::Swap => {
                self.swapped = true;
                self.flags.acted = true;
            }
            Action::Move { from, to } => self.move_stack(from, to),
            Action::Capture { from, over, to } | Action::ContinueCapture { from, over, to } => {
                self.capture(from, over, to);
            }
            Action::SkipCapture | Action::SkipRecovery | Action::NoMovement => {
                self.enter(Phase::Lines, NO_CELL);
            }
            Action::RecoverLineAll { from, to, pay } => self.recover_line(from, to, pay),
            Action::RecoverLineWindow {
                from,
                to,
                axis,
                window,
            } => {
                self.recover_window(from, to, axis, window);
            }
            Action::RecoverFallback { from, to, pay } => self.recover_fallback(from, to, pay),
            Action::RecoverStrike { from, to, pay } => self.recover_strike(from, to, pay),
            Action::LineAll { axis, low } => self.process_line(self.line_around(axis, low)),
            Action::LineWindow { axis, low } => self.process_window(axis, low),
            Action::NoLine => self.complete_lines(),
            Action::PayLine { from } => {
                self.eliminate_top(from);
                self.flags.line_due = false;
            }
            Action::Territory { wall, low } => self.process_region(Region { wall, low }),
            Action::PayTerritory { from } => {
                self.eliminate_cap(from);
                self.territory_paid();
            }
            Action::PayExtraction { from } => {
                self.extract_for(self.mover, from);
                self.territory_paid();
            }
            Action::SkipTerritory | Action::NoTerritory => self.leave_territory(),
            Action::Eliminate { from } => {
                self.eliminate_cap(from);
                self.end_turn();
            }
        }
    }

    #[inline]
    fn enter(&mut self, phase: Phase, anchor: Cell) {
        self.phase = phase;
        self.anchor = anchor;
    }

    fn place(&mut self, to: Cell, count: u8) {
        let mut stack = self.pieces.lift(to);
        for _ in 0..count {
            self.pieces.push_top(&mut stack, self.mover);
        }
        self.pieces.set_down(to, stack);
        self.mover_score().hand -= u16::from(count);
        self.flags.acted = true;
        self.enter(Phase::Movement, to);
    }

    fn move_stack(&mut self, from: Cell, to: Cell) {
        let mut stack = self.pieces.lift(from);
        self.pieces.put_marker(from, self.mover);
        self.pass_markers(from, to, None);
        self.land(&mut stack, to);
        self.flags.acted = true;
        self.follow_up(to, Phase::Capture);
    }

    fn capture(&mut self, from: Cell, over: Cell, to: Cell) {
        let mut stack = self.pieces.lift(from);
        self.pieces.put_marker(from, self.mover);
        self.pass_markers(from, to, Some(over));
        let mut target = self.pieces.lift(over);
        let captured = self.pieces.pop_top(&mut target);
        self.pieces.set_down(over, target);
        self.pieces.push_bottom(&mut stack, captured);
        self.land(&mut stack, to);
        self.flags.acted = true;
        self.follow_up(to, Phase::ChainCapture);
    }

    /// Flips other players' markers on the way and collapses the mover's own.
    fn pass_markers(&mut self, from: Cell, to: Cell, over: Option<Cell>) {
        let Some((direction, distance)) = self.geometry.direction_and_distance(from, to) else {
            return;
        };
        for &cell in &self.geometry.ray(from, direction)[..distance - 1] {
            let content = self.pieces.content(cell);
            if Some(cell) == over || !content.is_marker() {
                continue;
            }
            self.pieces.take_marker(cell);
            if content.owner() == self.mover {
                self.collapse_empty(cell);
            } else {
                self.pieces.put_marker(cell, self.mover);
            }
        }
    }

    /// Sets the stack down; a marker there costs its top ring.
    fn land(&mut self, stack: &mut crate::pieces::Stack, to: Cell) {
        if self.pieces.content(to).is_marker() {
            self.pieces.take_marker(to);
            self.pieces.pop_top(stack);
            self.mover_score().eliminated += 1;
        }
        self.pieces.set_down(to, *stack);
    }

    /// On to `phase` if the stack that landed on `cell` is still the mover's and can capture, else to the lines.
    fn follow_up(&mut self, cell: Cell, phase: Phase) {
        if self.own_stacks().contains(cell) && self.can_capture(cell) {
            self.enter(phase, cell);
        } else {
            self.enter(Phase::Lines, NO_CELL);
        }
    }

    /// The turn after a recovery slide.
    pub(crate) fn recovered(&mut self) {
        self.flags.acted = true;
        self.flags.recovered = true;
        self.enter(Phase::Lines, NO_CELL);
    }

    /// Makes an empty cell territory of the mover.
    pub(crate) fn collapse_empty(&mut self, cell: Cell) {
        self.pieces.collapse(cell, self.mover);
        self.mover_score().territory += 1;
    }

    /// Turns a run of markers into territory of the mover.
    pub(crate) fn collapse_line(&mut self, line: Line) {
        for cell in self.geometry.cells_along(line.axis, line.low, line.length) {
            self.pieces.take_marker(cell);
            self.collapse_empty(cell);
        }
    }

    /// A whole line; its price is due if the mover has a stack to pay with.
    fn process_line(&mut self, line: Line) {
        self.collapse_line(line);
        self.flags.acted = true;
        if self.controls_any(self.mover) {
            self.flags.line_due = true;
        } else {
            self.line_done();
        }
    }

    fn process_window(&mut self, axis: u8, low: Cell) {
        let length = self.configuration.line_length();
        self.collapse_line(Line { axis, low, length });
        self.flags.acted = true;
        self.line_done();
    }

    /// After a line without price the last one leads straight on, without a no-line move.
    fn line_done(&mut self) {
        if !self.has_line(self.mover) {
            self.complete_lines();
        }
    }

    fn complete_lines(&mut self) {
        let idle = !self.flags.acted && self.controls_any(self.mover);
        let phase = if idle && !self.has_processable() {
            Phase::ForcedElimination
        } else {
            Phase::Territory
        };
        self.enter(phase, NO_CELL);
    }

    fn territory_paid(&mut self) {
        self.flags.territory_due = false;
        if !self.has_processable() {
            self.end_turn();
        }
    }

    fn leave_territory(&mut self) {
        if !self.flags.acted && self.controls_any(self.mover) {
            self.enter(Phase::ForcedElimination, NO_CELL);
        } else {
            self.end_turn();
        }
    }

    /// Removes the top ring of the stack on `cell`, credited to the mover.
    pub(crate) fn eliminate_top(&mut self, cell: Cell) {
        self.eliminate(cell, 1);
    }

    fn eliminate_cap(&mut self, cell: Cell) {
        self.eliminate(cell, self.pieces.stack(cell).cap);
    }

    /// Removes a whole stack, if there is one.
    pub(crate) fn eliminate_stack(&mut self, cell: Cell) {
        if self.pieces.content(cell).is_stack() {
            self.eliminate(cell, self.pieces.stack(cell).height);
        }
    }

    fn eliminate(&mut self, cell: Cell, rings: u16) {
        let mut stack = self.pieces.lift(cell);
        for _ in 0..rings {
            self.pieces.pop_top(&mut stack);
        }
        self.pieces.set_down(cell, stack);
        self.mover_score().eliminated += rings;
    }

    /// Victory, rotation and the tracker (RULES sections 12 to 14).
    fn end_turn(&mut self) {
        if let Some(outcome) = self.victory() {
            return self.finish(outcome);
        }
        self.mover = self.next_mover();
        self.flags = Flags::default();
        self.enter(Phase::Placement, NO_CELL);
        if let Some(outcome) = self.track_turn_start() {
            self.finish(outcome);
        }
    }

    /// The next seat in turn order with any ring; the mover again if nobody else has one.
    fn next_mover(&self) -> Seat {
        let players = self.configuration.players() as u8;
        (1..players)
            .map(|step| Seat((self.mover.0 + step) % players))
            .find(|&seat| self.has_rings(seat))
            .unwrap_or(self.mover)
    }
}
