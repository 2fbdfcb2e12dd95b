//! What the state machine answers. Every command gets exactly one reply; a refusal is a reply.

use riftmesh_base::{BlobHash, JobId, Millis, SessionId, Token};
use serde::{Deserialize, Serialize};

use crate::hold::JobCheckpoint;
use crate::job::Grant;
use crate::models::Verdict;
use crate::trust::JoinFault;

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done, nothing to say.
    Done,
    /// A session was opened.
    Session {
        /// Its id.
        session: SessionId,
        /// How long it may stay silent.
        ttl: Millis,
    },
    /// Jobs were entered, or found by their unique key, in the order submitted.
    Submitted {
        /// Their ids.
        jobs: Vec<JobId>,
    },
    /// Jobs were granted; none is an answer too.
    Granted {
        /// The grants.
        grants: Vec<Grant>,
    },
    /// The promotion rule was evaluated.
    Judged {
        /// What it says, with its reason.
        verdict: Verdict,
        /// The champion now.
        champion: Option<BlobHash>,
    },
    /// The job was cancelled. To `Progress`: stop and give it back. To `Complete`, `Fail` and `Release`: the grant
    /// ended, and nothing it made is visible.
    Cancelled {
        /// The job.
        job: JobId,
    },
    /// Nothing was changed.
    Refused(Refusal),
    /// The lock is held.
    Locked {
        /// Its fencing token: what it protects must refuse lower ones.
        token: Token,
        /// Cluster time until which it is held.
        until: Millis,
    },
    /// A setting was written.
    Revision {
        /// The revision of the write.
        revision: u64,
    },
    /// As `Granted`, with the checkpoints that some of the jobs can go on from.
    GrantedFrom {
        /// The grants.
        grants: Vec<Grant>,
        /// From where, for those that have a checkpoint.
        checkpoints: Vec<(JobId, JobCheckpoint)>,
    },
    /// To `Progress` and to a checkpoint: it is noted, and the job is wanted back for a more urgent one. Write a
    /// checkpoint, then `Release`; that burns neither an attempt nor a loss.
    Yield {
        /// The job.
        job: JobId,
        /// Cluster time at which it is taken.
        until: Millis,
    },
}

/// Why a command changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The token is not the job's current one: the grant is over, whatever the sender believes.
    #[error("fenced: the grant of {job} is over")]
    Fenced {
        /// The job.
        job: JobId,
    },
    /// The session is over; open a new one.
    #[error("session {0} is over; open a new one")]
    SessionOver(SessionId),
    /// There is no such thing.
    #[error("there is no {0}")]
    Unknown(String),
    /// The thing is not in a state that allows this.
    #[error("{0}")]
    Conflict(String),
    /// The command breaks a rule or a bound; repeating it will not help.
    #[error("{0}")]
    Invalid(String),
    /// A bound is reached; try again later.
    #[error("{what} is full ({max}); try again in {retry_after}")]
    Full {
        /// What is full.
        what: String,
        /// The bound.
        max: u64,
        /// When to try again.
        retry_after: Millis,
    },
    /// This origin has sent a later command already.
    #[error("stale sequence number {seq}; the last one seen is {last}")]
    StaleSequence {
        /// Sent.
        seq: u64,
        /// Seen.
        last: u64,
    },
    /// Somebody holds the lock; try again later.
    #[error("lock `{name}` is held by {owner}; try again in {retry_after}")]
    LockHeld {
        /// Which lock.
        name: String,
        /// Its holder.
        owner: String,
        /// When it is free unless it is renewed.
        retry_after: Millis,
    },
    /// The token is not that of the lock's present holder: the lock was lost, whatever the sender believes.
    #[error("fenced: lock `{name}` is not held under this token")]
    LockLost {
        /// Which lock.
        name: String,
    },
    /// The node is not let in, not certified again, or trusted no more.
    #[error(transparent)]
    NotWelcome(JoinFault),
}
