//! What nodes say to each other in calls on the mesh lane.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use foca::Member;
use riftmesh_base::{BlobHash, NodeId, encode};
use serde::{Deserialize, Serialize};

use crate::identity::NodeIdentity;
use crate::metadata::Announcement;
use crate::view::NodeState;

/// A call on the mesh lane.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum MeshRequest {
    /// Push-pull: here is all I know, tell me all you know. The reply is [`MeshReply::View`].
    Exchange(WholeView),
    /// Do you know what I know? A mesh at rest answers [`MeshReply::Same`], which saves sending views that hold no news.
    Compare {
        /// What [`digest`] makes of the caller's view.
        digest: BlobHash,
    },
    /// The caller's life of this generation is over. Sent by what outlives it: its supervisor, with its credential.
    Goodbye {
        /// The generation that ended.
        generation: u64,
    },
    /// What do nodes say at length? The reply is [`MeshReply::Bodies`], with those that the answerer has.
    Bodies {
        /// The hashes of what was said, at most [`BODIES_PER_CALL`](crate::bodies::BODIES_PER_CALL).
        hashes: Vec<BlobHash>,
    },
}

/// The answer to an exchange or a comparison.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum MeshReply {
    /// All the answerer knew, before it heard what the caller knows.
    View(WholeView),
    /// The two know the same.
    Same,
    /// They do not; the caller should exchange views with this node.
    Different(NodeIdentity),
    /// In no order; the caller knows them by their hashes.
    Bodies(Vec<Vec<u8>>),
}

/// What two views are compared by: who lives which life in which state, and how new its description is. Incarnations are
/// left out, since a denied suspicion leaves no difference that matters.
pub(crate) fn digest(
    members: impl Iterator<Item = (NodeIdentity, NodeState)>,
    announced: &BTreeMap<NodeId, Arc<Announcement>>,
) -> BlobHash {
    let mut lines: Vec<_> = members
        .map(|(life, state)| {
            let announcement = announced.get(&life.node);
            let age = announcement.map(|a| (a.generation, a.version));
            (life.node, life.generation, life.address, state, age)
        })
        .collect();
    lines.sort_unstable();
    BlobHash::of(&encode(&lines))
}

/// All that a node knows about the mesh.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WholeView {
    pub(crate) sender: NodeIdentity,
    pub(crate) members: Vec<Member<NodeIdentity>>,
    pub(crate) announcements: Vec<Announcement>,
}

/// The call on the mesh lane by which a node's supervisor testifies that the life of this generation is over. One
/// member that hears it tells all others.
pub fn goodbye(generation: u64) -> Bytes {
    encode(&MeshRequest::Goodbye { generation }).into()
}
