//! Whole clusters in one process under seeded faults, and an oracle of what their clients were promised.
//!
//! Three worlds; two share the oracle. The [`log_world`] has replicas of the state machine behind a simulated log, is single
//! threaded and runs the same twice for one seed; it also carries planted bugs that the oracle must find. The
//! [`voters`] world runs real voters, openraft included, over the in-memory network. The [`mesh`] world has
//! membership agents by the thousand under a virtual clock.

pub mod client;
pub mod jobs;
pub mod log_world;
pub mod mesh;
pub mod oracle;
pub mod subject;
pub mod voters;

#[cfg(test)]
mod log_world_tests;
#[cfg(test)]
mod voters_tests;
