//! For tests: the view made from all that an agent holds, to compare with the one that is kept up to date.

use std::collections::BTreeMap;
use std::sync::Arc;

use foca::BroadcastHandler;
use riftmesh_base::{BlobHash, Millis, NodeId};

use super::Agent;
use crate::track::{reach, relay_of};
use crate::view::{NodeState, NodeView};

impl Agent {
    /// Hears an announcement as foca hands in what gossip brings. Whether it is passed on.
    pub(crate) fn overhear(&mut self, announcement: &[u8]) -> bool {
        let heard = self.announcements.receive_item(announcement, None);
        heard.is_ok_and(|key| key.is_some())
    }

    /// What readers should see, and whose bodies should be missing, by all that foca, the book and the bodies hold. Since when,
    /// nobody knows here.
    pub(crate) fn made_from_everything(
        &self,
    ) -> (BTreeMap<NodeId, NodeView>, BTreeMap<NodeId, BlobHash>) {
        let book = self.announcements.book();
        let own = self.identity().node;
        let (mut nodes, mut missing) = (BTreeMap::new(), BTreeMap::new());
        for (life, state) in self.everybody() {
            let said = book.said_by(life.node);
            let has_left = said.is_some_and(|s| s.left && s.generation == life.generation);
            let body = self.bodies.of(life.node).cloned();
            let announced = said.and_then(|said| said.body);
            let is_there = life.node != own && state != NodeState::Down;
            if let Some(hash) = announced.filter(|_| is_there)
                && body.as_ref().map(|body| body.hash) != Some(hash)
            {
                missing.insert(life.node, hash);
            }
            let view = NodeView {
                id: life.node,
                address: reach(&life, relay_of(&life, said)).address,
                relay: relay_of(&life, said),
                generation: life.generation,
                state: if has_left { NodeState::Left } else { state },
                since: Millis(0),
                metadata: said.map(|said| Arc::clone(&said.metadata)),
                body,
            };
            nodes.insert(life.node, view);
        }
        (nodes, missing)
    }

    /// What this agent believes to be missing.
    pub(crate) fn missing(&self) -> &BTreeMap<NodeId, BlobHash> {
        self.bodies.missing()
    }
}
