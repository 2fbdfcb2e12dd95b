//! Jobs from submission to their end, except while somebody holds them.

use std::collections::BTreeSet;

use riftmesh_base::limits::{JOB_PAYLOAD_BYTES_MAX, NOTE_BYTES_MAX, SUBMIT_JOBS_MAX};
use riftmesh_base::{ConfigurationName, JobId, Millis};

use crate::bounds::{
    AFTER_MAX, ARCHIVE_OUTBOX_MAX, ATTEMPTS_MAX, NAME_BYTES_MAX, RETRY_AFTER, SLOTS_MAX,
};
use crate::effect::Effect;
use crate::job::{JobPhase, JobRecord, JobSpec, JobState};
use crate::queue::spec_weight;
use crate::reply::{Refusal, Reply};
use crate::state::{Configuration, State, Turn};
use crate::tenants::check_terms;
use crate::terms::{AfterPolicy, Terms};

impl State {
    /// Enters all of `specs` or none.
    pub(crate) fn submit(
        &mut self,
        turn: &mut Turn,
        specs: &[(&JobSpec, &Terms)],
    ) -> Result<Reply, Refusal> {
        if specs.len() > SUBMIT_JOBS_MAX {
            return Err(Refusal::Invalid(format!(
                "{} jobs in one submission, at most {SUBMIT_JOBS_MAX} are allowed",
                specs.len()
            )));
        }
        for (spec, terms) in specs {
            check_spec(spec)?;
            check_terms(spec, terms)?;
            self.check_after(spec, terms.after)?;
        }
        self.check_room(specs)?;
        for (spec, _) in specs {
            self.configuration_mut(&spec.configuration)?;
        }
        let jobs = specs
            .iter()
            .map(|(spec, terms)| self.enter(turn, spec, terms))
            .collect();
        Ok(Reply::Submitted { jobs })
    }

    pub(crate) fn enter(&mut self, turn: &mut Turn, spec: &JobSpec, terms: &Terms) -> JobId {
        if let Some(job) = self.queue.by_key(spec, terms) {
            return job;
        }
        let state = self.first_state(spec, terms.after, turn.now);
        let ready = state == JobState::Ready;
        let (spec, terms) = (spec.clone(), terms.clone());
        let job = self.queue.enter(spec, terms, state, turn.now);
        if ready {
            turn.tell(Effect::JobReady { job });
        }
        job
    }

    /// The state of a job that nobody has tried yet.
    pub(crate) fn first_state(&self, spec: &JobSpec, policy: AfterPolicy, now: Millis) -> JobState {
        if self.waits(spec, policy) {
            JobState::Waiting
        } else if spec.not_before > now {
            JobState::Delayed {
                until: spec.not_before,
            }
        } else {
            JobState::Ready
        }
    }

    /// Whether a job has to wait for those it runs after.
    pub(crate) fn waits(&self, spec: &JobSpec, policy: AfterPolicy) -> bool {
        let live = spec.after.iter().any(|job| self.queue.is_live(*job));
        match policy {
            AfterPolicy::AllDone | AfterPolicy::AllOver => live,
            AfterPolicy::AnyDone => live && !spec.after.iter().any(|job| self.is_done(*job)),
        }
    }

    pub(crate) fn is_done(&self, job: JobId) -> bool {
        let record = self.queue.get(job);
        record.is_some_and(|record| record.state == JobState::Done)
    }

    /// Whether a new job can ever have what it waits for.
    fn check_after(&self, spec: &JobSpec, policy: AfterPolicy) -> Result<(), Refusal> {
        let mut hopeless = 0;
        for job in &spec.after {
            let Some(record) = self.queue.get(*job) else {
                return Err(Refusal::Unknown(format!("job {job} to run after")));
            };
            let phase = record.state.phase();
            if matches!(phase, JobPhase::Dead | JobPhase::Cancelled) {
                hopeless += 1;
                let last_hope = hopeless == spec.after.len();
                if policy == AfterPolicy::AllDone || policy == AfterPolicy::AnyDone && last_hope {
                    return Err(Refusal::Conflict(format!(
                        "nothing can run after {job}: it is {phase}"
                    )));
                }
            }
        }
        Ok(())
    }

    fn check_room(&self, specs: &[(&JobSpec, &Terms)]) -> Result<(), Refusal> {
        let bounds = &self.head.bounds;
        let fresh = specs.iter().copied();
        let fresh = fresh.filter(|(spec, terms)| self.queue.by_key(spec, terms).is_none());
        let fresh: Vec<_> = fresh.collect();
        let (mut jobs, mut bytes) = (self.queue.live(), self.queue.live_bytes());
        let mut configurations: BTreeSet<&ConfigurationName> = self.configurations.keys().collect();
        for (spec, terms) in &fresh {
            jobs += 1;
            bytes += spec_weight(spec, terms);
            configurations.insert(&spec.configuration);
        }
        check_full("the queue", jobs as u64, bounds.jobs_live_max as u64)?;
        check_full("the queue's memory", bytes, bounds.jobs_live_bytes_max)?;
        check_full(
            "the list of configurations",
            configurations.len() as u64,
            bounds.configurations_max as u64,
        )?;
        if !fresh.is_empty() && self.queue.is_ring_over(bounds) {
            return Err(Refusal::Full {
                what: "the archive's outbox: too few voters have copied it".to_owned(),
                max: ARCHIVE_OUTBOX_MAX as u64,
                retry_after: RETRY_AFTER,
            });
        }
        self.check_shares(&fresh)
    }

    /// The configuration, entered now if it is new.
    pub(crate) fn configuration_mut(
        &mut self,
        name: &ConfigurationName,
    ) -> Result<&mut Configuration, Refusal> {
        let known = self.configurations.contains_key(name);
        let after = self.configurations.len() + usize::from(!known);
        let max = self.head.bounds.configurations_max;
        check_full("the list of configurations", after as u64, max as u64)?;
        Ok(self.configurations.entry(name.clone()).or_default())
    }

    /// Makes delayed jobs ready whose time has come.
    pub(crate) fn wake_delayed(&mut self, turn: &mut Turn) {
        for job in self.queue.due(turn.now) {
            self.make_ready(turn, job);
        }
    }

    pub(crate) fn make_ready(&mut self, turn: &mut Turn, job: JobId) {
        self.queue
            .change(job, turn.now, |record| record.state = JobState::Ready);
        turn.tell(Effect::JobReady { job });
    }

    pub(crate) fn cancel(&mut self, turn: &mut Turn, job: JobId) -> Result<Reply, Refusal> {
        let record = self.job(job)?;
        match &record.state {
            JobState::Waiting | JobState::Delayed { .. } | JobState::Ready => {
                self.finish(turn, job, JobState::Cancelled, "cancelled");
            }
            JobState::Leased(lease) => {
                let lease = lease.clone();
                turn.tell(Effect::JobCancelling {
                    job,
                    session: lease.session,
                    token: lease.token,
                });
                self.holds.withdraw(job);
                self.queue.change(job, turn.now, |record| {
                    record.state = JobState::Cancelling(lease);
                });
            }
            JobState::Cancelling(_) | JobState::Cancelled => {}
            JobState::Done | JobState::Dead => {
                let phase = record.state.phase();
                return Err(Refusal::Conflict(format!("{job} is {phase} already")));
            }
        }
        Ok(Reply::Done)
    }

    pub(crate) fn requeue(&mut self, turn: &mut Turn, job: JobId) -> Result<Reply, Refusal> {
        let record = self.job(job)?;
        self.check_requeue(record)?;
        let state = self.first_state(&record.spec, record.terms.after, turn.now);
        let ready = state == JobState::Ready;
        self.queue.change(job, turn.now, |record| {
            record.state = state;
            record.failures = 0;
            record.losses = 0;
            record.progress = (0, 0);
        });
        if ready {
            turn.tell(Effect::JobReady { job });
        }
        Ok(Reply::Done)
    }

    fn check_requeue(&self, record: &JobRecord) -> Result<(), Refusal> {
        let (job, phase) = (record.id, record.state.phase());
        if !matches!(phase, JobPhase::Dead | JobPhase::Cancelled) {
            return Err(Refusal::Conflict(format!(
                "{job} is {phase}: only dead and cancelled jobs are requeued"
            )));
        }
        let (spec, terms) = (&record.spec, &record.terms);
        if let Some(other) = self.queue.by_key(spec, terms) {
            return Err(Refusal::Conflict(format!(
                "{other} has the unique key of {job} now"
            )));
        }
        // A job that was granted once had all it waits for, even if the ring has forgotten that.
        if record.last_token.is_none() {
            self.check_after(spec, terms.after)?;
        }
        self.check_room(&[(spec, terms)])
    }

    pub(crate) fn job(&self, job: JobId) -> Result<&JobRecord, Refusal> {
        self.queue
            .get(job)
            .ok_or_else(|| Refusal::Unknown(format!("job {job}")))
    }
}

/// Whether a table that would have `wanted` entries keeps to its bound.
pub(crate) fn check_full(what: &str, wanted: u64, max: u64) -> Result<(), Refusal> {
    if wanted <= max {
        return Ok(());
    }
    Err(Refusal::Full {
        what: what.to_owned(),
        max,
        retry_after: RETRY_AFTER,
    })
}

/// Whether a name is 1 to [`NAME_BYTES_MAX`] bytes of printable ASCII without spaces: it is typed on command lines.
pub(crate) fn check_name(what: &str, name: &str) -> Result<(), Refusal> {
    let bytes = name.len();
    if !(1..=NAME_BYTES_MAX).contains(&bytes) {
        return Err(Refusal::Invalid(format!(
            "{what} has {bytes} bytes: 1 to {NAME_BYTES_MAX} are allowed"
        )));
    }
    if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Refusal::Invalid(format!(
            "{what} must be printable ASCII without spaces"
        )));
    }
    Ok(())
}

fn check_spec(spec: &JobSpec) -> Result<(), Refusal> {
    let key_bytes = spec.unique_key.as_ref().map_or(0, String::len);
    let checks = [
        (
            "payload bytes",
            spec.payload.len(),
            0,
            JOB_PAYLOAD_BYTES_MAX,
        ),
        ("bytes in the unique key", key_bytes, 0, NAME_BYTES_MAX),
        ("jobs to run after", spec.after.len(), 0, AFTER_MAX),
        (
            "slots",
            usize::from(spec.needs.slots),
            1,
            usize::from(SLOTS_MAX),
        ),
        (
            "attempts",
            spec.retry.attempts_max as usize,
            1,
            ATTEMPTS_MAX as usize,
        ),
    ];
    for (what, value, min, max) in checks {
        if !(min..=max).contains(&value) {
            return Err(Refusal::Invalid(format!(
                "a job with {value} {what}: {min} to {max} are allowed"
            )));
        }
    }
    Ok(())
}

/// A note cut to its bound, between characters.
pub(crate) fn cut(note: &str) -> String {
    note[..note.floor_char_boundary(NOTE_BYTES_MAX)].to_owned()
}
