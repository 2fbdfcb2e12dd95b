//! How a board lies on the square the network sees.

use std::sync::LazyLock;

use riftmesh_rules::Board;

/// Taps of a 3x3 kernel in row-major order: tap `3 * (dy + 1) + (dx + 1)`.
pub const TAPS: usize = 9;

/// The square a board is drawn on: a square board as it is, a hexagon of radius R at column `x + R` and row `y + R`
/// of a square of side `2R + 1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    side: usize,
    squares: Vec<u16>,
    taps: [bool; TAPS],
}

static FRAMES: LazyLock<[Frame; 4]> = LazyLock::new(|| Board::ALL.map(Frame::new));

impl Frame {
    /// The square of `board`.
    pub fn of(board: Board) -> &'static Self {
        &FRAMES[board as usize]
    }

    fn new(board: Board) -> Self {
        match board {
            Board::Square8 => Self::square(8),
            Board::Square19 => Self::square(19),
            // Its rules let the border of a region spread over (1, 1) and (-1, -1).
            Board::Hex8 => Self::hexagon(4, true),
            Board::Hexagonal => Self::hexagon(12, false),
        }
    }

    /// A square board of `side` x `side` cells.
    pub fn square(side: usize) -> Self {
        let squares = (0..side * side).map(narrow).collect();
        Self {
            side,
            squares,
            taps: [true; TAPS],
        }
    }

    /// A hexagon of radius `radius`. On the square its six neighbours are the 3x3 window without (1, 1) and (-1, -1);
    /// `diagonal` keeps those two taps, for boards whose rules use them as neighbours somewhere (hex8: LEARNING 3).
    pub fn hexagon(radius: usize, diagonal: bool) -> Self {
        let side = 2 * radius + 1;
        let on_board = |square: &usize| {
            let (column, row) = (square % side, square / side);
            column + row >= radius && column + row <= 3 * radius
        };
        let squares = (0..side * side).filter(on_board).map(narrow).collect();
        let mut taps = [true; TAPS];
        taps[0] = diagonal;
        taps[TAPS - 1] = diagonal;
        Self {
            side,
            squares,
            taps,
        }
    }

    /// Columns, and rows, of the square.
    pub fn side(&self) -> usize {
        self.side
    }

    /// Squares in all, on the board or not.
    pub fn area(&self) -> usize {
        self.side * self.side
    }

    /// Cells of the board.
    pub fn cells(&self) -> usize {
        self.squares.len()
    }

    /// The square (row-major) of each cell, ascending.
    pub fn squares(&self) -> &[u16] {
        &self.squares
    }

    /// Which taps of a 3x3 kernel connect neighbours.
    pub fn taps(&self) -> [bool; TAPS] {
        self.taps
    }

    /// 1 on squares that are cells, 0 elsewhere; `area` values.
    pub fn mask(&self) -> Vec<f32> {
        let mut mask = vec![0.0; self.area()];
        for &square in &self.squares {
            mask[usize::from(square)] = 1.0;
        }
        mask
    }
}

fn narrow(square: usize) -> u16 {
    #[expect(clippy::expect_used, reason = "the largest board is a 25 x 25 square")]
    u16::try_from(square).expect("boards are far smaller than 256 x 256")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cell counts and numbering of RULES section 1.
    #[test]
    fn hexagons_have_the_cells_of_the_rules() {
        let hex8 = Frame::of(Board::Hex8);
        assert_eq!((hex8.side(), hex8.cells()), (9, 61));
        // Cell 0 is (0, -4), cell 5 is (-1, -3), cell 30 is (0, 0).
        assert_eq!(hex8.squares()[0], 4);
        assert_eq!(hex8.squares()[5], 9 + 3);
        assert_eq!(hex8.squares()[30], 4 * 9 + 4);
        let hexagonal = Frame::of(Board::Hexagonal);
        assert_eq!((hexagonal.side(), hexagonal.cells()), (25, 469));
        assert!(!hexagonal.taps()[0] && hexagonal.taps()[1] && !hexagonal.taps()[8]);
    }
}
