//! The membership view in the words of this crate.

use riftmesh_membership::{AdvertisedRole, Membership, NodeState};
use riftmesh_statemachine::roster::Role;

use super::mesh::{MeshMember, MeshState, MeshView};

/// Reads the mesh from the membership agent.
pub struct Gossip(Membership);

impl Gossip {
    /// A view of what `membership` believes.
    pub fn new(membership: Membership) -> Self {
        Self(membership)
    }
}

impl MeshView for Gossip {
    fn members(&self) -> Vec<MeshMember> {
        let now = self.0.now();
        let view = self.0.view();
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
                NodeState::Down | NodeState::Left => MeshState::Down,
            },
            since: now.since(node.since),
        });
        members.collect()
    }
}
