//! What a node believes about the mesh: a snapshot for readers, never a verdict. The log decides.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use riftmesh_base::{Millis, NodeId};
use serde::{Deserialize, Serialize};

use crate::bodies::KnownBody;
use crate::metadata::{AdvertisedRole, NodeMetadata};

/// What gossip says about a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// It answers.
    Alive,
    /// It did not answer somebody and has not objected yet.
    Suspect,
    /// It did not answer for longer than an honest pause lasts, or its death was testified to.
    Down,
    /// It said goodbye.
    Left,
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Left => "left",
        })
    }
}

/// One node as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Which node.
    pub id: NodeId,
    /// Where it is reached; a relayed address if nobody can dial it.
    pub address: SocketAddr,
    /// Where the relay listens by which it is reached, if nobody can dial it.
    pub relay: Option<SocketAddr>,
    /// Which life of it.
    pub generation: u64,
    /// What gossip says.
    pub state: NodeState,
    /// Since when, on this process's mesh clock; see [`MembershipView::at`].
    pub since: Millis,
    /// What it said about itself, once that is known.
    pub metadata: Option<Arc<NodeMetadata>>,
    /// What it said last at length, of what this node could fetch.
    pub body: Option<KnownBody>,
}

impl NodeView {
    /// Its name, or its id while the name is not known.
    pub fn name(&self) -> String {
        let name = self.metadata.as_ref().map(|m| m.name.clone());
        name.unwrap_or_else(|| self.id.to_string())
    }

    /// What it offers to be, once that is known.
    pub fn role(&self) -> Option<AdvertisedRole> {
        self.metadata.as_ref().map(|m| m.role)
    }
}

/// A hint that a life of a node may be over. Weigh it with other evidence before acting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspicion {
    /// Which node.
    pub node: NodeId,
    /// Which life of it.
    pub generation: u64,
    /// How bad it looks; never `Alive`.
    pub state: NodeState,
    /// For how long it has looked so.
    pub age: Millis,
}

/// All nodes as one node sees them, itself included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembershipView {
    /// Whose view.
    pub local: NodeId,
    /// When it was taken, on this process's mesh clock (milliseconds since its start).
    pub at: Millis,
    /// The nodes, gone ones included for a day.
    pub nodes: BTreeMap<NodeId, NodeView>,
}

impl MembershipView {
    /// The node, if it is known.
    pub fn get(&self, node: NodeId) -> Option<&NodeView> {
        self.nodes.get(&node)
    }

    /// Nodes that gossip does not count out: alive or suspect.
    pub fn active(&self) -> impl Iterator<Item = &NodeView> {
        self.nodes
            .values()
            .filter(|node| matches!(node.state, NodeState::Alive | NodeState::Suspect))
    }

    /// Hints about nodes that may be gone, as of `now` on the mesh clock.
    pub fn suspicions(&self, now: Millis) -> impl Iterator<Item = Suspicion> {
        let doubtful = self.nodes.values().filter(|n| n.state != NodeState::Alive);
        doubtful.map(move |n| Suspicion {
            node: n.id,
            generation: n.generation,
            state: n.state,
            age: now.since(n.since),
        })
    }
}
