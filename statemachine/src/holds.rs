//! Checkpoints of running jobs, and holders that are asked to give way.
//!
//! At most one holder is asked at a time. Asking more at once would stop jobs for an urgent one that the first release
//! has made room for.

use std::collections::{BTreeMap, BTreeSet};

use riftmesh_base::limits::BLOB_BYTES_MAX;
use riftmesh_base::{JobId, Millis, Token};
use serde::{Deserialize, Serialize};

use crate::bounds::{YIELD_GRACE, YIELD_HEADS_MAX};
use crate::effect::Effect;
use crate::hold::{HoldVerb, JobCheckpoint, Yielding};
use crate::job::{JobRecord, JobState};
use crate::leases::Held;
use crate::queue::{Class, Rank, rank};
use crate::reply::{Refusal, Reply};
use crate::state::{State, Turn};

/// What is kept of jobs that can stop and go on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holds {
    /// Of unfinished jobs.
    checkpoints: BTreeMap<JobId, JobCheckpoint>,
    /// Jobs that give way, the finished ones that are still listed among them.
    yielding: BTreeSet<JobId>,
    asked: Option<Yielding>,
    /// Those that somebody holds, the most urgent first. Follows from the leases and is not part of the image.
    #[serde(skip)]
    held: BTreeSet<(Rank, JobId)>,
}

impl Holds {
    pub fn checkpoint(&self, job: JobId) -> Option<&JobCheckpoint> {
        self.checkpoints.get(&job)
    }

    pub fn checkpoints(&self) -> &BTreeMap<JobId, JobCheckpoint> {
        &self.checkpoints
    }

    pub fn yields(&self, job: JobId) -> bool {
        self.yielding.contains(&job)
    }

    pub fn yielding(&self) -> &BTreeSet<JobId> {
        &self.yielding
    }

    pub fn asked(&self) -> Option<&Yielding> {
        self.asked.as_ref()
    }

    pub fn held(&self) -> &BTreeSet<(Rank, JobId)> {
        &self.held
    }

    /// Whether the grant `token` of `job` is to be given back.
    fn is_asked(&self, job: JobId, token: Token) -> Option<Yielding> {
        self.asked
            .filter(|asked| (asked.job, asked.token) == (job, token))
    }

    /// A job gives way from now on.
    pub fn set_yielding(&mut self, job: JobId) {
        self.yielding.insert(job);
    }

    /// Somebody holds a job now.
    pub fn grant(&mut self, record: &JobRecord) {
        if self.yields(record.id) {
            self.held.insert((rank(record), record.id));
        }
    }

    /// Nobody holds a job any more, so nobody is asked for it.
    pub fn give_back(&mut self, record: &JobRecord) {
        self.held.remove(&(rank(record), record.id));
        self.withdraw(record.id);
    }

    /// Nobody is asked to give `job` back any more.
    pub fn withdraw(&mut self, job: JobId) {
        if self.asked.is_some_and(|asked| asked.job == job) {
            self.asked = None;
        }
    }

    /// A job has left the list of jobs.
    pub fn forget(&mut self, job: JobId) {
        self.yielding.remove(&job);
    }

    /// What `held` must be, given the jobs.
    pub fn derived<'a>(
        &self,
        records: impl Iterator<Item = &'a JobRecord>,
    ) -> BTreeSet<(Rank, JobId)> {
        let held =
            records.filter(|record| record.state.lease().is_some() && self.yields(record.id));
        held.map(|record| (rank(record), record.id)).collect()
    }

    /// Builds what is not part of the image.
    pub fn rebuild<'a>(&mut self, records: impl Iterator<Item = &'a JobRecord>) {
        self.held = self.derived(records);
    }
}

impl State {
    pub(crate) fn hold(&mut self, turn: &mut Turn, verb: &HoldVerb) -> Result<Reply, Refusal> {
        match verb {
            HoldVerb::Checkpoint {
                job,
                token,
                checkpoint,
            } => self.note_checkpoint(turn, *job, *token, checkpoint),
            HoldVerb::SubmitYielding { jobs } => {
                let entered = self.queue.entered();
                let jobs: Vec<_> = jobs.iter().map(|job| (&job.spec, &job.terms)).collect();
                let reply = self.submit(turn, &jobs)?;
                (entered + 1..=self.queue.entered())
                    .for_each(|job| self.holds.set_yielding(JobId(job)));
                Ok(reply)
            }
        }
    }

    fn note_checkpoint(
        &mut self,
        turn: &mut Turn,
        job: JobId,
        token: Token,
        checkpoint: &JobCheckpoint,
    ) -> Result<Reply, Refusal> {
        let held = self.fence(job, token)?;
        if !(1..=BLOB_BYTES_MAX).contains(&checkpoint.bytes) {
            return Err(Refusal::Invalid(format!(
                "a checkpoint of {} bytes: 1 to {BLOB_BYTES_MAX} are allowed",
                checkpoint.bytes
            )));
        }
        let blob = checkpoint.blob;
        let before = self.holds.checkpoints.insert(job, checkpoint.clone());
        turn.tell(Effect::JobCheckpointed { job, token, blob });
        if let Some(before) = before.filter(|before| before.blob != blob) {
            turn.tell(Effect::CheckpointRetired {
                job,
                blob: before.blob,
            });
        }
        Ok(self.holder_reply(job, token, held))
    }

    /// The answer to a holder that tells how far it is.
    pub(crate) fn holder_reply(&self, job: JobId, token: Token, held: Held) -> Reply {
        match (held, self.holds.is_asked(job, token)) {
            (Held::Cancelling, _) => Reply::Cancelled { job },
            (Held::Leased, Some(asked)) => Reply::Yield {
                job,
                until: asked.until,
            },
            (Held::Leased, None) => Reply::Done,
        }
    }

    /// A job is over: nobody will start from its checkpoint.
    pub(crate) fn drop_checkpoint(&mut self, turn: &mut Turn, job: JobId) {
        if let Some(checkpoint) = self.holds.checkpoints.remove(&job) {
            turn.tell(Effect::CheckpointRetired {
                job,
                blob: checkpoint.blob,
            });
        }
    }

    /// Gives a job back if its holder was asked to: ready again, and nobody is to blame. False if it was not asked.
    pub(crate) fn give_way(&mut self, turn: &mut Turn, job: JobId, token: Token) -> bool {
        let Some(asked) = self.holds.is_asked(job, token) else {
            return false;
        };
        self.give_back(job);
        turn.tell(Effect::JobGaveWay { job, token });
        let note = format!("gave way to {}", asked.urgent);
        self.queue.change(job, turn.now, |record| {
            record.note = note;
            record.state = JobState::Ready;
        });
        turn.tell(Effect::JobReady { job });
        true
    }

    /// Takes the job from a holder that was asked for it and has had its time.
    pub(crate) fn end_yielding(&mut self, turn: &mut Turn) {
        if let Some(asked) = self.holds.asked.filter(|asked| asked.until <= turn.now) {
            self.give_way(turn, asked.job, asked.token);
        }
    }

    /// Asks a holder to give way if a more urgent job fits nowhere and would fit where that one runs: the least urgent of
    /// those that would do.
    pub(crate) fn ask_to_yield(&mut self, turn: &mut Turn) {
        if self.holds.asked.is_some() {
            return;
        }
        let Some((last, _)) = self.holds.held.last() else {
            return;
        };
        let heads = self.queue.heads(*last, YIELD_HEADS_MAX, &self.tenants);
        let found = heads.into_iter().find_map(|(rank, urgent, class)| {
            let victim = self.victim(rank, &class)?;
            Some((urgent, victim))
        });
        let Some((urgent, job)) = found else {
            return;
        };
        let Some(lease) = self.queue.get(job).and_then(|record| record.state.lease()) else {
            return;
        };
        let (session, token) = (lease.session, lease.token);
        let until = turn.now + YIELD_GRACE;
        self.holds.asked = Some(Yielding {
            job,
            token,
            urgent,
            until,
        });
        turn.tell(Effect::JobYielding {
            job,
            session,
            token,
            until,
        });
    }

    /// The least urgent held job that has to go for a job of `class`, if that fits nowhere as it is.
    fn victim(&self, urgent: Rank, class: &Class) -> Option<JobId> {
        let draining = |session: &&crate::nodes::Session| {
            let entry = self.nodes.roster.get(&session.record.node);
            entry.is_none_or(|entry| entry.draining)
        };
        let mut sessions = self
            .nodes
            .sessions
            .values()
            .filter(|session| !draining(session));
        if sessions.any(|session| class.fits(session)) {
            return None;
        }
        let less_urgent = self.holds.held.iter().rev();
        let mut less_urgent = less_urgent.take_while(|(rank, _)| *rank > urgent);
        let makes_room = |job: &JobId| {
            let record = self.queue.get(*job)?;
            let JobState::Leased(lease) = &record.state else {
                return None;
            };
            let session = self.nodes.sessions.get(&lease.session);
            let session = session.filter(|session| !draining(session))?;
            let mut without = session.clone();
            without.give_back(*job, record.spec.needs, &record.terms);
            class.fits(&without).then_some(*job)
        };
        less_urgent.find_map(|(_, job)| makes_room(job))
    }

    /// Cluster time at which a holder that was asked to give way has had its time.
    pub(crate) fn yield_deadline(&self) -> Option<Millis> {
        self.holds.asked.map(|asked| asked.until)
    }
}
