//! The search against mctx and an independent max^n reference: the same path in every simulation.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{GraphEvaluator, GraphGame, State};
use riftmesh_search::halving::considered_visits;
use riftmesh_search::transform::{TreeNodeView, argmax};
use riftmesh_search::{
    Algorithm, GumbelSettings, PuctSettings, RootBatching, Search, SearchOutcome, SearchSettings,
    ValueTransform, run,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

const TOLERANCE: f64 = 1e-9;

#[derive(Deserialize)]
struct File<C> {
    cases: Vec<C>,
}

#[derive(Deserialize)]
struct TransformConfig {
    value_scale: f64,
    maxvisit_init: f64,
    rescale_values: bool,
    use_mixed_value: bool,
}

#[derive(Deserialize)]
struct SearchCase<C, E> {
    id: String,
    players: usize,
    config: C,
    states: Vec<State>,
    #[serde(default)]
    gumbel: Vec<f64>,
    expect: E,
}

#[derive(Deserialize)]
struct GumbelConfig {
    num_simulations: u32,
    max_num_considered_actions: u32,
    #[serde(flatten)]
    transform: TransformConfig,
}

/// `root_value` and `q_vector` are in the max^n file, `root_value_mover` in the two-player one.
#[derive(Deserialize)]
struct GumbelExpect {
    trace: Vec<Vec<u32>>,
    visit_counts: Vec<u32>,
    q_mover: Vec<Option<f64>>,
    root_value: Option<Vec<f64>>,
    root_value_mover: Option<f64>,
    q_vector: Option<Vec<Option<Vec<f64>>>>,
    mixed_value: f64,
    completed_q: Vec<f64>,
    scaled_q: Vec<f64>,
    improved_policy: Vec<f64>,
    action: usize,
}

fn cases<C: DeserializeOwned>(name: &str) -> Vec<C> {
    let path = format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    serde_json::from_str::<File<C>>(&text).unwrap().cases
}

fn transform(config: &TransformConfig) -> ValueTransform {
    ValueTransform {
        scale: config.value_scale,
        visits_offset: config.maxvisit_init,
        rescale: config.rescale_values,
        mix: config.use_mixed_value,
    }
}

/// Equal to the tolerance, relative to the magnitude where that is above 1.
fn assert_close(id: &str, what: &str, got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{id}: {what}");
    for (got, expected) in got.iter().zip(expected) {
        let same = got == expected || (got - expected).abs() <= TOLERANCE * expected.abs().max(1.0);
        assert!(same, "{id}: {what}: got {got}, expected {expected}");
    }
}

/// Every schedule for (considered moves, simulations) that mctx computes.
#[test]
fn schedules_match_mctx() {
    #[derive(Deserialize)]
    struct Case {
        m: u32,
        n: u32,
        sequence: Vec<u32>,
    }
    let cases: Vec<Case> = cases("seq_halving.json");
    assert_eq!(cases.len(), 172);
    for case in cases {
        assert_eq!(
            considered_visits(case.m, case.n),
            case.sequence,
            "m {} n {}",
            case.m,
            case.n
        );
    }
}

/// Every intermediate number of a node, so that a wrong search can be blamed on one formula.
#[test]
fn node_arithmetic_matches_mctx() {
    #[derive(Deserialize)]
    struct Case {
        config: TransformConfig,
        logits: Vec<f64>,
        raw_value: f64,
        q_mover: Vec<Option<f64>>,
        visit_counts: Vec<u32>,
        gumbel: Vec<f64>,
        considered_visit: u32,
        expect: Expect,
    }
    #[derive(Deserialize)]
    struct Expect {
        mixed_value: f64,
        completed_q: Vec<f64>,
        scaled_q: Vec<f64>,
        improved_policy: Vec<f64>,
        interior_scores: Vec<f64>,
        interior_action: usize,
        root_scores: Vec<Option<f64>>,
        root_action: usize,
    }
    let cases: Vec<Case> = cases("node_transforms.json");
    assert_eq!(cases.len(), 120);
    for (number, case) in cases.iter().enumerate() {
        let id = &format!("case {number}");
        let q: Vec<f64> = case.q_mover.iter().map(|q| q.unwrap_or(0.0)).collect();
        let view = TreeNodeView {
            logits: &case.logits,
            visits: &case.visit_counts,
            q: &q,
            raw: case.raw_value,
        };
        let transform = transform(&case.config);
        let expect = &case.expect;
        assert_close(
            id,
            "mixed value",
            &[transform.mixed_value(view)],
            &[expect.mixed_value],
        );
        assert_close(
            id,
            "completed",
            &transform.completed_q(view),
            &expect.completed_q,
        );
        assert_close(id, "scaled", &transform.scaled_q(view), &expect.scaled_q);
        assert_close(
            id,
            "policy",
            &transform.improved_policy(view),
            &expect.improved_policy,
        );
        let interior = transform.interior_scores(view);
        assert_close(id, "interior", &interior, &expect.interior_scores);
        assert_eq!(argmax(&interior), expect.interior_action, "{id}");
        let root = transform.root_scores(view, &case.gumbel, case.considered_visit);
        let expected: Vec<f64> = expect
            .root_scores
            .iter()
            .map(|s| s.unwrap_or(f64::NEG_INFINITY))
            .collect();
        assert_close(id, "root", &root, &expected);
        assert_eq!(argmax(&root), expect.root_action, "{id}");
    }
}

/// Whole searches with alternating and repeated movers and values z and -z.
#[test]
fn two_player_searches_match_mctx() {
    let cases: Vec<SearchCase<GumbelConfig, GumbelExpect>> = cases("search_2p_mctx.json");
    assert_eq!(cases.len(), 40);
    cases.into_iter().for_each(check_gumbel);
}

/// Whole searches with two, three and four seats and value vectors.
#[test]
fn maxn_searches_match_the_reference() {
    let cases: Vec<SearchCase<GumbelConfig, GumbelExpect>> = cases("search_maxn_reference.json");
    assert_eq!(cases.len(), 48);
    cases.into_iter().for_each(check_gumbel);
}

fn check_gumbel(case: SearchCase<GumbelConfig, GumbelExpect>) {
    let id = case.id.as_str();
    let settings = GumbelSettings {
        considered_max: case.config.max_num_considered_actions,
        transform: transform(&case.config.transform),
        noise_scale: 1.0,
        batching: RootBatching::Single,
    };
    let root = case.states[0].clone();
    let game = GraphGame::new(case.states, case.players);
    let settings_all = SearchSettings {
        simulations: case.config.num_simulations,
        algorithm: Algorithm::Gumbel(settings),
    };
    let mut search = Search::with_noise(game, settings_all, case.gumbel);
    let outcome = run(&mut search, &mut GraphEvaluator);
    let expect = &case.expect;
    assert_eq!(search.paths().collect::<Vec<_>>(), expect.trace, "{id}");
    assert_eq!(outcome.visits, expect.visit_counts, "{id}");
    assert_eq!(outcome.action(), expect.action, "{id}");
    check_values(id, &outcome, expect, root.mover, case.players);
    let q: Vec<f64> = outcome
        .move_values
        .iter()
        .map(|v| v.map_or(0.0, |v| v[root.mover]))
        .collect();
    let view = TreeNodeView {
        logits: &root.logits,
        visits: &outcome.visits,
        q: &q,
        raw: outcome.raw_values[root.mover],
    };
    assert_close(
        id,
        "mixed value",
        &[settings.transform.mixed_value(view)],
        &[expect.mixed_value],
    );
    assert_close(
        id,
        "completed",
        &settings.transform.completed_q(view),
        &expect.completed_q,
    );
    assert_close(
        id,
        "scaled",
        &settings.transform.scaled_q(view),
        &expect.scaled_q,
    );
    assert_close(id, "policy", &outcome.policy, &expect.improved_policy);
}

fn check_values(
    id: &str,
    outcome: &SearchOutcome<usize>,
    expect: &GumbelExpect,
    mover: usize,
    players: usize,
) {
    for (got, expected) in outcome.move_values.iter().zip(&expect.q_mover) {
        assert_eq!(got.is_some(), expected.is_some(), "{id}");
        if let (Some(got), Some(expected)) = (got, expected) {
            assert_close(id, "q", &[got[mover]], &[*expected]);
        }
    }
    if let Some(root) = &expect.root_value {
        assert_close(id, "root value", outcome.values.seats(players), root);
    }
    if let Some(root) = expect.root_value_mover {
        assert_close(id, "root value", &[outcome.values[mover]], &[root]);
    }
    for (got, expected) in outcome
        .move_values
        .iter()
        .zip(expect.q_vector.iter().flatten())
    {
        if let (Some(got), Some(expected)) = (got, expected) {
            assert_close(id, "q vector", got.seats(players), expected);
        }
    }
}

/// Whole PUCT searches without noise.
#[test]
fn puct_searches_match_mctx() {
    #[derive(Deserialize)]
    struct Config {
        num_simulations: u32,
        pb_c_init: f64,
        pb_c_base: f64,
        min_value: f64,
        max_value: f64,
    }
    #[derive(Deserialize)]
    struct Expect {
        trace: Vec<Vec<u32>>,
        visit_counts: Vec<u32>,
        q_mover: Vec<Option<f64>>,
        root_value_mover: f64,
        visit_policy: Vec<f64>,
    }
    let cases: Vec<SearchCase<Config, Expect>> = cases("search_2p_puct_mctx.json");
    assert_eq!(cases.len(), 12);
    for case in cases {
        let id = case.id.as_str();
        let settings = PuctSettings {
            c_init: case.config.pb_c_init,
            c_base: case.config.pb_c_base,
            value_min: case.config.min_value,
            value_max: case.config.max_value,
            ..PuctSettings::default()
        };
        let mover = case.states[0].mover;
        let settings = SearchSettings {
            simulations: case.config.num_simulations,
            algorithm: Algorithm::Puct(settings),
        };
        let mut search = Search::with_noise(
            GraphGame::new(case.states, case.players),
            settings,
            Vec::new(),
        );
        let outcome = run(&mut search, &mut GraphEvaluator);
        assert_eq!(
            search.paths().collect::<Vec<_>>(),
            case.expect.trace,
            "{id}"
        );
        assert_eq!(outcome.visits, case.expect.visit_counts, "{id}");
        assert_close(
            id,
            "visit policy",
            &outcome.policy,
            &case.expect.visit_policy,
        );
        assert_close(
            id,
            "root value",
            &[outcome.values[mover]],
            &[case.expect.root_value_mover],
        );
        for (got, expected) in outcome.move_values.iter().zip(&case.expect.q_mover) {
            assert_eq!(got.is_some(), expected.is_some(), "{id}");
            assert_close(
                id,
                "q",
                &[got.map_or(0.0, |v| v[mover])],
                &[expected.unwrap_or(0.0)],
            );
        }
    }
}
