//! One QUIC endpoint per node, TLS 1.3 with both sides authenticated by the cluster's own CA, lanes for gossip
//! datagrams, Raft, client calls and blobs; and an in-memory twin that passes the same conformance suite.
//!
//! This crate does not know what the messages mean.

mod blob;
pub mod link;
pub mod memory;

pub use link::{BoxFuture, CallError, Handler, Lane, Link, Peer, Refused, SharedLink, Target};
pub use memory::{MemoryLink, MemoryNetwork};
