//! The agent under a virtual clock: stories told in full, thirty-six nodes with faults, and whole nodes on real links.

mod driver;
mod script;
mod simulation;
mod world;
