//! The membership view in the words of this crate.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use riftmesh_base::NodeId;
use riftmesh_membership::{AdvertisedRole, Membership, NodeState};
use riftmesh_statemachine::roster::Role;
use riftmesh_transport::link::BoxFuture;
use riftmesh_transport::{Link as _, PeerTraffic, QuicLink};

use super::body::NodeBody;
use super::mesh::{MeshMember, MeshState, MeshView, Told};

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
            state: match node.state {
                NodeState::Alive => MeshState::Up,
                NodeState::Suspect => MeshState::Suspect,
                NodeState::Down => MeshState::Down,
                NodeState::Left => MeshState::Left,
            },
            since: now.since(node.since),
            rtt: rtts.get(&node.id).copied(),
        });
        members.collect()
    }

    fn told(&self) -> BTreeMap<NodeId, Told> {
        let now = self.membership.now();
        let view = self.membership.view();
        let told = view.nodes.values().filter_map(|node| {
            let known = node.body.as_ref()?;
            let body = NodeBody::from_bytes(&known.bytes)
                .inspect_err(|error| tracing::debug!(node = %node.id, %error, "cannot be read"))
                .ok()?;
            let age = now.since(known.since);
            Some((node.id, Told { age, body }))
        });
        told.collect()
    }

    fn traffic(&self, peer: NodeId) -> Option<PeerTraffic> {
        self.link.traffic(peer)
    }

    fn port_refused(&self, address: SocketAddr, within: Duration) -> BoxFuture<'_, bool> {
        self.link.port_refused(address, within)
    }
}
