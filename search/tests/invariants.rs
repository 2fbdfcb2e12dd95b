//! What must hold for every search of every game.

mod common;

use common::{GraphEvaluator, GraphGame, State};
use proptest::prelude::*;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use riftmesh_search::{
    Algorithm, Evaluation, GumbelSettings, Leaf, PuctSettings, RootBatching, ScriptedEvaluator,
    Search, SearchOutcome, SearchSettings, SeatValues, UniformEvaluator, run,
};

const STATES: usize = 24;

/// Random game graphs: every state leads only to later ones, the last third is finished games.
fn graphs() -> impl Strategy<Value = (usize, Vec<State>)> {
    (2usize..=4).prop_flat_map(|players| {
        let states: Vec<_> = (0..STATES).map(|at| state(at, players)).collect();
        (Just(players), states)
    })
}

fn state(at: usize, players: usize) -> BoxedStrategy<State> {
    if at >= STATES * 2 / 3 {
        return (0..players)
            .prop_map(move |winner| State {
                mover: 0,
                terminal: true,
                value: SeatValues::winner(winner).seats(players).to_vec(),
                logits: Vec::new(),
                children: Vec::new(),
                exchange: None,
            })
            .boxed();
    }
    let moves = prop::collection::vec((-3.0..3.0f64, at + 1..STATES), 1..7);
    let exchange =
        prop::option::weighted(0.3, 0usize..7).prop_map(move |e| e.filter(|_| players == 2));
    (
        0..players,
        prop::collection::vec(0.01..1.0f64, players),
        moves,
        exchange,
    )
        .prop_map(|(mover, weights, moves, exchange)| {
            let sum: f64 = weights.iter().sum();
            let (logits, children) = moves.into_iter().unzip();
            State {
                mover,
                terminal: false,
                value: weights.iter().map(|w| w / sum).collect(),
                logits,
                children,
                exchange,
            }
        })
        .boxed()
}

fn algorithms() -> impl Strategy<Value = Algorithm> {
    prop_oneof![
        (
            1u32..8,
            prop_oneof![Just(RootBatching::Single), Just(RootBatching::Round)]
        )
            .prop_map(
                |(considered_max, batching)| Algorithm::Gumbel(GumbelSettings {
                    considered_max,
                    batching,
                    ..GumbelSettings::default()
                })
            ),
        Just(Algorithm::Puct(PuctSettings::default())),
    ]
}

fn search(
    game: GraphGame,
    settings: SearchSettings,
    seed: u64,
) -> (SearchOutcome<usize>, Vec<Vec<u32>>) {
    let mut search = Search::new(game, settings, &mut Xoshiro256PlusPlus::seed_from_u64(seed));
    let outcome = run(&mut search, &mut GraphEvaluator);
    (outcome, search.paths().collect())
}

/// Renames seat `s` to `s + 1` (the last to 0) everywhere in a graph.
fn rotated(states: &[State], players: usize) -> Vec<State> {
    let rotate = |state: &State| {
        let mut state = state.clone();
        state.mover = (state.mover + 1) % players;
        state.value.rotate_right(1);
        state
    };
    states.iter().map(rotate).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// The budget is spent exactly, the target is a distribution, values are shares, the tree is bounded, and
    /// the same seed grows the same tree.
    #[test]
    fn budgets_targets_and_values_add_up(
        (players, states) in graphs(), algorithm in algorithms(), simulations in 0u32..80, seed: u64,
    ) {
        let settings = SearchSettings { simulations, algorithm };
        let game = GraphGame::new(states, players);
        let (outcome, paths) = search(game.clone(), settings, seed);
        prop_assert_eq!(outcome.visits.iter().sum::<u32>(), simulations);
        prop_assert_eq!(paths.len(), simulations as usize);
        prop_assert!((outcome.policy.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        prop_assert!((outcome.values.seats(players).iter().sum::<f64>() - 1.0).abs() < 1e-9);
        prop_assert!(outcome.nodes <= simulations as usize + 1);
        prop_assert!(outcome.chosen < outcome.actions.len());
        prop_assert_eq!((outcome, paths), search(game, settings, seed));
    }

    /// Names of seats mean nothing: renaming them renames the result. (The pie rule speaks of seats 0 and 1, so
    /// it is left out.)
    #[test]
    fn renaming_seats_renames_values((players, mut states) in graphs(), algorithm in algorithms(), seed: u64) {
        states.iter_mut().for_each(|state| state.exchange = None);
        let settings = SearchSettings { simulations: 40, algorithm };
        let (plain, plain_paths) = search(GraphGame::new(states.clone(), players), settings, seed);
        let (renamed, paths) = search(GraphGame::new(rotated(&states, players), players), settings, seed);
        prop_assert_eq!(plain_paths, paths);
        prop_assert_eq!(plain.policy, renamed.policy);
        for seat in 0..players {
            prop_assert!((plain.values[seat] - renamed.values[(seat + 1) % players]).abs() < 1e-12);
        }
    }

    /// Leaves gathered per round sit under the same root moves as often as single ones, and a round has one leaf
    /// per considered move.
    #[test]
    fn rounds_visit_each_considered_move_equally((players, states) in graphs(), seed: u64) {
        let gumbel = GumbelSettings { considered_max: 4, batching: RootBatching::Round, ..GumbelSettings::default() };
        let settings = SearchSettings { simulations: 16, algorithm: Algorithm::Gumbel(gumbel) };
        let (outcome, paths) = search(GraphGame::new(states, players), settings, seed);
        let considered = outcome.visits.len().min(4);
        let mut first: Vec<u32> = paths[..considered].iter().map(|path| path[0]).collect();
        first.sort_unstable();
        first.dedup();
        prop_assert_eq!(first.len(), considered);
    }
}

/// A state with the given moves; logits are zero.
fn choice(mover: usize, value: [f64; 2], children: &[usize]) -> State {
    State {
        mover,
        terminal: false,
        value: value.to_vec(),
        logits: vec![0.0; children.len()],
        children: children.to_vec(),
        exchange: None,
    }
}

fn result(value: [f64; 2]) -> State {
    State {
        mover: 0,
        terminal: true,
        value: value.to_vec(),
        logits: Vec::new(),
        children: Vec::new(),
        exchange: None,
    }
}

/// A certain win in one move is found and played by both searches, whoever moves, even against a hopeful
/// evaluation of the other moves.
#[test]
fn proven_win_in_one_is_played() {
    for mover in 0..2 {
        let mut won = [0.0; 2];
        won[mover] = 1.0;
        let mut hopeful = [0.1; 2];
        hopeful[mover] = 0.9;
        let states = vec![
            choice(mover, hopeful, &[1, 1, 2, 1]),
            choice(1 - mover, hopeful, &[3, 3]),
            result(won),
            choice(mover, hopeful, &[4]),
            result([1.0 - won[0], 1.0 - won[1]]),
        ];
        for settings in [
            SearchSettings::gumbel(16),
            SearchSettings::gumbel(64),
            SearchSettings::puct(64),
        ] {
            for seed in 0..20 {
                let (outcome, _) = search(GraphGame::new(states.clone(), 2), settings, seed);
                assert_eq!(outcome.action(), 2, "{settings:?} seed {seed}");
            }
        }
    }
}

/// Behind a swap the mover is the other person: a position that is won for seat 0 is worth taking over for
/// seat 1.
#[test]
fn pie_rule_exchanges_the_first_two_seats() {
    let mut root = choice(1, [0.5, 0.5], &[1, 2]);
    root.exchange = Some(0);
    let states = vec![
        root,
        choice(1, [0.9, 0.1], &[3]),
        choice(0, [0.6, 0.4], &[3]),
        result([1.0, 0.0]),
    ];
    let (outcome, _) = search(GraphGame::new(states, 2), SearchSettings::gumbel(12), 1);
    assert_eq!(outcome.action(), 0);
    let swap = outcome.move_values[0].unwrap();
    assert!(swap[1] > 0.9 && swap[0] < 0.1, "{swap:?}");
}

/// Without simulations and noise the search is the policy itself.
#[test]
fn zero_simulations_play_the_policy() {
    let mut states = vec![choice(0, [0.5, 0.5], &[1, 1, 1]), result([1.0, 0.0])];
    states[0].logits = vec![0.0, 2.0, 1.0];
    let gumbel = GumbelSettings {
        noise_scale: 0.0,
        ..GumbelSettings::default()
    };
    let settings = SearchSettings {
        simulations: 0,
        algorithm: Algorithm::Gumbel(gumbel),
    };
    let (outcome, _) = search(GraphGame::new(states, 2), settings, 0);
    assert_eq!(outcome.action(), 1);
    assert!(outcome.policy[1] > outcome.policy[2] && outcome.policy[2] > outcome.policy[0]);
}

/// Each position is evaluated once, and stepping twice asks for the same leaves.
#[test]
fn positions_are_evaluated_once() {
    let states = vec![
        choice(0, [0.5, 0.5], &[1, 2]),
        choice(1, [0.5, 0.5], &[3, 3]),
        result([0.0, 1.0]),
        result([1.0, 0.0]),
    ];
    let mut search = Search::with_noise(
        GraphGame::new(states, 2),
        SearchSettings::gumbel(10),
        Vec::new(),
    );
    assert_eq!(search.step(), search.step());
    assert_eq!(search.leaves().len(), 1);
    let mut asked = 0;
    let mut evaluator = ScriptedEvaluator(|leaf: Leaf<'_, GraphGame>| {
        asked += 1;
        Evaluation {
            logits: vec![0.0; leaf.actions.len()],
            values: SeatValues::even(2),
        }
    });
    let outcome = run(&mut search, &mut evaluator);
    assert_eq!(asked, 2);
    assert_eq!(outcome.visits.iter().sum::<u32>(), 10);
}

/// A broken evaluator must not steer a search.
#[test]
#[should_panic(expected = "not finite")]
fn evaluations_that_are_not_finite_stop_the_search() {
    let states = vec![choice(0, [0.5, 0.5], &[1, 1]), result([1.0, 0.0])];
    let mut search = Search::with_noise(
        GraphGame::new(states, 2),
        SearchSettings::gumbel(4),
        Vec::new(),
    );
    let mut broken = ScriptedEvaluator(|_: Leaf<'_, GraphGame>| Evaluation {
        logits: vec![0.0, f64::NAN],
        values: SeatValues::even(2),
    });
    run(&mut search, &mut broken);
}

/// A uniform evaluator still finds a forced win two moves deep.
#[test]
fn uniform_evaluations_find_a_forced_win() {
    let states = vec![
        choice(0, [0.5, 0.5], &[1, 2]),
        choice(1, [0.5, 0.5], &[3, 4]),
        choice(1, [0.5, 0.5], &[3, 3]),
        result([1.0, 0.0]),
        result([0.0, 1.0]),
    ];
    let mut search = Search::with_noise(
        GraphGame::new(states, 2),
        SearchSettings::gumbel(32),
        Vec::new(),
    );
    assert_eq!(run(&mut search, &mut UniformEvaluator).action(), 1);
}
