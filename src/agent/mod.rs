//! The worker agent: opens a session, claims what its slots can take, runs it in children, reports, and stops in
//! time when it cannot reach a leader.
//!
//! It owns no authority. A grant exists because the log says so; silence longer than the TTL means that the log may
//! say otherwise by now, so the children are killed by then, whatever they were doing.

mod child;
mod grant;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use riftmesh_base::limits::{KEEPALIVE_EVERY, SESSION_TTL};
use riftmesh_base::{JobId, SessionId, Token};
use riftmesh_statemachine::command::{Body, Loss};
use riftmesh_statemachine::hold::JobCheckpoint;
use riftmesh_statemachine::job::{Grant, JobKind};
use riftmesh_statemachine::reply::{Refusal, Reply};
use riftmesh_statemachine::roster::NodeRecord;
use riftmesh_statemachine::terms::Offer;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::blobs::BlobAccess;
use crate::client::{CallFailure, Client, deadlines};
use crate::protocol::{Request, Response, WORK_WAIT_MAX};

/// Wait after work was announced and not granted, or could not be asked for.
const CLAIM_PAUSE: Duration = Duration::from_millis(500);

/// A node that leaves waits this long for the end of its session.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// What an agent needs to know of the node it works for.
pub struct AgentConfig {
    /// The node, as it is entered in the roster.
    pub record: NodeRecord,
    /// Its generation in the mesh.
    pub generation: u64,
    /// Slots it offers.
    pub slots: u16,
    /// Memory of its first CUDA device in MiB that jobs may be promised, zero for none.
    pub gpu_memory_mib: u32,
    /// Labels it offers.
    pub labels: BTreeSet<String>,
    /// Device strings of its CUDA devices; empty on a CPU node.
    pub cuda: Vec<String>,
    /// Scratch space, emptied at start.
    pub work_dir: PathBuf,
    /// Optimiser states, kept from one training to the next.
    pub optimizers: PathBuf,
    /// This binary.
    pub exe: PathBuf,
}

/// The agent of one node.
pub struct WorkerAgent {
    config: AgentConfig,
    /// For commands that must not wait behind each other's long deadlines.
    session_client: Arc<Client>,
    job_clients: Box<dyn Fn() -> Client + Send + Sync>,
    blobs: Arc<BlobAccess>,
}

/// A grant, and from where it goes on if an earlier one has left something.
type Granted = (Grant, Option<JobCheckpoint>);

/// A job in hand.
struct Held {
    token: Token,
    slots: u16,
    stop: watch::Sender<bool>,
}

/// One session and what it holds.
struct Session {
    id: SessionId,
    ttl: Duration,
    /// When the last acknowledged keep-alive was *sent*.
    acked: Instant,
    held: BTreeMap<JobId, Held>,
    jobs: JoinSet<JobId>,
}

/// Why a session came to its end.
enum SessionEnd {
    /// The leader does not know it any more, or nobody answered for a whole TTL.
    Over,
    /// The node is stopping.
    Stopping,
}

impl WorkerAgent {
    /// An agent that has done nothing yet. `job_clients` makes a client for each job, so that they do not queue
    /// behind one another.
    pub fn new(
        config: AgentConfig,
        session_client: Arc<Client>,
        job_clients: Box<dyn Fn() -> Client + Send + Sync>,
        blobs: Arc<BlobAccess>,
    ) -> Self {
        Self {
            config,
            session_client,
            job_clients,
            blobs,
        }
    }

    /// Works until `stopping` turns true. Children are dead when this returns.
    ///
    /// # Errors
    /// The scratch directory cannot be used.
    pub async fn run(self, mut stopping: watch::Receiver<bool>) -> anyhow::Result<()> {
        grant::clear_work_dir(&self.config.work_dir)?;
        while !*stopping.borrow() {
            let opened = tokio::select! {
                opened = self.open_session() => opened,
                _ = stopping.changed() => return Ok(()),
            };
            match opened {
                Ok(session) => {
                    tracing::info!(session = %session.id, slots = self.config.slots, "session open");
                    if let SessionEnd::Stopping = self.serve(session, &mut stopping).await {
                        return Ok(());
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "no session yet");
                    tokio::select! {
                        () = sleep(Duration::from_secs(1)) => {}
                        _ = stopping.changed() => {}
                    }
                }
            }
        }
        Ok(())
    }

    async fn open_session(&self) -> Result<Session, CallFailure> {
        let sent = Instant::now();
        self.session_client
            .propose(
                Body::AdmitNode(self.config.record.clone()),
                deadlines::COMMAND,
            )
            .await?;
        let open = self.opening();
        match self
            .session_client
            .propose(open, deadlines::COMMAND)
            .await?
        {
            Reply::Session { session, ttl } => Ok(Session {
                id: session,
                ttl: ttl.duration(),
                acked: sent,
                held: BTreeMap::new(),
                jobs: JoinSet::new(),
            }),
            other => Err(CallFailure::Unknown(format!("unexpected answer {other:?}"))),
        }
    }

    /// A plain session unless the node offers more than that can say: builds from before there was more read it too.
    fn opening(&self) -> Body {
        let config = &self.config;
        let (node, generation) = (config.record.id, config.generation);
        let (slots, cuda) = (config.slots, !config.cuda.is_empty());
        if config.labels.is_empty() && config.gpu_memory_mib == 0 {
            return Body::OpenSession {
                node,
                generation,
                slots,
                cuda,
            };
        }
        let offer = Offer {
            slots,
            cuda,
            gpu_memory_mib: config.gpu_memory_mib,
            labels: config.labels.iter().cloned().collect(),
        };
        Body::OpenWorker {
            node,
            generation,
            offer,
        }
    }

    async fn serve(
        &self,
        mut session: Session,
        stopping: &mut watch::Receiver<bool>,
    ) -> SessionEnd {
        let mut beat = interval(KEEPALIVE_EVERY.duration());
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut beats: JoinSet<(Instant, Result<Response, CallFailure>)> = JoinSet::new();
        let mut claims: JoinSet<Result<Option<Vec<Granted>>, CallFailure>> = JoinSet::new();
        let end = loop {
            if session.silence() >= session.ttl {
                tracing::warn!("no leader for a whole TTL: giving up the session and its jobs");
                break SessionEnd::Over;
            }
            if claims.is_empty() && self.free_slots(&session) > 0 && session.may_launch() {
                claims.spawn(self.claim(&session));
            }
            tokio::select! {
                _ = stopping.changed() => break SessionEnd::Stopping,
                _ = beat.tick() => {
                    if beats.is_empty() {
                        beats.spawn(keep_alive(Arc::clone(&self.session_client), session.request()));
                    }
                }
                Some(Ok((sent, answer))) = beats.join_next() => {
                    if session.beat(sent, answer).is_err() {
                        tracing::warn!(session = %session.id, "the session is over");
                        break SessionEnd::Over;
                    }
                }
                Some(Ok(granted)) = claims.join_next() => match granted {
                    Ok(Some(grants)) if grants.is_empty() => { claims.spawn(pause()); }
                    Ok(grants) => grants.into_iter().flatten().for_each(|granted| self.launch(&mut session, granted)),
                    Err(CallFailure::Refused(Refusal::SessionOver(_))) => break SessionEnd::Over,
                    Err(CallFailure::Unknown(error)) => {
                        tracing::warn!(error, "a claim was never answered: giving up the session and what it may hold");
                        break SessionEnd::Over;
                    }
                    Err(error) => {
                        tracing::debug!(%error, "claim");
                        claims.spawn(pause());
                    }
                },
                Some(ended) = session.jobs.join_next() => match ended {
                    Ok(job) => { session.held.remove(&job); }
                    Err(error) => tracing::error!(%error, "a job's task was lost"),
                },
            }
        };
        let id = session.id;
        self.leave(session).await;
        if let SessionEnd::Stopping = end {
            self.say_goodbye(id).await;
        }
        end
    }

    /// Ends the session, so that nobody waits for a sign of life of it.
    async fn say_goodbye(&self, session: SessionId) {
        let reason = Loss::Left;
        let end = Body::ExpireSession { session, reason };
        if let Err(error) = self.session_client.propose(end, GOODBYE_MAX).await {
            tracing::info!(%session, %error, "the session ends by itself later");
        }
    }

    /// Stops all jobs and waits until their children are dead.
    async fn leave(&self, mut session: Session) {
        for held in session.held.values() {
            held.stop.send_replace(true);
        }
        while session.jobs.join_next().await.is_some() {}
    }

    fn free_slots(&self, session: &Session) -> u16 {
        let used: u16 = session.held.values().map(|held| held.slots).sum();
        self.config.slots.saturating_sub(used)
    }

    fn claim(
        &self,
        session: &Session,
    ) -> impl Future<Output = Result<Option<Vec<Granted>>, CallFailure>> + use<> {
        claim(
            Arc::clone(&self.session_client),
            session.id,
            self.free_slots(session),
            !self.config.cuda.is_empty(),
        )
    }

    fn launch(&self, session: &mut Session, (grant, from): Granted) {
        tracing::info!(job = %grant.job, kind = %grant.spec.kind, token = %grant.token, "granted");
        let (stop, stopped) = watch::channel(false);
        session.held.insert(
            grant.job,
            Held {
                token: grant.token,
                slots: grant.spec.needs.slots,
                stop,
            },
        );
        let runner = grant::GrantRunner {
            client: (self.job_clients)(),
            blobs: Arc::clone(&self.blobs),
            node: self.config.record.id,
            exe: self.config.exe.clone(),
            work_dir: self.config.work_dir.clone(),
            optimizers: self.config.optimizers.clone(),
            device: self
                .config
                .cuda
                .first()
                .cloned()
                .unwrap_or_else(|| "cpu".to_owned()),
        };
        session.jobs.spawn(async move {
            let job = grant.job;
            runner.run(grant, from, stopped).await;
            job
        });
    }
}

impl Session {
    fn silence(&self) -> Duration {
        self.acked.elapsed()
    }

    /// Past 60 % of the TTL without an acknowledgement nothing new is started (DISTRIBUTED section 2).
    fn may_launch(&self) -> bool {
        self.silence() < self.ttl * 6 / 10
    }

    fn request(&self) -> Request {
        let held = self
            .held
            .iter()
            .map(|(job, held)| (*job, held.token))
            .collect();
        Request::KeepAlive {
            session: self.id,
            held,
        }
    }

    /// Takes in the answer to a keep-alive sent at `sent`.
    fn beat(&mut self, sent: Instant, answer: Result<Response, CallFailure>) -> Result<(), ()> {
        match answer {
            Ok(Response::KeptAlive { stop }) => {
                self.acked = self.acked.max(sent);
                for job in stop {
                    if let Some(held) = self.held.get(&job) {
                        held.stop.send_replace(true);
                    }
                }
                Ok(())
            }
            Ok(Response::SessionOver) => Err(()),
            Ok(other) => {
                tracing::warn!(?other, "unexpected answer to a keep-alive");
                Ok(())
            }
            Err(error) => {
                tracing::debug!(%error, "keep-alive");
                Ok(())
            }
        }
    }
}

async fn keep_alive(
    client: Arc<Client>,
    request: Request,
) -> (Instant, Result<Response, CallFailure>) {
    let sent = Instant::now();
    (sent, client.ask_leader(request, deadlines::KEEPALIVE).await)
}

/// Between two claims that brought nothing although work was announced.
async fn pause() -> Result<Option<Vec<Granted>>, CallFailure> {
    sleep(CLAIM_PAUSE).await;
    Ok(None)
}

/// Waits until there is work, then claims it; none if there was none to wait for.
async fn claim(
    client: Arc<Client>,
    session: SessionId,
    slots: u16,
    cuda: bool,
) -> Result<Option<Vec<Granted>>, CallFailure> {
    let kinds = vec![JobKind::Selfplay, JobKind::Train, JobKind::Evaluate];
    let wait = Request::WaitWork {
        kinds: kinds.clone(),
        slots,
        cuda,
    };
    let patience = WORK_WAIT_MAX.duration() + Duration::from_secs(1);
    match client.ask_leader(wait, patience).await {
        Ok(Response::Work { ready: true }) => {}
        // Waiting grants nothing, so an answer that was lost costs nothing.
        Ok(_) | Err(CallFailure::Unknown(_)) => return Ok(None),
        Err(error) => return Err(error),
    }
    // Repeated for as long as the session can live: grants that nobody heard of would stay leased to it.
    match client
        .propose(
            Body::Claim {
                session,
                kinds,
                jobs_max: slots,
            },
            SESSION_TTL.duration(),
        )
        .await?
    {
        Reply::Granted { grants } => Ok(Some(
            grants.into_iter().map(|grant| (grant, None)).collect(),
        )),
        Reply::GrantedFrom {
            grants,
            checkpoints,
        } => {
            let mut from: BTreeMap<JobId, JobCheckpoint> = checkpoints.into_iter().collect();
            let grants = grants.into_iter();
            Ok(Some(
                grants
                    .map(|grant| {
                        let from = from.remove(&grant.job);
                        (grant, from)
                    })
                    .collect(),
            ))
        }
        other => Err(CallFailure::Unknown(format!("unexpected answer {other:?}"))),
    }
}
