//! What is let in: datagrams of whom they claim to be from, and no more nodes than a mesh may have.

use bytes::Buf;
use foca::{Codec, Member, Message, PostcardCodec};
use riftmesh_base::{Millis, NodeId};

use super::Agent;
use crate::identity::NodeIdentity;
use crate::metadata::NODES_MAX;

/// Why a datagram was refused.
#[derive(Debug, thiserror::Error)]
enum DatagramError {
    #[error("it cannot be read: {0}")]
    Malformed(#[from] postcard::Error),
    #[error("it claims to be from {0}")]
    Forged(NodeId),
    #[error(
        "the mesh is full with {NODES_MAX} nodes, gone ones included, and it names another one"
    )]
    Full,
}

impl Agent {
    pub(super) fn datagram(&mut self, now: Millis, from: NodeId, payload: &[u8]) {
        match self.admit(from, payload) {
            Ok(()) => self.run(now, |core, runtime| core.handle_data(payload, runtime)),
            Err(error) => tracing::warn!(%from, %error, "a datagram was refused"),
        }
    }

    fn admit(&self, from: NodeId, mut payload: &[u8]) -> Result<(), DatagramError> {
        let header = Codec::<NodeIdentity>::decode_header(&mut PostcardCodec, &mut payload)?;
        if header.src.node != from {
            return Err(DatagramError::Forged(header.src.node));
        }
        if !self.is_full() {
            return Ok(());
        }
        let mut named = vec![header.src];
        // As foca lays datagrams out: after the header the number of updates, then the updates, then other news.
        if payload.remaining() >= 2 && header.message != Message::Broadcast {
            for _ in 0..payload.get_u16() {
                let member: Member<NodeIdentity> = PostcardCodec.decode_member(&mut payload)?;
                named.push(*member.id());
            }
        }
        if named.iter().all(|life| self.knows(life.node)) {
            Ok(())
        } else {
            Err(DatagramError::Full)
        }
    }

    /// Whether as many nodes are remembered as may be.
    pub(super) fn is_full(&self) -> bool {
        self.core.iter_membership_state().len() >= NODES_MAX
    }

    pub(super) fn knows(&self, node: NodeId) -> bool {
        let mut members = self.core.iter_membership_state();
        members.any(|member| member.id().node == node)
    }
}
