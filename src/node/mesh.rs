//! What gossip knows, in the few words the rest of the node needs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use riftmesh_base::{Millis, NodeId};
use riftmesh_statemachine::roster::Role;
use riftmesh_transport::PeerTraffic;
use riftmesh_transport::link::BoxFuture;

use super::body::NodeBody;

/// A member as gossip sees it. A hint, never a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshMember {
    /// Who.
    pub node: NodeId,
    /// Its life, rising with each restart.
    pub generation: u64,
    /// Its name, empty until it has been told.
    pub name: String,
    /// What it is for, none until it has been told.
    pub role: Option<Role>,
    /// Its QUIC address; a relayed one if nobody can dial it.
    pub address: SocketAddr,
    /// Where the relay listens by which it is reached, if nobody can dial it.
    pub relay: Option<SocketAddr>,
    /// Whether it is there.
    pub state: MeshState,
    /// For how long it has been in that state.
    pub since: Millis,
    /// How long a packet takes to it and back, if there is a connection to it.
    pub rtt: Option<Duration>,
}

/// What a member says at length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// How long ago this node learned it.
    pub age: Millis,
    /// What it says.
    pub body: NodeBody,
}

/// Whether a member is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MeshState {
    /// It answers.
    Up,
    /// It has not answered lately.
    Suspect,
    /// It is gone without a word.
    Down,
    /// It said goodbye.
    Left,
}

impl MeshState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Up, Self::Suspect, Self::Down, Self::Left];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Left => "left",
        }
    }

    /// Whether that life of it is over.
    pub fn is_gone(self) -> bool {
        matches!(self, Self::Down | Self::Left)
    }
}

/// Reads the mesh.
pub trait MeshView: Send + Sync + 'static {
    /// Everybody known, this node included.
    fn members(&self) -> Vec<MeshMember>;
    /// What they say at length, of whom that is known.
    fn told(&self) -> BTreeMap<NodeId, Told>;
    /// What this node and a peer have sent each other since this one was started.
    fn traffic(&self, peer: NodeId) -> Option<PeerTraffic>;
    /// Whether the host at this address says, when asked now, that nobody listens there. Silence is a no.
    fn port_refused(&self, address: SocketAddr, within: Duration) -> BoxFuture<'_, bool>;
}

/// Shared by the parts of a node.
pub type SharedMesh = Arc<dyn MeshView>;
