//! The replicated state of a riftmesh cluster: `apply(index, batch) -> (replies, effects)`, and nothing else.
//!
//! No clock, no randomness, no I/O, no hash-ordered iteration, no floating point: the same entries give the same
//! state on every voter, for ever. Time is a number carried by the entry.
//!
//! Vocabulary: a *command* is asked, a *reply* answers it, an *effect* is a fact for watchers. A *grant* gives a *job*
//! to a *session* under a fencing *token*; the *lease* is the grant as the state remembers it. A *loss* is the
//! infrastructure's fault, a *failure* the job's. The *ledger* counts training data, the *registry* holds models. A
//! *lock* is held under a token too, and a *setting* may ask for one. A *join token* is something else: it lets a machine
//! into the cluster.

mod apply;
pub mod archive;
mod authorities;
pub mod bounds;
mod clients;
pub mod command;
mod display;
mod drains;
pub mod effect;
mod elo_table;
mod ends;
pub mod hold;
mod holds;
pub mod invariants;
pub mod job;
mod jobs;
mod leases;
mod ledger;
pub mod level;
pub mod lock;
mod locks;
pub mod models;
mod nodes;
mod pairs;
pub mod query;
mod queue;
mod rating;
mod registry;
pub mod reply;
pub mod roster;
pub mod rotation;
pub mod script;
pub mod setting;
mod settings;
mod snapshot;
mod sprt;
mod state;
mod tenants;
pub mod terms;
mod tokens;
pub mod trust;

pub use bounds::Bounds;
pub use command::{Batch, Body, Command, Loss, Origin};
pub use effect::Effect;
pub use invariants::Violation;
pub use reply::{Refusal, Reply};
pub use snapshot::RestoreError;
pub use state::State;
