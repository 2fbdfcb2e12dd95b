//! Static tables of each board, built once: coordinates, rays, neighbours, axes (RULES section 1).

use std::sync::LazyLock;

use crate::{Board, Cell};

/// Steps `(dx, dy)` of the square boards, in the order of the rules.
const SQUARE_STEPS: [(i32, i32); 8] = [
    (1, 0),
    (1, 1),
    (0, 1),
    (-1, 1),
    (-1, 0),
    (-1, -1),
    (0, -1),
    (1, -1),
];
/// Steps of the hexagonal boards in axial coordinates, in the order of the rules.
const HEX_STEPS: [(i32, i32); 6] = [(1, 0), (0, 1), (-1, 1), (-1, 0), (0, -1), (1, -1)];
/// For each line axis in the order of the rules, the direction in which cell numbers rise.
const SQUARE_AXES: [usize; 4] = [0, 2, 1, 3];
const HEX_AXES: [usize; 3] = [0, 2, 1];

static GEOMETRIES: LazyLock<[Geometry; 4]> = LazyLock::new(|| Board::ALL.map(Geometry::build));

/// A row of cells with consecutive numbers, for scanning a board row by row.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Number of its first cell.
    pub start: usize,
    /// Number of cells, at most 25.
    pub length: usize,
    /// Column of its first cell, counted from the leftmost column of the board.
    pub column: usize,
}

/// The tables of one board. Everything is indexed by cell number, direction number or axis number in the order of
/// RULES section 1.
#[derive(Debug)]
pub struct Geometry {
    board: Board,
    coordinates: Vec<(i8, i8)>,
    rows: Vec<Row>,
    steps: &'static [(i32, i32)],
    axes: &'static [usize],
    /// All rays one after another, by cell and then by direction.
    ray_cells: Vec<Cell>,
    /// Where ray `cell * directions + direction` starts in `ray_cells`; one more entry closes the last ray.
    ray_starts: Vec<u32>,
    adjacent: Neighbours,
    territory: Neighbours,
    closure: Neighbours,
}

/// Neighbour lists of every cell, one after another.
#[derive(Debug, Default)]
struct Neighbours {
    cells: Vec<Cell>,
    starts: Vec<u32>,
}

impl Neighbours {
    fn build(lists: impl Iterator<Item = Vec<Cell>>) -> Self {
        let mut neighbours = Self {
            cells: Vec::new(),
            starts: vec![0],
        };
        for list in lists {
            neighbours.cells.extend(list);
            neighbours.starts.push(neighbours.cells.len() as u32);
        }
        neighbours
    }

    #[inline]
    fn of(&self, cell: Cell) -> &[Cell] {
        let i = usize::from(cell);
        &self.cells[self.starts[i] as usize..self.starts[i + 1] as usize]
    }
}

impl Geometry {
    /// The tables of `board`.
    pub fn of(board: Board) -> &'static Self {
        &GEOMETRIES[board as usize]
    }

    fn build(board: Board) -> Self {
        let (steps, axes): (&[_], &[_]) = if board.is_hex() {
            (&HEX_STEPS, &HEX_AXES)
        } else {
            (&SQUARE_STEPS, &SQUARE_AXES)
        };
        let rows = rows(board);
        let mut geometry = Self {
            board,
            coordinates: coordinates(board),
            rows,
            steps,
            axes,
            ray_cells: Vec::new(),
            ray_starts: vec![0],
            adjacent: Neighbours::default(),
            territory: Neighbours::default(),
            closure: Neighbours::default(),
        };
        geometry.cast_rays();
        geometry.adjacent = geometry.neighbours_by(steps);
        geometry.territory = geometry.neighbours_by(if board.is_hex() {
            &HEX_STEPS
        } else {
            &[(1, 0), (0, 1), (-1, 0), (0, -1)]
        });
        // The reference engine applies the square offsets to hex8's axial coordinates too, and nothing on hexagonal.
        geometry.closure = geometry.neighbours_by(if board == Board::Hexagonal {
            &[]
        } else {
            &SQUARE_STEPS
        });
        geometry
    }

    fn cast_rays(&mut self) {
        for cell in 0..self.board.cells() as Cell {
            for &(dx, dy) in self.steps {
                let (mut x, mut y) = self.coordinates(cell);
                while let Some(next) = self.cell_at(x + dx, y + dy) {
                    self.ray_cells.push(next);
                    (x, y) = (x + dx, y + dy);
                }
                self.ray_starts.push(self.ray_cells.len() as u32);
            }
        }
    }

    fn neighbours_by(&self, steps: &[(i32, i32)]) -> Neighbours {
        Neighbours::build((0..self.board.cells() as Cell).map(|cell| {
            let (x, y) = self.coordinates(cell);
            steps
                .iter()
                .filter_map(|&(dx, dy)| self.cell_at(x + dx, y + dy))
                .collect()
        }))
    }

    /// The board these tables describe.
    pub fn board(&self) -> Board {
        self.board
    }

    /// Number of cells.
    pub fn cells(&self) -> usize {
        self.coordinates.len()
    }

    /// Coordinates `(x, y)` of `cell`: from 0 on squares, axial around the centre on hexagons.
    pub fn coordinates(&self, cell: Cell) -> (i32, i32) {
        let (x, y) = self.coordinates[usize::from(cell)];
        (i32::from(x), i32::from(y))
    }

    /// The cell at `(x, y)`, if the board has one there.
    pub fn cell_at(&self, x: i32, y: i32) -> Option<Cell> {
        let offset = self.offset();
        let row = self
            .rows
            .get(usize::try_from(y.checked_add(offset)?).ok()?)?;
        let column = usize::try_from(x.checked_add(offset)?).ok()?;
        let place = column.checked_sub(row.column)?;
        (place < row.length).then(|| (row.start + place) as Cell)
    }

    /// What to add to a coordinate to count rows and columns from 0.
    pub fn offset(&self) -> i32 {
        radius(self.board).unwrap_or(0)
    }

    /// Rows (and columns) of the smallest square that holds the board.
    pub fn size(&self) -> usize {
        self.rows.len()
    }

    /// The rows from top to bottom.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Number of directions for moves, captures and lines: 8 or 6.
    #[inline]
    pub fn directions(&self) -> usize {
        self.steps.len()
    }

    /// The step `(dx, dy)` of `direction`.
    pub fn step(&self, direction: usize) -> (i32, i32) {
        self.steps[direction]
    }

    /// The direction that undoes `direction`.
    #[inline]
    pub fn opposite(&self, direction: usize) -> usize {
        (direction + self.steps.len() / 2) % self.steps.len()
    }

    /// The cells from `cell` (not included) to the edge in `direction`, nearest first.
    #[inline]
    pub fn ray(&self, cell: Cell, direction: usize) -> &[Cell] {
        let i = usize::from(cell) * self.steps.len() + direction;
        &self.ray_cells[self.ray_starts[i] as usize..self.ray_starts[i + 1] as usize]
    }

    /// The rays of `cell` in all directions, in order.
    #[inline]
    pub fn rays(&self, cell: Cell) -> impl Iterator<Item = &[Cell]> {
        let first = usize::from(cell) * self.steps.len();
        self.ray_starts[first..=first + self.steps.len()]
            .windows(2)
            .map(|ends| &self.ray_cells[ends[0] as usize..ends[1] as usize])
    }

    /// The direction and distance (in steps) from one cell to another on a common ray.
    pub fn direction_and_distance(&self, from: Cell, to: Cell) -> Option<(usize, usize)> {
        let ((x, y), (tx, ty)) = (self.coordinates(from), self.coordinates(to));
        let (dx, dy) = (tx - x, ty - y);
        if dx != 0 && dy != 0 && dx.abs() != dy.abs() {
            return None;
        }
        let step = (dx.signum(), dy.signum());
        let direction = self.steps.iter().position(|&s| s == step)?;
        let distance = dx.abs().max(dy.abs());
        Some((direction, distance as usize))
    }

    /// Number of line axes: 4 or 3.
    #[inline]
    pub fn axes(&self) -> usize {
        self.axes.len()
    }

    /// The direction along `axis` in which cell numbers rise.
    #[inline]
    pub fn axis_direction(&self, axis: usize) -> usize {
        self.axes[axis]
    }

    /// The `length` cells from `low` along `axis`, ascending; fewer where the board ends.
    pub fn cells_along(
        &'static self,
        axis: u8,
        low: Cell,
        length: usize,
    ) -> impl Iterator<Item = Cell> + use<> {
        let ray = self.ray(low, self.axis_direction(usize::from(axis)));
        std::iter::once(low).chain(ray.iter().copied()).take(length)
    }

    /// Neighbours for recovery slides: one step in every direction.
    #[inline]
    pub fn adjacent(&self, cell: Cell) -> &[Cell] {
        self.adjacent.of(cell)
    }

    /// Neighbours for regions: four on squares, six on hexagons.
    #[inline]
    pub fn territory_adjacent(&self, cell: Cell) -> &[Cell] {
        self.territory.of(cell)
    }

    /// Neighbours through which a region's border spreads over markers: the eight square offsets, none on hexagonal.
    #[inline]
    pub fn closure_adjacent(&self, cell: Cell) -> &[Cell] {
        self.closure.of(cell)
    }
}

/// Radius of a hexagonal board.
fn radius(board: Board) -> Option<i32> {
    match board {
        Board::Square8 | Board::Square19 => None,
        Board::Hex8 => Some(4),
        Board::Hexagonal => Some(12),
    }
}

fn rows(board: Board) -> Vec<Row> {
    let mut start = 0;
    let mut row = |length: usize, column: usize| {
        start += length;
        Row {
            start: start - length,
            length,
            column,
        }
    };
    match radius(board) {
        None => {
            let size = board.cells().isqrt();
            (0..size).map(|_| row(size, 0)).collect()
        }
        Some(radius) => (-radius..=radius)
            .map(|y| {
                let column = (-y).max(0) as usize;
                row((2 * radius + 1 - y.abs()) as usize, column)
            })
            .collect(),
    }
}

fn coordinates(board: Board) -> Vec<(i8, i8)> {
    let offset = radius(board).unwrap_or(0);
    let place = |(y, row): (usize, Row)| {
        (0..row.length).map(move |i| ((row.column + i) as i32 - offset, y as i32 - offset))
    };
    let all = rows(board).into_iter().enumerate().flat_map(place);
    all.map(|(x, y)| (x as i8, y as i8)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example indices of the rules digest, and every cell through both directions of the mapping.
    #[test]
    fn cells_are_numbered_row_by_row() {
        let hex8 = Geometry::of(Board::Hex8);
        let at = |x, y| hex8.cell_at(x, y).unwrap();
        assert_eq!(
            [at(0, -4), at(4, -4), at(-1, -3), at(0, 0), at(0, 4)],
            [0, 4, 5, 30, 60]
        );
        assert_eq!(Geometry::of(Board::Square8).cell_at(3, 1), Some(11));
        for board in Board::ALL {
            let geometry = Geometry::of(board);
            assert_eq!(geometry.cells(), board.cells());
            for cell in 0..geometry.cells() as Cell {
                let (x, y) = geometry.coordinates(cell);
                assert_eq!(geometry.cell_at(x, y), Some(cell));
            }
            assert_eq!(geometry.cell_at(i32::MAX, 0), None);
            assert_eq!(geometry.cell_at(-100, i32::MIN), None);
        }
    }

    /// A ray reversed leads back, and distances agree with the place on the ray.
    #[test]
    fn rays_and_distances_agree() {
        for board in Board::ALL {
            let geometry = Geometry::of(board);
            for cell in 0..geometry.cells() as Cell {
                for direction in 0..geometry.directions() {
                    for (i, &to) in geometry.ray(cell, direction).iter().enumerate() {
                        assert_eq!(
                            geometry.direction_and_distance(cell, to),
                            Some((direction, i + 1))
                        );
                        assert_eq!(geometry.ray(to, geometry.opposite(direction))[i], cell);
                    }
                }
                for axis in 0..geometry.axes() {
                    let ray = geometry.ray(cell, geometry.axis_direction(axis));
                    assert!(ray.iter().all(|&next| next > cell));
                }
            }
        }
    }
}
