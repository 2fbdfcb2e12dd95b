//! The replicated state of a riftmesh cluster: `apply(meta, command) -> (reply, effects)`, and nothing else.
//!
//! No clock, no randomness, no I/O, no hash-ordered iteration, no floating point: the same entries give the same
//! state on every voter, for ever. Time is a number carried by the entry.

pub mod bounds;
pub mod command;
pub mod effect;
pub mod job;
pub mod models;
pub mod reply;
pub mod roster;
