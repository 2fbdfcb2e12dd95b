//! The play session by what people type: lines in, text and wishes out.

use std::path::{Path, PathBuf};

use riftmesh_rules::diagram::Ink;
use riftmesh_rules::record::{parse_game, verify_game};
use riftmesh_rules::{Configuration, Position, RuleOptions};

use super::session::{PlaySession, Wish};

fn session(name: &str, humans: &[bool], swap: bool) -> PlaySession {
    let configuration: Configuration = name.parse().unwrap();
    let options = RuleOptions { swap };
    let start = Position::start(configuration, options);
    PlaySession::new(start, options, humans.to_vec(), Ink::Plain)
}

fn alone() -> PlaySession {
    session("hex8_2p", &[true, true], false)
}

/// What is said to a line that changes nothing.
fn answer(session: &mut PlaySession, line: &str) -> String {
    let before = session.position().clone();
    let reply = session.input(line);
    assert_eq!(reply.wish, Wish::Nothing, "{line}");
    assert_eq!(session.position(), &before, "{line}");
    reply.text
}

/// Plays the first legal move of whoever is to move.
fn any_move(session: &mut PlaySession) {
    let mut legal = Vec::new();
    session.position().legal(&mut legal);
    session.computer_plays(legal[legal.len() / 2]);
}

/// Every wrong line is answered with what was wrong and what would be right, and changes nothing.
#[test]
fn wrong_input_is_answered_kindly() {
    let mut session = alone();
    assert_eq!(
        answer(&mut session, "30"),
        "a number picks from the list: type `moves` first to see it, or a move, such as P0x1"
    );
    answer(&mut session, "moves");
    for (line, expected) in [
        ("m1-2", "m1-2 is not legal now; legal now: 183 like P0x1"),
        (
            "p5x9",
            "`p5x9` is neither a move nor a command; legal now: 183 like P0x1",
        ),
        ("", "type a move, `moves` or `help`"),
        ("   ", "type a move, `moves` or `help`"),
        (
            "hello",
            "`hello` is neither a move nor a command; legal now: 183 like P0x1",
        ),
        (
            "P5",
            "`P5` is neither a move nor a command; did you mean P5x1, P5x2, P5x3?",
        ),
        (
            "P5x4",
            "`P5x4` is neither a move nor a command; legal now: 183 like P0x1",
        ),
        (
            "P61x1",
            "there is no cell 61: they are numbered 0 to 60; legal now: 183 like P0x1",
        ),
        ("M1-2", "M1-2 is not legal now; legal now: 183 like P0x1"),
        ("sp", "sp is not legal now; legal now: 183 like P0x1"),
        (
            "0",
            "there is no move 0: they are numbered 1 to 183; `moves` lists them",
        ),
        (
            "184",
            "there is no move 184: they are numbered 1 to 183; `moves` lists them",
        ),
        (
            "99999999999999999999999",
            "there is no move 99999999999999999999999: they are numbered 1 to 183; `moves` lists them",
        ),
        (
            "L0,1,2,3",
            "`L0,1,2,3` names cells that are no line or region here; legal now: 183 like P0x1",
        ),
        ("save", "save where? For example `save game.jsonl`"),
        ("load", "load what? For example `load game.jsonl`"),
        ("undo", "there is nothing of yours to take back"),
        (
            "moves zzz",
            "no move contains `zzz`; legal now: 183 like P0x1",
        ),
        (
            "\u{fffd}",
            "`\u{fffd}` is neither a move nor a command; legal now: 183 like P0x1",
        ),
    ] {
        assert_eq!(answer(&mut session, line), expected, "{line:?}");
    }
}

/// A move by notation in any case and by its number; both do the same, and undo takes it back.
#[test]
fn moves_by_notation_and_number() {
    let (mut one, mut two) = (alone(), alone());
    let reply = one.input(" p5X2 ");
    assert_eq!(reply.wish, Wish::Continue);
    assert_eq!(reply.text, "you play P5x2 (place 2 rings on 5)");
    assert_eq!(
        answer(&mut two, "moves P5x").lines().nth(1),
        Some("  17  P5x2           place 2 rings on 5")
    );
    two.input("17");
    assert_eq!(one.position(), two.position());
    assert_eq!(one.input("undo").text, "1 move taken back");
    assert_eq!(one.position(), alone().position());
}

/// What has no alternative is played at once and told only when it does something.
#[test]
fn forced_moves_are_played() {
    let mut session = alone();
    session.input("P0x1");
    let reply = session.input("1");
    assert!(reply.text.starts_with("you play M0-"), "{}", reply.text);
    // The line and region phases had nothing to offer: it is player 2's placement.
    assert!(
        session.prompt().starts_with("player 2, place rings"),
        "{}",
        session.prompt()
    );
}

/// The computer's turn is the computer's: undo goes back over it to the person's last choice.
#[test]
fn undo_goes_back_to_a_choice_of_the_person() {
    let mut session = session("square8_3p", &[true, false, false], false);
    session.input("P9x1");
    let choice = session.position().clone();
    session.input("1");
    while session.computer_to_move() {
        any_move(&mut session);
    }
    assert_eq!(session.input("undo").wish, Wish::Continue);
    assert_eq!(session.position(), &choice);
    assert!(!session.computer_to_move());
}

/// The pie rule exchanges the persons: who swapped plays the first seat from then on.
#[test]
fn swapping_exchanges_the_seats() {
    let mut session = session("square8_2p", &[false, true], true);
    while session.computer_to_move() {
        any_move(&mut session);
    }
    let reply = session.input("sw");
    assert!(
        reply.text.starts_with("you play sw (take the other seat)"),
        "{}",
        reply.text
    );
    assert!(
        session
            .greeting()
            .starts_with("You play seat 1 of square8_2p")
    );
}

/// A saved game is a record that verifies, and loading it gives the same game; one of another board is refused.
#[test]
fn saved_games_verify_and_load() {
    let mut played = alone();
    for _ in 0..400 {
        if played.position().to_move().is_none() {
            break;
        }
        any_move(&mut played);
    }
    let line = played.record().unwrap();
    assert!(verify_game(&line).is_ok(), "{line}");
    let path = Path::new("game.jsonl");
    let replayed = || parse_game(&line).unwrap().replay().unwrap();
    let mut loaded = alone();
    loaded.resume(replayed(), path).unwrap();
    assert_eq!(loaded.position(), played.position());
    assert_eq!(loaded.record().unwrap(), line);
    let save = Wish::Save {
        path: PathBuf::from("game.jsonl"),
        replace: false,
    };
    assert_eq!(loaded.input("save").wish, save);
    let mut other = session("square8_2p", &[true, true], false);
    let refused = other.resume(replayed(), path).unwrap_err().to_string();
    assert!(
        refused.contains("game of hex8_2p, this is square8_2p"),
        "{refused}"
    );
}

/// After the end only looking, undoing, saving and leaving make sense, and that is said.
#[test]
fn a_finished_game_says_so() {
    let mut session = alone();
    while session.position().to_move().is_some() {
        any_move(&mut session);
    }
    assert!(session.board().contains("has won by"));
    assert!(answer(&mut session, "P0x1").starts_with("the game is over"));
    assert_eq!(answer(&mut session, "hint"), "the game is over");
    assert!(session.prompt().starts_with("game over"));
}
