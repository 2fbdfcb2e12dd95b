//! Black-box fault tests of real clusters: histories, independent models, checkers.
//!
//! Nothing here knows the product's types: it speaks the HTTP API, sends signals and reads files. A run is put
//! together in [`run`](mod@run): a [`cluster`] of processes, clients that [`workload`] describes, a [`nemesis`] that
//! breaks things, and [`checker`]s that judge the [`history`] afterwards.

pub mod campaign;
pub mod checker;
pub mod client;
pub mod cluster;
pub mod disk;
pub mod dress;
pub mod edn;
pub mod history;
pub mod linear;
pub mod mesh;
pub mod nemesis;
pub mod net;
pub mod objects;
pub mod observed;
pub mod pace;
pub mod plan;
pub mod reaper;
pub mod register;
pub mod report;
pub mod run;
pub mod site;
pub mod tamper;
pub mod verdict;
pub mod workload;
