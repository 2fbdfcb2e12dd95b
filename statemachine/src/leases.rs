//! Granting jobs, and what the holders say about them.
//!
//! Every verb of a worker names a job and a token. Unless the job's current lease has that very token the verb is
//! fenced: the grant is over, whatever its holder believes.

use riftmesh_base::limits::CLAIM_JOBS_MAX;
use riftmesh_base::{JobId, Millis, SessionId, Token};

use crate::bounds::{NAME_BYTES_MAX, OUTPUTS_MAX};
use crate::command::Loss;
use crate::effect::Effect;
use crate::job::{Grant, JobKind, JobState, Lease, Output, RetryPolicy};
use crate::jobs::cut;
use crate::pairs::check_match;
use crate::queue::Head;
use crate::reply::{Refusal, Reply};
use crate::state::{State, Turn};

impl State {
    /// Grants up to `jobs_max` jobs, and never more than [`CLAIM_JOBS_MAX`]. A draining node is granted none.
    pub(crate) fn claim(
        &mut self,
        turn: &mut Turn,
        session: SessionId,
        kinds: &[JobKind],
        jobs_max: u16,
    ) -> Result<Reply, Refusal> {
        let Some(claimant) = self.nodes.sessions.get(&session) else {
            return Err(Refusal::SessionOver(session));
        };
        let node = self.nodes.roster.get(&claimant.record.node);
        let draining = node.is_none_or(|entry| entry.draining);
        let jobs_max = usize::from(jobs_max).min(CLAIM_JOBS_MAX);
        let mut grants = Vec::new();
        while !draining
            && grants.len() < jobs_max
            && let Some(grant) = self.grant_head(turn, session, kinds)
        {
            grants.push(grant);
        }
        let from = grants.iter().filter_map(|grant| {
            let checkpoint = self.holds.checkpoint(grant.job)?;
            Some((grant.job, checkpoint.clone()))
        });
        let checkpoints: Vec<_> = from.collect();
        if checkpoints.is_empty() {
            return Ok(Reply::Granted { grants });
        }
        Ok(Reply::GrantedFrom {
            grants,
            checkpoints,
        })
    }

    fn grant_head(
        &mut self,
        turn: &mut Turn,
        session: SessionId,
        kinds: &[JobKind],
    ) -> Option<Grant> {
        let ordinal = u16::try_from(turn.grants).ok()?;
        let claimant = self.nodes.sessions.get_mut(&session)?;
        let Head::Fits(job) = self.queue.head_for(claimant, kinds, &self.tenants) else {
            return None;
        };
        turn.grants += 1;
        let lease = Lease {
            session,
            node: claimant.record.node,
            token: Token::new(turn.index, ordinal),
            since: turn.now,
        };
        let token = lease.token;
        let record = self.queue.get(job)?;
        claimant.reserve(job, record.spec.needs, &record.terms);
        let (tenant, slots) = (record.terms.tenant.clone(), record.spec.needs.slots);
        self.tenants.charge(&tenant, slots, &self.queue);
        self.queue.change(job, turn.now, |record| {
            record.state = JobState::Leased(lease);
            record.last_token = Some(token);
            record.progress = (0, 0);
        });
        turn.tell(Effect::JobGranted {
            job,
            session,
            token,
        });
        let record = self.queue.get(job)?;
        self.holds.grant(record);
        Some(Grant {
            job,
            token,
            attempt: record.failures + 1,
            losses: record.losses,
            spec: record.spec.clone(),
        })
    }

    /// The fence: whether the grant `token` of `job` still holds, and whether it is being cancelled.
    pub(crate) fn fence(&self, job: JobId, token: Token) -> Result<Held, Refusal> {
        let state = self.queue.get(job).map(|record| &record.state);
        match state {
            Some(JobState::Leased(lease)) if lease.token == token => Ok(Held::Leased),
            Some(JobState::Cancelling(lease)) if lease.token == token => Ok(Held::Cancelling),
            Some(_) | None => Err(Refusal::Fenced { job }),
        }
    }

    /// Takes the reservation of a held job off its session.
    pub(crate) fn give_back(&mut self, job: JobId) {
        let Some(record) = self.queue.get(job) else {
            return;
        };
        let session = record.state.lease().map(|lease| lease.session);
        if let Some(session) = session.and_then(|id| self.nodes.sessions.get_mut(&id)) {
            session.give_back(job, record.spec.needs, &record.terms);
        }
        self.holds.give_back(record);
    }

    pub(crate) fn progress(
        &mut self,
        job: JobId,
        token: Token,
        done: u64,
        total: u64,
    ) -> Result<Reply, Refusal> {
        let held = self.fence(job, token)?;
        if done > total {
            return Err(Refusal::Invalid(format!("{done} done out of {total}")));
        }
        self.queue.set_progress(job, (done, total));
        Ok(self.holder_reply(job, token, held))
    }

    pub(crate) fn complete(
        &mut self,
        turn: &mut Turn,
        job: JobId,
        token: Token,
        outputs: &[Output],
    ) -> Result<Reply, Refusal> {
        if self.is_repeat(job, token, outputs) {
            return Ok(Reply::Done);
        }
        let held = self.fence(job, token)?;
        let record = self.job(job)?;
        check_outputs(record.spec.kind, outputs)?;
        if held == Held::Cancelling {
            return Ok(self.end_cancelled(turn, job));
        }
        let configuration = record.spec.configuration.clone();
        self.give_back(job);
        self.queue
            .change(job, turn.now, |record| record.outputs = outputs.to_vec());
        self.finish(turn, job, JobState::Done, "");
        for output in outputs {
            match output {
                Output::Segment(segment) => self.accept(turn, &configuration, job, segment),
                Output::Model(model) => self.enter_model(turn, &configuration, model),
                Output::Match(result) => self.count_match(turn, &configuration, result),
            }
        }
        Ok(Reply::Done)
    }

    /// Whether this very completion was applied before. A worker that lost the first reply asks again.
    fn is_repeat(&self, job: JobId, token: Token, outputs: &[Output]) -> bool {
        self.queue.get(job).is_some_and(|record| {
            record.state == JobState::Done
                && record.last_token == Some(token)
                && record.outputs == outputs
        })
    }

    pub(crate) fn fail(
        &mut self,
        turn: &mut Turn,
        job: JobId,
        token: Token,
        error: &str,
        retry: bool,
    ) -> Result<Reply, Refusal> {
        if self.fence(job, token)? == Held::Cancelling {
            return Ok(self.end_cancelled(turn, job));
        }
        self.give_back(job);
        turn.tell(Effect::JobFailed { job, token });
        let record = self.job(job)?;
        let (failures, policy) = (record.failures + 1, record.spec.retry);
        let until = turn.now + backoff(policy, failures);
        let again = retry && failures < policy.attempts_max;
        self.queue.change(job, turn.now, |record| {
            record.failures = failures;
            record.note = cut(error);
            record.state = JobState::Delayed { until };
        });
        if !again {
            self.finish(turn, job, JobState::Dead, error);
        } else if until <= turn.now {
            self.make_ready(turn, job);
        }
        Ok(Reply::Done)
    }

    pub(crate) fn release(
        &mut self,
        turn: &mut Turn,
        job: JobId,
        token: Token,
        reason: Loss,
    ) -> Result<Reply, Refusal> {
        let held = self.fence(job, token)?;
        if self.give_way(turn, job, token) {
            return Ok(Reply::Done);
        }
        self.lose(turn, job, reason);
        Ok(match held {
            Held::Leased => Reply::Done,
            Held::Cancelling => Reply::Cancelled { job },
        })
    }

    /// Loses a job on an operator's word, without the token that only its holder knows.
    pub(crate) fn take_back(&mut self, turn: &mut Turn, job: JobId) -> Result<Reply, Refusal> {
        let record = self.job(job)?;
        if record.state.lease().is_none() {
            let phase = record.state.phase();
            return Err(Refusal::Conflict(format!(
                "{job} is {phase}: nobody holds it"
            )));
        }
        self.lose(turn, job, Loss::TakenBack);
        Ok(Reply::Done)
    }

    /// Ends the grant of a held job without blame: ready again, or quarantined after too many losses.
    pub(crate) fn lose(&mut self, turn: &mut Turn, job: JobId, reason: Loss) {
        let Some(record) = self.queue.get(job) else {
            return;
        };
        let token = match &record.state {
            JobState::Leased(lease) => lease.token,
            JobState::Cancelling(_) => {
                self.end_cancelled(turn, job);
                return;
            }
            JobState::Waiting
            | JobState::Delayed { .. }
            | JobState::Ready
            | JobState::Done
            | JobState::Cancelled
            | JobState::Dead => return,
        };
        let losses = record.losses + 1;
        self.give_back(job);
        turn.tell(Effect::JobLost { job, token, reason });
        self.queue.change(job, turn.now, |record| {
            record.losses = losses;
            record.note = format!("lost: {reason}");
            record.state = JobState::Ready;
        });
        if losses >= self.head.bounds.losses_max {
            let note = format!("quarantined after {losses} losses, the last one: {reason}");
            self.finish(turn, job, JobState::Dead, &note);
        } else {
            turn.tell(Effect::JobReady { job });
        }
    }

    fn end_cancelled(&mut self, turn: &mut Turn, job: JobId) -> Reply {
        self.give_back(job);
        self.finish(turn, job, JobState::Cancelled, "cancelled while it ran");
        Reply::Cancelled { job }
    }
}

/// How a grant that still holds is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    Leased,
    Cancelling,
}

/// The wait after the `failures`-th failure: doubled each time, up to the policy's longest.
fn backoff(policy: RetryPolicy, failures: u32) -> Millis {
    let doublings = failures.saturating_sub(1).min(63);
    let wait = policy.backoff.0.saturating_mul(1 << doublings);
    Millis(wait.min(policy.backoff_max.0))
}

fn check_outputs(kind: JobKind, outputs: &[Output]) -> Result<(), Refusal> {
    if outputs.len() > OUTPUTS_MAX {
        return Err(Refusal::Invalid(format!(
            "{} outputs, at most {OUTPUTS_MAX} are allowed",
            outputs.len()
        )));
    }
    outputs
        .iter()
        .try_for_each(|output| check_output(kind, output))
}

fn check_output(kind: JobKind, output: &Output) -> Result<(), Refusal> {
    match (kind, output) {
        (JobKind::Selfplay, Output::Segment(segment)) if segment.games == 0 => {
            Err(Refusal::Invalid("a segment without games".to_owned()))
        }
        (JobKind::Selfplay, Output::Segment(_)) => Ok(()),
        (JobKind::Train, Output::Model(model)) => check_shape(&model.shape),
        (JobKind::Evaluate, Output::Match(result)) => check_match(result),
        (JobKind::Selfplay | JobKind::Train | JobKind::Evaluate, _) => Err(Refusal::Invalid(
            format!("a {kind} job does not make that kind of output"),
        )),
    }
}

/// Whether the name of a network shape keeps to its bound.
pub(crate) fn check_shape(shape: &str) -> Result<(), Refusal> {
    if shape.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    Err(Refusal::Invalid(format!(
        "a network shape of {} bytes, at most {NAME_BYTES_MAX} are allowed",
        shape.len()
    )))
}
