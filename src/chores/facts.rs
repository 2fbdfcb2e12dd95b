//! From the replicated state to the plain facts that the plan works on.

use std::collections::{BTreeMap, BTreeSet};

use riftmesh_base::{BlobHash, ConfigurationName};
use riftmesh_statemachine::State;
use riftmesh_statemachine::job::{JobKind, JobPhase, Player};
use riftmesh_statemachine::models::{ModelEntry, ModelState};
use riftmesh_statemachine::query::{JobFilter, PairView};

use super::plan::{LiveJob, LoopFacts, ModelFact, SegmentFact, Standing};

/// Phases of jobs that are not finished.
const LIVE: [JobPhase; 5] = [
    JobPhase::Waiting,
    JobPhase::Delayed,
    JobPhase::Ready,
    JobPhase::Leased,
    JobPhase::Cancelling,
];
/// Unfinished jobs looked at, per phase. More than this is a backlog, and the plan adds nothing to a backlog.
const LIVE_LOOKED_AT: usize = 10_000;
/// Listed segments looked at: the window never names more.
const SEGMENTS_LOOKED_AT: usize = 256;

/// Newest jobs looked at for deaths in a row.
const DEATHS_LOOKED_AT: usize = 64;

/// The facts of one configuration.
pub fn of(state: &State, name: &ConfigurationName) -> LoopFacts {
    let pairs = state.pairs(name);
    let segments = state.segments(name).take(SEGMENTS_LOOKED_AT);
    let mut segments: Vec<_> = segments
        .map(|entry| SegmentFact {
            hash: entry.record.hash,
            rows: entry.record.rows,
        })
        .collect();
    segments.reverse();
    LoopFacts {
        slots: state
            .sessions()
            .map(|session| u32::from(session.slots))
            .sum(),
        live: live(state, name),
        rows: state.ledger(name).rows,
        segments,
        models: state
            .models(name)
            .map(|entry| model(state, name, entry, &pairs))
            .collect(),
        champion: state.champion(name),
        now: state.now(),
        deaths: deaths(state, name),
        serial: state.applied().0,
    }
}

/// For each kind, how many of its newest finished jobs died in a row.
fn deaths(state: &State, name: &ConfigurationName) -> BTreeMap<JobKind, u32> {
    let filter = JobFilter {
        configuration: Some(name.clone()),
        limit: DEATHS_LOOKED_AT,
        ..JobFilter::default()
    };
    let mut deaths = BTreeMap::new();
    let mut broken = BTreeSet::new();
    for job in state.jobs(&filter) {
        let kind = job.spec.kind;
        match job.state.phase() {
            JobPhase::Dead if !broken.contains(&kind) => *deaths.entry(kind).or_default() += 1,
            JobPhase::Done => drop(broken.insert(kind)),
            _ => {}
        }
    }
    deaths
}

fn live(state: &State, name: &ConfigurationName) -> Vec<LiveJob> {
    let mut jobs = Vec::new();
    for phase in LIVE.into_iter().filter(|phase| state.jobs_in(*phase) > 0) {
        let filter = JobFilter {
            phase: Some(phase),
            configuration: Some(name.clone()),
            limit: LIVE_LOOKED_AT,
            ..JobFilter::default()
        };
        jobs.extend(state.jobs(&filter).into_iter().map(|job| LiveJob {
            kind: job.spec.kind,
            key: job.spec.unique_key.clone(),
        }));
    }
    jobs
}

fn model(
    state: &State,
    name: &ConfigurationName,
    entry: &ModelEntry,
    pairs: &[PairView],
) -> ModelFact {
    let hash = entry.record.hash;
    let current = entry.evidence.opponent == state.champion(name);
    ModelFact {
        hash,
        standing: match entry.state {
            ModelState::Candidate => Standing::Candidate,
            ModelState::Rejected { .. } => Standing::Rejected,
            ModelState::Promoted | ModelState::Superseded | ModelState::RolledBack { .. } => {
                Standing::Other
            }
        },
        rows: entry.record.rows,
        evidence_games: if current {
            entry.evidence.wins + entry.evidence.losses
        } else {
            0
        },
        bare_match: met_random(pairs, hash, |simulations| simulations == 0),
        anchor_match: met_random(pairs, hash, |simulations| simulations > 0),
    }
}

/// Whether a model has played random at a budget of this kind.
fn met_random(pairs: &[PairView], hash: BlobHash, budget: impl Fn(u32) -> bool) -> bool {
    let is_model = |player: &Player| matches!(player, Player::Model { model, simulations } if *model == hash && budget(*simulations));
    pairs.iter().any(|pair| {
        let players = [&pair.first, &pair.second];
        players.contains(&&Player::Random) && players.into_iter().any(is_model)
    })
}
