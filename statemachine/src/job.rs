//! What a job is: the specification a client submits and the record the cluster keeps of it.

use std::fmt;
use std::str::FromStr;

use riftmesh_base::{BlobHash, ConfigurationName, JobId, Millis, NodeId, SessionId, Token};
use serde::{Deserialize, Serialize};

use crate::terms::Terms;

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

impl JobKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Selfplay, Self::Train, Self::Evaluate];
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

impl FromStr for JobKind {
    type Err = ParseKindError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.to_string() == text)
            .ok_or_else(|| ParseKindError(text.chars().take(40).collect()))
    }
}

/// A text that is not the name of a kind of job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a kind of job: self-play, train or evaluate")]
pub struct ParseKindError(String);

/// The device a job must be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceNeed {
    /// Whatever the worker has.
    Any,
    /// A CUDA device.
    Cuda,
}

/// What a worker must have free to be granted the job. Reserved in the state at claim. The CUDA device of a session is
/// given to one job at a time.
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
    /// Jobs that must be done before this one is ready. If one of them dies or is cancelled, so is this one, unless its
    /// terms say otherwise.
    pub after: Vec<JobId>,
    /// Cluster time before which it is not granted; zero for at once.
    pub not_before: Millis,
    /// What it needs to run.
    pub needs: Needs,
    /// When to give up.
    pub retry: RetryPolicy,
}

impl JobSpec {
    /// A job without particular wishes: priority 100, one slot on any device, ready at once, three attempts a second and
    /// more apart.
    pub fn plain(
        kind: JobKind,
        configuration: ConfigurationName,
        payload: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            configuration,
            payload: payload.into(),
            priority: 100,
            unique_key: None,
            after: Vec::new(),
            not_before: Millis(0),
            needs: Needs {
                slots: 1,
                device: DeviceNeed::Any,
            },
            retry: RetryPolicy {
                attempts_max: 3,
                backoff: Millis::from_secs(1),
                backoff_max: Millis::from_secs(60),
            },
        }
    }
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

impl JobState {
    /// The state without its particulars.
    pub fn phase(&self) -> JobPhase {
        match self {
            Self::Waiting => JobPhase::Waiting,
            Self::Delayed { .. } => JobPhase::Delayed,
            Self::Ready => JobPhase::Ready,
            Self::Leased(_) => JobPhase::Leased,
            Self::Cancelling(_) => JobPhase::Cancelling,
            Self::Done => JobPhase::Done,
            Self::Cancelled => JobPhase::Cancelled,
            Self::Dead => JobPhase::Dead,
        }
    }

    /// The lease, while somebody holds the job.
    pub fn lease(&self) -> Option<&Lease> {
        match self {
            Self::Leased(lease) | Self::Cancelling(lease) => Some(lease),
            Self::Waiting
            | Self::Delayed { .. }
            | Self::Ready
            | Self::Done
            | Self::Cancelled
            | Self::Dead => None,
        }
    }
}

/// A [`JobState`] without its particulars, for filters and counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobPhase {
    /// Other jobs have to be done first.
    Waiting,
    /// Not to be granted yet.
    Delayed,
    /// May be granted.
    Ready,
    /// Granted.
    Leased,
    /// Cancelled, and the holder has not stopped yet.
    Cancelling,
    /// Done.
    Done,
    /// Cancelled.
    Cancelled,
    /// Given up.
    Dead,
}

impl JobPhase {
    /// All of them, in the order of a job's life.
    pub const ALL: [Self; 8] = [
        Self::Waiting,
        Self::Delayed,
        Self::Ready,
        Self::Leased,
        Self::Cancelling,
        Self::Done,
        Self::Cancelled,
        Self::Dead,
    ];

    /// Whether the job is over.
    pub fn is_final(self) -> bool {
        match self {
            Self::Done | Self::Cancelled | Self::Dead => true,
            Self::Waiting | Self::Delayed | Self::Ready | Self::Leased | Self::Cancelling => false,
        }
    }

    /// As it is written in JSON and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delayed => "delayed",
            Self::Ready => "ready",
            Self::Leased => "leased",
            Self::Cancelling => "cancelling",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Dead => "dead",
        }
    }
}

impl fmt::Display for JobPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for JobPhase {
    type Err = ParsePhaseError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|phase| phase.as_str() == text)
            .ok_or_else(|| ParsePhaseError(text.chars().take(40).collect()))
    }
}

/// A text that is not the name of a job state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a job state: waiting, delayed, ready, leased, cancelling, done, cancelled or dead"
)]
pub struct ParsePhaseError(String);

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

impl Player {
    /// The model that plays, if it is one.
    pub fn model(&self) -> Option<BlobHash> {
        match self {
            Self::Model { model, .. } => Some(*model),
            Self::Random | Self::Heuristic | Self::Untrained { .. } => None,
        }
    }
}

impl fmt::Display for Player {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random => f.write_str("random"),
            Self::Heuristic => f.write_str("heuristic"),
            Self::Untrained { simulations } => write!(f, "untrained@{simulations}"),
            Self::Model { model, simulations } => write!(f, "{}@{simulations}", model.short()),
        }
    }
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
    /// The terms it was submitted on.
    #[serde(default)]
    pub terms: Terms,
}
