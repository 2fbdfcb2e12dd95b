//! Nodes the cluster has admitted.

use std::fmt;

use riftmesh_base::NodeId;
use serde::{Deserialize, Serialize};

/// What a node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Replicates the log and votes. It may run jobs too.
    Voter,
    /// Runs jobs.
    Worker,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Voter => "voter",
            Self::Worker => "worker",
        })
    }
}

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
