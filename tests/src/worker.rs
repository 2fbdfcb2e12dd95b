//! A worker of the simulated log: what it holds, what it reports, and when it gives a job back.

use riftmesh_base::{JobId, LogIndex, Millis, NodeId, SessionId, Token};
use riftmesh_statemachine::hold::{HoldVerb, JobCheckpoint};
use riftmesh_statemachine::job::Grant;
use riftmesh_statemachine::{Body, Loss, Refusal, Reply};

use crate::jobs;
use crate::oracle::Oracle;

/// Time between two checkpoints of one job.
const SAVE_EVERY: Millis = Millis(700);

/// A worker's memory.
#[derive(Debug, Clone)]
pub struct Worker {
    node: NodeId,
    generation: u64,
    admitted: bool,
    session: Option<SessionId>,
    running: Vec<Running>,
}

/// A grant that it works on.
#[derive(Debug, Clone)]
struct Running {
    job: JobId,
    token: Token,
    finished_at: Millis,
    save_at: Millis,
    /// How far it was when it was saved last.
    saved: u64,
    /// It was asked to give the job back.
    gives_way: bool,
}

impl Worker {
    /// A worker that lives on `node`.
    pub fn on(node: NodeId) -> Self {
        Self {
            node,
            generation: 1,
            admitted: false,
            session: None,
            running: Vec::new(),
        }
    }

    /// Its session, as far as it knows.
    pub fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// It is killed and starts again.
    pub fn restart(&mut self) {
        self.leave_session();
        self.running.clear();
    }

    /// Its session is over, or it does not know what was granted to it. What it runs goes on: a zombie.
    pub fn leave_session(&mut self) {
        self.session = None;
        self.generation += 1;
    }

    /// What it says next.
    pub fn next_command(&self, now: Millis) -> Option<Body> {
        if !self.admitted {
            return Some(jobs::admission(self.node));
        }
        let Some(session) = self.session else {
            return Some(jobs::opening(self.node, self.generation));
        };
        if let Some(over) = self.running.iter().find(|running| running.gives_way) {
            return Some(Body::Release {
                job: over.job,
                token: over.token,
                reason: Loss::Left,
            });
        }
        if let Some(done) = self
            .running
            .iter()
            .find(|running| running.finished_at <= now)
        {
            return Some(jobs::completion(done.job, done.token, self.node));
        }
        if let Some(due) = self.running.iter().find(|running| running.save_at <= now) {
            return Some(Body::Hold(HoldVerb::Checkpoint {
                job: due.job,
                token: due.token,
                checkpoint: jobs::checkpoint(due.job, due.saved + 1, self.node),
            }));
        }
        let free = self.running.len() < usize::from(jobs::WORKER_SLOTS);
        free.then(|| jobs::claim(session))
    }

    /// Hears that `asked` was answered by the entry at `index`. A job that is granted now takes until `finished_at`.
    pub fn take(
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
            }
            (Body::Claim { session, .. }, Reply::Granted { grants }) => {
                self.granted(now, finished_at, (index, *session), &grants, &[], oracle);
            }
            (
                Body::Claim { session, .. },
                Reply::GrantedFrom {
                    grants,
                    checkpoints,
                },
            ) => self.granted(
                now,
                finished_at,
                (index, *session),
                &grants,
                &checkpoints,
                oracle,
            ),
            // The session ended while this worker slept. It does not stop what it runs: a zombie.
            (_, Reply::Refused(Refusal::SessionOver(_))) => self.leave_session(),
            (Body::Complete { job, token, .. }, reply) => {
                self.forget(*job, *token);
                if reply == Reply::Done {
                    oracle.completed(*job, *token);
                }
            }
            (Body::Release { job, token, .. }, _) => self.forget(*job, *token),
            (
                Body::Hold(HoldVerb::Checkpoint {
                    job,
                    token,
                    checkpoint,
                }),
                reply,
            ) => self.saved(now, (*job, *token), checkpoint, &reply, oracle),
            _ => {}
        }
    }

    fn granted(
        &mut self,
        now: Millis,
        finished_at: Millis,
        (index, session): (LogIndex, SessionId),
        grants: &[Grant],
        checkpoints: &[(JobId, JobCheckpoint)],
        oracle: &mut Oracle,
    ) {
        for grant in grants {
            let from = checkpoints.iter().find(|(job, _)| *job == grant.job);
            let from = from.map(|(_, checkpoint)| checkpoint.done);
            oracle.granted(index, (session, self.node), grant, from);
            self.running.push(Running {
                job: grant.job,
                token: grant.token,
                finished_at,
                save_at: now + SAVE_EVERY,
                saved: from.unwrap_or(0),
                gives_way: false,
            });
        }
    }

    fn saved(
        &mut self,
        now: Millis,
        (job, token): (JobId, Token),
        checkpoint: &JobCheckpoint,
        reply: &Reply,
        oracle: &mut Oracle,
    ) {
        let gives_way = matches!(reply, Reply::Yield { .. });
        if gives_way || *reply == Reply::Done {
            oracle.saved(job, token, checkpoint.done);
        }
        if matches!(reply, Reply::Refused(Refusal::Fenced { .. })) {
            return self.forget(job, token);
        }
        let mut running = self.running.iter_mut();
        if let Some(running) = running.find(|known| (known.job, known.token) == (job, token)) {
            running.saved = checkpoint.done;
            running.save_at = now + SAVE_EVERY;
            running.gives_way = gives_way;
        }
    }

    fn forget(&mut self, job: JobId, token: Token) {
        self.running
            .retain(|running| (running.job, running.token) != (job, token));
    }
}
