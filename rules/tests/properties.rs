//! Properties over positions reached by random play from every configuration, and parsers on garbage.

use proptest::prelude::*;
use riftmesh_rules::{
    Action, Configuration, Position, RuleOptions, Symmetry, contract, notation, record,
};

/// Plays on from `position` by indices taken from `choices`, over and over, for at most `plies` moves; calls `visit`
/// before each.
fn play(
    mut position: Position,
    choices: &[prop::sample::Index],
    plies: usize,
    mut visit: impl FnMut(&Position, &[Action]),
) -> Position {
    let mut actions = Vec::new();
    for choice in choices.iter().cycle().take(plies) {
        position.legal(&mut actions);
        visit(&position, &actions);
        if actions.is_empty() {
            break;
        }
        position.apply(actions[choice.index(actions.len())]);
    }
    position
}

fn configurations() -> impl Strategy<Value = Configuration> {
    prop::sample::select(Configuration::ALL.to_vec())
}

/// Odd numbers of choices, so that repeating them does not give every player the same ones.
fn choices() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 37)
}

fn start(configuration: Configuration) -> Position {
    Position::start(configuration, RuleOptions { swap: true })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is played, the position stays consistent, the game ends, and exactly one player wins.
    #[test]
    fn games_stay_consistent_and_end(configuration in configurations(), choices in choices()) {
        let end = play(start(configuration), &choices, 5_000, |position, actions| {
            position.validate().unwrap();
            assert_eq!(actions.is_empty(), position.to_move().is_none());
        });
        end.validate().unwrap();
        let outcome = end.outcome().expect("random games end well within 5,000 moves");
        prop_assert_eq!(outcome.rank(outcome.winner), 1);
        let winners = configuration.seats().filter(|&seat| outcome.rank(seat) == 1).count();
        prop_assert_eq!(winners, 1);
    }

    /// Every legal action survives its text, no two share one, and playing is all that `try_apply` adds to `apply`.
    #[test]
    fn notation_round_trips(configuration in configurations(), choices in choices()) {
        play(start(configuration), &choices, 400, |position, actions| {
            let mut texts: Vec<_> = actions.iter().map(|&action| notation::format(position, action)).collect();
            for (text, &action) in texts.iter().zip(actions) {
                assert_eq!(notation::parse(position, text), Ok(action), "{text} in {position}");
            }
            texts.sort();
            texts.dedup();
            assert_eq!(texts.len(), actions.len(), "two actions with one text in {position}");
        });
    }

    /// A position read from its text is the same position: same text, key and actions.
    #[test]
    fn canonical_text_round_trips(configuration in configurations(), choices in choices()) {
        play(start(configuration), &choices, 300, |position, actions| {
            if actions.is_empty() {
                return;
            }
            let text = position.canonical_text();
            let read = Position::parse(&text, RuleOptions { swap: position.swap_open() }).unwrap();
            assert_eq!(&read, position);
            assert_eq!(read.key(), position.key());
            let mut again = Vec::new();
            read.legal(&mut again);
            assert_eq!(again, actions, "{text}");
        });
    }

    /// Turning the board and then asking or playing gives what asking or playing and then turning gives. Recovery is
    /// left out: the reference engine's rule for it depends on the order of the axes.
    #[test]
    fn symmetries_commute_with_the_rules(
        configuration in configurations(),
        choices in choices(),
        symmetry in any::<prop::sample::Index>(),
    ) {
        let symmetries = Symmetry::of(configuration.board());
        let symmetry = &symmetries[symmetry.index(symmetries.len())];
        play(start(configuration), &choices, 150, |position, actions| {
            let turned = symmetry.position(position);
            turned.validate().unwrap();
            if actions.is_empty() || actions.contains(&Action::SkipRecovery) {
                return;
            }
            let mut expected: Vec<_> = actions.iter().map(|&action| symmetry.action(position, action)).collect();
            let mut computed = Vec::new();
            turned.legal(&mut computed);
            expected.sort();
            computed.sort();
            assert_eq!(computed, expected, "{position}");
            let action = *choices[0].get(actions);
            let (mut played, mut played_turned) = (position.clone(), turned);
            played_turned.apply(symmetry.action(position, action));
            played.apply(action);
            assert_eq!(symmetry.position(&played), played_turned, "{action:?} in {position}");
        });
    }

    /// No text makes a parser panic, and what is accepted is written back the same.
    #[test]
    fn parsers_take_garbage(text in ".{0,80}", near in "[PMCKRLOTEFS0-9x@=,\\-al]{0,20}", configuration in configurations()) {
        let position = start(configuration);
        for text in [text, near] {
            let _ignored = notation::parse(&position, &text);
            prop_assert!(Position::parse(&text, RuleOptions::default()).is_err());
            prop_assert!(record::verify_game(&text).is_err());
            prop_assert!(contract::check_contract(&text).is_err());
            prop_assert!(text.parse::<Configuration>().is_err());
        }
    }

    /// A canonical text with a few bytes changed is refused or read as another consistent position, never more.
    #[test]
    fn damaged_texts_do_no_harm(
        configuration in configurations(),
        choices in choices(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), "[ -~]"), 1..4),
    ) {
        let position = play(start(configuration), &choices, 60, |_, _| {});
        let mut bytes = position.canonical_text().into_bytes();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte.as_bytes()[0];
        }
        let text = String::from_utf8(bytes).unwrap();
        if let Ok(read) = Position::parse(&text, RuleOptions::default()) {
            prop_assert_eq!(read.canonical_text(), text);
            play(read, &choices, 200, |position, _| position.validate().unwrap());
        }
    }
}

/// An illegal action is refused with a list of what is legal, and changes nothing.
#[test]
fn illegal_actions_are_refused() {
    let mut position = start(Configuration::ALL[0]);
    let before = position.clone();
    let error = position
        .try_apply(Action::Move { from: 0, to: 1 })
        .unwrap_err();
    assert_eq!(error.legal.len(), 192);
    assert_eq!(position, before);
    position
        .try_apply(Action::Place { to: 5, count: 2 })
        .unwrap();
    assert_ne!(position.key(), before.key());
}
