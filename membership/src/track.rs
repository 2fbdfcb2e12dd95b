//! Compares what foca and the announcements say now with what they said before, and dates the changes.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use foca::State;
use riftmesh_base::{Millis, NodeId};
use riftmesh_transport::{Target, relayed};

use crate::bodies::Bodies;
use crate::effect::MeshEvent;
use crate::identity::NodeIdentity;
use crate::metadata::Announcement;
use crate::view::{NodeState, NodeView};

/// What the view was last made from. Most steps of the protocol change nothing, and this tells so without looking up
/// every member.
#[derive(Debug, Default)]
pub(crate) struct Glance {
    own: Option<(NodeIdentity, bool)>,
    announced: u64,
    members: Vec<(NodeIdentity, State)>,
}

impl Glance {
    /// Whether nothing has changed since the last call: who this node is and whether it left, how much was learned of what
    /// nodes say, and the members.
    pub(crate) fn is_still(
        &mut self,
        own: (NodeIdentity, bool),
        announced: u64,
        members: impl ExactSizeIterator<Item = (NodeIdentity, State)>,
    ) -> bool {
        let count = members.len();
        let mut still =
            (self.own, self.announced, self.members.len()) == (Some(own), announced, count);
        (self.own, self.announced) = (Some(own), announced);
        self.members.truncate(count);
        for (at, member) in members.enumerate() {
            match self.members.get_mut(at) {
                Some(before) if *before == member => continue,
                Some(before) => *before = member,
                None => self.members.push(member),
            }
            still = false;
        }
        still
    }
}

/// The relay of a life, if its description, and not that of another life, names one.
pub(crate) fn relay_of(
    life: &NodeIdentity,
    announcement: Option<&Announcement>,
) -> Option<SocketAddr> {
    let announcement = announcement?;
    let is_meant = life.is_dial_out() && announcement.generation == life.generation;
    announcement.relay.filter(|_| is_meant)
}

/// Where a life with this relay is reached, and who must answer there.
pub(crate) fn reach(life: &NodeIdentity, relay: Option<SocketAddr>) -> Target {
    let relayed = relay.and_then(|relay| relayed::through(relay, life.node));
    Target {
        node: Some(life.node),
        address: relayed.unwrap_or(life.address),
    }
}

/// The dated view that readers get.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    nodes: BTreeMap<NodeId, NodeView>,
}

impl Tracker {
    pub(crate) fn nodes(&self) -> &BTreeMap<NodeId, NodeView> {
        &self.nodes
    }

    /// Takes over `seen` (every known node with its state) and gives what changed.
    pub(crate) fn refresh(
        &mut self,
        now: Millis,
        seen: Vec<(NodeIdentity, NodeState)>,
        announced: &BTreeMap<NodeId, Announcement>,
        bodies: &Bodies,
    ) -> Vec<MeshEvent> {
        let mut events = Vec::new();
        for (life, state) in &seen {
            let announcement = announced.get(&life.node);
            let said_goodbye =
                announcement.is_some_and(|a| a.left && a.generation == life.generation);
            let state = if said_goodbye {
                NodeState::Left
            } else {
                *state
            };
            events.extend(self.observe(now, life, state, relay_of(life, announcement)));
            events.extend(self.describe(life.node, announcement));
            events.extend(self.learn(life.node, bodies));
        }
        let gone = self.nodes.len() - seen.len();
        if gone > 0 {
            self.nodes.retain(|node, _| {
                let known = seen.iter().any(|(life, _)| life.node == *node);
                if !known {
                    events.push(MeshEvent::Forgotten { node: *node });
                }
                known
            });
        }
        events
    }

    fn observe(
        &mut self,
        now: Millis,
        life: &NodeIdentity,
        state: NodeState,
        relay: Option<SocketAddr>,
    ) -> Option<MeshEvent> {
        let view = self.nodes.entry(life.node).or_insert_with(|| NodeView {
            id: life.node,
            address: life.address,
            relay: None,
            // No life yet, so that the first one is a change.
            generation: 0,
            state: NodeState::Down,
            since: now,
            metadata: None,
            body: None,
        });
        let address = reach(life, relay).address;
        let before = (view.generation, view.address, view.state);
        if before == (life.generation, address, state) {
            return None;
        }
        if (view.generation, view.state) != (life.generation, state) {
            view.since = now;
        }
        view.generation = life.generation;
        (view.address, view.relay) = (address, relay);
        view.state = state;
        Some(MeshEvent::Changed {
            node: life.node,
            generation: life.generation,
            state,
        })
    }

    fn describe(&mut self, node: NodeId, announcement: Option<&Announcement>) -> Option<MeshEvent> {
        let view = self.nodes.get_mut(&node)?;
        let announced = announcement.map(|a| &a.metadata)?;
        if view.metadata.as_ref() == Some(announced) {
            return None;
        }
        view.metadata = Some(announced.clone());
        Some(MeshEvent::Described { node })
    }

    fn learn(&mut self, node: NodeId, bodies: &Bodies) -> Option<MeshEvent> {
        let view = self.nodes.get_mut(&node)?;
        let known = bodies.of(node)?;
        if view.body.as_ref() == Some(known) {
            return None;
        }
        view.body = Some(known.clone());
        Some(MeshEvent::Learned { node })
    }
}
