//! The leader's round: look at the state, propose what is missing. Runs on every voter and rests where it does not
//! lead.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use riftmesh_base::time::wall_clock;
use riftmesh_base::{BlobHash, ClusterId, ConfigurationName, LogIndex, Millis, NodeId};
use riftmesh_raft::{OpenSessionFact, RaftNode, RaftRole};
use riftmesh_statemachine::State;
use riftmesh_statemachine::command::{Body, Command};
use riftmesh_statemachine::hold::HoldVerb;
use riftmesh_statemachine::job::JobSpec;
use riftmesh_statemachine::level::HOLDS_SINCE;
use riftmesh_statemachine::reply::Reply;
use riftmesh_statemachine::roster::SessionRecord;
use riftmesh_statemachine::rotation::RotationVerb;
use riftmesh_statemachine::terms::{JobRequest, Terms};
use riftmesh_statemachine::trust::TrustVerb;
use riftmesh_transport::relayed;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::facts;
use super::plan::{self, Standing};
use super::settings::LoopSettings;
use crate::node::mesh::{MeshMember, SharedMesh};
use crate::node::voter::VoterService;

/// Time between two rounds.
const ROUND: Duration = Duration::from_millis(250);
/// Hosts asked at a time whether a node that gossip counts out has left its port; the next ones in the next round.
const LOOKS_MAX: usize = 32;
/// A proposal of a chore waits this long; the next round sees whether it was done.
const PROPOSE_MAX: Duration = Duration::from_secs(3);

/// The chores of one voter.
pub struct Chores {
    raft: RaftNode,
    mesh: SharedMesh,
    service: Arc<VoterService>,
    cluster: ClusterId,
    loops: Vec<LoopSettings>,
    /// Games of evidence at the last judgement, so that the log is asked only when there is news.
    judged: BTreeMap<BlobHash, u32>,
    /// The state the queue was last planned for.
    planned: LogIndex,
    /// The term this leader has confirmed its state for.
    confirmed_term: Option<u64>,
    /// Cluster time as it was applied last, and when this node saw it first: how long the log has been quiet.
    quiet: (Millis, Instant),
}

impl Chores {
    /// Chores for the cluster `cluster`, with these loops to keep going.
    pub fn new(
        raft: RaftNode,
        mesh: SharedMesh,
        service: Arc<VoterService>,
        cluster: ClusterId,
        loops: Vec<LoopSettings>,
    ) -> Self {
        Self {
            raft,
            mesh,
            service,
            cluster,
            loops,
            judged: BTreeMap::new(),
            planned: LogIndex(0),
            confirmed_term: None,
            quiet: (Millis(0), Instant::now()),
        }
    }

    /// Does them until `stopping` turns true.
    pub async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        tokio::select! {
            () = self.rounds() => {}
            // An error means that the node is gone, which is a stop as well.
            _ = stopping.wait_for(|stop| *stop) => {}
        }
    }

    async fn rounds(&mut self) {
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            self.round().await;
        }
    }

    async fn round(&mut self) {
        if !self.in_office().await {
            return;
        }
        let proposals = self.proposals().await;
        for body in proposals {
            let candidate = match &body {
                Body::Promote { model, .. } => Some(*model),
                _ => None,
            };
            if !self.propose(body).await
                && let Some(model) = candidate
            {
                self.judged.remove(&model);
            }
        }
    }

    /// Whether this node leads and its state includes everything that was acknowledged before its term.
    async fn in_office(&mut self) -> bool {
        let status = self.raft.status();
        if status.role != RaftRole::Leader || !status.has_quorum {
            self.confirmed_term = None;
            return false;
        }
        if self.confirmed_term == Some(status.term.0) {
            return true;
        }
        if self.raft.linearizable(PROPOSE_MAX).await.is_ok() {
            tracing::info!(term = status.term.0, "in office");
            self.confirmed_term = Some(status.term.0);
            self.judged.clear();
            self.planned = LogIndex(0);
        }
        self.confirmed_term.is_some()
    }

    async fn proposals(&mut self) -> Vec<Body> {
        let mut bodies = self.expiries().await;
        let Self {
            raft,
            loops,
            judged,
            planned,
            cluster,
            quiet,
            ..
        } = self;
        raft.read(|index, state| {
            if state.cluster().is_none() {
                bodies.push(Body::FoundCluster { cluster: *cluster });
            }
            if quiet.0 != state.now() {
                *quiet = (state.now(), Instant::now());
            }
            // Time passes with every entry; when there is none, a delayed job still has its moment, and a lock its end.
            let wait = state.next_deadline().map(|at| at.since(state.now()));
            if wait.is_some_and(|wait| wait <= quiet.1.elapsed().into()) {
                bodies.push(Body::Tick);
            }
            if let Some(rotation) = state.rotation(wall_clock())
                && rotation.awaited.is_empty()
                && !rotation.done.is_empty()
            {
                let (phase, force, at) = (rotation.phase, false, wall_clock());
                let advance = RotationVerb::Advance { phase, force, at };
                bodies.push(Body::Trust(TrustVerb::Rotate(advance)));
            }
            if index == *planned {
                return;
            }
            *planned = index;
            for settings in loops {
                bodies.extend(judgements(state, &settings.configuration, judged));
                let jobs = plan::plan(&facts::of(state, &settings.configuration), settings);
                bodies.extend(submissions(jobs, state.level()));
            }
        });
        bodies
    }

    async fn expiries(&self) -> Vec<Body> {
        let open = self.open_sessions().await;
        let verdicts = self
            .service
            .with_memory(|memory, now| memory.sessions.expire(&open, now))
            .unwrap_or_default();
        verdicts
            .into_iter()
            .map(|(session, reason)| {
                tracing::warn!(%session, ?reason, "expiring a session");
                Body::ExpireSession { session, reason }
            })
            .collect()
    }

    /// The open sessions, with what gossip says of their nodes. Where it says that one is gone, its host is asked too.
    async fn open_sessions(&self) -> Vec<OpenSessionFact> {
        let members = self.mesh.members();
        let gone = members.iter().filter(|member| member.state.is_gone());
        let gone: BTreeMap<_, _> = gone.map(|member| (member.node, member)).collect();
        let sessions: Vec<_> = self.raft.read(|_, state| {
            let sessions = state.sessions();
            sessions.map(|s| (s.id, end_of(s, &gone))).collect()
        });
        // A host behind a relay cannot be asked.
        let asked = sessions.iter().filter_map(|(_, address)| *address);
        let asked = asked.filter(|address| relayed::route(*address).is_none());
        let looks = asked.take(LOOKS_MAX).map(async |address| {
            let is_refused = self.mesh.port_refused(address, ROUND).await;
            is_refused.then_some(address)
        });
        let refused: BTreeSet<_> = join_all(looks).await.into_iter().flatten().collect();
        let facts = sessions.into_iter().map(|(session, gone)| OpenSessionFact {
            session,
            down: gone.is_some(),
            refused: gone.is_some_and(|address| refused.contains(&address)),
        });
        facts.collect()
    }

    /// Proposes a chore. True if the log has it.
    async fn propose(&self, body: Body) -> bool {
        let words = format!("{body:?}");
        match self
            .raft
            .propose(Command { origin: None, body }, PROPOSE_MAX)
            .await
        {
            Ok((_, Reply::Refused(refusal))) => {
                tracing::warn!(%refusal, words, "a chore was refused")
            }
            Ok((_, Reply::Judged { verdict, .. })) => tracing::info!(?verdict, "judged"),
            Ok(_) => {}
            Err(error) => {
                tracing::info!(%error, "a chore waits for the next round");
                return false;
            }
        }
        true
    }
}

/// Jobs that give way are entered as such where the cluster's level allows it.
fn submissions(jobs: Vec<JobSpec>, level: u32) -> Vec<Body> {
    let gives_way = |job: &JobSpec| level >= HOLDS_SINCE && plan::gives_way(job);
    let (yielding, jobs): (Vec<_>, Vec<_>) = jobs.into_iter().partition(gives_way);
    let mut bodies = Vec::new();
    if !jobs.is_empty() {
        bodies.push(Body::Submit { jobs });
    }
    if !yielding.is_empty() {
        let terms = Terms::default();
        let jobs = yielding.into_iter().map(|spec| JobRequest {
            spec,
            terms: terms.clone(),
        });
        let jobs = jobs.collect();
        bodies.push(Body::Hold(HoldVerb::SubmitYielding { jobs }));
    }
    bodies
}

/// Asks for a verdict on every candidate with news.
fn judgements(
    state: &State,
    name: &ConfigurationName,
    judged: &mut BTreeMap<BlobHash, u32>,
) -> Vec<Body> {
    let expected = state.champion(name);
    let facts = facts::of(state, name);
    let news = facts.models.iter().filter(|model| {
        let games = model.evidence_games;
        model.standing == Standing::Candidate
            && games > 0
            && judged.insert(model.hash, games) != Some(games)
    });
    news.map(|model| Body::Promote {
        configuration: name.clone(),
        model: model.hash,
        expected,
    })
    .collect()
}

/// Where the node of a session ended, if it is among those that are gone, with the life that opened the session or a later one: a node
/// that was given up wrongly goes on under another generation, with its session.
fn end_of(session: &SessionRecord, gone: &BTreeMap<NodeId, &MeshMember>) -> Option<SocketAddr> {
    let last = gone.get(&session.node)?;
    (last.generation >= session.generation).then_some(last.address)
}

#[cfg(test)]
mod tests {
    use riftmesh_base::SessionId;

    use super::*;
    use crate::node::mesh::MeshState;

    /// The end of a later life is the end of the session, too; that of an earlier one, or of another node, says nothing about it.
    #[test]
    fn a_session_ends_with_the_newest_life() {
        let session = SessionRecord {
            id: SessionId(1),
            node: NodeId(7),
            generation: 5,
            slots: 1,
            cuda: false,
            opened: Millis(0),
            gpu_memory_mib: 0,
            labels: Vec::new(),
        };
        for (node, generation, ended) in [(7, 5, true), (7, 6, true), (7, 4, false), (8, 6, false)]
        {
            let last = MeshMember {
                node: NodeId(node),
                generation,
                name: String::new(),
                role: None,
                address: ([10, 0, 0, 7], 7_700).into(),
                relay: None,
                state: MeshState::Down,
                since: Millis(0),
                rtt: None,
            };
            let end = end_of(&session, &[(last.node, &last)].into());
            assert_eq!(end, ended.then_some(last.address), "{node} {generation}");
        }
    }
}
