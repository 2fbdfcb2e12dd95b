//! One QUIC endpoint per node, TLS 1.3 with both sides authenticated by the cluster's own CA, lanes for gossip
//! datagrams, Raft, client calls and blobs; and an in-memory twin that passes the same conformance suite.
//!
//! This crate does not know what the messages mean.

pub mod authority;
mod blob;
pub mod identity;
pub mod link;
pub mod memory;
pub mod quic;
mod secret;
#[cfg(test)]
mod suite;
mod tls;

pub use authority::ClusterAuthority;
pub use identity::{CredentialError, NodeCredential, NodeName};
pub use link::{BoxFuture, CallError, Handler, Lane, Link, Peer, Refused, SharedLink, Target};
pub use memory::{MemoryLink, MemoryNetwork};
pub use quic::{BindError, QuicLink, QuicSettings};
