//! A client of the simulated log as a state machine: a worker that claims, runs and reports, or a submitter.
//!
//! It has at most one command under way. Without an answer it repeats the same command; sometimes it gives up, takes a
//! new client number and never learns what came of it.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use riftmesh_base::limits::KEEPALIVE_EVERY;
use riftmesh_base::{JobId, LogIndex, Millis, NodeId, Seed, SessionId, Token};
use riftmesh_statemachine::{Body, Command, Origin, Refusal, Reply};

use crate::jobs;
use crate::oracle::Oracle;

/// An answer that takes longer is given up on for now.
const ANSWER_WITHIN: Millis = Millis(800);

/// What a client does in a tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientStep {
    /// Nothing.
    Idle,
    /// It sends a command.
    Send(Command),
    /// It tells the leader that it lives.
    KeepAlive(SessionId),
}

#[derive(Debug, Clone)]
enum Duty {
    Work(Worker),
    Submit { left: bool, next_marker: u64 },
}

#[derive(Debug, Clone)]
struct Worker {
    node: NodeId,
    generation: u64,
    admitted: bool,
    session: Option<SessionId>,
    told_alive: Millis,
    /// Grants it works on, with the time each is finished.
    running: Vec<(JobId, Token, Millis)>,
}

#[derive(Debug, Clone)]
struct Pending {
    command: Command,
    seq: u64,
    sent: Millis,
}

/// One client.
#[derive(Debug)]
pub struct SimulatedClient {
    rng: StdRng,
    number: u64,
    seq: u64,
    pending: Option<Pending>,
    asleep_until: Millis,
    rest_until: Millis,
    duty: Duty,
}

impl SimulatedClient {
    /// A worker that lives on `node`.
    pub fn worker(node: NodeId, seed: Seed) -> Self {
        let worker = Worker {
            node,
            generation: 1,
            admitted: false,
            session: None,
            told_alive: Millis(0),
            running: Vec::new(),
        };
        Self::new(seed.derive("worker", node.0), Duty::Work(worker))
    }

    /// The `number`-th submitter.
    pub fn submitter(number: u64, seed: Seed) -> Self {
        let next_marker = number * 1_000_000;
        Self::new(
            seed.derive("submitter", number),
            Duty::Submit {
                left: true,
                next_marker,
            },
        )
    }

    fn new(seed: Seed, duty: Duty) -> Self {
        let mut rng = StdRng::seed_from_u64(seed.0);
        Self {
            number: rng.random(),
            rng,
            seq: 0,
            pending: None,
            asleep_until: Millis(0),
            rest_until: Millis(0),
            duty,
        }
    }

    /// A submitter sends nothing new from now on.
    pub fn stop_submitting(&mut self) {
        if let Duty::Submit { left, .. } = &mut self.duty {
            *left = false;
        }
    }

    /// The process is paused: it does nothing and hears nothing until then, and does not notice.
    pub fn sleep_until(&mut self, until: Millis) {
        self.asleep_until = until;
    }

    /// The process is killed and started again: it forgets its session, its jobs and its client number.
    pub fn restart(&mut self) {
        self.take_new_number();
        if let Duty::Work(worker) = &mut self.duty {
            worker.generation += 1;
            worker.session = None;
            worker.running.clear();
        }
    }

    /// Whether it works, rather than submits.
    pub fn is_worker(&self) -> bool {
        matches!(self.duty, Duty::Work(_))
    }

    /// Whether this is a worker that thinks `session` is its own.
    pub fn believes_in(&self, session: SessionId) -> bool {
        matches!(&self.duty, Duty::Work(worker) if worker.session == Some(session))
    }

    /// Never learns what came of its command. A worker that does not know what it was granted gives up its session with
    /// the claim: a grant that nobody knows of would stay leased for as long as the session lives. What it runs goes on.
    fn give_up(&mut self) {
        let claimed = self
            .pending
            .take()
            .is_some_and(|p| matches!(p.command.body, Body::Claim { .. }));
        self.take_new_number();
        if let (true, Duty::Work(worker)) = (claimed, &mut self.duty) {
            worker.session = None;
            worker.generation += 1;
        }
    }

    fn take_new_number(&mut self) {
        self.number = self.rng.random();
        self.seq = 0;
        self.pending = None;
    }

    /// What it does now.
    pub fn step(&mut self, now: Millis, chaos: bool, oracle: &mut Oracle) -> ClientStep {
        if now < self.asleep_until {
            return ClientStep::Idle;
        }
        if let Duty::Work(worker) = &mut self.duty
            && let Some(session) = worker.session
            && now.since(worker.told_alive) >= KEEPALIVE_EVERY
        {
            worker.told_alive = now;
            return ClientStep::KeepAlive(session);
        }
        if let Some(pending) = &mut self.pending {
            if now.since(pending.sent) < ANSWER_WITHIN {
                return ClientStep::Idle;
            }
            if chaos && self.rng.random_bool(0.1) {
                self.give_up();
                return ClientStep::Idle;
            }
            pending.sent = now;
            return ClientStep::Send(pending.command.clone());
        }
        if now < self.rest_until {
            return ClientStep::Idle;
        }
        self.next_command(now, oracle)
            .map_or(ClientStep::Idle, |body| self.send(now, body))
    }

    fn send(&mut self, now: Millis, body: Body) -> ClientStep {
        self.seq += 1;
        let origin = Origin {
            client: self.number,
            seq: self.seq,
        };
        let command = Command {
            origin: Some(origin),
            body,
        };
        self.pending = Some(Pending {
            command: command.clone(),
            seq: self.seq,
            sent: now,
        });
        ClientStep::Send(command)
    }

    fn next_command(&mut self, now: Millis, oracle: &mut Oracle) -> Option<Body> {
        match &mut self.duty {
            Duty::Submit { left: false, .. } => None,
            Duty::Submit { next_marker, .. } => {
                *next_marker += 1;
                oracle.sending(*next_marker);
                self.rest_until = now + Millis(self.rng.random_range(0..4_000));
                Some(jobs::submission(*next_marker))
            }
            Duty::Work(worker) => {
                let body = worker.next_command(now);
                if matches!(body, Some(Body::Claim { .. })) {
                    self.rest_until = now + Millis(self.rng.random_range(100..1_000));
                }
                body
            }
        }
    }

    /// Hears the answer to command `seq`, given by the entry at `index`. A late answer to an old command is ignored.
    pub fn take(
        &mut self,
        now: Millis,
        seq: u64,
        index: LogIndex,
        reply: Reply,
        oracle: &mut Oracle,
    ) {
        if now < self.asleep_until || self.pending.as_ref().is_none_or(|p| p.seq != seq) {
            return;
        }
        let Some(pending) = self.pending.take() else {
            return;
        };
        match &mut self.duty {
            Duty::Submit { .. } => {
                if let Reply::Submitted { jobs } = reply {
                    let marker = marker_of(&pending.command.body);
                    jobs.into_iter()
                        .for_each(|job| oracle.submitted(marker, job));
                }
            }
            Duty::Work(worker) => {
                let minutes = Millis(self.rng.random_range(200..6_000));
                worker.take(
                    now,
                    now + minutes,
                    &pending.command.body,
                    index,
                    reply,
                    oracle,
                );
            }
        }
    }
}

impl Worker {
    fn next_command(&mut self, now: Millis) -> Option<Body> {
        if !self.admitted {
            return Some(jobs::admission(self.node));
        }
        let Some(session) = self.session else {
            return Some(jobs::opening(self.node, self.generation));
        };
        let finished = self.running.iter().position(|(_, _, at)| *at <= now);
        if let Some(position) = finished {
            let (job, token, _) = self.running[position];
            return Some(jobs::completion(job, token, self.node));
        }
        let free = self.running.len() < usize::from(jobs::WORKER_SLOTS);
        free.then(|| jobs::claim(session))
    }

    fn take(
        &mut self,
        now: Millis,
        finished_at: Millis,
        asked: &Body,
        index: LogIndex,
        reply: Reply,
        oracle: &mut Oracle,
    ) {
        match (asked, reply) {
            (Body::AdmitNode(_), Reply::Done) => self.admitted = true,
            (Body::OpenSession { .. }, Reply::Session { session, .. }) => {
                self.session = Some(session);
                self.told_alive = now;
            }
            (Body::Claim { session, .. }, Reply::Granted { grants }) => {
                for grant in grants {
                    oracle.granted(index, *session, &grant);
                    self.running.push((grant.job, grant.token, finished_at));
                }
            }
            // The session ended while this worker slept. It does not stop what it runs: a zombie.
            (_, Reply::Refused(Refusal::SessionOver(_))) => {
                self.session = None;
                self.generation += 1;
            }
            (Body::Complete { job, token, .. }, reply) => {
                self.running
                    .retain(|(running, of, _)| (running, of) != (job, token));
                if reply == Reply::Done {
                    oracle.completed(*job, *token);
                }
            }
            _ => {}
        }
    }
}

/// The marker of a submission.
fn marker_of(body: &Body) -> u64 {
    match body {
        Body::Submit { jobs } => jobs.first().and_then(|spec| spec.payload.parse().ok()),
        _ => None,
    }
    .unwrap_or(u64::MAX)
}
