//! Regions (RULES section 10), found by scanning the board row by row and joining runs of cells.

use std::convert::Infallible;
use std::ops::ControlFlow::{self, Break, Continue};

use crate::cells::BitSet;
use crate::configuration::Seat;
use crate::position::ProcessableRegion;
use crate::state::State;
use crate::{Action, Cell};

/// A region the player to move may process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region {
    /// Number (from 1) of the seat whose markers wall it, 0 when no marker touches it from outside.
    pub(crate) wall: u8,
    pub(crate) low: Cell,
}

/// A horizontal run of open cells, joined to others through `parent`; the root of a component sums it up.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    /// Its cells in the columns of the board.
    columns: u32,
    parent: u16,
    /// Lowest cell.
    low: Cell,
    /// Payers inside.
    payers: u16,
    /// Seats that control a stack inside, as bits.
    controllers: u8,
    /// Whether a marker of the wall's colour touches it.
    walled: bool,
}

/// The components of one pass.
struct Scan<const CELLS: usize> {
    runs: [Run; CELLS],
    count: usize,
}

impl<const CELLS: usize> Scan<CELLS> {
    fn root(&mut self, mut run: usize) -> usize {
        while usize::from(self.runs[run].parent) != run {
            let parent = usize::from(self.runs[run].parent);
            self.runs[run].parent = self.runs[parent].parent;
            run = usize::from(self.runs[run].parent);
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

impl<const WORDS: usize, const CELLS: usize, const RINGS: usize> State<WORDS, CELLS, RINGS> {
    /// Stacks that can pay for a region: the mover's, or in a recovered turn those with a buried ring of the mover.
    fn payers(&self) -> BitSet<WORDS> {
        if self.flags.recovered {
            self.pieces.buried_of(self.mover)
        } else {
            *self.own_stacks()
        }
    }

    /// Calls `visit` for every region that the mover may process, each once, until it breaks.
    pub(crate) fn processable<B>(
        &self,
        mut visit: impl FnMut(Region) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let payers = self.payers();
        if payers.is_empty() {
            return Continue(());
        }
        let payer_count = payers.len() as u16;
        let colours = self
            .configuration
            .seats()
            .filter(|&seat| self.pieces.rings_of(seat) > 0)
            .count();
        let mut unwalled = BitSet::<WORDS>::EMPTY;
        let walls = self
            .configuration
            .seats()
            .filter(|&seat| !self.pieces.markers_of(seat).is_empty());
        for wall in walls.map(Some).chain([None]) {
            let scan = self.scan(wall, &payers);
            for root in (0..scan.count).filter(|&run| usize::from(scan.runs[run].parent) == run) {
                let component = &scan.runs[root];
                let represented = component.controllers.count_ones() as usize;
                let is_region = match wall {
                    Some(_) => represented < colours,
                    None => represented == 1 && colours > 1,
                };
                if !is_region || component.payers == payer_count {
                    continue;
                }
                if let (true, Some(seat)) = (component.walled, wall) {
                    visit(Region {
                        wall: seat.number(),
                        low: component.low,
                    })?;
                } else if !unwalled.contains(component.low) {
                    // Several passes find it; its lowest cell identifies it among the regions without a wall.
                    unwalled.insert(component.low);
                    visit(Region {
                        wall: 0,
                        low: component.low,
                    })?;
                }
            }
        }
        Continue(())
    }

    /// The components of the board without collapsed cells and without the markers of `wall`.
    fn scan(&self, wall: Option<Seat>, payers: &BitSet<WORDS>) -> Scan<CELLS> {
        let walls = wall.map_or(BitSet::EMPTY, |seat| *self.pieces.markers_of(seat));
        let closed = self.pieces.all_collapsed() | walls;
        let mut scan = Scan {
            runs: [Run::default(); CELLS],
            count: 0,
        };
        let mut previous = 0..0;
        for y in 0..self.geometry.size() {
            let row = self.geometry.rows()[y];
            let columns = |set: &BitSet<WORDS>| set.bits(row.start, row.length) << row.column;
            let mut open = (u32::MAX >> (32 - row.length)) << row.column & !columns(&closed);
            let beside_wall = if wall.is_some() {
                self.beside(&walls, y)
            } else {
                0
            };
            let payers = columns(payers);
            let stacks = self.pieces.stacks_columns(row);
            let begin = scan.count;
            while open != 0 {
                // Adding the lowest bit carries through the lowest run and clears it.
                let rest = open & (open + (open & open.wrapping_neg()));
                let run = open ^ rest;
                open = rest;
                let controllers = (0..4).map(|i| u8::from(stacks[i] & run != 0) << i).sum();
                let place = run.trailing_zeros() as usize - row.column;
                scan.runs[scan.count] = Run {
                    columns: run,
                    parent: scan.count as u16,
                    low: (row.start + place) as Cell,
                    payers: (payers & run).count_ones() as u16,
                    controllers,
                    walled: beside_wall & run != 0,
                };
                scan.count += 1;
                let reach = if self.configuration.board().is_hex() {
                    run | run << 1
                } else {
                    run
                };
                for above in previous.clone() {
                    if scan.runs[above].columns & reach != 0 {
                        scan.join(above, scan.count - 1);
                    }
                }
            }
            previous = begin..scan.count;
        }
        scan
    }

    /// The columns of row `y` whose cells touch a cell of `walls`.
    fn beside(&self, walls: &BitSet<WORDS>, y: usize) -> u32 {
        let rows = self.geometry.rows();
        let columns = |y: usize| {
            rows.get(y)
                .map_or(0, |row| walls.bits(row.start, row.length) << row.column)
        };
        let (above, here, below) = (columns(y.wrapping_sub(1)), columns(y), columns(y + 1));
        let straight = here << 1 | here >> 1 | above | below;
        if self.configuration.board().is_hex() {
            straight | above >> 1 | below << 1
        } else {
            straight
        }
    }

    pub(crate) fn has_processable(&self) -> bool {
        self.processable(|_| Break(())).is_break()
    }

    /// The cells of `region`, in ascending order as a set.
    pub(crate) fn region_cells(&self, region: Region) -> BitSet<WORDS> {
        let wall = region.wall.checked_sub(1).map(Seat);
        let closed = |cell: Cell| {
            let content = self.pieces.content(cell);
            content.is_collapsed() || (content.is_marker() && Some(content.owner()) == wall)
        };
        let mut cells = BitSet::EMPTY;
        cells.insert(region.low);
        self.spread(
            cells,
            |cell| self.geometry.territory_adjacent(cell),
            |cell| !closed(cell),
        )
    }

    /// `cells` and everything `open` that can be reached from them.
    fn spread(
        &self,
        mut cells: BitSet<WORDS>,
        neighbours: impl Fn(Cell) -> &'static [Cell],
        open: impl Fn(Cell) -> bool,
    ) -> BitSet<WORDS> {
        let mut frontier = cells;
        while let Some(cell) = frontier.first() {
            frontier.remove(cell);
            for &next in neighbours(cell) {
                if !cells.contains(next) && open(next) {
                    cells.insert(next);
                    frontier.insert(next);
                }
            }
        }
        cells
    }

    /// Markers that collapse with the region `cells` (RULES 10.3).
    fn border(&self, cells: &BitSet<WORDS>) -> BitSet<WORDS> {
        let markers = self.pieces.all_markers() - *cells;
        let around = cells
            .iter()
            .flat_map(|cell| self.geometry.territory_adjacent(cell));
        let border = around
            .copied()
            .filter(|&cell| markers.contains(cell))
            .collect();
        self.spread(
            border,
            |cell| self.geometry.closure_adjacent(cell),
            |cell| markers.contains(cell),
        )
    }

    pub(crate) fn processable_regions(&self) -> Vec<ProcessableRegion> {
        let mut regions = Vec::new();
        let Continue(()) = self.processable(|region| {
            let Region { wall, low } = region;
            regions.push(ProcessableRegion {
                wall,
                low,
                cells: self.region_cells(region).widen(),
            });
            Continue::<Infallible>(())
        });
        regions
    }

    pub(crate) fn legal_territory(&self, actions: &mut Vec<Action>) {
        if self.flags.territory_due {
            let recovered = self.flags.recovered;
            actions.extend(self.payers().iter().map(|from| {
                if recovered {
                    Action::PayExtraction { from }
                } else {
                    Action::PayTerritory { from }
                }
            }));
            return;
        }
        let list = |Region { wall, low }: Region| {
            actions.push(Action::Territory { wall, low });
            Continue::<Infallible>(())
        };
        let Continue(()) = self.processable(list);
        let skip = if actions.is_empty() {
            Action::NoTerritory
        } else {
            Action::SkipTerritory
        };
        actions.push(skip);
    }

    pub(crate) fn process_region(&mut self, region: Region) {
        self.process_cells(self.region_cells(region));
    }

    /// Eliminates what is inside `cells`, collapses them and the border; the price is due.
    pub(crate) fn process_cells(&mut self, cells: BitSet<WORDS>) {
        for cell in (cells | self.border(&cells)).iter() {
            self.eliminate_stack(cell);
            if self.pieces.content(cell).is_marker() {
                self.pieces.take_marker(cell);
            }
            self.collapse_empty(cell);
        }
        self.flags.acted = true;
        self.flags.territory_due = true;
    }
}
