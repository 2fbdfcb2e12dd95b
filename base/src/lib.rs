//! What every riftmesh crate shares and nothing else: names for things, time, seeds, bounds and the byte codec.
//!
//! This crate does no I/O, starts no threads and depends on no other riftmesh crate. The operating system's
//! clock is read in [`time`] and nowhere else.

pub mod codec;
pub mod ids;
pub mod limits;
pub mod role;
pub mod seed;
pub mod time;

pub use codec::{DecodeError, decode, encode};
pub use ids::{
    BlobHash, ClusterId, ConfigurationName, JobId, JoinTokenId, LogIndex, NodeId, ParseIdError,
    SessionId, Term, Token,
};
pub use role::Role;
pub use seed::Seed;
pub use time::{Clock, Millis, SystemClock};
