//! Who is granted what, as plainly as it can be written: everything ready in one line, looked through from its head.

#![expect(
    clippy::unwrap_used,
    reason = "callers have just found what is looked up"
)]

use riftmesh_base::{JobId, LogIndex, SessionId, Token};
use riftmesh_statemachine::job::{DeviceNeed, JobKind, JobPhase};

use crate::reference::{Answer, Answered, PlainJob, PlainSession, Reference};

impl Reference {
    pub fn claim(&mut self, session: SessionId, kinds: &[JobKind], jobs_max: u16) -> Answered {
        let session = self.session(session)?.clone();
        let mut grants = Vec::new();
        while grants.len() < usize::from(jobs_max) && !self.nodes[&session.node].draining {
            let Some(id) = self.next_for(&session, kinds) else {
                break;
            };
            let token = Token::new(LogIndex(self.index), self.ordinal);
            self.ordinal += 1;
            self.take_turn(id);
            let job = self.job_mut(id);
            job.phase = JobPhase::Leased;
            job.holder = Some(session.id);
            job.token = Some(token);
            grants.push((id, token, job.failures + 1, job.losses));
        }
        let from = |id: &JobId| self.job(*id).unwrap().checkpoint;
        let from = grants.iter().filter_map(|(id, ..)| Some((*id, from(id)?)));
        let from: Vec<_> = from.collect();
        Ok(if from.is_empty() {
            Answer::Granted(grants)
        } else {
            Answer::GrantedFrom(grants, from)
        })
    }

    /// The first in line that fits now, unless one before it has to be waited for.
    fn next_for(&self, session: &PlainSession, kinds: &[JobKind]) -> Option<JobId> {
        let ready = self.jobs.iter().filter(|job| job.phase == JobPhase::Ready);
        let mut line: Vec<&PlainJob> = ready
            .filter(|job| kinds.contains(&job.spec.kind) && self.suits(session, job))
            .collect();
        line.sort_by_key(|job| (self.pass(&job.terms.tenant), -self.urgency(job), job.id));
        let used: u16 = self.held_by(session.id).map(|j| j.spec.needs.slots).sum();
        let mut blocked = false;
        for job in line {
            if is_cuda(job) {
                blocked |= !self.device_is_free(session, job.terms.gpu_memory_mib);
                if blocked {
                    continue;
                }
            }
            return (used + job.spec.needs.slots <= session.slots).then_some(job.id);
        }
        None
    }

    /// Whether an idle session could run the job, and its tenant may hold as much.
    fn suits(&self, session: &PlainSession, job: &PlainJob) -> bool {
        job.spec.needs.slots <= session.slots
            && (!is_cuda(job) || session.cuda && job.terms.gpu_memory_mib <= session.memory)
            && job.terms.labels.iter().all(|l| session.labels.contains(l))
            && self.is_entitled(job)
    }

    /// Whether the job would leave its tenant within its share of slots.
    pub fn is_entitled(&self, job: &PlainJob) -> bool {
        let tenant = &job.terms.tenant;
        let holds = self.live_of(tenant).filter(|job| job.holder.is_some());
        let holds: u32 = holds.map(|job| u32::from(job.spec.needs.slots)).sum();
        let max = self.shares.get(tenant).and_then(|share| share.slots_max);
        max.is_none_or(|max| holds + u32::from(job.spec.needs.slots) <= max)
    }

    fn device_is_free(&self, session: &PlainSession, memory: u32) -> bool {
        let users = self.held_by(session.id).filter(|job| is_cuda(job));
        let users: Vec<u32> = users.map(|job| job.terms.gpu_memory_mib).collect();
        if users.is_empty() || memory == 0 {
            return users.is_empty();
        }
        !users.contains(&0) && users.iter().sum::<u32>() + memory <= session.memory
    }

    fn pass(&self, tenant: &str) -> u64 {
        self.floor
            .max(self.passes.get(tenant).copied().unwrap_or(0))
    }

    /// A tenant that is granted a job moves back in line. With nobody to share with there is no line.
    fn take_turn(&mut self, id: JobId) {
        let named = |job: &PlainJob| !job.terms.tenant.is_empty() && !job.phase.is_final();
        if self.shares.is_empty() && !self.jobs.iter().any(named) {
            self.passes.clear();
            self.floor = 0;
            return;
        }
        let job = self.job(id).unwrap();
        let (tenant, slots) = (job.terms.tenant.clone(), u64::from(job.spec.needs.slots));
        let weight = self.shares.get(&tenant).map_or(1, |share| share.weight);
        self.floor = self.pass(&tenant);
        let pass = self.floor + slots * 720_720 / u64::from(weight);
        self.passes.insert(tenant, pass);
        let gone = self
            .passes
            .keys()
            .filter(|t| self.live_of(t).next().is_none());
        for tenant in gone.cloned().collect::<Vec<_>>() {
            self.passes.remove(&tenant);
        }
    }
}

pub fn is_cuda(job: &PlainJob) -> bool {
    job.spec.needs.device == DeviceNeed::Cuda
}
