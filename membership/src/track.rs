//! The dated view of the members, kept up to date by what changed: a mesh of thousands has news about one of them at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use riftmesh_base::{Millis, NodeId};
use riftmesh_transport::{Target, relayed};

use crate::bodies::Bodies;
use crate::effect::MeshEvent;
use crate::identity::NodeIdentity;
use crate::metadata::{Announcement, Book};
use crate::view::{NodeState, NodeView};

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

/// A life as foca has it, and since when it looks as it does. What it says of itself is in the book.
#[derive(Debug, Clone, Copy)]
struct Record {
    generation: u64,
    address: SocketAddr,
    state: NodeState,
    since: Millis,
}

/// What of a record, with what its node said, makes a difference to readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    generation: u64,
    state: NodeState,
    address: SocketAddr,
}

impl Record {
    fn new((life, state): (NodeIdentity, NodeState), since: Millis) -> Self {
        Self {
            generation: life.generation,
            address: life.address,
            state,
            since,
        }
    }

    fn life(&self, node: NodeId) -> NodeIdentity {
        NodeIdentity {
            node,
            generation: self.generation,
            address: self.address,
        }
    }

    fn look(&self, node: NodeId, said: Option<&Announcement>) -> Look {
        let life = self.life(node);
        let said_goodbye = said.is_some_and(|said| said.left && said.generation == self.generation);
        Look {
            generation: self.generation,
            state: match said_goodbye {
                true => NodeState::Left,
                false => self.state,
            },
            address: reach(&life, relay_of(&life, said)).address,
        }
    }
}

/// What may have changed since the last look.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Lives as they are now, but for goodbyes of others.
    pub(crate) members: BTreeMap<NodeId, (NodeIdentity, NodeState)>,
    /// What these nodes had said before; what they say now is in the book.
    pub(crate) said: BTreeMap<NodeId, Option<Arc<Announcement>>>,
    /// Whose bodies were learned.
    pub(crate) learned: BTreeSet<NodeId>,
    /// Who is not remembered any more.
    pub(crate) forgotten: Vec<NodeId>,
}

impl News {
    /// Those who may look different now, or say something else.
    pub(crate) fn nodes(&self) -> BTreeSet<NodeId> {
        let named = self.members.keys().chain(self.said.keys());
        named.chain(&self.learned).copied().collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
            && self.said.is_empty()
            && self.learned.is_empty()
            && self.forgotten.is_empty()
    }
}

/// The dated view that readers get.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    nodes: BTreeMap<NodeId, Record>,
}

impl Tracker {
    pub(crate) fn knows(&self, node: NodeId) -> bool {
        self.nodes.contains_key(&node)
    }

    /// Takes no more room than it must, after many were added in their order.
    pub(crate) fn pack(&mut self) {
        self.nodes = std::mem::take(&mut self.nodes).into_iter().collect();
    }

    /// Whether a node is there as far as foca knows, be it suspect.
    pub(crate) fn is_active(&self, node: NodeId) -> bool {
        let record = self.nodes.get(&node);
        record.is_some_and(|r| matches!(r.state, NodeState::Alive | NodeState::Suspect))
    }

    /// Lives that ended without a goodbye.
    pub(crate) fn lost<'a>(&'a self, book: &'a Book) -> impl Iterator<Item = NodeIdentity> + 'a {
        let down = self
            .nodes
            .iter()
            .filter(|(_, r)| r.state == NodeState::Down);
        let lost = down.filter(|(node, record)| {
            record.look(**node, book.said_by(**node)).state == NodeState::Down
        });
        lost.map(|(node, record)| record.life(*node))
    }

    /// Everybody, as readers see them.
    pub(crate) fn view(&self, book: &Book, bodies: &Bodies) -> BTreeMap<NodeId, NodeView> {
        let nodes = self.nodes.iter().map(|(&id, record)| {
            let said = book.said_by(id);
            let look = record.look(id, said);
            let view = NodeView {
                id,
                address: look.address,
                relay: relay_of(&record.life(id), said),
                generation: look.generation,
                state: look.state,
                since: record.since,
                metadata: said.map(|said| Arc::clone(&said.metadata)),
                body: bodies.of(id).cloned(),
            };
            (id, view)
        });
        nodes.collect()
    }

    /// Takes over the news and gives what they change for readers.
    pub(crate) fn refresh(
        &mut self,
        now: Millis,
        news: &News,
        book: &Book,
        bodies: &Bodies,
    ) -> Vec<MeshEvent> {
        let mut events = Vec::new();
        for node in news.nodes() {
            // One that speaks before anybody has told of its life is not known yet.
            if let Some(known) = self.nodes.get(&node).copied() {
                self.update(now, node, known, news, book, &mut events);
            } else if let Some(&member) = news.members.get(&node) {
                let record = Record::new(member, now);
                self.nodes.insert(node, record);
                let said = book.said_by(node);
                events.push(changed(node, record.look(node, said)));
                events.extend(said.map(|_| MeshEvent::Described { node }));
                events.extend(bodies.of(node).map(|_| MeshEvent::Learned { node }));
            }
        }
        for node in &news.forgotten {
            if self.nodes.remove(node).is_some() {
                events.push(MeshEvent::Forgotten { node: *node });
            }
        }
        events
    }

    fn update(
        &mut self,
        now: Millis,
        node: NodeId,
        known: Record,
        news: &News,
        book: &Book,
        events: &mut Vec<MeshEvent>,
    ) {
        let said = book.said_by(node);
        let said_before = news.said.get(&node).map_or(said, Option::as_deref);
        let member = news.members.get(&node);
        let mut record = member.map_or(known, |member| Record::new(*member, known.since));
        let (before, look) = (known.look(node, said_before), record.look(node, said));
        if (before.generation, before.state) != (look.generation, look.state) {
            record.since = now;
        }
        self.nodes.insert(node, record);
        if before != look {
            events.push(changed(node, look));
        }
        if said.map(|said| &said.metadata) != said_before.map(|said| &said.metadata) {
            events.push(MeshEvent::Described { node });
        }
        if news.learned.contains(&node) {
            events.push(MeshEvent::Learned { node });
        }
    }
}

fn changed(node: NodeId, look: Look) -> MeshEvent {
    MeshEvent::Changed {
        node,
        generation: look.generation,
        state: look.state,
    }
}
