//! Nodes the cluster has admitted.

pub use riftmesh_base::Role;
use riftmesh_base::{Millis, NodeId, SessionId};
use serde::{Deserialize, Serialize};

/// A node in the roster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its id.
    pub id: NodeId,
    /// Its name, for people; need not be unique.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// `host:port` of its QUIC endpoint when it was admitted.
    pub address: String,
}

/// What the cluster knows of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// As admitted, or last updated.
    pub record: NodeRecord,
    /// Cluster time of the first admission.
    pub admitted: Millis,
    /// The mesh generation of its last session, zero before the first.
    pub generation: u64,
    /// Whether it is left without new work.
    pub draining: bool,
    /// Its session, while it has one.
    pub session: Option<SessionId>,
}

/// One life of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Its id.
    pub id: SessionId,
    /// The worker's node.
    pub node: NodeId,
    /// The node's generation in the mesh.
    pub generation: u64,
    /// Slots offered.
    pub slots: u16,
    /// Whether it has a CUDA device.
    pub cuda: bool,
    /// Cluster time of its opening.
    pub opened: Millis,
    /// Memory of the CUDA device in MiB, zero if it did not say.
    #[serde(default)]
    pub gpu_memory_mib: u32,
    /// Labels offered, sorted.
    #[serde(default)]
    pub labels: Vec<String>,
}
