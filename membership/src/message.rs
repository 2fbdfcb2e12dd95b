//! What nodes say to each other in calls on the mesh lane.

use bytes::Bytes;
use foca::Member;
use riftmesh_base::encode;
use serde::{Deserialize, Serialize};

use crate::identity::NodeIdentity;
use crate::metadata::Announcement;

/// A call on the mesh lane.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum MeshRequest {
    /// Push-pull: here is all I know, tell me all you know. The reply is a [`WholeView`].
    Exchange(WholeView),
    /// The caller's life of this generation is over. Sent by what outlives it: its supervisor, with its credential.
    Goodbye {
        /// The generation that ended.
        generation: u64,
    },
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
