//! What nodes say at length: a few hundred bytes each, which gossip names by their hash and others fetch by it.
//!
//! What the bytes mean is not known here. A hash says what is wanted, so it does not matter whom they come from.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use riftmesh_base::{BlobHash, Millis, NodeId};

use crate::metadata::Announcement;

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
    /// Counts what was learned, so that a reader can tell that nothing was.
    changes: u64,
}

impl Bodies {
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    pub(crate) fn of(&self, node: NodeId) -> Option<&KnownBody> {
        self.nodes.get(&node)
    }

    pub(crate) fn keep(&mut self, node: NodeId, body: KnownBody) {
        self.nodes.insert(node, body);
        self.changes += 1;
    }

    /// Forgets all other nodes.
    pub(crate) fn retain(&mut self, is_known: impl Fn(NodeId) -> bool) {
        self.nodes.retain(|node, _| is_known(*node));
    }

    /// Those of `nodes` that announced another body than the one known of them.
    pub(crate) fn missing(
        &self,
        nodes: impl Iterator<Item = NodeId>,
        announced: &BTreeMap<NodeId, Announcement>,
    ) -> Vec<(NodeId, BlobHash)> {
        nodes
            .filter_map(|node| {
                let hash = announced.get(&node)?.body?;
                let known = self.of(node).map(|known| known.hash);
                (known != Some(hash)).then_some((node, hash))
            })
            .collect()
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
