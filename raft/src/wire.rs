//! What travels between voters on the Raft lane.

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use riftmesh_base::{BlobHash, DecodeError, decode, encode};
use serde::{Deserialize, Serialize};

use crate::types::{LogId, Membership, Payload, TypeConfig, Vote};

/// A request and whom it is for: a node that took over an address must not answer for the one before.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Envelope {
    pub to: u64,
    pub request: Request,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Append(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<TypeConfig>),
    PreVote(VoteRequest<TypeConfig>),
    Transfer(TransferLeaderRequest<TypeConfig>),
    Snapshot(SnapshotPart),
    /// Asks the leader for an index that a linearizable read has to wait for.
    ReadIndex,
    /// A request within an epoch other than the first, encoded; never one of these again. Builds that do not know it
    /// refuse it.
    InEpoch {
        epoch: u64,
        request: Payload,
    },
}

/// Terms and indexes stay below this for ever; counting on from a larger one could overflow.
const NUMBER_MAX: u64 = 1 << 56;

impl Request {
    /// Whether its numbers can be true: consensus takes them at their word, and dies of some that cannot.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check_numbers(&self) -> Result<(), String> {
        match self {
            Self::Append(rpc) => {
                check_vote(&rpc.vote)?;
                check_id(rpc.prev_log_id)?;
                check_id(rpc.leader_commit)?;
                let first = rpc.prev_log_id.map_or(0, |prev| prev.index + 1);
                (first..).zip(&rpc.entries).try_for_each(|(index, entry)| {
                    check_id(Some(entry.log_id))?;
                    let found = entry.log_id.index;
                    let next = format!("entry {found} where {index} should be");
                    (found == index).then_some(()).ok_or(next)
                })
            }
            Self::Vote(rpc) | Self::PreVote(rpc) => {
                check_vote(&rpc.vote)?;
                check_id(rpc.last_log_id)
            }
            Self::Transfer(rpc) => {
                check_vote(rpc.from_leader())?;
                check_id(rpc.last_log_id().copied())
            }
            Self::Snapshot(part) => {
                check_vote(&part.vote)?;
                check_id(part.last_log_id)?;
                check_id(*part.membership.log_id())
            }
            Self::ReadIndex | Self::InEpoch { .. } => Ok(()),
        }
    }

    /// The request as it travels within `epoch`: as it is in the first one.
    pub fn within(self, epoch: u64) -> Self {
        match epoch {
            0 => self,
            epoch => Self::InEpoch {
                epoch,
                request: Payload(encode(&self).into()),
            },
        }
    }

    /// The epoch it was sent within, and what was asked.
    pub fn unwrap_epoch(self) -> Result<(u64, Self), DecodeError> {
        match self {
            Self::InEpoch { epoch, request } => Ok((epoch, decode(&request.0)?)),
            request => Ok((0, request)),
        }
    }
}

fn check_vote(vote: &Vote) -> Result<(), String> {
    let term = vote.leader_id.term;
    let reason = || format!("term {term} is beyond any that a cluster reaches");
    (term < NUMBER_MAX).then_some(()).ok_or_else(reason)
}

fn check_id(id: Option<LogId>) -> Result<(), String> {
    let Some(id) = id else { return Ok(()) };
    let (index, term) = (id.index, id.leader_id.term);
    let reason = || format!("entry {index} of term {term} is beyond any that a cluster reaches");
    (index < NUMBER_MAX && term < NUMBER_MAX)
        .then_some(())
        .ok_or_else(reason)
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Response {
    Append(AppendEntriesResponse<TypeConfig>),
    Vote(VoteResponse<TypeConfig>),
    Transfer(TransferLeaderResponse<TypeConfig>),
    /// The part was taken; send the next.
    PartTaken,
    Installed(SnapshotResponse<TypeConfig>),
    ReadIndex(Result<u64, ReadRefusal>),
}

/// Why a leader gave no read index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ReadRefusal {
    NotLeader,
    NoQuorum(String),
}

/// A piece of a snapshot, so that one larger than a message can travel. Parts come in order; the first has offset 0
/// and starts the transfer anew. One that is not answered is sent again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SnapshotPart {
    pub vote: Vote,
    pub last_log_id: Option<LogId>,
    pub membership: Membership,
    /// Length of the whole image.
    pub total: u64,
    /// Hash of the whole image.
    pub hash: BlobHash,
    /// Where `bytes` belong.
    pub offset: u64,
    pub bytes: Payload,
}
