//! What must hold after every command, as code with names. Run after each apply in tests and on every restored image.

use std::collections::{BTreeMap, BTreeSet};

use riftmesh_base::{
    BlobHash, ConfigurationName, JobId, JoinTokenId, LogIndex, NodeId, SessionId, Token,
};

use crate::bounds::CANCEL_GRACE;
use crate::job::{DeviceNeed, JobRecord, JobState};
use crate::models::ModelState;
use crate::queue::key_of;
use crate::state::{Configuration, State};
use crate::terms::AfterPolicy;

mod services;

/// A rule the state breaks. Finding one means a bug here or a damaged image, never a mistake of a client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// One live lease per job: a held job's session does not exist or does not list the job.
    #[error("{job} is leased to {session}, which does not hold it")]
    LeaseNotHeld {
        /// The job.
        job: JobId,
        /// The session of its lease.
        session: SessionId,
    },
    /// One live lease per job: a session lists a job that is not leased to it.
    #[error("{session} holds {job} without a lease")]
    HeldWithoutLease {
        /// The session.
        session: SessionId,
        /// The job.
        job: JobId,
    },
    /// Reservations sum up.
    #[error("{session} has {reserved} slots reserved; its jobs need {needed} of {offered}")]
    Reservation {
        /// The session.
        session: SessionId,
        /// Slots reserved.
        reserved: u16,
        /// Slots its jobs need.
        needed: u32,
        /// Slots it offers.
        offered: u16,
    },
    /// The CUDA device of a session is given to one job, or to jobs that fit its memory together, and only if there is
    /// one.
    #[error("{session} has given its device to {jobs} jobs")]
    Device {
        /// The session.
        session: SessionId,
        /// How many hold it.
        jobs: usize,
    },
    /// Tokens rise: a token is of an entry that was not applied yet.
    #[error("{job} has token {token}, later than entry {applied}")]
    TokenFromFuture {
        /// The job.
        job: JobId,
        /// Its token.
        token: Token,
        /// The last entry.
        applied: LogIndex,
    },
    /// Tokens rise: two jobs were granted under the same token, or a lease has an older one than its job.
    #[error("token {token} of {job} is not its own last one")]
    TokenReused {
        /// The job.
        job: JobId,
        /// The token.
        token: Token,
    },
    /// Indexes match states.
    #[error("the queue's indexes do not follow from its jobs")]
    QueueIndex,
    /// Unique keys are unique among live jobs.
    #[error("two live jobs have the unique key `{0}`")]
    UniqueKey(String),
    /// The ring of finished jobs lists exactly the finished ones.
    #[error("{0} is finished and not in the ring, or the reverse")]
    FinishedRing(JobId),
    /// A waiting job waits for a live one, and no other job has a live dependency.
    #[error("{0} is in the wrong state for the jobs it waits for")]
    Dependency(JobId),
    /// A delayed job waits for the future.
    #[error("{0} is delayed until a time that has come")]
    Overdue(JobId),
    /// From level 2 on a cancellation has an end.
    #[error("{0} was cancelled longer ago than its holder may take to answer")]
    CancelledTooLong(JobId),
    /// Counts balance: a live job has failures or losses enough to be dead.
    #[error("{0} has used up its attempts or losses and is alive")]
    Exhausted(JobId),
    /// Ids rise: a job or session has a number that was not given out yet.
    #[error("{0} was never given out")]
    UnknownId(String),
    /// A session belongs to an admitted node which names it.
    #[error("{session} and node {node} do not name each other")]
    SessionNode {
        /// The session.
        session: SessionId,
        /// The node.
        node: NodeId,
    },
    /// The champion and the former ones are registered, and the champion alone is promoted.
    #[error("champion {model} of {configuration} is not registered, or not in the right state")]
    Champion {
        /// Of which configuration.
        configuration: ConfigurationName,
        /// The model.
        model: BlobHash,
    },
    /// Nothing but the champion is promoted.
    #[error("{model} of {configuration} is promoted and not champion")]
    SecondChampion {
        /// Of which configuration.
        configuration: ConfigurationName,
        /// The model.
        model: BlobHash,
    },
    /// Counts balance: every segment ever accepted is listed or retired, and the totals cover the listed ones.
    #[error("the totals of {0} do not cover its segments")]
    LedgerTotals(ConfigurationName),
    /// Hash indexes match what they index.
    #[error("an index of {0} does not follow from its table")]
    ConfigurationIndex(ConfigurationName),
    /// The names of matches and their index differ.
    #[error("the index of match names does not follow from its list")]
    MatchIndex,
    /// A lock is held that should be free, or from a time that has not come.
    #[error("lock `{0}` is held outside its time")]
    LockTime(String),
    /// Tokens rise: a lock has one that was not given out yet, or that something else has.
    #[error("lock `{name}` has token {token}, which is not its own")]
    LockToken {
        /// Which lock.
        name: String,
        /// Its token.
        token: Token,
    },
    /// The locks and the order in which they run out differ.
    #[error("the index of locks does not follow from its table")]
    LockIndex,
    /// Revisions rise one by one, and the history ends with the last.
    #[error("the history of settings has a gap or another end")]
    SettingHistory,
    /// A setting is what its last change made it.
    #[error("setting `{0}` is not what its history says")]
    Setting(String),
    /// A join token lets in as many nodes as it was made for.
    #[error("join token {0} let in more nodes than it was made for")]
    TokenOverspent(JoinTokenId),
    /// A node that is trusted no more has no session.
    #[error("node {0} was revoked and has a session")]
    RevokedSession(NodeId),
    /// A checkpoint belongs to a job that is not over.
    #[error("a checkpoint of {0}, which is over or unknown")]
    Checkpoint(JobId),
    /// A job that gives way is listed, and so is each that somebody holds.
    #[error("the table of jobs that give way does not follow from the jobs")]
    HoldIndex,
    /// Who is asked to give way holds a job that does, under that token, and has time left.
    #[error("{0} is asked for and not held by one who could give it back")]
    Asked(JobId),
    /// The batches that the state keeps are the last ones of the chain, and what is open fills no batch.
    #[error("the archive's chain does not end in {0}")]
    Archive(String),
    /// Only nodes that the cluster knows report in a rotation.
    #[error("node {0} is unknown and has reported in a rotation")]
    Adoption(NodeId),
    /// Only a draining node has a time by which it is drained, and what is due is done.
    #[error("node {0} has a time to be drained by, and is not draining or past it")]
    Drain(NodeId),
    /// Every map has a cap.
    #[error("{what}: {found} entries, at most {max} are allowed")]
    Bound {
        /// Which map.
        what: &'static str,
        /// Entries.
        found: usize,
        /// The cap.
        max: usize,
    },
}

impl State {
    /// Checks every rule.
    ///
    /// # Errors
    /// The rules that are broken.
    pub fn validate(&self) -> Result<(), Vec<Violation>> {
        let mut found = Vec::new();
        self.check_bounds(&mut found);
        self.check_sessions(&mut found);
        self.check_jobs(&mut found);
        self.check_tokens(&mut found);
        self.check_queue(&mut found);
        self.check_locks(&mut found);
        self.check_settings(&mut found);
        self.check_trust(&mut found);
        self.check_holds(&mut found);
        self.check_archive(&mut found);
        if !self.matches.is_consistent() {
            found.push(Violation::MatchIndex);
        }
        for (name, configuration) in &self.configurations {
            check_ledger(name, configuration, &mut found);
            check_registry(name, configuration, &mut found);
        }
        if found.is_empty() { Ok(()) } else { Err(found) }
    }

    fn check_bounds(&self, found: &mut Vec<Violation>) {
        let bounds = &self.head.bounds;
        // A full outbox holds the ring up, and new jobs with it.
        let ring_max = if self.archive.has_room() {
            bounds.jobs_finished_kept
        } else {
            bounds.jobs_finished_kept + bounds.jobs_live_max
        };
        let mut sizes = vec![
            ("roster", self.nodes.roster.len(), bounds.nodes_max),
            ("sessions", self.nodes.sessions.len(), bounds.nodes_max),
            ("clients", self.clients.len(), bounds.clients_max),
            ("live jobs", self.queue.live(), bounds.jobs_live_max),
            ("finished jobs", self.queue.finished().len(), ring_max),
            ("match names", self.matches.len(), bounds.matches_kept),
            (
                "configurations",
                self.configurations.len(),
                bounds.configurations_max,
            ),
        ];
        sizes.extend(self.service_sizes());
        for configuration in self.configurations.values() {
            let models = configuration.registry.models().count();
            sizes.push((
                "segments",
                configuration.ledger.listed(),
                bounds.segments_kept,
            ));
            sizes.push(("models", models, bounds.models_kept.max(3)));
            sizes.push(("pairs", configuration.pairs.len(), bounds.pairs_kept));
        }
        let over = sizes.into_iter().filter(|(_, len, max)| len > max);
        found.extend(over.map(|(what, found, max)| Violation::Bound { what, found, max }));
    }

    fn check_sessions(&self, found: &mut Vec<Violation>) {
        for (id, session) in &self.nodes.sessions {
            let (session_id, node) = (*id, session.record.node);
            let entry = self.nodes.roster.get(&node);
            if entry.and_then(|entry| entry.session) != Some(session_id) {
                found.push(Violation::SessionNode {
                    session: session_id,
                    node,
                });
            }
            if id.0 > self.nodes.opened {
                found.push(Violation::UnknownId(id.to_string()));
            }
            let mut needed = 0;
            let (mut devices, mut sharers, mut memory) = (0, 0, 0);
            for job in &session.held {
                let record = self.queue.get(*job);
                let holder = record.and_then(|r| r.state.lease()).map(|l| l.session);
                if holder != Some(session_id) {
                    found.push(Violation::HeldWithoutLease {
                        session: session_id,
                        job: *job,
                    });
                }
                if let Some(record) = record {
                    needed += u32::from(record.spec.needs.slots);
                    let device = record.spec.needs.device == DeviceNeed::Cuda;
                    let shares = device && record.terms.gpu_memory_mib > 0;
                    devices += usize::from(device && !shares);
                    sharers += usize::from(shares);
                    memory += u64::from(record.terms.gpu_memory_mib);
                }
            }
            let offered = session.record.slots;
            if needed != u32::from(session.slots_used) || needed > u32::from(offered) {
                found.push(Violation::Reservation {
                    session: session_id,
                    reserved: session.slots_used,
                    needed,
                    offered,
                });
            }
            // One job alone, or several that fit its memory together.
            let fits = devices + usize::from(sharers > 0) <= usize::from(session.record.cuda)
                && memory <= u64::from(session.record.gpu_memory_mib)
                && memory == u64::from(session.gpu_memory_used);
            if !fits || (devices + sharers > 0) != session.cuda_used {
                found.push(Violation::Device {
                    session: session_id,
                    jobs: devices + sharers,
                });
            }
        }
        for (node, entry) in &self.nodes.roster {
            if let Some(session) = entry.session
                && self.nodes.sessions.get(&session).map(|s| s.record.node) != Some(*node)
            {
                found.push(Violation::SessionNode {
                    session,
                    node: *node,
                });
            }
        }
    }

    fn check_jobs(&self, found: &mut Vec<Violation>) {
        for record in self.queue.records() {
            let (job, live) = (record.id, !record.state.phase().is_final());
            if job.0 > self.queue.entered() {
                found.push(Violation::UnknownId(job.to_string()));
            }
            if let Some(lease) = record.state.lease()
                && self
                    .nodes
                    .sessions
                    .get(&lease.session)
                    .is_none_or(|session| !session.held.contains(&job))
            {
                let session = lease.session;
                found.push(Violation::LeaseNotHeld { job, session });
            }
            let waits = self.waits(&record.spec, record.terms.after);
            let waiting = record.state == JobState::Waiting;
            // One that was over and is tried again does not hold up those that were content with its end, and the ring may
            // have forgotten the one that was done. So only of the default policy both directions can be told.
            let strict = record.terms.after == AfterPolicy::AllDone;
            if live && (waiting && !waits || strict && waits && !waiting) {
                found.push(Violation::Dependency(job));
            }
            if matches!(record.state, JobState::Delayed { until } if until <= self.head.now) {
                found.push(Violation::Overdue(job));
            }
            let too_long = matches!(record.state, JobState::Cancelling(_))
                && record.changed + CANCEL_GRACE <= self.head.now;
            if too_long && self.has_cancel_grace() {
                found.push(Violation::CancelledTooLong(job));
            }
            if live && self.is_exhausted(record) {
                found.push(Violation::Exhausted(job));
            }
        }
    }

    fn is_exhausted(&self, record: &JobRecord) -> bool {
        record.failures >= record.spec.retry.attempts_max
            || record.losses >= self.head.bounds.losses_max
    }

    fn check_tokens(&self, found: &mut Vec<Violation>) {
        let mut seen = BTreeMap::new();
        let end = Token::new(LogIndex(self.head.applied.0 + 1), 0);
        for record in self.queue.records() {
            let job = record.id;
            let Some(token) = record.last_token else {
                continue;
            };
            if token >= end {
                let applied = self.head.applied;
                found.push(Violation::TokenFromFuture {
                    job,
                    token,
                    applied,
                });
            }
            let lease = record.state.lease();
            if seen.insert(token, job).is_some() || lease.is_some_and(|l| l.token != token) {
                found.push(Violation::TokenReused { job, token });
            }
        }
    }

    fn check_queue(&self, found: &mut Vec<Violation>) {
        if *self.queue.index() != self.queue.derived_index() {
            found.push(Violation::QueueIndex);
        }
        let mut ring: BTreeSet<JobId> = self.queue.finished().iter().copied().collect();
        let mut keys = BTreeSet::new();
        for record in self.queue.records() {
            let finished = record.state.phase().is_final();
            if ring.remove(&record.id) != finished {
                found.push(Violation::FinishedRing(record.id));
            }
            if let Some(key) = key_of(&record.spec, &record.terms)
                && !finished
                && !keys.insert(key.clone())
            {
                found.push(Violation::UniqueKey(key.2));
            }
        }
        found.extend(ring.into_iter().map(Violation::FinishedRing));
    }
}

fn check_ledger(
    name: &ConfigurationName,
    configuration: &Configuration,
    found: &mut Vec<Violation>,
) {
    let ledger = &configuration.ledger;
    let totals = ledger.totals();
    let listed = ledger.segments();
    let (games, rows) = listed.fold((0, 0), |(games, rows), segment| {
        let record = &segment.record;
        (
            games + u64::from(record.games),
            rows + u64::from(record.rows),
        )
    });
    let all = ledger.listed() as u64 + totals.retired;
    let exact = totals.retired > 0 || (games, rows) == (totals.games, totals.rows);
    if all != totals.segments || games > totals.games || rows > totals.rows || !exact {
        found.push(Violation::LedgerTotals(name.clone()));
    }
    if *ledger.index() != ledger.derived_index() {
        found.push(Violation::ConfigurationIndex(name.clone()));
    }
}

fn check_registry(
    name: &ConfigurationName,
    configuration: &Configuration,
    found: &mut Vec<Violation>,
) {
    let registry = &configuration.registry;
    let champion = registry.champion();
    for model in registry.champions() {
        let entry = registry.get(*model);
        let reigns = entry.is_some_and(|entry| entry.state == ModelState::Promoted);
        if entry.is_none() || reigns != (champion == Some(*model)) {
            found.push(Violation::Champion {
                configuration: name.clone(),
                model: *model,
            });
        }
    }
    for entry in registry.models() {
        let model = entry.record.hash;
        if entry.state == ModelState::Promoted && champion != Some(model) {
            let configuration = name.clone();
            found.push(Violation::SecondChampion {
                configuration,
                model,
            });
        }
        if entry.number > registry.registered() {
            found.push(Violation::UnknownId(format!(
                "model number {}",
                entry.number
            )));
        }
    }
    if *registry.index() != registry.derived_index() {
        found.push(Violation::ConfigurationIndex(name.clone()));
    }
}
