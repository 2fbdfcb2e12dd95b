//! What a stored log says, for those who look at it from outside.

use std::collections::BTreeSet;

use openraft::EntryPayload;
use riftmesh_base::{BlobHash, DecodeError, LogIndex, NodeId, Term, decode};

use crate::types::{Entry, Vote};

/// One log entry, without its commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Its position.
    pub index: LogIndex,
    /// The term of the leader that wrote it.
    pub term: Term,
    /// That leader.
    pub leader: NodeId,
    /// Hash of the whole entry.
    pub hash: BlobHash,
    /// For an entry that changes the members: the sets of voters of which each needs a majority from here on. Two
    /// while a change is under way.
    pub voters: Option<Vec<BTreeSet<NodeId>>>,
}

/// Whom a node has voted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct VoteLine {
    /// In which term.
    pub term: Term,
    /// Whom.
    pub node: NodeId,
    /// Whether a quorum is known to have done the same.
    pub committed: bool,
}

/// Reads an entry as it lies in the log.
///
/// # Errors
/// The bytes are not an entry of this build's format.
pub fn log_line(bytes: &[u8]) -> Result<LogLine, DecodeError> {
    let entry: Entry = decode(bytes)?;
    let voters = match &entry.payload {
        EntryPayload::Membership(members) => {
            let set = |voters: &BTreeSet<u64>| voters.iter().copied().map(NodeId).collect();
            Some(members.get_joint_config().iter().map(set).collect())
        }
        EntryPayload::Normal(_) | EntryPayload::Blank => None,
    };
    Ok(LogLine {
        index: LogIndex(entry.log_id.index),
        term: Term(entry.log_id.leader_id.term),
        leader: NodeId(entry.log_id.leader_id.node_id),
        hash: BlobHash::of(bytes),
        voters,
    })
}

/// Reads a vote as it lies in the log.
///
/// # Errors
/// The bytes are not a vote of this build's format.
pub fn vote_line(bytes: &[u8]) -> Result<VoteLine, DecodeError> {
    let vote: Vote = decode(bytes)?;
    Ok(VoteLine {
        term: Term(vote.leader_id.term),
        node: NodeId(vote.leader_id.node_id),
        committed: vote.committed,
    })
}
