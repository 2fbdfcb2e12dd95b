//! What a node tells people: the values behind the HTTP API and the command line. Human text and JSON are made
//! from the same values.

mod machine;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use riftmesh_base::{
    BlobHash, ClusterId, ConfigurationName, JobId, LogIndex, Millis, NodeId, SessionId,
};
use riftmesh_raft::{AutopilotReport, MemberOrder, RaftStatus};
use riftmesh_statemachine::Effect;
use riftmesh_statemachine::job::JobKind;
use riftmesh_statemachine::models::ModelEntry;
use riftmesh_statemachine::roster::Role;
use riftmesh_statemachine::rotation::RotationPhase;
use riftmesh_statemachine::trust::{CertificateRecord, Revocation};
use riftmesh_transport::PeerTraffic;
use serde::{Deserialize, Serialize};

use crate::history::HistoryQuery;

pub use machine::{DEVICES_MAX, DeviceReport, LoadReport, NodeReport, REPORT_EVERY, ReportAnswer};

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// [`StatusAnswer`].
    Status,
    /// [`LeaderAnswer`].
    Leader,
    /// [`QuorumAnswer`].
    Quorum,
    /// `Vec<MemberAnswer>`.
    Members,
    /// `Vec<JobRecord>`, newest first.
    Jobs {
        /// Only of this kind.
        kind: Option<JobKind>,
        /// Only those in a state of this name, such as `ready`.
        state: Option<String>,
        /// At most this many.
        limit: u32,
    },
    /// `JobRecord`.
    Job(JobId),
    /// `Vec<ModelAnswer>`, newest first.
    Models,
    /// `ModelAnswer`, found by the start of its hash or by its number.
    Model(String),
    /// `Vec<ProgressAnswer>`, one per configuration.
    Progress,
    /// `QueueView`.
    Queue,
    /// `Vec<LockRecord>`, by name.
    Locks,
    /// `Vec<SettingRecord>`, by key.
    Settings,
    /// `Vec<SettingChange>`, newest first, of one setting or of all.
    SettingChanges(Option<String>),
    /// `Vec<ModelAnswer>`: a model, found like [`Query::Model`], then its parent, and so on to the oldest that is known.
    Lineage(String),
    /// [`RaftAnswer`].
    Raft,
    /// `Vec<JoinTokenView>`, by id.
    Tokens,
    /// [`CertificatesAnswer`].
    Certificates,
    /// [`AuthorityAnswer`].
    Authority,
    /// [`HistoryAnswer`](crate::history::HistoryAnswer).
    History(HistoryQuery),
}

/// Whether an answer says of itself that it was confirmed by a quorum.
pub fn is_confirmed(json: &str) -> bool {
    #[derive(Deserialize)]
    struct Freshness {
        mode: ReadMode,
    }
    serde_json::from_str::<Freshness>(json).is_ok_and(|known| known.mode == ReadMode::Linearizable)
}

/// Every answer says who gave it and how fresh it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope<T> {
    /// Who answered.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// How fresh the state behind it is.
    pub mode: ReadMode,
    /// Last log index applied where the state was read; none without a state.
    pub applied_index: Option<u64>,
    /// Raft term there.
    pub term: Option<u64>,
    /// Age of that node's last contact with a leader (zero on a leader whose quorum confirmed it just now).
    pub leader_contact_ms: Option<u64>,
    /// The answer itself.
    pub answer: T,
}

impl<T> Envelope<T> {
    /// The same around another answer.
    pub fn with<U>(self, answer: U) -> Envelope<U> {
        Envelope {
            node: self.node,
            name: self.name,
            mode: self.mode,
            applied_index: self.applied_index,
            term: self.term,
            leader_contact_ms: self.leader_contact_ms,
            answer,
        }
    }

    /// Around an answer of a node that has no state of its own to give an index and a term of.
    pub fn without_state(node: NodeId, name: &str, mode: ReadMode, answer: T) -> Self {
        Self {
            node,
            name: name.to_owned(),
            mode,
            applied_index: None,
            term: None,
            leader_contact_ms: None,
            answer,
        }
    }
}

/// How fresh an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadMode {
    /// Includes every write acknowledged before the question was asked.
    Linearizable,
    /// From this node's own copy, as old as its contact with the leader.
    Stale,
    /// No state at all, from gossip alone.
    Gossip,
}

impl std::fmt::Display for ReadMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Linearizable => "linearizable",
            Self::Stale => "stale",
            Self::Gossip => "gossip",
        })
    }
}

/// How the cluster is, worst wins. The exit code of the query commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Quorum confirmed, all voters up.
    Healthy,
    /// Quorum confirmed, something is missing.
    Degraded,
    /// No quorum, or none could be confirmed.
    NoQuorum,
}

impl std::fmt::Display for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::NoQuorum => "no quorum",
        })
    }
}

/// `status`: everything at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusAnswer {
    /// The verdict, and why it is not better.
    pub health: Health,
    /// What is missing, in words; empty when healthy.
    pub problems: Vec<String>,
    /// The cluster's id, none before it is founded.
    pub cluster: Option<String>,
    /// Who leads.
    pub leader: LeaderAnswer,
    /// Quorum.
    pub quorum: QuorumAnswer,
    /// Members known to gossip or the roster, and how many are up.
    pub members: usize,
    /// Of these, up.
    pub members_up: usize,
    /// Open worker sessions.
    pub sessions: usize,
    /// Slots they offer.
    pub slots: u32,
    /// Jobs by state.
    pub jobs: JobCounts,
    /// The loop, per configuration.
    pub progress: Vec<ProgressAnswer>,
}

/// Jobs by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCounts {
    /// Waiting for other jobs, or delayed.
    pub waiting: u64,
    /// Ready to be granted.
    pub ready: u64,
    /// Granted, or being cancelled.
    pub running: u64,
    /// Done since the cluster was founded.
    pub done: u64,
    /// Dead or quarantined.
    pub dead: u64,
}

/// `leader`: who leads, and how sure that is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderAnswer {
    /// The leader, none when unknown.
    pub node: Option<NodeId>,
    /// Its name.
    pub name: Option<String>,
    /// Its QUIC address.
    pub address: Option<String>,
    /// The term.
    pub term: u64,
    /// Age of the last acknowledgement by a quorum, as known to the leader itself.
    pub quorum_ack_ms: Option<u64>,
    /// A quorum acknowledged it while this question was being answered.
    pub confirmed: bool,
}

/// `quorum`: the voters one by one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumAnswer {
    /// Confirmed while this question was being answered.
    pub confirmed: bool,
    /// Voters.
    pub voters: Vec<VoterAnswer>,
    /// Voters that must agree.
    pub needed: usize,
    /// Voters that can fail from here before quorum is lost; none when that cannot be known.
    pub failure_tolerance: Option<usize>,
}

/// One voter as the answering node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoterAnswer {
    /// Its id.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Its QUIC address.
    pub address: String,
    /// It leads.
    pub leader: bool,
    /// Whether gossip has it up; none when gossip has not heard of it.
    pub up: Option<bool>,
    /// Entries behind the leader, known on the leader only.
    pub lag: Option<u64>,
    /// Age of its last acknowledgement, known on the leader only.
    pub contact_ms: Option<u64>,
}

/// One member of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberAnswer {
    /// Its id.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// What it is for, none when it has not said.
    pub role: Option<Role>,
    /// Its QUIC address.
    pub address: String,
    /// The QUIC address of the relay by which it is reached, if nobody can dial it.
    #[serde(default)]
    pub relay: Option<String>,
    /// Its HTTP address, if it has said.
    pub http: Option<String>,
    /// `up`, `suspect`, `down`, `left` or `unknown` (in the roster, never heard).
    pub state: String,
    /// Its life, rising with each restart; none while gossip has not heard of it.
    pub generation: Option<u64>,
    /// The version of its binary, if it has said.
    pub version: Option<String>,
    /// How long a packet takes to it and back from the node that answers, in microseconds, if they are connected.
    pub rtt_us: Option<u64>,
    /// Whether it is being left without new work.
    pub draining: bool,
    /// In how much cluster time what it still holds is taken back, if it is drained with such a time.
    pub drained_in_ms: Option<u64>,
    /// Labels it offers to jobs.
    pub labels: Vec<String>,
    /// Where it stands, if it has said.
    #[serde(default)]
    pub zone: Option<String>,
    /// The wire protocols that it speaks, if it has said.
    #[serde(default)]
    pub protocols: Option<ProtocolRange>,
    /// What it said last about its machine. It says so again when that has changed by more than a little.
    pub report: Option<ReportAnswer>,
    /// How long ago the node that answers learned that and what the member says of its zone, version and HTTP address.
    #[serde(default)]
    pub told_ms: Option<u64>,
    /// Age of that state.
    pub since_ms: Option<u64>,
    /// Its worker session.
    pub session: Option<SessionId>,
    /// Slots it offers.
    pub slots: u16,
    /// Jobs it runs, as the log has it.
    pub jobs: usize,
}

/// Versions of the protocol between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtocolRange {
    /// The first that is spoken.
    pub oldest: u16,
    /// The last.
    pub newest: u16,
}

/// Body of `POST /v1/mesh/ping`: one round trip from the node that is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PingRequest {
    /// To whom.
    pub node: NodeId,
    /// How long to wait for the answer.
    pub timeout_ms: u64,
}

/// The answer to a [`PingRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingAnswer {
    /// To whom.
    pub node: NodeId,
    /// Where it was looked for.
    pub address: String,
    /// How long it took in microseconds; none when it was lost.
    pub rtt_us: Option<u64>,
    /// Why it was lost.
    pub lost: Option<String>,
    /// What the node that answers and that one have sent each other since the former was started.
    #[serde(default)]
    pub traffic: Option<PeerTraffic>,
}

/// A line of `GET /v1/mesh/events`: what the node that answers saw happen in the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MeshLine {
    /// Something happened to a node.
    Seen {
        /// When it was seen, in milliseconds since the Unix epoch by the clock of the node that answers.
        at: Millis,
        /// To whom.
        node: NodeId,
        /// Its name as far as it was known then.
        name: String,
        /// Its life.
        generation: u64,
        /// What.
        what: MeshHappening,
    },
    /// Some lines are missing here: the reader was slow, or came late.
    Gap,
}

/// What can happen to a node in the eyes of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MeshHappening {
    /// It was not known before.
    Joined {
        /// Where it is.
        address: SocketAddr,
    },
    /// It was gone, or a former life of it was there, and it is back.
    Returned {
        /// Where it is.
        address: SocketAddr,
    },
    /// It has not answered somebody.
    Suspected,
    /// It was suspected and answers.
    Recovered,
    /// It is gone without a word, or somebody testified to its death.
    Died,
    /// It said goodbye.
    Left,
    /// It is where it was not before.
    Moved {
        /// From there.
        from: SocketAddr,
        /// To there.
        to: SocketAddr,
    },
    /// It was gone for so long that it is known no more.
    Forgotten,
}

impl std::fmt::Display for MeshHappening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Joined { address } => write!(f, "joined at {address}"),
            Self::Returned { address } => write!(f, "is back at {address}"),
            Self::Suspected => f.write_str("is suspected"),
            Self::Recovered => f.write_str("answers again"),
            Self::Died => f.write_str("is down"),
            Self::Left => f.write_str("left"),
            Self::Moved { from, to } => write!(f, "moved from {from} to {to}"),
            Self::Forgotten => f.write_str("is forgotten"),
        }
    }
}

/// `raft status`: what the voter that answers knows of its log and its group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftAnswer {
    /// As it knows it.
    pub status: RaftStatus,
    /// Names of the members, by their ids; a member that the roster does not have is missing.
    pub names: BTreeMap<String, String>,
    /// What keeps the voters healthy; its problem and its last step are known to the leader alone.
    #[serde(default)]
    pub autopilot: AutopilotReport,
}

/// Body of `POST /v1/raft/members`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberRequest {
    /// What to do.
    pub order: MemberOrder,
    /// Log index of the members that the operator saw: if they have changed since, nothing is done.
    pub expected: Option<LogIndex>,
}

/// How far a [`MemberRequest`] has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberChangeAnswer {
    /// Things are as ordered. Otherwise a step was taken, or has to be waited for: order again.
    pub done: bool,
    /// In words.
    pub said: String,
    /// Log index of the members as they are now.
    pub members_index: Option<LogIndex>,
}

/// `raft snapshot`: a snapshot that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotAnswer {
    /// The last entry it covers.
    pub index: LogIndex,
}

/// A line of `GET /v1/events`: what happened to the state of the voter that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventLine {
    /// An entry was applied.
    Applied {
        /// Which; lines come in this order.
        index: LogIndex,
        /// What it did.
        effects: Vec<Effect>,
    },
    /// Some lines are missing here: the watcher was slow or away for too long, or a snapshot was installed.
    Gap,
}

/// A model with its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelAnswer {
    /// For which configuration.
    pub configuration: ConfigurationName,
    /// As in the registry.
    pub entry: ModelEntry,
    /// Rating in milli-Elo over random = 0, none before it has played.
    pub rating_milli_elo: Option<i64>,
    /// It is the champion.
    pub champion: bool,
}

/// The loop of one configuration, in numbers that move.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProgressAnswer {
    /// Which.
    pub configuration: ConfigurationName,
    /// `self-play`, `self-play + train`, ...: kinds running now.
    pub phase: String,
    /// Accepted self-play games.
    pub games: u64,
    /// Training rows in them.
    pub rows: u64,
    /// Cluster time, for rates.
    pub now_ms: u64,
    /// Running jobs.
    pub running: Vec<RunningAnswer>,
    /// The champion, none while the untrained network plays.
    pub champion: Option<ChampionAnswer>,
    /// Promotions and rejections, oldest first.
    pub verdicts: Vec<VerdictAnswer>,
    /// Last match that was reported.
    pub last_match: Option<String>,
    /// Losses of the last training, by head.
    pub losses: Vec<(String, f64)>,
}

/// A running job in one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningAnswer {
    /// Which.
    pub job: JobId,
    /// What kind.
    pub kind: JobKind,
    /// Who runs it.
    pub node: NodeId,
    /// Done.
    pub done: u64,
    /// Out of.
    pub total: u64,
}

/// The champion in one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChampionAnswer {
    /// Its number, for people.
    pub number: u32,
    /// Its id.
    pub model: BlobHash,
    /// Rating in milli-Elo over random = 0.
    pub rating_milli_elo: Option<i64>,
    /// Its standard error in milli-Elo.
    pub standard_error_milli_elo: Option<u64>,
    /// Nodes that have its weights.
    pub holders: usize,
}

/// The certificate of the node that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateAnswer {
    /// The cluster it is for.
    pub cluster: ClusterId,
    /// What it allows the node to be.
    pub role: Role,
    /// Hash of the certificate of the authority that issued it.
    pub authority: BlobHash,
    /// Hashes of the certificates of all authorities that the node trusts, that one first.
    pub trusted: Vec<BlobHash>,
    /// Hash of the node's public key.
    pub key: BlobHash,
    /// Valid from, in milliseconds since the Unix epoch.
    pub issued: Millis,
    /// When it is renewed, likewise.
    pub renews: Millis,
    /// When it expires, likewise.
    pub expires: Millis,
    /// How long that is from now; zero when it is over.
    pub expires_in_ms: u64,
    /// When the authority that issued it expires.
    #[serde(default)]
    pub authority_expires: Option<Millis>,
    /// Whether the node holds the cluster's authority, and so certifies itself.
    pub holds_authority: bool,
    /// How often this node has turned somebody away since it started, by reason.
    pub refused: BTreeMap<String, u64>,
}

/// What the cluster knows of certificates that were issued for join tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificatesAnswer {
    /// By node.
    pub certificates: Vec<CertificateRecord>,
    /// Nodes that are trusted no more.
    pub revoked: Vec<Revocation>,
}

/// What the cluster has agreed on about its authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityAnswer {
    /// Hashes of the certificates of those that are trusted, the one in force first; none as long as there never was
    /// another than the one that nodes were given.
    pub trusted: Vec<BlobHash>,
    /// How far another is with replacing it.
    pub rotation: Option<RotationAnswer>,
}

/// How far a rotation of the authority is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotationAnswer {
    /// Hash of the certificate of the one to come.
    pub next: BlobHash,
    /// What nodes are doing now.
    pub phase: RotationPhase,
    /// When it began, in milliseconds since the Unix epoch.
    pub begun: Millis,
    /// Names of the nodes that have done it.
    pub done: Vec<String>,
    /// Names of the nodes that have not.
    pub awaited: Vec<String>,
}

/// A verdict of the promotion rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictAnswer {
    /// The model's number.
    pub number: u32,
    /// The model.
    pub model: BlobHash,
    /// Whether it became champion.
    pub promoted: bool,
    /// The rule's words.
    pub reason: String,
}

/// Body of `POST /v1/matches`: a match to be played as jobs of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatchRequest {
    /// For which configuration.
    pub configuration: ConfigurationName,
    /// The player being judged.
    pub candidate: riftmesh_statemachine::job::Player,
    /// The player it is judged against.
    pub opponent: riftmesh_statemachine::job::Player,
    /// Games in all; rounded up to whole jobs.
    pub games: u32,
    /// Names the match: a repeated request finds the jobs of the first.
    pub key: String,
}
