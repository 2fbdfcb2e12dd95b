//! The door every message leaves and enters by, with two implementations: QUIC and an in-memory twin.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use riftmesh_base::{BlobHash, NodeId, Role};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// A boxed future, for traits used as objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where a node can be reached, and who must answer there. The certificate presented must name `node`, when it is
/// known; a seed address is dialled with `node: None` and tells us who lives there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Target {
    /// Who must answer, if known.
    pub node: Option<NodeId>,
    /// Where.
    pub address: SocketAddr,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node {
            Some(node) => write!(f, "{node} at {}", self.address),
            None => write!(f, "the node at {}", self.address),
        }
    }
}

/// A peer whose certificate was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The node named by its certificate.
    pub node: NodeId,
    /// What its certificate allows it to be.
    pub role: Role,
    /// The address it was heard from.
    pub address: SocketAddr,
}

/// Message lanes, each with its own budget, so that one cannot starve another. Consensus has a connection of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Lane {
    /// Raft RPCs.
    Raft,
    /// Client and worker calls.
    Client,
    /// Membership calls too large for a datagram: metadata bodies, stream pings, push-pull.
    Mesh,
}

impl Lane {
    /// Whether a node with this role may call on the lane.
    pub(crate) fn may_ask(self, role: Role) -> bool {
        match self {
            Self::Raft => role == Role::Voter,
            Self::Client | Self::Mesh => true,
        }
    }

    /// Whether a node with this role may be believed on the lane: a worker that says it votes is not asked.
    pub(crate) fn may_answer(self, role: Role) -> bool {
        match self {
            Self::Raft | Self::Client => role == Role::Voter,
            Self::Mesh => true,
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Raft => "raft",
            Self::Client => "client",
            Self::Mesh => "mesh",
        })
    }
}

/// Why a call brought no answer, by blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No connection: refused, unroutable or timed out before the request left. The peer did not see it.
    #[error("{target} is unreachable: {reason}")]
    Unreachable {
        /// Who.
        target: Target,
        /// What the network said.
        reason: String,
    },
    /// The peer is not who it should be, or its certificate is not of this cluster. Retrying will not help.
    #[error("{target} was refused: {reason}")]
    Untrusted {
        /// Who.
        target: Target,
        /// Which check failed.
        reason: String,
    },
    /// The request left, the answer did not come in time or makes no sense. The peer may have acted on it.
    #[error("no answer in time: {0}; the request may have been carried out")]
    Unknown(String),
    /// The request left, and the connection ended before the answer came: the peer has started anew, left or closed it. It may
    /// have acted on the request.
    #[error("the connection ended: {0}; the request may have been carried out")]
    Lost(String),
    /// The peer's handler refused: overloaded, or no handler on this lane. It did not act on it.
    #[error("refused by the peer: {0}")]
    Refused(String),
    /// Request or reply is over its bound. Our fault or the peer's; nothing was carried out if it was the request.
    #[error("{what} of {bytes} bytes is over the bound of {max}")]
    TooLarge {
        /// `request` or `reply`.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The bound.
        max: u64,
    },
    /// The bytes of a blob do not hash to its name; nothing was kept. The peer's copy is damaged: ask another peer.
    #[error("{target} sent a damaged blob: {reason}")]
    Corrupt {
        /// Who.
        target: Target,
        /// What was found.
        reason: String,
    },
    /// Our own disk failed while storing a blob; nothing was kept. Asking another peer will not help.
    #[error("storing the blob failed here: {0}")]
    Local(String),
}

/// A handler's refusal; its text reaches the caller as [`CallError::Refused`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub String);

/// What a node does with what arrives. One per node, shared by all connections.
pub trait Handler: Send + Sync + 'static {
    /// Answers a call. Runs in a task of its own; concurrency per lane is bounded by the endpoint.
    fn call(&self, from: Peer, lane: Lane, request: Bytes)
    -> BoxFuture<'_, Result<Bytes, Refused>>;

    /// Takes a gossip datagram. Must not block. Datagrams may be lost, repeated and reordered.
    fn datagram(&self, from: Peer, payload: Bytes);

    /// The file of a blob this node can serve, if it has it.
    fn blob(&self, from: Peer, hash: BlobHash) -> Option<std::path::PathBuf>;

    /// Who talks to machines without a certificate, if anybody here does.
    fn door(&self) -> Option<&dyn Doorkeeper> {
        None
    }
}

/// Talks to strangers: machines without a certificate, which ask to be let in. All it knows of them is what they show.
pub trait Doorkeeper: Send + Sync + 'static {
    /// Answers a stranger's one request, at most `JOIN_BYTES_MAX` either way.
    fn knocked(&self, from: SocketAddr, request: Bytes) -> BoxFuture<'_, Result<Bytes, Refused>>;
}

/// A relay passes on to this node what others send it, for as long as this lives; see [`crate::relayed`].
pub struct Attachment {
    relay: Target,
    round_trip: Duration,
    lost: BoxFuture<'static, ()>,
}

impl Attachment {
    /// `lost` ends when the relay no longer does; dropping it ends the attachment.
    pub(crate) fn new(
        relay: Target,
        round_trip: Duration,
        lost: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self {
            relay,
            round_trip,
            lost: Box::pin(lost),
        }
    }

    /// Who relays, and where.
    pub fn relay(&self) -> Target {
        self.relay
    }

    /// How long a message to the relay and back took.
    pub fn round_trip(&self) -> Duration {
        self.round_trip
    }

    /// Ends when the relay no longer answers.
    pub async fn lost(self) {
        self.lost.await;
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment")
            .field("relay", &self.relay)
            .field("round_trip", &self.round_trip)
            .finish_non_exhaustive()
    }
}

/// One node's end of the network.
///
/// Create it, hand it to the parts that send, build the [`Handler`] out of them, then [`serve`](Link::serve) it:
/// peers that call earlier wait until then or until their deadline.
pub trait Link: Send + Sync + 'static {
    /// Starts answering with `handler`. A second call changes nothing and is logged as an error.
    fn serve(&self, handler: Arc<dyn Handler>);

    /// Sends a request and waits for its reply, both bounded by `MESSAGE_BYTES_MAX`.
    fn call(
        &self,
        to: Target,
        lane: Lane,
        request: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Bytes, CallError>>;

    /// Like [`Link::call`], for a request that may be carried out twice. A peer that has started anew says that it knows nothing of a
    /// connection only when something comes on it, so that the first request since then is lost; here it is sent again, once.
    fn call_repeatable(
        &self,
        to: Target,
        lane: Lane,
        request: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Bytes, CallError>> {
        Box::pin(async move {
            let end = Instant::now() + deadline;
            match self.call(to, lane, request.clone(), deadline).await {
                Err(CallError::Lost(_)) => {
                    let left = end.saturating_duration_since(Instant::now());
                    self.call(to, lane, request, left).await
                }
                outcome => outcome,
            }
        })
    }

    /// Sends a datagram, best effort, at most `DATAGRAM_BYTES_MAX`. An error means it was surely not sent.
    fn datagram(&self, to: Target, payload: Bytes) -> BoxFuture<'_, Result<(), CallError>>;

    /// Streams a blob into `into` (written aside, synced and renamed), verifying its hash; gives its length.
    /// Nothing appears at `into` unless the bytes are whole and hash to `hash`.
    fn fetch<'a>(
        &'a self,
        to: Target,
        hash: BlobHash,
        into: &'a Path,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<u64, CallError>>;

    /// Asks who lives at an address: dials it and reads the certificate it presents.
    fn identify(
        &self,
        address: SocketAddr,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<NodeId, CallError>>;

    /// Looks for evidence of death: true when the host at `address` answered that nothing listens on that port.
    /// False proves nothing, and true can be forged: a hint, never a verdict.
    fn port_refused(&self, address: SocketAddr, within: Duration) -> BoxFuture<'_, bool>;

    /// Has the node at `relay` pass on to this one what others send it, for nodes that nobody can dial: they are reached at
    /// [`crate::relayed::through`] that relay. Every node relays for those that ask, within bounds; relays see who talks to
    /// whom, and nothing of what is said.
    fn attach(
        &self,
        relay: SocketAddr,
        within: Duration,
    ) -> BoxFuture<'_, Result<Attachment, CallError>>;

    /// The address this node listens on.
    fn local_address(&self) -> SocketAddr;

    /// Stops listening and closes all connections, telling the peers. Later calls are `Unreachable`.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// A link shared by the parts of a node.
pub type SharedLink = Arc<dyn Link>;
