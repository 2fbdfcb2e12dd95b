//! Moves as one closed enum. Small and `Copy`: sets of cells are named by what identifies them in a position.

use serde::{Deserialize, Serialize};

/// A cell, numbered from 0 in row-major order (RULES section 1).
pub type Cell = u16;

/// A move. Its text form (`VECTORS`) lists the cells of lines and regions and therefore needs the position; see
/// `notation`.
///
/// Two different legal moves of one position are never equal, and equal moves are the same move: a line is named by
/// its axis and lowest cell, a region by the colour of the markers that wall it and its lowest cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Place `count` (1 to 3) rings on `to`.
    Place {
        /// Target.
        to: Cell,
        /// Rings.
        count: u8,
    },
    /// Do not place although rings are in hand.
    SkipPlacement,
    /// Forced: nothing can be placed.
    NoPlacement,
    /// Take the other seat (pie rule).
    Swap,
    /// Move a stack.
    Move {
        /// Origin.
        from: Cell,
        /// Landing.
        to: Cell,
    },
    /// Overtaking capture, first segment of the turn.
    Capture {
        /// Origin.
        from: Cell,
        /// The stack jumped over.
        over: Cell,
        /// Landing.
        to: Cell,
    },
    /// Overtaking capture, later segment.
    ContinueCapture {
        /// Origin.
        from: Cell,
        /// The stack jumped over.
        over: Cell,
        /// Landing.
        to: Cell,
    },
    /// End the turn's capture option.
    SkipCapture,
    /// Recovery slide that makes a line: collapse the run and extract a ring from the stack on `pay`.
    RecoverLineAll {
        /// The marker.
        from: Cell,
        /// Where it slides.
        to: Cell,
        /// The stack extracted from.
        pay: Cell,
    },
    /// Recovery slide that makes a line longer than needed: collapse a window of it, extract nothing.
    RecoverLineWindow {
        /// The marker.
        from: Cell,
        /// Where it slides.
        to: Cell,
        /// Axis of the window (index in the order of RULES section 1).
        axis: u8,
        /// Lowest cell of the window.
        window: Cell,
    },
    /// Recovery slide without a line: extract a ring from the stack on `pay`.
    RecoverFallback {
        /// The marker.
        from: Cell,
        /// Where it slides.
        to: Cell,
        /// The stack extracted from.
        pay: Cell,
    },
    /// Recovery by striking the stack on `to`; extract a ring from the stack on `pay`.
    RecoverStrike {
        /// The marker, which is spent.
        from: Cell,
        /// The stack struck.
        to: Cell,
        /// The stack extracted from.
        pay: Cell,
    },
    /// Do not recover.
    SkipRecovery,
    /// Forced: nothing can move.
    NoMovement,
    /// Collapse a whole line, of exact length or longer.
    LineAll {
        /// Axis.
        axis: u8,
        /// Lowest cell of the line.
        low: Cell,
    },
    /// Collapse only a window of a longer line.
    LineWindow {
        /// Axis.
        axis: u8,
        /// Lowest cell of the window.
        low: Cell,
    },
    /// Forced: no line.
    NoLine,
    /// Pay the line price: the top ring of the stack.
    PayLine {
        /// The stack.
        from: Cell,
    },
    /// Process a region.
    Territory {
        /// Colour (seat, from 1) of the markers that wall it, 0 for none.
        wall: u8,
        /// Lowest cell of the region.
        low: Cell,
    },
    /// Pay the territory price: the cap of the stack.
    PayTerritory {
        /// The stack.
        from: Cell,
    },
    /// Pay the territory price of a recovered turn: extract a ring.
    PayExtraction {
        /// The stack.
        from: Cell,
    },
    /// Leave the regions alone.
    SkipTerritory,
    /// Forced: no region.
    NoTerritory,
    /// Forced elimination of the cap of a stack.
    Eliminate {
        /// The stack.
        from: Cell,
    },
}
