//! A position of a game: the crate's front door.

use std::fmt;

use crate::apply::IllegalAction;
use crate::cells::CellSet;
use crate::configuration::{Board, Configuration, PLAYERS_MAX, RuleOptions, Seat};
use crate::content::CellContent;
use crate::hash::text_hash;
use crate::lines::Line;
use crate::pieces::Rings;
use crate::state::{NO_CELL, State};
use crate::territory::Region;
use crate::text::{Fields, TextError};
use crate::turn::{Flags, Phase, Score, Tracker};
use crate::validate::Inconsistency;
use crate::victory::Outcome;
use crate::{Action, Cell, Geometry};

/// Boards of up to 64 cells.
type Small = State<1, 64, 72>;
/// Boards of up to 469 cells.
type Large = State<8, 469, 384>;

const _: () = assert!(
    size_of::<Small>() <= 1_024 && size_of::<Large>() <= 8_192,
    "search copies positions all the time"
);

/// A position: everything that decides how a game can go on. About 1 KiB for the small boards, 7 KiB (boxed) for the
/// large ones, whatever happens in the game.
///
/// Two positions are equal when all of that is equal, however they came about.
#[derive(Clone)]
pub struct Position(Inner);

#[derive(Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "search clones small positions all the time: they stay inline"
)]
enum Inner {
    Small(Small),
    Large(Box<Large>),
}

/// Runs an expression on the state, whichever size it has.
macro_rules! on_state {
    ($inner:expr, $state:ident => $body:expr) => {
        match $inner {
            Inner::Small($state) => $body,
            Inner::Large($state) => $body,
        }
    };
}

/// A region the player to move may process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessableRegion {
    /// Number (from 1) of the seat whose markers wall it; 0 when no marker touches it from outside.
    pub wall: u8,
    /// Lowest cell.
    pub low: Cell,
    /// Its cells.
    pub cells: CellSet,
}

impl Position {
    /// The standard start position.
    pub fn start(configuration: Configuration, options: RuleOptions) -> Self {
        Self(match configuration.board() {
            Board::Square8 | Board::Hex8 => Inner::Small(State::start(configuration, options)),
            Board::Square19 | Board::Hexagonal => {
                Inner::Large(Box::new(State::start(configuration, options)))
            }
        })
    }

    /// Reads a canonical text, taken as the start of a game: with the pie rule on, player 2 may swap in its first
    /// turn if player 1 moves first or has made the standard game's first turn. For a position from later in a game
    /// pass options without it.
    ///
    /// # Errors
    /// The text is malformed, describes a finished game, or contradicts the rules (ring conservation included).
    pub fn parse(text: &str, options: RuleOptions) -> Result<Self, TextError> {
        let position = Self::parse_fields(text, options)?;
        position
            .validate()
            .map(|()| position)
            .map_err(TextError::from)
    }

    /// Like [`Self::parse`] for hand-made positions whose rings need not add up.
    ///
    /// # Errors
    /// As for [`Self::parse`], ring conservation apart.
    pub fn parse_partial(text: &str, options: RuleOptions) -> Result<Self, TextError> {
        let position = Self::parse_fields(text, options)?;
        on_state!(&position.0, state => state.validate_structure())
            .map(|()| position)
            .map_err(TextError::from)
    }

    fn parse_fields(text: &str, options: RuleOptions) -> Result<Self, TextError> {
        let fields = Fields::split(text)?;
        Ok(Self(match fields.configuration.board() {
            Board::Square8 | Board::Hex8 => Inner::Small(State::from_fields(&fields, options)?),
            Board::Square19 | Board::Hexagonal => {
                Inner::Large(Box::new(State::from_fields(&fields, options)?))
            }
        }))
    }

    /// The canonical text of the position.
    pub fn canonical_text(&self) -> String {
        self.to_string()
    }

    /// FNV-1a of the canonical text, as recorded games use it.
    pub fn text_hash(&self) -> u64 {
        text_hash(&self.canonical_text())
    }

    /// A hash of everything that decides how the game can go on, kept up move by move. Equal positions have equal
    /// keys; the value may change between versions and is not to be stored.
    pub fn key(&self) -> u64 {
        on_state!(&self.0, state => state.key())
    }

    /// Checks the position for consistency.
    ///
    /// # Errors
    /// The first contradiction found; after legal moves from a valid position there is none.
    pub fn validate(&self) -> Result<(), Inconsistency> {
        on_state!(&self.0, state => state.validate())
    }

    /// Replaces the content of `actions` by the legal actions; none when the game is over.
    ///
    /// The order depends on the position alone: where a cell is chosen, cells ascend; then counts ascend, directions
    /// and axes follow the order of the rules, landings go outwards, a whole line comes before its windows, regions
    /// follow wall colours with those that have no wall where they are first met; declining comes last, swapping first.
    pub fn legal(&self, actions: &mut Vec<Action>) {
        on_state!(&self.0, state => state.legal(actions));
    }

    /// Plays `action`. The caller promises that it is legal: after any other action the position may be inconsistent,
    /// and the call may panic. Use [`Self::try_apply`] for actions from elsewhere.
    ///
    /// With the feature `validate` every position is checked before and after.
    ///
    /// # Panics
    /// With the feature `validate`: the position was consistent and is not any more, which a legal action never does.
    pub fn apply(&mut self, action: Action) {
        if cfg!(feature = "validate") && self.validate().is_ok() {
            let before = self.clone();
            self.apply_unchecked(action);
            assert_eq!(self.validate(), Ok(()), "after {action:?} in {before}");
        } else {
            self.apply_unchecked(action);
        }
    }

    /// [`Self::apply`] without the checks of the feature `validate`: hand-written rule cases play what is not offered.
    #[inline]
    pub(crate) fn apply_unchecked(&mut self, action: Action) {
        on_state!(&mut self.0, state => state.apply(action));
    }

    /// Plays `action` if it is legal.
    ///
    /// # Errors
    /// It is not; the error lists what is. The position is unchanged.
    pub fn try_apply(&mut self, action: Action) -> Result<(), IllegalAction> {
        let mut legal = Vec::new();
        self.legal(&mut legal);
        if legal.contains(&action) {
            self.apply(action);
            Ok(())
        } else {
            Err(IllegalAction::new(self, action, &legal))
        }
    }

    /// Board and number of players.
    pub fn configuration(&self) -> Configuration {
        on_state!(&self.0, state => state.configuration)
    }

    /// The tables of the board.
    pub fn geometry(&self) -> &'static Geometry {
        on_state!(&self.0, state => state.geometry)
    }

    /// Who decides next; `None` when the game is over.
    pub fn to_move(&self) -> Option<Seat> {
        on_state!(&self.0, state => (state.phase != Phase::Over).then_some(state.mover))
    }

    /// The result, once the game is over.
    pub fn outcome(&self) -> Option<&Outcome> {
        on_state!(&self.0, state => state.outcome.as_ref())
    }

    /// The phase of the turn.
    pub fn phase(&self) -> Phase {
        on_state!(&self.0, state => state.phase)
    }

    /// The stack that must move, may capture or must go on capturing, depending on the phase.
    pub fn anchor(&self) -> Option<Cell> {
        on_state!(&self.0, state => (state.anchor != NO_CELL).then_some(state.anchor))
    }

    /// What the turn has done and owes.
    pub fn flags(&self) -> Flags {
        on_state!(&self.0, state => state.flags)
    }

    /// The last-player-standing tracker.
    pub fn tracker(&self) -> Tracker {
        on_state!(&self.0, state => state.tracker)
    }

    /// Whether player 2 can still use the pie rule, now or at its first turn.
    pub fn swap_open(&self) -> bool {
        on_state!(&self.0, state => state.swap_open)
    }

    /// Whether the seats were swapped.
    pub fn swapped(&self) -> bool {
        on_state!(&self.0, state => state.swapped)
    }

    /// Hand, eliminated rings and territory of `seat`.
    pub fn score(&self, seat: Seat) -> Score {
        on_state!(&self.0, state => *state.score(seat))
    }

    /// Rings of this colour on the board, buried ones included.
    pub fn rings_on_board(&self, seat: Seat) -> u16 {
        on_state!(&self.0, state => state.pieces.rings_of(seat))
    }

    /// What `cell` holds.
    pub fn content(&self, cell: Cell) -> CellContent {
        on_state!(&self.0, state => state.pieces.content(cell).describe())
    }

    /// Number of rings on `cell`.
    pub fn height(&self, cell: Cell) -> u16 {
        on_state!(&self.0, state => state.pieces.stack_on(cell).map_or(0, |stack| stack.height))
    }

    /// Rings from the top of the stack on `cell` down that have its controller's colour.
    pub fn cap(&self, cell: Cell) -> u16 {
        on_state!(&self.0, state => state.pieces.stack_on(cell).map_or(0, |stack| stack.cap))
    }

    /// The colours of the rings on `cell`, top first.
    pub fn rings(&self, cell: Cell) -> Rings<'_> {
        on_state!(&self.0, state => state.pieces.rings(cell))
    }

    /// For each colour, the number of rings on `cell`.
    pub fn ring_counts(&self, cell: Cell) -> [u16; PLAYERS_MAX] {
        let mut counts = [0; PLAYERS_MAX];
        self.rings(cell)
            .for_each(|colour| counts[colour.index()] += 1);
        counts
    }

    /// Cells with stacks that `seat` controls.
    pub fn stacks_of(&self, seat: Seat) -> CellSet {
        on_state!(&self.0, state => state.pieces.stacks_of(seat).widen())
    }

    /// Cells with markers of `seat`.
    pub fn markers_of(&self, seat: Seat) -> CellSet {
        on_state!(&self.0, state => state.pieces.markers_of(seat).widen())
    }

    /// Cells that are territory of `seat`.
    pub fn territory_of(&self, seat: Seat) -> CellSet {
        on_state!(&self.0, state => state.pieces.collapsed_of(seat).widen())
    }

    /// Lines that the player to move could process if this were its line phase.
    pub fn own_lines(&self) -> Vec<Line> {
        on_state!(&self.0, state => state.own_lines())
    }

    /// The `length` cells from `low` along `axis`, ascending; fewer where the board ends.
    pub fn cells_along(
        &self,
        axis: u8,
        low: Cell,
        length: usize,
    ) -> impl Iterator<Item = Cell> + use<> {
        self.geometry().cells_along(axis, low, length)
    }

    /// The run of markers of the player to move through `cell` along `axis`, `cell` granted.
    pub fn line_around(&self, axis: u8, cell: Cell) -> Line {
        on_state!(&self.0, state => state.line_around(axis, cell))
    }

    /// Regions that the player to move could process if this were its territory phase.
    pub fn processable_regions(&self) -> Vec<ProcessableRegion> {
        on_state!(&self.0, state => state.processable_regions())
    }

    /// The cells of the region that [`Action::Territory`] names by `wall` and `low`.
    pub fn region_cells(&self, wall: u8, low: Cell) -> CellSet {
        on_state!(&self.0, state => state.region_cells(Region { wall, low }).widen())
    }

    /// Whether `seat` could place a ring, move or capture if it were its turn (RULES section 14).
    pub fn has_real_action(&self, seat: Seat) -> bool {
        on_state!(&self.0, state => state.has_real_action(seat))
    }

    /// Processes a set of cells as a region, whether it is one or not: hand-written rule cases do that.
    pub(crate) fn process_cells(&mut self, cells: &[Cell]) {
        on_state!(&mut self.0, state => state.process_cells(cells.iter().copied().collect()));
    }

    /// The position with every cell moved to where `map` (by cell number) sends it.
    pub(crate) fn mapped(&self, map: &[Cell]) -> Self {
        Self(match &self.0 {
            Inner::Small(state) => Inner::Small(state.mapped(map)),
            Inner::Large(state) => Inner::Large(Box::new(state.mapped(map))),
        })
    }
}

impl PartialEq for Position {
    fn eq(&self, other: &Self) -> bool {
        // The key is quick to compare and the text is complete but for the three fields added here.
        self.key() == other.key()
            && self.swap_open() == other.swap_open()
            && self.outcome() == other.outcome()
            && self.canonical_text() == other.canonical_text()
    }
}

impl Eq for Position {}

impl fmt::Display for Position {
    /// The canonical text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        on_state!(&self.0, state => state.write_text(f))
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Position({self})")
    }
}
