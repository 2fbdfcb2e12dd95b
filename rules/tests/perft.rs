//! Numbers of move sequences, pinned: any change of what is legal or what moves do shows here at once.

use riftmesh_rules::{Configuration, Position, RuleOptions, perft};

/// The position after `plies` moves of a fixed, arbitrary game: it has stacks, markers and territory of everybody.
fn middle_game(configuration: Configuration, plies: usize) -> Position {
    let mut position = Position::start(configuration, RuleOptions::default());
    let (mut number, mut actions) = (7usize, Vec::new());
    for _ in 0..plies {
        position.legal(&mut actions);
        number = (number * 1_103_515_245 + 12_345) % (1 << 31);
        position.apply(actions[number / 64 % actions.len()]);
    }
    position
}

/// The counts from start positions and from the middle of games for every configuration.
#[test]
fn counts_are_as_pinned() {
    let mut computed = String::new();
    for configuration in Configuration::ALL {
        let small = configuration.board().cells() < 100;
        let (depth, plies, middle_depth) = if small { (5, 64, 5) } else { (3, 300, 3) };
        let start = perft(
            &Position::start(configuration, RuleOptions::default()),
            depth,
        );
        let middle = middle_game(configuration, plies);
        let counts = format!(
            "{start} {} {:016x}",
            perft(&middle, middle_depth),
            middle.text_hash()
        );
        computed += &format!("{configuration} {counts}\n");
    }
    assert_eq!(computed, PINNED);
}

/// Per configuration: sequences of 5 moves (3 on the large boards) from the start, as many from the position after 64
/// moves (300) of a fixed game, and that position's hash.
const PINNED: &str = "\
square8_2p 596904 5889 25a460e9087475f7
square8_3p 596904 75997 5de28c7ed9ac81ba
square8_4p 596904 2430 b8a09bb55ac00de2
hex8_2p 432540 1242 aae59c664a93ce62
hex8_3p 432540 70064 f75cf271339ae450
hex8_4p 432540 1160 07434c8c20114128
square19_2p 56520 12500 1b3e383fb1995515
square19_3p 56520 95 45747edcfff2a4b6
square19_4p 56520 718 9a712196725228ff
hexagonal_2p 70062 1046 f691ebb93af59da0
hexagonal_3p 70062 25508 5a9e12c0df3206ed
hexagonal_4p 70062 248 d94b9ba5974e1ad7
";

/// The pie rule adds one choice to player 2's first turn.
#[test]
fn the_pie_rule_adds_a_choice() {
    let configuration = Configuration::ALL[0];
    let count = |swap| perft(&Position::start(configuration, RuleOptions { swap }), 5);
    assert_eq!(
        count(true) - count(false),
        perft(&Position::start(configuration, RuleOptions::default()), 2)
    );
}
