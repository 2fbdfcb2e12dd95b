//! RingRift: board geometry, position, legal actions, apply, victory, notation, perft.
//!
//! Pure: no I/O, no clock, no randomness. It reproduces the public reference engine (synaptent/RingRift, commit
//! `2aa9f89b5d64`) move for move, its quirks included; RULES and VECTORS in comments are the project's digest of that
//! engine's behaviour and the description of the games recorded with it.

pub mod action;
mod apply;
mod cells;
mod components;
mod configuration;
mod content;
pub mod contract;
pub mod diagram;
mod geometry;
mod hash;
mod lines;
mod movement;
pub mod notation;
mod perft;
mod pieces;
mod position;
mod ranges;
pub mod record;
mod recovery;
mod rows;
mod state;
pub mod symmetry;
mod territory;
mod text;
mod turn;
mod validate;
mod victory;
pub mod words;

pub use action::{Action, Cell};
pub use apply::IllegalAction;
pub use cells::{BitSet, CellIter, CellSet};
pub use configuration::{
    Board, Configuration, PLAYERS_MAX, RuleOptions, Seat, UnknownConfiguration,
};
pub use content::CellContent;
pub use geometry::{Geometry, Row};
pub use hash::text_hash;
pub use lines::Line;
pub use notation::NotationError;
pub use perft::perft;
pub use pieces::Rings;
pub use position::{Position, ProcessableRegion};
pub use symmetry::Symmetry;
pub use text::TextError;
pub use turn::{Flags, Phase, Score, Tracker};
pub use validate::Inconsistency;
pub use victory::{LAST_STANDING_ROUNDS, Outcome, VictoryRule};
