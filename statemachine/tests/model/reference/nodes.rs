//! Who is let in, who is trusted no more, and who is forgotten.

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

    pub(super) fn forget(&mut self, node: NodeId) -> Answered {
        self.nodes.get(&node).ok_or("unknown")?;
        if self.sessions.iter().any(|s| s.node == node) {
            return Err("conflict");
        }
        self.nodes.remove(&node);
        Ok(Answer::Done)
    }
}
