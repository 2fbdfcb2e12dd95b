//! What the reference keeps of jobs, models and workers, and what it answers.

use riftmesh_base::{BlobHash, JobId, NodeId, SessionId, Token};
use riftmesh_statemachine::job::{JobPhase, JobSpec, Output};
use riftmesh_statemachine::terms::Terms;

/// A reply without its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Done,
    Session(SessionId),
    Submitted(Vec<JobId>),
    /// Job, token, attempt, losses.
    Granted(Vec<(JobId, Token, u32, u32)>),
    Judged(&'static str, Option<BlobHash>),
    Cancelled,
    Locked(Token, u64),
    Revision(u64),
    /// As `Granted`; job and blob of those that go on from a checkpoint.
    GrantedFrom(Vec<(JobId, Token, u32, u32)>, Vec<(JobId, BlobHash)>),
    /// Job, until when.
    Yield(JobId, u64),
    Refused(&'static str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainJob {
    pub id: JobId,
    pub spec: JobSpec,
    pub phase: JobPhase,
    pub until: u64,
    pub holder: Option<SessionId>,
    pub token: Option<Token>,
    pub failures: u32,
    pub losses: u32,
    pub submitted: u64,
    pub outputs: Vec<Output>,
    pub terms: Terms,
    pub yields: bool,
    pub checkpoint: Option<BlobHash>,
}

/// Who is to give way, for whom, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    pub job: JobId,
    pub urgent: JobId,
    pub until: u64,
}

#[derive(Debug, Clone)]
pub struct PlainSession {
    pub id: SessionId,
    pub node: NodeId,
    pub slots: u16,
    pub cuda: bool,
    pub memory: u32,
    pub labels: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct PlainModel {
    pub hash: BlobHash,
    pub state: &'static str,
    /// Counted matches: opponent, wins, losses.
    pub matches: Vec<(Option<BlobHash>, u32, u32)>,
}

#[derive(Debug)]
pub struct PlainNode {
    pub generation: u64,
    pub draining: bool,
    /// When what it holds is taken back.
    pub drained_by: Option<u64>,
}
