//! What a cell holds: nothing, a marker, a stack or territory.

use crate::configuration::Seat;

/// What a cell holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CellContent {
    /// Nothing.
    Empty,
    /// A marker of this seat.
    Marker(Seat),
    /// A stack controlled by this seat.
    Stack(Seat),
    /// Territory of this seat.
    Collapsed(Seat),
}

/// [`CellContent`] in a byte, ordered so that one comparison tells whether a ray passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content(u8);

impl Content {
    pub(crate) const EMPTY: Self = Self(0);

    #[inline]
    pub(crate) fn marker(owner: Seat) -> Self {
        Self(4 | owner.0)
    }

    #[inline]
    pub(crate) fn stack(controller: Seat) -> Self {
        Self(8 | controller.0)
    }

    #[inline]
    pub(crate) fn collapsed(owner: Seat) -> Self {
        Self(12 | owner.0)
    }

    /// Whether a stack may pass over the cell or land on it.
    #[inline]
    pub(crate) fn is_passable(self) -> bool {
        self.0 < 8
    }

    #[inline]
    pub(crate) fn is_stack(self) -> bool {
        self.0 & 12 == 8
    }

    #[inline]
    pub(crate) fn is_marker(self) -> bool {
        self.0 & 12 == 4
    }

    #[inline]
    pub(crate) fn is_collapsed(self) -> bool {
        self.0 >= 12
    }

    /// Whose it is; seat 0 for an empty cell.
    #[inline]
    pub(crate) fn owner(self) -> Seat {
        Seat(self.0 & 3)
    }

    /// The byte, for hashing.
    #[inline]
    pub(crate) fn code(self) -> u8 {
        self.0
    }

    pub(crate) fn describe(self) -> CellContent {
        match self.0 >> 2 {
            0 => CellContent::Empty,
            1 => CellContent::Marker(self.owner()),
            2 => CellContent::Stack(self.owner()),
            _ => CellContent::Collapsed(self.owner()),
        }
    }
}
