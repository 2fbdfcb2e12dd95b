//! The full consistency check of a position.

use crate::Cell;
use crate::configuration::{PLAYERS_MAX, Seat};
use crate::content::CellContent;
use crate::pieces::Pieces;
use crate::state::{NO_CELL, State};
use crate::turn::{Flags, Phase, Tracker};

/// A position that contradicts itself or the rules. From a text, the text is at fault; after playing a legal move,
/// this crate is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("inconsistent position: {0}")]
pub struct Inconsistency(pub String);

/// Gives an [`Inconsistency`] unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(Inconsistency(format!($($message)+)));
        }
    };
}

impl<const WORDS: usize, const CELLS: usize, const RINGS: usize> State<WORDS, CELLS, RINGS> {
    /// Checks everything, ring conservation included.
    pub(crate) fn validate(&self) -> Result<(), Inconsistency> {
        self.validate_conservation()?;
        self.validate_structure()
    }

    /// Every ring is in a hand, on the board or eliminated, and nobody has more of a colour than there are.
    fn validate_conservation(&self) -> Result<(), Inconsistency> {
        let rings = self.configuration.rings();
        let seats = || self.configuration.seats();
        let counted: usize = seats()
            .map(|seat| {
                let score = self.score(seat);
                usize::from(score.hand + score.eliminated + self.pieces.rings_of(seat))
            })
            .sum();
        ensure!(
            counted == rings,
            "{counted} rings in hands, on the board and eliminated, not {rings}"
        );
        let most = self.configuration.board().rings_per_player();
        for seat in seats() {
            let own = usize::from(self.score(seat).hand + self.pieces.rings_of(seat));
            ensure!(own <= most, "player {seat} has {own} of {most} rings");
        }
        Ok(())
    }

    /// Checks what holds even in hand-made positions with incomplete hands.
    pub(crate) fn validate_structure(&self) -> Result<(), Inconsistency> {
        self.pieces.validate(self.geometry.cells())?;
        for seat in self.configuration.seats() {
            let (counted, owned) = (
                self.score(seat).territory,
                self.pieces.collapsed_of(seat).len(),
            );
            ensure!(
                usize::from(counted) == owned,
                "player {seat} has {counted} territory counted but owns {owned}"
            );
        }
        for seat in (self.configuration.players() as u8..PLAYERS_MAX as u8).map(Seat) {
            ensure!(
                self.pieces.stacks_of(seat).is_empty() && self.pieces.rings_of(seat) == 0,
                "rings of player {seat}, who does not take part"
            );
        }
        self.validate_turn()
    }

    fn validate_turn(&self) -> Result<(), Inconsistency> {
        if self.phase == Phase::Over {
            let clean = self.flags == Flags::default() && self.tracker == Tracker::default();
            ensure!(
                clean && self.anchor == NO_CELL && !self.swap_open,
                "a finished game with a turn going on"
            );
            ensure!(self.outcome.is_some(), "a finished game without an outcome");
            return Ok(());
        }
        ensure!(self.outcome.is_none(), "an outcome in a game that goes on");
        let Flags {
            line_due,
            recovered,
            territory_due,
            acted,
        } = self.flags;
        ensure!(
            !line_due || self.phase == Phase::Lines,
            "a line price due outside the line phase"
        );
        ensure!(
            !territory_due || self.phase == Phase::Territory,
            "a territory price due outside the territory phase"
        );
        ensure!(
            acted || !(line_due || recovered || territory_due),
            "a turn with effects that did nothing"
        );
        let anchored = match self.phase {
            Phase::Movement => self.anchor == NO_CELL || self.own_stacks().contains(self.anchor),
            Phase::Capture | Phase::ChainCapture => {
                self.anchor != NO_CELL
                    && self.own_stacks().contains(self.anchor)
                    && self.can_capture(self.anchor)
            }
            _ => self.anchor == NO_CELL,
        };
        ensure!(
            anchored,
            "phase {} does not go with its anchor",
            self.phase.code()
        );
        let mut actions = Vec::new();
        self.legal(&mut actions);
        ensure!(
            !actions.is_empty(),
            "phase {} without a legal move",
            self.phase.code()
        );
        Ok(())
    }
}

impl<const WORDS: usize, const CELLS: usize, const RINGS: usize> Pieces<WORDS, CELLS, RINGS> {
    /// Compares everything kept incrementally with what the cells say.
    fn validate(&self, cells: usize) -> Result<(), Inconsistency> {
        let mut rebuilt = Self::new();
        for cell in 0..cells as Cell {
            match self.content(cell).describe() {
                CellContent::Empty => {}
                CellContent::Marker(owner) => rebuilt.put_marker(cell, owner),
                CellContent::Collapsed(owner) => rebuilt.collapse(cell, owner),
                CellContent::Stack(controller) => {
                    let top = self.rings(cell).next();
                    ensure!(
                        top == Some(controller),
                        "cell {cell}: controlled by {controller}, topped by {top:?}"
                    );
                    ensure!(
                        self.rings(cell).take(RINGS + 1).count() <= RINGS,
                        "cell {cell}: an endless stack"
                    );
                    rebuilt.put_stack(cell, self.rings(cell));
                    let (kept, counted) = (self.stack(cell), rebuilt.stack(cell));
                    ensure!(
                        (kept.height, kept.cap) == (counted.height, counted.cap),
                        "cell {cell}: height or cap is not that of its rings"
                    );
                }
            }
        }
        for seat in (0..PLAYERS_MAX as u8).map(Seat) {
            let same = self.stacks_of(seat) == rebuilt.stacks_of(seat)
                && self.markers_of(seat) == rebuilt.markers_of(seat)
                && self.collapsed_of(seat) == rebuilt.collapsed_of(seat)
                && self.rings_of(seat) == rebuilt.rings_of(seat);
            ensure!(same, "the sets of player {seat} differ from the cells");
        }
        ensure!(
            self.key() == rebuilt.key(),
            "the incremental key differs from the cells"
        );
        Ok(())
    }
}
