//! What clients were promised, written down as they were told, and compared with what the replicas hold in the end.
//!
//! The oracle sees replies and final states, never the inside of a run, and keeps a second, much simpler account of the
//! queue. It knows nothing of leases, heaps or indexes.

use std::collections::{BTreeMap, BTreeSet};

use riftmesh_base::{BlobHash, JobId, LogIndex, NodeId, SessionId, Token};
use riftmesh_statemachine::job::{Grant, JobPhase, JobRecord, Output};
use riftmesh_statemachine::query::JobFilter;
use riftmesh_statemachine::{State, Violation};

use crate::jobs::{GAMES_PER_JOB, configuration, marker_of, segment};

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// A submission was acknowledged with this job, and the job does not exist or is another one.
    #[error("lost: {job} was acknowledged for submission {marker}")]
    LostJob {
        /// The job.
        job: JobId,
        /// The submission.
        marker: u64,
    },
    /// A submission made two jobs, or a job that nobody submitted.
    #[error(
        "invented: {job} carries submission {marker}, which nobody sent or which made another job"
    )]
    InventedJob {
        /// The job.
        job: JobId,
        /// The submission it carries.
        marker: u64,
    },
    /// After the faults ended, a job was not done in time.
    #[error("stuck: {job} is {phase} after the heal phase")]
    Stuck {
        /// The job.
        job: JobId,
        /// Where it stands.
        phase: JobPhase,
    },
    /// Completions of one job were acknowledged under different tokens.
    #[error("completed twice: {job} under {tokens:?}")]
    CompletedTwice {
        /// The job.
        job: JobId,
        /// The tokens.
        tokens: Vec<Token>,
    },
    /// A completion was acknowledged, and the job is not what that completion made of it.
    #[error("a stale completion was acknowledged: {job} under {token}")]
    StaleCompletion {
        /// The job.
        job: JobId,
        /// The token it was sent under.
        token: Token,
    },
    /// A token was given twice.
    #[error("{token} was granted for {first} and for {second}")]
    TokenReused {
        /// The token.
        token: Token,
        /// The one.
        first: JobId,
        /// The other.
        second: JobId,
    },
    /// A token claims to be of a later entry than the one that gave it.
    #[error("{token} of {job} was granted by entry {index}")]
    TokenFromFuture {
        /// The job.
        job: JobId,
        /// The token.
        token: Token,
        /// The entry.
        index: LogIndex,
    },
    /// A job was granted under an older token than one that was granted before.
    #[error("{job} was granted under {later} after {earlier}")]
    TokenFell {
        /// The job.
        job: JobId,
        /// Granted by an earlier entry.
        earlier: Token,
        /// Granted by a later entry.
        later: Token,
    },
    /// A checkpoint was acknowledged, and a later grant of its job does not carry it or a later one.
    #[error("{job} was saved at {saved} and granted from {from:?}")]
    CheckpointLost {
        /// The job.
        job: JobId,
        /// How far it was saved.
        saved: u64,
        /// From where it was granted, if from anywhere.
        from: Option<u64>,
    },
    /// A node was granted work after it was acknowledged to be drained and before anybody said otherwise.
    #[error(
        "{job} was granted to {node} by entry {index}, and the node was drained by entry {drained}"
    )]
    GrantedWhileDrained {
        /// The job.
        job: JobId,
        /// The node.
        node: NodeId,
        /// The granting entry.
        index: LogIndex,
        /// The draining entry.
        drained: LogIndex,
    },
    /// The games counted are not those of the jobs done.
    #[error("{counted} games are counted, the jobs done made {made}")]
    GamesMiscounted {
        /// In the ledger.
        counted: u64,
        /// By the jobs done.
        made: u64,
    },
    /// Two replicas differ at the same index.
    #[error("replicas differ at entry {index}")]
    Diverged {
        /// The entry.
        index: LogIndex,
    },
    /// A linearizable read was answered from a state older than something acknowledged before the read began.
    #[error("a linearizable read saw entry {seen}; entry {acknowledged} had been acknowledged")]
    StaleRead {
        /// Acknowledged before.
        acknowledged: LogIndex,
        /// What the state stood at.
        seen: LogIndex,
    },
    /// The state breaks a rule of its own.
    #[error("{0}")]
    Invariant(Violation),
}

/// The account of one run.
#[derive(Debug, Clone, Default)]
pub struct Oracle {
    sent: BTreeSet<u64>,
    submitted: BTreeMap<JobId, u64>,
    grants: BTreeMap<Token, (JobId, SessionId)>,
    /// By job, the index of the granting entry and the token.
    granted: BTreeMap<JobId, BTreeSet<(LogIndex, Token)>>,
    completed: BTreeMap<JobId, BTreeSet<Token>>,
    /// The last acknowledged checkpoint of each job: under which token, and how far it was.
    saved: BTreeMap<JobId, (Token, u64)>,
    /// Nodes that are drained for sure, and by which entry.
    drained: BTreeMap<NodeId, LogIndex>,
    /// Grants that carried a checkpoint.
    resumed: usize,
    hashes: BTreeMap<LogIndex, BlobHash>,
    /// The highest entry that some client was told of.
    acknowledged: LogIndex,
    reads: usize,
    breaches: Vec<Breach>,
}

impl Oracle {
    /// A client sends a submission.
    pub fn sending(&mut self, marker: u64) {
        self.sent.insert(marker);
    }

    /// A client is told the job of its submission.
    pub fn submitted(&mut self, marker: u64, job: JobId) {
        if let Some(other) = self.submitted.insert(job, marker)
            && other != marker
        {
            self.breaches.push(Breach::LostJob { job, marker: other });
        }
    }

    /// A worker is given a grant, by the entry at `index` or, when the reply is a repeat, an earlier one.
    /// `from` is how far the job was when it was saved last, if the grant says so.
    pub fn granted(
        &mut self,
        index: LogIndex,
        (session, node): (SessionId, NodeId),
        grant: &Grant,
        from: Option<u64>,
    ) {
        let (job, token) = (grant.job, grant.token);
        let given_at = LogIndex(token.0 >> 16);
        self.resumed += usize::from(from.is_some());
        let saved = self.saved.get(&job).filter(|(under, _)| *under < token);
        if let Some((_, saved)) = saved
            && from.is_none_or(|from| from < *saved)
        {
            let saved = *saved;
            self.breaches
                .push(Breach::CheckpointLost { job, saved, from });
        }
        if let Some(drained) = self.drained.get(&node).filter(|at| **at < given_at) {
            self.breaches.push(Breach::GrantedWhileDrained {
                job,
                node,
                index: given_at,
                drained: *drained,
            });
        }
        if given_at > index {
            self.breaches
                .push(Breach::TokenFromFuture { job, token, index });
        }
        let first = *self.grants.entry(token).or_insert((job, session));
        if first != (job, session) {
            self.breaches.push(Breach::TokenReused {
                token,
                first: first.0,
                second: job,
            });
        }
        self.granted.entry(job).or_default().insert((index, token));
    }

    /// A worker is told that its completion counts.
    pub fn completed(&mut self, job: JobId, token: Token) {
        self.completed.entry(job).or_default().insert(token);
    }

    /// A worker is told that its checkpoint is noted.
    pub fn saved(&mut self, job: JobId, token: Token, done: u64) {
        self.saved.insert(job, (token, done));
    }

    /// How many grants carried a checkpoint.
    pub fn resumed(&self) -> usize {
        self.resumed
    }

    /// The operator is told that a node is drained, by the entry at `index`.
    pub fn drained(&mut self, node: NodeId, index: LogIndex) {
        self.drained.insert(node, index);
    }

    /// The operator is about to let a node work again.
    pub fn undraining(&mut self, node: NodeId) {
        self.drained.remove(&node);
    }

    /// A client is told of the entry at `index`.
    pub fn acknowledged(&mut self, index: LogIndex) {
        self.acknowledged = self.acknowledged.max(index);
    }

    /// The highest entry that some client was told of: a linearizable read that begins now must see it.
    pub fn must_be_seen(&self) -> LogIndex {
        self.acknowledged
    }

    /// A linearizable read that began when `acknowledged` had to be seen was answered at `seen`.
    pub fn read(&mut self, acknowledged: LogIndex, seen: LogIndex) {
        self.reads += 1;
        if seen < acknowledged {
            self.breaches.push(Breach::StaleRead { acknowledged, seen });
        }
    }

    /// How many linearizable reads were answered.
    pub fn reads(&self) -> usize {
        self.reads
    }

    /// A replica has applied everything up to `index`, and this is the hash of its state.
    pub fn replica_at(&mut self, index: LogIndex, hash: BlobHash) {
        if *self.hashes.entry(index).or_insert(hash) != hash {
            self.breaches.push(Breach::Diverged { index });
        }
    }

    /// How many submissions, grants and completions were acknowledged, so that a run can be seen to have done something.
    pub fn counts(&self) -> (usize, usize, usize) {
        (
            self.submitted.len(),
            self.grants.len(),
            self.completed.len(),
        )
    }

    /// What was broken so far, whatever the state will be in the end.
    pub fn breaches(&self) -> &[Breach] {
        &self.breaches
    }

    /// Whether every acknowledged submission is finished in `state`, and so is whatever else is in its queue.
    pub fn is_settled(&self, state: &State) -> bool {
        let finished = |job: &JobId| {
            state
                .job_record(*job)
                .is_some_and(|record| record.state.phase().is_final())
        };
        let mut live = JobPhase::ALL.into_iter().filter(|phase| !phase.is_final());
        live.all(|phase| state.jobs_in(phase) == 0) && self.submitted.keys().all(finished)
    }

    /// Everything that is broken, given the state the replicas agree on after the heal phase.
    pub fn judge(&self, state: &State) -> Vec<Breach> {
        let mut breaches = self.breaches.clone();
        self.judge_submissions(state, &mut breaches);
        self.judge_completions(state, &mut breaches);
        self.judge_tokens(&mut breaches);
        self.judge_games(state, &mut breaches);
        if let Err(violations) = state.validate() {
            breaches.extend(violations.into_iter().map(Breach::Invariant));
        }
        breaches
    }

    fn judge_submissions(&self, state: &State, breaches: &mut Vec<Breach>) {
        for (&job, &marker) in &self.submitted {
            if state.job_record(job).and_then(marker_of) != Some(marker) {
                breaches.push(Breach::LostJob { job, marker });
            }
        }
        let mut seen = BTreeSet::new();
        for record in all_jobs(state) {
            let (job, phase) = (record.id, record.state.phase());
            let marker = marker_of(record).unwrap_or(u64::MAX);
            if !self.sent.contains(&marker) || !seen.insert(marker) {
                breaches.push(Breach::InventedJob { job, marker });
            }
            if phase != JobPhase::Done {
                breaches.push(Breach::Stuck { job, phase });
            }
        }
    }

    fn judge_completions(&self, state: &State, breaches: &mut Vec<Breach>) {
        for (&job, tokens) in &self.completed {
            if tokens.len() > 1 {
                let tokens = tokens.iter().copied().collect();
                breaches.push(Breach::CompletedTwice { job, tokens });
            }
            for &token in tokens {
                if !is_made_under(state, job, token) {
                    breaches.push(Breach::StaleCompletion { job, token });
                }
            }
        }
    }

    fn judge_tokens(&self, breaches: &mut Vec<Breach>) {
        for (&job, grants) in &self.granted {
            let mut highest = Token(0);
            for &(index, token) in grants {
                // A repeated reply carries the old token under a later index.
                let repeat = LogIndex(token.0 >> 16) < index;
                if token < highest && !repeat {
                    breaches.push(Breach::TokenFell {
                        job,
                        earlier: highest,
                        later: token,
                    });
                }
                highest = highest.max(token);
            }
        }
    }

    fn judge_games(&self, state: &State, breaches: &mut Vec<Breach>) {
        let made = state.jobs_in(JobPhase::Done) * u64::from(GAMES_PER_JOB);
        let counted = state
            .configuration(&configuration())
            .map_or(0, |view| view.ledger.games);
        if counted != made {
            breaches.push(Breach::GamesMiscounted { counted, made });
        }
    }
}

/// Whether `job` is done with what the holder of `token` made of it. A job that is no longer listed passes.
fn is_made_under(state: &State, job: JobId, token: Token) -> bool {
    state.job_record(job).is_none_or(|record| {
        let same = |output: &Output| match output {
            Output::Segment(made) => made.hash == segment(job, token, made.holder).hash,
            Output::Model(_) | Output::Match(_) => false,
        };
        record.last_token == Some(token)
            && record.outputs.len() == 1
            && record.outputs.iter().all(same)
    })
}

fn all_jobs(state: &State) -> Vec<&JobRecord> {
    let every = JobFilter {
        limit: usize::MAX,
        ..JobFilter::default()
    };
    state.jobs(&every)
}
