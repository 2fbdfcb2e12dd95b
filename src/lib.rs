//! riftmesh: a self-play training cluster in one binary.
//!
//! This crate composes the others: a node (consensus, gossip, state, HTTP), the worker agent and its job children, the
//! leader's chores, and the command line. It only constructs and connects; what is decided is decided in the crates
//! below it.

mod agent;
mod answers;
mod blobs;
mod chores;
pub mod cli;
mod client;
mod duration;
mod history;
mod interrupt;
mod job;
mod node;
mod orders;
mod protocol;
mod up;
