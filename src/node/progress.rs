//! The learning loop in numbers: pure but for the manifest of the latest model, which is read from this node's disk.

use riftmesh_statemachine::job::{JobKind, JobRecord, MatchRecord, Output, Player};
use riftmesh_statemachine::models::ModelState;
use riftmesh_statemachine::query::{ConfigurationView, ModelView};

use super::answer::StateFacts;
use crate::answers::{ChampionAnswer, ProgressAnswer, RunningAnswer, VerdictAnswer};
use crate::blobs::BlobAccess;

/// Metrics of a manifest that are shown: mean losses over the last steps of the training, by head.
const LOSS_PREFIX: &str = "training_";

/// One answer per configuration.
pub fn all(facts: &StateFacts, blobs: &BlobAccess) -> Vec<ProgressAnswer> {
    facts
        .configurations
        .iter()
        .map(|view| one(facts, view, blobs))
        .collect()
}

fn one(facts: &StateFacts, view: &ConfigurationView, blobs: &BlobAccess) -> ProgressAnswer {
    let running: Vec<_> = facts
        .running
        .iter()
        .filter(|job| job.spec.configuration == view.name)
        .collect();
    ProgressAnswer {
        configuration: view.name.clone(),
        phase: phase(&running),
        games: view.ledger.games,
        rows: view.ledger.rows,
        now_ms: facts.summary.now.0,
        running: running
            .iter()
            .filter_map(|job| running_answer(job))
            .collect(),
        champion: view
            .models
            .iter()
            .find(|model| model.champion)
            .map(champion),
        verdicts: view.models.iter().filter_map(verdict).collect(),
        last_match: facts
            .matches
            .iter()
            .find(|job| job.spec.configuration == view.name)
            .and_then(last_match),
        losses: view
            .models
            .last()
            .map(|model| losses(model, blobs))
            .unwrap_or_default(),
    }
}

/// The kinds that run, in the order of the loop.
fn phase(running: &[&JobRecord]) -> String {
    let kinds = [JobKind::Selfplay, JobKind::Train, JobKind::Evaluate];
    let running: Vec<_> = kinds
        .into_iter()
        .filter(|kind| running.iter().any(|job| job.spec.kind == *kind))
        .map(|kind| kind.to_string())
        .collect();
    if running.is_empty() {
        "idle".to_owned()
    } else {
        running.join(" + ")
    }
}

fn running_answer(job: &JobRecord) -> Option<RunningAnswer> {
    let lease = job.state.lease()?;
    let (done, total) = job.progress;
    Some(RunningAnswer {
        job: job.id,
        kind: job.spec.kind,
        node: lease.node,
        done,
        total,
    })
}

fn champion(model: &ModelView) -> ChampionAnswer {
    ChampionAnswer {
        number: model.entry.number,
        model: model.entry.record.hash,
        rating_milli_elo: model.rating.as_ref().map(|rated| rated.rating.milli_elo),
        standard_error_milli_elo: model
            .rating
            .as_ref()
            .map(|rated| rated.rating.standard_error),
        holders: model.entry.holders.len(),
    }
}

fn verdict(model: &ModelView) -> Option<VerdictAnswer> {
    let promoted = match &model.entry.state {
        ModelState::Candidate => return None,
        ModelState::Rejected { .. } => false,
        ModelState::Promoted | ModelState::Superseded | ModelState::RolledBack { .. } => true,
    };
    Some(VerdictAnswer {
        number: model.entry.number,
        model: model.entry.record.hash,
        promoted,
        reason: model.entry.verdict.clone(),
    })
}

fn last_match(job: &JobRecord) -> Option<String> {
    job.outputs.iter().find_map(|output| match output {
        Output::Match(MatchRecord {
            candidate,
            opponent,
            wins,
            losses,
        }) => Some(format!(
            "{} against {}: {wins}-{losses}",
            player(candidate),
            player(opponent)
        )),
        Output::Segment(_) | Output::Model(_) => None,
    })
}

/// A player for people.
fn player(player: &Player) -> String {
    match player {
        Player::Random => "random".to_owned(),
        Player::Heuristic => "the heuristic".to_owned(),
        Player::Untrained { simulations } => format!("untrained at n = {simulations}"),
        Player::Model {
            model,
            simulations: 0,
        } => format!("{} bare", model.short()),
        Player::Model { model, simulations } => format!("{} at n = {simulations}", model.short()),
    }
}

fn losses(model: &ModelView, blobs: &BlobAccess) -> Vec<(String, f64)> {
    let Some(bytes) = blobs.read(&model.entry.record.manifest) else {
        return Vec::new();
    };
    let Ok(manifest) = serde_json::from_slice::<serde_json::Value>(&bytes) else {
        return Vec::new();
    };
    let metrics = manifest
        .get("metrics")
        .and_then(|metrics| metrics.as_object());
    metrics
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| {
            Some((name.strip_prefix(LOSS_PREFIX)?.to_owned(), value.as_f64()?))
        })
        .collect()
}
