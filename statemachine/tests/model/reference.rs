//! The same rules, as plainly as they can be written: lists, searched from end to end, nothing remembered that can
//! be counted. Slow, and easy to compare with the text of the rules.

#![expect(
    clippy::unwrap_used,
    reason = "callers have just found what is looked up"
)]

mod nodes;
mod plain;

use std::collections::BTreeMap;

use riftmesh_base::{BlobHash, JobId, LogIndex, Millis, NodeId, SessionId, Token};
use riftmesh_statemachine::Bounds;
use riftmesh_statemachine::command::{Body, Loss, Origin};
use riftmesh_statemachine::job::{DeviceNeed, JobKind, JobPhase, JobSpec, Output};
use riftmesh_statemachine::lock::LockVerb;
use riftmesh_statemachine::terms::{AfterPolicy, KeyScope, TenantShare, Terms};
use riftmesh_statemachine::trust::TrustVerb;

pub use plain::{Answer, Asked, PlainJob, PlainModel, PlainNode, PlainSession};

use crate::services::Services;
use crate::trust::PlainTrust;

#[derive(Debug, Default)]
pub struct Reference {
    bounds: Bounds,
    pub now: u64,
    pub index: u64,
    pub ordinal: u16,
    pub nodes: BTreeMap<NodeId, PlainNode>,
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
    pub champions: Vec<BlobHash>,
    match_names: Vec<BlobHash>,
    pub services: Services,
    pub trust: PlainTrust,
    pub shares: BTreeMap<String, TenantShare>,
    pub level: u32,
    /// How far each tenant is in its turns.
    pub passes: BTreeMap<String, u64>,
    pub floor: u64,
    pub asked: Option<Asked>,
}

pub type Answered = Result<Answer, &'static str>;

impl Reference {
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            level: 1,
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
        self.end_cancellations();
        if let Some(asked) = self.asked.filter(|asked| asked.until <= self.now) {
            self.give_way(asked.job);
        }
        self.end_drains();
        self.forget_asked();
    }

    /// From level 2 on: jobs that were cancelled a minute ago and are held still.
    fn end_cancellations(&mut self) {
        let held = self
            .jobs
            .iter()
            .filter(|job| self.level >= 2 && job.phase == JobPhase::Cancelling);
        let over = held.filter(|job| job.until <= self.now);
        let mut over: Vec<(u64, JobId)> = over.map(|job| (job.until, job.id)).collect();
        over.sort();
        for (_, id) in over {
            self.end(id, JobPhase::Cancelled);
        }
    }

    /// Node 1 is the only voter there can be.
    fn upgrade(&mut self, level: u32, advertised: &[NodeId]) -> Answered {
        if level <= self.level {
            return Ok(Answer::Done);
        }
        if level > self.level + 1
            || !self.nodes.contains_key(&NodeId(1))
            || !advertised.contains(&NodeId(1))
        {
            return Err("conflict");
        }
        self.level = level;
        self.end_cancellations();
        Ok(Answer::Done)
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
            Answer::Granted(mut grants) => {
                grants.retain(|g| self.job(g.0).is_some());
                Answer::Granted(grants)
            }
            Answer::GrantedFrom(mut grants, from) => {
                grants.retain(|g| self.job(g.0).is_some());
                Answer::GrantedFrom(grants, from)
            }
            other => other,
        }
    }

    fn run(&mut self, body: &Body) -> Answer {
        let answer = self.dispatch(body).unwrap_or_else(Answer::Refused);
        self.forget_asked();
        answer
    }

    fn dispatch(&mut self, body: &Body) -> Answered {
        match body {
            Body::AdmitNode(record) => {
                self.welcome(record.id)?;
                let new = PlainNode {
                    generation: 0,
                    draining: false,
                    drained_by: None,
                };
                self.nodes.entry(record.id).or_insert(new);
                Ok(Answer::Done)
            }
            Body::ForgetNode { node } => self.forget(*node),
            Body::DrainNode { node, drain } => self.drain(*node, *drain, None),
            Body::DrainWithin { node, grace } => self.drain(*node, true, Some(grace.0)),
            Body::OpenSession {
                node,
                generation,
                slots,
                cuda,
            } => self.open(*node, *generation, (*slots, *cuda, 0), &[]),
            Body::OpenWorker {
                node,
                generation,
                offer,
            } => {
                let device = (offer.slots, offer.cuda, offer.gpu_memory_mib);
                self.open(*node, *generation, device, &offer.labels)
            }
            Body::ExpireSession { session, .. } => {
                self.session(*session)?;
                self.end_session(*session);
                Ok(Answer::Done)
            }
            Body::Submit { jobs } => {
                let plain = jobs.iter().map(|spec| (spec.clone(), Terms::default()));
                self.submit(&plain.collect::<Vec<_>>())
            }
            Body::SubmitWith { jobs } => {
                let jobs = jobs.iter().map(|job| (job.spec.clone(), job.terms.clone()));
                self.submit(&jobs.collect::<Vec<_>>())
            }
            Body::SetTenant { tenant, share } => {
                if self.shares.remove(tenant).is_none() && share.is_none() {
                    return Err("unknown");
                }
                let shares = share.iter().map(|share| (tenant.clone(), *share));
                self.shares.extend(shares);
                Ok(Answer::Done)
            }
            Body::Claim {
                session,
                kinds,
                jobs_max,
            } => self.claim(*session, kinds, *jobs_max),
            Body::Progress { job, token, .. } => {
                self.held(*job, *token)?;
                Ok(self.tell_holder(*job))
            }
            Body::Hold(_) if self.level < 3 => Err("conflict"),
            Body::Hold(verb) => self.hold(verb),
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
            Body::UpgradeTo { level, advertised } => self.upgrade(*level, advertised),
            Body::Lock(verb) => {
                let token = Token::new(LogIndex(self.index), self.ordinal);
                let answer = self.services.lock(verb, self.now, token);
                self.ordinal +=
                    u16::from(matches!(verb, LockVerb::Acquire { .. }) && answer.is_ok());
                answer
            }
            Body::WriteSetting(write) => self.services.write(write),
            Body::Trust(verb) => {
                let roster = self.nodes.keys().copied().collect();
                match (self.trust.run(verb, &roster), verb) {
                    (Some(answer), _) => answer,
                    (None, TrustVerb::RevokeCertificate { node, .. }) => self.distrust(*node),
                    (None, _) => unreachable!("every other verb has an answer"),
                }
            }
            Body::FoundCluster { .. } | Body::AddHolder { .. } => unreachable!("not generated"),
        }
    }

    // Nodes and sessions.

    pub fn session(&self, id: SessionId) -> Result<&PlainSession, &'static str> {
        self.sessions
            .iter()
            .find(|s| s.id == id)
            .ok_or("session over")
    }

    fn open(
        &mut self,
        node: NodeId,
        generation: u64,
        (slots, cuda, memory): (u16, bool, u32),
        labels: &[String],
    ) -> Answered {
        self.welcome(node)?;
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
            memory,
            labels: labels.to_vec(),
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

    pub fn job_mut(&mut self, id: JobId) -> &mut PlainJob {
        self.jobs.iter_mut().find(|job| job.id == id).unwrap()
    }

    fn by_key(&self, spec: &JobSpec, terms: &Terms) -> Option<JobId> {
        spec.unique_key.as_ref()?;
        let same = |job: &&PlainJob| {
            let space = match terms.scope {
                KeyScope::Cluster => true,
                KeyScope::Configuration => job.spec.configuration == spec.configuration,
                KeyScope::Tenant => job.terms.tenant == terms.tenant,
            };
            space && job.terms.scope == terms.scope && job.spec.unique_key == spec.unique_key
        };
        let mut live = self.jobs.iter().filter(|job| !job.phase.is_final());
        live.find(same).map(|job| job.id)
    }

    fn check_after(&self, spec: &JobSpec, policy: AfterPolicy) -> Result<(), &'static str> {
        let mut lost = 0;
        for id in &spec.after {
            if matches!(
                self.job(*id).ok_or("unknown")?.phase,
                JobPhase::Dead | JobPhase::Cancelled
            ) {
                lost += 1;
            }
            if lost > 0 && policy == AfterPolicy::AllDone {
                return Err("conflict");
            }
        }
        if policy == AfterPolicy::AnyDone && lost > 0 && lost == spec.after.len() {
            return Err("conflict");
        }
        Ok(())
    }

    pub fn live_of<'a>(&'a self, tenant: &'a str) -> impl Iterator<Item = &'a PlainJob> {
        let live = self.jobs.iter().filter(|job| !job.phase.is_final());
        live.filter(move |job| job.terms.tenant == tenant)
    }

    fn check_room(&self, specs: &[(JobSpec, Terms)]) -> Result<(), &'static str> {
        let live = self.jobs.iter().filter(|job| !job.phase.is_final()).count();
        let new = specs.iter().filter(|(s, t)| self.by_key(s, t).is_none());
        let new: Vec<&Terms> = new.map(|(_, terms)| terms).collect();
        if live + new.len() > self.bounds.jobs_live_max {
            return Err("full");
        }
        for (tenant, share) in &self.shares {
            let more = new.iter().filter(|terms| terms.tenant == *tenant).count();
            let after = self.live_of(tenant).count() + more;
            if more > 0 && share.jobs_live_max.is_some_and(|max| after > max as usize) {
                return Err("full");
            }
        }
        Ok(())
    }

    pub fn submit(&mut self, specs: &[(JobSpec, Terms)]) -> Answered {
        for (spec, terms) in specs {
            if terms.gpu_memory_mib > 0 && spec.needs.device != DeviceNeed::Cuda {
                return Err("invalid");
            }
            self.check_after(spec, terms.after)?;
        }
        self.check_room(specs)?;
        let ids = specs.iter().map(|(spec, terms)| self.enter(spec, terms));
        Ok(Answer::Submitted(ids.collect()))
    }

    fn enter(&mut self, spec: &JobSpec, terms: &Terms) -> JobId {
        if let Some(known) = self.by_key(spec, terms) {
            return known;
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
            terms: terms.clone(),
            yields: false,
            checkpoint: None,
        });
        self.settle(id);
        id
    }

    /// Whether a job has to wait for those it runs after.
    fn waits(&self, id: JobId) -> bool {
        let job = self.job(id).unwrap();
        let phase = |id: &JobId| self.job(*id).map(|job| job.phase);
        let phases: Vec<JobPhase> = job.spec.after.iter().filter_map(phase).collect();
        let live = phases.iter().any(|phase| !phase.is_final());
        let done = phases.contains(&JobPhase::Done);
        live && !(job.terms.after == AfterPolicy::AnyDone && done)
    }

    /// Moves a waiting job on if nothing it waits for is left.
    fn settle(&mut self, id: JobId) {
        let waits = self.waits(id);
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
    pub fn urgency(&self, job: &PlainJob) -> i128 {
        let since = job.submitted.max(job.spec.not_before.0);
        i128::from(job.spec.priority) * 10_000 + i128::from(self.now) - i128::from(since)
    }

    pub fn held(&self, id: JobId, token: Token) -> Result<&PlainJob, &'static str> {
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
        if self.is_asked(id) {
            self.give_way(id);
            return Ok(Answer::Done);
        }
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
            job.checkpoint = None;
            self.finished.push(id);
            let waiting = self
                .jobs
                .iter()
                .filter(|job| job.phase == JobPhase::Waiting && job.spec.after.contains(&id));
            let mut waiting: Vec<JobId> = waiting.map(|job| job.id).collect();
            waiting.sort();
            for dependant in waiting {
                let doomed = match self.job(dependant).unwrap().terms.after {
                    AfterPolicy::AllDone => true,
                    AfterPolicy::AnyDone => !self.waits(dependant),
                    AfterPolicy::AllOver => false,
                };
                if phase != JobPhase::Done && doomed {
                    ending.push(dependant);
                } else {
                    self.settle(dependant);
                }
            }
            if phase != JobPhase::Cancelled {
                self.recur(id);
            }
        }
        while self.finished.len() > self.bounds.jobs_finished_kept {
            let oldest = self.finished.remove(0);
            self.jobs.retain(|job| job.id != oldest);
        }
    }

    /// A recurring job comes again at the first of its times that lies ahead.
    fn recur(&mut self, id: JobId) {
        let now = self.now;
        let job = self.job_mut(id);
        let Some(every) = job.terms.every else {
            return;
        };
        let mut spec = job.spec.clone();
        let terms = job.terms.clone();
        let yields = job.yields;
        job.terms.every = None;
        let mut next = job.submitted.max(spec.not_before.0);
        while next <= now {
            next += every.0;
        }
        if next == job.submitted.max(spec.not_before.0) {
            next += every.0;
        }
        spec.not_before = Millis(next);
        spec.after.clear();
        let entered = self.entered;
        let next = self.enter(&spec, &terms);
        if self.entered > entered {
            self.job_mut(next).yields = yields;
        }
    }

    fn cancel(&mut self, id: JobId) -> Answered {
        match self.job(id).ok_or("unknown")?.phase {
            JobPhase::Done | JobPhase::Dead => return Err("conflict"),
            JobPhase::Cancelling | JobPhase::Cancelled => {}
            JobPhase::Leased => {
                let until = self.now + 60_000;
                let job = self.job_mut(id);
                job.phase = JobPhase::Cancelling;
                job.until = until;
            }
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
        if self.by_key(&job.spec, &job.terms).is_some() {
            return Err("conflict");
        }
        if job.token.is_none() {
            self.check_after(&job.spec, job.terms.after)?;
        }
        self.check_room(&[(job.spec.clone(), job.terms.clone())])?;
        self.finished.retain(|finished| *finished != id);
        let job = self.job_mut(id);
        job.failures = 0;
        job.losses = 0;
        job.phase = JobPhase::Waiting;
        self.settle(id);
        Ok(Answer::Done)
    }
}
