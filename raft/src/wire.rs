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

impl Request {
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
/// and starts the transfer anew.
#[derive(Debug, Serialize, Deserialize)]
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
