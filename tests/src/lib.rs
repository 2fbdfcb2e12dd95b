//! Whole clusters in one process under seeded faults, and an oracle of what their clients were promised.
//!
//! Three worlds, all single threaded; each runs the same twice for one seed. The [`log_world`] has replicas of the state
//! machine behind a simulated log and carries planted bugs that the oracle must find. The [`simulation`] runs the
//! product's voters, openraft included, on simulated disks, links and time, under the same oracle, and checks the rules
//! of consensus at every tick besides; `tests/simulation` gives each seed a process of its own. The [`mesh`] world has
//! membership agents by the thousand under a virtual clock.

mod autopilot;
pub mod checker;
pub mod client;
pub mod disk;
pub mod faults;
pub mod gate;
pub mod jobs;
pub mod log_world;
pub mod mesh;
pub mod operator;
pub mod oracle;
pub mod scenarios;
pub mod simulation;
pub mod subject;
pub mod trace;
pub mod users;
pub mod voters;
pub mod worker;

#[cfg(test)]
mod log_world_tests;
