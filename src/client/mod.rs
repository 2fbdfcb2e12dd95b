//! The cluster as a client sees it: find the leader, repeat what is safe to repeat, and say honestly what happened.
//!
//! Worker agents use it; nothing else in the node does (the leader's own chores propose directly).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use riftmesh_base::{BlobHash, ConfigurationName, Millis, NodeId};
use riftmesh_statemachine::command::{Body, Command, Origin};
use riftmesh_statemachine::reply::{Refusal, Reply};
use riftmesh_transport::link::{BoxFuture, CallError, Lane, Peer, SharedLink, Target};
use tokio::sync::{Mutex, RwLock};
use tokio::time::{Instant, sleep, timeout_at};

use crate::answers::is_confirmed;
use crate::protocol::{Holder, Located, Request, Response};

/// Longest wait for one answer of one voter, so that a dead one costs little of the caller's deadline.
const ATTEMPT_MAX: Duration = Duration::from_millis(2_500);
/// The same for questions of people, who are promised an answer in 2 s: a silent voter leaves time for another.
const QUERY_ATTEMPT_MAX: Duration = Duration::from_millis(1_000);
/// First wait between two rounds over the voters; doubled up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest wait between two rounds.
const PAUSE_MAX: Duration = Duration::from_millis(1_000);

/// Answers requests in this very process, when this node is a voter itself.
pub trait LocalService: Send + Sync + 'static {
    /// Answers this node itself, or another over the network.
    fn handle(&self, caller: Caller, request: Request) -> BoxFuture<'_, Response>;
}

/// Who asks a [`LocalService`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// The node that answers.
    Own,
    /// Another node, as its certificate names it.
    Peer(Peer),
}

/// Knows which voters there are.
pub trait VoterDirectory: Send + Sync + 'static {
    /// Every voter it knows of, and seeds while it knows none.
    fn voters(&self) -> Vec<Target>;
}

/// Why a call did not succeed, by what the caller may conclude.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallFailure {
    /// The cluster answered, and the answer is no. Nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No leader could be reached before the deadline. Surely not done.
    #[error("no leader could be reached: {0}")]
    Unavailable(String),
    /// It may or may not have been done.
    #[error("the outcome is not known: {0}")]
    Unknown(String),
}

/// One client: at most one command outstanding, each with its own sequence number.
pub struct Client {
    link: SharedLink,
    directory: Arc<dyn VoterDirectory>,
    local: Option<(NodeId, Arc<dyn LocalService>)>,
    leader: RwLock<Option<Holder>>,
    turn: AtomicUsize,
    id: u64,
    seq: Mutex<u64>,
}

/// What one attempt at one voter came to.
enum Attempt {
    Answer(Response),
    /// Surely not done; ask somebody else.
    Elsewhere(String),
    /// Perhaps done; a repeat with the same origin is safe.
    Lost(String),
}

impl Client {
    /// A client named `id`, which must be random and new.
    pub fn new(
        link: SharedLink,
        directory: Arc<dyn VoterDirectory>,
        local: Option<(NodeId, Arc<dyn LocalService>)>,
        id: u64,
    ) -> Self {
        Self {
            link,
            directory,
            local,
            leader: RwLock::new(None),
            turn: AtomicUsize::new(0),
            id,
            seq: Mutex::new(0),
        }
    }

    /// Puts a command through the log, exactly once however often it has to be sent.
    ///
    /// # Errors
    /// See [`CallFailure`]; after `Unknown` the command may still take effect.
    pub async fn propose(&self, body: Body, deadline: Duration) -> Result<Reply, CallFailure> {
        // Held across the call on purpose: the state machine remembers one command per client.
        let mut seq = self.seq.lock().await;
        *seq += 1;
        let command = Command {
            origin: Some(Origin {
                client: self.id,
                seq: *seq,
            }),
            body,
        };
        match self.ask_leader(Request::Propose(command), deadline).await? {
            Response::Applied {
                reply: Reply::Refused(refusal),
                ..
            } => Err(refusal.into()),
            Response::Applied { reply, .. } => Ok(reply),
            other => Err(CallFailure::Unknown(format!("unexpected answer {other:?}"))),
        }
    }

    /// Asks the leader, following hints and repeating until `deadline`.
    ///
    /// # Errors
    /// See [`CallFailure`].
    pub async fn ask_leader(
        &self,
        request: Request,
        deadline: Duration,
    ) -> Result<Response, CallFailure> {
        self.ask(request, deadline, true).await
    }

    /// Asks any voter, starting with the leader. A question of a person is put to another voter if the answer was not
    /// confirmed; if none can confirm its answer, the first one counts.
    ///
    /// # Errors
    /// See [`CallFailure`].
    pub async fn ask_any(
        &self,
        request: Request,
        deadline: Duration,
    ) -> Result<Response, CallFailure> {
        self.ask(request, deadline, false).await
    }

    /// Where segments and models are.
    ///
    /// # Errors
    /// See [`CallFailure`].
    pub async fn locate(
        &self,
        configuration: &ConfigurationName,
        blobs: Vec<BlobHash>,
        deadline: Duration,
    ) -> Result<Vec<Located>, CallFailure> {
        let request = Request::Locate {
            configuration: configuration.clone(),
            blobs,
        };
        match self.ask_any(request, deadline).await? {
            Response::Located { blobs } => Ok(blobs),
            other => Err(CallFailure::Unavailable(format!(
                "unexpected answer {other:?}"
            ))),
        }
    }

    /// Asks every voter for itself, all at once; those that do not answer in time are left out.
    pub async fn ask_each(&self, request: &Request, deadline: Duration) -> Vec<Response> {
        let end = Instant::now() + deadline;
        let bytes = Bytes::from(riftmesh_base::encode(request));
        let targets = self.targets().await;
        let attempts = targets
            .into_iter()
            .map(|target| self.attempt(target, request, &bytes, end));
        let attempts = futures::future::join_all(attempts).await;
        let answers = attempts.into_iter().filter_map(|attempt| match attempt {
            Attempt::Answer(response) => Some(response),
            Attempt::Elsewhere(_) | Attempt::Lost(_) => None,
        });
        answers.collect()
    }

    async fn ask(
        &self,
        request: Request,
        deadline: Duration,
        leader_only: bool,
    ) -> Result<Response, CallFailure> {
        let end = Instant::now() + deadline;
        let bytes = Bytes::from(riftmesh_base::encode(&request));
        let (mut perhaps_done, mut why, mut pause) =
            (None, "no voter is known".to_owned(), PAUSE_MIN);
        let mut old = None;
        loop {
            let mut hints = 0;
            let mut targets = self.targets().await;
            while let Some(target) = targets.pop() {
                if Instant::now() >= end {
                    break;
                }
                match self.attempt(target, &request, &bytes, end).await {
                    Attempt::Answer(Response::NotLeader { hint, .. }) => {
                        why = format!("{} does not lead", target.address);
                        self.forget(target).await;
                        if let Some(hint) = hint.filter(|_| hints < 2) {
                            hints += 1;
                            self.remember(hint).await;
                            targets.push(Target {
                                node: Some(hint.node),
                                address: hint.address,
                            });
                        }
                    }
                    Attempt::Answer(Response::Overloaded { retry_after }) => {
                        why = "the leader is overloaded".to_owned();
                        pause = pause.max(retry_after.duration().min(PAUSE_MAX));
                    }
                    Attempt::Answer(Response::Unknown { reason }) => perhaps_done = Some(reason),
                    Attempt::Answer(Response::Invalid { reason }) => {
                        return Err(CallFailure::Refused(Refusal::Invalid(reason)));
                    }
                    Attempt::Answer(Response::Answer { json }) if !is_confirmed(&json) => {
                        old.get_or_insert(json);
                    }
                    Attempt::Answer(answer) => {
                        if let (true, Some(node)) = (leader_only, target.node) {
                            self.remember(Holder {
                                node,
                                address: target.address,
                            })
                            .await;
                        }
                        return Ok(answer);
                    }
                    Attempt::Elsewhere(reason) => {
                        why = reason;
                        self.forget(target).await;
                    }
                    Attempt::Lost(reason) => {
                        perhaps_done = Some(reason);
                        self.forget(target).await;
                    }
                }
            }
            if let Some(json) = old {
                return Ok(Response::Answer { json });
            }
            if Instant::now() + pause >= end {
                return Err(
                    perhaps_done.map_or(CallFailure::Unavailable(why), CallFailure::Unknown)
                );
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn attempt(
        &self,
        target: Target,
        request: &Request,
        bytes: &Bytes,
        end: Instant,
    ) -> Attempt {
        if let Some((_, service)) = self
            .local
            .as_ref()
            .filter(|(node, _)| Some(*node) == target.node)
        {
            return match timeout_at(end, service.handle(Caller::Own, request.clone())).await {
                Ok(response) => Attempt::Answer(response),
                Err(_) => Attempt::Lost("this node did not answer itself in time".to_owned()),
            };
        }
        let most = if matches!(request, Request::Query(_)) {
            QUERY_ATTEMPT_MAX
        } else {
            ATTEMPT_MAX
        };
        let left = end.saturating_duration_since(Instant::now()).min(most);
        match self
            .link
            .call(target, Lane::Client, bytes.clone(), left)
            .await
        {
            Ok(reply) => match riftmesh_base::decode(&reply) {
                Ok(response) => Attempt::Answer(response),
                Err(error) => {
                    Attempt::Lost(format!("{} answered nonsense: {error}", target.address))
                }
            },
            Err(CallError::Unknown(reason) | CallError::Lost(reason)) => Attempt::Lost(reason),
            Err(error) => Attempt::Elsewhere(error.to_string()),
        }
    }

    /// Voters in the order to pop them: this node itself last, before it the remembered leader, the others rotated.
    async fn targets(&self) -> Vec<Target> {
        let mut targets = self.directory.voters();
        if !targets.is_empty() {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % targets.len();
            targets.rotate_left(turn);
        }
        if let Some(leader) = *self.leader.read().await {
            let leader = Target {
                node: Some(leader.node),
                address: leader.address,
            };
            targets.retain(|t| t.address != leader.address);
            targets.push(leader);
        }
        // A voter hears who leads before any client of it could remember, and asking it costs nothing.
        let own = self.local.as_ref().map(|(node, _)| *node);
        if let Some(place) = targets.iter().position(|t| own.is_some() && t.node == own) {
            let own = targets.remove(place);
            targets.push(own);
        }
        targets
    }

    async fn remember(&self, leader: Holder) {
        *self.leader.write().await = Some(leader);
    }

    async fn forget(&self, target: Target) {
        let mut leader = self.leader.write().await;
        if leader.is_some_and(|l| l.address == target.address) {
            *leader = None;
        }
    }
}

/// Deadlines of the calls a worker makes.
pub mod deadlines {
    use super::{Duration, Millis};

    /// Of a keep-alive: shorter than the time between two.
    pub const KEEPALIVE: Duration = Duration::from_millis(2_500);
    /// Of a command whose loss costs only time.
    pub const COMMAND: Duration = Duration::from_secs(10);
    /// Of a completion: the work of minutes is worth waiting out an election and a lost session's grace for.
    pub const COMPLETE: Duration = Millis::from_secs(60).duration();
    /// Of a query on behalf of a person, who is promised an answer in 2 s.
    pub const QUERY: Duration = Duration::from_millis(1_500);
}
