//! Self-play, its records, the gates in front of training, and matches.

use std::collections::HashSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use riftmesh_base::{BlobHash, Seed};
use riftmesh_learning::arena::{MatchPlayer, MatchSettings, Seating, play_match};
use riftmesh_learning::gates::DataGate;
use riftmesh_learning::record::GameRecord;
use riftmesh_learning::replay::{Reject, replay};
use riftmesh_learning::rows::rows;
use riftmesh_learning::selfplay::{SelfPlayProgress, play_again, play_rest};
use riftmesh_learning::window::{RowStream, WindowGame};
use riftmesh_rules::{Board, RuleOptions};
use riftmesh_search::SearchSettings;

use crate::common::{configuration, evaluator, games, hex8, job, segment};

/// The same seed gives the same file, and a game does not depend on how many others run beside it.
#[test]
fn self_play_is_reproducible_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let first = segment(&job(hex8(), 3, 8, 5), folder.path(), "a");
    let second = segment(&job(hex8(), 3, 8, 5), folder.path(), "b");
    assert_eq!(fs::read(first).unwrap(), fs::read(second).unwrap());
    let mut alone = job(hex8(), 3, 8, 5);
    alone.settings.concurrent = 1;
    let mut together = games(&job(hex8(), 3, 8, 5));
    together.sort_by_key(|game| game.number);
    assert_eq!(games(&alone), together);
    let again = play_again(&alone, 2, &mut evaluator(hex8(), 1));
    assert_eq!(again, together[2]);
}

/// A job that was stopped goes on: the games it had are kept, the others are those it would have played, and nothing that
/// is not its own slips in.
#[test]
fn stopped_self_play_goes_on() {
    let mut order = job(hex8(), 4, 2, 6);
    order.settings.concurrent = 1;
    let whole = games(&order);
    let play_on = |earlier: Vec<GameRecord>, stop_after: u64| {
        let mut played = Vec::new();
        let mut finished = |game: GameRecord| {
            played.push(game);
            Ok(())
        };
        let stop = AtomicBool::new(false);
        let mut progress = |done: SelfPlayProgress| {
            stop.store(done.games >= stop_after, Ordering::Relaxed);
        };
        let mut evaluator = evaluator(hex8(), 1);
        let done = play_rest(
            &order,
            earlier,
            &mut evaluator,
            &mut finished,
            &mut progress,
            &stop,
        )
        .unwrap();
        assert_eq!(done.games, played.len() as u64);
        played
    };
    let part = play_on(Vec::new(), 2);
    assert_eq!(part, whole[..2]);
    let mut earlier = vec![part[1].clone(), part[0].clone(), part[1].clone()];
    let mut foreign = part[0].clone();
    foreign.number = 4;
    earlier.push(foreign);
    let mut all = play_on(earlier, u64::MAX);
    all.sort_by_key(|game| game.number);
    assert_eq!(all, whole);
}

/// Three and four players, both kinds of small board, cheap searches in between: every game passes the gates.
#[test]
fn recorded_games_replay() {
    for (board, players) in [
        (Board::Hex8, 2),
        (Board::Square8, 2),
        (Board::Square8, 3),
        (Board::Hex8, 4),
    ] {
        let mut job = job(configuration(board, players), 2, 4, 7);
        job.settings.full_share = 0.5;
        job.settings.swap = players == 2;
        let mut gate = DataGate::new();
        for game in games(&job) {
            let replayed = gate
                .admit_game(&job.header(), job.configuration, &game)
                .unwrap();
            assert_eq!(replayed.decisions.len(), game.decisions.len());
            assert!(game.rows() < game.decisions.len() && game.rows() > 0);
        }
        assert_eq!(gate.accepted, 2);
    }
}

/// Rows come out for every decision, turned or not: targets stay distributions over as many actions.
#[test]
fn rows_are_consistent_under_symmetry() {
    let job = job(hex8(), 1, 4, 9);
    let game = &games(&job)[0];
    let replayed = replay(job.configuration, RuleOptions::default(), game).unwrap();
    for seed in 0..6 {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let rows = rows(game, &replayed, 0.0, &mut rng);
        assert_eq!(rows.len(), game.decisions.len());
        for (row, decision) in rows.iter().zip(&replayed.decisions) {
            assert_eq!(row.policy.len(), decision.choices().len());
            assert!((row.policy.iter().map(|entry| entry.1).sum::<f32>() - 1.0).abs() < 1e-3);
            assert_eq!(row.value.iter().sum::<f32>(), 1.0);
            let distinct: HashSet<u32> = row.policy.iter().map(|entry| entry.0).collect();
            assert_eq!(distinct.len(), row.policy.len());
        }
    }
}

/// Every way a record can lie, and the name it is refused by.
#[test]
fn the_gate_refuses_by_name() {
    let job = job(hex8(), 1, 4, 11);
    let good = games(&job).remove(0);
    let verdict = |change: &dyn Fn(&mut GameRecord)| {
        let mut game = good.clone();
        change(&mut game);
        replay(job.configuration, RuleOptions::default(), &game).err()
    };
    assert_eq!(verdict(&|_| {}), None);
    let illegal = u32::MAX;
    assert_eq!(
        verdict(&|game| game.decisions[3].chosen = illegal),
        Some(Reject::IllegalMove)
    );
    assert_eq!(
        verdict(&|game| game.winner = 1 - game.winner),
        Some(Reject::WinnerDiffers)
    );
    assert_eq!(verdict(&|game| game.end ^= 1), Some(Reject::EndDiffers));
    assert_eq!(
        verdict(&|game| game.moves.truncate(4)),
        Some(Reject::MovesDiffer)
    );
    assert_eq!(
        verdict(&|game| game.decisions[0].policy[0].1 += 0.01),
        Some(Reject::PolicySum)
    );
    assert_eq!(
        verdict(&|game| game.decisions[0].policy[0].1 = f32::NAN),
        Some(Reject::NotANumber)
    );
    assert_eq!(
        verdict(&|game| game.decisions[0].values[0] = f32::INFINITY),
        Some(Reject::NotANumber)
    );
    let foreign = |game: &mut GameRecord| game.decisions[0].policy.push((illegal, 0.0));
    assert_eq!(verdict(&foreign), Some(Reject::PolicyIllegal));
    let cut = |game: &mut GameRecord| {
        let replayed = replay(job.configuration, RuleOptions::default(), game).unwrap();
        assert!(replayed.decisions.len() > 2);
        game.decisions.pop();
    };
    assert!(matches!(
        verdict(&cut),
        Some(Reject::MovesDiffer | Reject::Unfinished)
    ));
}

#[test]
fn the_gate_counts_a_game_once_and_knows_its_models() {
    let job = job(hex8(), 1, 4, 13);
    let game = games(&job).remove(0);
    let mut gate = DataGate::for_models(HashSet::from([BlobHash([1; 32])]));
    let mut header = job.header();
    assert!(gate.admit_segment(&header, hex8()).is_ok());
    assert!(gate.admit_game(&header, hex8(), &game).is_ok());
    assert_eq!(
        gate.admit_game(&header, hex8(), &game).err(),
        Some(Reject::Duplicate)
    );
    header.model = Some(BlobHash([2; 32]));
    assert_eq!(
        gate.admit_segment(&header, hex8()),
        Err(Reject::UnknownModel)
    );
    let square = configuration(Board::Square8, 2);
    header.model = None;
    assert_eq!(
        gate.admit_segment(&header, square),
        Err(Reject::WrongConfiguration)
    );
    header.codec += 1;
    assert_eq!(
        gate.admit_segment(&header, hex8()),
        Err(Reject::CodecVersion)
    );
    assert_eq!(gate.rejected[&Reject::Duplicate], 1);
}

/// The order of rows depends on the seed alone.
#[test]
fn rows_are_drawn_reproducibly() {
    let job = job(hex8(), 2, 4, 15);
    let games: Vec<_> = games(&job)
        .into_iter()
        .map(|game| WindowGame::new(&job.header(), game))
        .collect();
    let draw = |seed| RowStream::new(hex8(), &games, Seed(seed)).draw(40);
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

/// Random against itself is even by construction of the pairs: whoever sits where, the same openings are played.
#[test]
fn matches_are_paired_and_reproducible() {
    let settings = MatchSettings {
        games: 12,
        seating: Seating::Balanced,
        seed: Seed(3),
        ..MatchSettings::default()
    };
    let play = || {
        let mut net = evaluator(hex8(), 1);
        let candidate = MatchPlayer::Network {
            evaluator: &mut net,
            search: SearchSettings::gumbel(0),
        };
        let stop = AtomicBool::new(false);
        play_match(
            hex8(),
            candidate,
            MatchPlayer::Random,
            &settings,
            &mut |_| {},
            &stop,
        )
    };
    let result = play();
    assert_eq!(result, play());
    assert!(result.complete);
    assert_eq!((result.groups, result.score.games()), (6, 12));
}

/// The yardstick is worth something.
#[test]
fn the_heuristic_beats_random() {
    let settings = MatchSettings {
        games: 20,
        ..MatchSettings::default()
    };
    let stop = AtomicBool::new(false);
    let result = play_match(
        hex8(),
        MatchPlayer::Heuristic,
        MatchPlayer::Random,
        &settings,
        &mut |_| {},
        &stop,
    );
    assert!(result.score.wins >= 15, "{result:?}");
}
