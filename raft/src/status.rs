//! One snapshot of what a node knows about its consensus group, each fact with its age.

use std::fmt;

use riftmesh_base::{LogIndex, Millis, NodeId, Term};
use serde::{Deserialize, Serialize};

/// A leader whose quorum is confirmed, and where to find it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderHint {
    /// Who.
    pub node: NodeId,
    /// `host:port` of its QUIC endpoint.
    pub address: String,
}

/// What a node is in its group now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RaftRole {
    /// Takes proposals.
    Leader,
    /// Follows a leader, and votes.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Follows without a vote, or belongs to no group yet.
    Learner,
    /// Has stopped.
    Stopped,
}

impl fmt::Display for RaftRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Learner => "learner",
            Self::Stopped => "stopped",
        })
    }
}

/// A member of the group. What only a leader knows is `None` elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Who.
    pub node: NodeId,
    /// `host:port`, as written in the log.
    pub address: String,
    /// Whether it votes.
    pub voter: bool,
    /// The last entry it is known to have.
    pub matched: Option<LogIndex>,
    /// How many entries it is behind the leader's last.
    pub lag: Option<u64>,
    /// How long ago it last answered the leader.
    pub contact_age: Option<Millis>,
}

/// What a node knows about its group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftStatus {
    /// This node.
    pub node: NodeId,
    /// What it is now.
    pub role: RaftRole,
    /// The epoch of its cluster: how often a lost quorum was given up.
    #[serde(default)]
    pub epoch: u64,
    /// The current term.
    pub term: Term,
    /// Who leads this term, as far as known; see `has_quorum` before believing it.
    pub leader: Option<NodeId>,
    /// On the leader: how long ago a quorum last answered. On others: how long ago the leader was last heard.
    pub quorum_ack_age: Option<Millis>,
    /// Whether the leader's quorum is confirmed: `quorum_ack_age` is known and shorter than an election timeout.
    pub has_quorum: bool,
    /// Whether this node belongs to a group; a fresh node does not until it is initialised or added.
    pub initialised: bool,
    /// The members, in the order of their ids.
    pub members: Vec<MemberStatus>,
    /// Log index of the entry that holds the members, to compare before changing them.
    pub members_index: Option<LogIndex>,
    /// Whether a change of the members is half done: the old and the new voters both have to agree until it is whole.
    #[serde(default)]
    pub joint: bool,
    /// The last entry in this node's log.
    pub last_log: Option<LogIndex>,
    /// The last entry this node knows to be committed.
    pub committed: Option<LogIndex>,
    /// The last entry applied to this node's state.
    pub applied: Option<LogIndex>,
    /// The last entry covered by this node's snapshot.
    pub snapshot: Option<LogIndex>,
    /// The last entry removed from this node's log.
    pub purged: Option<LogIndex>,
    /// Half of this node's last log writes took at most this many microseconds, syncs included.
    pub sync_p50_micros: u64,
    /// All but a hundredth took at most this many.
    pub sync_p99_micros: u64,
    /// Why consensus died on this node, if it did; the process should end then.
    pub dead: Option<String>,
}

impl RaftStatus {
    /// How many voters may fail before the group stops: known members only, whether they answer or not.
    pub fn failure_tolerance(&self) -> usize {
        let voters = self.members.iter().filter(|member| member.voter).count();
        voters.saturating_sub(1) / 2
    }

    /// The leader with its address, when its quorum is confirmed.
    pub fn hint(&self) -> Option<LeaderHint> {
        let leader = self.leader.filter(|_| self.has_quorum)?;
        let member = self.members.iter().find(|member| member.node == leader)?;
        Some(LeaderHint {
            node: leader,
            address: member.address.clone(),
        })
    }
}

impl fmt::Display for RaftStatus {
    /// `leader 000000000000000a (term 12, quorum ack 41ms ago, confirmed)` or `leader unknown (...)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let term = self.term;
        match (self.leader, self.quorum_ack_age) {
            (Some(leader), Some(age)) if self.has_quorum => write!(
                f,
                "leader {leader} (term {term}, quorum ack {age} ago, confirmed)"
            ),
            (Some(leader), Some(age)) => {
                write!(f, "leader unknown ({leader} claimed it {age} ago)")
            }
            (Some(leader), None) => {
                write!(
                    f,
                    "leader unknown ({leader} claims term {term}, unconfirmed)"
                )
            }
            (None, _) => write!(f, "leader unknown (term {term}, {})", self.role),
        }
    }
}
