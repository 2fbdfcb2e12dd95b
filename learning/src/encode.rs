//! What the network sees of a decision: planes over the square frame of the board, and a row of globals.
//!
//! Players are seen from the decider: slot 0 decides, slot `i` sits `i` places later; absent slots are zero. Nothing
//! but the decision enters, so equal decisions look equal whatever happened before.
//!
//! Planes, in order (cell-wise, zero off the board):
//!
//! | planes | value |
//! | --- | --- |
//! | on the board | 1 |
//! | controller of a stack, by slot (4) | 1 |
//! | owner of a marker, by slot (4) | 1 |
//! | owner of territory, by slot (4) | 1 |
//! | height 1, 2, 3, 4, 5 or more (5) | 1 |
//! | height | log2(1 + height) / 4 |
//! | cap 1, 2, 3, 4 or more (4) | 1 |
//! | cap | log2(1 + cap) / 4 |
//! | buried rings, by slot (4) | rings of the colour below the top ring / 4 |
//! | colour just under the cap, by slot (4) | 1 |
//! | actor | 1 on the stack that must move, may capture or must go on; on the marker of a chosen slide |
//! | prefix | 1 on the target of a chosen slide |
//! | regions | 1 on cells of processable regions, when one is to be chosen |
//! | lines | 1 on cells of own finished lines, when one is to be chosen |
//!
//! Globals, in order: phase (7), line price due, territory price due, second step of a slide, players 2/3/4 (3), board
//! in the order of [`Board::ALL`] (4), lines of three cells; per slot: rings in hand / r, eliminated / E, territory / T,
//! markers / N, has rings, controls a stack, took its turn in this round with a real action, or without one (8 each);
//! last-standing candidate by slot (4) and its rounds / 3, opener of the round by slot (4), the decider's absolute seat
//! (4), acted, recovered, swap open.

use std::sync::LazyLock;

use riftmesh_rules::{
    Board, Cell, CellSet, LAST_STANDING_ROUNDS, PLAYERS_MAX, Phase, Position, Seat,
};

use crate::decision::Decision;
use crate::frame::Frame;

/// Changes whenever a number changes its place or meaning. Stored with weights; games do not depend on it.
pub const ENCODER_VERSION: u16 = 1;

/// Number of planes.
pub const PLANES: usize = 36;

/// Number of globals.
pub const GLOBALS: usize = 66;

const ON_BOARD: usize = 0;
const CONTROLLER: usize = 1;
const MARKER: usize = 5;
const TERRITORY: usize = 9;
const HEIGHT: usize = 13;
const HEIGHT_CLASSES: usize = 5;
const HEIGHT_SCALED: usize = 18;
const CAP: usize = 19;
const CAP_CLASSES: usize = 4;
const CAP_SCALED: usize = 23;
const BURIED: usize = 24;
const UNDER_CAP: usize = 28;
const ACTOR: usize = 32;
const PREFIX: usize = 33;
const REGIONS: usize = 34;
const LINES: usize = 35;

/// Phases in which somebody decides, in the order of the globals.
const PHASES: usize = 7;

/// Buried rings of one colour in one stack that give a value of 1.
const BURIED_UNIT: f32 = 4.0;

static ENCODERS: LazyLock<[Encoder; 4]> = LazyLock::new(|| Board::ALL.map(Encoder::new));

/// The encoder of one board.
#[derive(Debug)]
pub struct Encoder {
    frame: &'static Frame,
}

impl Encoder {
    /// The encoder of `board`.
    pub fn of(board: Board) -> &'static Self {
        &ENCODERS[board as usize]
    }

    fn new(board: Board) -> Self {
        Self {
            frame: Frame::of(board),
        }
    }

    /// Numbers in the planes of one decision: `PLANES * side * side`.
    pub fn planes_len(&self) -> usize {
        PLANES * self.frame.area()
    }

    /// Writes what the decider sees: `planes` as `[PLANES, side, side]`, row-major, and `globals` as `[GLOBALS]`.
    /// Whatever was there is overwritten.
    ///
    /// # Panics
    /// When a slice has another length, or the game is over.
    pub fn encode_into(&self, decision: &Decision, planes: &mut [f32], globals: &mut [f32]) {
        assert_eq!(
            (planes.len(), globals.len()),
            (self.planes_len(), GLOBALS),
            "a slot of this board"
        );
        let Some(decider) = decision.decider() else {
            panic!(
                "a finished game has nothing to decide: {}",
                decision.position()
            );
        };
        let view = View {
            position: decision.position(),
            decider,
        };
        let mut sheet = Sheet {
            frame: self.frame,
            planes,
        };
        sheet.planes.fill(0.0);
        sheet.write_cells(view);
        sheet.write_marks(decision);
        let mut row = GlobalRow {
            values: globals,
            next: 0,
        };
        row.write_turn(decision);
        row.write_players(view);
        row.write_rounds(view);
        debug_assert_eq!(row.next, GLOBALS);
    }
}

/// A position as one player sees it.
#[derive(Clone, Copy)]
struct View<'a> {
    position: &'a Position,
    decider: Seat,
}

impl View<'_> {
    fn players(self) -> usize {
        self.position.configuration().players()
    }

    fn slot(self, seat: Seat) -> usize {
        (seat.index() + self.players() - self.decider.index()) % self.players()
    }

    /// The present seats in slot order.
    fn seats(self) -> impl Iterator<Item = Seat> {
        let players = self.players();
        (0..players).map(move |slot| Seat(((slot + self.decider.index()) % players) as u8))
    }
}

/// The planes of one decision.
struct Sheet<'a> {
    frame: &'static Frame,
    planes: &'a mut [f32],
}

impl Sheet<'_> {
    fn set(&mut self, plane: usize, cell: Cell, value: f32) {
        let square = usize::from(self.frame.squares()[usize::from(cell)]);
        self.planes[plane * self.frame.area() + square] = value;
    }

    fn set_all(&mut self, plane: usize, cells: CellSet) {
        cells.iter().for_each(|cell| self.set(plane, cell, 1.0));
    }

    fn write_cells(&mut self, view: View<'_>) {
        (0..self.frame.cells() as Cell).for_each(|cell| self.set(ON_BOARD, cell, 1.0));
        for (slot, seat) in view.seats().enumerate() {
            self.set_all(MARKER + slot, view.position.markers_of(seat));
            self.set_all(TERRITORY + slot, view.position.territory_of(seat));
            for cell in view.position.stacks_of(seat).iter() {
                self.set(CONTROLLER + slot, cell, 1.0);
                self.write_stack(view, cell);
            }
        }
    }

    fn write_stack(&mut self, view: View<'_>, cell: Cell) {
        let (height, cap) = (view.position.height(cell), view.position.cap(cell));
        self.set(
            HEIGHT + usize::from(height).min(HEIGHT_CLASSES) - 1,
            cell,
            1.0,
        );
        self.set(HEIGHT_SCALED, cell, log_scaled(height));
        self.set(CAP + usize::from(cap).min(CAP_CLASSES) - 1, cell, 1.0);
        self.set(CAP_SCALED, cell, log_scaled(cap));
        let mut buried = [0.0_f32; PLAYERS_MAX];
        for (depth, colour) in (0u16..).zip(view.position.rings(cell)) {
            let slot = view.slot(colour);
            if depth > 0 {
                buried[slot] += 1.0;
            }
            if depth == cap {
                self.set(UNDER_CAP + slot, cell, 1.0);
            }
        }
        for (slot, rings) in buried
            .into_iter()
            .enumerate()
            .filter(|(_, rings)| *rings > 0.0)
        {
            self.set(BURIED + slot, cell, rings / BURIED_UNIT);
        }
    }

    fn write_marks(&mut self, decision: &Decision) {
        let position = decision.position();
        if let Some(anchor) = position.anchor() {
            self.set(ACTOR, anchor, 1.0);
        }
        if let Some(prefix) = decision.prefix() {
            self.set(ACTOR, prefix.from, 1.0);
            self.set(PREFIX, prefix.to, 1.0);
        }
        if position.phase() == Phase::Territory && !position.flags().territory_due {
            for region in position.processable_regions() {
                self.set_all(REGIONS, region.cells);
            }
        }
        if position.phase() == Phase::Lines && !position.flags().line_due {
            for line in position.own_lines() {
                let cells = position.cells_along(line.axis, line.low, line.length);
                cells.for_each(|cell| self.set(LINES, cell, 1.0));
            }
        }
    }
}

fn log_scaled(rings: u16) -> f32 {
    f32::from(rings + 1).log2() / 4.0
}

/// The globals of one decision, written from left to right.
struct GlobalRow<'a> {
    values: &'a mut [f32],
    next: usize,
}

impl GlobalRow<'_> {
    fn push(&mut self, value: f32) {
        self.values[self.next] = value;
        self.next += 1;
    }

    fn push_flag(&mut self, flag: bool) {
        self.push(f32::from(u8::from(flag)));
    }

    fn push_share(&mut self, part: usize, whole: usize) {
        self.push(part as f32 / whole as f32);
    }

    fn push_one_of(&mut self, classes: usize, class: Option<usize>) {
        (0..classes).for_each(|i| self.push_flag(class == Some(i)));
    }

    fn write_turn(&mut self, decision: &Decision) {
        let position = decision.position();
        let configuration = position.configuration();
        let flags = position.flags();
        self.push_one_of(PHASES, Some(position.phase() as usize));
        self.push_flag(flags.line_due);
        self.push_flag(flags.territory_due);
        self.push_flag(decision.prefix().is_some());
        self.push_one_of(PLAYERS_MAX - 1, Some(configuration.players() - 2));
        self.push_one_of(Board::ALL.len(), Some(configuration.board() as usize));
        self.push_flag(configuration.line_length() == 3);
    }

    fn write_players(&mut self, view: View<'_>) {
        let position = view.position;
        let configuration = position.configuration();
        for seat in view.seats() {
            let score = position.score(seat);
            let hand = usize::from(score.hand);
            let rings = hand + usize::from(position.rings_on_board(seat));
            let had_action = position.tracker().had_action[seat.index()];
            self.push_share(hand, configuration.board().rings_per_player());
            self.push_share(
                usize::from(score.eliminated),
                configuration.elimination_threshold(),
            );
            self.push_share(
                usize::from(score.territory),
                configuration.territory_threshold(),
            );
            self.push_share(
                position.markers_of(seat).len(),
                configuration.board().cells(),
            );
            self.push_flag(rings > 0);
            self.push_flag(!position.stacks_of(seat).is_empty());
            self.push_flag(had_action == Some(true));
            self.push_flag(had_action == Some(false));
        }
        const NUMBERS_PER_SLOT: usize = 8;
        let absent = PLAYERS_MAX - view.players();
        (0..absent * NUMBERS_PER_SLOT).for_each(|_| self.push(0.0));
    }

    fn write_rounds(&mut self, view: View<'_>) {
        let tracker = view.position.tracker();
        let flags = view.position.flags();
        self.push_one_of(PLAYERS_MAX, tracker.exclusive.map(|seat| view.slot(seat)));
        self.push_share(
            usize::from(tracker.rounds),
            usize::from(LAST_STANDING_ROUNDS),
        );
        self.push_one_of(PLAYERS_MAX, tracker.first.map(|seat| view.slot(seat)));
        self.push_one_of(PLAYERS_MAX, Some(view.decider.index()));
        self.push_flag(flags.acted);
        self.push_flag(flags.recovered);
        self.push_flag(view.position.swap_open());
    }
}
