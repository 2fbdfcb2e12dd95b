//! What a job is: the specification a client submits and the record the cluster keeps of it.

use std::fmt;

use riftmesh_base::{BlobHash, ConfigurationName, JobId, Millis, NodeId, SessionId, Token};
use serde::{Deserialize, Serialize};

/// The kind of work. The worker agent has one runner for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobKind {
    /// Play games against oneself and record them as one replay segment.
    Selfplay,
    /// Train a network on a window of segments; its output is a candidate model.
    Train,
    /// Play a match between two players.
    Evaluate,
}

impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Selfplay => "self-play",
            Self::Train => "train",
            Self::Evaluate => "evaluate",
        })
    }
}

/// The device a job must be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceNeed {
    /// Whatever the worker has.
    Any,
    /// A CUDA device.
    Cuda,
}

/// What a worker must have free to be granted the job. Reserved in the state at claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// Slots (a slot is one core, or one device) the job occupies while it runs; at least 1.
    pub slots: u16,
    /// The device it needs.
    pub device: DeviceNeed,
}

/// How often and how fast a job that reports failure is tried again. Losing the worker is not a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Attempts in all; at least 1.
    pub attempts_max: u32,
    /// Wait before the second attempt, doubled for each further one.
    pub backoff: Millis,
    /// The longest wait.
    pub backoff_max: Millis,
}

/// A job as a client submits it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// What is to be done.
    pub kind: JobKind,
    /// For which configuration.
    pub configuration: ConfigurationName,
    /// Parameters of the job as JSON, understood by the kind's runner and opaque here.
    pub payload: String,
    /// 0 to 255; higher is granted first. A job overtakes a later one of the next higher priority by waiting
    /// [`AGE_PER_PRIORITY`](crate::bounds::AGE_PER_PRIORITY), so nothing waits for ever.
    pub priority: u8,
    /// A second submission with the same key, while the first job is not finished, gives that job instead of a new one.
    pub unique_key: Option<String>,
    /// Jobs that must be done before this one is ready. If one of them dies or is cancelled, so is this one.
    pub after: Vec<JobId>,
    /// Cluster time before which it is not granted; zero for at once.
    pub not_before: Millis,
    /// What it needs to run.
    pub needs: Needs,
    /// When to give up.
    pub retry: RetryPolicy,
}

/// One grant of a job to a session. Everything the worker says about the job carries the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The job.
    pub job: JobId,
    /// The fencing token of this grant.
    pub token: Token,
    /// Which attempt this is, from 1. Losses do not count.
    pub attempt: u32,
    /// How many workers were lost with this job before.
    pub losses: u32,
    /// What is to be done.
    pub spec: JobSpec,
}

/// Who holds a job now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The holder's session.
    pub session: SessionId,
    /// The holder.
    pub node: NodeId,
    /// The fencing token.
    pub token: Token,
    /// Cluster time of the grant.
    pub since: Millis,
}

/// Where a job stands.
///
/// ```text
/// waiting(after) -> delayed -> ready -> leased(token) -> done
///                     ^                   |--Fail--> delayed (attempt+1) ... dead
///                     |                   |--session lost / Release--> ready (losses+1)
///                     `--- any state --Cancel--> cancelling -> cancelled
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// Other jobs have to be done first.
    Waiting,
    /// Not to be granted before this cluster time.
    Delayed {
        /// The cluster time.
        until: Millis,
    },
    /// May be granted.
    Ready,
    /// Granted.
    Leased(Lease),
    /// Cancelled while it was granted; the holder has been told to stop.
    Cancelling(Lease),
    /// Done; its outputs are visible.
    Done,
    /// Cancelled.
    Cancelled,
    /// Failed for good, or quarantined after too many losses; the error says which.
    Dead,
}

/// Something a job made. It becomes visible with the `Complete` that carries it, and only then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    /// A replay segment.
    Segment(SegmentRecord),
    /// A trained network, entered in the registry as a candidate.
    Model(ModelRecord),
    /// A played match, counted as evidence for the candidate.
    Match(MatchRecord),
}

/// A replay segment in the blob store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRecord {
    /// Name of the bytes.
    pub hash: BlobHash,
    /// Length of the bytes.
    pub bytes: u64,
    /// Games in it.
    pub games: u32,
    /// Training rows (decisions with a search target) in it.
    pub rows: u32,
    /// The model that played, none for the untrained start.
    pub model: Option<BlobHash>,
    /// A node that has the bytes.
    pub holder: NodeId,
}

/// A network in the blob store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// Name of the weights file. This is the model's id.
    pub hash: BlobHash,
    /// Length of the weights file.
    pub bytes: u64,
    /// Name of the manifest (JSON: shape, codec, encoder, parent, data range, steps, seed, metrics).
    pub manifest: BlobHash,
    /// The model it was trained from, none for a fresh start.
    pub parent: Option<BlobHash>,
    /// Network shape, such as `tiny`.
    pub shape: String,
    /// Training rows available when it was trained.
    pub rows: u64,
    /// Optimiser steps since the fresh start.
    pub steps: u64,
    /// A node that has the bytes.
    pub holder: NodeId,
}

/// Who plays: a network at a search budget, or a fixed player.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Player {
    /// Uniform choice over legal actions. Its rating is the anchor, 0.
    Random,
    /// The one-ply heuristic.
    Heuristic,
    /// The freshly initialised network, searched with a budget.
    Untrained {
        /// Simulations per decision; 0 plays the bare policy.
        simulations: u32,
    },
    /// A network from the registry, searched with a budget.
    Model {
        /// Which.
        model: BlobHash,
        /// Simulations per decision; 0 plays the bare policy.
        simulations: u32,
    },
}

/// The result of a match of paired games (same opening, seats exchanged).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchRecord {
    /// The player being judged.
    pub candidate: Player,
    /// The player it is judged against.
    pub opponent: Player,
    /// Games the candidate won. There are no draws.
    pub wins: u32,
    /// Games the opponent won.
    pub losses: u32,
}

/// A job as the cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its id.
    pub id: JobId,
    /// The token of its last grant, none when it was never granted. Kept after the end, so that a repeated
    /// `Complete` is recognised.
    pub last_token: Option<Token>,
    /// As submitted.
    pub spec: JobSpec,
    /// Where it stands.
    pub state: JobState,
    /// Attempts that ended in `Fail`.
    pub failures: u32,
    /// Workers lost with it.
    pub losses: u32,
    /// Progress of the current grant: done and total, in the kind's unit (games, steps).
    pub progress: (u64, u64),
    /// Cluster time of submission.
    pub submitted: Millis,
    /// Cluster time of the last change of state.
    pub changed: Millis,
    /// The last error or reason, cut to `NOTE_BYTES_MAX`.
    pub note: String,
    /// What it made, once done.
    pub outputs: Vec<Output>,
}
