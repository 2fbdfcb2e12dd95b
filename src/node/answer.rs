//! Answers for people, made from a voter's state, its consensus and gossip.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use riftmesh_base::time::wall_clock;
use riftmesh_base::{JobId, Millis, NodeId};
use riftmesh_raft::{AutopilotReport, RaftNode, RaftStatus};
use riftmesh_statemachine::job::{JobKind, JobPhase, JobRecord};
use riftmesh_statemachine::lock::LockRecord;
use riftmesh_statemachine::query::{ConfigurationView, JobFilter, RosterRow, StateSummary};
use riftmesh_statemachine::setting::{SettingChange, SettingRecord};
use riftmesh_transport::link::BoxFuture;
use serde::Serialize;
use tokio::sync::watch;

use super::http::{AnswerError, to_json};
use super::mesh::{MeshMember, SharedMesh};
use super::progress;
use super::trust::Expiries;
use crate::answers::{
    AuthorityAnswer, CertificatesAnswer, Envelope, MemberAnswer, ModelAnswer, Query, RaftAnswer,
    ReadMode, RotationAnswer, is_confirmed,
};
use crate::blobs::BlobAccess;
use crate::client::Client;
use crate::node::cluster_view;
use crate::protocol::{Request, Response};

/// A question waits this long for a confirmed index; after that the answer is marked stale.
const CONFIRM_MAX: Duration = Duration::from_millis(800);

/// Answers from a voter's own copy of the state.
pub struct Answers {
    pub(super) name: String,
    pub(super) raft: RaftNode,
    pub(super) mesh: SharedMesh,
    pub(super) blobs: Arc<BlobAccess>,
    /// When this node's certificate and its authority expire.
    pub(super) expires: watch::Receiver<Expiries>,
    /// What autopilot does on this node.
    pub(super) autopilot: watch::Receiver<AutopilotReport>,
    /// Asks other voters what this one cannot confirm. Set once, after the parts that need these answers.
    pub(super) client: OnceLock<Arc<Client>>,
}

/// Everything an answer may need, copied out of the state at one index.
pub struct StateFacts {
    /// Totals.
    pub summary: StateSummary,
    /// Nodes and sessions.
    pub roster: Vec<RosterRow>,
    /// Configurations with their models and ratings.
    pub configurations: Vec<ConfigurationView>,
    /// Jobs that somebody holds.
    pub running: Vec<JobRecord>,
    /// The match reported last, of each configuration.
    pub matches: Vec<JobRecord>,
    /// When certificates expire, this node's own among them.
    pub expiries: Vec<(NodeId, Millis)>,
    /// What is to be said about the end of the authority, if that is near.
    pub authority: Option<String>,
}

impl Answers {
    /// Answers another node, as JSON text with its envelope.
    ///
    /// # Errors
    /// There is no such thing, or the question makes no sense.
    pub async fn answer(&self, query: Query) -> Result<String, AnswerError> {
        let confirmed = self.raft.linearizable(CONFIRM_MAX).await.is_ok();
        self.told(query, confirmed).await
    }

    /// Answers a person. What this node cannot confirm another may: it may have lost its vote, or wait for one, or be
    /// cut off from the leader alone. Its own part in the consensus group only itself can tell.
    async fn answer_person(&self, query: Query) -> Result<String, AnswerError> {
        let confirmed = self.raft.linearizable(CONFIRM_MAX).await.is_ok();
        if !confirmed
            && query != Query::Raft
            && let Some(json) = self.ask_voters(&query).await
        {
            return Ok(json);
        }
        self.told(query, confirmed).await
    }

    /// The first confirmed answer of the voters.
    async fn ask_voters(&self, query: &Query) -> Option<String> {
        let request = Request::Query(query.clone());
        let answers = self.client.get()?.ask_each(&request, CONFIRM_MAX).await;
        answers.into_iter().find_map(|answer| match answer {
            Response::Answer { json } if is_confirmed(&json) => Some(json),
            _ => None,
        })
    }

    async fn told(&self, query: Query, confirmed: bool) -> Result<String, AnswerError> {
        let status = self.raft.status();
        match query {
            Query::Status => self.wrap(
                &status,
                confirmed,
                cluster_view::status(
                    &self.facts(),
                    &status,
                    confirmed,
                    &self.seen(),
                    &self.blobs,
                    &self.autopilot.borrow(),
                ),
            ),
            Query::Leader => self.wrap(
                &status,
                confirmed,
                cluster_view::leader(&self.roster(), &status, confirmed),
            ),
            Query::Quorum => self.wrap(
                &status,
                confirmed,
                cluster_view::quorum(&self.roster(), &status, confirmed, &self.mesh.members()),
            ),
            Query::Members => self.wrap(&status, confirmed, self.members()),
            Query::Jobs { kind, state, limit } => self.wrap(
                &status,
                confirmed,
                self.jobs(kind, state.as_deref(), limit)?,
            ),
            Query::Job(job) => self.wrap(&status, confirmed, self.job(job)?),
            Query::Models => self.wrap(&status, confirmed, self.models()),
            Query::Model(wanted) => self.wrap(&status, confirmed, self.model(&wanted)?),
            Query::Progress => self.wrap(
                &status,
                confirmed,
                progress::all(&self.facts(), &self.blobs),
            ),
            Query::Queue => self.wrap(
                &status,
                confirmed,
                self.raft.read(|_, state| state.queue_view()),
            ),
            Query::Locks => self.wrap(&status, confirmed, self.locks()),
            Query::Settings => self.wrap(&status, confirmed, self.settings()),
            Query::SettingChanges(key) => {
                self.wrap(&status, confirmed, self.setting_changes(key.as_deref()))
            }
            Query::Raft => {
                let names = self.member_names(&status);
                let answer = RaftAnswer {
                    status: status.clone(),
                    names,
                    autopilot: self.autopilot.borrow().clone(),
                };
                self.wrap(&status, confirmed, answer)
            }
            Query::Lineage(wanted) => self.wrap(&status, confirmed, self.lineage(&wanted)?),
            Query::Tokens => self.wrap(
                &status,
                confirmed,
                self.raft.read(|_, state| state.join_tokens()),
            ),
            Query::Certificates => self.wrap(&status, confirmed, self.certificates()),
            Query::Authority => self.wrap(&status, confirmed, self.authority()),
            Query::History(wanted) => self.wrap(&status, confirmed, self.history(wanted).await?),
        }
    }

    fn member_names(&self, status: &RaftStatus) -> BTreeMap<String, String> {
        let roster = self.roster();
        let named = status.members.iter().filter_map(|member| {
            let name = name_of(&roster, member.node)?;
            Some((member.node.to_string(), name))
        });
        named.collect()
    }

    fn members(&self) -> Vec<MemberAnswer> {
        let (roster, now) = self.raft.read(|_, state| (state.roster(), state.now()));
        let mut members = cluster_view::members(&roster, &self.seen(), now);
        cluster_view::tell(&mut members, self.mesh.told());
        members
    }

    /// The mesh without those who were taken out for good, which gossip remembers for a while.
    fn seen(&self) -> Vec<MeshMember> {
        let mut members = self.mesh.members();
        self.raft.read(|_, state| {
            let retired: BTreeSet<_> = state
                .revocations()
                .map(|known| known.node)
                .filter(|node| state.node(*node).is_none())
                .collect();
            members.retain(|member| !retired.contains(&member.node));
        });
        members
    }

    fn certificates(&self) -> CertificatesAnswer {
        self.raft.read(|_, state| CertificatesAnswer {
            certificates: state.certificates().cloned().collect(),
            revoked: state.revocations().cloned().collect(),
        })
    }

    fn authority(&self) -> AuthorityAnswer {
        self.raft.read(|_, state| {
            let roster = state.roster();
            let names = |nodes: Vec<NodeId>| {
                let name =
                    |node: NodeId| name_of(&roster, node).unwrap_or_else(|| node.to_string());
                nodes.into_iter().map(name).collect()
            };
            let trusted = state.authorities().into_iter();
            AuthorityAnswer {
                trusted: trusted.map(|known| known.fingerprint).collect(),
                rotation: state.rotation(wall_clock()).map(|rotation| RotationAnswer {
                    next: rotation.next.fingerprint,
                    phase: rotation.phase,
                    begun: rotation.begun,
                    done: names(rotation.done),
                    awaited: names(rotation.awaited),
                }),
            }
        })
    }

    fn locks(&self) -> Vec<LockRecord> {
        self.raft.read(|_, state| state.locks().cloned().collect())
    }

    fn settings(&self) -> Vec<SettingRecord> {
        self.raft
            .read(|_, state| state.settings().cloned().collect())
    }

    fn setting_changes(&self, key: Option<&str>) -> Vec<SettingChange> {
        self.raft
            .read(|_, state| state.setting_changes(key).cloned().collect())
    }

    /// A model and its ancestors, as far as the registry knows them.
    fn lineage(&self, wanted: &str) -> Result<Vec<ModelAnswer>, AnswerError> {
        let model = self.model(wanted)?;
        let line: Vec<_> = self.raft.read(|_, state| {
            let line = state.lineage(&model.configuration, model.entry.record.hash);
            line.into_iter().map(|entry| entry.record.hash).collect()
        });
        let models = self.models();
        let find = |hash| {
            let mut models = models.iter();
            models.find(|known| {
                known.entry.record.hash == hash && known.configuration == model.configuration
            })
        };
        Ok(line.into_iter().filter_map(find).cloned().collect())
    }

    fn wrap<T: Serialize>(
        &self,
        status: &RaftStatus,
        confirmed: bool,
        answer: T,
    ) -> Result<String, AnswerError> {
        let envelope = Envelope {
            node: status.node,
            name: self.name.clone(),
            mode: if confirmed {
                ReadMode::Linearizable
            } else {
                ReadMode::Stale
            },
            applied_index: status.applied.map(|index| index.0),
            term: Some(status.term.0),
            leader_contact_ms: status.quorum_ack_age.map(|age| age.0),
            answer,
        };
        to_json(&envelope)
    }

    fn facts(&self) -> StateFacts {
        let expires = *self.expires.borrow();
        let own = (self.raft.node(), expires.certificate);
        self.raft.read(|_, state| {
            let of = |phase, kind, limit| {
                let filter = JobFilter {
                    phase: Some(phase),
                    kind,
                    limit,
                    ..JobFilter::default()
                };
                state.jobs(&filter).into_iter().cloned().collect::<Vec<_>>()
            };
            StateFacts {
                summary: state.summary(),
                roster: state.roster(),
                configurations: state
                    .configurations()
                    .filter_map(|name| state.configuration(name))
                    .collect(),
                running: of(JobPhase::Leased, None, 64),
                matches: of(JobPhase::Done, Some(JobKind::Evaluate), 16),
                expiries: state
                    .certificates()
                    .map(|known| (known.node, known.expires))
                    .chain([own])
                    .collect(),
                authority: expires.authority_warning(wall_clock()),
            }
        })
    }

    fn roster(&self) -> Vec<RosterRow> {
        self.raft.read(|_, state| state.roster())
    }

    fn jobs(
        &self,
        kind: Option<JobKind>,
        state: Option<&str>,
        limit: u32,
    ) -> Result<Vec<JobRecord>, AnswerError> {
        let phase = state.map(phase_named).transpose()?;
        let filter = JobFilter {
            phase,
            kind,
            limit: limit as usize,
            ..JobFilter::default()
        };
        Ok(self
            .raft
            .read(|_, state| state.jobs(&filter).into_iter().cloned().collect()))
    }

    fn job(&self, job: JobId) -> Result<JobRecord, AnswerError> {
        let record = self.raft.read(|_, state| state.job_record(job).cloned());
        record.ok_or_else(|| {
            AnswerError::NotFound(format!(
                "there is no job {job} among the live ones and those that ended last; `job history {job}` looks further"
            ))
        })
    }

    fn models(&self) -> Vec<ModelAnswer> {
        let views = self.raft.read(|_, state| {
            state
                .configurations()
                .filter_map(|name| state.configuration(name))
                .collect::<Vec<_>>()
        });
        let mut models: Vec<_> = views
            .into_iter()
            .flat_map(|view| {
                let configuration = view.name;
                view.models.into_iter().map(move |model| ModelAnswer {
                    configuration: configuration.clone(),
                    champion: model.champion,
                    rating_milli_elo: model.rating.as_ref().map(|rated| rated.rating.milli_elo),
                    entry: model.entry,
                })
            })
            .collect();
        models.reverse();
        models
    }

    fn model(&self, wanted: &str) -> Result<ModelAnswer, AnswerError> {
        let number = wanted.trim_start_matches('#').parse::<u32>().ok();
        let fits = |model: &ModelAnswer| {
            Some(model.entry.number) == number
                || (wanted.len() >= 6 && model.entry.record.hash.to_string().starts_with(wanted))
        };
        let found = self.models().into_iter().find(fits);
        found.ok_or_else(|| AnswerError::NotFound(format!("no model has the number {wanted}, or a hash that begins with it (six digits or more)")))
    }
}

impl super::http::Answerer for Answers {
    fn answer(&self, query: Query) -> BoxFuture<'_, Result<String, AnswerError>> {
        Box::pin(self.answer_person(query))
    }
}

fn phase_named(name: &str) -> Result<JobPhase, AnswerError> {
    let named = JobPhase::ALL
        .into_iter()
        .find(|phase| phase.to_string() == name);
    named.ok_or_else(|| {
        let names: Vec<_> = JobPhase::ALL.iter().map(ToString::to_string).collect();
        AnswerError::Invalid(format!(
            "`{name}` is not a state of a job; these are: {}",
            names.join(", ")
        ))
    })
}

/// The name of a node in the roster.
pub fn name_of(roster: &[RosterRow], node: NodeId) -> Option<String> {
    roster
        .iter()
        .find(|row| row.node.record.id == node)
        .map(|row| row.node.record.name.clone())
}
