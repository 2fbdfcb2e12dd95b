//! RingRift: board geometry, position, legal actions, apply, victory, notation, perft.
//!
//! Pure: no I/O, no clock, no randomness.

pub mod action;

pub use action::{Action, Cell};
