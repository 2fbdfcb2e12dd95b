//! Which jobs the loop needs next. A pure function of facts: no clock, no I/O, the same facts give the same plan.

use std::collections::BTreeMap;

use riftmesh_base::{BlobHash, Millis};
use riftmesh_statemachine::job::{JobKind, JobSpec, Player, RetryPolicy};

use super::settings::LoopSettings;
use crate::job::payload::{Payload, TrainOrder};
use crate::job::run::CONCURRENT;

/// Granted before self-play: a match that decides a promotion.
const PRIORITY_MATCH: u8 = 150;
/// Granted before self-play: training.
const PRIORITY_TRAIN: u8 = 140;
/// Granted before self-play, after everything that the loop waits for: yardstick matches for the report.
const PRIORITY_YARDSTICK: u8 = 120;
/// Self-play fills whatever is left.
const PRIORITY_SELFPLAY: u8 = 100;
/// Segments named in one training job: their hashes have to fit the payload.
const SEGMENTS_MAX: usize = 200;
/// After this many rejections in a row training starts from the champion again.
const REJECTIONS_MAX: usize = 3;

/// Deaths in a row of one kind of job before the next ones are held back.
const DEATHS_BORNE: u32 = 3;
/// The longest that a job is held back for the deaths of others.
const PATIENCE_MAX: Millis = Millis::from_secs(60);

/// What the plan depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoopFacts {
    /// Slots of all open sessions.
    pub slots: u32,
    /// Jobs of this configuration that are not finished.
    pub live: Vec<LiveJob>,
    /// Rows accepted so far.
    pub rows: u64,
    /// Segments in the ledger, oldest first.
    pub segments: Vec<SegmentFact>,
    /// Models, oldest first.
    pub models: Vec<ModelFact>,
    /// The champion.
    pub champion: Option<BlobHash>,
    /// Cluster time.
    pub now: Millis,
    /// For each kind, how many of its newest finished jobs died in a row.
    pub deaths: BTreeMap<JobKind, u32>,
    /// Rises with every change of the state; makes keys of jobs that may exist several times unique.
    pub serial: u64,
}

/// An unfinished job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveJob {
    pub kind: JobKind,
    pub key: Option<String>,
}

/// A replay segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentFact {
    pub hash: BlobHash,
    pub rows: u32,
}

/// A model in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFact {
    pub hash: BlobHash,
    pub standing: Standing,
    /// Ledger rows when its training was planned.
    pub rows: u64,
    /// Games of evidence it has against the champion.
    pub evidence_games: u32,
    /// A bare-policy match against random has been counted.
    pub bare_match: bool,
    /// A searched match against random has been counted: connects its rating to the anchor.
    pub anchor_match: bool,
}

/// Where a model stands, as far as the plan cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Candidate,
    Rejected,
    Other,
}

/// The jobs to submit now.
pub fn plan(facts: &LoopFacts, settings: &LoopSettings) -> Vec<JobSpec> {
    if facts.slots == 0 {
        return Vec::new();
    }
    let mut jobs = Vec::new();
    jobs.extend(match_jobs(facts, settings));
    jobs.extend(train_job(facts, settings));
    jobs.extend(yardstick_jobs(facts, settings));
    jobs.extend(selfplay_jobs(facts, settings));
    for job in &mut jobs {
        job.not_before = patience(facts, job.kind);
    }
    jobs
}

/// Whether a job of this plan gives way to a more urgent one: where stopping loses little. A training run goes on where it
/// stopped. Of self-play the finished games are kept, and in a job whose games are all in play at once none is finished
/// before the end is near. A match begins anew, and something waits for it.
pub fn gives_way(job: &JobSpec) -> bool {
    match Payload::from_json(&job.payload) {
        Ok(Payload::Train(_)) => true,
        Ok(Payload::Selfplay { games, .. }) => games as usize > CONCURRENT,
        Ok(Payload::Evaluate { .. }) | Err(_) => false,
    }
}

/// Jobs of a kind that keeps dying come ever more slowly: whatever is wrong with them, a flood of more will not mend it,
/// and one now and then notices when somebody has.
fn patience(facts: &LoopFacts, kind: JobKind) -> Millis {
    let deaths = facts.deaths.get(&kind).copied().unwrap_or(0);
    if deaths < DEATHS_BORNE {
        return Millis(0);
    }
    let doublings = (deaths - DEATHS_BORNE).min(10);
    Millis(facts.now.0 + (1_000u64 << doublings).min(PATIENCE_MAX.0))
}

/// One self-play job per slot and one ahead, so that no slot waits for the leader.
fn selfplay_jobs(facts: &LoopFacts, settings: &LoopSettings) -> Vec<JobSpec> {
    let wanted = facts.slots as usize + 1;
    let live = facts
        .live
        .iter()
        .filter(|job| job.kind == JobKind::Selfplay)
        .count();
    (live..wanted)
        .enumerate()
        .map(|(i, _)| {
            let payload = Payload::Selfplay {
                beginner: settings.beginner,
                seed: settings.seed,
                games: settings.games_per_job,
                simulations: settings.selfplay_simulations,
                full_percent: settings.full_percent,
                shape: settings.shape.clone(),
            };
            let key = format!(
                "selfplay/{}/{}",
                settings.configuration,
                format_args!("{}.{i}", facts.serial)
            );
            job(settings, JobKind::Selfplay, payload, PRIORITY_SELFPLAY, key)
        })
        .collect()
}

/// The next training, when enough new rows came in since the last one and no candidate waits for its verdict.
fn train_job(facts: &LoopFacts, settings: &LoopSettings) -> Option<JobSpec> {
    let busy = facts.live.iter().any(|job| job.kind == JobKind::Train);
    let undecided = facts
        .models
        .iter()
        .any(|model| model.standing == Standing::Candidate);
    let last = facts.models.last();
    let new_rows = facts
        .rows
        .saturating_sub(last.map_or(0, |model| model.rows));
    let needed = if last.is_some() {
        settings.rows_step
    } else {
        settings.rows_first
    };
    if busy || undecided || new_rows < needed {
        return None;
    }
    let parent = parent(facts);
    let order = TrainOrder {
        seed: settings.seed,
        shape: settings.shape.clone(),
        parent: parent.map(|model| model.hash),
        segments: window(facts, settings.window(facts.rows)),
        steps: (new_rows * settings.reuse_percent / 100 / u64::from(settings.batch))
            .clamp(1, settings.steps_max),
        batch: settings.batch,
        rows: facts.rows,
    };
    let payload = Payload::Train(order);
    let key = format!("train/{}/{}", settings.configuration, facts.models.len());
    Some(job(settings, JobKind::Train, payload, PRIORITY_TRAIN, key))
}

/// What to train on from: the latest network, unless it has lost its way.
fn parent(facts: &LoopFacts) -> Option<&ModelFact> {
    let rejections = facts
        .models
        .iter()
        .rev()
        .take_while(|model| model.standing == Standing::Rejected)
        .count();
    if rejections > 0 && rejections % REJECTIONS_MAX == 0 {
        facts
            .models
            .iter()
            .find(|model| Some(model.hash) == facts.champion)
    } else {
        facts.models.last()
    }
}

/// The newest segments that together have `rows` rows, oldest first.
fn window(facts: &LoopFacts, rows: u64) -> Vec<BlobHash> {
    let mut have = 0;
    let mut hashes: Vec<_> = facts
        .segments
        .iter()
        .rev()
        .take(SEGMENTS_MAX)
        .take_while(|segment| {
            let more = have < rows;
            have += u64::from(segment.rows);
            more
        })
        .map(|segment| segment.hash)
        .collect();
    hashes.reverse();
    hashes
}

/// The next chunk of the match that decides about the oldest candidate. One chunk per two slots runs at a time, so
/// that self-play goes on beside it.
fn match_jobs(facts: &LoopFacts, settings: &LoopSettings) -> Vec<JobSpec> {
    let Some(candidate) = facts
        .models
        .iter()
        .find(|model| model.standing == Standing::Candidate)
    else {
        return Vec::new();
    };
    let simulations = settings.match_simulations;
    let opponent = match facts.champion {
        Some(model) => Player::Model { model, simulations },
        None => Player::Untrained { simulations },
    };
    let against = facts
        .champion
        .map_or_else(|| "untrained".to_owned(), |model| model.short());
    let prefix = format!("match/{}/{against}/", candidate.hash.short());
    let live = live_with(facts, &prefix);
    let wanted = (facts.slots as usize / 2).max(1);
    (live..wanted)
        .enumerate()
        .map(|(i, _)| {
            let player = Player::Model {
                model: candidate.hash,
                simulations,
            };
            let key = format!("{prefix}{}.{i}", facts.serial);
            versus(
                settings,
                player,
                opponent.clone(),
                settings.games_per_match,
                PRIORITY_MATCH,
                key,
            )
        })
        .collect()
}

/// For the champion: how its bare policy, and its search, do against random.
fn yardstick_jobs(facts: &LoopFacts, settings: &LoopSettings) -> Vec<JobSpec> {
    let Some(champion) = facts
        .models
        .iter()
        .find(|model| Some(model.hash) == facts.champion)
    else {
        return Vec::new();
    };
    let yardsticks = [
        (champion.bare_match, "bare", 0, settings.bare_games),
        (
            champion.anchor_match,
            "anchor",
            settings.match_simulations,
            settings.games_per_match,
        ),
    ];
    yardsticks
        .into_iter()
        .map(|(counted, name, simulations, games)| {
            (
                counted,
                format!("yardstick/{name}/{}", champion.hash.short()),
                simulations,
                games,
            )
        })
        .filter(|(counted, key, ..)| !counted && live_with(facts, key) == 0)
        .map(|(_, key, simulations, games)| {
            let player = Player::Model {
                model: champion.hash,
                simulations,
            };
            versus(
                settings,
                player,
                Player::Random,
                games,
                PRIORITY_YARDSTICK,
                key,
            )
        })
        .collect()
}

fn live_with(facts: &LoopFacts, prefix: &str) -> usize {
    facts
        .live
        .iter()
        .filter(|job| {
            job.key
                .as_deref()
                .is_some_and(|key| key.starts_with(prefix))
        })
        .count()
}

/// A match job between any two players.
pub fn versus(
    settings: &LoopSettings,
    candidate: Player,
    opponent: Player,
    games: u32,
    priority: u8,
    key: String,
) -> JobSpec {
    let payload = Payload::Evaluate {
        seed: settings.seed,
        shape: settings.shape.clone(),
        candidate,
        opponent,
        games,
    };
    job(settings, JobKind::Evaluate, payload, priority, key)
}

fn job(
    settings: &LoopSettings,
    kind: JobKind,
    payload: Payload,
    priority: u8,
    key: String,
) -> JobSpec {
    JobSpec {
        priority,
        unique_key: Some(key),
        retry: RetryPolicy {
            attempts_max: 5,
            backoff: Millis(2_000),
            backoff_max: Millis(30_000),
        },
        ..JobSpec::plain(kind, settings.configuration.clone(), payload.to_json())
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
