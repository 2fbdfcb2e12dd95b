//! The table of jobs and its indexes. One way to change a job's state, so that the indexes always follow it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use riftmesh_base::{JobId, Millis};
use serde::{Deserialize, Serialize};

use crate::bounds::{AGE_PER_PRIORITY, Bounds, CANCEL_GRACE};
use crate::job::{DeviceNeed, JobKind, JobPhase, JobRecord, JobSpec, JobState};
use crate::nodes::Session;
use crate::tenants::Tenants;
use crate::terms::{KeyScope, Terms};

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
    /// Cancelled and still held, by the time of the cancellation.
    cancelling: BTreeSet<(Millis, JobId)>,
    keys: BTreeMap<Key, JobId>,
    /// Of unfinished jobs.
    classes: BTreeMap<Class, u64>,
    /// Of unfinished jobs.
    tenants: BTreeMap<String, TenantUse>,
    /// From a job to the waiting jobs that name it.
    dependants: BTreeMap<JobId, BTreeSet<JobId>>,
    counts: BTreeMap<JobPhase, u64>,
    live_bytes: u64,
    finished_bytes: u64,
}

/// Jobs that the same workers can run, of one tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class {
    kind: JobKind,
    device: DeviceNeed,
    slots: u16,
    gpu_memory_mib: u32,
    labels: Vec<String>,
    tenant: String,
}

impl Class {
    pub fn of(spec: &JobSpec, terms: &Terms) -> Self {
        Self {
            kind: spec.kind,
            device: spec.needs.device,
            slots: spec.needs.slots,
            gpu_memory_mib: terms.gpu_memory_mib,
            labels: terms.labels.clone(),
            tenant: terms.tenant.clone(),
        }
    }

    /// Whether `session` could run such a job beside what it runs now.
    pub fn fits(&self, session: &Session) -> bool {
        self.suits(session, &JobKind::ALL)
            && self.slots <= session.slots_free()
            && (self.device == DeviceNeed::Any || session.device_free(self.gpu_memory_mib))
    }

    /// Whether `session` could run such a job if it had nothing else to do.
    fn suits(&self, session: &Session, kinds: &[JobKind]) -> bool {
        let offer = &session.record;
        let device = match self.device {
            DeviceNeed::Any => true,
            DeviceNeed::Cuda => offer.cuda && self.gpu_memory_mib <= offer.gpu_memory_mib,
        };
        device
            && kinds.contains(&self.kind)
            && self.slots <= offer.slots
            && self.labels.iter().all(|label| offer.labels.contains(label))
    }
}

/// A unique key where it is unique: its scope, the configuration or tenant that scope names, and the key.
pub(crate) type Key = (KeyScope, String, String);

pub(crate) fn key_of(spec: &JobSpec, terms: &Terms) -> Option<Key> {
    let space = match terms.scope {
        KeyScope::Cluster => String::new(),
        KeyScope::Configuration => spec.configuration.to_string(),
        KeyScope::Tenant => terms.tenant.clone(),
    };
    Some((terms.scope, space, spec.unique_key.clone()?))
}

/// What a tenant has in the queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TenantUse {
    /// Unfinished jobs.
    pub jobs: u64,
    /// Slots that its jobs hold.
    pub slots: u64,
}

/// Where a ready job stands among the others; the lowest is granted first.
///
/// Priority grows with waiting by one per [`AGE_PER_PRIORITY`], the same for every job. So the difference between
/// two jobs never changes, and their order is that of `since - priority * AGE_PER_PRIORITY`, whatever the time is.
pub(crate) type Rank = u64;

pub(crate) fn rank(record: &JobRecord) -> Rank {
    let since = record.submitted.max(record.spec.not_before);
    let handicap = u64::from(u8::MAX - record.spec.priority) * AGE_PER_PRIORITY.0;
    since.0.saturating_add(handicap)
}

fn class(record: &JobRecord) -> Class {
    Class::of(&record.spec, &record.terms)
}

/// About the bytes a job takes, for the bounds on memory. Default terms weigh nothing: bounds must not be reached
/// earlier than they were before there were any.
pub(crate) fn spec_weight(spec: &JobSpec, terms: &Terms) -> u64 {
    let key = spec.unique_key.as_ref().map_or(0, String::len);
    let labels: usize = terms.labels.iter().map(|label| 24 + label.len()).sum();
    (200 + spec.payload.len() + key + 8 * spec.after.len() + labels + terms.tenant.len()) as u64
}

pub(crate) fn weight(record: &JobRecord) -> u64 {
    spec_weight(&record.spec, &record.terms) + 150 * record.outputs.len() as u64
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

    /// The unfinished job that has the unique key of this one, if there is such a job.
    pub fn by_key(&self, spec: &JobSpec, terms: &Terms) -> Option<JobId> {
        self.index.keys.get(&key_of(spec, terms)?).copied()
    }

    pub fn tenant_use(&self, tenant: &str) -> TenantUse {
        self.index.tenants.get(tenant).copied().unwrap_or_default()
    }

    /// Whether a tenant with a name has an unfinished job. The nameless one is first in order.
    pub fn has_tenants(&self) -> bool {
        let last = self.index.tenants.last_key_value();
        last.is_some_and(|(tenant, _)| !tenant.is_empty())
    }

    /// Tenants with unfinished jobs, the nameless one left out.
    pub fn tenants(&self) -> usize {
        self.index.tenants.len() - usize::from(self.index.tenants.contains_key(""))
    }

    /// Every tenant with unfinished jobs, and what it has.
    pub fn tenant_uses(&self) -> impl Iterator<Item = (&str, TenantUse)> {
        let uses = self.index.tenants.iter();
        uses.map(|(tenant, used)| (tenant.as_str(), *used))
    }

    pub fn classes(&self) -> usize {
        self.index.classes.len()
    }

    pub fn has_class(&self, class: &Class) -> bool {
        self.index.classes.contains_key(class)
    }

    /// Puts together what an older image held.
    pub fn from_parts(
        entered: u64,
        jobs: BTreeMap<JobId, JobRecord>,
        finished: VecDeque<JobId>,
    ) -> Self {
        Self {
            entered,
            jobs,
            finished,
            index: QueueIndex::default(),
        }
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

    /// The held jobs that were cancelled more than the grace ago.
    pub fn cancelled_too_long(&self, now: Millis) -> Vec<JobId> {
        let cancelling = self.index.cancelling.iter();
        cancelling
            .take_while(|(since, _)| *since + CANCEL_GRACE <= now)
            .map(|(_, job)| *job)
            .collect()
    }

    /// The earliest time at which the grace of a cancelled job is over.
    pub fn next_cancellation(&self) -> Option<Millis> {
        let first = self.index.cancelling.first();
        first.map(|(since, _)| *since + CANCEL_GRACE)
    }

    /// Takes the waiting jobs that name `job`, in the order of their ids.
    pub fn dependants(&self, job: JobId) -> Vec<JobId> {
        let waiting = self.index.dependants.get(&job);
        waiting.into_iter().flatten().copied().collect()
    }

    /// Enters a job that has no id yet.
    pub fn enter(&mut self, spec: JobSpec, terms: Terms, state: JobState, now: Millis) -> JobId {
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
            terms,
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

    /// Whether the ring holds more than it should.
    pub fn is_ring_over(&self, bounds: &Bounds) -> bool {
        self.finished.len() > bounds.jobs_finished_kept
            || self.index.finished_bytes > bounds.jobs_finished_bytes_kept
    }

    /// Forgets the job that was finished first, and gives its record.
    pub fn forget_oldest(&mut self) -> Option<JobRecord> {
        let job = self.finished.pop_front()?;
        let record = self.jobs.remove(&job)?;
        self.index.remove(&record);
        Some(record)
    }

    /// The first ready job of each need that is more urgent than `than`, the most urgent first, at most `max` of them. A
    /// tenant's that has all the slots it may have is not among them: room would not help it.
    pub fn heads(&self, than: Rank, max: usize, tenants: &Tenants) -> Vec<(Rank, JobId, Class)> {
        let firsts = self.index.ready.iter();
        let firsts = firsts.filter_map(|(class, jobs)| Some((jobs.first()?, class)));
        let mut heads: Vec<_> = firsts
            .filter(|((rank, _), class)| *rank < than && self.may_hold(class, tenants))
            .collect();
        heads.sort_unstable_by_key(|(first, _)| **first);
        let heads = heads.into_iter().take(max);
        heads
            .map(|((rank, job), class)| (*rank, *job, class.clone()))
            .collect()
    }

    /// The first job that `session` could run now: one of `kinds`, not larger than what the session offers, of the tenant
    /// that is next in turn, and of that tenant's jobs the first in rank.
    ///
    /// If that job needs more slots than are free, nothing is granted behind it. Otherwise narrow jobs would take each
    /// slot as it comes free, and a wide one would wait for ever. The same goes for the device and the jobs that need it;
    /// others are granted beside it.
    pub fn head_for(&self, session: &Session, kinds: &[JobKind], tenants: &Tenants) -> Head {
        let ready = self.index.ready.iter();
        let suiting =
            ready.filter(|(class, _)| class.suits(session, kinds) && self.may_hold(class, tenants));
        let mut heads: Vec<_> = suiting
            .filter_map(|(class, jobs)| Some((tenants.pass(&class.tenant), jobs.first()?, class)))
            .collect();
        heads.sort_unstable_by_key(|(pass, head, _)| (*pass, **head));
        let mut device = true;
        for (_, (_, job), class) in heads {
            if class.device == DeviceNeed::Cuda {
                device &= session.device_free(class.gpu_memory_mib);
                if !device {
                    continue;
                }
            }
            return if class.slots <= session.slots_free() {
                Head::Fits(*job)
            } else {
                Head::Nothing
            };
        }
        Head::Nothing
    }

    /// Whether a job of `class` would leave its tenant within its share of slots.
    fn may_hold(&self, class: &Class, tenants: &Tenants) -> bool {
        let share = tenants.share(&class.tenant);
        share.and_then(|share| share.slots_max).is_none_or(|max| {
            self.tenant_use(&class.tenant).slots + u64::from(class.slots) <= u64::from(max)
        })
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
        if let Some(key) = key_of(&record.spec, &record.terms) {
            self.keys.insert(key, record.id);
        }
        *self.classes.entry(class(record)).or_default() += 1;
        let tenant = record.terms.tenant.clone();
        let used = self.tenants.entry(tenant).or_default();
        used.jobs += 1;
        used.slots += held_slots(record);
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
            JobState::Cancelling(_) => {
                self.cancelling.insert((record.changed, record.id));
            }
            JobState::Leased(_) | JobState::Done | JobState::Cancelled | JobState::Dead => {}
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
        if let Some(key) = key_of(&record.spec, &record.terms) {
            self.keys.remove(&key);
        }
        drop_one(&mut self.classes, class(record));
        if let Some(used) = self.tenants.get_mut(&record.terms.tenant) {
            used.jobs -= 1;
            used.slots -= held_slots(record);
            if used.jobs == 0 {
                self.tenants.remove(&record.terms.tenant);
            }
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
            JobState::Cancelling(_) => {
                self.cancelling.remove(&(record.changed, record.id));
            }
            JobState::Leased(_) | JobState::Done | JobState::Cancelled | JobState::Dead => {}
        }
    }
}

/// Slots that a job holds now.
fn held_slots(record: &JobRecord) -> u64 {
    let held = record.state.lease().is_some();
    u64::from(held) * u64::from(record.spec.needs.slots)
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
