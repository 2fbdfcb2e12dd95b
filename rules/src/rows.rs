//! A set of cells as rows of bits: what holds of a cell and its neighbours is worked out for a whole row at a time.

use crate::Geometry;
use crate::cells::BitSet;

/// Rows of the highest board.
const ROWS_MAX: usize = 25;
/// Empty rows above and below the board, so that a look across its edge needs no test.
const MARGIN: usize = 1;

/// One number per row with one bit per column of the board.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows([u32; ROWS_MAX + 2 * MARGIN]);

impl Rows {
    const EMPTY: Self = Self([0; ROWS_MAX + 2 * MARGIN]);

    /// The cells of the board that are not in `set`.
    pub(crate) fn without<const WORDS: usize>(set: &BitSet<WORDS>, geometry: &Geometry) -> Self {
        let mut rows = Self::EMPTY;
        for (columns, row) in rows.0[MARGIN..].iter_mut().zip(geometry.rows()) {
            *columns =
                (!set.bits(row.start, row.length) & (u32::MAX >> (32 - row.length))) << row.column;
        }
        rows
    }

    /// Row `number`, counted from the top of the board.
    #[inline]
    pub(crate) fn row(&self, number: usize) -> u32 {
        self.0[MARGIN + number]
    }

    /// For one, two and three steps, the cells from which some direction leads only over cells of this set that far.
    pub(crate) fn clear_ways(&self, geometry: &Geometry) -> [Self; 3] {
        let board = MARGIN..MARGIN + geometry.size();
        let mut ways = [Self::EMPTY; 3];
        for direction in 0..geometry.directions() {
            let mut onward = *self;
            for way in &mut ways {
                // A way of one step more is a way from the neighbour, which has to be in the set too.
                onward = onward.seen_from(geometry.step(direction), geometry.size());
                for i in board.clone() {
                    way.0[i] |= onward.0[i];
                    onward.0[i] &= self.0[i];
                }
            }
        }
        ways
    }

    /// The cells, and places beside the board, whose neighbour by `step` is in this set of `height` rows.
    #[inline]
    fn seen_from(&self, (dx, dy): (i32, i32), height: usize) -> Self {
        let (left, right) = (u32::from(dx < 0), u32::from(dx > 0));
        let first = MARGIN.wrapping_add_signed(dy as isize);
        let mut seen = Self::EMPTY;
        let rows = seen.0[MARGIN..MARGIN + height].iter_mut();
        for (seen, neighbours) in rows.zip(&self.0[first..first + height]) {
            *seen = neighbours << left >> right;
        }
        seen
    }

    /// Whether every cell can be reached from every other over neighbours as regions have them, six on hexagons and four
    /// on squares.
    ///
    /// Floods the set from its first cell, down the board and up again, until it is full or a round adds nothing. Two
    /// sweeps are enough unless a way winds.
    pub(crate) fn in_one_piece(&self, geometry: &Geometry) -> bool {
        let hex = u32::from(geometry.board().is_hex());
        let end = MARGIN + geometry.size();
        let Some(first) = self.0.iter().position(|&columns| columns != 0) else {
            return true;
        };
        let mut flooded = Self::EMPTY;
        flooded.0[first] = self.0[first] & self.0[first].wrapping_neg();
        loop {
            let mut added = 0;
            for i in first..end {
                let above = flooded.0[i - 1];
                added |= flooded.spread(i, self.0[i], above | above >> hex);
            }
            for i in (first..end - 1).rev() {
                let below = flooded.0[i + 1];
                added |= flooded.spread(i, self.0[i], below | below << hex);
            }
            if flooded.0 == self.0 {
                return true;
            }
            if added == 0 {
                return false;
            }
        }
    }

    /// Floods the runs of `open` in row `i` that `near` reaches or that are flooded in part. Gives what that adds.
    #[inline]
    fn spread(&mut self, i: usize, open: u32, near: u32) -> u32 {
        let before = self.0[i];
        let seeds = (before | near) & open;
        // Adding carries from the lowest seed of a run to its end, and flips what it passes.
        let mut flooded = ((open ^ (open + seeds)) & open) | seeds;
        // To the other side in steps that double: a run is at most 25 cells long.
        let mut passable = open;
        for step in [1, 2, 4, 8, 16] {
            flooded |= passable & flooded >> step;
            passable &= passable >> step;
        }
        self.0[i] = flooded;
        flooded ^ before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::CellSet;
    use crate::hash::mix;
    use crate::{Board, Cell};

    /// Sets of every density on every board, the same in every run.
    fn samples() -> impl Iterator<Item = (&'static Geometry, CellSet)> {
        let boards = Board::ALL.into_iter().map(Geometry::of);
        boards.flat_map(|geometry| {
            (0..2_000).map(move |sample| {
                let closed = |cell: &Cell| mix(sample << 16 | u64::from(*cell)) % 100 < sample % 60;
                let cells = 0..geometry.cells() as Cell;
                (geometry, cells.filter(closed).collect())
            })
        })
    }

    fn in_one_piece_by_cells(geometry: &Geometry, closed: &CellSet) -> bool {
        let open = CellSet::first_cells(geometry.cells()) - *closed;
        let mut reached: CellSet = open.first().into_iter().collect();
        let mut waiting: Vec<Cell> = reached.iter().collect();
        while let Some(cell) = waiting.pop() {
            for &next in geometry.territory_adjacent(cell) {
                if open.contains(next) && !reached.contains(next) {
                    reached.insert(next);
                    waiting.push(next);
                }
            }
        }
        reached == open
    }

    /// Floods row by row and cell by cell agree on which sets fall apart; the sample has many of both.
    #[test]
    fn rows_and_cells_see_the_same_pieces() {
        let mut whole = 0;
        for (geometry, closed) in samples() {
            let rows = Rows::without(&closed, geometry);
            let expected = in_one_piece_by_cells(geometry, &closed);
            assert_eq!(rows.in_one_piece(geometry), expected, "{closed:?}");
            whole += usize::from(expected);
        }
        assert!((1_000..7_000).contains(&whole), "{whole} of 8000 are whole");
    }

    /// A wall that winds through the board needs more than one round.
    #[test]
    fn a_winding_way_is_one_piece() {
        let geometry = Geometry::of(Board::Square8);
        let every_fourth = |cell: &Cell| match cell % 4 {
            1 => cell / 8 != 0,
            3 => cell / 8 != 7,
            _ => false,
        };
        let mut closed: CellSet = (0..64).filter(every_fourth).collect();
        assert!(Rows::without(&closed, geometry).in_one_piece(geometry));
        closed.insert(1);
        assert!(!Rows::without(&closed, geometry).in_one_piece(geometry));
    }

    /// Ways seen by rows are those that the rays have.
    #[test]
    fn clear_ways_are_those_of_the_rays() {
        for (geometry, closed) in samples().step_by(10) {
            let ways = Rows::without(&closed, geometry).clear_ways(geometry);
            for (steps, way) in (1..).zip(ways) {
                for cell in 0..geometry.cells() as Cell {
                    let mut rays = geometry.rays(cell);
                    let clear = rays.any(|ray| {
                        ray.len() >= steps && !ray[..steps].iter().any(|&on| closed.contains(on))
                    });
                    assert_eq!(way.contains(cell, geometry), clear, "{steps} from {cell}");
                }
            }
        }
    }

    impl Rows {
        fn contains(&self, cell: Cell, geometry: &Geometry) -> bool {
            let (x, y) = geometry.coordinates(cell);
            let (x, y) = (x + geometry.offset(), y + geometry.offset());
            self.row(y as usize) >> x & 1 != 0
        }
    }
}
