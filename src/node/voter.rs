//! What a voter answers on the client lane.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use riftmesh_base::{
    BlobHash, Clock, ConfigurationName, JobId, LogIndex, Millis, NodeId, SessionId, Token,
};
use riftmesh_raft::{
    MemberError, MemberOrder, ProposeError, RaftNode, RaftRole, SeedFact, SessionWatch,
};
use riftmesh_statemachine::State;
use riftmesh_statemachine::command::{Body, Command};
use riftmesh_statemachine::job::{DeviceNeed, JobKind, JobPhase, JobState};
use riftmesh_statemachine::level::LEVEL;
use riftmesh_statemachine::query::JobFilter;
use riftmesh_transport::link::BoxFuture;
use tokio::time::{Instant, timeout_at};

use super::answer::Answers;
use super::mesh::SharedMesh;
use super::sweep;
use super::trust::{Issuer, news, permit};
use crate::client::{Caller, LocalService};
use crate::protocol::{Holder, LOCATE_BLOBS_MAX, Located, Request, Response, WORK_WAIT_MAX};

/// A command waits this long for its commit; the client repeats it after that.
const PROPOSE_MAX: Duration = Duration::from_secs(2);
/// A read that decides something waits this long for a confirmed index.
const READ_MAX: Duration = Duration::from_secs(1);
/// Ready jobs looked at to see whether one fits a waiting worker.
const READY_LOOKED_AT: usize = 64;

/// A leader's memory of its workers, from the term it was elected in.
pub struct LeaderMemory {
    /// The term.
    pub term: u64,
    /// Signs of life.
    pub sessions: SessionWatch,
}

/// The voter's side of the client protocol.
pub struct VoterService {
    raft: RaftNode,
    mesh: SharedMesh,
    clock: Arc<dyn Clock>,
    answers: Arc<Answers>,
    memory: Mutex<Option<LeaderMemory>>,
    introduction: Box<dyn Fn() -> SeedFact + Send + Sync>,
    /// Set once, after the parts that need this service.
    issuer: OnceLock<Arc<Issuer>>,
}

impl VoterService {
    /// Serves what `raft` knows. `introduction` says what this node tells others while a cluster is being formed.
    pub fn new(
        raft: RaftNode,
        mesh: SharedMesh,
        clock: Arc<dyn Clock>,
        answers: Arc<Answers>,
        introduction: Box<dyn Fn() -> SeedFact + Send + Sync>,
    ) -> Self {
        Self {
            raft,
            mesh,
            clock,
            answers,
            memory: Mutex::new(None),
            introduction,
            issuer: OnceLock::new(),
        }
    }

    /// Renews certificates with `issuer` from now on. A second call changes nothing.
    pub fn renew_with(&self, issuer: Arc<Issuer>) {
        self.issuer.get_or_init(|| issuer);
    }

    async fn renew(&self, caller: Caller, request: &[u8]) -> Response {
        match (caller, self.issuer.get()) {
            (Caller::Peer(peer), Some(issuer)) => issuer.renew(peer, request).await,
            (_, None) => Response::Overloaded {
                retry_after: Millis::from_secs(1),
            },
            (Caller::Own, Some(_)) => Response::Invalid {
                reason: "this node certifies itself".to_owned(),
            },
        }
    }

    /// Whether the caller may ask that; if not, why.
    fn check(&self, caller: Caller, request: &Request) -> Result<(), String> {
        let owner = |session| self.raft.read(|_, state| state.session_node(session));
        permit(&caller, request, owner).inspect_err(|reason| {
            if let Some(issuer) = self.issuer.get() {
                issuer.refusals.note("not-permitted");
            }
            tracing::warn!(reason, "refused");
        })
    }

    /// This leader's memory, made anew when the term is new. None on a node that does not lead.
    pub fn with_memory<T>(&self, act: impl FnOnce(&mut LeaderMemory, Millis) -> T) -> Option<T> {
        let status = self.raft.status();
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if status.role != RaftRole::Leader {
            *memory = None;
            return None;
        }
        let now = self.clock.now();
        let fresh = || LeaderMemory {
            term: status.term.0,
            sessions: SessionWatch::new(now),
        };
        if memory
            .as_ref()
            .is_none_or(|known| known.term != status.term.0)
        {
            *memory = Some(fresh());
        }
        memory.as_mut().map(|memory| act(memory, now))
    }

    async fn propose(&self, command: Command) -> Response {
        // Once in the log it would stop this very node.
        if matches!(command.body, Body::UpgradeTo { level, .. } if level > LEVEL) {
            return Response::Invalid {
                reason: format!("the leader's build knows levels up to {LEVEL}"),
            };
        }
        // Nor may it stop voters of an older build.
        if let Err(refusal) = self.raft.read(|_, state| state.check_level(&command.body)) {
            let reason = refusal.to_string();
            return Response::Invalid { reason };
        }
        match self.raft.propose(command, PROPOSE_MAX).await {
            Ok((index, reply)) => Response::Applied { index, reply },
            Err(ProposeError::NotLeader { .. }) => self.not_leader(),
            Err(ProposeError::Overloaded { retry_after }) => Response::Overloaded { retry_after },
            Err(error @ ProposeError::TooLarge { .. }) => Response::Invalid {
                reason: error.to_string(),
            },
            Err(ProposeError::Unknown(reason)) => Response::Unknown { reason },
            Err(ProposeError::Stopped(_)) => self.not_leader(),
        }
    }

    async fn change_members(&self, order: MemberOrder, expected: Option<LogIndex>) -> Response {
        match self.raft.change_members(order, expected, PROPOSE_MAX).await {
            Ok(progress) => Response::Members {
                progress,
                members_index: self.raft.status().members_index,
            },
            Err(MemberError::NotLeader { .. } | MemberError::Stopped(_)) => self.not_leader(),
            Err(MemberError::Refused(reason)) => Response::Invalid { reason },
            Err(MemberError::Unknown(reason)) => Response::Unknown { reason },
        }
    }

    /// Whether this node's state is nobody's to ask for: it has no vote, or has lost it, and no leader feeds it. A voter
    /// that hears of no leader still knows what the cluster knew last.
    fn is_aside(&self) -> bool {
        let status = self.raft.status();
        let mut members = status.members.iter();
        let votes = members.any(|member| member.node == status.node && member.voter);
        !votes && !status.has_quorum
    }

    fn not_leader(&self) -> Response {
        let status = self.raft.status();
        let leader = status.hint().filter(|hint| hint.node != status.node);
        let hint = leader.and_then(|hint| {
            let address = self
                .address_of(hint.node)
                .or_else(|| hint.address.parse().ok())?;
            Some(Holder {
                node: hint.node,
                address,
            })
        });
        Response::NotLeader {
            hint,
            term: status.term,
        }
    }

    /// Where a node is now, by gossip.
    fn address_of(&self, node: NodeId) -> Option<SocketAddr> {
        self.mesh
            .members()
            .into_iter()
            .find(|member| member.node == node)
            .map(|member| member.address)
    }

    async fn keep_alive(&self, session: SessionId, held: Vec<(JobId, Token)>) -> Response {
        if self
            .with_memory(|memory, now| memory.sessions.heard(session, now))
            .is_none()
        {
            return self.not_leader();
        }
        let look = |_: LogIndex, state: &State| {
            let open = state.session(session).is_some();
            let over = |(job, token): &(JobId, Token)| {
                let lease = state.job_record(*job).map(|record| &record.state);
                !matches!(lease, Some(JobState::Leased(lease)) if lease.token == *token)
            };
            (
                open,
                held.iter()
                    .filter(|one| over(one))
                    .map(|(job, _)| *job)
                    .collect::<Vec<_>>(),
            )
        };
        let (open, stop) = self.raft.read(look);
        if open && stop.is_empty() {
            return Response::KeptAlive { stop };
        }
        // Bad news is given only from a state that is surely current: a new leader may not have applied everything.
        if self.raft.linearizable(READ_MAX).await.is_err() {
            return self.not_leader();
        }
        match self.raft.read(look) {
            (true, stop) => Response::KeptAlive { stop },
            (false, _) => Response::SessionOver,
        }
    }

    /// An old state would have nodes trust whom the cluster does not trust any more.
    async fn authorities(&self) -> Response {
        if self.raft.linearizable(READ_MAX).await.is_err() {
            let retry_after = Millis::from(READ_MAX);
            return Response::Overloaded { retry_after };
        }
        Response::Authorities {
            news: self.raft.read(|_, state| news(state)),
        }
    }

    async fn wait_work(&self, kinds: &[JobKind], slots: u16, cuda: bool) -> Response {
        let end = Instant::now() + WORK_WAIT_MAX.duration();
        let mut applied = self.raft.applied();
        loop {
            if self.raft.status().role != RaftRole::Leader {
                return self.not_leader();
            }
            applied.mark_unchanged();
            if self
                .raft
                .read(|_, state| work_fits(state, kinds, slots, cuda))
            {
                return Response::Work { ready: true };
            }
            match timeout_at(end, applied.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return self.not_leader(),
                Err(_) => return Response::Work { ready: false },
            }
        }
    }

    async fn champion(&self, configuration: &ConfigurationName) -> Response {
        if self.raft.linearizable(READ_MAX).await.is_err() {
            return self.not_leader();
        }
        Response::Champion {
            model: self.raft.read(|_, state| state.champion(configuration)),
        }
    }

    async fn named(&self, blobs: &[BlobHash]) -> Response {
        // An answer of yesterday's state would have what was registered since removed.
        if self.raft.linearizable(READ_MAX).await.is_err() {
            return self.not_leader();
        }
        let (keep, named) = self
            .raft
            .read(|_, state| (sweep::keep_unnamed(state), state.named(blobs)));
        match keep {
            Ok(keep) => Response::Named {
                blobs: named.into_iter().collect(),
                keep,
            },
            Err(reason) => Response::Invalid { reason },
        }
    }

    fn locate(&self, configuration: &ConfigurationName, blobs: &[BlobHash]) -> Response {
        let found: Vec<_> = self.raft.read(|_, state| {
            let one = |blob: &BlobHash| {
                let manifest = state
                    .model(configuration, *blob)
                    .map(|model| model.record.manifest);
                let nodes = state.holders(*blob);
                let nodes = nodes.into_iter().map(|node| {
                    (
                        node,
                        state.node(node).map(|entry| entry.record.address.clone()),
                    )
                });
                (*blob, manifest, nodes.collect::<Vec<_>>())
            };
            blobs.iter().map(one).collect()
        });
        let holder = |(node, roster): (NodeId, Option<String>)| {
            let address = self.address_of(node).or_else(|| roster?.parse().ok())?;
            Some(Holder { node, address })
        };
        let blobs = found
            .into_iter()
            .map(|(blob, manifest, nodes)| Located {
                blob,
                manifest,
                holders: nodes.into_iter().filter_map(holder).collect(),
            })
            .collect();
        Response::Located { blobs }
    }
}

impl LocalService for VoterService {
    fn handle(&self, caller: Caller, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            if let Err(reason) = self.check(caller, &request) {
                return Response::Invalid { reason };
            }
            if let Request::Locate { blobs, .. } | Request::Named { blobs } = &request
                && blobs.len() > LOCATE_BLOBS_MAX
            {
                let reason = format!(
                    "{} blobs at once: {LOCATE_BLOBS_MAX} are allowed",
                    blobs.len()
                );
                return Response::Invalid { reason };
            }
            match request {
                Request::Propose(command) => self.propose(command).await,
                Request::KeepAlive { session, held } => self.keep_alive(session, held).await,
                Request::WaitWork { kinds, slots, cuda } => {
                    self.wait_work(&kinds, slots, cuda).await
                }
                Request::Champion { configuration } => self.champion(&configuration).await,
                Request::Named { blobs } => self.named(&blobs).await,
                Request::Locate {
                    configuration,
                    blobs,
                } => match self.is_aside() {
                    true => self.not_leader(),
                    false => self.locate(&configuration, &blobs),
                },
                Request::Query(query) => match self.answers.answer(query).await {
                    Ok(json) => Response::Answer { json },
                    Err(error) => Response::Invalid {
                        reason: error.to_string(),
                    },
                },
                Request::Members { order, expected } => self.change_members(order, expected).await,
                Request::Introduce => Response::Introduction((self.introduction)()),
                Request::Level => Response::Level {
                    node: self.raft.node(),
                    known: LEVEL,
                    at: self.raft.read(|_, state| state.level()),
                },
                Request::Renew { request } => self.renew(caller, &request).await,
                Request::Authorities => self.authorities().await,
                Request::AuthorityKey { authority } => match self.issuer.get() {
                    Some(issuer) => issuer.key_of(authority),
                    None => Response::Overloaded {
                        retry_after: Millis::from_secs(1),
                    },
                },
                Request::Revoked if self.is_aside() => self.not_leader(),
                Request::Revoked => Response::Revoked {
                    nodes: self
                        .raft
                        .read(|_, state| state.revocations().map(|known| known.node).collect()),
                },
            }
        })
    }
}

/// Whether a ready job would fit a worker with these free slots.
fn work_fits(state: &State, kinds: &[JobKind], slots: u16, cuda: bool) -> bool {
    if state.jobs_in(JobPhase::Ready) == 0 {
        return false;
    }
    let filter = JobFilter {
        phase: Some(JobPhase::Ready),
        limit: READY_LOOKED_AT,
        ..JobFilter::default()
    };
    state.jobs(&filter).into_iter().any(|job| {
        let needs = &job.spec.needs;
        kinds.contains(&job.spec.kind)
            && needs.slots <= slots
            && (cuda || needs.device == DeviceNeed::Any)
    })
}
