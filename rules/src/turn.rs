//! Where a turn stands: phase, obligations and the last-player-standing tracker.

use crate::configuration::{PLAYERS_MAX, Seat};

/// The phases of a turn in the order in which they are visited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Put rings on the board.
    Placement,
    /// Move a stack, capture with one, or recover.
    Movement,
    /// The stack that moved may capture.
    Capture,
    /// The stack that captured must go on.
    ChainCapture,
    /// Process lines.
    Lines,
    /// Process regions.
    Territory,
    /// Give up a cap because nothing else could be done.
    ForcedElimination,
    /// The game is over.
    Over,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 8] = [
        Self::Placement,
        Self::Movement,
        Self::Capture,
        Self::ChainCapture,
        Self::Lines,
        Self::Territory,
        Self::ForcedElimination,
        Self::Over,
    ];

    /// The two letters used in records.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Placement => "RP",
            Self::Movement => "MV",
            Self::Capture => "CA",
            Self::ChainCapture => "CC",
            Self::Lines => "LP",
            Self::Territory => "TP",
            Self::ForcedElimination => "FE",
            Self::Over => "GO",
        }
    }

    /// The phase with this two-letter code.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.code() == code)
    }
}

/// What the current turn has done and still owes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags {
    /// A move of this turn changed the board (or swapped seats).
    pub acted: bool,
    /// A line was collapsed and its price, one ring, is due.
    pub line_due: bool,
    /// The turn contains a recovery slide.
    pub recovered: bool,
    /// A region was processed and its price is due.
    pub territory_due: bool,
}

/// Who still had a choice of real actions in recent rounds (RULES section 14).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Tracker {
    /// The seat that opened the current round.
    pub first: Option<Seat>,
    /// For each seat that started a turn in this round, whether it had a real action.
    pub had_action: [Option<bool>; PLAYERS_MAX],
    /// The only seat that had real actions in the last rounds.
    pub exclusive: Option<Seat>,
    /// For how many rounds in a row.
    pub rounds: u16,
}

/// Rings and cells of one player.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Score {
    /// Rings in hand.
    pub hand: u16,
    /// Eliminated rings credited to the player, whatever their colour.
    pub eliminated: u16,
    /// Collapsed cells owned.
    pub territory: u16,
}
