//! Jobs: what they are asked to do, how a node and its child talk about it, and the child itself.

pub mod exec;
mod judge;
pub mod payload;
pub mod run;
mod save;
pub mod wire;
