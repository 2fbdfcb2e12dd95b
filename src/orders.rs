//! What an operator may order over HTTP: the part of the commands that a person has reason to give.
//!
//! The verbs of workers and of the leader are not among them: the HTTP edge asks for no credential.

use std::str::FromStr as _;

use riftmesh_base::time::wall_clock;
use riftmesh_base::{BlobHash, ConfigurationName, JobId, JoinTokenId, Millis, NodeId};
use riftmesh_rules::Configuration;
use riftmesh_statemachine::command::{Body, Command, Origin};
use riftmesh_statemachine::hold::HoldVerb;
use riftmesh_statemachine::lock::LockVerb;
use riftmesh_statemachine::reply::Reply;
use riftmesh_statemachine::rotation::{RotationPhase, RotationVerb};
use riftmesh_statemachine::setting::SettingWrite;
use riftmesh_statemachine::terms::{JobRequest, TenantShare, Terms};
use riftmesh_statemachine::trust::{NewToken, TrustVerb};
use serde::{Deserialize, Serialize};

use crate::job::payload::Payload;

/// Body of `POST /v1/orders`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderRequest {
    /// A random number that names this order for ever: asked again, on whatever node, it gets the answer it got.
    pub client: u64,
    /// What to do.
    pub order: Order,
}

/// One order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Makes a dead or cancelled job ready again, with fresh counters.
    RetryJob(JobId),
    /// Takes a job from whoever holds it.
    TakeJobBack(JobId),
    /// Has the promotion rule look at a candidate.
    JudgeModel {
        /// Of this configuration.
        configuration: ConfigurationName,
        /// The candidate.
        model: BlobHash,
        /// The champion the operator saw.
        expected: Option<BlobHash>,
    },
    /// Rejects a candidate whatever its evidence.
    RejectModel {
        /// Of this configuration.
        configuration: ConfigurationName,
        /// The candidate.
        model: BlobHash,
        /// Why.
        reason: String,
    },
    /// Puts a former champion back.
    RollBackModel {
        /// Of this configuration.
        configuration: ConfigurationName,
        /// The former champion.
        model: BlobHash,
        /// Why.
        reason: String,
    },
    /// Writes or deletes a setting.
    WriteSetting(SettingWrite),
    /// Takes, holds or gives back a lock.
    Lock(LockVerb),
    /// Raises the cluster's level of behaviour to the next that all its voters know.
    RaiseLevel,
    /// Gives a tenant its share of the cluster, or takes it away.
    SetTenant {
        /// Whose.
        tenant: String,
        /// None for what anybody is entitled to.
        share: Option<TenantShare>,
    },
    /// Makes a join token, whose secret stays with whoever orders it. On a voter's machine only, like the next two.
    CreateToken(NewToken),
    /// Lets nobody in with this token from now on.
    RevokeToken(JoinTokenId),
    /// Trusts a node no more, for ever.
    RevokeCertificate {
        /// Which.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// Grants a node no more work. On a voter's machine only, like the next two.
    DrainNode {
        /// Which.
        node: NodeId,
        /// How long it has for the jobs it holds; none for as long as they take.
        within: Option<Millis>,
    },
    /// Grants a node work again.
    UndrainNode(NodeId),
    /// Takes a node without a session out of the roster.
    ForgetNode(NodeId),
    /// Ends a phase of replacing the authority without the nodes that are waited for. On a voter's machine only, like the
    /// next.
    ForceRotation(RotationPhase),
    /// Gives up replacing the authority.
    AbortRotation,
    /// Enters jobs, all or none.
    SubmitJobs {
        /// What is to be done, and on which terms.
        jobs: Vec<JobRequest>,
        /// While one of them runs, it may be asked to stop and go on later, for a more urgent one.
        give_way: bool,
    },
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderAnswer {
    /// In words.
    pub said: String,
    /// As a value.
    pub reply: Reply,
}

/// What the voters said of their levels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Levels {
    /// The level of the newest state.
    pub at: u32,
    /// The highest level that each voter's build knows.
    pub known: Vec<(NodeId, u32)>,
}

impl OrderRequest {
    /// The command that carries the order out. Its origin is the order's own, so repeating it is safe.
    pub fn command(self, levels: &Levels) -> Command {
        Command {
            origin: Some(Origin {
                client: self.client,
                seq: 1,
            }),
            body: self.order.body(levels),
        }
    }
}

impl Levels {
    /// The upgrade to the next level, with those that know it. The state machine knows whether these are all.
    fn raise(&self) -> Body {
        // A cluster that nobody answers for is at the first level at least.
        let level = self.at.max(1) + 1;
        let knowing = self.known.iter().filter(|(_, known)| *known >= level);
        Body::UpgradeTo {
            level,
            advertised: knowing.map(|(node, _)| *node).collect(),
        }
    }
}

/// The command that every build knows, where it can say what is meant.
fn submission(jobs: Vec<JobRequest>, give_way: bool) -> Body {
    if give_way {
        return Body::Hold(HoldVerb::SubmitYielding { jobs });
    }
    if jobs.iter().any(|job| job.terms != Terms::default()) {
        return Body::SubmitWith { jobs };
    }
    let jobs = jobs.into_iter().map(|job| job.spec).collect();
    Body::Submit { jobs }
}

/// Whether the jobs of a submission are such that a worker of this build can run them.
///
/// # Errors
/// In words: which job, and what is wrong with it.
pub fn check_jobs(jobs: &[JobRequest]) -> Result<(), String> {
    for (number, JobRequest { spec, .. }) in (1..).zip(jobs) {
        let named = |problem: String| format!("job {number} of {}: {problem}", jobs.len());
        Configuration::from_str(spec.configuration.as_str())
            .map_err(|error| named(error.to_string()))?;
        let payload = Payload::from_json(&spec.payload)
            .map_err(|error| named(format!("payload: {error}")))?;
        let (kind, of) = (spec.kind, payload.kind());
        if kind != of {
            return Err(named(format!("the payload of a {of} job in a {kind} job")));
        }
    }
    Ok(())
}

impl Order {
    fn body(self, levels: &Levels) -> Body {
        match self {
            Self::RaiseLevel => levels.raise(),
            Self::RetryJob(job) => Body::Requeue { job },
            Self::TakeJobBack(job) => Body::TakeBack { job },
            Self::JudgeModel {
                configuration,
                model,
                expected,
            } => Body::Promote {
                configuration,
                model,
                expected,
            },
            Self::RejectModel {
                configuration,
                model,
                reason,
            } => Body::RejectModel {
                configuration,
                model,
                reason,
            },
            Self::RollBackModel {
                configuration,
                model,
                reason,
            } => Body::Rollback {
                configuration,
                model,
                reason,
            },
            Self::WriteSetting(write) => Body::WriteSetting(write),
            Self::Lock(verb) => Body::Lock(verb),
            Self::SetTenant { tenant, share } => Body::SetTenant { tenant, share },
            Self::CreateToken(new) => Body::Trust(TrustVerb::CreateToken(new)),
            Self::RevokeToken(id) => Body::Trust(TrustVerb::RevokeToken { id }),
            Self::DrainNode {
                node,
                within: Some(grace),
            } => Body::DrainWithin { node, grace },
            Self::DrainNode { node, within: None } => Body::DrainNode { node, drain: true },
            Self::UndrainNode(node) => Body::DrainNode { node, drain: false },
            Self::ForgetNode(node) => Body::ForgetNode { node },
            Self::ForceRotation(phase) => {
                let (force, at) = (true, wall_clock());
                Body::Trust(TrustVerb::Rotate(RotationVerb::Advance {
                    phase,
                    force,
                    at,
                }))
            }
            Self::SubmitJobs { jobs, give_way } => submission(jobs, give_way),
            Self::AbortRotation => Body::Trust(TrustVerb::Rotate(RotationVerb::Abort)),
            Self::RevokeCertificate { node, reason } => {
                let at = wall_clock();
                Body::Trust(TrustVerb::RevokeCertificate { node, reason, at })
            }
        }
    }
}
