//! The table of jobs and its indexes. One way to change a job's state, so that the indexes always follow it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use riftmesh_base::{JobId, Millis};
use serde::{Deserialize, Serialize};

use crate::bounds::{AGE_PER_PRIORITY, Bounds};
use crate::job::{DeviceNeed, JobKind, JobPhase, JobRecord, JobSpec, JobState};
use crate::nodes::Session;

/// Jobs that are not finished, and the ring of those that are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Queue {
    /// Jobs entered so far.
    entered: u64,
    jobs: BTreeMap<JobId, JobRecord>,
    /// The finished ones, the longest finished first.
    finished: VecDeque<JobId>,
    #[serde(skip)]
    index: QueueIndex,
}

/// What follows from the jobs, kept up to date instead of searched for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct QueueIndex {
    ready: BTreeMap<Class, BTreeSet<(Rank, JobId)>>,
    delayed: BTreeSet<(Millis, JobId)>,
    keys: BTreeMap<String, JobId>,
    /// From a job to the waiting jobs that name it.
    dependants: BTreeMap<JobId, BTreeSet<JobId>>,
    counts: BTreeMap<JobPhase, u64>,
    live_bytes: u64,
    finished_bytes: u64,
}

/// Jobs that the same workers can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Class {
    kind: JobKind,
    device: DeviceNeed,
    slots: u16,
}

/// Where a ready job stands among the others; the lowest is granted first.
///
/// Priority grows with waiting by one per [`AGE_PER_PRIORITY`], the same for every job. So the difference between
/// two jobs never changes, and their order is that of `since - priority * AGE_PER_PRIORITY`, whatever the time is.
type Rank = u64;

fn rank(record: &JobRecord) -> Rank {
    let since = record.submitted.max(record.spec.not_before);
    let handicap = u64::from(u8::MAX - record.spec.priority) * AGE_PER_PRIORITY.0;
    since.0.saturating_add(handicap)
}

fn class(record: &JobRecord) -> Class {
    Class {
        kind: record.spec.kind,
        device: record.spec.needs.device,
        slots: record.spec.needs.slots,
    }
}

/// About the bytes a job takes, for the bounds on memory.
pub(crate) fn spec_weight(spec: &JobSpec) -> u64 {
    let key = spec.unique_key.as_ref().map_or(0, String::len);
    (200 + spec.payload.len() + key + 8 * spec.after.len()) as u64
}

fn weight(record: &JobRecord) -> u64 {
    spec_weight(&record.spec) + 150 * record.outputs.len() as u64
}

/// What a claim finds at the head of the queue.
pub(crate) enum Head {
    /// A job the session has room for.
    Fits(JobId),
    /// Nothing the session could run, or a job it has to free slots for first.
    Nothing,
}

impl Queue {
    pub fn get(&self, job: JobId) -> Option<&JobRecord> {
        self.jobs.get(&job)
    }

    pub fn records(&self) -> impl DoubleEndedIterator<Item = &JobRecord> {
        self.jobs.values()
    }

    pub fn entered(&self) -> u64 {
        self.entered
    }

    pub fn finished(&self) -> &VecDeque<JobId> {
        &self.finished
    }

    pub fn index(&self) -> &QueueIndex {
        &self.index
    }

    pub fn count(&self, phase: JobPhase) -> u64 {
        self.index.counts.get(&phase).copied().unwrap_or(0)
    }

    pub fn live(&self) -> usize {
        self.jobs.len() - self.finished.len()
    }

    pub fn live_bytes(&self) -> u64 {
        self.index.live_bytes
    }

    pub fn by_key(&self, key: &str) -> Option<JobId> {
        self.index.keys.get(key).copied()
    }

    /// Whether `job` is known and not finished.
    pub fn is_live(&self, job: JobId) -> bool {
        self.get(job).is_some_and(|r| !r.state.phase().is_final())
    }

    /// The earliest time a delayed job waits for.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.index.delayed.first().map(|(until, _)| *until)
    }

    /// The delayed jobs whose time has come.
    pub fn due(&self, now: Millis) -> Vec<JobId> {
        let due = self.index.delayed.iter();
        due.take_while(|(until, _)| *until <= now)
            .map(|(_, job)| *job)
            .collect()
    }

    /// Takes the waiting jobs that name `job`, in the order of their ids.
    pub fn dependants(&self, job: JobId) -> Vec<JobId> {
        let waiting = self.index.dependants.get(&job);
        waiting.into_iter().flatten().copied().collect()
    }

    /// Enters a job that has no id yet.
    pub fn enter(&mut self, spec: JobSpec, state: JobState, now: Millis) -> JobId {
        self.entered += 1;
        let id = JobId(self.entered);
        let record = JobRecord {
            id,
            last_token: None,
            spec,
            state,
            failures: 0,
            losses: 0,
            progress: (0, 0),
            submitted: now,
            changed: now,
            note: String::new(),
            outputs: Vec::new(),
        };
        self.index.add(&record);
        self.jobs.insert(id, record);
        id
    }

    /// The only way to change a job. The indexes and the ring follow the state that `change` leaves behind.
    ///
    /// # Panics
    /// When there is no such job: callers hold ids they have just looked up.
    pub fn change(&mut self, job: JobId, now: Millis, change: impl FnOnce(&mut JobRecord)) {
        #[expect(clippy::expect_used, reason = "callers have just looked the job up")]
        let record = self.jobs.get_mut(&job).expect("a job that was looked up");
        self.index.remove(record);
        let was_final = record.state.phase().is_final();
        change(record);
        record.changed = now;
        self.index.add(record);
        match (was_final, record.state.phase().is_final()) {
            (false, true) => self.finished.push_back(job),
            (true, false) => self.finished.retain(|id| *id != job),
            (false, false) | (true, true) => {}
        }
    }

    /// Notes the progress of a job, which no index depends on.
    pub fn set_progress(&mut self, job: JobId, progress: (u64, u64)) {
        if let Some(record) = self.jobs.get_mut(&job) {
            record.progress = progress;
        }
    }

    /// Forgets the longest finished jobs until the ring keeps to its bounds.
    pub fn trim(&mut self, bounds: &Bounds) {
        while self.finished.len() > bounds.jobs_finished_kept
            || self.index.finished_bytes > bounds.jobs_finished_bytes_kept
        {
            let Some(job) = self.finished.pop_front() else {
                return;
            };
            if let Some(record) = self.jobs.remove(&job) {
                self.index.remove(&record);
            }
        }
    }

    /// The first job in rank that `session` could ever run now: one of `kinds`, not larger than the session, and not
    /// in need of a device it lacks or has given away.
    ///
    /// If that job needs more slots than are free, nothing is granted behind it. Otherwise narrow jobs would take each
    /// slot as it comes free, and a wide one would wait for ever.
    pub fn head_for(&self, session: &Session, kinds: &[JobKind]) -> Head {
        let device = session.record.cuda && !session.cuda_used;
        let heads = self.index.ready.iter().filter(|(class, _)| {
            kinds.contains(&class.kind)
                && class.slots <= session.record.slots
                && (class.device == DeviceNeed::Any || device)
        });
        let first = heads
            .filter_map(|(class, jobs)| Some((jobs.first()?, class.slots)))
            .min();
        match first {
            Some(((_, job), slots)) if slots <= session.slots_free() => Head::Fits(*job),
            Some(_) | None => Head::Nothing,
        }
    }

    /// The indexes as they follow from the jobs.
    pub fn derived_index(&self) -> QueueIndex {
        let mut index = QueueIndex::default();
        self.jobs.values().for_each(|record| index.add(record));
        index
    }

    /// Builds the indexes, which are not part of the image.
    pub fn rebuild(&mut self) {
        self.index = self.derived_index();
    }
}

impl QueueIndex {
    fn add(&mut self, record: &JobRecord) {
        let phase = record.state.phase();
        *self.counts.entry(phase).or_default() += 1;
        if phase.is_final() {
            self.finished_bytes += weight(record);
            return;
        }
        self.live_bytes += weight(record);
        if let Some(key) = &record.spec.unique_key {
            self.keys.insert(key.clone(), record.id);
        }
        match &record.state {
            JobState::Ready => {
                let jobs = self.ready.entry(class(record)).or_default();
                jobs.insert((rank(record), record.id));
            }
            JobState::Delayed { until } => {
                self.delayed.insert((*until, record.id));
            }
            JobState::Waiting => {
                for job in &record.spec.after {
                    self.dependants.entry(*job).or_default().insert(record.id);
                }
            }
            JobState::Leased(_)
            | JobState::Cancelling(_)
            | JobState::Done
            | JobState::Cancelled
            | JobState::Dead => {}
        }
    }

    /// Undoes [`QueueIndex::add`] of the same record. Empty entries go, so that equal jobs give equal indexes.
    fn remove(&mut self, record: &JobRecord) {
        let phase = record.state.phase();
        drop_one(&mut self.counts, phase);
        if phase.is_final() {
            self.finished_bytes -= weight(record);
            return;
        }
        self.live_bytes -= weight(record);
        if let Some(key) = &record.spec.unique_key {
            self.keys.remove(key);
        }
        match &record.state {
            JobState::Ready => {
                drop_member(&mut self.ready, class(record), &(rank(record), record.id))
            }
            JobState::Delayed { until } => {
                self.delayed.remove(&(*until, record.id));
            }
            JobState::Waiting => {
                for job in &record.spec.after {
                    drop_member(&mut self.dependants, *job, &record.id);
                }
            }
            JobState::Leased(_)
            | JobState::Cancelling(_)
            | JobState::Done
            | JobState::Cancelled
            | JobState::Dead => {}
        }
    }
}

fn drop_one<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

fn drop_member<K: Ord, V: Ord>(sets: &mut BTreeMap<K, BTreeSet<V>>, key: K, member: &V) {
    if let Some(set) = sets.get_mut(&key) {
        set.remove(member);
        if set.is_empty() {
            sets.remove(&key);
        }
    }
}
