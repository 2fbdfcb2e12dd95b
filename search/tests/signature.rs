//! One number for everything the search does that the golden files do not cover: batched rounds, drawn noise, PUCT with
//! Dirichlet noise. A functional change of the search changes it and says so in its commit.

mod common;

use common::{GraphEvaluator, GraphGame, State};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use riftmesh_base::Seed;
use riftmesh_rules::text_hash;
use riftmesh_search::{Search, SearchSettings, run};
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    players: usize,
    states: Vec<State>,
}

#[test]
fn search_signature_is_pinned() {
    let text = include_str!("data/search_maxn_reference.json");
    let file: File = serde_json::from_str(text).unwrap();
    let mut transcript = String::new();
    for (number, case) in file.cases.into_iter().enumerate() {
        let game = GraphGame::new(case.states, case.players);
        for settings in [SearchSettings::gumbel(64), SearchSettings::puct(64)] {
            let seed = Seed(1).derive("signature", number as u64);
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed.0);
            let mut search = Search::new(game.clone(), settings, &mut rng);
            let outcome = run(&mut search, &mut GraphEvaluator);
            let paths: Vec<_> = search.paths().collect();
            transcript += &format!("{paths:?} {}\n", outcome.chosen);
        }
    }
    assert_eq!(text_hash(&transcript), 13_467_576_529_574_254_317);
}
