//! What nodes say at length: a few hundred bytes each, which gossip names by their hash and others fetch by it.
//!
//! What the bytes mean is not known here. A hash says what is wanted, so it does not matter whom they come from.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use riftmesh_base::{BlobHash, Millis, NodeId};

/// Longest body.
pub const BODY_BYTES_MAX: usize = 4 << 10;
/// Bodies asked for in one call.
pub(crate) const BODIES_PER_CALL: usize = 64;

/// What a node said at length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownBody {
    /// The bytes' hash.
    pub hash: BlobHash,
    /// The bytes, as the node gave them to its membership.
    pub bytes: Bytes,
    /// When this node learned them, on its mesh clock.
    pub since: Millis,
}

/// The last body known of each node. One that has been replaced is still shown until the next has been fetched.
#[derive(Debug, Default)]
pub(crate) struct Bodies {
    nodes: BTreeMap<NodeId, KnownBody>,
    /// What others announced and is not here.
    missing: BTreeMap<NodeId, BlobHash>,
    /// Whose bodies were learned since the last look.
    learned: BTreeSet<NodeId>,
}

impl Bodies {
    /// Whose bodies were learned since this was last called.
    pub(crate) fn take_learned(&mut self) -> BTreeSet<NodeId> {
        std::mem::take(&mut self.learned)
    }

    pub(crate) fn of(&self, node: NodeId) -> Option<&KnownBody> {
        self.nodes.get(&node)
    }

    pub(crate) fn keep(&mut self, node: NodeId, body: KnownBody) {
        self.nodes.insert(node, body);
        self.learned.insert(node);
    }

    /// Forgets all other nodes.
    pub(crate) fn retain(&mut self, is_known: impl Fn(NodeId) -> bool) {
        self.nodes.retain(|node, _| is_known(*node));
    }

    /// Takes note of what is wanted of a node: the body with this hash, or nothing.
    pub(crate) fn want(&mut self, node: NodeId, announced: Option<BlobHash>) {
        let known = self.of(node).map(|known| known.hash);
        match announced {
            Some(hash) if known != Some(hash) => self.missing.insert(node, hash),
            _ => self.missing.remove(&node),
        };
    }

    /// What was announced and is not here.
    pub(crate) fn missing(&self) -> &BTreeMap<NodeId, BlobHash> {
        &self.missing
    }

    /// The bytes with these hashes, each once, as far as they are here.
    pub(crate) fn select(&self, hashes: &[BlobHash]) -> Vec<Vec<u8>> {
        let mut wanted: BTreeSet<_> = hashes.iter().collect();
        let known = self.nodes.values();
        known
            .filter(|known| wanted.remove(&known.hash))
            .map(|known| known.bytes.to_vec())
            .collect()
    }
}
