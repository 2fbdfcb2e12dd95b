//! The plan for hand-made facts: each test is one sentence about the loop.

use riftmesh_base::Seed;

use super::*;
use crate::chores::settings::Preset;

fn settings() -> LoopSettings {
    LoopSettings::preset(Preset::Tiny, "hex8_2p".parse().unwrap(), Seed(7))
}

fn hash(n: u8) -> BlobHash {
    BlobHash([n; 32])
}

fn model(n: u8, standing: Standing) -> ModelFact {
    ModelFact {
        hash: hash(n),
        standing,
        rows: u64::from(n) * 2_000,
        evidence_games: 0,
        bare_match: true,
        anchor_match: true,
    }
}

fn facts(rows: u64) -> LoopFacts {
    let segments = (0..rows / 500)
        .map(|n| SegmentFact {
            hash: hash(n as u8),
            rows: 500,
        })
        .collect();
    LoopFacts {
        slots: 2,
        rows,
        segments,
        serial: 40,
        ..LoopFacts::default()
    }
}

fn kinds(jobs: &[JobSpec]) -> Vec<JobKind> {
    jobs.iter().map(|job| job.kind).collect()
}

fn live(jobs: &[JobSpec]) -> Vec<LiveJob> {
    jobs.iter()
        .map(|job| LiveJob {
            kind: job.kind,
            key: job.unique_key.clone(),
        })
        .collect()
}

#[test]
fn without_workers_nothing_is_queued() {
    assert!(
        plan(
            &LoopFacts {
                slots: 0,
                ..facts(9_000)
            },
            &settings()
        )
        .is_empty()
    );
}

#[test]
fn a_new_loop_begins_with_self_play_one_ahead_of_the_slots() {
    let jobs = plan(&facts(0), &settings());
    assert_eq!(kinds(&jobs), [JobKind::Selfplay; 3]);
    assert_eq!(jobs[2].unique_key.as_deref(), Some("selfplay/hex8_2p/40.2"));
}

/// Planning again before anything ran must add nothing: chores run many times a second.
#[test]
fn a_plan_that_was_submitted_is_not_made_again() {
    let mut facts = facts(2_000);
    facts.champion = Some(hash(9));
    facts.models = vec![
        ModelFact {
            bare_match: false,
            anchor_match: false,
            rows: 0,
            ..model(9, Standing::Other)
        },
        model(1, Standing::Candidate),
    ];
    let jobs = plan(&facts, &settings());
    assert_eq!(jobs.len(), 6, "{jobs:?}");
    facts.live = live(&jobs);
    assert!(plan(&facts, &settings()).is_empty());
}

#[test]
fn enough_new_rows_bring_a_training_with_a_bounded_number_of_steps() {
    assert!(!kinds(&plan(&facts(13_999), &settings())).contains(&JobKind::Train));
    let jobs = plan(&facts(14_000), &settings());
    let train = jobs.iter().find(|job| job.kind == JobKind::Train).unwrap();
    let Payload::Train(order) = Payload::from_json(&train.payload).unwrap() else {
        panic!("{}", train.payload);
    };
    assert_eq!(
        (order.steps, order.segments.len(), order.parent, order.rows),
        (164, 28, None, 14_000)
    );
}

#[test]
fn no_training_while_a_candidate_waits_for_its_verdict() {
    let mut facts = facts(30_000);
    facts.models = vec![model(1, Standing::Rejected)];
    assert!(kinds(&plan(&facts, &settings())).contains(&JobKind::Train));
    facts.models = vec![model(1, Standing::Candidate)];
    let kinds = kinds(&plan(&facts, &settings()));
    assert!(!kinds.contains(&JobKind::Train));
    assert_eq!(
        kinds
            .iter()
            .filter(|kind| **kind == JobKind::Evaluate)
            .count(),
        1
    );
}

#[test]
fn the_first_candidate_plays_the_untrained_network() {
    let mut facts = facts(2_000);
    facts.models = vec![model(1, Standing::Candidate)];
    let jobs = plan(&facts, &settings());
    let payload = Payload::from_json(&jobs[0].payload).unwrap();
    assert!(
        matches!(
            payload,
            Payload::Evaluate {
                opponent: Player::Untrained { simulations: 16 },
                games: 40,
                ..
            }
        ),
        "{payload:?}"
    );
}

#[test]
fn training_goes_on_from_the_latest_network_and_after_three_rejections_from_the_champion() {
    let mut facts = facts(20_000);
    facts.champion = Some(hash(1));
    facts.models = vec![model(1, Standing::Other), model(2, Standing::Rejected)];
    assert_eq!(parent(&facts).map(|m| m.hash), Some(hash(2)));
    facts
        .models
        .extend([model(3, Standing::Rejected), model(4, Standing::Rejected)]);
    assert_eq!(parent(&facts).map(|m| m.hash), Some(hash(1)));
    facts.models.push(model(5, Standing::Rejected));
    assert_eq!(parent(&facts).map(|m| m.hash), Some(hash(5)));
}

#[test]
fn a_training_job_fits_its_payload_however_many_segments_there_are() {
    let mut facts = facts(0);
    facts.rows = 1_000_000;
    facts.segments = vec![
        SegmentFact {
            hash: hash(3),
            rows: 10
        };
        9_000
    ];
    let jobs = plan(&facts, &settings());
    let train = jobs.iter().find(|job| job.kind == JobKind::Train).unwrap();
    assert!(
        train.payload.len() <= riftmesh_base::limits::JOB_PAYLOAD_BYTES_MAX,
        "{}",
        train.payload.len()
    );
}

/// A kind of job that always dies (a configuration that workers do not know, a damaged window) does not flood the queue.
#[test]
fn jobs_of_a_dying_kind_are_held_back() {
    let mut facts = facts(0);
    facts.now = Millis(5_000);
    let earliest = |facts: &LoopFacts| plan(facts, &settings())[0].not_before;
    facts.deaths.insert(JobKind::Selfplay, 2);
    assert_eq!(earliest(&facts), Millis(0));
    facts.deaths.insert(JobKind::Selfplay, 3);
    assert_eq!(earliest(&facts), Millis(6_000));
    facts.deaths.insert(JobKind::Selfplay, 5);
    assert_eq!(earliest(&facts), Millis(9_000));
    facts.deaths.insert(JobKind::Selfplay, 60);
    assert_eq!(earliest(&facts), Millis(65_000));
}
