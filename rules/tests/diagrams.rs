//! Drawings of positions, compared whole: what people see changes only on purpose.

use riftmesh_rules::diagram::{Diagram, Ink, differing_cells};
use riftmesh_rules::{Configuration, Position, RuleOptions, words};

const SQUARES: &str = "RR1;square8;2;A;1;CC;21;a;1:1+:0:0;0;10,1,2/12,0,1;4:1,11:11,21:1112,60:222222222222;1/32,41;0-1/63";

fn plain(text: &str) -> String {
    match Diagram::read(text) {
        Ok(diagram) => diagram.draw(Ink::Plain),
        Err(error) => panic!("{error}: {text}"),
    }
}

/// After the columns: numbers, markers, territory, stacks, the anchor, a stack of twelve and the mixed one below.
#[test]
fn squares_line_up() {
    let text = "RR1;square8;2;A;1;MV;21;a;1:1+:0:0;0;10,1,2/12,0,1;4:1,11:11,21:112,60:222222222222;2/32,41;0-1/63";
    assert_eq!(plain(text), SQUARES_DRAWN);
    assert!(
        Diagram::read(SQUARES).is_err(),
        "a chain without a capture is refused"
    );
}

const SQUARES_DRAWN: &str = "\
square8_2p: player 1 to move, phase MV (move a stack, or capture with one), with the stack on 21

 [1] [1] (1)  3  1:1  5   6   7
  8   9  10  1:2 12  13  14  15
 16  17  18  19  20 >1*3 22  23
 24  25  26  27  28  29  30  31
 (2) 33  34  35  36  37  38  39
 40  (2) 42  43  44  45  46  47
 48  49  50  51  52  53  54  55
 56  57  58  59 2:12 61  62  [2]

           in hand  on board   eliminated (of 18)    territory (of 33)  markers
player 1        10         5                    1                    2        1
player 2        12        13                    0                    1        2
stack on 21: 112 from the top, height 3, cap 2
numbers: empty cells  (1) marker  [1] territory  1:3 stack of 3 rings  1*3 with a lower cap, see the list
";

/// After the shifted rows of hexagons, on a start position.
#[test]
fn hexagons_are_shifted() {
    let configuration: Configuration = "hex8_3p".parse().unwrap();
    let start = Position::start(configuration, RuleOptions::default());
    assert_eq!(Diagram::of(&start).draw(Ink::Plain), HEXAGONS_DRAWN);
}

const HEXAGONS_DRAWN: &str = "\
hex8_3p: player 1 to move, phase RP (place rings, or skip)

          0   1   2   3   4
        5   6   7   8   9  10
     11  12  13  14  15  16  17
   18  19  20  21  22  23  24  25
 26  27  28  29  30  31  32  33  34
   35  36  37  38  39  40  41  42
     43  44  45  46  47  48  49
       50  51  52  53  54  55
         56  57  58  59  60

           in hand  on board   eliminated (of 24)    territory (of 21)  markers
player 1        18         0                    0                    0        0
player 2        18         0                    0                    0        0
player 3        18         0                    0                    0        0
numbers: empty cells  (1) marker  [1] territory  1:3 stack of 3 rings  1*3 with a lower cap, see the list
";

/// Colours add escapes and nothing else, and every board fits a hundred columns.
#[test]
fn colours_change_no_text() {
    for configuration in Configuration::ALL {
        let mut position = Position::start(configuration, RuleOptions::default());
        let mut actions = Vec::new();
        for step in 0..400 {
            position.legal(&mut actions);
            let Some(&action) = actions.get(step * 7 % actions.len().max(1)) else {
                break;
            };
            assert!(!words::describe(&position, action).is_empty());
            position.apply(action);
        }
        let diagram = Diagram::of(&position);
        let plain = diagram.draw(Ink::Plain);
        assert_eq!(without_escapes(&diagram.draw(Ink::Ansi)), plain);
        let board = plain.lines().skip(2).take(position.geometry().size());
        assert!(board.clone().all(|line| line.len() <= 100), "{plain}");
        let read = Diagram::read(&position.canonical_text()).unwrap();
        let same = |line: &&str| !line.contains(configuration.to_string().as_str());
        assert!(
            read.draw(Ink::Plain)
                .lines()
                .filter(same)
                .eq(plain.lines().filter(same)),
            "the canonical text of {position} draws the same"
        );
    }
}

fn without_escapes(text: &str) -> String {
    text.split('\x1b')
        .enumerate()
        .map(|(i, part)| match part.split_once('m') {
            Some((_, rest)) if i > 0 => rest,
            _ => part,
        })
        .collect()
}

/// A finished game is drawn from its text, which cannot be played on; a damaged one is refused.
#[test]
fn finished_games_are_drawn() {
    let text = "RR1;square8;2;F;0;GO;-;-;-;0;0,18,0/10,8,0;;/;/";
    assert!(plain(text).starts_with("square8_2p: the game is over\n"));
    assert!(Position::parse(text, RuleOptions::default()).is_err());
    assert!(Diagram::read(&text.replace(";F;0;", ";F;1;")).is_err());
    assert!(Diagram::read("").is_err());
}

/// Two positions one move apart differ on the cells of that move.
#[test]
fn differences_are_found() {
    let configuration: Configuration = "square8_2p".parse().unwrap();
    let start = Position::start(configuration, RuleOptions::default());
    let mut after = start.clone();
    after.apply(riftmesh_rules::Action::Place { to: 9, count: 2 });
    assert_eq!(differing_cells(&start, &after), [9]);
    assert!(differing_cells(&start, &start).is_empty());
}
