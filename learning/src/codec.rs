//! The exact numbering of choices: one index space per board, in which no two choices of one decision ever meet.
//!
//! An index is `plane * cells + cell`, followed by [`SPECIALS`] indices without a cell. Planes, in order:
//!
//! | planes | cell means |
//! | --- | --- |
//! | place 1, 2 or 3 rings | target |
//! | ray: direction, then distance from 1 | origin of a plain move, capture, chain capture or recovery slide |
//! | whole line: axis | lowest cell of the line |
//! | line window: axis | lowest cell of the window |
//! | pay here, at any price | the stack |
//! | territory: walled by nobody, or by the player 0 to 3 seats after the decider | lowest cell of the region |
//!
//! Rays are unique because a landing before the first stack is a move and one beyond it a capture of that stack.
//! Regions need the colour of their wall because regions of different colours nest and share their lowest cell.

use std::sync::LazyLock;

use riftmesh_rules::{Action, Board, Cell, Geometry, Seat};

use crate::decision::{Choice, Decision};

/// Changes whenever an index changes its meaning. Stored with games and weights.
pub const CODEC_VERSION: u16 = 1;

/// Choices without a cell: skip placement, capture, recovery, territory; swap; one to spare.
pub const SPECIALS: usize = 6;

const PLACE_PLANES: usize = 3;
const TERRITORY_PLANES: usize = 5;

const SKIP_PLACEMENT: usize = 0;
const SKIP_CAPTURE: usize = 1;
const SKIP_RECOVERY: usize = 2;
const SKIP_TERRITORY: usize = 3;
const SWAP: usize = 4;

static CODECS: LazyLock<[Codec; 4]> = LazyLock::new(|| Board::ALL.map(Codec::new));

/// The numbering of one board.
#[derive(Debug)]
pub struct Codec {
    geometry: &'static Geometry,
    cells: usize,
    /// Most steps along a ray.
    distances: usize,
    line_plane: usize,
    window_plane: usize,
    pay_plane: usize,
    territory_plane: usize,
    planes: usize,
}

impl Codec {
    /// The numbering of `board`.
    pub fn of(board: Board) -> &'static Self {
        &CODECS[board as usize]
    }

    fn new(board: Board) -> Self {
        let geometry = Geometry::of(board);
        let distances = geometry.size() - 1;
        let line_plane = PLACE_PLANES + geometry.directions() * distances;
        let window_plane = line_plane + geometry.axes();
        let pay_plane = window_plane + geometry.axes();
        let territory_plane = pay_plane + 1;
        Self {
            geometry,
            cells: geometry.cells(),
            distances,
            line_plane,
            window_plane,
            pay_plane,
            territory_plane,
            planes: territory_plane + TERRITORY_PLANES,
        }
    }

    /// Number of planes that have a cell.
    pub fn planes(&self) -> usize {
        self.planes
    }

    /// Number of cells of the board.
    pub fn cells(&self) -> usize {
        self.cells
    }

    /// Number of indices: `planes * cells + SPECIALS`.
    pub fn size(&self) -> usize {
        self.planes * self.cells + SPECIALS
    }

    /// The index of one of the decision's choices.
    ///
    /// # Panics
    /// When `choice` has none: it is not a choice of this board, and going on would train on a wrong move.
    pub fn encode(&self, decision: &Decision, choice: Choice) -> u32 {
        let index = match choice {
            Choice::Slide { from, to } => self.ray(from, to),
            Choice::Act(action) => self.action(decision, action),
        };
        let Some(index) = index else {
            panic!("{choice:?} has no index in {}", decision.position());
        };
        index as u32
    }

    /// Replaces the content of `indices` by those of all choices, in their order.
    pub fn encode_all(&self, decision: &Decision, indices: &mut Vec<u32>) {
        indices.clear();
        indices.extend(
            decision
                .choices()
                .iter()
                .map(|choice| self.encode(decision, *choice)),
        );
    }

    /// The choice that has `index`; none when the decision does not offer it.
    pub fn decode(&self, decision: &Decision, index: u32) -> Option<Choice> {
        let choices = decision.choices().iter().copied();
        choices
            .into_iter()
            .find(|choice| self.encode(decision, *choice) == index)
    }

    fn action(&self, decision: &Decision, action: Action) -> Option<usize> {
        match action {
            Action::Place { to, count } => {
                let count = usize::from(count);
                (1..=PLACE_PLANES)
                    .contains(&count)
                    .then(|| self.at(count - 1, to))
            }
            Action::Move { from, to }
            | Action::Capture { from, to, .. }
            | Action::ContinueCapture { from, to, .. } => self.ray(from, to),
            Action::LineAll { axis, low } => {
                Some(self.at(self.line_plane + usize::from(axis), low))
            }
            Action::LineWindow { axis, low }
            | Action::RecoverLineWindow {
                axis, window: low, ..
            } => Some(self.at(self.window_plane + usize::from(axis), low)),
            Action::PayLine { from: stack }
            | Action::PayTerritory { from: stack }
            | Action::PayExtraction { from: stack }
            | Action::Eliminate { from: stack }
            | Action::RecoverLineAll { pay: stack, .. }
            | Action::RecoverFallback { pay: stack, .. }
            | Action::RecoverStrike { pay: stack, .. } => Some(self.at(self.pay_plane, stack)),
            Action::Territory { wall, low } => {
                let plane = wall_plane(decision, wall)?;
                Some(self.at(self.territory_plane + plane, low))
            }
            Action::SkipPlacement => Some(self.special(SKIP_PLACEMENT)),
            Action::SkipCapture => Some(self.special(SKIP_CAPTURE)),
            Action::SkipRecovery => Some(self.special(SKIP_RECOVERY)),
            Action::SkipTerritory => Some(self.special(SKIP_TERRITORY)),
            Action::Swap => Some(self.special(SWAP)),
            // Always without an alternative, so never a choice.
            Action::NoPlacement | Action::NoMovement | Action::NoLine | Action::NoTerritory => None,
        }
    }

    fn at(&self, plane: usize, cell: Cell) -> usize {
        plane * self.cells + usize::from(cell)
    }

    fn special(&self, number: usize) -> usize {
        self.planes * self.cells + number
    }

    fn ray(&self, from: Cell, to: Cell) -> Option<usize> {
        let (direction, distance) = self.geometry.direction_and_distance(from, to)?;
        Some(self.at(
            PLACE_PLANES + direction * self.distances + distance - 1,
            from,
        ))
    }
}

/// 0 for no wall, else one more than the seats from the decider to the owner of the wall.
fn wall_plane(decision: &Decision, wall: u8) -> Option<usize> {
    let Some(owner) = wall.checked_sub(1) else {
        return Some(0);
    };
    let players = decision.position().configuration().players();
    let Seat(decider) = decision.decider()?;
    Some(1 + (usize::from(owner) + players - usize::from(decider)) % players)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sizes that weights are shaped by.
    #[test]
    fn sizes_are_pinned() {
        let sizes = Board::ALL.map(|board| (Codec::of(board).planes(), Codec::of(board).size()));
        assert_eq!(
            sizes,
            [(73, 4_678), (161, 58_127), (63, 3_849), (159, 74_577)]
        );
    }
}
