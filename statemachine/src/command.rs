//! What can be asked of the replicated state. One closed enum; nothing changes the state but these.

use std::fmt;

use riftmesh_base::{
    BlobHash, ClusterId, ConfigurationName, JobId, Millis, NodeId, SessionId, Token,
};
use serde::{Deserialize, Serialize};

use crate::hold::HoldVerb;
use crate::job::{JobKind, JobSpec, MatchRecord, ModelRecord, Output};
use crate::lock::LockVerb;
use crate::roster::NodeRecord;
use crate::setting::SettingWrite;
use crate::terms::{JobRequest, Offer, TenantShare};
use crate::trust::TrustVerb;

/// The only version of the command encoding so far. It rises when the meaning or the bytes of a command change, and
/// old versions stay readable: entries replay the same for ever.
pub const COMMAND_VERSION: u16 = 1;

/// One Raft log entry: commands that were packed together, and the cluster time they are applied at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Version of the command encoding.
    pub version: u16,
    /// Cluster time, stamped by the leader. The state machine ignores a value lower than one it has seen.
    pub now: Millis,
    /// In order.
    pub commands: Vec<Command>,
}

impl Batch {
    /// A batch of this build's version.
    pub fn new(now: Millis, commands: Vec<Command>) -> Self {
        Self {
            version: COMMAND_VERSION,
            now,
            commands,
        }
    }

    /// Its bytes, as they stand in the log.
    pub fn to_bytes(&self) -> Vec<u8> {
        riftmesh_base::encode(self)
    }

    /// Reads what [`Batch::to_bytes`] wrote. The version is looked at before anything else, so that an entry of a
    /// later build stops this one instead of being misread.
    ///
    /// # Errors
    /// [`BatchError`]; the node must stop before this entry.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BatchError> {
        let (version, _) = postcard::take_from_bytes::<u16>(bytes)
            .map_err(|e| riftmesh_base::DecodeError::Malformed(e.to_string()))?;
        if version != COMMAND_VERSION {
            return Err(BatchError::Version { found: version });
        }
        Ok(riftmesh_base::decode(bytes)?)
    }
}

/// Why the bytes of a log entry cannot be applied. The log was written by a later build or is damaged; the state is
/// untouched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// A version this build does not know.
    #[error(
        "log entry of command version {found}: this build applies version {COMMAND_VERSION}; upgrade it"
    )]
    Version {
        /// The version found.
        found: u16,
    },
    /// An upgrade to a level this build does not know.
    #[error(
        "log entry raises the cluster to level {found}: this build knows levels up to {}; upgrade it",
        crate::level::LEVEL
    )]
    Level {
        /// The level.
        found: u32,
    },
    /// Not a batch.
    #[error("log entry: {0}")]
    Decode(#[from] riftmesh_base::DecodeError),
}

/// A command and who sent it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Set by clients that may repeat themselves: a command whose origin was seen before is not applied again;
    /// the stored reply is given.
    pub origin: Option<Origin>,
    /// What to do.
    pub body: Body,
}

/// Names one command of one client, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    /// A random number the client chose when it started.
    pub client: u64,
    /// Counts the client's commands from 1. A client has at most one command outstanding per `client` number, and
    /// repeats it under the same `seq` until it has the reply. Trying again after a refusal is a new command.
    pub seq: u64,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// First entry of a cluster: names it. Refused when the cluster has a name.
    FoundCluster {
        /// The minted id.
        cluster: ClusterId,
    },
    /// Enters a node in the roster, or updates its record.
    AdmitNode(NodeRecord),
    /// Removes a node whose sessions are gone.
    ForgetNode {
        /// Which.
        node: NodeId,
    },
    /// Begins a life of a worker. An older session of the same node ends and its jobs are lost to it.
    OpenSession {
        /// The admitted node.
        node: NodeId,
        /// The node's generation in the mesh; must not be lower than that of its last session.
        generation: u64,
        /// Slots offered.
        slots: u16,
        /// Whether it has a CUDA device.
        cuda: bool,
    },
    /// Ends a session; its jobs become ready again, with one loss more and no attempt burnt.
    ExpireSession {
        /// Which.
        session: SessionId,
        /// Why.
        reason: Loss,
    },
    /// Enters jobs.
    Submit {
        /// At most `SUBMIT_JOBS_MAX`.
        jobs: Vec<JobSpec>,
    },
    /// Asks for work.
    Claim {
        /// On behalf of this session.
        session: SessionId,
        /// Kinds the worker can run now.
        kinds: Vec<JobKind>,
        /// At most this many jobs.
        jobs_max: u16,
    },
    /// Says how far a job is.
    Progress {
        /// The job.
        job: JobId,
        /// Its current token.
        token: Token,
        /// Done, in the kind's unit.
        done: u64,
        /// Out of.
        total: u64,
    },
    /// Ends a job well: its outputs become visible in the same entry.
    Complete {
        /// The job.
        job: JobId,
        /// Its current token.
        token: Token,
        /// What it made.
        outputs: Vec<Output>,
    },
    /// Ends an attempt badly. The job is tried again if the policy and `retry` allow.
    Fail {
        /// The job.
        job: JobId,
        /// Its current token.
        token: Token,
        /// What went wrong.
        error: String,
        /// Whether another attempt could help.
        retry: bool,
    },
    /// Gives a job back without blame: its process was lost, or the worker is leaving.
    Release {
        /// The job.
        job: JobId,
        /// Its current token.
        token: Token,
        /// Why.
        reason: Loss,
    },
    /// Stops a job in any state that is not final.
    Cancel {
        /// Which.
        job: JobId,
    },
    /// Makes a dead or cancelled job ready again with fresh counters.
    Requeue {
        /// Which.
        job: JobId,
    },
    /// Enters a model from outside the loop as a candidate.
    RegisterModel {
        /// For which configuration.
        configuration: ConfigurationName,
        /// The model.
        model: ModelRecord,
    },
    /// Enters match evidence from outside the loop. `id` is unique; a repeat changes nothing.
    ReportMatch {
        /// Unique name of the match.
        id: BlobHash,
        /// For which configuration.
        configuration: ConfigurationName,
        /// The result.
        result: MatchRecord,
    },
    /// Evaluates the promotion rule on the evidence in the state and, if it says so, moves the champion pointer.
    /// Compare-and-set: refused when the champion is not `expected`.
    Promote {
        /// For which configuration.
        configuration: ConfigurationName,
        /// The candidate.
        model: BlobHash,
        /// The champion the proposer saw.
        expected: Option<BlobHash>,
    },
    /// Puts a former champion back. An operator's decision, recorded as such.
    Rollback {
        /// For which configuration.
        configuration: ConfigurationName,
        /// A model that was champion before.
        model: BlobHash,
        /// Why.
        reason: String,
    },
    /// A node has a copy of a blob.
    AddHolder {
        /// The blob.
        blob: BlobHash,
        /// The node.
        node: NodeId,
    },
    /// Lets time pass: delayed jobs whose time has come become ready. Every batch does that; this one only carries
    /// the time when there is nothing else to say.
    Tick,
    /// Grants no more work to a node, or grants again. Running jobs go on.
    DrainNode {
        /// Which.
        node: NodeId,
        /// Whether it is to be left without new work.
        drain: bool,
    },
    /// Takes, holds or gives back a lock.
    Lock(LockVerb),
    /// Writes or deletes a setting.
    WriteSetting(SettingWrite),
    /// Takes a job from whoever holds it, as if the holder had been lost: its token is over, the job is ready again with
    /// one loss more, or cancelled if that was being waited for. An operator's decision about a holder that is stuck.
    TakeBack {
        /// Which.
        job: JobId,
    },
    /// Rejects a candidate whatever its evidence. An operator's decision, recorded as such.
    RejectModel {
        /// For which configuration.
        configuration: ConfigurationName,
        /// The candidate.
        model: BlobHash,
        /// Why.
        reason: String,
    },
    /// Enters jobs on terms of their own. Like [`Body::Submit`], whose jobs have the default terms.
    SubmitWith {
        /// At most `SUBMIT_JOBS_MAX`.
        jobs: Vec<JobRequest>,
    },
    /// Begins a life of a worker that offers more than slots and a device. Like [`Body::OpenSession`] otherwise.
    OpenWorker {
        /// The admitted node.
        node: NodeId,
        /// The node's generation in the mesh; must not be lower than that of its last session.
        generation: u64,
        /// What it offers.
        offer: Offer,
    },
    /// Gives a tenant its share of the cluster, or takes it away.
    SetTenant {
        /// Whose.
        tenant: String,
        /// What it is entitled to from now on; none for what anybody is.
        share: Option<TenantShare>,
    },
    /// Raises the level of the cluster by one (see [`level`](crate::level)). Refused unless every voter in the roster is
    /// among those that have said they know it; a repeat changes nothing.
    UpgradeTo {
        /// The next level.
        level: u32,
        /// Voters whose builds know it.
        advertised: Vec<NodeId>,
    },
    /// Changes who may join and who is trusted.
    Trust(TrustVerb),
    /// Names a checkpoint, or enters jobs that give way to more urgent ones.
    Hold(HoldVerb),
    /// Grants no more work to a node, like [`Body::DrainNode`], and takes back what it still holds after a while.
    DrainWithin {
        /// Which.
        node: NodeId,
        /// Cluster time it has for the jobs it holds, at most `DRAIN_GRACE_MAX`.
        grace: Millis,
    },
}

/// Why a grant ended without the job's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// The session fell silent for longer than it may.
    Silent,
    /// Gossip and silence agree that the node is down.
    Down,
    /// The node's supervisor testified that its process died.
    Died,
    /// A newer session of the same node replaced it.
    Replaced,
    /// The node left on purpose.
    Left,
    /// The job's own process was lost.
    Process,
    /// An operator took the job from its holder.
    TakenBack,
    /// The node was drained, and did not finish it in the time it was given.
    Drained,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Silent => "the session fell silent",
            Self::Down => "the node is down",
            Self::Died => "the node's process died",
            Self::Replaced => "a newer session replaced it",
            Self::Left => "the node left",
            Self::Process => "the job's process was lost",
            Self::TakenBack => "an operator took it back",
            Self::Drained => "the node was drained",
        })
    }
}
