//! How jobs end, and what that means for the jobs that wait for them.

use std::collections::VecDeque;

use riftmesh_base::{JobId, Millis};

use crate::effect::Effect;
use crate::job::{JobPhase, JobRecord, JobState};
use crate::jobs::cut;
use crate::state::{State, Turn};
use crate::terms::AfterPolicy;

impl State {
    /// Ends a job that nobody holds. Jobs that wait for it become ready, or share its fate if it is not done and their
    /// terms say so. A recurring job is entered again.
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
            self.drop_checkpoint(turn, job);
            let note = format!("{job}, which it waits for, is {}", end.phase());
            for dependant in self.queue.dependants(job) {
                if end != JobState::Done && self.is_doomed(dependant) {
                    ends.push_back((dependant, end.clone(), note.clone()));
                } else {
                    self.wake_dependant(turn, dependant);
                }
            }
            if end != JobState::Cancelled {
                self.recur(turn, job);
            }
        }
        self.trim_ring(turn);
    }

    /// Whether a job that waits has lost what it waits for, now that one of those is over and not done.
    fn is_doomed(&self, job: JobId) -> bool {
        let Some(record) = self.queue.get(job) else {
            return false;
        };
        match record.terms.after {
            AfterPolicy::AllDone => true,
            AfterPolicy::AnyDone => !self.waits(&record.spec, AfterPolicy::AnyDone),
            AfterPolicy::AllOver => false,
        }
    }

    fn wake_dependant(&mut self, turn: &mut Turn, job: JobId) {
        let Some(record) = self.queue.get(job) else {
            return;
        };
        match self.first_state(&record.spec, record.terms.after, turn.now) {
            JobState::Ready => self.make_ready(turn, job),
            JobState::Waiting => {}
            state => self
                .queue
                .change(job, turn.now, |record| record.state = state),
        }
    }

    /// Enters a recurring job again. The series goes on with the new one: requeueing the old one must not start a second.
    fn recur(&mut self, turn: &mut Turn, job: JobId) {
        let Some((record, every)) = self
            .queue
            .get(job)
            .and_then(|record| Some((record, record.terms.every?)))
        else {
            return;
        };
        let mut spec = record.spec.clone();
        let terms = record.terms.clone();
        spec.not_before = next_time(record, every, turn.now);
        // They are over, and what they came to was for the first time.
        spec.after.clear();
        let known = self.queue.entered();
        let next = self.enter(turn, &spec, &terms);
        if next.0 > known && self.holds.yields(job) {
            self.holds.set_yielding(next);
        }
        self.queue
            .change(job, turn.now, |record| record.terms.every = None);
        turn.tell(Effect::JobRecurs { job, next });
    }
}

/// The first time after `now` that is a whole number of periods after the job's own.
fn next_time(record: &JobRecord, every: Millis, now: Millis) -> Millis {
    let first = record.submitted.max(record.spec.not_before);
    let periods = now.since(first).0 / every.0.max(1) + 1;
    first + Millis(every.0.saturating_mul(periods))
}
