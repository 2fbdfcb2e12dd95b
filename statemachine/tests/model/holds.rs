//! Checkpoints and giving way, as plainly as they can be written.

#![expect(
    clippy::unwrap_used,
    reason = "callers have just found what is looked up"
)]

use riftmesh_base::JobId;
use riftmesh_statemachine::hold::HoldVerb;
use riftmesh_statemachine::job::JobPhase;

use crate::claims::is_cuda;
use crate::reference::{Answer, Answered, Asked, PlainJob, PlainSession, Reference};

impl Reference {
    pub fn hold(&mut self, verb: &HoldVerb) -> Answered {
        match verb {
            HoldVerb::Checkpoint {
                job,
                token,
                checkpoint,
            } => {
                self.held(*job, *token)?;
                if checkpoint.bytes == 0 {
                    return Err("invalid");
                }
                self.job_mut(*job).checkpoint = Some(checkpoint.blob);
                Ok(self.tell_holder(*job))
            }
            HoldVerb::SubmitYielding { jobs } => {
                let before = self.entered;
                let jobs = jobs.iter().map(|job| (job.spec.clone(), job.terms.clone()));
                let answer = self.submit(&jobs.collect::<Vec<_>>())?;
                let new = self.jobs.iter_mut().filter(|job| job.id.0 > before);
                new.for_each(|job| job.yields = true);
                Ok(answer)
            }
        }
    }

    /// What a holder hears that tells how far it is.
    pub fn tell_holder(&self, id: JobId) -> Answer {
        match self.asked.filter(|asked| asked.job == id) {
            _ if self.job(id).unwrap().phase == JobPhase::Cancelling => Answer::Cancelled,
            Some(asked) => Answer::Yield(id, asked.until),
            None => Answer::Done,
        }
    }

    pub fn is_asked(&self, id: JobId) -> bool {
        self.asked.is_some_and(|asked| asked.job == id)
    }

    pub fn give_way(&mut self, id: JobId) {
        let job = self.job_mut(id);
        job.holder = None;
        job.phase = JobPhase::Ready;
        self.asked = None;
    }

    /// Nobody is asked for a job that is not simply held any more.
    pub fn forget_asked(&mut self) {
        let held = |asked: &Asked| {
            let job = self.job(asked.job);
            job.is_some_and(|job| job.phase == JobPhase::Leased)
        };
        self.asked = self.asked.filter(held);
    }

    /// Ends an entry: somebody may be asked to give way.
    pub fn finish_entry(&mut self) {
        if self.asked.is_some() {
            return;
        }
        let ready = self.jobs.iter().filter(|job| job.phase == JobPhase::Ready);
        let ready = ready.filter(|job| self.is_entitled(job));
        let mut urgent: Vec<&PlainJob> = ready.collect();
        urgent.sort_by_key(|job| (-self.urgency(job), job.id));
        let found = urgent
            .into_iter()
            .find_map(|job| Some((job.id, self.victim(job)?)));
        self.asked = found.map(|(urgent, job)| Asked {
            job,
            urgent,
            until: self.now + 60_000,
        });
    }

    /// The least urgent holder that has to go for a job that fits nowhere.
    fn victim(&self, urgent: &PlainJob) -> Option<JobId> {
        let sessions = self.sessions.iter();
        let mut sessions = sessions.filter(|session| !self.nodes[&session.node].draining);
        if sessions.any(|session| self.has_room(session, urgent, None)) {
            return None;
        }
        let held = self.jobs.iter();
        let mut held: Vec<&PlainJob> = held
            .filter(|job| job.phase == JobPhase::Leased && job.yields)
            .filter(|job| self.urgency(job) < self.urgency(urgent))
            .collect();
        held.sort_by_key(|job| (self.urgency(job), std::cmp::Reverse(job.id)));
        let gives_room = |job: &&&PlainJob| {
            let session = self.session(job.holder.unwrap()).unwrap();
            !self.nodes[&session.node].draining && self.has_room(session, urgent, Some(job.id))
        };
        held.iter().find(gives_room).map(|job| job.id)
    }

    /// Whether a session could run the job beside what it runs, but for one that it gives back.
    fn has_room(&self, session: &PlainSession, job: &PlainJob, without: Option<JobId>) -> bool {
        let others = || {
            self.held_by(session.id)
                .filter(|other| Some(other.id) != without)
        };
        let used: u16 = others().map(|other| other.spec.needs.slots).sum();
        let users: Vec<u32> = others()
            .filter(|other| is_cuda(other))
            .map(|other| other.terms.gpu_memory_mib)
            .collect();
        let memory = job.terms.gpu_memory_mib;
        let device = users.is_empty()
            || memory > 0
                && !users.contains(&0)
                && users.iter().sum::<u32>() + memory <= session.memory;
        used + job.spec.needs.slots <= session.slots
            && (!is_cuda(job) || session.cuda && memory <= session.memory && device)
            && job
                .terms
                .labels
                .iter()
                .all(|label| session.labels.contains(label))
    }
}
