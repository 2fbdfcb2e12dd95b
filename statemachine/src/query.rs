//! Read-only views, ready to be sent or printed. All of them encode as JSON and as postcard.

use std::collections::{BTreeMap, BTreeSet};

use riftmesh_base::{
    BlobHash, ClusterId, ConfigurationName, JobId, LogIndex, Millis, NodeId, SessionId,
};
use serde::{Deserialize, Serialize};

use crate::archive::ArchiveLink;
use crate::hold::{JobCheckpoint, Yielding};
use crate::job::{JobKind, JobPhase, JobRecord, Player};
pub use crate::ledger::{LedgerTotals, SegmentEntry};
use crate::lock::LockRecord;
use crate::models::{Evidence, ModelEntry, ModelState};
use crate::nodes::Session;
pub use crate::rating::Rating;
use crate::rating::fit;
use crate::roster::{NodeEntry, SessionRecord};
use crate::setting::{SettingChange, SettingRecord};
use crate::state::{Configuration, State};
use crate::terms::TenantShare;

/// Which jobs to list. Empty fields do not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFilter {
    /// Only in this state.
    pub phase: Option<JobPhase>,
    /// Only of this kind.
    pub kind: Option<JobKind>,
    /// Only of this configuration.
    pub configuration: Option<ConfigurationName>,
    /// Only held by this node now.
    pub node: Option<NodeId>,
    /// Only older than this job, to page on.
    pub before: Option<JobId>,
    /// At most this many.
    pub limit: usize,
}

impl JobFilter {
    /// Whether a job passes, whatever the limit says.
    pub fn admits(&self, record: &JobRecord) -> bool {
        let spec = &record.spec;
        let node = record.state.lease().map(|lease| lease.node);
        self.phase.is_none_or(|p| p == record.state.phase())
            && self.kind.is_none_or(|kind| kind == spec.kind)
            && self
                .configuration
                .as_ref()
                .is_none_or(|c| *c == spec.configuration)
            && self.node.is_none_or(|wanted| node == Some(wanted))
            && self.before.is_none_or(|before| record.id < before)
    }
}

/// How many jobs of a kind are in a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCount {
    /// Of this configuration.
    pub configuration: ConfigurationName,
    /// Of this kind.
    pub kind: JobKind,
    /// In this state. Finished jobs are counted while the ring keeps them.
    pub phase: JobPhase,
    /// How many.
    pub jobs: u64,
}

/// A node of the roster with its session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterRow {
    /// The node.
    pub node: NodeEntry,
    /// Its session, while it has one.
    pub session: Option<SessionView>,
    /// When what it holds is taken back, in cluster time, if it is being drained and was given a time for that.
    pub drained_by: Option<Millis>,
}

/// A session and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionView {
    /// As opened.
    pub record: SessionRecord,
    /// Slots reserved by its jobs.
    pub slots_used: u16,
    /// Whether one of them has the CUDA device.
    pub cuda_used: bool,
    /// The jobs it holds.
    pub jobs: Vec<JobId>,
}

/// A model with what follows from the state about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelView {
    /// The registry's entry.
    pub entry: ModelEntry,
    /// Whether it is what self-play plays.
    pub champion: bool,
    /// Its rating at the budget it has played most games at, none before it has played.
    pub rating: Option<PlayerRating>,
    /// The evidence that counts: a candidate's games against the present champion, a judged model's as it was judged.
    pub evidence: Evidence,
}

/// A participant and its rating.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlayerRating {
    /// Who, at which budget.
    pub player: Player,
    /// How strong.
    pub rating: Rating,
}

/// The games between two players. Enough to fit any rating outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairView {
    /// One player.
    pub first: Player,
    /// The other.
    pub second: Player,
    /// Games the first won.
    pub first_wins: u64,
    /// Games the second won.
    pub second_wins: u64,
}

/// A configuration at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationView {
    /// Its name.
    pub name: ConfigurationName,
    /// The champion.
    pub champion: Option<BlobHash>,
    /// What a rollback would put back.
    pub previous: Option<BlobHash>,
    /// The model registered last, whatever became of it.
    pub latest: Option<BlobHash>,
    /// Models, oldest first.
    pub models: Vec<ModelView>,
    /// Everybody who played, strongest first.
    pub ratings: Vec<PlayerRating>,
    /// All training data ever accepted.
    pub ledger: LedgerTotals,
    /// Training rows in the segments still listed.
    pub rows_listed: u64,
}

/// The queue as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueView {
    /// Cluster time.
    pub now: Millis,
    /// Jobs by configuration, kind and state.
    pub counts: Vec<JobCount>,
    /// Jobs that are not finished.
    pub live: u64,
    /// The most there may be.
    pub live_max: u64,
    /// Bytes of these jobs.
    pub live_bytes: u64,
    /// The most there may be.
    pub live_bytes_max: u64,
    /// Finished jobs kept for queries.
    pub finished: u64,
    /// Live sessions.
    pub sessions: usize,
    /// Slots they offer.
    pub slots: u64,
    /// Slots reserved.
    pub slots_used: u64,
    /// The job that has been ready for longest, and for how long in cluster time.
    pub longest_ready: Option<(JobId, Millis)>,
    /// Who has how much of it.
    pub tenants: Vec<TenantView>,
}

/// What a tenant has, and what it is entitled to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantView {
    /// Its name, empty for jobs of nobody in particular.
    pub tenant: String,
    /// Its share, if it was given one.
    pub share: Option<TenantShare>,
    /// Its unfinished jobs.
    pub jobs: u64,
    /// Slots they hold.
    pub slots: u64,
}

/// The state in a few numbers: a status line, and the gauges of every map that has a cap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateSummary {
    /// The cluster, once founded.
    pub cluster: Option<ClusterId>,
    /// The level of behaviour the cluster has agreed on.
    pub level: u32,
    /// Cluster time.
    pub now: Millis,
    /// Last entry applied.
    pub applied: LogIndex,
    /// Nodes in the roster.
    pub nodes: usize,
    /// Live sessions.
    pub sessions: usize,
    /// Slots they offer.
    pub slots: u64,
    /// Slots reserved.
    pub slots_used: u64,
    /// Clients whose last reply is kept.
    pub clients: usize,
    /// Jobs by state, every state listed.
    pub jobs: BTreeMap<JobPhase, u64>,
    /// Bytes of the jobs that are not finished.
    pub jobs_live_bytes: u64,
    /// Names of reported matches remembered.
    pub match_names: usize,
    /// Locks that are held.
    pub locks: usize,
    /// Settings.
    pub settings: usize,
    /// Configurations known.
    pub configurations: Vec<ConfigurationName>,
}

impl State {
    /// The state in a few numbers.
    pub fn summary(&self) -> StateSummary {
        let sessions = self.nodes.sessions.values();
        let (slots, slots_used) = sessions.fold((0, 0), |(all, used), session| {
            (
                all + u64::from(session.record.slots),
                used + u64::from(session.slots_used),
            )
        });
        let jobs = JobPhase::ALL.map(|phase| (phase, self.queue.count(phase)));
        StateSummary {
            cluster: self.cluster(),
            level: self.level(),
            now: self.now(),
            applied: self.applied(),
            nodes: self.nodes.roster.len(),
            sessions: self.nodes.sessions.len(),
            slots,
            slots_used,
            clients: self.clients.len(),
            jobs: jobs.into(),
            jobs_live_bytes: self.queue.live_bytes(),
            match_names: self.matches.len(),
            locks: self.locks.records().len(),
            settings: self.settings.records().len(),
            configurations: self.configurations.keys().cloned().collect(),
        }
    }

    /// Cluster time at which something happens by itself: a delayed job becomes ready, a lock runs out, a cancelled job's
    /// grace is over, or that of a holder that was asked to give way, or a node is drained. So a leader with nothing else
    /// to propose knows when to propose a `Tick`.
    pub fn next_deadline(&self) -> Option<Millis> {
        let cancellation = self.queue.next_cancellation();
        let deadlines = [
            self.queue.next_deadline(),
            self.locks.next_deadline(),
            self.drains.next_deadline(),
            cancellation.filter(|_| self.has_cancel_grace()),
            self.yield_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// The last batch of the archive, from which the chain leads to the first; none before there is one.
    pub fn archive_head(&self) -> Option<ArchiveLink> {
        self.archive.head()
    }

    /// Jobs in the batches of the archive.
    pub fn archived_jobs(&self) -> u64 {
        self.archive.jobs()
    }

    /// Batches that the state keeps until enough nodes have them: which, the bytes, and who has said to have it.
    pub fn archive_outbox(&self) -> impl Iterator<Item = (ArchiveLink, &[u8], &[NodeId])> {
        let outbox = self.archive.outbox().iter();
        outbox.map(|(number, outgoing)| {
            let (number, hash) = (*number, outgoing.hash);
            let link = ArchiveLink { number, hash };
            (link, outgoing.bytes.as_slice(), outgoing.holders.as_slice())
        })
    }

    /// Finished jobs that are in no batch of the archive yet, the one that ended last first.
    pub fn ended(&self) -> impl Iterator<Item = &JobRecord> {
        let ring = self.queue.finished().iter().rev();
        let ring = ring.filter_map(|job| self.queue.get(*job));
        ring.chain(self.archive.open().iter().rev())
    }

    /// From where the next attempt at a job goes on, while the job is not over.
    pub fn checkpoint(&self, job: JobId) -> Option<&JobCheckpoint> {
        self.holds.checkpoint(job)
    }

    /// Whether a job gives way to a more urgent one.
    pub fn yields(&self, job: JobId) -> bool {
        self.holds.yields(job)
    }

    /// The holder that is asked to give way, if one is.
    pub fn yielding(&self) -> Option<&Yielding> {
        self.holds.asked()
    }

    /// Locks that are held, in the order of their names.
    pub fn locks(&self) -> impl Iterator<Item = &LockRecord> {
        self.locks.records()
    }

    /// A setting.
    pub fn setting(&self, key: &str) -> Option<&SettingRecord> {
        self.settings.get(key)
    }

    /// Settings, in the order of their keys.
    pub fn settings(&self) -> impl Iterator<Item = &SettingRecord> {
        self.settings.records()
    }

    /// The last changes of one setting, or of all, newest first.
    pub fn setting_changes(&self, key: Option<&str>) -> impl Iterator<Item = &SettingChange> {
        let changes = self.settings.history().iter().rev();
        changes.filter(move |change| key.is_none_or(|key| change.key == key))
    }

    /// A job, while it is live or in the ring of finished ones.
    pub fn job_record(&self, job: JobId) -> Option<&JobRecord> {
        self.queue.get(job)
    }

    /// Jobs that match, newest first. Reads every job.
    pub fn jobs(&self, filter: &JobFilter) -> Vec<&JobRecord> {
        let newest = self.queue.records().rev();
        let matching = newest.filter(|record| filter.admits(record));
        matching.take(filter.limit).collect()
    }

    /// The number of jobs in a state.
    pub fn jobs_in(&self, phase: JobPhase) -> u64 {
        self.queue.count(phase)
    }

    /// Jobs by configuration, kind and state; what a scheduler needs to decide what to submit. Reads every job.
    pub fn job_counts(&self) -> Vec<JobCount> {
        let mut counts = BTreeMap::new();
        for record in self.queue.records() {
            let key = (
                &record.spec.configuration,
                record.spec.kind,
                record.state.phase(),
            );
            *counts.entry(key).or_insert(0) += 1;
        }
        let counts = counts.into_iter();
        let rows = counts.map(|((configuration, kind, phase), jobs)| JobCount {
            configuration: configuration.clone(),
            kind,
            phase,
            jobs,
        });
        rows.collect()
    }

    /// The queue as a whole. Reads every job.
    pub fn queue_view(&self) -> QueueView {
        let summary = self.summary();
        let bounds = self.bounds();
        let ready = self.queue.records();
        let ready = ready.filter(|record| record.state.phase() == JobPhase::Ready);
        let longest = ready.min_by_key(|record| record.changed);
        QueueView {
            now: summary.now,
            counts: self.job_counts(),
            live: self.queue.live() as u64,
            live_max: bounds.jobs_live_max as u64,
            live_bytes: summary.jobs_live_bytes,
            live_bytes_max: bounds.jobs_live_bytes_max,
            finished: self.queue.finished().len() as u64,
            sessions: summary.sessions,
            slots: summary.slots,
            slots_used: summary.slots_used,
            tenants: self.tenants(),
            longest_ready: longest.map(|record| (record.id, self.now().since(record.changed))),
        }
    }

    /// Tenants that have unfinished jobs or a share, in the order of their names.
    pub fn tenants(&self) -> Vec<TenantView> {
        let shares = self.tenants.shares();
        let with_jobs = self.queue.tenant_uses().map(|(tenant, _)| tenant);
        let names: BTreeSet<&str> = with_jobs.chain(shares.keys().map(String::as_str)).collect();
        let rows = names.into_iter().map(|tenant| {
            let used = self.queue.tenant_use(tenant);
            TenantView {
                tenant: tenant.to_owned(),
                share: shares.get(tenant).copied(),
                jobs: used.jobs,
                slots: used.slots,
            }
        });
        rows.collect()
    }

    /// The roster, in the order of ids.
    pub fn roster(&self) -> Vec<RosterRow> {
        let entries = self.nodes.roster.values();
        let rows = entries.map(|entry| RosterRow {
            node: entry.clone(),
            session: entry.session.and_then(|id| self.session(id)),
            drained_by: self.drained_by(entry.record.id),
        });
        rows.collect()
    }

    /// A node of the roster.
    pub fn node(&self, node: NodeId) -> Option<&NodeEntry> {
        self.nodes.roster.get(&node)
    }

    /// A live session.
    pub fn session(&self, session: SessionId) -> Option<SessionView> {
        self.nodes.sessions.get(&session).map(session_view)
    }

    /// Whose session it is.
    pub fn session_node(&self, session: SessionId) -> Option<NodeId> {
        let known = self.nodes.sessions.get(&session)?;
        Some(known.record.node)
    }

    /// Live sessions as opened, in the order of ids; a new leader gives each a full time to live.
    pub fn sessions(&self) -> impl Iterator<Item = &SessionRecord> {
        self.nodes.sessions.values().map(|session| &session.record)
    }

    /// Names of the configurations that have had a job, a model or a match.
    pub fn configurations(&self) -> impl Iterator<Item = &ConfigurationName> {
        self.configurations.keys()
    }

    /// A configuration at a glance, ratings fitted now.
    pub fn configuration(&self, name: &ConfigurationName) -> Option<ConfigurationView> {
        let known = self.configurations.get(name)?;
        let ratings = ratings(known);
        let models = known.registry.models();
        let models = models.map(|entry| model_view(known, entry, &ratings));
        let models = models.collect();
        let listed = known.ledger.segments().map(|s| u64::from(s.record.rows));
        let mut ratings: Vec<PlayerRating> = ratings.into_iter().map(player_rating).collect();
        ratings.sort_by_key(|row| std::cmp::Reverse(row.rating.milli_elo));
        Some(ConfigurationView {
            name: name.clone(),
            champion: known.registry.champion(),
            previous: known.registry.previous(),
            latest: known.registry.latest(),
            models,
            ratings,
            ledger: known.ledger.totals(),
            rows_listed: listed.sum(),
        })
    }

    /// The champion of a configuration.
    pub fn champion(&self, name: &ConfigurationName) -> Option<BlobHash> {
        self.configurations.get(name)?.registry.champion()
    }

    /// The model of a configuration registered last, whatever became of it.
    pub fn latest(&self, name: &ConfigurationName) -> Option<BlobHash> {
        self.configurations.get(name)?.registry.latest()
    }

    /// A model of a configuration.
    pub fn model(&self, name: &ConfigurationName, model: BlobHash) -> Option<&ModelEntry> {
        self.configurations.get(name)?.registry.get(model)
    }

    /// Models of a configuration, oldest first, without their ratings: those are fitted by [`State::configuration`].
    pub fn models(&self, name: &ConfigurationName) -> impl Iterator<Item = &ModelEntry> {
        let known = self.configurations.get(name).into_iter();
        known.flat_map(|known| known.registry.models())
    }

    /// A model, the one it was trained from, and so on, as far as the registry knows them.
    pub fn lineage(&self, name: &ConfigurationName, model: BlobHash) -> Vec<&ModelEntry> {
        let known = self.configurations.get(name);
        known.map_or_else(Vec::new, |known| known.registry.lineage(model))
    }

    /// Models waiting for evidence, oldest first.
    pub fn candidates(&self, name: &ConfigurationName) -> impl Iterator<Item = &ModelEntry> {
        self.models(name)
            .filter(|model| model.state == ModelState::Candidate)
    }

    /// All training data ever accepted for a configuration.
    pub fn ledger(&self, name: &ConfigurationName) -> LedgerTotals {
        let known = self.configurations.get(name);
        known.map(|known| known.ledger.totals()).unwrap_or_default()
    }

    /// Listed segments of a configuration, newest first.
    pub fn segments(&self, name: &ConfigurationName) -> impl Iterator<Item = &SegmentEntry> {
        let known = self.configurations.get(name).into_iter();
        known.flat_map(|known| known.ledger.segments().rev())
    }

    /// Nodes known to have a segment, the weights of a model, or a checkpoint.
    pub fn holders(&self, blob: BlobHash) -> Vec<NodeId> {
        let mut holders = Vec::new();
        for configuration in self.configurations.values() {
            let segment = configuration.ledger.holders(blob);
            let model = configuration
                .registry
                .get(blob)
                .map(|m| m.holders.as_slice());
            let both = segment.into_iter().chain(model).flatten();
            both.for_each(|node| crate::ledger::add_holder(&mut holders, *node));
        }
        let checkpoints = self.holds.checkpoints().values();
        let of_blob = checkpoints.filter(|checkpoint| checkpoint.blob == blob);
        of_blob.for_each(|known| crate::ledger::add_holder(&mut holders, known.holder));
        holders
    }

    /// Which of `blobs` something names: a listed segment, a model by its weights or its manifest, or a job that goes on
    /// from it. What the archive names is not looked at; see [`ArchiveBatch::begins`](crate::archive::ArchiveBatch::begins).
    pub fn named(&self, blobs: &[BlobHash]) -> BTreeSet<BlobHash> {
        let mut named: BTreeSet<_> = blobs.iter().copied().collect();
        let models = self.configurations.values();
        let models = models.flat_map(|known| known.registry.models());
        let manifests: BTreeSet<_> = models.map(|model| model.record.manifest).collect();
        let checkpoints = self.holds.checkpoints().values();
        let checkpoints: BTreeSet<_> = checkpoints.map(|known| known.blob).collect();
        named.retain(|blob| {
            let of_configuration = |known: &Configuration| {
                known.ledger.holders(*blob).is_some() || known.registry.get(*blob).is_some()
            };
            manifests.contains(blob)
                || checkpoints.contains(blob)
                || self.configurations.values().any(of_configuration)
        });
        named
    }

    /// All games of a configuration, per pair of players.
    pub fn pairs(&self, name: &ConfigurationName) -> Vec<PairView> {
        let known = self.configurations.get(name).into_iter();
        let scores = known.flat_map(|known| known.pairs.scores());
        let rows = scores.map(|(first, second, score)| PairView {
            first: first.clone(),
            second: second.clone(),
            first_wins: score.first,
            second_wins: score.second,
        });
        rows.collect()
    }
}

fn session_view(session: &Session) -> SessionView {
    SessionView {
        record: session.record.clone(),
        slots_used: session.slots_used,
        cuda_used: session.cuda_used,
        jobs: session.held.iter().copied().collect(),
    }
}

fn ratings(configuration: &Configuration) -> BTreeMap<Player, Rating> {
    let scores = configuration.pairs.scores();
    let games = scores.map(|(a, b, score)| (a.clone(), b.clone(), score.first, score.second));
    let games: Vec<_> = games.collect();
    fit(&games, |model| {
        let entry = configuration.registry.get(model)?;
        entry.record.parent
    })
}

fn player_rating((player, rating): (Player, Rating)) -> PlayerRating {
    PlayerRating { player, rating }
}

fn model_view(
    configuration: &Configuration,
    entry: &ModelEntry,
    ratings: &BTreeMap<Player, Rating>,
) -> ModelView {
    let hash = entry.record.hash;
    let budgets = ratings
        .iter()
        .filter(|(player, _)| player.model() == Some(hash));
    // Among equal numbers of games the later in the order of players wins: the larger budget.
    let most = budgets.max_by_key(|(_, rating)| rating.games);
    ModelView {
        entry: entry.clone(),
        champion: configuration.registry.champion() == Some(hash),
        rating: most.map(|(player, rating)| player_rating((player.clone(), *rating))),
        evidence: configuration.registry.evidence(entry),
    }
}
