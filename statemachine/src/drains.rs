//! Nodes that are being left without work, and when what they still hold is taken back.

use std::collections::BTreeMap;

use riftmesh_base::{Millis, NodeId};
use serde::{Deserialize, Serialize};

use crate::bounds::DRAIN_GRACE_MAX;
use crate::command::Loss;
use crate::reply::{Refusal, Reply};
use crate::state::{State, Turn};

/// When the jobs of draining nodes are taken back, in cluster time. A node that is drained without such a time may finish
/// whatever it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Drains(BTreeMap<NodeId, Millis>);

impl Drains {
    pub fn of(&self, node: NodeId) -> Option<Millis> {
        self.0.get(&node).copied()
    }

    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (NodeId, Millis)> {
        self.0.iter().map(|(node, until)| (*node, *until))
    }

    /// The next time that one of them ends.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.0.values().min().copied()
    }

    /// The node is not drained any more, or not in the roster.
    pub fn clear(&mut self, node: NodeId) {
        self.0.remove(&node);
    }

    fn take_due(&mut self, now: Millis) -> Option<NodeId> {
        let due = self.0.iter().find(|(_, until)| **until <= now);
        let node = due.map(|(node, _)| *node)?;
        self.0.remove(&node);
        Some(node)
    }
}

impl State {
    pub(crate) fn drain_within(
        &mut self,
        turn: &mut Turn,
        node: NodeId,
        grace: Millis,
    ) -> Result<Reply, Refusal> {
        if grace > DRAIN_GRACE_MAX {
            return Err(Refusal::Invalid(format!(
                "a drain within {grace}: at most {DRAIN_GRACE_MAX} are allowed"
            )));
        }
        let reply = self.drain(turn, node, true)?;
        self.drains.0.insert(node, turn.now + grace);
        self.end_drains(turn);
        Ok(reply)
    }

    /// Takes back what nodes hold whose time to finish it is over. They stay drained, so it comes to this once.
    pub(crate) fn end_drains(&mut self, turn: &mut Turn) {
        while let Some(node) = self.drains.take_due(turn.now) {
            let entry = self.nodes.roster.get(&node);
            let session = entry.and_then(|entry| entry.session);
            let session = session.and_then(|id| self.nodes.sessions.get(&id));
            let held = session.map(|session| session.held.clone());
            for job in held.unwrap_or_default() {
                self.lose(turn, job, Loss::Drained);
            }
        }
    }

    /// When what a draining node still holds is taken back, in cluster time.
    pub fn drained_by(&self, node: NodeId) -> Option<Millis> {
        self.drains.of(node)
    }
}
