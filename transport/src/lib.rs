//! One QUIC endpoint per node, TLS 1.3 with both sides authenticated by the cluster's own CA, lanes for gossip
//! datagrams, Raft, client calls and blobs; and an in-memory twin that passes the same conformance suite. Beside it a
//! door for machines that have no certificate yet: there a voter proves who it is, and the stranger shows a token.
//!
//! This crate does not know what the messages mean.

pub mod authority;
mod blob;
pub mod identity;
mod key;
pub mod link;
pub mod memory;
mod pinned;
pub mod quic;
mod refusals;
pub mod relayed;
mod secret;
#[cfg(test)]
mod suite;
mod tls;
mod token;

pub use authority::ClusterAuthority;
pub use identity::{CertificateFacts, CredentialError, NodeCredential, NodeName};
pub use key::{KeyRequest, NodeKey};
pub use link::{
    Attachment, BoxFuture, CallError, Doorkeeper, Handler, Lane, Link, Peer, Refused, SharedLink,
    Target,
};
pub use memory::{MemoryLink, MemoryNetwork};
pub use quic::{
    BindError, OversizeCounts, PeerTraffic, QuicLink, QuicSettings, RelayCounts, knock,
};
pub use refusals::Refusals;
pub use tls::PROTOCOL_VERSION;
pub use token::{JoinToken, TokenError, TokenSecret};
