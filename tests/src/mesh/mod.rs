//! Membership agents by the hundred or thousand in one thread under one seed.

pub mod lifeguard;
pub mod live;
pub mod plain;
pub mod reclaims;
mod standings;
pub mod trials;
mod world;

pub use world::{World, address, metadata};

#[cfg(test)]
mod bodies;
#[cfg(test)]
mod script;
#[cfg(test)]
mod simulation;
