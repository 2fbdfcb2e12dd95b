//! Jobs from submission to their end, except while somebody holds them.

use std::collections::{BTreeSet, VecDeque};

use riftmesh_base::limits::{JOB_PAYLOAD_BYTES_MAX, NOTE_BYTES_MAX, SUBMIT_JOBS_MAX};
use riftmesh_base::{ConfigurationName, JobId, Millis};

use crate::bounds::{AFTER_MAX, ATTEMPTS_MAX, NAME_BYTES_MAX, RETRY_AFTER, SLOTS_MAX};
use crate::effect::Effect;
use crate::job::{JobPhase, JobRecord, JobSpec, JobState};
use crate::queue::spec_weight;
use crate::reply::{Refusal, Reply};
use crate::state::{Configuration, State, Turn};

impl State {
    /// Enters all of `specs` or none.
    pub(crate) fn submit(&mut self, turn: &mut Turn, specs: &[JobSpec]) -> Result<Reply, Refusal> {
        if specs.len() > SUBMIT_JOBS_MAX {
            return Err(Refusal::Invalid(format!(
                "{} jobs in one submission, at most {SUBMIT_JOBS_MAX} are allowed",
                specs.len()
            )));
        }
        for spec in specs {
            check_spec(spec)?;
            self.check_after(spec)?;
        }
        self.check_room(specs)?;
        for spec in specs {
            self.configuration_mut(&spec.configuration)?;
        }
        let jobs = specs.iter().map(|spec| self.enter(turn, spec)).collect();
        Ok(Reply::Submitted { jobs })
    }

    fn enter(&mut self, turn: &mut Turn, spec: &JobSpec) -> JobId {
        let known = spec.unique_key.as_deref();
        if let Some(job) = known.and_then(|key| self.queue.by_key(key)) {
            return job;
        }
        let state = self.first_state(spec, turn.now);
        let ready = state == JobState::Ready;
        let job = self.queue.enter(spec.clone(), state, turn.now);
        if ready {
            turn.tell(Effect::JobReady { job });
        }
        job
    }

    /// The state of a job that nobody has tried yet.
    fn first_state(&self, spec: &JobSpec, now: Millis) -> JobState {
        if spec.after.iter().any(|job| self.queue.is_live(*job)) {
            JobState::Waiting
        } else if spec.not_before > now {
            JobState::Delayed {
                until: spec.not_before,
            }
        } else {
            JobState::Ready
        }
    }

    fn check_after(&self, spec: &JobSpec) -> Result<(), Refusal> {
        for job in &spec.after {
            let Some(record) = self.queue.get(*job) else {
                return Err(Refusal::Unknown(format!("job {job} to run after")));
            };
            let phase = record.state.phase();
            if matches!(phase, JobPhase::Dead | JobPhase::Cancelled) {
                return Err(Refusal::Conflict(format!(
                    "nothing can run after {job}: it is {phase}"
                )));
            }
        }
        Ok(())
    }

    fn check_room(&self, specs: &[JobSpec]) -> Result<(), Refusal> {
        let bounds = &self.head.bounds;
        let fresh = specs.iter().filter(|spec| {
            let key = spec.unique_key.as_deref();
            key.and_then(|key| self.queue.by_key(key)).is_none()
        });
        let (mut jobs, mut bytes) = (self.queue.live(), self.queue.live_bytes());
        let mut configurations: BTreeSet<&ConfigurationName> = self.configurations.keys().collect();
        for spec in fresh {
            jobs += 1;
            bytes += spec_weight(spec);
            configurations.insert(&spec.configuration);
        }
        check_full("the queue", jobs as u64, bounds.jobs_live_max as u64)?;
        check_full("the queue's memory", bytes, bounds.jobs_live_bytes_max)?;
        check_full(
            "the list of configurations",
            configurations.len() as u64,
            bounds.configurations_max as u64,
        )
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
        let state = self.first_state(&record.spec, turn.now);
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
        let key = record.spec.unique_key.as_deref();
        if let Some(other) = key.and_then(|key| self.queue.by_key(key)) {
            return Err(Refusal::Conflict(format!(
                "{other} has the unique key of {job} now"
            )));
        }
        // A job that was granted once had all it waits for, even if the ring has forgotten that.
        if record.last_token.is_none() {
            self.check_after(&record.spec)?;
        }
        self.check_room(std::slice::from_ref(&record.spec))
    }

    pub(crate) fn job(&self, job: JobId) -> Result<&JobRecord, Refusal> {
        self.queue
            .get(job)
            .ok_or_else(|| Refusal::Unknown(format!("job {job}")))
    }

    /// Ends a job that nobody holds. Jobs that wait for it become ready, or share its fate if it is not done.
    pub(crate) fn finish(&mut self, turn: &mut Turn, job: JobId, end: JobState, note: &str) {
        let mut ends = VecDeque::from([(job, end, note.to_owned())]);
        while let Some((job, end, note)) = ends.pop_front() {
            // A job that waits for two others that end together is met twice.
            if !self.queue.is_live(job) {
                continue;
            }
            let effect = match end.phase() {
                JobPhase::Done => Effect::JobDone { job },
                JobPhase::Cancelled => Effect::JobCancelled { job },
                JobPhase::Dead
                | JobPhase::Waiting
                | JobPhase::Delayed
                | JobPhase::Ready
                | JobPhase::Leased
                | JobPhase::Cancelling => Effect::JobDead { job },
            };
            turn.tell(effect);
            self.queue.change(job, turn.now, |record| {
                record.state = end.clone();
                record.note = cut(&note);
            });
            let dependants = self.queue.dependants(job);
            if end == JobState::Done {
                self.wake_dependants(turn, &dependants);
            } else {
                let note = format!("{job}, which it waits for, is {}", end.phase());
                ends.extend(
                    dependants
                        .into_iter()
                        .map(|d| (d, end.clone(), note.clone())),
                );
            }
        }
        self.queue.trim(&self.head.bounds);
    }

    fn wake_dependants(&mut self, turn: &mut Turn, dependants: &[JobId]) {
        for job in dependants {
            let Some(record) = self.queue.get(*job) else {
                continue;
            };
            match self.first_state(&record.spec, turn.now) {
                JobState::Ready => self.make_ready(turn, *job),
                JobState::Waiting => {}
                state => self
                    .queue
                    .change(*job, turn.now, |record| record.state = state),
            }
        }
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
