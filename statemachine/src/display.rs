//! Commands, replies and effects as sentences: what logs, `inspect` and golden scripts print.
//!
//! A token is written `entry.ordinal`, the place in the log of the grant it belongs to.

use std::fmt::{Display, Formatter, Result};

use riftmesh_base::{BlobHash, Token};

use crate::command::{Body, Command, Origin};
use crate::effect::Effect;
use crate::job::{Grant, JobSpec, JobState, MatchRecord, ModelRecord, Output, SegmentRecord};
use crate::models::{ModelState, Verdict};
use crate::reply::Reply;

/// `entry.ordinal` of a token.
pub(crate) fn place(token: Token) -> impl Display {
    struct Place(Token);
    impl Display for Place {
        fn fmt(&self, f: &mut Formatter<'_>) -> Result {
            write!(f, "{}.{}", self.0.0 >> 16, self.0.0 & 0xffff)
        }
    }
    Place(token)
}

/// A short hash, or `none`.
fn short(hash: Option<BlobHash>) -> String {
    hash.map_or_else(|| "none".to_owned(), |hash| hash.short())
}

/// Items with commas between them, or `nothing`.
pub(crate) fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if texts.is_empty() {
        "nothing".to_owned()
    } else {
        texts.join(", ")
    }
}

impl Display for Origin {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "@{}.{}", self.client, self.seq)
    }
}

impl Display for Command {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.origin {
            Some(origin) => write!(f, "{origin} {}", self.body),
            None => self.body.fmt(f),
        }
    }
}

impl Display for Body {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::FoundCluster { cluster } => write!(f, "found cluster {cluster}"),
            Self::AdmitNode(node) => {
                write!(
                    f,
                    "admit {} {} as {} at {}",
                    node.id, node.name, node.role, node.address
                )
            }
            Self::ForgetNode { node } => write!(f, "forget {node}"),
            Self::OpenSession {
                node,
                generation,
                slots,
                cuda,
            } => {
                let device = if *cuda { " and CUDA" } else { "" };
                write!(
                    f,
                    "open a session of {node}, generation {generation}, {slots} slots{device}"
                )
            }
            Self::ExpireSession { session, reason } => write!(f, "expire {session}: {reason}"),
            Self::Submit { jobs } => write!(f, "submit {}", list(jobs)),
            Self::Claim {
                session,
                kinds,
                jobs_max,
            } => write!(f, "claim up to {jobs_max} for {session} of {}", list(kinds)),
            Self::Progress {
                job,
                token,
                done,
                total,
            } => write!(
                f,
                "progress of {job} under {}: {done} of {total}",
                place(*token)
            ),
            Self::Complete {
                job,
                token,
                outputs,
            } => write!(
                f,
                "complete {job} under {} with {}",
                place(*token),
                list(outputs)
            ),
            Self::Fail {
                job,
                token,
                error,
                retry,
            } => {
                let last = if *retry { "" } else { " for good" };
                write!(f, "fail {job}{last} under {}: {error}", place(*token))
            }
            Self::Release { job, token, reason } => {
                write!(f, "release {job} under {}: {reason}", place(*token))
            }
            Self::Cancel { job } => write!(f, "cancel {job}"),
            Self::Requeue { job } => write!(f, "requeue {job}"),
            Self::RegisterModel {
                configuration,
                model,
            } => write!(f, "register {model} for {configuration}"),
            Self::ReportMatch {
                id,
                configuration,
                result,
            } => write!(
                f,
                "report match {} of {configuration}: {result}",
                id.short()
            ),
            Self::Promote {
                configuration,
                model,
                expected,
            } => {
                let (model, expected) = (model.short(), short(*expected));
                write!(f, "promote {model} over {expected} in {configuration}")
            }
            Self::Rollback {
                configuration,
                model,
                reason,
            } => write!(
                f,
                "roll {configuration} back to {}: {reason}",
                model.short()
            ),
            Self::AddHolder { blob, node } => write!(f, "{node} holds {}", blob.short()),
            Self::Tick => f.write_str("tick"),
            Self::DrainNode { node, drain: true } => write!(f, "drain {node}"),
            Self::DrainNode { node, drain: false } => write!(f, "stop draining {node}"),
            Self::DrainWithin { node, grace } => write!(f, "drain {node} within {grace}"),
            Self::Lock(verb) => verb.fmt(f),
            Self::WriteSetting(write) => write.fmt(f),
            Self::TakeBack { job } => write!(f, "take {job} back"),
            Self::RejectModel {
                configuration,
                model,
                reason,
            } => write!(f, "reject {} of {configuration}: {reason}", model.short()),
            Self::SubmitWith { jobs } => write!(f, "submit {}", list(jobs)),
            Self::OpenWorker {
                node,
                generation,
                offer,
            } => write!(
                f,
                "open a session of {node}, generation {generation}, {offer}"
            ),
            Self::UpgradeTo { level, advertised } => {
                write!(f, "upgrade to level {level}, known to {}", list(advertised))
            }
            Self::Hold(verb) => verb.fmt(f),
            Self::SetTenant { tenant, share } => match share {
                Some(share) => write!(f, "give {tenant} {share}"),
                None => write!(f, "take its share from {tenant}"),
            },
            Self::Trust(verb) => verb.fmt(f),
        }
    }
}

impl Display for JobSpec {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} for {}", self.kind, self.configuration)
    }
}

impl Display for Output {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Segment(segment) => segment.fmt(f),
            Self::Model(model) => model.fmt(f),
            Self::Match(result) => result.fmt(f),
        }
    }
}

impl Display for SegmentRecord {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let hash = self.hash.short();
        write!(
            f,
            "segment {hash} of {} games, {} rows",
            self.games, self.rows
        )
    }
}

impl Display for ModelRecord {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "model {} from {}", self.hash.short(), short(self.parent))
    }
}

impl Display for MatchRecord {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self {
            candidate,
            opponent,
            wins,
            losses,
        } = self;
        write!(f, "{candidate} {wins}-{losses} {opponent}")
    }
}

impl Display for JobState {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Delayed { until } => write!(f, "delayed until {until}"),
            Self::Leased(lease) | Self::Cancelling(lease) => {
                let (phase, session) = (self.phase(), lease.session);
                write!(f, "{phase} by {session} under {}", place(lease.token))
            }
            Self::Waiting | Self::Ready | Self::Done | Self::Cancelled | Self::Dead => {
                self.phase().fmt(f)
            }
        }
    }
}

impl Display for ModelState {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Candidate => f.write_str("candidate"),
            Self::Promoted => f.write_str("promoted"),
            Self::Rejected { reason } => write!(f, "rejected ({reason})"),
            Self::Superseded => f.write_str("superseded"),
            Self::RolledBack { reason } => write!(f, "rolled back ({reason})"),
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Promoted { reason } => write!(f, "promoted: {reason}"),
            Self::Rejected { reason } => write!(f, "rejected: {reason}"),
            Self::Undecided { reason } => write!(f, "undecided: {reason}"),
        }
    }
}

impl Display for Grant {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} under {}", self.job, place(self.token))?;
        write!(f, " (attempt {}, {} losses)", self.attempt, self.losses)
    }
}

impl Display for Reply {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Session { session, ttl } => {
                write!(f, "session {session}, may be silent for {ttl}")
            }
            Self::Submitted { jobs } => write!(f, "submitted {}", list(jobs)),
            Self::Granted { grants } => write!(f, "granted {}", list(grants)),
            Self::Judged { verdict, champion } => {
                write!(f, "{verdict}; the champion is {}", short(*champion))
            }
            Self::Cancelled { job } => write!(f, "{job} was cancelled"),
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
            Self::Locked { token, until } => {
                write!(f, "locked under {} until {until}", place(*token))
            }
            Self::Revision { revision } => write!(f, "revision {revision}"),
            Self::GrantedFrom {
                grants,
                checkpoints,
            } => {
                let from = checkpoints
                    .iter()
                    .map(|(job, from)| format!("{job} from {from}"));
                write!(f, "granted {}; {}", list(grants), list(from))
            }
            Self::Yield { job, until } => write!(f, "noted; give {job} back until {until}"),
        }
    }
}

impl Display for Effect {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::ClusterFounded { cluster } => write!(f, "cluster {cluster} is founded"),
            Self::NodeAdmitted { node } => write!(f, "node {node} is admitted"),
            Self::NodeDraining { node, drain: true } => write!(f, "node {node} is draining"),
            Self::NodeDraining { node, drain: false } => write!(f, "node {node} takes work again"),
            Self::NodeForgotten { node } => write!(f, "node {node} is forgotten"),
            Self::SessionOpened { session, node } => write!(f, "{session} of {node} is open"),
            Self::SessionEnded {
                session,
                node,
                reason,
            } => write!(f, "{session} of {node} is over: {reason}"),
            Self::JobReady { job } => write!(f, "{job} is ready"),
            Self::JobGranted {
                job,
                session,
                token,
            } => write!(f, "{job} is granted to {session} under {}", place(*token)),
            Self::JobLost { job, token, reason } => {
                write!(f, "{job} under {} is lost: {reason}", place(*token))
            }
            Self::JobFailed { job, token } => write!(f, "{job} under {} failed", place(*token)),
            Self::JobDone { job } => write!(f, "{job} is done"),
            Self::JobCancelling {
                job,
                session,
                token,
            } => write!(f, "{session} is to stop {job} under {}", place(*token)),
            Self::JobCancelled { job } => write!(f, "{job} is cancelled"),
            Self::JobDead { job } => write!(f, "{job} is dead"),
            Self::SegmentAccepted {
                configuration,
                segment,
            } => write!(f, "{configuration}: segment {} counts", segment.short()),
            Self::SegmentRetired {
                configuration,
                segment,
            } => write!(f, "{configuration}: segment {} is retired", segment.short()),
            Self::ModelRegistered {
                configuration,
                model,
                number,
            } => write!(f, "{configuration}: model {number} is {}", model.short()),
            Self::ModelPromoted {
                configuration,
                model,
                previous,
            } => {
                let (model, previous) = (model.short(), short(*previous));
                write!(f, "{configuration}: {model} is champion after {previous}")
            }
            Self::ModelRejected {
                configuration,
                model,
            } => write!(f, "{configuration}: {} is rejected", model.short()),
            Self::ModelRolledBack {
                configuration,
                from,
                to,
            } => {
                let (from, to) = (from.short(), to.short());
                write!(
                    f,
                    "{configuration}: {to} is champion again instead of {from}"
                )
            }
            Self::ModelRetired {
                configuration,
                model,
            } => write!(f, "{configuration}: model {} is retired", model.short()),
            Self::MatchCounted {
                configuration,
                games,
            } => write!(f, "{configuration}: {games} games are counted"),
            Self::LockAcquired { name, token } => {
                write!(f, "lock {name} is held under {}", place(*token))
            }
            Self::LockReleased { name, token } => {
                write!(f, "lock {name} under {} is given back", place(*token))
            }
            Self::LockExpired { name, token } => {
                write!(f, "lock {name} under {} has run out", place(*token))
            }
            Self::SettingChanged { key, revision } => {
                write!(f, "setting {key} changed with revision {revision}")
            }
            Self::LevelRaised { level } => write!(f, "the cluster is at level {level}"),
            Self::TenantChanged { tenant } => write!(f, "tenant {tenant} has another share"),
            Self::JobRecurs { job, next } => write!(f, "{job} comes again as {next}"),
            Self::Trust(event) => event.fmt(f),
            Self::JobCheckpointed { job, token, blob } => {
                let (token, blob) = (place(*token), blob.short());
                write!(f, "{job} under {token} can go on from {blob}")
            }
            Self::CheckpointRetired { job, blob } => {
                write!(f, "checkpoint {} of {job} is retired", blob.short())
            }
            Self::JobYielding {
                job,
                session,
                token,
                until,
            } => {
                let token = place(*token);
                write!(
                    f,
                    "{session} is to give {job} under {token} back until {until}"
                )
            }
            Self::ArchiveClosed { link } => write!(f, "{link} of the archive is closed"),
            Self::ArchiveStored { link } => write!(f, "{link} of the archive is stored"),
            Self::JobGaveWay { job, token } => {
                write!(f, "{job} under {} gave way", place(*token))
            }
        }
    }
}
