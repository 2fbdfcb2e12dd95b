//! The fuzz target of every parser of the rules crate: whatever the input, no panic; whatever is accepted, written back
//! the same and fit to play on.
//!
//! An input's first line names the parser, the rest is what it reads: `position`, `move` (a line with the position,
//! then the move), `record`, `contract`, `configuration`. Shared by `cargo test` and by libFuzzer.

use riftmesh_rules::diagram::{Diagram, Ink};
use riftmesh_rules::{Configuration, Position, RuleOptions, contract, notation, record, words};

/// Longest input that is looked at.
const INPUT_BYTES_MAX: usize = 1 << 16;
/// Moves played from a position that was accepted.
const PLIES: usize = 12;

/// Feeds one input to the parser that it names.
///
/// # Panics
/// When a parser panics, or accepts what it then contradicts.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if text.len() > INPUT_BYTES_MAX {
        return;
    }
    let (parser, rest) = text.split_once('\n').unwrap_or((text, ""));
    match parser {
        "position" => position(rest),
        "move" => {
            let (position, action) = rest.split_once('\n').unwrap_or((rest, ""));
            one_move(position, action);
        }
        "record" => one_record(rest),
        "contract" => {
            let _checked = contract::check_contract(rest);
        }
        _ => configuration(rest),
    }
}

fn read(text: &str) -> Option<Position> {
    Position::parse(text, RuleOptions::default()).ok()
}

/// A position that is accepted is the one that was written, and can be played on.
fn position(text: &str) {
    if let Ok(diagram) = Diagram::read(text) {
        assert!(!diagram.draw(Ink::Plain).is_empty());
    }
    let Some(mut position) = read(text) else {
        return;
    };
    assert_eq!(position.canonical_text(), text);
    let mut seed = riftmesh_rules::text_hash(text) as usize;
    let mut actions = Vec::new();
    for _ in 0..PLIES {
        assert_eq!(position.validate(), Ok(()), "{position}");
        position.legal(&mut actions);
        assert_eq!(
            actions.is_empty(),
            position.to_move().is_none(),
            "{position}"
        );
        let Some(&action) = actions.get(seed % actions.len().max(1)) else {
            break;
        };
        let written = notation::format(&position, action);
        assert_eq!(
            notation::parse(&position, &written),
            Ok(action),
            "{written} in {position}"
        );
        assert!(!words::describe(&position, action).is_empty());
        position.apply(action);
        seed = seed / 3 + 1;
    }
}

/// A move that is read is written the same; played, it leaves a consistent position, and refused, the same one.
fn one_move(position: &str, text: &str) {
    let Some(mut position) = read(position) else {
        return;
    };
    let Ok(action) = notation::parse(&position, text) else {
        return;
    };
    assert_eq!(notation::format(&position, action), text, "in {position}");
    let before = position.clone();
    match position.try_apply(action) {
        Ok(()) => assert_eq!(position.validate(), Ok(()), "{text} in {before}"),
        Err(refused) => {
            assert_eq!(position, before);
            assert!(!refused.legal.is_empty(), "{before}");
        }
    }
}

/// A record that is read is written the same; replayed, it gives a record that verifies.
fn one_record(line: &str) {
    let verified = record::verify_game(line);
    let Ok(game) = record::parse_game(line) else {
        assert!(verified.is_err());
        return;
    };
    let written = record::parse_game(&game.to_line());
    assert_eq!(written.map(|again| again.to_line()), Ok(game.to_line()));
    let Ok(replayed) = game.replay() else {
        assert!(verified.is_err(), "verified but not to be replayed: {line}");
        return;
    };
    let again = record::record_game(
        &game.id,
        "fuzz",
        &replayed.start,
        replayed.options,
        &replayed.actions,
    );
    let again = again
        .map(|game| game.to_line())
        .map_err(|error| error.to_string());
    let verified_again = again.map(|line| record::verify_game(&line).map(|game| game.plies));
    assert_eq!(verified_again, Ok(Ok(replayed.actions.len())), "{line}");
}

fn configuration(text: &str) {
    if let Ok(configuration) = text.parse::<Configuration>() {
        assert_eq!(configuration.to_string(), text);
    }
}
