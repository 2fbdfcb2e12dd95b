//! Those who use the simulated voters: clients that work and submit, readers, and the leader's reaper of sessions.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use riftmesh_base::limits::{SESSION_GRACE, SESSION_TTL};
use riftmesh_base::{LogIndex, Millis, NodeId, SessionId, Term};
use riftmesh_raft::{ProposeError, RaftNode};
use riftmesh_statemachine::{Body, Command, Loss, Reply};
use tokio::time::{sleep, timeout};

use crate::client::{ClientStep, SimulatedClient};
use crate::voters::{Voters, lock};

/// Time a client waits for an answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(400);
/// Nodes a client tries for one command.
const TRIES: usize = 5;

/// The users of one group of voters.
pub struct Users {
    /// The group.
    pub voters: Arc<Voters>,
    heard: Mutex<BTreeMap<SessionId, Millis>>,
    expired: AtomicUsize,
    chaos: AtomicBool,
    over: AtomicBool,
}

impl Users {
    /// Users of `voters`, none of whom is active yet.
    pub fn of(voters: Arc<Voters>) -> Arc<Self> {
        Arc::new(Self {
            voters,
            heard: Mutex::default(),
            expired: AtomicUsize::new(0),
            chaos: AtomicBool::new(true),
            over: AtomicBool::new(false),
        })
    }

    /// Whether faults go on.
    pub fn is_chaos(&self) -> bool {
        self.chaos.load(Ordering::Relaxed)
    }

    /// The faults are over: nothing new is submitted, and no answer is lost.
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

    /// A machine that is up, by chance.
    fn anybody(&self, rng: &mut StdRng) -> Option<u64> {
        let running = self.voters.running();
        running
            .get(rng.random_range(0..running.len().max(1)))
            .copied()
    }

    /// Puts a command through whoever leads. None when the outcome is not known or nobody takes it.
    pub async fn propose(&self, command: &Command, rng: &mut StdRng) -> Option<(LogIndex, Reply)> {
        let mut target = None;
        for _ in 0..TRIES {
            let number = match target.take() {
                Some(number) => number,
                None => self.anybody(rng)?,
            };
            sleep(Duration::from_micros(rng.random_range(200..3_000))).await;
            match self.ask(number, command).await {
                Some(Ok(done)) => {
                    let lost = self.is_chaos() && rng.random_bool(0.03);
                    return (!lost).then_some(done);
                }
                Some(Err(ProposeError::NotLeader { hint })) => {
                    target = hint.map(|hint| hint.node.0)
                }
                Some(Err(ProposeError::Unknown(_) | ProposeError::TooLarge { .. })) => return None,
                Some(Err(ProposeError::Overloaded { .. } | ProposeError::Stopped(_))) | None => {}
            }
            sleep(Duration::from_millis(20)).await;
        }
        None
    }

    /// Asks one machine; None when it is down or paused.
    async fn ask(
        &self,
        number: u64,
        command: &Command,
    ) -> Option<Result<(LogIndex, Reply), ProposeError>> {
        let (node, gate) = (self.voters.node(number)?, self.voters.gate(number)?);
        timeout(ANSWER_WITHIN, gate.pass()).await.ok()?;
        let outcome = node.propose(command.clone(), ANSWER_WITHIN).await;
        match timeout(ANSWER_WITHIN, gate.pass()).await {
            Ok(()) => Some(outcome),
            Err(_) => Some(Err(ProposeError::Unknown(
                "the answer is held back".to_owned(),
            ))),
        }
    }

    /// Lives a client's life until the world is over.
    pub async fn drive(self: Arc<Self>, mut client: SimulatedClient, mut rng: StdRng) {
        while !self.is_over() {
            let (now, chaos) = (self.voters.now(), self.is_chaos());
            if !chaos {
                client.stop_submitting();
            } else if client.is_worker() && rng.random_bool(0.003) {
                client.sleep_until(now + Millis(rng.random_range(1_000..90_000)));
            }
            let step = client.step(now, chaos, &mut lock(&self.voters.oracle));
            match step {
                ClientStep::Idle => sleep(Duration::from_millis(5)).await,
                ClientStep::KeepAlive(session) => {
                    lock(&self.heard).insert(session, now);
                }
                ClientStep::Send(command) => self.send(&mut client, command, &mut rng).await,
            }
        }
    }

    async fn send(&self, client: &mut SimulatedClient, command: Command, rng: &mut StdRng) {
        let answer = self.propose(&command, rng).await;
        let (Some((index, reply)), Some(origin)) = (answer, command.origin) else {
            return;
        };
        self.voters
            .note(&format!("{index} {origin:?} {:?} {reply:?}", command.body));
        let mut oracle = lock(&self.voters.oracle);
        oracle.acknowledged(index);
        client.take(self.voters.now(), origin.seq, index, reply, &mut oracle);
    }

    /// Reads from any machine, again and again, and wants to see what was acknowledged before.
    pub async fn read(self: Arc<Self>, mut rng: StdRng) {
        while !self.is_over() {
            sleep(Duration::from_millis(rng.random_range(5..60))).await;
            let Some(node) = self
                .anybody(&mut rng)
                .and_then(|number| self.voters.node(number))
            else {
                continue;
            };
            let expected = lock(&self.voters.oracle).must_be_seen();
            if node.linearizable(ANSWER_WITHIN).await.is_ok() {
                let seen = node.read(|index, _| index);
                self.voters
                    .note(&format!("read at {seen} on {}", node.node()));
                lock(&self.voters.oracle).read(expected, seen);
            }
        }
    }

    /// The leader's chore: sessions that were silent for too long are over. A new leader has heard nobody and gives
    /// everybody the full time.
    pub async fn reap(self: Arc<Self>, mut rng: StdRng) {
        let mut reign: Option<(NodeId, Term)> = None;
        while !self.is_over() {
            sleep(Duration::from_millis(100)).await;
            let Some(leader) = self.voters.leader() else {
                continue;
            };
            let now = (leader.node(), leader.status().term);
            if reign.replace(now) != Some(now) {
                lock(&self.heard).clear();
            }
            for session in self.silent(&leader) {
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

    fn silent(&self, leader: &RaftNode) -> Vec<SessionId> {
        let live: Vec<SessionId> = leader.read(|_, state| state.sessions().map(|s| s.id).collect());
        let now = self.voters.now();
        let mut heard = lock(&self.heard);
        heard.retain(|session, _| live.contains(session));
        let over = SESSION_TTL + SESSION_GRACE;
        let mut silence = |session: &SessionId| now.since(*heard.entry(*session).or_insert(now));
        live.iter()
            .copied()
            .filter(|session| silence(session) > over)
            .collect()
    }
}
