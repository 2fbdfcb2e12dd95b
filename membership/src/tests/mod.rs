//! Whole nodes on real links. The agent under a virtual clock is in the `tests` crate.

mod admission;
mod bodies;
mod comparison;
mod driver;
mod incremental;
mod refutation;

use std::net::SocketAddr;

use riftmesh_base::{Millis, NodeId, Seed};

use crate::{AdvertisedRole, Agent, MembershipSettings, NodeIdentity, NodeMetadata};

fn metadata(node: u64) -> NodeMetadata {
    NodeMetadata {
        name: format!("node-{node}"),
        role: AdvertisedRole::Worker,
    }
}

fn life(node: u64) -> NodeIdentity {
    NodeIdentity {
        node: NodeId(node),
        generation: 1,
        address: SocketAddr::from(([10, 0, 0, 1], 7_000 + u16::try_from(node).unwrap())),
    }
}

/// An agent that was started just now.
fn agent(node: u64) -> Agent {
    let settings = MembershipSettings::default();
    let mut agent =
        Agent::new(settings, life(node), metadata(node), Vec::new(), Seed(node)).unwrap();
    agent.start(Millis(0));
    agent
}
