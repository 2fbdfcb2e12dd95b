//! What the search has to know about a game.

use std::fmt::Debug;

use crate::values::SeatValues;

/// A deterministic game of perfect information for up to [`SEATS_MAX`](crate::SEATS_MAX) seats.
///
/// A value of this type is a position at which somebody has to choose, or a finished game. Nothing assumes that
/// turns alternate.
pub trait Game: Clone {
    /// A move. Two different legal moves of one position are never equal.
    type Action: Copy + Eq + Debug;

    /// The number of seats, the same in every position of a game.
    fn players(&self) -> usize;

    /// The seat to choose, counted from 0; none when the game is over.
    fn mover(&self) -> Option<usize>;

    /// The exact result. Asked only when the game is over.
    fn terminal_values(&self) -> SeatValues;

    /// Appends the legal moves to `actions`, always in the same order for the same position. At least one unless
    /// the game is over.
    fn actions(&self, actions: &mut Vec<Self::Action>);

    /// Whether playing `action` exchanges the persons behind seats 0 and 1 (pie rule). Values behind such a move
    /// are exchanged when they are backed up through it.
    fn exchanges_seats(&self, action: Self::Action) -> bool {
        let _ = action;
        false
    }

    /// Plays `action`, which is one of [`actions`](Self::actions). Anything else is a bug of the caller and may
    /// panic.
    fn play(&mut self, action: Self::Action);
}
