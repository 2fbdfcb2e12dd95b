//! A voter, or a node that wants to be one: the whole interface of consensus.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{InitializeError, RaftError};
use openraft::raft::AppendEntriesResponse;
use openraft::{Instant as _, RaftMetrics};
use riftmesh_base::{Clock, LogIndex, Millis, NodeId, Term, decode, encode};
use riftmesh_statemachine::{Command, Reply, State};
use riftmesh_transport::{Refused, SharedLink};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::config;
use crate::error::{MemberError, OpenError, ProposeError, ReadError};
use crate::inbox::SnapshotInbox;
use crate::log_store::LogStore;
use crate::machine::Machine;
use crate::members;
use crate::network::Wires;
use crate::proposer::Proposer;
use crate::reads::{NoRound, ReadRounds};
use crate::settings::{RaftSettings, RaftTimings};
use crate::status::{LeaderHint, MemberStatus, RaftRole, RaftStatus};
use crate::types::{Address, Core, Snapshot, SnapshotMeta, TypeConfig};
use crate::watch::Watch;
use crate::watchdog;
use crate::wire::{Envelope, ReadRefusal, Request, Response, SnapshotPart};

/// Leadership goes only to a voter at most this far behind.
const TRANSFER_LAG_MAX: u64 = 100;
/// How long a leader that stops waits for another to take over.
const HANDOVER_MAX: Duration = Duration::from_secs(2);

/// One node's consensus; clones share it.
///
/// It runs on the tokio runtime it was opened on, which should be one of its own: a voter whose runtime is busy with
/// other work loses its leadership. Requests from other voters are passed in with [`RaftNode::handle`].
#[derive(Clone)]
pub struct RaftNode(Arc<Inner>);

struct Inner {
    node: NodeId,
    timings: RaftTimings,
    core: Core,
    log: LogStore,
    machine: Machine,
    wires: Wires,
    proposer: Proposer,
    reads: ReadRounds,
    inbox: SnapshotInbox,
    clock: Arc<dyn Clock>,
    /// When a leader was last heard, on `clock`, plus one; zero for never.
    leader_heard: AtomicU64,
    death: watch::Receiver<Option<String>>,
    stopping: AtomicBool,
}

impl RaftNode {
    /// Starts the node on what its store holds: it resumes, or waits to be initialised or added.
    ///
    /// # Errors
    /// [`OpenError`]: nothing was started.
    pub async fn open(
        settings: RaftSettings,
        link: SharedLink,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let config = config::effective(&settings.timings)?;
        let log = LogStore::open(settings.store.log)?;
        let machine = Machine::open(settings.store.snapshots)?;
        let wires = Wires::new(link, settings.timings.election_min.duration());
        let core = Core::new(
            settings.node.0,
            config,
            wires.clone(),
            log.clone(),
            machine.clone(),
        )
        .await
        .map_err(|e| OpenError::Content(e.to_string()))?;
        let (dead, death) = watch::channel(None);
        watchdog::start(core.clone(), dead);
        Ok(Self(Arc::new(Inner {
            node: settings.node,
            timings: settings.timings,
            proposer: Proposer::start(core.clone(), machine.clone(), Arc::clone(&clock)),
            reads: ReadRounds::start(core.clone()),
            core,
            log,
            machine,
            wires,
            inbox: SnapshotInbox::default(),
            clock,
            leader_heard: AtomicU64::new(0),
            death,
            stopping: AtomicBool::new(false),
        })))
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.0.node
    }

    /// Writes the first entry of a new cluster: these voters, at these addresses (`host:port`). Only one node of a
    /// cluster may do it, and only once; see [`crate::bootstrap`].
    ///
    /// # Errors
    /// [`MemberError::Refused`] when this node has data already, or is not among the voters.
    pub async fn initialize(&self, voters: BTreeMap<NodeId, String>) -> Result<(), MemberError> {
        let voters: BTreeMap<u64, Address> = voters
            .into_iter()
            .map(|(node, address)| (node.0, Address(address)))
            .collect();
        self.0.core.initialize(voters).await.map_err(|e| match e {
            RaftError::APIError(InitializeError::NotAllowed(_)) => MemberError::Refused(
                "this node has data; a cluster is initialised once, on an empty node".to_owned(),
            ),
            RaftError::APIError(InitializeError::NotInMembers(_)) => {
                MemberError::Refused("the voters do not include this node".to_owned())
            }
            RaftError::Fatal(fatal) => MemberError::Stopped(fatal.to_string()),
        })
    }

    /// Proposes a command and waits until it is applied here. Many callers at once share log entries.
    ///
    /// # Errors
    /// [`ProposeError`]; only [`ProposeError::Unknown`] leaves open whether it was done.
    pub async fn propose(
        &self,
        command: Command,
        deadline: Duration,
    ) -> Result<(LogIndex, Reply), ProposeError> {
        if self.0.stopping.load(Ordering::Relaxed) {
            return Err(ProposeError::Stopped(
                "the node is shutting down".to_owned(),
            ));
        }
        let outcome = self.0.proposer.propose(&command, deadline).await;
        outcome.map_err(|error| match error {
            ProposeError::NotLeader { .. } => ProposeError::NotLeader { hint: self.hint() },
            other => other,
        })
    }

    /// Waits until this node's state is at least as new as anything that was acknowledged anywhere when the call
    /// began; gives the index it must have reached. A [`RaftNode::read`] afterwards is linearizable. A follower asks
    /// the leader for the index.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn linearizable(&self, deadline: Duration) -> Result<LogIndex, ReadError> {
        let until = Instant::now() + deadline;
        let late = || ReadError::Late(deadline.into());
        let confirm = timeout_at(until, self.read_index(deadline));
        let index = confirm.await.map_err(|_| late())??;
        let mut applied = self.0.machine.index();
        let reached = timeout_at(until, applied.wait_for(|applied| *applied >= index)).await;
        match reached {
            Ok(Ok(_)) => Ok(index),
            Ok(Err(_)) => Err(ReadError::Stopped("the state machine has ended".to_owned())),
            Err(_) => Err(late()),
        }
    }

    async fn read_index(&self, deadline: Duration) -> Result<LogIndex, ReadError> {
        let answer = match self.own_read_index().await? {
            Err(ReadRefusal::NotLeader) => self.ask_leader(deadline).await?,
            own => own,
        };
        match answer {
            Ok(index) => Ok(LogIndex(index)),
            Err(ReadRefusal::NotLeader) => Err(ReadError::NoLeader),
            Err(ReadRefusal::NoQuorum(reason)) => Err(ReadError::NoQuorum(reason)),
        }
    }

    async fn own_read_index(&self) -> Result<Result<u64, ReadRefusal>, ReadError> {
        self.0.reads.index().await.map_err(|e| match e {
            NoRound::Full => ReadError::Overloaded {
                retry_after: Millis(100),
            },
            NoRound::Stopped => ReadError::Stopped("the node is shutting down".to_owned()),
        })
    }

    async fn ask_leader(&self, deadline: Duration) -> Result<Result<u64, ReadRefusal>, ReadError> {
        let hint = self.hint().filter(|hint| hint.node != self.0.node);
        let Some(LeaderHint { node, address }) = hint else {
            return Err(ReadError::NoLeader);
        };
        let call = self
            .0
            .wires
            .call(node.0, &address, Request::ReadIndex, deadline);
        match call.await {
            Ok(Response::ReadIndex(answer)) => Ok(answer),
            Ok(other) => Err(ReadError::NoQuorum(format!("{node} answered {other:?}"))),
            Err(error) => Err(ReadError::NoQuorum(format!("leader {node}: {error}"))),
        }
    }

    /// Looks at this node's state, however old it is, with the index it stands at. Applying waits meanwhile: copy out
    /// what is needed and return.
    pub fn read<T>(&self, look: impl FnOnce(LogIndex, &State) -> T) -> T {
        self.0.machine.read(look)
    }

    /// The applied index, as it moves.
    pub fn applied(&self) -> watch::Receiver<LogIndex> {
        self.0.machine.index()
    }

    /// What happens to this node's state from now on.
    pub fn subscribe(&self) -> Watch {
        self.0.machine.feed().watch()
    }

    /// Answers a request that came on the Raft lane from `peer`, whose identity the link has checked.
    ///
    /// # Errors
    /// The refusal's text: the request is malformed, meant for another node, speaks for another node than `peer`, or
    /// consensus has died here.
    pub async fn handle(&self, peer: NodeId, request: Bytes) -> Result<Bytes, Refused> {
        let envelope: Envelope =
            decode(&request).map_err(|e| Refused(format!("malformed raft request: {e}")))?;
        if envelope.to != self.0.node.0 {
            return Err(Refused(format!(
                "this is node {}, not {}",
                self.0.node,
                NodeId(envelope.to)
            )));
        }
        check_sender(peer, &envelope.request)?;
        let response = self.answer(peer, envelope.request).await?;
        Ok(encode(&response).into())
    }

    async fn answer(&self, peer: NodeId, request: Request) -> Result<Response, Refused> {
        let core = &self.0.core;
        let dead = |e: &dyn std::fmt::Display| Refused(format!("consensus has died here: {e}"));
        Ok(match request {
            Request::Append(rpc) => {
                let response = core.append_entries(rpc).await.map_err(|e| dead(&e))?;
                if !matches!(response, AppendEntriesResponse::HigherVote(_)) {
                    let now = self.0.clock.now().0.saturating_add(1);
                    self.0.leader_heard.store(now, Ordering::Relaxed);
                }
                Response::Append(response)
            }
            Request::Vote(rpc) => Response::Vote(core.vote(rpc).await.map_err(|e| dead(&e))?),
            Request::PreVote(rpc) => {
                Response::Vote(core.pre_vote(rpc).await.map_err(|e| dead(&e))?)
            }
            Request::Transfer(rpc) => {
                let response = core.handle_transfer_leader(rpc).await;
                Response::Transfer(response.map_err(|e| dead(&e))?)
            }
            Request::Snapshot(part) => self.take_part(peer, part).await?,
            Request::ReadIndex => {
                let answer = self.0.reads.index().await;
                Response::ReadIndex(answer.map_err(|e| Refused(format!("{e:?}")))?)
            }
        })
    }

    async fn take_part(&self, peer: NodeId, part: SnapshotPart) -> Result<Response, Refused> {
        let Some(image) = self.0.inbox.take(peer, &part).map_err(Refused)? else {
            return Ok(Response::PartTaken);
        };
        let snapshot = Snapshot {
            meta: SnapshotMeta {
                last_log_id: part.last_log_id,
                last_membership: part.membership,
            },
            snapshot: image,
        };
        let installed = self.0.core.install_full_snapshot(part.vote, snapshot).await;
        installed
            .map(Response::Installed)
            .map_err(|e| Refused(format!("consensus has died here: {e}")))
    }

    /// What this node knows about its group now.
    pub fn status(&self) -> RaftStatus {
        let metrics = self.metrics();
        let role = match metrics.state {
            openraft::ServerState::Leader => RaftRole::Leader,
            openraft::ServerState::Follower => RaftRole::Follower,
            openraft::ServerState::Candidate => RaftRole::Candidate,
            openraft::ServerState::Learner => RaftRole::Learner,
            openraft::ServerState::Shutdown => RaftRole::Stopped,
        };
        let dead = self.0.death.borrow().clone();
        let quorum_ack_age = self.quorum_ack_age(&metrics);
        let fresh = quorum_ack_age.is_some_and(|age| age < self.0.timings.election_max);
        let times = self.0.log.sync_times();
        let index = |index: Option<u64>| index.map(LogIndex);
        RaftStatus {
            node: self.0.node,
            role,
            term: Term(metrics.current_term),
            leader: metrics.current_leader.map(NodeId),
            quorum_ack_age,
            has_quorum: fresh && metrics.current_leader.is_some() && dead.is_none(),
            initialised: metrics.last_log_index.is_some(),
            members: member_statuses(&metrics),
            members_index: metrics
                .membership_config
                .log_id()
                .map(|id| LogIndex(id.index)),
            last_log: index(metrics.last_log_index),
            committed: index(metrics.local_committed.map(|id| id.index)),
            applied: index(metrics.last_applied.map(|id| id.index)),
            snapshot: index(metrics.snapshot.map(|id| id.index)),
            purged: index(metrics.purged.map(|id| id.index)),
            sync_p50_micros: micros(times.p50),
            sync_p99_micros: micros(times.p99),
            dead,
        }
    }

    fn metrics(&self) -> RaftMetrics<TypeConfig> {
        let metrics = self.0.core.metrics();
        let metrics = metrics.borrow_watched();
        metrics.clone()
    }

    fn quorum_ack_age(&self, metrics: &RaftMetrics<TypeConfig>) -> Option<Millis> {
        if metrics.state.is_leader() {
            return metrics
                .last_quorum_acked
                .as_ref()
                .map(|at| Millis::from(at.elapsed()));
        }
        let heard = self.0.leader_heard.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.0.clock.now().since(Millis(heard)))
    }

    /// The leader and its address, when its quorum is confirmed as far as this node can tell.
    pub fn hint(&self) -> Option<LeaderHint> {
        self.status().hint()
    }

    /// Why consensus has died on this node, once it has: the process should end, and be restarted. Pends for ever
    /// while the node lives.
    pub fn death(&self) -> impl Future<Output = String> + Send + use<> {
        let mut death = self.0.death.clone();
        async move {
            let reason = death.wait_for(Option::is_some).await;
            match reason.map(|reason| reason.clone()) {
                Ok(Some(reason)) => reason,
                // The watchdog ended because the node was shut down on purpose.
                _ => std::future::pending().await,
            }
        }
    }

    /// Notes where a member is reached now. Used ahead of the address in the log, which stays as it is.
    pub fn note_address(&self, node: NodeId, address: SocketAddr) {
        self.0.wires.note_address(node, address);
    }

    /// Adds a member that follows the log without a vote. Returns when that is committed; it catches up afterwards.
    ///
    /// # Errors
    /// [`MemberError`].
    pub async fn add_learner(&self, node: NodeId, address: String) -> Result<(), MemberError> {
        self.hinted(members::add_learner(&self.0.core, node.0, address).await)
    }

    /// Gives a member that has caught up a vote; a node that is no member is added first.
    ///
    /// # Errors
    /// [`MemberError`].
    pub async fn add_voter(&self, node: NodeId, address: String) -> Result<(), MemberError> {
        if !self
            .status()
            .members
            .iter()
            .any(|member| member.node == node)
        {
            self.add_learner(node, address).await?;
        }
        self.hinted(members::promote(&self.0.core, node.0).await)
    }

    /// Removes a member, voter or not. A leader that removes itself hands over first.
    ///
    /// # Errors
    /// [`MemberError`].
    pub async fn remove_voter(&self, node: NodeId) -> Result<(), MemberError> {
        let members = self.status().members;
        let Some(member) = members.iter().find(|member| member.node == node) else {
            return Err(MemberError::Refused(format!("{node} is no member")));
        };
        self.hinted(members::remove(&self.0.core, node.0, member.voter).await)
    }

    /// Writes a member's address anew.
    ///
    /// # Errors
    /// [`MemberError`].
    pub async fn set_address(&self, node: NodeId, address: String) -> Result<(), MemberError> {
        self.hinted(members::set_address(&self.0.core, node.0, address).await)
    }

    fn hinted(&self, outcome: Result<(), MemberError>) -> Result<(), MemberError> {
        outcome.map_err(|error| match error {
            MemberError::NotLeader { .. } => MemberError::NotLeader { hint: self.hint() },
            other => other,
        })
    }

    /// Hands leadership to `to`, or to the best voter, and waits for the change.
    ///
    /// # Errors
    /// [`MemberError::Refused`] when no voter is close enough behind, or the one named is not;
    /// [`MemberError::Unknown`] when the change did not come in time.
    pub async fn transfer_leader(
        &self,
        to: Option<NodeId>,
        deadline: Duration,
    ) -> Result<NodeId, MemberError> {
        let status = self.status();
        if status.role != RaftRole::Leader {
            return Err(MemberError::NotLeader {
                hint: status.hint(),
            });
        }
        let heir = heir(&status, to)?;
        let trigger = self.0.core.trigger().transfer_leader(heir.0).await;
        trigger.map_err(|fatal| MemberError::Stopped(fatal.to_string()))?;
        let changed = self
            .0
            .core
            .wait(Some(deadline))
            .metrics(
                |metrics| {
                    metrics
                        .current_leader
                        .is_some_and(|leader| leader != self.0.node.0)
                },
                "leadership moves",
            )
            .await;
        match changed {
            Ok(metrics) => Ok(metrics.current_leader.map_or(heir, NodeId)),
            Err(_) => Err(MemberError::Unknown(format!(
                "{heir} did not take over within {}",
                Millis::from(deadline)
            ))),
        }
    }

    /// Makes a snapshot now.
    ///
    /// # Errors
    /// [`MemberError::Stopped`].
    pub async fn trigger_snapshot(&self) -> Result<(), MemberError> {
        let trigger = self.0.core.trigger().snapshot().await;
        trigger.map_err(|fatal| MemberError::Stopped(fatal.to_string()))
    }

    /// Stops: takes no more proposals, hands leadership over if it has it and somebody can take it, then ends.
    /// Requests from other voters are refused from then on.
    pub async fn shutdown(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
        if self.status().role == RaftRole::Leader
            && let Err(error) = self.transfer_leader(None, HANDOVER_MAX).await
        {
            tracing::info!(%error, "stopping without handing leadership over");
        }
        self.halt().await;
    }

    /// Stops at once, without handing anything over, as a crash would.
    pub async fn halt(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
        if let Err(error) = self.0.core.shutdown().await {
            tracing::error!(%error, "consensus did not end cleanly");
        }
    }
}

/// A request that speaks for a node must come from that node.
fn check_sender(peer: NodeId, request: &Request) -> Result<(), Refused> {
    let speaker = match request {
        Request::Append(rpc) => rpc.vote.leader_id().node_id,
        Request::Vote(rpc) | Request::PreVote(rpc) => rpc.vote.leader_id().node_id,
        Request::Transfer(rpc) => rpc.from_leader().leader_id().node_id,
        Request::Snapshot(part) => part.vote.leader_id().node_id,
        Request::ReadIndex => return Ok(()),
    };
    if speaker == peer.0 {
        return Ok(());
    }
    Err(Refused(format!(
        "the request speaks for node {} and came from {peer}",
        NodeId(speaker)
    )))
}

/// The voter to hand leadership to.
fn heir(status: &RaftStatus, wanted: Option<NodeId>) -> Result<NodeId, MemberError> {
    let able = |member: &&MemberStatus| {
        member.voter
            && member.node != status.node
            && wanted.is_none_or(|wanted| wanted == member.node)
            && member.lag.is_some_and(|lag| lag < TRANSFER_LAG_MAX)
    };
    let nearest = status
        .members
        .iter()
        .filter(able)
        .min_by_key(|m| (m.contact_age, m.lag));
    nearest.map(|member| member.node).ok_or_else(|| {
        MemberError::Refused(match wanted {
            Some(node) => {
                format!("{node} is no other voter within {TRANSFER_LAG_MAX} entries of the leader")
            }
            None => format!("no other voter is within {TRANSFER_LAG_MAX} entries of the leader"),
        })
    })
}

fn member_statuses(metrics: &RaftMetrics<TypeConfig>) -> Vec<MemberStatus> {
    let members = metrics.membership_config.membership();
    let voters: Vec<u64> = members.voter_ids().collect();
    let last = metrics.last_log_index;
    let mut statuses: Vec<MemberStatus> = members
        .nodes()
        .map(|(node, address)| {
            let own = metrics.state.is_leader() && *node == metrics.id;
            let progress = metrics.replication.as_ref().and_then(|all| all.get(node));
            let matched = progress.copied().flatten().map(|id| id.index);
            let matched = if own { last } else { matched };
            let answered = metrics.heartbeat.as_ref().and_then(|all| all.get(node));
            let age = answered
                .and_then(Option::as_ref)
                .map(|at| at.elapsed().into());
            MemberStatus {
                node: NodeId(*node),
                address: address.0.clone(),
                voter: voters.contains(node),
                matched: matched.map(LogIndex),
                lag: matched.and_then(|matched| Some(last?.saturating_sub(matched))),
                contact_age: if own { Some(Millis(0)) } else { age },
            }
        })
        .collect();
    statuses.sort_by_key(|member| member.node);
    statuses
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
