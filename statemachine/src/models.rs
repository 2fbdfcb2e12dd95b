//! The model registry: candidates, evidence, the promotion rule and the champion pointer.

use riftmesh_base::{BlobHash, Millis, NodeId};
use serde::{Deserialize, Serialize};

use crate::job::ModelRecord;

/// Where a model stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelState {
    /// Waiting for evidence.
    Candidate,
    /// The champion.
    Promoted,
    /// Refused by the promotion rule.
    Rejected {
        /// The rule's words.
        reason: String,
    },
    /// Was champion until a better one came.
    Superseded,
    /// Was champion until an operator or a regression took it back.
    RolledBack {
        /// Why.
        reason: String,
    },
}

/// A model in the registry. Its rating is not part of the state: see [`Rating`](crate::query::Rating).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelEntry {
    /// As registered.
    pub record: ModelRecord,
    /// Rises by one with every model of a configuration; for people.
    pub number: u32,
    /// Where it stands.
    pub state: ModelState,
    /// Games won and lost against the champion it challenges, the evidence of the promotion rule.
    pub evidence: Evidence,
    /// The last words of the promotion rule about it, empty before it was judged.
    pub verdict: String,
    /// Nodes known to have the weights, at most `HOLDERS_MAX`, the longest known first.
    pub holders: Vec<NodeId>,
    /// Cluster time of registration.
    pub registered: Millis,
    /// Cluster time of the last change of state.
    pub changed: Millis,
}

/// Games of a candidate against one opponent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The opponent: the champion when the first of these games was reported, none for the untrained start.
    pub opponent: Option<BlobHash>,
    /// Simulations per decision on both sides; zero before the first game. Games at a smaller budget do not count,
    /// games at a larger one start the evidence anew.
    pub simulations: u32,
    /// Won.
    pub wins: u32,
    /// Lost.
    pub losses: u32,
}

/// What the promotion rule says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The champion pointer moved to the candidate.
    Promoted {
        /// Such as `+133 Elo after 92 games (63-29), SPRT 2.95 of 2.94`.
        reason: String,
    },
    /// The candidate was rejected.
    Rejected {
        /// Such as `-98 Elo after 97 games (35-62), SPRT -3.21 of 2.94`.
        reason: String,
    },
    /// More games are needed.
    Undecided {
        /// Where the test stands.
        reason: String,
    },
}
