//! The same rules, as plainly as they can be written: lists, searched from end to end, nothing remembered that can
//! be counted. Slow, and easy to compare with the text of the rules.

#![expect(
    clippy::unwrap_used,
    reason = "callers have just found what is looked up"
)]

use std::collections::BTreeMap;

use riftmesh_base::{BlobHash, JobId, LogIndex, NodeId, SessionId, Token};
use riftmesh_statemachine::Bounds;
use riftmesh_statemachine::command::{Body, Loss, Origin};
use riftmesh_statemachine::job::{
    DeviceNeed, JobKind, JobPhase, JobSpec, MatchRecord, ModelRecord, Output, Player,
};
use riftmesh_statemachine::lock::LockVerb;

use crate::services::Services;

/// A reply without its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Done,
    Session(SessionId),
    Submitted(Vec<JobId>),
    /// Job, token, attempt, losses.
    Granted(Vec<(JobId, Token, u32, u32)>),
    Judged(&'static str, Option<BlobHash>),
    Cancelled,
    Locked(Token, u64),
    Revision(u64),
    Refused(&'static str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainJob {
    pub id: JobId,
    pub spec: JobSpec,
    pub phase: JobPhase,
    pub until: u64,
    pub holder: Option<SessionId>,
    pub token: Option<Token>,
    pub failures: u32,
    pub losses: u32,
    pub submitted: u64,
    pub outputs: Vec<Output>,
}

#[derive(Debug, Clone)]
pub struct PlainSession {
    pub id: SessionId,
    pub node: NodeId,
    pub slots: u16,
    pub cuda: bool,
}

#[derive(Debug, Clone)]
pub struct PlainModel {
    pub hash: BlobHash,
    pub state: &'static str,
    /// Counted matches: opponent, wins, losses.
    pub matches: Vec<(Option<BlobHash>, u32, u32)>,
}

#[derive(Debug)]
struct PlainNode {
    generation: u64,
    draining: bool,
}

#[derive(Debug, Default)]
pub struct Reference {
    bounds: Bounds,
    pub now: u64,
    index: u64,
    ordinal: u16,
    nodes: BTreeMap<NodeId, PlainNode>,
    pub sessions: Vec<PlainSession>,
    sessions_opened: u64,
    pub jobs: Vec<PlainJob>,
    pub entered: u64,
    /// Finished jobs, the longest finished first.
    finished: Vec<JobId>,
    /// Client, sequence number, answer; the longest silent first.
    pub clients: Vec<(u64, u64, Answer)>,
    /// Hash, games, rows of listed segments, oldest first.
    pub segments: Vec<(BlobHash, u32, u32)>,
    /// Segments, games, rows ever.
    pub totals: (u64, u64, u64),
    pub models: Vec<PlainModel>,
    champions: Vec<BlobHash>,
    match_names: Vec<BlobHash>,
    pub services: Services,
}

pub type Answered = Result<Answer, &'static str>;

impl Reference {
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            ..Self::default()
        }
    }

    /// Begins an entry.
    pub fn begin(&mut self, index: u64, now: u64) {
        self.index = index;
        self.ordinal = 0;
        self.now = self.now.max(now);
        let now = self.now;
        self.services.locks.retain(|lock| lock.until > now);
        for job in &mut self.jobs {
            if job.phase == JobPhase::Delayed && job.until <= now {
                job.phase = JobPhase::Ready;
            }
        }
    }

    pub fn apply(&mut self, origin: Option<Origin>, body: &Body) -> Answer {
        let Some(Origin { client, seq }) = origin else {
            return self.run(body);
        };
        if let Some((_, last, answer)) = self.clients.iter().find(|c| c.0 == client) {
            if seq < *last {
                return Answer::Refused("stale");
            }
            if seq == *last {
                return self.remembered(answer.clone());
            }
        }
        let answer = self.run(body);
        self.clients.retain(|c| c.0 != client);
        self.clients.push((client, seq, answer.clone()));
        if self.clients.len() > self.bounds.clients_max {
            self.clients.remove(0);
        }
        answer
    }

    fn remembered(&self, answer: Answer) -> Answer {
        match answer {
            Answer::Granted(grants) => {
                let known = |job| self.jobs.iter().any(|j| j.id == job);
                Answer::Granted(grants.into_iter().filter(|g| known(g.0)).collect())
            }
            other => other,
        }
    }

    fn run(&mut self, body: &Body) -> Answer {
        self.dispatch(body).unwrap_or_else(Answer::Refused)
    }

    fn dispatch(&mut self, body: &Body) -> Answered {
        match body {
            Body::AdmitNode(record) => {
                let new = PlainNode {
                    generation: 0,
                    draining: false,
                };
                self.nodes.entry(record.id).or_insert(new);
                Ok(Answer::Done)
            }
            Body::ForgetNode { node } => self.forget(*node),
            Body::DrainNode { node, drain } => {
                self.nodes.get_mut(node).ok_or("unknown")?.draining = *drain;
                Ok(Answer::Done)
            }
            Body::OpenSession {
                node,
                generation,
                slots,
                cuda,
            } => self.open(*node, *generation, *slots, *cuda),
            Body::ExpireSession { session, .. } => {
                self.session(*session)?;
                self.end_session(*session);
                Ok(Answer::Done)
            }
            Body::Submit { jobs } => self.submit(jobs),
            Body::Claim {
                session,
                kinds,
                jobs_max,
            } => self.claim(*session, kinds, *jobs_max),
            Body::Progress { job, token, .. } => {
                let cancelling = self.held(*job, *token)?.phase == JobPhase::Cancelling;
                Ok(if cancelling {
                    Answer::Cancelled
                } else {
                    Answer::Done
                })
            }
            Body::Complete {
                job,
                token,
                outputs,
            } => self.complete(*job, *token, outputs),
            Body::Fail {
                job, token, retry, ..
            } => self.fail(*job, *token, *retry),
            Body::Release { job, token, reason } => self.release(*job, *token, *reason),
            Body::Cancel { job } => self.cancel(*job),
            Body::Requeue { job } => self.requeue(*job),
            Body::TakeBack { job } => {
                if self.job(*job).ok_or("unknown")?.holder.is_none() {
                    return Err("conflict");
                }
                self.lose(*job);
                Ok(Answer::Done)
            }
            Body::RejectModel { model, .. } => self.reject(*model),
            Body::RegisterModel { model, .. } => {
                self.register(model);
                Ok(Answer::Done)
            }
            Body::ReportMatch { id, result, .. } => {
                if !self.match_names.contains(id) {
                    self.match_names.push(*id);
                    self.count(result);
                }
                Ok(Answer::Done)
            }
            Body::Promote {
                model, expected, ..
            } => self.promote(*model, *expected),
            Body::Rollback { model, .. } => self.roll_back(*model),
            Body::Tick => Ok(Answer::Done),
            Body::Lock(verb) => {
                let token = Token::new(LogIndex(self.index), self.ordinal);
                let answer = self.services.lock(verb, self.now, token);
                self.ordinal +=
                    u16::from(matches!(verb, LockVerb::Acquire { .. }) && answer.is_ok());
                answer
            }
            Body::WriteSetting(write) => self.services.write(write),
            Body::FoundCluster { .. } | Body::AddHolder { .. } => unreachable!("not generated"),
        }
    }

    // Nodes and sessions.

    fn session(&self, id: SessionId) -> Result<&PlainSession, &'static str> {
        self.sessions
            .iter()
            .find(|s| s.id == id)
            .ok_or("session over")
    }

    fn forget(&mut self, node: NodeId) -> Answered {
        self.nodes.get(&node).ok_or("unknown")?;
        if self.sessions.iter().any(|s| s.node == node) {
            return Err("conflict");
        }
        self.nodes.remove(&node);
        Ok(Answer::Done)
    }

    fn open(&mut self, node: NodeId, generation: u64, slots: u16, cuda: bool) -> Answered {
        let known = self.nodes.get_mut(&node).ok_or("unknown")?;
        if generation < known.generation {
            return Err("conflict");
        }
        known.generation = generation;
        if let Some(older) = self.sessions.iter().find(|s| s.node == node) {
            self.end_session(older.id);
        }
        self.sessions_opened += 1;
        let id = SessionId(self.sessions_opened);
        self.sessions.push(PlainSession {
            id,
            node,
            slots,
            cuda,
        });
        Ok(Answer::Session(id))
    }

    fn end_session(&mut self, id: SessionId) {
        let held: Vec<JobId> = self.held_by(id).map(|job| job.id).collect();
        self.sessions.retain(|s| s.id != id);
        for job in held {
            self.lose(job);
        }
    }

    pub fn held_by(&self, id: SessionId) -> impl Iterator<Item = &PlainJob> {
        self.jobs.iter().filter(move |job| job.holder == Some(id))
    }

    // Jobs.

    pub fn job(&self, id: JobId) -> Option<&PlainJob> {
        self.jobs.iter().find(|job| job.id == id)
    }

    fn job_mut(&mut self, id: JobId) -> &mut PlainJob {
        self.jobs.iter_mut().find(|job| job.id == id).unwrap()
    }

    fn by_key(&self, spec: &JobSpec) -> Option<JobId> {
        let key = spec.unique_key.as_ref()?;
        let live = self.jobs.iter().filter(|job| !job.phase.is_final());
        live.filter(|job| job.spec.unique_key.as_ref() == Some(key))
            .map(|j| j.id)
            .next()
    }

    fn check_after(&self, spec: &JobSpec) -> Result<(), &'static str> {
        for id in &spec.after {
            match self.job(*id).ok_or("unknown")?.phase {
                JobPhase::Dead | JobPhase::Cancelled => return Err("conflict"),
                _ => {}
            }
        }
        Ok(())
    }

    fn check_room(&self, specs: &[JobSpec]) -> Result<(), &'static str> {
        let live = self.jobs.iter().filter(|job| !job.phase.is_final()).count();
        let new = specs
            .iter()
            .filter(|spec| self.by_key(spec).is_none())
            .count();
        if live + new > self.bounds.jobs_live_max {
            Err("full")
        } else {
            Ok(())
        }
    }

    fn submit(&mut self, specs: &[JobSpec]) -> Answered {
        specs.iter().try_for_each(|spec| self.check_after(spec))?;
        self.check_room(specs)?;
        let mut ids = Vec::new();
        for spec in specs {
            if let Some(known) = self.by_key(spec) {
                ids.push(known);
                continue;
            }
            self.entered += 1;
            let id = JobId(self.entered);
            self.jobs.push(PlainJob {
                id,
                spec: spec.clone(),
                phase: JobPhase::Waiting,
                until: 0,
                holder: None,
                token: None,
                failures: 0,
                losses: 0,
                submitted: self.now,
                outputs: Vec::new(),
            });
            self.settle(id);
            ids.push(id);
        }
        Ok(Answer::Submitted(ids))
    }

    /// Moves a waiting job on if nothing it waits for is left.
    fn settle(&mut self, id: JobId) {
        let after = self.job(id).unwrap().spec.after.clone();
        let live = |id| self.job(id).is_some_and(|job| !job.phase.is_final());
        let waits = after.into_iter().any(live);
        let now = self.now;
        let job = self.job_mut(id);
        job.until = job.spec.not_before.0;
        job.phase = if waits {
            JobPhase::Waiting
        } else if job.until > now {
            JobPhase::Delayed
        } else {
            JobPhase::Ready
        };
    }

    /// Priority with age, exactly as the rule says it: one step per ten seconds of waiting.
    fn urgency(&self, job: &PlainJob) -> i128 {
        let since = job.submitted.max(job.spec.not_before.0);
        i128::from(job.spec.priority) * 10_000 + i128::from(self.now) - i128::from(since)
    }

    fn claim(&mut self, session: SessionId, kinds: &[JobKind], jobs_max: u16) -> Answered {
        let session = self.session(session)?.clone();
        let mut grants = Vec::new();
        while grants.len() < usize::from(jobs_max) && !self.nodes[&session.node].draining {
            let used: u16 = self.held_by(session.id).map(|j| j.spec.needs.slots).sum();
            let is_cuda = |job: &PlainJob| job.spec.needs.device == DeviceNeed::Cuda;
            let device = session.cuda && !self.held_by(session.id).any(is_cuda);
            let ready = self.jobs.iter().filter(|job| {
                job.phase == JobPhase::Ready
                    && kinds.contains(&job.spec.kind)
                    && job.spec.needs.slots <= session.slots
                    && (!is_cuda(job) || device)
            });
            let first = ready.min_by_key(|job| (-self.urgency(job), job.id));
            let Some(first) = first.filter(|job| used + job.spec.needs.slots <= session.slots)
            else {
                break;
            };
            let id = first.id;
            let token = Token::new(LogIndex(self.index), self.ordinal);
            self.ordinal += 1;
            let job = self.job_mut(id);
            job.phase = JobPhase::Leased;
            job.holder = Some(session.id);
            job.token = Some(token);
            grants.push((id, token, job.failures + 1, job.losses));
        }
        Ok(Answer::Granted(grants))
    }

    fn held(&self, id: JobId, token: Token) -> Result<&PlainJob, &'static str> {
        let job = self.job(id).ok_or("fenced")?;
        if job.holder.is_some() && job.token == Some(token) {
            Ok(job)
        } else {
            Err("fenced")
        }
    }

    fn complete(&mut self, id: JobId, token: Token, outputs: &[Output]) -> Answered {
        let job = self.job(id).ok_or("fenced")?;
        let repeat = job.phase == JobPhase::Done && job.token == Some(token);
        if repeat && job.outputs == outputs {
            return Ok(Answer::Done);
        }
        let job = self.held(id, token)?;
        let fits = |output: &Output| match output {
            Output::Segment(_) => job.spec.kind == JobKind::Selfplay,
            Output::Model(_) => job.spec.kind == JobKind::Train,
            Output::Match(_) => job.spec.kind == JobKind::Evaluate,
        };
        if !outputs.iter().all(fits) {
            return Err("invalid");
        }
        if job.phase == JobPhase::Cancelling {
            self.end(id, JobPhase::Cancelled);
            return Ok(Answer::Cancelled);
        }
        self.job_mut(id).outputs = outputs.to_vec();
        self.end(id, JobPhase::Done);
        for output in outputs {
            match output {
                Output::Segment(segment) => {
                    if self.segments.iter().any(|s| s.0 == segment.hash) {
                        continue;
                    }
                    self.totals.0 += 1;
                    self.totals.1 += u64::from(segment.games);
                    self.totals.2 += u64::from(segment.rows);
                    self.segments
                        .push((segment.hash, segment.games, segment.rows));
                    if self.segments.len() > self.bounds.segments_kept {
                        self.segments.remove(0);
                    }
                }
                Output::Model(model) => self.register(model),
                Output::Match(result) => self.count(result),
            }
        }
        Ok(Answer::Done)
    }

    fn fail(&mut self, id: JobId, token: Token, retry: bool) -> Answered {
        if self.held(id, token)?.phase == JobPhase::Cancelling {
            self.end(id, JobPhase::Cancelled);
            return Ok(Answer::Cancelled);
        }
        let now = self.now;
        let job = self.job_mut(id);
        job.failures += 1;
        let policy = job.spec.retry;
        if !retry || job.failures >= policy.attempts_max {
            self.end(id, JobPhase::Dead);
            return Ok(Answer::Done);
        }
        let mut wait = policy.backoff.0;
        (1..job.failures).for_each(|_| wait *= 2);
        let wait = wait.min(policy.backoff_max.0);
        job.holder = None;
        job.until = now + wait;
        job.phase = if wait > 0 {
            JobPhase::Delayed
        } else {
            JobPhase::Ready
        };
        Ok(Answer::Done)
    }

    fn release(&mut self, id: JobId, token: Token, _: Loss) -> Answered {
        let cancelling = self.held(id, token)?.phase == JobPhase::Cancelling;
        self.lose(id);
        Ok(if cancelling {
            Answer::Cancelled
        } else {
            Answer::Done
        })
    }

    fn lose(&mut self, id: JobId) {
        let losses_max = self.bounds.losses_max;
        let job = self.job_mut(id);
        if job.phase == JobPhase::Cancelling {
            return self.end(id, JobPhase::Cancelled);
        }
        job.losses += 1;
        if job.losses >= losses_max {
            return self.end(id, JobPhase::Dead);
        }
        job.holder = None;
        job.phase = JobPhase::Ready;
    }

    /// Ends a job, then whatever waited for it, in the order of the ids of those ended before.
    fn end(&mut self, id: JobId, phase: JobPhase) {
        let mut ending = vec![id];
        while !ending.is_empty() {
            let id = ending.remove(0);
            let job = self.job_mut(id);
            if job.phase.is_final() {
                continue;
            }
            job.phase = phase;
            job.holder = None;
            self.finished.push(id);
            let waiting = self
                .jobs
                .iter()
                .filter(|job| job.phase == JobPhase::Waiting && job.spec.after.contains(&id));
            let waiting: Vec<JobId> = waiting.map(|job| job.id).collect();
            if phase == JobPhase::Done {
                waiting.into_iter().for_each(|id| self.settle(id));
            } else {
                ending.extend(waiting);
            }
        }
        while self.finished.len() > self.bounds.jobs_finished_kept {
            let oldest = self.finished.remove(0);
            self.jobs.retain(|job| job.id != oldest);
        }
    }

    fn cancel(&mut self, id: JobId) -> Answered {
        match self.job(id).ok_or("unknown")?.phase {
            JobPhase::Done | JobPhase::Dead => return Err("conflict"),
            JobPhase::Cancelling | JobPhase::Cancelled => {}
            JobPhase::Leased => self.job_mut(id).phase = JobPhase::Cancelling,
            JobPhase::Waiting | JobPhase::Delayed | JobPhase::Ready => {
                self.end(id, JobPhase::Cancelled);
            }
        }
        Ok(Answer::Done)
    }

    fn requeue(&mut self, id: JobId) -> Answered {
        let job = self.job(id).ok_or("unknown")?.clone();
        if !matches!(job.phase, JobPhase::Dead | JobPhase::Cancelled) {
            return Err("conflict");
        }
        if self.by_key(&job.spec).is_some() {
            return Err("conflict");
        }
        if job.token.is_none() {
            self.check_after(&job.spec)?;
        }
        self.check_room(std::slice::from_ref(&job.spec))?;
        self.finished.retain(|finished| *finished != id);
        let job = self.job_mut(id);
        job.failures = 0;
        job.losses = 0;
        job.phase = JobPhase::Waiting;
        self.settle(id);
        Ok(Answer::Done)
    }

    // Models.

    pub fn champion(&self) -> Option<BlobHash> {
        self.champions.last().copied()
    }

    fn register(&mut self, model: &ModelRecord) {
        if self.models.iter().any(|known| known.hash == model.hash) {
            return;
        }
        self.models.push(PlainModel {
            hash: model.hash,
            state: "candidate",
            matches: Vec::new(),
        });
    }

    fn count(&mut self, result: &MatchRecord) {
        let champion = self.champion();
        let model = result.candidate.model();
        // Every generated match is played at the same budget.
        let opponent = match &result.opponent {
            Player::Untrained { .. } => None,
            Player::Model { model, .. } => Some(*model),
            Player::Random | Player::Heuristic => return,
        };
        let candidate = self.models.iter_mut().find(|m| Some(m.hash) == model);
        if let Some(candidate) = candidate.filter(|m| m.state == "candidate")
            && opponent == champion
        {
            candidate
                .matches
                .push((opponent, result.wins, result.losses));
        }
    }

    fn promote(&mut self, model: BlobHash, expected: Option<BlobHash>) -> Answered {
        let Some(at) = self.models.iter().position(|m| m.hash == model) else {
            return Err("unknown");
        };
        let champion = self.champion();
        if champion != expected || self.models[at].state != "candidate" {
            return Err("conflict");
        }
        // The matches since the opponent last changed, if they were against the present champion.
        let matches = self.models[at].matches.iter().rev();
        let counted = matches.take_while(|(opponent, ..)| *opponent == champion);
        let (wins, losses) =
            counted.fold((0, 0), |(w, l), (_, wins, losses)| (w + wins, l + losses));
        let verdict = verdict(wins, losses);
        match verdict {
            "rejected" => self.models[at].state = "rejected",
            "promoted" => {
                for older in &mut self.models[..at] {
                    if older.state == "candidate" {
                        older.state = "rejected";
                    }
                }
                if let Some(before) = self.models.iter_mut().find(|m| Some(m.hash) == champion) {
                    before.state = "superseded";
                }
                self.models[at].state = "promoted";
                self.champions.push(model);
            }
            _ => {}
        }
        Ok(Answer::Judged(verdict, self.champion()))
    }

    fn reject(&mut self, model: BlobHash) -> Answered {
        let mut models = self.models.iter_mut();
        let found = models.find(|known| known.hash == model).ok_or("unknown")?;
        if found.state != "candidate" {
            return Err("conflict");
        }
        found.state = "rejected";
        Ok(Answer::Done)
    }

    fn roll_back(&mut self, model: BlobHash) -> Answered {
        let champion = self.champion();
        let target = self
            .models
            .iter()
            .position(|m| m.hash == model)
            .ok_or("unknown")?;
        if !matches!(self.models[target].state, "superseded" | "rolled back") {
            return Err("conflict");
        }
        for entry in &mut self.models {
            if Some(entry.hash) == champion {
                entry.state = "rolled back";
            }
        }
        self.models[target].state = "promoted";
        match self.champions.iter().position(|former| *former == model) {
            Some(reign) => self.champions.truncate(reign + 1),
            None => *self.champions.last_mut().unwrap() = model,
        }
        Ok(Answer::Done)
    }
}

/// The promotion rule in floating point.
fn verdict(wins: u32, losses: u32) -> &'static str {
    let p1 = 1.0 / (1.0 + 10f64.powf(-35.0 / 400.0));
    let ratio = f64::from(wins) * (p1 / 0.5).ln() + f64::from(losses) * ((1.0 - p1) / 0.5).ln();
    let bound = (0.95f64 / 0.05).ln();
    let capped = wins + losses >= 400;
    if ratio >= bound || (capped && ratio > 0.0) {
        "promoted"
    } else if ratio <= -bound || capped {
        "rejected"
    } else {
        "undecided"
    }
}
