//! Records that are written verify, and records that are wrong are refused with the place and both sides.

#![expect(
    clippy::unwrap_used,
    reason = "test code: a failed step is a failed test"
)]

use riftmesh_rules::record::{
    Mismatch, RecordedGame, ReplayError, parse_game, record_game, verify_game,
};
use riftmesh_rules::{Action, Configuration, Position, RuleOptions};

/// A game of `plies` moves, the middle one of the legal list each.
fn recorded(configuration: Configuration, options: RuleOptions, plies: usize) -> RecordedGame {
    let start = Position::start(configuration, options);
    let (mut position, mut played, mut legal) = (start.clone(), Vec::new(), Vec::new());
    for _ in 0..plies {
        position.legal(&mut legal);
        let Some(&action) = legal.get(legal.len() / 2) else {
            break;
        };
        position.apply(action);
        played.push(action);
    }
    record_game("game", "middle", &start, options, &played).unwrap()
}

fn short() -> RecordedGame {
    recorded(Configuration::ALL[0], RuleOptions::default(), 30)
}

/// After writer and checker agreeing on every configuration, to the end of the game or cut off.
#[test]
fn written_games_verify() {
    for configuration in Configuration::ALL {
        let swap = configuration.players() == 2;
        let game = recorded(configuration, RuleOptions { swap }, 600);
        let verified = verify_game(&game.to_line()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(verified.plies, game.n_plies);
        assert_eq!(verified.outcome.is_none(), game.truncated);
        let replayed = parse_game(&game.to_line()).unwrap().replay().unwrap();
        assert_eq!(replayed.options, RuleOptions { swap });
        assert_eq!(replayed.actions.len(), game.n_plies);
        let last = replayed.position_after(game.n_plies).unwrap();
        assert_eq!(Some(last.canonical_text()), game.plies.last().unwrap().s);
        assert!(replayed.position_after(game.n_plies + 1).is_none());
    }
}

fn mismatch(change: impl Fn(&mut RecordedGame)) -> Mismatch {
    let mut game = short();
    change(&mut game);
    verify_game(&game.to_line()).unwrap_err()
}

/// A wrong state is shown beside the one computed, with the state before it on which both agree.
#[test]
fn a_divergence_has_both_states() {
    let right = short();
    let text = right.plies[9].s.clone().unwrap();
    let wrong = text.replacen(';', ";;", 1);
    let found = mismatch(|game| game.plies[9].s = Some(wrong.clone()));
    assert_eq!((found.ply, found.what), (Some(9), "position"));
    let states = found.states.unwrap();
    assert_eq!(states.played, right.plies[9].m);
    assert_eq!(states.recorded, Some(wrong));
    assert_eq!(states.computed, Some(text));
    let before = parse_game(&right.to_line()).unwrap().replay().unwrap();
    assert_eq!(
        states.before,
        before.position_after(9).unwrap().canonical_text()
    );
}

/// Lists of hundreds of moves are not printed to say that one of them differs.
#[test]
fn differing_lists_name_the_difference() {
    let found = mismatch(|game| {
        let list = game.plies[0].l.as_mut().unwrap();
        *list = list.replacen("P0x1", "P99x1", 1);
    });
    assert_eq!(
        (found.recorded.as_str(), found.computed.as_str()),
        ("P99x1", "P0x1")
    );
    assert!(found.states.is_some());
}

/// A move that is malformed or not legal is refused with its ply, its text and what would have been legal.
#[test]
fn wrong_moves_name_ply_text_and_alternatives() {
    for (wrong, problem) in [("M0-1", "is not legal"), ("nonsense", "cannot be read")] {
        let mut game = short();
        game.plies[4].m = wrong.to_owned();
        let error = game.replay().unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("ply 4: `{wrong}` {problem}")),
            "{text}"
        );
        let ReplayError::Ply { legal, .. } = error else {
            panic!("{text}");
        };
        // The first moves of the list, and how many more there are.
        assert_eq!((legal.len(), legal[0].as_str()), (41, "P0x1"), "{legal:?}");
        assert!(
            legal[40].starts_with("and ") && legal[40].ends_with(" more"),
            "{legal:?}"
        );
    }
}

/// Versions and rules of another kind are named, not guessed at; an illegal game is not written.
#[test]
fn other_versions_are_refused() {
    let mut game = short();
    game.rules.lps_rounds = 2;
    let text = game.replay().unwrap_err().to_string();
    assert_eq!(text, "last-player-standing rounds 2: only 3 can be read");
    let error = parse_game("{\"v\":1}").unwrap_err().to_string();
    assert!(error.contains("missing field"), "{error}");
    let start = Position::start(Configuration::ALL[0], RuleOptions::default());
    let illegal = [Action::Move { from: 0, to: 1 }];
    assert!(record_game("x", "y", &start, RuleOptions::default(), &illegal).is_err());
}
