//! A cluster without Raft: replicas of the state machine behind one simulated log, with clients that lose messages,
//! repeat themselves, fall asleep and die. Single threaded; everything that happens follows from the seed.
//!
//! Time moves in ticks. In each, mail that is due is delivered, the leader packs what it received into an entry, the
//! followers apply what they lag behind, and every client takes a step.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use riftmesh_base::limits::{SESSION_GRACE, SESSION_TTL};
use riftmesh_base::{BlobHash, LogIndex, Millis, NodeId, Seed, SessionId};
use riftmesh_statemachine::{Batch, Body, Command, Loss, Reply, State};

use crate::client::{ClientStep, SimulatedClient};
use crate::oracle::{Breach, Oracle};
use crate::subject::{Flaw, Subject};

const TICK: Millis = Millis(20);
const REPLICAS: u64 = 3;
const WORKERS: u64 = 4;
const SUBMITTERS: u64 = 2;
/// Clients have an index each; workers first, the operator last.
const CLIENTS: usize = (WORKERS + SUBMITTERS + 1) as usize;

/// What a run does.
#[derive(Debug, Clone, Copy)]
pub struct LogPlan {
    /// Everything random follows from it.
    pub seed: Seed,
    /// The planted bug.
    pub flaw: Flaw,
    /// How long faults go on.
    pub chaos: Millis,
    /// How long the cluster then has to finish everything.
    pub heal_max: Millis,
}

impl LogPlan {
    /// Four minutes of faults and at most three of healing, in the world's time.
    pub fn new(seed: u64, flaw: Flaw) -> Self {
        Self {
            seed: Seed(seed),
            flaw,
            chaos: Millis::from_secs(240),
            heal_max: Millis::from_secs(180),
        }
    }
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct WorldReport {
    /// Broken promises.
    pub breaches: Vec<Breach>,
    /// Submissions, grants and completions acknowledged.
    pub counts: (usize, usize, usize),
    /// Sessions that were expired while their worker lived: each leaves a zombie.
    pub zombies: usize,
    /// Grants of jobs that went on from a checkpoint.
    pub resumed: usize,
    /// Hash of everything that happened, in order.
    pub trace: BlobHash,
}

/// Runs a plan.
pub fn run(plan: LogPlan) -> WorldReport {
    let mut world = LogWorld::new(plan);
    while world.now < plan.chaos {
        world.tick();
    }
    world.heal();
    let until = world.now + plan.heal_max;
    while world.now < until && !world.is_settled() {
        world.tick();
    }
    world.report()
}

enum Mail {
    Request {
        client: usize,
        command: Command,
    },
    Reply {
        client: usize,
        seq: u64,
        index: LogIndex,
        reply: Reply,
    },
    KeepAlive {
        session: SessionId,
    },
}

struct LogWorld {
    rng: StdRng,
    now: Millis,
    chaos: bool,
    mail: BTreeMap<(Millis, u64), Mail>,
    mail_sent: u64,
    /// What the leader has received and not packed yet.
    inbox: Vec<(usize, Command)>,
    /// When the leader last heard each session. Memory of the leader, lost with it.
    heard: BTreeMap<SessionId, Millis>,
    leader: usize,
    log: Vec<Batch>,
    replicas: Vec<Subject>,
    clients: Vec<SimulatedClient>,
    oracle: Oracle,
    zombies: usize,
    trace: Vec<u8>,
}

impl LogWorld {
    fn new(plan: LogPlan) -> Self {
        let workers = (1..=WORKERS).map(|n| SimulatedClient::worker(NodeId(n), plan.seed));
        let submitters = (1..=SUBMITTERS).map(|n| SimulatedClient::submitter(n, plan.seed));
        let operator = SimulatedClient::operator((1..=WORKERS).map(NodeId).collect(), plan.seed);
        Self {
            rng: StdRng::seed_from_u64(plan.seed.derive("world", 0).0),
            now: Millis(0),
            chaos: true,
            mail: BTreeMap::new(),
            mail_sent: 0,
            inbox: Vec::new(),
            heard: BTreeMap::new(),
            leader: 0,
            log: Vec::new(),
            replicas: (0..REPLICAS).map(|n| Subject::new(plan.flaw, n)).collect(),
            clients: workers.chain(submitters).chain([operator]).collect(),
            oracle: Oracle::default(),
            zombies: 0,
            trace: Vec::new(),
        }
    }

    fn heal(&mut self) {
        self.chaos = false;
        for client in &mut self.clients {
            client.stop_submitting();
        }
    }

    fn is_settled(&self) -> bool {
        self.mail.is_empty() && self.oracle.is_settled(self.replicas[self.leader].state())
    }

    fn tick(&mut self) {
        self.now += TICK;
        self.deliver();
        if self.chaos {
            self.break_something();
        }
        self.expire_sessions();
        self.append();
        self.replicate();
        for client in 0..CLIENTS {
            let step = self.clients[client].step(self.now, self.chaos, &mut self.oracle);
            match step {
                ClientStep::Idle => {}
                ClientStep::Send(command) => self.post(Mail::Request { client, command }),
                ClientStep::KeepAlive(session) => self.post(Mail::KeepAlive { session }),
            }
        }
    }

    /// Puts mail on its way: late, and in the chaos phase sometimes lost or delivered twice.
    fn post(&mut self, mail: Mail) {
        if self.chaos && self.rng.random_bool(0.08) {
            return;
        }
        let due = self.now + Millis(self.rng.random_range(1..120));
        if let Mail::Request { client, command } = &mail
            && self.chaos
            && self.rng.random_bool(0.05)
        {
            let again = Mail::Request {
                client: *client,
                command: command.clone(),
            };
            let late = due + Millis(self.rng.random_range(0..5_000));
            self.mail.insert((late, self.mail_sent), again);
            self.mail_sent += 1;
        }
        self.mail.insert((due, self.mail_sent), mail);
        self.mail_sent += 1;
    }

    fn deliver(&mut self) {
        while let Some(entry) = self.mail.first_entry()
            && entry.key().0 <= self.now
        {
            match entry.remove() {
                Mail::Request { client, command } => self.inbox.push((client, command)),
                Mail::Reply {
                    client,
                    seq,
                    index,
                    reply,
                } => {
                    self.clients[client].take(self.now, seq, index, reply, &mut self.oracle);
                }
                Mail::KeepAlive { session } => {
                    self.heard.insert(session, self.now);
                }
            }
        }
    }

    fn break_something(&mut self) {
        if self.rng.random_bool(0.002) {
            self.change_leader();
        }
        if self.rng.random_bool(0.002) {
            self.restart_replica();
        }
        if self.rng.random_bool(0.004) {
            let worker = self.rng.random_range(0..WORKERS) as usize;
            let long = Millis(self.rng.random_range(1_000..90_000));
            self.clients[worker].sleep_until(self.now + long);
        }
        if self.rng.random_bool(0.001) {
            let worker = self.rng.random_range(0..WORKERS) as usize;
            self.clients[worker].restart();
        }
    }

    /// Another replica leads: what the old leader had received and not appended is gone, and so is its memory of who
    /// was heard; the new one gives every session its full time.
    fn change_leader(&mut self) {
        self.leader = self.rng.random_range(0..REPLICAS) as usize;
        self.catch_up(self.leader);
        self.inbox.clear();
        self.heard.clear();
        self.note(&format!("leader {}", self.leader));
    }

    /// A replica comes back from its snapshot, which has to be the very state it had.
    fn restart_replica(&mut self) {
        let number = self.rng.random_range(0..REPLICAS) as usize;
        let image = self.replicas[number].state().snapshot();
        let Ok(state) = State::restore(&image) else {
            self.note(&format!("replica {number} cannot read its snapshot"));
            return;
        };
        self.replicas[number] = self.replicas[number].with_state(state);
        self.see(number);
    }

    /// The leader's chore: a session that was silent for too long is over.
    fn expire_sessions(&mut self) {
        let patience = SESSION_TTL + SESSION_GRACE;
        let live: Vec<_> = self.replicas[self.leader]
            .state()
            .sessions()
            .map(|s| s.id)
            .collect();
        self.heard.retain(|session, _| live.contains(session));
        for session in live {
            let heard = *self.heard.entry(session).or_insert(self.now);
            if self.now.since(heard) <= patience {
                continue;
            }
            self.heard.insert(session, self.now);
            if self
                .clients
                .iter()
                .any(|client| client.believes_in(session))
            {
                self.zombies += 1;
            }
            let body = Body::ExpireSession {
                session,
                reason: Loss::Silent,
            };
            self.inbox
                .push((usize::MAX, Command { origin: None, body }));
        }
    }

    fn append(&mut self) {
        if self.inbox.is_empty() {
            return;
        }
        let inbox = std::mem::take(&mut self.inbox);
        let commands = inbox.iter().map(|(_, command)| command.clone()).collect();
        self.log.push(Batch::new(self.now, commands));
        let index = LogIndex(self.log.len() as u64);
        let replies = self.apply_next(self.leader);
        for ((client, command), reply) in inbox.into_iter().zip(replies) {
            self.note(&format!("{index} {client} {:?} {reply:?}", command.body));
            if let Some(origin) = command.origin {
                self.post(Mail::Reply {
                    client,
                    seq: origin.seq,
                    index,
                    reply,
                });
            }
        }
    }

    /// Followers apply a few entries each; in the heal phase they catch up.
    fn replicate(&mut self) {
        for number in 0..self.replicas.len() {
            let entries = if self.chaos {
                self.rng.random_range(0..4)
            } else {
                usize::MAX
            };
            let behind = self.log.len() - self.applied(number);
            for _ in 0..entries.min(behind) {
                self.apply_next(number);
            }
        }
    }

    fn catch_up(&mut self, number: usize) {
        while self.applied(number) < self.log.len() {
            self.apply_next(number);
        }
    }

    fn applied(&self, number: usize) -> usize {
        self.replicas[number].state().applied().0 as usize
    }

    fn apply_next(&mut self, number: usize) -> Vec<Reply> {
        let next = self.applied(number);
        let replies = self.replicas[number].apply(LogIndex(next as u64 + 1), &self.log[next]);
        // Hashing is dear; replicas meet often enough.
        if next.is_multiple_of(16) {
            self.see(number);
        }
        replies
    }

    fn see(&mut self, number: usize) {
        let state = self.replicas[number].state();
        self.oracle.replica_at(state.applied(), state.hash());
    }

    fn note(&mut self, line: &str) {
        self.trace
            .extend_from_slice(format!("{} {line}\n", self.now.0).as_bytes());
    }

    fn report(mut self) -> WorldReport {
        for number in 0..self.replicas.len() {
            self.catch_up(number);
            self.see(number);
        }
        WorldReport {
            breaches: self.oracle.judge(self.replicas[self.leader].state()),
            counts: self.oracle.counts(),
            zombies: self.zombies,
            resumed: self.oracle.resumed(),
            trace: BlobHash::of(&self.trace),
        }
    }
}
