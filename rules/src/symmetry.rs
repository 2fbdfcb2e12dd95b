//! Symmetries of the boards that respect the rules: what training may turn and mirror.
//!
//! Squares have eight, hexagonal has twelve, hex8 only four, because the reference engine spreads the border of a
//! region on hex8 over the square offsets `(1, 1)` and `(-1, -1)` (RULES 10.3). One rule is symmetric nowhere:
//! recovery slides collapse the first run along the axes *in their order* (RULES 8.3).

use std::sync::LazyLock;

use crate::{Action, Board, Cell, Geometry, Position};

/// A symmetry of a board: coordinates `(x, y)` go to `(a x + b y, c x + d y)`, seen from the board's centre.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symmetry {
    board: Board,
    matrix: [i32; 4],
    cells: Vec<Cell>,
}

const IDENTITY: [i32; 4] = [1, 0, 0, 1];
const QUARTER_TURN: [i32; 4] = [0, -1, 1, 0];
const SIXTH_TURN: [i32; 4] = [0, -1, 1, 1];
const HALF_TURN: [i32; 4] = [-1, 0, 0, -1];
const SWAP_AXES: [i32; 4] = [0, 1, 1, 0];

static SYMMETRIES: LazyLock<[Vec<Symmetry>; 4]> = LazyLock::new(|| Board::ALL.map(build));

fn multiply([a, b, c, d]: [i32; 4], [e, f, g, h]: [i32; 4]) -> [i32; 4] {
    [a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h]
}

/// All products of `turn` and the exchange of the axes, the identity first.
fn build(board: Board) -> Vec<Symmetry> {
    let (turn, order) = match board {
        Board::Square8 | Board::Square19 => (QUARTER_TURN, 4),
        Board::Hexagonal => (SIXTH_TURN, 6),
        Board::Hex8 => (HALF_TURN, 2),
    };
    let turns =
        std::iter::successors(Some(IDENTITY), |&last| Some(multiply(turn, last))).take(order);
    let with_mirror = |matrix| [matrix, multiply(matrix, SWAP_AXES)];
    turns
        .flat_map(with_mirror)
        .map(|matrix| Symmetry::new(board, matrix))
        .collect()
}

impl Symmetry {
    fn new(board: Board, matrix: [i32; 4]) -> Self {
        let geometry = Geometry::of(board);
        // Doubled coordinates, so that the centre of an even square board lies on a whole number.
        let centre = if board.is_hex() {
            0
        } else {
            geometry.size() as i32 - 1
        };
        let [a, b, c, d] = matrix;
        let turn = |cell: Cell| {
            let (x, y) = geometry.coordinates(cell);
            let (x, y) = (2 * x - centre, 2 * y - centre);
            geometry.cell_at((a * x + b * y + centre) / 2, (c * x + d * y + centre) / 2)
        };
        let cells = (0..geometry.cells() as Cell).filter_map(turn).collect();
        Self {
            board,
            matrix,
            cells,
        }
    }

    /// The allowed symmetries of `board`, the identity first.
    pub fn of(board: Board) -> &'static [Self] {
        &SYMMETRIES[board as usize]
    }

    /// Where `cell` goes.
    pub fn cell(&self, cell: Cell) -> Cell {
        self.cells[usize::from(cell)]
    }

    /// For each cell where it goes, by cell number.
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// The axis that the cells of `axis` lie on afterwards.
    pub fn axis(&self, axis: u8) -> u8 {
        let geometry = Geometry::of(self.board);
        let [a, b, c, d] = self.matrix;
        let (x, y) = geometry.step(geometry.axis_direction(usize::from(axis)));
        let turned = (a * x + b * y, c * x + d * y);
        let same = |&other: &usize| {
            let direction = geometry.axis_direction(other);
            turned == geometry.step(direction)
                || turned == geometry.step(geometry.opposite(direction))
        };
        // Symmetries map axes to axes: one is always found.
        (0..geometry.axes())
            .find(same)
            .map_or(axis, |found| found as u8)
    }

    /// The whole position turned.
    pub fn position(&self, position: &Position) -> Position {
        position.mapped(&self.cells)
    }

    /// The action that does in the turned position what `action` does in `position`, where `action` is legal.
    pub fn action(&self, position: &Position, action: Action) -> Action {
        let at = |cell| self.cell(cell);
        let window = position.configuration().line_length();
        match action {
            Action::Place { to, count } => Action::Place { to: at(to), count },
            Action::Move { from, to } => Action::Move {
                from: at(from),
                to: at(to),
            },
            Action::Capture { from, over, to } => Action::Capture {
                from: at(from),
                over: at(over),
                to: at(to),
            },
            Action::ContinueCapture { from, over, to } => Action::ContinueCapture {
                from: at(from),
                over: at(over),
                to: at(to),
            },
            Action::RecoverLineAll { from, to, pay } => Action::RecoverLineAll {
                from: at(from),
                to: at(to),
                pay: at(pay),
            },
            Action::RecoverLineWindow {
                from,
                to,
                axis,
                window: low,
            } => {
                let (axis, window) = self.line(axis, low, window);
                Action::RecoverLineWindow {
                    from: at(from),
                    to: at(to),
                    axis,
                    window,
                }
            }
            Action::RecoverFallback { from, to, pay } => Action::RecoverFallback {
                from: at(from),
                to: at(to),
                pay: at(pay),
            },
            Action::RecoverStrike { from, to, pay } => Action::RecoverStrike {
                from: at(from),
                to: at(to),
                pay: at(pay),
            },
            Action::LineAll { axis, low } => {
                let (axis, low) = self.line(axis, low, position.line_around(axis, low).length);
                Action::LineAll { axis, low }
            }
            Action::LineWindow { axis, low } => {
                let (axis, low) = self.line(axis, low, window);
                Action::LineWindow { axis, low }
            }
            Action::PayLine { from } => Action::PayLine { from: at(from) },
            Action::Territory { wall, low } => {
                let cells = position.region_cells(wall, low);
                Action::Territory {
                    wall,
                    low: self.lowest(cells.iter(), low),
                }
            }
            Action::PayTerritory { from } => Action::PayTerritory { from: at(from) },
            Action::PayExtraction { from } => Action::PayExtraction { from: at(from) },
            Action::Eliminate { from } => Action::Eliminate { from: at(from) },
            Action::SkipPlacement
            | Action::NoPlacement
            | Action::Swap
            | Action::SkipCapture
            | Action::SkipRecovery
            | Action::NoMovement
            | Action::NoLine
            | Action::SkipTerritory
            | Action::NoTerritory => action,
        }
    }

    /// Axis and lowest cell of a turned line.
    fn line(&self, axis: u8, low: Cell, length: usize) -> (u8, Cell) {
        let cells = Geometry::of(self.board).cells_along(axis, low, length);
        (self.axis(axis), self.lowest(cells, low))
    }

    /// The lowest cell of the turned `cells`, of which `one` is one.
    fn lowest(&self, cells: impl Iterator<Item = Cell>, one: Cell) -> Cell {
        cells
            .map(|cell| self.cell(cell))
            .fold(self.cell(one), Cell::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The right number of symmetries, all different, all permutations that keep every table the rules use.
    #[test]
    fn symmetries_keep_the_tables() {
        for (board, count) in Board::ALL.into_iter().zip([8, 8, 4, 12]) {
            let (geometry, symmetries) = (Geometry::of(board), Symmetry::of(board));
            assert_eq!(symmetries.len(), count);
            for (i, symmetry) in symmetries.iter().enumerate() {
                assert!(
                    symmetries[..i]
                        .iter()
                        .all(|other| other.cells != symmetry.cells)
                );
                let sorted = |cells: &[Cell]| {
                    let mut cells = cells.to_vec();
                    cells.sort_unstable();
                    cells
                };
                assert_eq!(
                    sorted(&symmetry.cells),
                    (0..board.cells() as Cell).collect::<Vec<_>>()
                );
                for cell in 0..board.cells() as Cell {
                    let turned = |cells: &[Cell]| {
                        sorted(
                            &cells
                                .iter()
                                .map(|&cell| symmetry.cell(cell))
                                .collect::<Vec<_>>(),
                        )
                    };
                    let to = symmetry.cell(cell);
                    assert_eq!(
                        turned(geometry.adjacent(cell)),
                        sorted(geometry.adjacent(to))
                    );
                    assert_eq!(
                        turned(geometry.territory_adjacent(cell)),
                        sorted(geometry.territory_adjacent(to))
                    );
                    assert_eq!(
                        turned(geometry.closure_adjacent(cell)),
                        sorted(geometry.closure_adjacent(to))
                    );
                }
            }
            assert_eq!(symmetries[0].matrix, IDENTITY);
        }
    }

    /// The groups are whole: of all turns and reflections of the plain board, those that are not listed break a table
    /// that the rules use. Only hex8 has such, eight of twelve.
    #[test]
    fn no_symmetry_is_missing() {
        for board in Board::ALL {
            let (geometry, listed) = (Geometry::of(board), Symmetry::of(board));
            let (turn, order) = if board.is_hex() {
                (SIXTH_TURN, 6)
            } else {
                (QUARTER_TURN, 4)
            };
            let turns = std::iter::successors(Some(IDENTITY), |&last| Some(multiply(turn, last)));
            let all = turns
                .take(order)
                .flat_map(|matrix| [matrix, multiply(matrix, SWAP_AXES)]);
            for matrix in all {
                let symmetry = Symmetry::new(board, matrix);
                let keeps_closure = (0..board.cells() as Cell).all(|cell| {
                    let to = symmetry.cell(cell);
                    let mut turned: Vec<_> = geometry
                        .closure_adjacent(cell)
                        .iter()
                        .map(|&next| symmetry.cell(next))
                        .collect();
                    let mut expected = geometry.closure_adjacent(to).to_vec();
                    turned.sort_unstable();
                    expected.sort_unstable();
                    turned == expected
                });
                let is_listed = listed.iter().any(|known| known.cells == symmetry.cells);
                assert_eq!(keeps_closure, is_listed, "{board}: {matrix:?}");
            }
        }
    }
}
