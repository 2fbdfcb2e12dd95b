//! What happened: facts for watchers, in the order they came about.
//!
//! The same entry gives the same effects on every replica. They ask for nothing to be done to the state; a leader uses
//! them to wake waiting workers and to tell a holder that its job was cancelled.

use riftmesh_base::{
    BlobHash, ClusterId, ConfigurationName, JobId, Millis, NodeId, SessionId, Token,
};
use serde::{Deserialize, Serialize};

use crate::archive::ArchiveLink;
use crate::command::Loss;
use crate::trust::TrustEvent;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// The cluster has a name.
    ClusterFounded {
        /// Its id.
        cluster: ClusterId,
    },
    /// A node is in the roster, or its record changed.
    NodeAdmitted {
        /// Which.
        node: NodeId,
    },
    /// A node will get no more work, or gets work again.
    NodeDraining {
        /// Which.
        node: NodeId,
        /// Whether it is left without new work.
        drain: bool,
    },
    /// A node left the roster.
    NodeForgotten {
        /// Which.
        node: NodeId,
    },
    /// A worker began a life.
    SessionOpened {
        /// The session.
        session: SessionId,
        /// Its node.
        node: NodeId,
    },
    /// A worker's life is over; effects for each of its jobs follow.
    SessionEnded {
        /// The session.
        session: SessionId,
        /// Its node.
        node: NodeId,
        /// Why.
        reason: Loss,
    },
    /// A job may be granted.
    JobReady {
        /// Which.
        job: JobId,
    },
    /// A job was granted.
    JobGranted {
        /// Which.
        job: JobId,
        /// To whom.
        session: SessionId,
        /// Under which token.
        token: Token,
    },
    /// A job was lost with its worker and will be granted again or is dead; an effect that says which follows.
    JobLost {
        /// Which.
        job: JobId,
        /// The grant that ended.
        token: Token,
        /// Why.
        reason: Loss,
    },
    /// An attempt failed; the job is tried again later or is dead.
    JobFailed {
        /// Which.
        job: JobId,
        /// The grant that ended.
        token: Token,
    },
    /// A job is done and its outputs are visible.
    JobDone {
        /// Which.
        job: JobId,
    },
    /// The holder of a job is to stop.
    JobCancelling {
        /// Which.
        job: JobId,
        /// The holder.
        session: SessionId,
        /// The grant.
        token: Token,
    },
    /// A job is cancelled.
    JobCancelled {
        /// Which.
        job: JobId,
    },
    /// A job is given up; its note says why.
    JobDead {
        /// Which.
        job: JobId,
    },
    /// A segment counts.
    SegmentAccepted {
        /// For this configuration.
        configuration: ConfigurationName,
        /// The segment.
        segment: BlobHash,
    },
    /// A segment is no longer listed; its bytes may be deleted.
    SegmentRetired {
        /// Of this configuration.
        configuration: ConfigurationName,
        /// The segment.
        segment: BlobHash,
    },
    /// A candidate is in the registry.
    ModelRegistered {
        /// For this configuration.
        configuration: ConfigurationName,
        /// The model.
        model: BlobHash,
        /// Its number.
        number: u32,
    },
    /// The champion pointer moved to a candidate.
    ModelPromoted {
        /// For this configuration.
        configuration: ConfigurationName,
        /// The champion now.
        model: BlobHash,
        /// The champion before.
        previous: Option<BlobHash>,
    },
    /// A candidate was refused by the promotion rule.
    ModelRejected {
        /// For this configuration.
        configuration: ConfigurationName,
        /// The candidate.
        model: BlobHash,
    },
    /// The champion pointer moved back.
    ModelRolledBack {
        /// For this configuration.
        configuration: ConfigurationName,
        /// The champion that was taken back.
        from: BlobHash,
        /// The champion now.
        to: BlobHash,
    },
    /// A model is no longer listed; its bytes may be deleted.
    ModelRetired {
        /// Of this configuration.
        configuration: ConfigurationName,
        /// The model.
        model: BlobHash,
    },
    /// Games were counted.
    MatchCounted {
        /// For this configuration.
        configuration: ConfigurationName,
        /// How many.
        games: u32,
    },
    /// A lock was taken.
    LockAcquired {
        /// Its name.
        name: String,
        /// Under which token.
        token: Token,
    },
    /// A lock was given back.
    LockReleased {
        /// Its name.
        name: String,
        /// The token that is over.
        token: Token,
    },
    /// A lock's time was over before it was given back.
    LockExpired {
        /// Its name.
        name: String,
        /// The token that is over.
        token: Token,
    },
    /// A setting was written or deleted.
    SettingChanged {
        /// Which.
        key: String,
        /// The revision of the write.
        revision: u64,
    },
    /// The cluster behaves by another level.
    LevelRaised {
        /// Which.
        level: u32,
    },
    /// A tenant has another share.
    TenantChanged {
        /// Whose.
        tenant: String,
    },
    /// A recurring job is over and was entered again.
    JobRecurs {
        /// The one that is over.
        job: JobId,
        /// The one that follows.
        next: JobId,
    },
    /// Who may join or who is trusted changed.
    Trust(TrustEvent),
    /// The holder of a job has written a checkpoint.
    JobCheckpointed {
        /// Which.
        job: JobId,
        /// The grant.
        token: Token,
        /// The checkpoint.
        blob: BlobHash,
    },
    /// A checkpoint was replaced, or its job is over; its bytes may be deleted.
    CheckpointRetired {
        /// Of which job.
        job: JobId,
        /// The checkpoint.
        blob: BlobHash,
    },
    /// The holder of a job is to write a checkpoint and give the job back, for a more urgent one.
    JobYielding {
        /// Which.
        job: JobId,
        /// The holder.
        session: SessionId,
        /// The grant.
        token: Token,
        /// Cluster time at which it is taken.
        until: Millis,
    },
    /// A batch of the archive is closed; its bytes are to be copied.
    ArchiveClosed {
        /// Which.
        link: ArchiveLink,
    },
    /// Enough nodes have a batch of the archive.
    ArchiveStored {
        /// Which.
        link: ArchiveLink,
    },
    /// A job was given back for a more urgent one, or taken because its holder did not; nobody is to blame.
    JobGaveWay {
        /// Which.
        job: JobId,
        /// The grant that ended.
        token: Token,
    },
}
