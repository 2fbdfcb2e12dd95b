//! What lets a job stop and go on elsewhere: checkpoints, and giving way to a more urgent job.

use std::fmt::{Display, Formatter, Result};

use riftmesh_base::{BlobHash, JobId, Millis, NodeId, Token};
use serde::{Deserialize, Serialize};

use crate::display::{list, place};
use crate::terms::JobRequest;

/// A blob from which the next attempt at a job can start, instead of from the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCheckpoint {
    /// Name of the bytes. What they mean is the affair of the kind's runner.
    pub blob: BlobHash,
    /// Length of the bytes; at least 1, at most `BLOB_BYTES_MAX`.
    pub bytes: u64,
    /// How far the job was, in the kind's unit.
    pub done: u64,
    /// A node that has the bytes.
    pub holder: NodeId,
}

/// What can be asked so that a job may stop and go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HoldVerb {
    /// The holder names a checkpoint in place of the last one. Each later grant of the job carries it, until the job is
    /// over. Fenced like everything a holder says; answered like `Progress`.
    Checkpoint {
        /// The job.
        job: JobId,
        /// Its current token.
        token: Token,
        /// From where to go on.
        checkpoint: JobCheckpoint,
    },
    /// Enters jobs that give way: while one of them runs, its holder may be asked to give it back for a more urgent job
    /// that fits nowhere. Like `SubmitWith` otherwise; a job that its unique key finds stays what it was.
    SubmitYielding {
        /// At most `SUBMIT_JOBS_MAX`.
        jobs: Vec<JobRequest>,
    },
}

/// A holder that was asked to give way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Yielding {
    /// The job it holds.
    pub job: JobId,
    /// Under this token.
    pub token: Token,
    /// For this one, which fitted nowhere.
    pub urgent: JobId,
    /// Cluster time at which the job is taken from it.
    pub until: Millis,
}

impl Display for JobCheckpoint {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} at {}", self.blob.short(), self.done)
    }
}

impl Display for HoldVerb {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Checkpoint {
                job,
                token,
                checkpoint,
            } => write!(f, "checkpoint {job} under {}: {checkpoint}", place(*token)),
            Self::SubmitYielding { jobs } => write!(f, "submit {}, which give way", list(jobs)),
        }
    }
}
