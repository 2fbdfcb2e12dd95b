//! A client of the simulated log as a state machine: a worker that claims, runs and reports, a submitter, or the operator.
//!
//! It has at most one command under way. Without an answer it repeats the same command; sometimes it gives up, takes a
//! new client number and never learns what came of it.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use riftmesh_base::limits::KEEPALIVE_EVERY;
use riftmesh_base::{LogIndex, Millis, NodeId, Seed, SessionId};
use riftmesh_statemachine::hold::HoldVerb;
use riftmesh_statemachine::{Body, Command, Origin, Reply};

use crate::jobs;
use crate::operator::Operator;
use crate::oracle::Oracle;
use crate::worker::Worker;

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
    Work { worker: Worker, told_alive: Millis },
    Submit { left: bool, next_marker: u64 },
    Operate(Operator),
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
        let duty = Duty::Work {
            worker: Worker::on(node),
            told_alive: Millis(0),
        };
        Self::new(seed.derive("worker", node.0), duty)
    }

    /// The operator, who looks after `workers`.
    pub fn operator(workers: Vec<NodeId>, seed: Seed) -> Self {
        let duty = Duty::Operate(Operator::of(workers));
        Self::new(seed.derive("operator", 0), duty)
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

    /// A submitter sends nothing new from now on, and the operator ends what it has begun.
    pub fn stop_submitting(&mut self) {
        match &mut self.duty {
            Duty::Submit { left, .. } => *left = false,
            Duty::Operate(operator) => operator.calm(),
            Duty::Work { .. } => {}
        }
    }

    /// The process is paused: it does nothing and hears nothing until then, and does not notice.
    pub fn sleep_until(&mut self, until: Millis) {
        self.asleep_until = until;
    }

    /// The process is killed and started again: it forgets its session, its jobs and its client number.
    pub fn restart(&mut self) {
        self.take_new_number();
        if let Duty::Work { worker, .. } = &mut self.duty {
            worker.restart();
        }
    }

    /// Whether it works, rather than submits.
    pub fn is_worker(&self) -> bool {
        matches!(self.duty, Duty::Work { .. })
    }

    /// Whether this is a worker that thinks `session` is its own.
    pub fn believes_in(&self, session: SessionId) -> bool {
        matches!(&self.duty, Duty::Work { worker, .. } if worker.session() == Some(session))
    }

    /// Never learns what came of its command. A worker that does not know what it was granted gives up its session with
    /// the claim: a grant that nobody knows of would stay leased for as long as the session lives. What it runs goes on.
    fn give_up(&mut self) {
        let claimed = self
            .pending
            .take()
            .is_some_and(|p| matches!(p.command.body, Body::Claim { .. }));
        self.take_new_number();
        if let (true, Duty::Work { worker, .. }) = (claimed, &mut self.duty) {
            worker.leave_session();
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
        if let Duty::Work { worker, told_alive } = &mut self.duty
            && let Some(session) = worker.session()
            && now.since(*told_alive) >= KEEPALIVE_EVERY
        {
            *told_alive = now;
            return ClientStep::KeepAlive(session);
        }
        if let Some(pending) = &mut self.pending {
            if now.since(pending.sent) < ANSWER_WITHIN {
                return ClientStep::Idle;
            }
            let gives_up = !matches!(self.duty, Duty::Operate(_));
            if chaos && gives_up && self.rng.random_bool(0.1) {
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
                Some(jobs::submission(*next_marker, &mut self.rng))
            }
            Duty::Operate(operator) => {
                self.rest_until = now + Millis(self.rng.random_range(1_000..15_000));
                operator.next_command(&mut self.rng, oracle)
            }
            Duty::Work { worker, .. } => {
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
            Duty::Operate(operator) => {
                operator.take(&pending.command.body, index, &reply, oracle);
            }
            Duty::Work { worker, told_alive } => {
                if matches!(reply, Reply::Session { .. }) {
                    *told_alive = now;
                }
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

/// The marker of a submission.
fn marker_of(body: &Body) -> u64 {
    let spec = match body {
        Body::Submit { jobs } => jobs.first(),
        Body::SubmitWith { jobs } | Body::Hold(HoldVerb::SubmitYielding { jobs }) => {
            jobs.first().map(|job| &job.spec)
        }
        _ => None,
    };
    let marker = spec.and_then(|spec| spec.payload.parse().ok());
    marker.unwrap_or(u64::MAX)
}
