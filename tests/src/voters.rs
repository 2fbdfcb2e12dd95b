//! Real voters, openraft included, over the in-memory network with logs in memory: crashes, cuts and loss, while
//! workers and submitters work through whoever leads.
//!
//! It runs in real time, because each voter's log has a disk thread of its own that a paused clock would outrun. The
//! seed fixes what is tried and when, not how threads interleave; bit-identical runs are the log world's business.
//! World time runs [`SPEED`] times as fast as real time, so that leases run out within seconds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt as _;
use rand::rngs::StdRng;
use riftmesh_base::limits::{SESSION_GRACE, SESSION_TTL};
use riftmesh_base::{BlobHash, Clock, LogIndex, Millis, NodeId, Seed, SessionId, SystemClock};
use riftmesh_raft::{
    MemberError, OpenError, ProposeError, RaftNode, RaftRole, RaftSettings, RaftStore, RaftTimings,
};
use riftmesh_statemachine::{Body, Command, Loss, Reply, State};
use riftmesh_transport::memory::MemoryNetwork;
use riftmesh_transport::{BoxFuture, Handler, Lane, Link as _, Peer, Refused};
use tokio::time::{Instant, sleep};

use crate::client::{ClientStep, SimulatedClient};
use crate::oracle::Oracle;

/// World milliseconds per real millisecond.
pub const SPEED: u64 = 20;
/// Real time a client waits for an answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(400);
/// Nodes a client tries for one command.
const TRIES: usize = 5;

/// Why a group of voters could not be brought up.
#[derive(Debug, thiserror::Error)]
pub enum FormError {
    /// A voter did not start.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The first entry was refused.
    #[error(transparent)]
    Initialize(#[from] MemberError),
}

/// Serves a voter's Raft lane until the voter is taken away.
struct Serve(Mutex<Option<RaftNode>>);

impl Handler for Serve {
    fn call(&self, from: Peer, _: Lane, request: Bytes) -> BoxFuture<'_, Result<Bytes, Refused>> {
        let node = lock(&self.0).clone();
        Box::pin(async move {
            match node {
                Some(node) => node.handle(from.node, request).await,
                None => Err(Refused("gone".to_owned())),
            }
        })
    }

    fn datagram(&self, _: Peer, _: Bytes) {}

    fn blob(&self, _: Peer, _: BlobHash) -> Option<PathBuf> {
        None
    }
}

/// Voters, what their disks hold, and what everybody outside shares.
pub struct Voters {
    /// The weather between them.
    pub network: MemoryNetwork,
    /// What clients were promised.
    pub oracle: Mutex<Oracle>,
    stores: BTreeMap<u64, RaftStore>,
    running: Mutex<BTreeMap<u64, (RaftNode, Arc<Serve>)>>,
    heard: Mutex<BTreeMap<SessionId, Millis>>,
    expired: AtomicUsize,
    chaos: AtomicBool,
    over: AtomicBool,
    started: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn address(number: u64) -> SocketAddr {
    // Groups have a handful of voters.
    SocketAddr::from(([127, 0, 0, 1], 7_000 + number as u16))
}

impl Voters {
    /// A group of `count` voters that has been initialised.
    ///
    /// # Errors
    /// [`FormError`].
    pub async fn form(count: u64, seed: Seed) -> Result<Arc<Self>, FormError> {
        let voters = Arc::new(Self {
            network: MemoryNetwork::new(seed.derive("network", 0)),
            oracle: Mutex::default(),
            stores: (1..=count).map(|n| (n, RaftStore::in_memory())).collect(),
            running: Mutex::default(),
            heard: Mutex::default(),
            expired: AtomicUsize::new(0),
            chaos: AtomicBool::new(true),
            over: AtomicBool::new(false),
            started: Instant::now(),
        });
        for number in 1..=count {
            voters.start(number).await?;
        }
        let members = (1..=count)
            .map(|n| (NodeId(n), address(n).to_string()))
            .collect();
        if let Some(first) = voters.node(1) {
            first.initialize(members).await?;
        }
        Ok(voters)
    }

    /// Starts voter `number` on what its disk holds.
    ///
    /// # Errors
    /// What it holds cannot be used.
    pub async fn start(&self, number: u64) -> Result<(), OpenError> {
        let link = self.network.link(NodeId(number), address(number));
        let settings = RaftSettings {
            node: NodeId(number),
            store: self.stores[&number].clone(),
            timings: RaftTimings {
                snapshot_every: 200,
                entries_kept: 100,
                ..RaftTimings::patient()
            },
        };
        let clock: Arc<dyn Clock> = Arc::new(FastClock(SystemClock::start()));
        let node = RaftNode::open(settings, link.clone(), clock).await?;
        let serve = Arc::new(Serve(Mutex::new(Some(node.clone()))));
        link.serve(serve.clone());
        lock(&self.running).insert(number, (node, serve));
        Ok(())
    }

    /// Crashes voter `number`, if it runs. Its disk stays.
    pub async fn crash(&self, number: u64) {
        self.network.stop(NodeId(number));
        let gone = lock(&self.running).remove(&number);
        if let Some((node, serve)) = gone {
            lock(&serve.0).take();
            node.halt().await;
        }
    }

    /// Voters that run.
    pub fn numbers(&self) -> Vec<u64> {
        lock(&self.running).keys().copied().collect()
    }

    fn node(&self, number: u64) -> Option<RaftNode> {
        lock(&self.running)
            .get(&number)
            .map(|(node, _)| node.clone())
    }

    /// The voter that leads with a quorum, if one does.
    pub fn leader(&self) -> Option<RaftNode> {
        let running = lock(&self.running);
        let leads = |node: &&RaftNode| {
            let status = node.status();
            status.role == RaftRole::Leader && status.has_quorum
        };
        running.values().map(|(node, _)| node).find(leads).cloned()
    }

    /// World time since the beginning.
    pub fn now(&self) -> Millis {
        Millis(Millis::from(self.started.elapsed()).0 * SPEED)
    }

    /// Whether faults go on.
    pub fn is_chaos(&self) -> bool {
        self.chaos.load(Ordering::Relaxed)
    }

    /// The faults are over.
    pub fn calm(&self) {
        self.chaos.store(false, Ordering::Relaxed);
    }

    /// Tells every task to end.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Sessions that were expired so far.
    pub fn expired(&self) -> usize {
        self.expired.load(Ordering::Relaxed)
    }

    /// Looks at every running voter's state once; two at the same index must hold the same.
    pub fn compare_replicas(&self) -> BTreeMap<u64, LogIndex> {
        let running = lock(&self.running).clone();
        let mut indexes = BTreeMap::new();
        for (number, (node, _)) in running {
            let (index, hash) = node.read(|index, state| (index, state.hash()));
            lock(&self.oracle).replica_at(index, hash);
            indexes.insert(number, index);
        }
        indexes
    }

    /// The leader's state, once everything that was acknowledged is finished in it.
    pub fn settled(&self) -> Option<State> {
        let oracle = lock(&self.oracle).clone();
        let leader = self.leader()?;
        leader.read(|_, state| oracle.is_settled(state).then(|| state.clone()))
    }

    /// Puts a command through whoever leads. None when the outcome is not known or nobody takes it.
    async fn propose(&self, command: &Command, rng: &mut StdRng) -> Option<(LogIndex, Reply)> {
        let mut target = None;
        for _ in 0..TRIES {
            let numbers = self.numbers();
            let any = *numbers.get(rng.random_range(0..numbers.len().max(1)))?;
            let node = self
                .node(target.take().unwrap_or(any))
                .or_else(|| self.node(any))?;
            match node.propose(command.clone(), ANSWER_WITHIN).await {
                Ok(done) => return Some(done),
                Err(ProposeError::NotLeader { hint }) => target = hint.map(|hint| hint.node.0),
                Err(ProposeError::Unknown(_) | ProposeError::TooLarge { .. }) => return None,
                Err(ProposeError::Overloaded { .. } | ProposeError::Stopped(_)) => {}
            }
            sleep(Duration::from_millis(20)).await;
        }
        None
    }

    /// Lives a client's life until the world is over.
    pub async fn drive(self: Arc<Self>, mut client: SimulatedClient, mut rng: StdRng) {
        while !self.is_over() {
            let (now, chaos) = (self.now(), self.is_chaos());
            if !chaos {
                client.stop_submitting();
            } else if client.is_worker() && rng.random_bool(0.003) {
                client.sleep_until(now + Millis(rng.random_range(1_000..90_000)));
            }
            let step = client.step(now, chaos, &mut lock(&self.oracle));
            match step {
                ClientStep::Idle => sleep(Duration::from_millis(5)).await,
                ClientStep::KeepAlive(session) => {
                    lock(&self.heard).insert(session, now);
                }
                ClientStep::Send(command) => {
                    let answer = self.propose(&command, &mut rng).await;
                    if let (Some((index, reply)), Some(origin)) = (answer, command.origin) {
                        client.take(
                            self.now(),
                            origin.seq,
                            index,
                            reply,
                            &mut lock(&self.oracle),
                        );
                    }
                }
            }
        }
    }

    /// The leader's chore: sessions that were silent for too long are over.
    pub async fn reap(self: Arc<Self>, mut rng: StdRng) {
        while !self.is_over() {
            sleep(Duration::from_millis(100)).await;
            let Some(leader) = self.leader() else {
                continue;
            };
            let live: Vec<SessionId> =
                leader.read(|_, state| state.sessions().map(|s| s.id).collect());
            for session in self.silent(&live) {
                let body = Body::ExpireSession {
                    session,
                    reason: Loss::Silent,
                };
                let answer = self
                    .propose(&Command { origin: None, body }, &mut rng)
                    .await;
                if matches!(answer, Some((_, Reply::Done))) {
                    self.expired.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn silent(&self, live: &[SessionId]) -> Vec<SessionId> {
        let now = self.now();
        let mut heard = lock(&self.heard);
        heard.retain(|session, _| live.contains(session));
        let mut silence = |session: &SessionId| now.since(*heard.entry(*session).or_insert(now));
        let over = SESSION_TTL + SESSION_GRACE;
        live.iter()
            .copied()
            .filter(|session| silence(session) > over)
            .collect()
    }
}

/// The system's clock at world speed.
struct FastClock(SystemClock);

impl Clock for FastClock {
    fn now(&self) -> Millis {
        Millis(self.0.now().0 * SPEED)
    }
}
