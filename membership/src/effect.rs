//! What goes into the agent and what comes out of it, as values.

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use riftmesh_base::{Millis, NodeId};
use riftmesh_transport::Target;

use crate::metadata::NodeMetadata;
use crate::view::NodeState;

/// Names a timer that the agent asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerId(pub u64);

/// What the agent can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A gossip datagram came from the node that its connection's certificate names.
    Datagram {
        /// The sender.
        from: NodeId,
        /// What it sent.
        payload: Bytes,
    },
    /// A timer asked for by [`MeshEffect::Schedule`] is due.
    Timer(TimerId),
    /// A call came on the mesh lane; answered by [`MeshEffect::Reply`] with the same ticket.
    Request {
        /// The caller.
        from: NodeId,
        /// Returned with the reply.
        ticket: u64,
        /// What it asked.
        body: Bytes,
    },
    /// The call of a [`MeshEffect::Exchange`] was answered. A failed one needs no input.
    Exchanged {
        /// The reply.
        body: Bytes,
    },
    /// The host of a suspect said that the suspect's port is closed.
    PortRefused {
        /// The suspect.
        node: NodeId,
        /// Which life of it.
        generation: u64,
    },
    /// A new generation asked for by [`MeshEffect::Renew`] is durable.
    Renewed {
        /// The new generation.
        generation: u64,
    },
    /// What came of a [`MeshEffect::SeekRelay`]: where the relay listens by which this node is reached from now on. None
    /// when no relay was found, and when one that was found is lost.
    Relayed {
        /// The relay's address.
        relay: Option<SocketAddr>,
    },
    /// This node describes itself anew.
    Describe(NodeMetadata),
    /// This node says this at length from now on, at most [`BODY_BYTES_MAX`](crate::BODY_BYTES_MAX).
    Publish(Bytes),
    /// This node leaves.
    Leave,
}

impl Input {
    /// Whether it came from another member.
    pub(crate) fn is_message(&self) -> bool {
        matches!(
            self,
            Self::Datagram { .. } | Self::Request { .. } | Self::Exchanged { .. }
        )
    }
}

/// What the agent wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MeshEffect {
    /// Send a gossip datagram, best effort.
    Send {
        /// To whom.
        to: Target,
        /// What.
        payload: Bytes,
    },
    /// Give [`Input::Timer`] back after this time. Late is allowed, never is not.
    Schedule {
        /// The timer's name.
        timer: TimerId,
        /// How long from now.
        after: Millis,
    },
    /// Call a node on the mesh lane and give the reply back as [`Input::Exchanged`].
    Exchange {
        /// Whom.
        to: Target,
        /// What to ask.
        body: Bytes,
    },
    /// Answer the [`Input::Request`] with this ticket.
    Reply {
        /// The request's ticket.
        ticket: u64,
        /// The answer, or why there is none.
        body: Result<Bytes, String>,
    },
    /// Look whether the suspect's port is closed; if so, say [`Input::PortRefused`].
    Investigate {
        /// The suspect.
        node: NodeId,
        /// Which life of it.
        generation: u64,
        /// Where it listened.
        address: SocketAddr,
    },
    /// Try these as relays, stay with the quickest, and say [`Input::Relayed`]; once more when it is lost. An earlier relay
    /// is let go.
    SeekRelay {
        /// Who may be one, in no order.
        candidates: Vec<Target>,
    },
    /// The cluster gave this life up: make a generation above `floor` durable, then say [`Input::Renewed`].
    Renew {
        /// The generation that was given up.
        floor: u64,
    },
    /// The view has changed.
    Notify(MeshEvent),
}

/// A change in what this node believes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MeshEvent {
    /// A node appeared, or its state, generation or address changed.
    Changed {
        /// Which node.
        node: NodeId,
        /// Which life of it.
        generation: u64,
        /// Its state now.
        state: NodeState,
    },
    /// A node described itself anew.
    Described {
        /// Which node.
        node: NodeId,
    },
    /// What a node says at length is known now, or anew.
    Learned {
        /// Which node.
        node: NodeId,
    },
    /// A gone node was forgotten.
    Forgotten {
        /// Which node.
        node: NodeId,
    },
    /// This node knows at least one other now.
    Joined,
    /// This node knows no other any more.
    Alone,
}

impl fmt::Display for MeshEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed {
                node,
                generation,
                state,
            } => write!(f, "{node}#{generation} is {state}"),
            Self::Described { node } => write!(f, "{node} described itself"),
            Self::Learned { node } => write!(f, "the body of {node} is known"),
            Self::Forgotten { node } => write!(f, "{node} is forgotten"),
            Self::Joined => f.write_str("joined"),
            Self::Alone => f.write_str("alone"),
        }
    }
}

impl fmt::Display for MeshEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send { to, payload } => write!(f, "send {} bytes to {to}", payload.len()),
            Self::Schedule { timer, after } => write!(f, "schedule {} in {after}", timer.0),
            Self::Exchange { to, .. } => write!(f, "exchange views with {to}"),
            Self::Reply { body: Ok(_), .. } => f.write_str("reply"),
            Self::Reply {
                body: Err(reason), ..
            } => write!(f, "refuse: {reason}"),
            Self::Investigate { node, address, .. } => {
                write!(f, "look whether the port of {node} at {address} is closed")
            }
            Self::SeekRelay { candidates } => {
                write!(f, "look for a relay among {}", candidates.len())
            }
            Self::Renew { floor } => write!(f, "renew above {floor}"),
            Self::Notify(event) => write!(f, "notify: {event}"),
        }
    }
}
