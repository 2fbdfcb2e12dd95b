//! Who is let in, who is trusted no more, and who is forgotten.

use std::collections::BTreeSet;

use riftmesh_base::NodeId;

use super::{Answer, Answered, Reference};

impl Reference {
    pub(super) fn welcome(&self, node: NodeId) -> Result<(), &'static str> {
        if self.trust.revoked.contains(&node) {
            return Err("node-revoked");
        }
        Ok(())
    }

    pub(super) fn distrust(&mut self, node: NodeId) -> Answered {
        let in_roster = self.nodes.contains_key(&node);
        if !in_roster && !self.trust.knows(node) {
            return Err("unknown");
        }
        // The first is the one voter.
        if in_roster && node == NodeId(1) {
            return Err("conflict");
        }
        if self.trust.revoked.insert(node)
            && let Some(session) = self.sessions.iter().find(|s| s.node == node)
        {
            self.end_session(session.id);
        }
        Ok(Answer::Done)
    }

    pub(super) fn drain(&mut self, node: NodeId, drain: bool, grace: Option<u64>) -> Answered {
        let until = grace.map(|grace| self.now + grace);
        let node = self.nodes.get_mut(&node).ok_or("unknown")?;
        (node.draining, node.drained_by) = (drain, until);
        self.end_drains();
        Ok(Answer::Done)
    }

    /// Takes back what nodes hold that were to be drained by now, the nodes in the order of their ids.
    pub(super) fn end_drains(&mut self) {
        let now = self.now;
        let due = self.nodes.iter_mut().filter_map(|(id, node)| {
            let due = node.drained_by.filter(|until| *until <= now);
            due.map(|_| {
                node.drained_by = None;
                *id
            })
        });
        for node in due.collect::<Vec<_>>() {
            let session = self.sessions.iter().find(|s| s.node == node);
            let held = session.map(|session| self.held_by(session.id).map(|job| job.id));
            for job in held.into_iter().flatten().collect::<BTreeSet<_>>() {
                self.lose(job);
            }
        }
    }

    pub(super) fn forget(&mut self, node: NodeId) -> Answered {
        self.nodes.get(&node).ok_or("unknown")?;
        if self.sessions.iter().any(|s| s.node == node) {
            return Err("conflict");
        }
        self.nodes.remove(&node);
        if !self.trust.knows(node) {
            self.trust.rotation.forget(node);
        }
        Ok(Answer::Done)
    }
}
