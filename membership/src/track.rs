//! Compares what foca and the announcements say now with what they said before, and dates the changes.

use std::collections::BTreeMap;

use foca::State;
use riftmesh_base::{Millis, NodeId};

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
    /// Whether nothing has changed since the last call: who this node is and whether it left, the number of announcements
    /// learned, and the members.
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
            events.extend(self.observe(now, life, state));
            events.extend(self.describe(life.node, announcement));
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

    fn observe(&mut self, now: Millis, life: &NodeIdentity, state: NodeState) -> Option<MeshEvent> {
        let view = self.nodes.entry(life.node).or_insert_with(|| NodeView {
            id: life.node,
            address: life.address,
            // No life yet, so that the first one is a change.
            generation: 0,
            state: NodeState::Down,
            since: now,
            metadata: None,
        });
        let before = (view.generation, view.address, view.state);
        if before == (life.generation, life.address, state) {
            return None;
        }
        view.generation = life.generation;
        view.address = life.address;
        view.state = state;
        view.since = now;
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
}
