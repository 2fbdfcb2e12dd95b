//! SWIM membership: foca inside a pure agent, the view of the mesh, and what nodes say about themselves.
//!
//! Gossip only ever suggests. What this crate yields ([`MembershipView`], [`Suspicion`]) are hints with ages; who is
//! in the cluster and whose work is taken away is decided by entries in the replicated log.

pub mod agent;
pub mod bodies;
pub mod config;
pub mod driver;
mod durable;
pub mod effect;
mod health;
pub mod identity;
pub mod message;
pub mod metadata;
mod notes;
pub mod peers;
#[cfg(test)]
mod tests;
mod track;
pub mod view;

pub use agent::{Acquaintances, Agent};
pub use bodies::{BODY_BYTES_MAX, KnownBody};
pub use config::MembershipSettings;
pub use driver::{Membership, StartError};
pub use effect::{Input, MeshEffect, MeshEvent, TimerId};
pub use identity::{GenerationFile, Generations, NodeIdentity};
pub use message::goodbye;
pub use metadata::{AdvertisedRole, MetadataError, NodeMetadata};
pub use peers::{PeerFile, Seeds};
pub use view::{MembershipView, NodeState, NodeView, Suspicion};
