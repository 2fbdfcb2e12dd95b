//! Clients of the cluster, for the parts of a node that need one.

use std::net::SocketAddr;
use std::sync::Arc;

use rand::RngExt;
use riftmesh_base::NodeId;
use riftmesh_raft::RaftNode;
use riftmesh_statemachine::roster::Role;
use riftmesh_transport::link::{SharedLink, Target};

use super::mesh::SharedMesh;
use crate::client::{Client, LocalService, VoterDirectory};

/// Makes clients, each with a number of its own, so that they do not queue behind one another.
#[derive(Clone)]
pub struct ClientFactory {
    pub node: NodeId,
    pub mesh: SharedMesh,
    pub link: SharedLink,
    pub seeds: Vec<SocketAddr>,
    /// This node's own service and consensus, if it votes.
    pub own: Option<(Arc<dyn LocalService>, RaftNode)>,
}

impl ClientFactory {
    /// A new client.
    pub fn make(&self) -> Client {
        let directory = Directory {
            mesh: Arc::clone(&self.mesh),
            raft: self.own.as_ref().map(|(_, raft)| raft.clone()),
            seeds: self.seeds.clone(),
        };
        let local = self
            .own
            .as_ref()
            .map(|(service, _)| (self.node, Arc::clone(service)));
        Client::new(
            Arc::clone(&self.link),
            Arc::new(directory),
            local,
            rand::rng().random(),
        )
    }
}

/// The voters as consensus, gossip and the command line know them, in that order.
struct Directory {
    mesh: SharedMesh,
    raft: Option<RaftNode>,
    seeds: Vec<SocketAddr>,
}

impl VoterDirectory for Directory {
    fn voters(&self) -> Vec<Target> {
        let mesh = self.mesh.members();
        let gossip = mesh
            .iter()
            .filter(|member| member.role == Some(Role::Voter));
        let mut targets: Vec<_> = gossip
            .map(|member| Target {
                node: Some(member.node),
                address: member.address,
            })
            .collect();
        if let Some(raft) = &self.raft {
            let members = raft
                .status()
                .members
                .into_iter()
                .filter(|member| member.voter);
            let unheard =
                members.filter(|member| !mesh.iter().any(|known| known.node == member.node));
            targets.extend(unheard.filter_map(|member| {
                Some(Target {
                    node: Some(member.node),
                    address: member.address.parse().ok()?,
                })
            }));
        }
        if targets.is_empty() {
            targets.extend(self.seeds.iter().map(|address| Target {
                node: None,
                address: *address,
            }));
        }
        targets
    }
}
