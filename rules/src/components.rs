//! Connected components of a board with some cells closed, found by scanning it row by row and joining runs of cells.

use std::ops::Range;

use crate::cells::BitSet;
use crate::configuration::{PLAYERS_MAX, Seat};
use crate::geometry::Row;
use crate::rows::Rows;
use crate::state::State;
use crate::{Cell, Geometry};

/// A horizontal run of open cells, joined to others through `parent`; the root of a component sums it up.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Run {
    /// Its cells as columns of the board.
    columns: u32,
    parent: u16,
    /// Lowest cell.
    pub(crate) low: Cell,
    /// Payers inside.
    pub(crate) payers: u16,
    /// Seats that control a stack inside, as bits.
    pub(crate) controllers: u8,
    /// Whether a marker of the wall's colour touches it.
    pub(crate) walled: bool,
}

/// The components of one pass. Every run but a row's last is followed by a closed cell, so `CELLS` are enough.
pub(crate) struct Components<const CELLS: usize> {
    runs: [Run; CELLS],
    count: usize,
}

/// What one row contributes, as columns of the board.
struct RowBits {
    row: Row,
    open: u32,
    beside_wall: u32,
    payers: u32,
    stacks: [u32; PLAYERS_MAX],
}

impl<const CELLS: usize> Components<CELLS> {
    /// One summary per component, by lowest cell.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Run> {
        let runs = self.runs[..self.count].iter().enumerate();
        runs.filter(|(i, run)| usize::from(run.parent) == *i)
            .map(|(_, run)| run)
    }

    /// Adds the runs of a row and joins them to those of the row above, which are `above`.
    fn add_row(&mut self, bits: &RowBits, above: Range<usize>, hex: bool) -> Range<usize> {
        let (begin, mut open, mut first) = (self.count, bits.open, above.start);
        while open != 0 {
            // Adding the lowest bit carries through the lowest run and clears it.
            let rest = open & (open + (open & open.wrapping_neg()));
            let columns = open ^ rest;
            open = rest;
            let added = self.count;
            self.runs[added] = bits.run(columns, added as u16);
            self.count += 1;
            let reach = if hex { columns | columns << 1 } else { columns };
            // Runs that end to the left of this one are of no interest to later ones either.
            while first < above.end && self.runs[first].columns < reach & reach.wrapping_neg() {
                first += 1;
            }
            let overlapping = first..above.end;
            for other in overlapping {
                if self.runs[other].columns & reach == 0 {
                    break;
                }
                self.join(other, added);
            }
        }
        begin..self.count
    }

    fn root(&mut self, mut run: usize) -> usize {
        while usize::from(self.runs[run].parent) != run {
            let parent = usize::from(self.runs[run].parent);
            self.runs[run].parent = self.runs[parent].parent;
            run = parent;
        }
        run
    }

    /// Joins two components under the root that comes first, which holds the lowest cell.
    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        if a == b {
            return;
        }
        let (root, child) = (a.min(b), a.max(b));
        let joined = self.runs[child];
        self.runs[child].parent = root as u16;
        let sum = &mut self.runs[root];
        sum.payers += joined.payers;
        sum.controllers |= joined.controllers;
        sum.walled |= joined.walled;
    }
}

impl RowBits {
    #[inline]
    fn run(&self, columns: u32, number: u16) -> Run {
        let place = columns.trailing_zeros() as usize - self.row.column;
        let control = |i: usize| u8::from(self.stacks[i] & columns != 0) << i;
        Run {
            columns,
            parent: number,
            low: (self.row.start + place) as Cell,
            payers: (self.payers & columns).count_ones() as u16,
            controllers: (0..PLAYERS_MAX).map(control).sum(),
            walled: self.beside_wall & columns != 0,
        }
    }
}

impl<const WORDS: usize, const CELLS: usize, const RINGS: usize> State<WORDS, CELLS, RINGS> {
    /// The components without collapsed cells and without the markers of `wall`, unless there is only one.
    pub(crate) fn components(
        &self,
        wall: Option<Seat>,
        payers: &BitSet<WORDS>,
    ) -> Option<Components<CELLS>> {
        let walls = wall.map_or(BitSet::EMPTY, |seat| *self.pieces.markers_of(seat));
        let closed = self.pieces.all_collapsed() | walls;
        let hex = self.configuration.board().is_hex();
        // A corner has two neighbours on squares and three on hexagons; no cell has fewer.
        if closed.len() < if hex { 3 } else { 2 } {
            return None;
        }
        let open = Rows::without(&closed, self.geometry);
        // Nearly always: the sums below are worth making only when there is something to tell apart.
        if open.in_one_piece(self.geometry) {
            return None;
        }
        let mut components = Components {
            runs: [Run::default(); CELLS],
            count: 0,
        };
        let (mut above, mut near) = (0..0, Near::new(self.geometry, &walls));
        for (number, &row) in self.geometry.rows().iter().enumerate() {
            let bits = RowBits {
                row,
                open: open.row(number),
                beside_wall: near.next(hex),
                payers: columns(payers, row),
                stacks: self.stacks_in(row),
            };
            above = components.add_row(&bits, above, hex);
        }
        Some(components)
    }

    /// For each seat, the columns of `row` where it controls a stack.
    #[inline]
    fn stacks_in(&self, row: Row) -> [u32; PLAYERS_MAX] {
        let mut stacks = [0; PLAYERS_MAX];
        for seat in self.configuration.seats() {
            stacks[seat.index()] = columns(self.pieces.stacks_of(seat), row);
        }
        stacks
    }
}

/// The part of a set in `row`, as columns of the board.
#[inline]
fn columns<const WORDS: usize>(set: &BitSet<WORDS>, row: Row) -> u32 {
    set.bits(row.start, row.length) << row.column
}

/// Row by row, the columns of cells that touch a cell of a set.
struct Near<'a, const WORDS: usize> {
    set: &'a BitSet<WORDS>,
    rows: std::slice::Iter<'a, Row>,
    above: u32,
    here: u32,
    below: u32,
}

impl<'a, const WORDS: usize> Near<'a, WORDS> {
    fn new(geometry: &'a Geometry, set: &'a BitSet<WORDS>) -> Self {
        let mut near = Self {
            set,
            rows: geometry.rows().iter(),
            above: 0,
            here: 0,
            below: 0,
        };
        near.advance();
        near
    }

    fn advance(&mut self) {
        (self.above, self.here) = (self.here, self.below);
        self.below = self.rows.next().map_or(0, |&row| columns(self.set, row));
    }

    /// The next row from the top.
    #[inline]
    fn next(&mut self, hex: bool) -> u32 {
        self.advance();
        let straight = self.here << 1 | self.here >> 1 | self.above | self.below;
        if hex {
            straight | self.above >> 1 | self.below << 1
        } else {
            straight
        }
    }
}
