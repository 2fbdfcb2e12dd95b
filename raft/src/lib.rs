//! Consensus: the replicated log that decides who holds which job, on openraft, behind types of our own.
//!
//! [`RaftNode`] is the whole interface; no other crate names openraft. Adapters connect it to the log on disk
//! (`log_store`), to the replicated state (`machine`) and to the other voters (`network`). [`bootstrap`] decides how
//! a cluster begins. What jobs mean, and when which node should vote, is decided elsewhere.

pub mod autopilot;
pub mod bootstrap;
mod change;
mod clock;
mod config;
pub mod disk;
pub mod epoch;
pub mod error;
mod heir;
mod inbox;
pub mod inspect;
pub mod lines;
mod log_store;
mod machine;
pub mod members;
pub mod mutants;
mod network;
pub mod node;
mod proposer;
mod reads;
pub mod recovery;
mod report;
pub mod saved;
mod serve;
pub mod sessions;
pub mod settings;
mod standing;
pub mod status;
mod types;
pub mod watch;
mod watchdog;
mod wire;

pub use autopilot::{
    AutopilotPolicy, AutopilotReport, AutopilotStep, Presence, Silences, VoterFact, next_step,
};
pub use bootstrap::{BootstrapDecision, SeedFact, decide_bootstrap};
pub use disk::{Disk, LogQueue};
pub use error::{MemberError, OpenError, ProposeError, ReadError, RecoverError};
pub use members::{MemberOrder, MemberProgress};
pub use node::RaftNode;
pub use sessions::{OpenSessionFact, SessionWatch};
pub use settings::{RaftSettings, RaftStore, RaftTimings};
pub use status::{LeaderHint, MemberStatus, RaftRole, RaftStatus};
pub use watch::{Change, Watch};

#[cfg(test)]
mod autopilot_tests;
#[cfg(test)]
mod bootstrap_tests;
#[cfg(test)]
mod cluster_tests;
#[cfg(test)]
mod garbage_tests;
#[cfg(test)]
mod member_tests;
#[cfg(test)]
mod store_tests;
