//! Regions (RULES section 10).

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
        let marked = |seat: &Seat| !self.pieces.markers_of(*seat).is_empty();
        let walls = self.configuration.seats().filter(marked).map(Some);
        for wall in walls.chain([None]) {
            let Some(components) = self.components(wall, &payers) else {
                continue;
            };
            for component in components.iter() {
                let represented = component.controllers.count_ones() as usize;
                let is_region = match wall {
                    Some(_) => represented < colours,
                    None => represented == 1 && colours > 1,
                };
                if !is_region || component.payers == payer_count {
                    continue;
                }
                let low = component.low;
                let wall = wall.filter(|_| component.walled).map_or(0, Seat::number);
                if wall == 0 && unwalled.contains(low) {
                    // Several passes find it; its lowest cell identifies it among the regions without a wall.
                    continue;
                }
                if wall == 0 {
                    unwalled.insert(low);
                }
                visit(Region { wall, low })?;
            }
        }
        Continue(())
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
