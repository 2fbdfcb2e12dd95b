//! The membership view in the words of this crate.

use std::sync::Arc;

use riftmesh_membership::{AdvertisedRole, Membership, NodeState};
use riftmesh_statemachine::roster::Role;
use riftmesh_transport::QuicLink;

use super::mesh::{MeshMember, MeshState, MeshView};

/// Reads the mesh from the membership agent.
pub struct Gossip {
    membership: Membership,
    /// Knows how far those are that this node has connections to.
    link: Arc<QuicLink>,
}

impl Gossip {
    /// A view of what `membership` believes.
    pub fn new(membership: Membership, link: Arc<QuicLink>) -> Self {
        Self { membership, link }
    }
}

impl MeshView for Gossip {
    fn members(&self) -> Vec<MeshMember> {
        let now = self.membership.now();
        let view = self.membership.view();
        let rtts = self.link.round_trips();
        let members = view.nodes.values().map(|node| MeshMember {
            node: node.id,
            generation: node.generation,
            name: node.name(),
            role: node.role().map(|role| match role {
                AdvertisedRole::Voter => Role::Voter,
                AdvertisedRole::Worker => Role::Worker,
            }),
            address: node.address,
            relay: node.relay,
            http: node
                .metadata
                .as_ref()
                .and_then(|said| said.http)
                .map(|address| address.to_string()),
            state: match node.state {
                NodeState::Alive => MeshState::Up,
                NodeState::Suspect => MeshState::Suspect,
                NodeState::Down => MeshState::Down,
                NodeState::Left => MeshState::Left,
            },
            since: now.since(node.since),
            version: node.metadata.as_ref().map(|said| said.version.clone()),
            rtt: rtts.get(&node.id).copied(),
        });
        members.collect()
    }
}
